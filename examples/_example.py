"""What the examples share: their command line, a photograph, and grids of numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def parser(doc: str) -> argparse.ArgumentParser:
    """Options of an example, described by its docstring: `--output` for now."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--output", type=Path, default=Path(), metavar="FOLDER", help="for the picture"
    )
    return options


def run(main, doc: str) -> None:
    """The command line of an example whose `main` takes the folder for its picture."""
    main(parser(doc).parse_args().output)


def photograph(colour: bool = False) -> np.ndarray:
    """A photograph that comes with matplotlib, 300 x 256, from 0 to 1, float32.

    Grey, of shape (H, W), or in colour, of shape (3, H, W).
    """
    from matplotlib import cbook, image

    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)  # nothing to be closed
    pixels = image.imread(path)[:600, :512]
    small = pixels.reshape(300, 2, 256, 2, 3).mean(axis=(1, 3)) / 255
    planes = small.transpose(2, 0, 1) if colour else small.mean(axis=2)
    return planes.astype(np.float32)


def figure(width: float, height: float, title: str = ""):
    """A matplotlib figure of so many inches, without pyplot: no window, nothing global."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=100, layout="constrained")
    made.suptitle(title, fontsize=11)
    return made


def grid(axes, array, title: str, form: str = ".3g", largest: float | None = None) -> None:
    """An array as coloured squares with its numbers: white is 0, red above it, blue below."""
    array = np.asarray(array, float)
    largest = largest or float(np.abs(array).max()) or 1.0
    # beyond its ends the scale would be too dark to read black numbers on
    axes.imshow(array, cmap="RdBu_r", vmin=-1.6 * largest, vmax=1.6 * largest)
    for (i, j), value in np.ndenumerate(array):
        # z: no -0.00
        axes.text(j, i, format(value, f"z{form}"), ha="center", va="center", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
