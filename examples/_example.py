"""What the examples share: their command line, and a photograph."""

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


def photograph() -> np.ndarray:
    """A photograph that comes with matplotlib, grey, 300 x 256, from 0 to 1, float32."""
    from matplotlib import cbook, image

    colours = image.imread(cbook.get_sample_data("grace_hopper.jpg"))[:600, :512]
    grey = colours.mean(axis=2) / 255
    return grey.reshape(300, 2, 256, 2).mean(axis=(1, 3)).astype(np.float32)
