"""Pictures: of training runs, of kernels and of images; they need matplotlib (the `train` extra).

Figures are drawn without pyplot, so nothing global is changed and no window opens. `kernels` and
`image` return Axes, which `save` writes to a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

__all__ = ["confusion_matrix", "image", "kernels", "learning_curve", "prediction_sheet", "save"]

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


def save(axes, path: str | os.PathLike) -> Path:
    """Write the figure that some Axes belong to, as a PNG file.

    Parameters
    ----------
    axes : matplotlib Axes, or an array of them
    path : path

    Returns
    -------
    Path

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(image(np.eye(3)), f"{folder}/a.png").name
    'a.png'
    """
    return _save(np.ravel(axes)[0].figure, path)


_MOST_NUMBERS = 49  # weights that can be read in a picture of one kernel


def kernels(
    kernels, names: Sequence[str] | None = None, title: str = "", relative: bool = False
) -> np.ndarray:
    """A sheet of kernels: one colour scale for all, white is 0, red above it and blue below.

    Parameters
    ----------
    kernels : mapping of names to (R, S) arrays, sequence of them, or array
        An array of shape (K, R, S), or (K, C, R, S) as the weight of a convolution has it.
    names : sequence of str, optional
        One for each kernel; default: those of the mapping, or numbers.
    title : str
    relative : bool
        Colour each kernel by the share of its own largest weight, where a common scale would leave
        some of them white. The numbers are the weights all the same.

    Returns
    -------
    array of matplotlib Axes, one for each kernel

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        When there is no kernel, one is not of two dimensions, or the names are not as many.

    Examples
    --------
    >>> from fastconv.kernels import prewitt, sobel
    >>> axes = kernels({"sobel": sobel(), "prewitt": prewitt()}, title="gradients")
    >>> axes.shape, axes[0].get_title()
    ((2,), 'sobel')
    """
    sheet, found = _named_kernels(kernels)
    names = found if names is None else [str(name) for name in names]
    if len(names) != len(sheet):
        raise ValueError(f"names: expected {len(sheet)}, one for each kernel, got {len(names)}")
    columns = min(len(sheet), max(4, int(np.ceil(np.sqrt(len(sheet))))))
    rows = -(-len(sheet) // columns)
    figure = _figure(2.1 * columns + 1.0, 2.3 * rows + (0.5 if title else 0.1))
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False)
    peaks = [float(np.abs(kernel).max()) or 1.0 for kernel in sheet]
    for axes in grid.flat:
        axes.axis("off")
    for axes, kernel, name, peak in zip(grid.flat, sheet, names, peaks, strict=False):
        scale = peak if relative else max(peaks)
        shown = axes.imshow(kernel / scale, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(name, fontsize=9)
        _frame(axes, kernel.shape)
        if kernel.size <= _MOST_NUMBERS:
            _write_weights(axes, kernel, scale)
    bar = figure.colorbar(shown, ax=grid, shrink=0.8, aspect=25)
    if relative:
        bar.set_label("share of the kernel's largest weight", fontsize=8)
    else:
        bar.set_ticks([-1, 0, 1], labels=[f"{-max(peaks):.3g}", "0", f"{max(peaks):.3g}"])
    bar.ax.tick_params(labelsize=8)
    return grid.ravel()[: len(sheet)]


def _named_kernels(kernels):
    """(arrays, names) from any of the accepted forms."""
    if isinstance(kernels, Mapping):
        names, sheet = [str(name) for name in kernels], list(kernels.values())
    else:
        sheet = np.asarray(kernels) if hasattr(kernels, "__array__") else kernels
        if getattr(sheet, "ndim", 3) == 4:
            k, c = sheet.shape[:2]
            names = [f"{i}, {j}" if c > 1 else f"{i}" for i in range(k) for j in range(c)]
            sheet = sheet.reshape(k * c, *sheet.shape[2:])
        else:
            names = [f"{i}" for i in range(len(sheet))]
    sheet = [np.asarray(kernel, np.float64) for kernel in sheet]
    if not sheet:
        raise ValueError("kernels: expected at least one, got none")
    for name, kernel in zip(names, sheet, strict=True):
        if kernel.ndim != 2 or not kernel.size or not np.isfinite(kernel).all():
            raise ValueError(
                f"kernels: expected finite numbers of shape (R, S), got {name} of shape "
                f"{kernel.shape}"
            )
    return sheet, names


def _frame(axes, shape):
    """A thin line around the pixels: white weights end somewhere too."""
    from matplotlib.patches import Rectangle

    frame = Rectangle((-0.5, -0.5), shape[1], shape[0], fill=False, edgecolor=_GREY, linewidth=0.8)
    frame.set_clip_on(False)
    axes.add_patch(frame)


def _write_weights(axes, kernel, scale):
    size = min(8.0, 42.0 / max(3, *kernel.shape))
    for (i, j), weight in np.ndenumerate(kernel + 0.0):  # no -0
        text = f"{weight:.2g}" if abs(weight) < 100 else f"{weight:.0f}"
        colour = "white" if abs(weight) > 0.6 * scale else "black"
        text = text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
        label = axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
        label.set_in_layout(False)  # inside the picture anyway, and many


def image(*images, titles: Sequence[str] = (), title: str = "") -> np.ndarray:
    """Images side by side, such as one before and after a filter, on one scale.

    Parameters
    ----------
    *images : arrays of shape (H, W) or (H, W, C)
        C: 1 grey, 2 grey and alpha, 3 colours, 4 with alpha. Integers go from 0 to the largest of
        their type; floating-point colours from 0 to 1, and grey levels from the smallest to the
        largest one on the sheet.
    titles : sequence of str, optional
        One for each image.
    title : str

    Returns
    -------
    array of matplotlib Axes, one for each image

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        When there is no image, one has another shape or dtype, or the titles are not as many.

    Examples
    --------
    >>> before = np.eye(4, dtype=np.uint8) * 255
    >>> image(before, 255 - before, titles=("before", "after"))[1].get_title()
    'after'
    """
    if not images:
        raise ValueError("images: expected at least one, got none")
    if titles and len(titles) != len(images):
        raise ValueError(f"titles: expected {len(images)}, one for each image, got {len(titles)}")
    shown = _shown([np.asarray(each) for each in images])
    width = 4.2 * len(images)
    tallest = max(each.shape[0] / each.shape[1] for each in shown)
    height = float(np.clip(4.2 * tallest, 1.0, 12.0))
    figure = _figure(width, height + 0.3 * bool(titles) + 0.4 * bool(title))
    figure.suptitle(title)
    grid = figure.subplots(1, len(images), squeeze=False)[0]
    for number, (axes, each) in enumerate(zip(grid, shown, strict=True)):
        axes.imshow(each, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        axes.axis("off")
        if titles:
            axes.set_title(titles[number], fontsize=9)
    return grid


def _shown(images: list[np.ndarray]) -> list[np.ndarray]:
    """Numbers from 0 to 1, as (H, W), (H, W, 3) or (H, W, 4)."""
    for each in images:
        if (
            each.ndim not in (2, 3)
            or not each.size
            or (each.ndim == 3 and each.shape[2] not in (1, 2, 3, 4))
        ):
            raise ValueError(f"images: expected shape (H, W) or (H, W, C), got {each.shape}")
        if each.dtype.kind not in "biuf":
            raise TypeError(f"images: expected real numbers, got dtype {each.dtype}")
    levels = [each for each in images if each.dtype.kind == "f" and each.shape[2:] in ((), (1,))]
    low = min((float(each.min()) for each in levels), default=0.0)
    high = max((float(each.max()) for each in levels), default=1.0)
    if not np.isfinite([low, high]).all():
        raise ValueError(f"images: expected finite numbers, got values from {low} to {high}")
    return [_unit(each, low, high) for each in images]


def _unit(each: np.ndarray, low: float, high: float) -> np.ndarray:
    kind = each.dtype.kind
    if kind == "f" and each.shape[2:] in ((), (1,)):
        each = (each.astype(np.float64) - low) / ((high - low) or 1.0)
    elif kind == "f":
        if not (each.min() >= 0 and each.max() <= 1):
            raise ValueError(
                "images: expected floating-point colours from 0 to 1, got values from "
                f"{each.min()} to {each.max()}"
            )
    else:
        each = each / (1 if kind == "b" else np.iinfo(each.dtype).max)
    if each.shape[2:] == (1,):
        return each[..., 0]
    if each.shape[2:] == (2,):
        return each[..., [0, 0, 0, 1]]
    return each
