"""Kernels by name: the weights that differentiate, smooth, sharpen and find edges.

Each function returns a new array of shape (R, S), float64 unless `dtype` says otherwise, for
`fastconv.signal.filter2d` or, as ``kernel[None, None]``, for `fastconv.conv2d`. Both are
cross-correlations: weights stand where the pixels are that they multiply, so that a derivative is
positive where the image rises to the right, or downwards.

>>> import numpy as np
>>> from fastconv import signal
>>> signal.filter2d(np.arange(5.0)[None] ** 2, derivative(1), border="mirror")
array([[0., 2., 4., 6., 0.]])
"""

from __future__ import annotations

import math
from fractions import Fraction
from inspect import signature

import numpy as np

from fastconv.spec import _integer, pair

__all__ = [
    "box",
    "derivative",
    "edge",
    "emboss",
    "gabor",
    "gaussian",
    "integral",
    "laplacian",
    "named",
    "prewitt",
    "sharpen",
    "sobel",
]


def edge(axis=-1, *, dtype=np.float64):
    """The difference of two neighbours: ``out[i, j] = x[i, j] - x[i, j + 1]``.

    The smallest edge detector: zero where neighbours are equal, +1 at the step from 1 to 0 and -1
    at the step from 0 to 1. Up to its sign it is the smallest first derivative,
    ``derivative(1, accuracy=1)``.

    Parameters
    ----------
    axis : {-1, 0, 1, -2}
        Direction in which the neighbours lie: -1 along a row, which finds vertical edges.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (1, 2) or (2, 1)

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Zhang, Lipton, Li and Smola, *Dive into Deep Learning*, section "Convolutions for Images".

    Examples
    --------
    >>> edge()
    array([[ 1., -1.]])
    """
    return _finished(_along(axis, np.array([1.0, -1.0])), dtype)


def derivative(order, accuracy=2, axis=-1, spacing=1.0, *, dtype=np.float64):
    """The derivative of some order, from finite differences.

    ``sum over r of weight[r] * f(x + (r - middle) * spacing)``, which is the derivative at x up to
    terms of the size of ``spacing**accuracy``.
    The weights are those that are exact for all polynomials of degree less than their number, so
    ``order + 1`` of them is the smallest kernel there can be: with fewer, the polynomial
    ``x^order`` could not be told from one of lower degree.

    Parameters
    ----------
    order : int
        At least 1.
    accuracy : int
        1: the smallest kernel, of ``order + 1`` weights. For an odd order its middle lies between
        two pixels; there, and for an even order everywhere, its accuracy is 2. 2, 4, 6 ...: the
        central kernel of ``2 * ((order + 1) // 2) - 1 + accuracy`` weights, its middle on a pixel.
    axis : {-1, 0, 1, -2}
        Direction of the derivative: -1 along a row.
    spacing : float
        Distance of two pixels; the weights are divided by ``spacing**order``.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (1, n) or (n, 1)
        From exact fractions. Their sum is 0.

    Raises
    ------
    TypeError, ValueError

    Notes
    -----
    Exact on polynomials up to degree ``order + accuracy - 1``, and with the accuracy of 2 that the
    smallest kernel has in its middle up to ``order + 1``.

    References
    ----------
    Bengt Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
    Mathematics of Computation 51 (1988) 699-706.

    Examples
    --------
    >>> derivative(1), derivative(1, accuracy=1)
    (array([[-0.5,  0. ,  0.5]]), array([[-1.,  1.]]))
    >>> derivative(2, axis=0).ravel()
    array([ 1., -2.,  1.])
    >>> derivative(1, accuracy=4) * 12
    array([[ 1., -8.,  0.,  8., -1.]])
    """
    order = _integer("order", order, 1)
    accuracy = _integer("accuracy", accuracy, 1)
    spacing = _positive("spacing", spacing)
    if accuracy == 1:
        first, count = -(order // 2), order + 1
    elif accuracy % 2 == 0:
        count = 2 * ((order + 1) // 2) - 1 + accuracy
        first = -(count // 2)
    else:
        raise ValueError(
            f"accuracy: expected 1 (the smallest kernel) or an even number, got {accuracy}"
        )
    weights = _finite_difference(order, range(first, first + count))
    values = np.array([float(w) for w in weights]) / spacing**order
    return _finished(_along(axis, values), dtype)


def _finite_difference(order: int, nodes) -> list[Fraction]:
    """Fornberg's recursion: weights, for values at `nodes`, of the derivative at 0."""
    nodes = [Fraction(n) for n in nodes]
    # weights[k][m]: of node k in the formula for derivative m, with the nodes up to the latest one
    weights = [[Fraction(0)] * (order + 1) for _ in nodes]
    weights[0][0] = Fraction(1)
    product = Fraction(1)
    for n in range(1, len(nodes)):
        before, product = product, Fraction(1)
        for k in range(n):
            gap = nodes[n] - nodes[k]
            product *= gap
            if k == n - 1:
                for m in range(min(n, order), -1, -1):
                    lower = weights[k][m - 1] if m else 0
                    weights[n][m] = before / product * (m * lower - nodes[k] * weights[k][m])
            for m in range(min(n, order), -1, -1):
                lower = weights[k][m - 1] if m else 0
                weights[k][m] = (nodes[n] * weights[k][m] - m * lower) / gap
    return [w[order] for w in weights]


def laplacian(neighbours=4, *, dtype=np.float64):
    """The Laplacian, ``d2f/dx2 + d2f/dy2``.

    With 4 neighbours the sum of ``derivative(2)`` along both axes; with 8 the sum of the
    differences to all pixels around, which is three times the Laplacian, to second order.

    Parameters
    ----------
    neighbours : {4, 8}
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (3, 3)
        Their sum is 0.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964), 25.3.30, and
    `scipy.ndimage.laplace`: the one with 4 neighbours.

    Examples
    --------
    >>> laplacian()
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    return _finished(_laplacian(neighbours), dtype)


def _laplacian(neighbours) -> np.ndarray:
    neighbours = _integer("neighbours", neighbours, 1)
    if neighbours not in (4, 8):
        raise ValueError(f"neighbours: expected 4 or 8, got {neighbours}")
    corner = 0.0 if neighbours == 4 else 1.0
    return np.array([[corner, 1, corner], [1, -neighbours, 1], [corner, 1, corner]])


def sobel(axis=-1, *, dtype=np.float64):
    """Sobel's gradient: ``[-1, 0, 1]`` along `axis`, ``[1, 2, 1]`` across it.

    The central difference, smoothed across: eight times ``df/dx``, to second order.

    Parameters
    ----------
    axis : {-1, 0, 1, -2}
        Direction of the derivative: -1 along a row, which finds vertical edges.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (3, 3)
        Their sum is 0.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Irwin Sobel and Gary Feldman, "A 3x3 isotropic gradient operator for image processing", Stanford
    Artificial Intelligence Project (1968); `scipy.ndimage.sobel`.

    Examples
    --------
    >>> sobel()
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    """
    return _finished(_gradient(axis, [1.0, 2.0, 1.0]), dtype)


def prewitt(axis=-1, *, dtype=np.float64):
    """Prewitt's gradient: ``[-1, 0, 1]`` along `axis`, ``[1, 1, 1]`` across it.

    The central difference, averaged across: six times ``df/dx``, to second order.

    Parameters
    ----------
    axis : {-1, 0, 1, -2}
        Direction of the derivative: -1 along a row, which finds vertical edges.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (3, 3)
        Their sum is 0.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Judith M. S. Prewitt, "Object enhancement and extraction", in *Picture Processing and
    Psychopictorics* (1970); `scipy.ndimage.prewitt`.

    Examples
    --------
    >>> prewitt(axis=0)
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]])
    """
    return _finished(_gradient(axis, [1.0, 1.0, 1.0]), dtype)


def _gradient(axis, across) -> np.ndarray:
    kernel = np.outer(across, [-1.0, 0.0, 1.0])
    return kernel if _axis(axis) == 1 else kernel.T.copy()


def box(size, *, dtype=np.float64):
    """The mean over a window: ``1 / (R * S)`` everywhere.

    Average pooling of stride 1 is the correlation with it.

    Parameters
    ----------
    size : int or pair
        (R, S).
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (R, S)
        Their sum is 1; the outer product of a column and a row.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    M. J. McDonnell, "Box-filtering techniques", Computer Graphics and Image Processing 17 (1981)
    65-70; `scipy.ndimage.uniform_filter`.

    Examples
    --------
    >>> box((1, 4))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    size = pair("size", size)
    return _finished(np.full(size, 1.0 / (size[0] * size[1])), dtype)


def integral(size, spacing=1.0, *, dtype=np.float64):
    """The integral over a window, by the midpoint rule: the area of a pixel everywhere.

    ``sum over r, s of x[i + r, j + s] * spacing_h * spacing_w``; along one axis, with a size of
    (1, S) or (R, 1), ``sum over s of x[j + s] * spacing``. It undoes the smallest derivative: the
    one applied to the other is ``x[j + S] - x[j]``.

    Parameters
    ----------
    size : int or pair
        (R, S).
    spacing : float or pair of float
        Distance of two pixels, downwards and to the right; a direction of size 1 is not integrated
        over.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (R, S)
        Their sum is the window's length or area.

    Raises
    ------
    TypeError, ValueError

    Notes
    -----
    Exact on polynomials of degree 1 over the window, whose ends lie half a pixel beyond its
    outermost pixels; the error falls with the square of the spacing.

    References
    ----------
    Philip J. Davis and Philip Rabinowitz, *Methods of Numerical Integration* (1984), chapter 2.

    Examples
    --------
    >>> integral((1, 4), spacing=0.5)
    array([[0.5, 0.5, 0.5, 0.5]])
    """
    size = pair("size", size)
    area = 1.0
    for n, step in zip(size, _positive_pair("spacing", spacing), strict=True):
        area *= step if n > 1 else 1.0
    return _finished(np.full(size, area), dtype)


def gaussian(size=None, sigma=None, *, dtype=np.float64):
    """Smoothing by a Gauss curve: ``exp(-(y^2 / sigma_h^2 + x^2 / sigma_w^2) / 2)``.

    Divided by the sum of all weights; x and y are pixels from the middle.

    Parameters
    ----------
    size : int or pair, optional
        (R, S). Default: ``2 * int(4 * sigma + 0.5) + 1``, where SciPy cuts the curve off.
    sigma : float or pair of float, optional
        In pixels. Default: ``0.3 * ((size - 1) / 2 - 1) + 0.8``, as OpenCV's. One of the two
        arguments is needed.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (R, S)
        Their sum is 1; the outer product of a column and a row.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    `scipy.ndimage.gaussian_filter`; the default of `sigma`: OpenCV, `getGaussianKernel`.

    Examples
    --------
    >>> gaussian(3, sigma=1.0).round(4)
    array([[0.0751, 0.1238, 0.0751],
           [0.1238, 0.2042, 0.1238],
           [0.0751, 0.1238, 0.0751]])
    >>> gaussian(sigma=1.0).shape
    (9, 9)
    """
    if size is None and sigma is None:
        raise TypeError("size: expected a size or a sigma, got neither")
    if sigma is not None:
        sigma = _positive_pair("sigma", sigma)
    if size is None:
        size = tuple(2 * int(4 * s + 0.5) + 1 for s in sigma)
    size = pair("size", size)
    if sigma is None:
        sigma = tuple(0.3 * ((n - 1) / 2 - 1) + 0.8 for n in size)
    column, row = (_bell(n, s) for n, s in zip(size, sigma, strict=True))
    return _finished(np.outer(column, row), dtype)


def _bell(size, sigma) -> np.ndarray:
    exponent = -0.5 * (_centred(size) / sigma) ** 2
    bell = np.exp(exponent - exponent.max())  # a narrow curve between two pixels is not all zeros
    return bell / bell.sum()


def sharpen(amount=1.0, neighbours=4, *, dtype=np.float64):
    """The image minus `amount` times its Laplacian.

    Parameters
    ----------
    amount : float
        0 leaves the image as it is.
    neighbours : {4, 8}
        Of the Laplacian.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (3, 3)
        Their sum is 1, so an even area stays as it is.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Rafael C. Gonzalez and Richard E. Woods, *Digital Image Processing*, section "Using the second
    derivative for image sharpening: the Laplacian".

    Examples
    --------
    >>> sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    kernel = 0.0 - _real("amount", amount) * _laplacian(neighbours)
    kernel[1, 1] += 1.0
    return _finished(kernel, dtype)


def emboss(depth=1.0, direction=(1, 1), *, dtype=np.float64):
    """The image plus `depth` times its slope: a relief, lit from one side.

    ``identity + depth * (direction[0] * prewitt(axis=0) + direction[1] * prewitt(axis=1))``.

    Parameters
    ----------
    depth : float
    direction : pair of float
        (down, right): where the image rises that way it becomes lighter.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (3, 3)
        Their sum is 1.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    John F. Schlag, "Fast embossing effects on raster image data", in *Graphics Gems IV* (1994).

    Examples
    --------
    >>> emboss()
    array([[-2., -1.,  0.],
           [-1.,  1.,  1.],
           [ 0.,  1.,  2.]])
    """
    depth = _real("depth", depth)
    down, right = _real_pair("direction", direction)
    kernel = depth * (down * _gradient(0, [1.0, 1.0, 1.0]) + right * _gradient(1, [1.0, 1.0, 1.0]))
    kernel[1, 1] += 1.0
    return _finished(kernel, dtype)


def gabor(size, wavelength, theta=0.0, phase=0.0, sigma=None, aspect=0.5, *, dtype=np.float64):
    """A wave in a Gauss curve: what finds stripes of one width and direction.

    ``exp(-(u^2 + aspect^2 * v^2) / (2 sigma^2)) * cos(2 pi u / wavelength + phase)``, where
    ``u = x cos(theta) + y sin(theta)``, ``v = -x sin(theta) + y cos(theta)``, and x and y are
    pixels to the right of the middle and below it.

    Parameters
    ----------
    size : int or pair
        (R, S).
    wavelength : float
        In pixels.
    theta : float
        Direction of the wave in radians, from the right downwards; 0: vertical stripes.
    phase : float
        In radians. 0: a light stripe in the middle (even); pi / 2: an edge (odd).
    sigma : float, optional
        Width of the curve in pixels. Default: 0.56 * `wavelength`, a bandwidth of one octave.
    aspect : float
        1: a round curve; less: longer along the stripes.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (R, S)
        Not normalised: 1 in the middle where `phase` is 0.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    John G. Daugman, "Uncertainty relation for resolution in space, spatial frequency, and
    orientation optimized by two-dimensional visual cortical filters", Journal of the Optical
    Society of America A 2 (1985) 1160-1169.

    Examples
    --------
    >>> gabor((1, 5), wavelength=4, sigma=2).round(3)
    array([[-0.607,  0.   ,  1.   ,  0.   , -0.607]])
    """
    height, width = pair("size", size)
    wavelength = _positive("wavelength", wavelength)
    theta, phase = _real("theta", theta), _real("phase", phase)
    sigma = 0.56 * wavelength if sigma is None else _positive("sigma", sigma)
    aspect = _positive("aspect", aspect)
    y, x = _centred(height)[:, None], _centred(width)
    u = x * math.cos(theta) + y * math.sin(theta)
    v = y * math.cos(theta) - x * math.sin(theta)
    curve = np.exp(-(u**2 + (aspect * v) ** 2) / (2 * sigma**2))
    return _finished(curve * np.cos(2 * math.pi * u / wavelength + phase), dtype)


# what `named` knows, in the order in which a sheet shows them
_NAMED = {
    "edge": edge,
    "derivative": derivative,
    "laplacian": laplacian,
    "sobel": sobel,
    "prewitt": prewitt,
    "box": box,
    "integral": integral,
    "gaussian": gaussian,
    "sharpen": sharpen,
    "emboss": emboss,
    "gabor": gabor,
}


def named(kernel, *, dtype=np.float64):
    """A kernel from its name and arguments in one text, as the command line takes it.

    Parameters
    ----------
    kernel : str
        "sobel", "gaussian:5", "gaussian:5,sigma=1.5", "derivative:2,accuracy=4,axis=0", "box:1x9":
        the name of a function of this module, and its arguments: numbers, or two of them with an x
        between for a pair of rows and columns.
    dtype : {float64, float32, float16}

    Returns
    -------
    array of shape (R, S)

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> named("derivative:1,axis=0").ravel()
    array([-0.5,  0. ,  0.5])
    """
    if not isinstance(kernel, str):
        raise TypeError(f"kernel: expected a name, got {kernel!r}")
    name, _, rest = kernel.partition(":")
    if name not in _NAMED:
        raise ValueError(f"kernel: expected one of {', '.join(_NAMED)}, got {name!r}")
    args, kwargs = [], {}
    for part in rest.split(",") if rest else ():
        key, equals, value = part.rpartition("=")
        number = _parsed(kernel, value)
        if equals:
            kwargs[key.strip()] = number
        elif kwargs:
            raise ValueError(f"kernel: expected values before names of arguments, got {kernel!r}")
        else:
            args.append(number)
    takes = signature(_NAMED[name])
    takes = takes.replace(parameters=[p for n, p in takes.parameters.items() if n != "dtype"])
    try:
        takes.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"kernel: {name}{takes}: {error}, in {kernel!r}") from None
    return _NAMED[name](*args, **kwargs, dtype=dtype)


def _parsed(kernel, value):
    first, pair, second = value.partition("x")
    if pair:
        return _parsed(kernel, first), _parsed(kernel, second)
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    raise ValueError(
        f"kernel: expected numbers, or pairs such as 3x5, as arguments, got {value!r} in {kernel!r}"
    )


# --- arguments -----------------------------------------------------------------------------------


def _real(name: str, value) -> float:
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return number


def _positive(name: str, value) -> float:
    number = _real(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return number


def _real_pair(name: str, value, number=_real) -> tuple[float, float]:
    if isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value):
        if len(value) != 2:
            raise ValueError(f"{name}: expected two numbers, got {len(value)}: {value!r}")
        return number(name, value[0]), number(name, value[1])
    raise TypeError(f"{name}: expected two numbers, got {value!r}")


def _positive_pair(name: str, value) -> tuple[float, float]:
    if isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value):
        return _real_pair(name, value, _positive)
    return (_positive(name, value),) * 2


def _axis(axis) -> int:
    """0 (downwards) or 1 (to the right)."""
    integer = isinstance(axis, (int, np.integer)) and not isinstance(axis, bool)
    if not integer or axis not in (-2, -1, 0, 1):
        raise ValueError(f"axis: expected 0, 1, -1 or -2, got {axis!r}")
    return int(axis) % 2


def _along(axis, weights: np.ndarray) -> np.ndarray:
    return weights[None] if _axis(axis) == 1 else weights[:, None]


def _centred(size: int) -> np.ndarray:
    """Positions of `size` pixels, from the middle."""
    return np.arange(size) - (size - 1) / 2


def _finished(kernel: np.ndarray, dtype) -> np.ndarray:
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = None
    if wanted not in (np.float64, np.float32, np.float16):
        raise TypeError(f"dtype: expected float64, float32 or float16, got {dtype!r}")
    return (kernel + 0.0).astype(wanted)  # a weight of -0.0 becomes 0.0
