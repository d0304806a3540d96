"""What every picture begins and ends with: a figure without pyplot, and a PNG file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9731a", "#666666", "#b3261e"


def figure(width: float, height: float, title: str = ""):
    """An empty figure of `width` x `height` inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib ({error}); install it with: pip install 'fastconv[train]'"
        ) from error
    made = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(made)
    if title:
        made.suptitle(title)
    return made


def frame(axes, shape) -> None:
    """A thin line around the pixels: white ones end somewhere too."""
    from matplotlib.patches import Rectangle

    line = Rectangle((-0.5, -0.5), shape[1], shape[0], fill=False, edgecolor=GREY, linewidth=0.8)
    line.set_clip_on(False)
    axes.add_patch(line)


def save(axes, path: str | os.PathLike) -> Path:
    """Write the figure that some Axes belong to, as a PNG file.

    The file is written beside and renamed: a picture is whole or not there.

    Parameters
    ----------
    axes : matplotlib Axes, or an array of them
    path : path

    Returns
    -------
    Path

    Raises
    ------
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from fastconv import plot
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot.save(plot.image(np.eye(3)), f"{folder}/a.png").name
    'a.png'
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        np.ravel(axes)[0].figure.canvas.figure.savefig(beside, format="png")
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path
