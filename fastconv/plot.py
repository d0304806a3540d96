"""Pictures of a training run, as PNG files; they need matplotlib (the `train` extra).

Figures are drawn without pyplot, so nothing global is changed and no window opens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["confusion_matrix", "learning_curve", "prediction_sheet"]

_BLUE, _ORANGE, _GREY, _RED = "#1f5fa8", "#d9731a", "#666666", "#b3261e"


def _figure(width: float, height: float):
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib ({error}); install it with: pip install 'fastconv[train]'"
        ) from error
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure, path: str | os.PathLike) -> Path:
    """Write beside and rename: a picture is whole or not there."""
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(beside, format="png")
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


def learning_curve(history, path: str | os.PathLike, title: str = "") -> Path:
    """Loss and accuracy by epoch, for training and test images.

    Parameters
    ----------
    history : fastconv.nn.History
    path : path
        The PNG file to write.
    title : str

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When `history` has no epoch.
    """
    if not len(history):
        raise ValueError("history: expected at least one finished epoch, got none")
    figure = _figure(9, 3.6)
    figure.suptitle(title)
    epochs = [record.epoch for record in history]
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour in (("train", _BLUE), ("test", _ORANGE)):
            values = history.column(f"{part}_{what}")
            if any(value is not None for value in values):
                values = [np.nan if value is None else value for value in values]
                axes.plot(epochs, values, "o-", color=colour, markersize=3.5, label=part)
                axes.annotate(
                    f"{values[-1]:.3f}",
                    (epochs[-1], values[-1]),
                    textcoords="offset points",
                    xytext=(6, 0),
                    va="center",
                    color=colour,
                    fontsize=8,
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
    return _save(figure, path)


def confusion_matrix(
    confusion: np.ndarray, classes: Sequence[str], path: str | os.PathLike, title: str = ""
) -> Path:
    """How many images of each class were taken for which.

    Parameters
    ----------
    confusion : (classes, classes) integer array
        ``confusion[i, j]`` images of class i taken for class j.
    classes : sequence of str
    path : path
        The PNG file to write.
    title : str

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the sizes do not fit.
    """
    confusion = np.asarray(confusion)
    n = len(classes)
    if confusion.shape != (n, n):
        raise ValueError(
            f"confusion: expected shape ({n}, {n}) for {n} classes, got {confusion.shape}"
        )
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = _figure(7.2, 6.4)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(n):
        for j in range(n):
            if confusion[i, j]:
                axes.text(
                    j,
                    i,
                    f"{confusion[i, j]}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if share[i, j] > 0.5 else "black",
                )
    axes.set_xticks(range(n), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    return _save(figure, path)


def prediction_sheet(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike,
    title: str = "",
    columns: int = 10,
) -> Path:
    """Images with what they were taken for; mistakes in red, with the true class.

    Parameters
    ----------
    images : (N, H, W) array
    labels, predicted : (N,) integer arrays
    classes : sequence of str
    path : path
        The PNG file to write.
    title : str
    columns : int

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When there is no image, or the lengths differ.
    """
    if not len(images) or not len(images) == len(labels) == len(predicted):
        raise ValueError(
            "images: expected at least one, with as many labels and predictions; got "
            f"{len(images)}, {len(labels)} and {len(predicted)}"
        )
    rows = -(-len(images) // columns)
    figure = _figure(1.15 * columns, 1.42 * rows + 0.4)
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, label, guess in zip(grid.flat, images, labels, predicted, strict=False):
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
        right = label == guess
        text = classes[guess] if right else f"{classes[guess]}\n(is {classes[label]})"
        axes.set_title(text, fontsize=7, color=_GREY if right else _RED, pad=3)
    return _save(figure, path)
