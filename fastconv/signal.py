"""Filtering of images and other arrays of two dimensions, with SciPy's signatures and borders.

`correlate2d` and `convolve2d` are those of `scipy.signal`, `filter2d` is `scipy.ndimage.correlate`.
All are one `fastconv.conv2d` over an array that its border has been put around, so they run on the
same kernels, and their gradients are those of `fastconv.grad`.

Dtypes are those of `fastconv.ops`: integers are computed and returned in float64, where SciPy would
wrap (200 + 200 = 144 in uint8).
"""

from __future__ import annotations

import numpy as np

from fastconv._arrays import FLOAT64, as_array, converted, dtypes
from fastconv.ops import conv2d

__all__ = ["BORDERS", "convolve2d", "correlate2d", "filter2d"]

MODES = ("full", "same", "valid")
BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "reflect"}
BORDERS = ("reflect", "mirror", "nearest", "replicate", "wrap", "constant")


def correlate2d(in1, in2, mode="full", boundary="fill", fillvalue=0):
    """Cross-correlation of two arrays, as `scipy.signal.correlate2d`.

    ``out[i, j] = sum over r, s of in1[i + r - top, j + s - left] * conj(in2[r, s])``.

    Parameters
    ----------
    in1 : array of shape (H, W)
    in2 : array of shape (R, S)
        Real or complex, as `in1`; either may be the larger one.
    mode : {"full", "same", "valid"}
        "full": every position where the two overlap, ``(H + R - 1, W + S - 1)``. "same": the shape
        of `in1`, ``top = (R - 1) // 2``. "valid": no border, ``(H - R + 1, W - S + 1)``; where
        `in2` is the larger one in both directions the two change places:
        ``(R - H + 1, S - W + 1)``.
    boundary : {"fill", "wrap", "symm"}
        What lies beyond `in1`: `fillvalue`, `in1` again, or its mirror image with the outermost
        pixel repeated; also where that is more than once around.
    fillvalue : number

    Returns
    -------
    array of two dimensions
        float64 for integers, where SciPy would return wrapped integers.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    Notes
    -----
    Where "valid" makes the two change places and they are complex, SciPy conjugates the wrong one.
    Here the formula above holds.

    References
    ----------
    scipy.signal.correlate2d, https://docs.scipy.org/doc/scipy/reference/signal.html

    Examples
    --------
    >>> import numpy as np
    >>> correlate2d(np.arange(1.0, 10.0).reshape(3, 3), [[1, 2], [3, 4]], mode="same")
    array([[37., 47., 21.],
           [67., 77., 33.],
           [23., 26.,  9.]])
    """
    x, w = _array("in1", in1), _array("in2", in2)
    return _signal(x, w.conj(), mode, boundary, fillvalue, convolve=False)


def convolve2d(in1, in2, mode="full", boundary="fill", fillvalue=0):
    """Convolution of two arrays, as `scipy.signal.convolve2d`: `in2` is turned by 180 degrees.

    ``out[i, j] = sum over r, s of in1[i + top - r, j + left - s] * in2[r, s]``.

    Parameters
    ----------
    in1 : array of shape (H, W)
    in2 : array of shape (R, S)
    mode : {"full", "same", "valid"}
        As in `correlate2d`, but for "same", where ``top = (R - 1) // 2``: with an even kernel the
        extra pixel of the border is before the image, and after it in `correlate2d`.
    boundary : {"fill", "wrap", "symm"}
    fillvalue : number

    Returns
    -------
    array of two dimensions

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    scipy.signal.convolve2d, https://docs.scipy.org/doc/scipy/reference/signal.html

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(1.0, 10.0).reshape(3, 3)
    >>> convolve2d(image, [[1, 2], [3, 4]], mode="same")
    array([[ 1.,  4.,  7.],
           [ 7., 23., 33.],
           [19., 53., 63.]])

    The two may change places:

    >>> bool(np.array_equal(convolve2d(image, [[1, 2]]), convolve2d([[1, 2]], image)))
    True
    """
    x, w = _array("in1", in1), _array("in2", in2)
    return _signal(x, w[::-1, ::-1], mode, boundary, fillvalue, convolve=True)


def filter2d(input, kernel, border="reflect", cval=0.0):
    """Cross-correlation of images with one kernel, as `scipy.ndimage.correlate` of each.

    ``out[..., i, j] = sum over r, s of kernel[r, s] * input[..., i + r - R // 2, j + s - S // 2]``.

    Parameters
    ----------
    input : array of shape (..., H, W)
        Each plane of the last two axes is filtered on its own.
    kernel : array of shape (R, S)
        May be larger than the image.
    border : {"reflect", "mirror", "nearest", "replicate", "wrap", "constant"}
        What lies beyond the image, under SciPy's names. Left of 1 2 3 4 stand

        ============================= === ======================================
        "reflect"                     2 1 the edge pixel repeated
        "mirror"                      3 2 the edge pixel not repeated
        "nearest", also "replicate"   1 1
        "wrap"                        3 4
        "constant"                    c c `cval`
        ============================= === ======================================

        PyTorch, NumPy and OpenCV call the second one reflect, and the first symmetric (NumPy).
    cval : float
        In the units of `input`.

    Returns
    -------
    array of the shape of `input`
        float64 for integers.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    scipy.ndimage.correlate, https://docs.scipy.org/doc/scipy/reference/ndimage.html

    Examples
    --------
    >>> filter2d([[1, 2, 3, 4]], [[1, 1, 1]])
    array([[ 4.,  6.,  9., 11.]])
    >>> filter2d([[1, 2, 3, 4]], [[1, 1, 1]], border="constant")
    array([[3., 6., 9., 7.]])
    """
    x, w = _checked("input", as_array("input", input)), as_array("kernel", kernel)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"input: expected shape (..., H, W) without a zero, got {x.shape}")
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(f"kernel: expected shape (R, S) of at least (1, 1), got {w.shape}")
    w = _checked("kernel", w)
    if not isinstance(border, str) or border not in BORDERS:
        raise ValueError(f"border: expected one of {', '.join(BORDERS)}, got {border!r}")
    cval = _number("cval", cval, complex_too=False)
    before = [n // 2 for n in w.shape]
    after = [n - 1 - b for n, b in zip(w.shape, before, strict=True)]
    planes = x.reshape(-1, 1, *x.shape[-2:])
    return _correlate(planes, w[None, None], before, after, border, cval).reshape(x.shape)


def _array(name: str, value) -> np.ndarray:
    """A real or complex array of two dimensions, with something in it."""
    try:
        is_complex = np.iscomplexobj(value)
    except ValueError:  # nested lists of unequal lengths: `as_array` says so
        is_complex = False
    array = np.asarray(value) if is_complex else as_array(name, value)
    if array.dtype.itemsize > 16:
        raise TypeError(
            f"{name}: expected complex numbers of up to 128 bits, got dtype {array.dtype}"
        )
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name}: expected an array of two dimensions, at least (1, 1), got shape {array.shape}"
        )
    return _checked(name, array)


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    """64-bit integers as float64, so that an error about their size names this argument."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return converted(name, array, FLOAT64)
    return array


def _number(name: str, value, complex_too: bool):
    """A scalar, or an array with one element."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = None
    kinds = "biufc" if complex_too else "biuf"
    if array is None or array.size != 1 or array.dtype.kind not in kinds:
        kind = "a number" if complex_too else "a real number"
        raise TypeError(f"{name}: expected {kind}, got {value!r}")
    return array.reshape(-1)[0].item()


def _signal(x, w, mode, boundary, fillvalue, convolve):
    """What both functions share: `w` is conjugated, or turned, already."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if not isinstance(boundary, str) or boundary not in BOUNDARIES:
        raise ValueError(f"boundary: expected one of {', '.join(BOUNDARIES)}, got {boundary!r}")
    complex_result = "c" in (x.dtype.kind, w.dtype.kind)
    fillvalue = _number("fillvalue", fillvalue, complex_result)
    turned = False
    if mode == "full":
        before = after = [n - 1 for n in w.shape]
    elif mode == "same":
        small, large = [(n - 1) // 2 for n in w.shape], [n // 2 for n in w.shape]
        before, after = (large, small) if convolve else (small, large)
    else:
        before = after = [0, 0]
        larger = [n >= k for n, k in zip(x.shape, w.shape, strict=True)]
        smaller = [n <= k for n, k in zip(x.shape, w.shape, strict=True)]
        if not all(larger) and not all(smaller):
            raise ValueError(
                "in2: mode valid needs one array to be at least as large as the other in both "
                f"directions, got {x.shape} and {w.shape}"
            )
        # sum x[i + r] w[r] with w the larger one: w slides over x instead, from its other end
        turned = not all(larger)
        if turned:
            x, w = w, x
    border = BOUNDARIES[boundary]
    if complex_result:
        y = _complex(x, w, before, after, border, fillvalue)
    else:
        y = _correlate(x[None, None], w[None, None], before, after, border, fillvalue)[0, 0]
    return y[::-1, ::-1] if turned else y


def _complex(x, w, before, after, border, fillvalue):
    """Real and imaginary parts as two images and two filters: all four products in one call."""
    dtype = np.result_type(x.dtype, w.dtype)
    # NumPy promotes integers and complex64 to complex128 where the integers would lose digits
    part = np.dtype(np.float32 if dtype == np.complex64 else np.float64)
    fill = np.array([fillvalue.real, fillvalue.imag]).reshape(2, 1, 1, 1)
    images = np.stack([x.real, x.imag])[:, None].astype(part)
    filters = np.stack([w.real, w.imag])[:, None].astype(part)
    y = _correlate(images, filters, before, after, border, fill)
    return (y[0, 0] - y[1, 1]) + 1j * (y[0, 1] + y[1, 0])


def _correlate(x, w, before, after, border, fill):
    """``conv2d`` of (N, 1, H, W) images with (K, 1, R, S) filters and such a border."""
    sides = tuple(zip(before, after, strict=True))
    if border == "constant" and not np.any(fill):
        return conv2d(x, w, padding=sides)
    # in the dtype of the result: an image of uint8 can have a border of -1
    return conv2d(_bordered(x, sides, border, fill, dtypes(x, w)[1]), w)


def _bordered(x, sides, border, fill, dtype):
    """`x` with its border, for which only the border is looked up pixel by pixel."""
    (top, bottom), (left, right) = sides
    h, w = x.shape[2:]
    shape = (*x.shape[:2], top + h + bottom, left + w + right)
    if border == "constant":
        padded = np.empty(shape, dtype)
        padded[...] = fill
        padded[:, :, top : top + h, left : left + w] = x
        return padded
    padded = np.empty(shape, x.dtype)
    padded[:, :, top : top + h, left : left + w] = x
    for at, source in _outside(h, top, bottom, border):
        padded[:, :, at, left : left + w] = x[:, :, source]
    for at, source in _outside(w, left, right, border):
        padded[..., at] = padded[..., left + source]
    return padded


def _outside(size, before, after, border):
    """(where, the pixels that stand there) of both sides of an axis."""
    source = _positions(size, before, after, border)
    yield slice(0, before), source[:before]
    yield slice(before + size, None), source[before + size :]


def _positions(size, before, after, border):
    """Which pixel of the image stands at each position, from `before` ahead of it to `after`."""
    at = np.arange(-before, size + after)
    if border in ("nearest", "replicate"):
        return at.clip(0, size - 1)
    if border == "wrap":
        return at % size
    if border == "mirror":
        at %= max(1, 2 * size - 2)
        return np.minimum(at, 2 * size - 2 - at)
    at %= 2 * size
    return np.minimum(at, 2 * size - 1 - at)
