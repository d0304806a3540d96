"""Pictures of a training run: its curve, its confusions, its predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._figure import BLUE, GREY, ORANGE, RED, figure


def learning_curve(history, title: str = "") -> np.ndarray:
    """Loss and accuracy by epoch, for training and test images.

    Parameters
    ----------
    history : fastconv.nn.History
    title : str

    Returns
    -------
    array of 2 matplotlib Axes
        That of the loss, and that of the accuracy.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When `history` has no epoch.

    Examples
    --------
    >>> from fastconv import nn
    >>> history = nn.History([nn.EpochRecord(1, 2.25, 0.125, 2.0, 0.25, 0.5, 120000.0)])
    >>> [axes.get_ylabel() for axes in learning_curve(history, "a run")]
    ['loss', 'accuracy']
    """
    if not len(history):
        raise ValueError("history: expected at least one finished epoch, got none")
    grid = figure(9, 3.6, title).subplots(1, 2)
    epochs = [record.epoch for record in history]
    for axes, what in zip(grid, ("loss", "accuracy"), strict=True):
        for part, colour in (("train", BLUE), ("test", ORANGE)):
            values = history.column(f"{part}_{what}")
            if any(value is not None for value in values):
                values = [np.nan if value is None else value for value in values]
                axes.plot(epochs, values, "o-", color=colour, markersize=3.5, label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
        _write_last(axes)
    return grid


def _write_last(axes) -> None:
    """The last value at the end of each line, apart from each other where they are close."""
    ends = sorted(
        ((line.get_ydata()[-1], line) for line in axes.lines), key=lambda end: (end[0], id(end[1]))
    )
    low, high = axes.get_ylim()
    close = len(ends) == 2 and ends[1][0] - ends[0][0] < 0.06 * (high - low)
    for (value, line), up in zip(ends, (-5, 5) if close else (0, 0), strict=False):
        axes.annotate(
            f"{value:.3f}",
            (line.get_xdata()[-1], value),
            textcoords="offset points",
            xytext=(6, up),
            va="center",
            color=line.get_color(),
            fontsize=8,
        )


def confusion_matrix(confusion: np.ndarray, classes: Sequence[str], title: str = ""):
    """How many images of each class were taken for which.

    Parameters
    ----------
    confusion : (classes, classes) integer array
        ``confusion[i, j]`` images of class i taken for class j.
    classes : sequence of str
    title : str

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When the sizes do not fit.

    Examples
    --------
    >>> axes = confusion_matrix([[9, 1], [0, 5]], ["cat", "dog"])
    >>> [text.get_text() for text in axes.texts]
    ['9', '1', '5']
    """
    confusion = np.asarray(confusion)
    n = len(classes)
    if confusion.shape != (n, n):
        raise ValueError(
            f"confusion: expected shape ({n}, {n}) for {n} classes, got {confusion.shape}"
        )
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes = figure(7.2, 6.4).subplots()
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
    return axes


def prediction_sheet(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    title: str = "",
    columns: int = 10,
) -> np.ndarray:
    """Images with what they were taken for; mistakes in red, with the true class.

    The smallest value of all images is white, the largest black.

    Parameters
    ----------
    images : (N, H, W) array
    labels, predicted : (N,) integer arrays
    classes : sequence of str
    title : str
    columns : int

    Returns
    -------
    array of matplotlib Axes, one for each image

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When there is no image, or the lengths differ.

    Examples
    --------
    >>> sheet = prediction_sheet(np.zeros((2, 4, 4)), [0, 1], [0, 0], ["cat", "dog"])
    >>> [axes.get_title() for axes in sheet]
    ['cat', 'cat\\n(is dog)']
    """
    if not len(images) or not len(images) == len(labels) == len(predicted):
        raise ValueError(
            "images: expected at least one, with as many labels and predictions; got "
            f"{len(images)}, {len(labels)} and {len(predicted)}"
        )
    rows = -(-len(images) // columns)
    low, high = np.min(images), np.max(images)
    sheet = figure(1.15 * columns, 1.42 * rows + 0.4, title)
    grid = sheet.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, label, guess in zip(grid.flat, images, labels, predicted, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
        right = label == guess
        text = classes[guess] if right else f"{classes[guess]}\n(is {classes[label]})"
        axes.set_title(text, fontsize=7, color=GREY if right else RED, pad=3)
    return grid.ravel()[: len(images)]
