"""Sheets of kernels, and images side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ._figure import figure, frame

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
    picture = figure(2.1 * columns + 1.0, 2.3 * rows + (0.5 if title else 0.1), title)
    grid = picture.subplots(rows, columns, squeeze=False)
    peaks = [float(np.abs(kernel).max()) or 1.0 for kernel in sheet]
    for axes in grid.flat:
        axes.axis("off")
    for axes, kernel, name, peak in zip(grid.flat, sheet, names, peaks, strict=False):
        scale = peak if relative else max(peaks)
        shown = axes.imshow(kernel / scale, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(name, fontsize=10)
        frame(axes, kernel.shape)
        if kernel.size <= _MOST_NUMBERS:
            _write_weights(axes, kernel, scale)
    bar = picture.colorbar(shown, ax=grid, shrink=0.8, aspect=25)
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


def _write_weights(axes, kernel, scale):
    size = min(8.0, 42.0 / max(3, *kernel.shape))
    nothing = 1e-12 * np.abs(kernel).max()  # what is left by rounding
    for (i, j), weight in np.ndenumerate(np.where(np.abs(kernel) > nothing, kernel, 0.0)):
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
    each_width = max(1.6, min(4.2, 10 / len(images)))  # inches: a page shows some ten of them
    width = each_width * len(images)
    tallest = max(each.shape[0] / each.shape[1] for each in shown)
    height = float(np.clip(each_width * tallest, 1.0, 12.0))
    picture = figure(width, height + 0.3 * bool(titles) + 0.4 * bool(title), title)
    grid = picture.subplots(1, len(images), squeeze=False)[0]
    for number, (axes, each) in enumerate(zip(grid, shown, strict=True)):
        axes.imshow(each, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        axes.axis("off")
        if titles:
            axes.set_title(titles[number], fontsize=10)
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
