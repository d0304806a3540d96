"""Convolutions that equal other operations: two as one, one as two, pooling as convolution."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np

from fastconv import ops
from fastconv._arrays import as_array, batched, converted, dtypes
from fastconv.spec import _integer, _padding, conv_spec, pair, pool_spec

__all__ = [
    "Composition",
    "Convolution",
    "Factors",
    "Separation",
    "avg_pool_as_conv",
    "compose",
    "factor",
    "max_pool_by_relu",
    "separate",
]

_STARTS = 40  # of the search for two factors
_STEPS = 300  # of each start


@dataclass(frozen=True, eq=False)
class Convolution:
    """The arguments of one `conv2d`, which it runs when it is called.

    Parameters
    ----------
    weight : array of shape (K, C / groups, R, S)
        A kernel of shape (R, S) is one of one channel. Integers become float64.
    bias : array of shape (K,), optional
    stride, dilation : int or pair
    padding : int, pair, "valid", "same", "same_lower" or ((top, bottom), (left, right))
    groups : int

    Attributes
    ----------
    weight : array of shape (K, C / groups, R, S)
    bias : array of shape (K,) or None
    stride, dilation : (int, int)
    padding : ((int, int), (int, int))
    groups : int

    Raises
    ------
    TypeError, ValueError
        Also for "same" with a stride, which is another padding for each size of input.

    Examples
    --------
    >>> import numpy as np
    >>> Convolution([[1, -1]], padding=(0, 1))(np.array([[[0.0, 3.0, 3.0]]]))
    array([[[ 0., -3.,  0.,  3.]]])
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    def __post_init__(self) -> None:
        w = as_array("weight", self.weight)
        if w.ndim not in (2, 4):
            raise ValueError(f"weight: expected shape (K, C/groups, R, S) or (R, S), got {w.shape}")
        given = (w,) if self.bias is None else (w, as_array("bias", self.bias))
        dtype = dtypes(*given)[0]
        w = converted("weight", w.reshape((1, 1, *w.shape) if w.ndim == 2 else w.shape), dtype)
        stride, dilation = pair("stride", self.stride), pair("dilation", self.dilation)
        if self.padding in ("same", "same_lower") and stride != (1, 1):
            raise ValueError(
                f"padding: expected integers, because {self.padding!r} with stride {stride} "
                "depends on the input's size"
            )
        # with stride 1 the padding of "same" follows from the kernel, whatever the image
        padding = _padding(self.padding, (1, 1), w.shape[2:], stride, dilation)
        groups = _integer("groups", self.groups, 1)
        extent = (dilation[0] * (w.shape[2] - 1) + 1, dilation[1] * (w.shape[3] - 1) + 1)
        conv_spec((1, w.shape[1] * groups, *extent), w.shape, 1, 0, dilation, groups)  # checks
        bias = None
        if self.bias is not None:
            bias = converted("bias", given[1], dtype)
            if bias.shape != w.shape[:1]:
                raise ValueError(f"bias: expected shape ({w.shape[0]},), got {bias.shape}")
        for name, value in (
            ("weight", w),
            ("bias", bias),
            ("stride", stride),
            ("padding", (padding[:2], padding[2:])),
            ("dilation", dilation),
            ("groups", groups),
        ):
            object.__setattr__(self, name, value)

    @property
    def in_channels(self) -> int:
        """C."""
        return self.weight.shape[1] * self.groups

    @property
    def kernel(self) -> np.ndarray:
        """The weight as (R, S), where there is one channel in and one out."""
        if self.weight.shape[:2] != (1, 1) or self.groups != 1:
            raise ValueError(f"weight: expected one channel, got shape {self.weight.shape}")
        return self.weight[0, 0]

    def __call__(self, input, **options) -> np.ndarray:
        """``conv2d(input, weight, bias, ...)`` with these arguments and `options`."""
        return ops.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            **options,
        )

    def __str__(self) -> str:
        return (
            f"convolution: weight {self.weight.shape}, stride {self.stride}, padding "
            f"{self.padding}, dilation {self.dilation}, groups {self.groups}, "
            f"{'no bias' if self.bias is None else 'bias'}"
        )

    __repr__ = __str__


@dataclass(frozen=True, eq=False, repr=False)
class Composition(Convolution):
    """What `compose` returns: the one convolution, and where it equals the two.

    Attributes
    ----------
    exact : bool
        Whether it equals the two everywhere, for every size of input.
    reason : str
        Why it does not; empty where it does.
    first, second : Convolution
    """

    first: Convolution | None = field(default=None)
    second: Convolution | None = field(default=None)
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether it equals the two everywhere, for every size of input."""
        return not self.reason

    def interior(self, input_shape) -> tuple[slice, slice]:
        """Rows and columns of the output in which one convolution equals the two.

        Parameters
        ----------
        input_shape : tuple of int
            (H, W), whatever stands before.

        Returns
        -------
        (slice, slice)
            Empty ones where there is no such output.

        Examples
        --------
        >>> two = Convolution(np.ones((3, 3)), padding=1)
        >>> compose(two, two).interior((8, 8))
        (slice(1, 7, None), slice(1, 7, None))
        """
        extent = tuple(input_shape)[-2:]
        first = _spec_on(self.first, extent)
        second = _spec_on(self.second, (first.P, first.Q))
        has_bias = self.first.bias is not None and bool(np.any(self.first.bias))
        slices = []
        for axis, (size, between, outputs) in enumerate(
            zip(extent, (first.P, first.Q), (second.P, second.Q), strict=True)
        ):
            before, step, apart, taps = _axis(self.first, axis)

            def differs(q, size=size, between=between, taps=taps, step=step, apart=apart, b=before):
                # a zero of the second padding, where one convolution would see the image
                return not 0 <= q < between and (
                    has_bias or any(0 <= q * step - b + r * apart < size for r in range(taps))
                )

            before2, step2, apart2, taps2 = _axis(self.second, axis)
            same = [
                not any(differs(p * step2 - before2 + r * apart2) for r in range(taps2))
                for p in range(outputs)
            ]
            slices.append(_longest_run(same))
        return slices[0], slices[1]

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}; {'exact' if self.exact else f'inexact at the borders: {self.reason}'}"

    __repr__ = __str__


def _axis(conv, axis):
    """(padding before, stride, dilation, taps) of one axis."""
    return (
        conv.padding[axis][0],
        conv.stride[axis],
        conv.dilation[axis],
        conv.weight.shape[2 + axis],
    )


def _spec_on(conv, extent):
    return conv_spec(
        (1, conv.in_channels, *extent),
        conv.weight.shape,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )


def _longest_run(flags) -> slice:
    best, start = slice(0, 0), None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            if i - start > best.stop - best.start:
                best = slice(start, i)
            start = None
    return best


def _as_convolution(name, value) -> Convolution:
    if isinstance(value, Convolution):
        return value
    weight = getattr(getattr(value, "weight", None), "data", None)
    if isinstance(weight, np.ndarray) and hasattr(value, "groups"):
        kind = type(value).__name__
        if weight.ndim != 4 or hasattr(value, "output_padding"):
            raise TypeError(f"{name}: expected an nn.Conv2d or a kernel, got {kind}")
        bias = None if value.bias is None else value.bias.data
        return Convolution(weight, bias, value.stride, value.padding, value.dilation, value.groups)
    try:
        return Convolution(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _in_fewer_groups(weight, groups, fewer):
    """A grouped weight for `fewer` groups (a divisor of `groups`), zero between the old groups."""
    K, c, R, S = weight.shape
    each = groups // fewer
    dense = np.zeros((K, c * each, R, S), weight.dtype)
    rows = K // groups
    for g in range(groups):
        at = g % each * c
        dense[g * rows : (g + 1) * rows, at : at + c] = weight[g * rows : (g + 1) * rows]
    return dense


def compose(k1, k2) -> Composition:
    """The one convolution that equals `k1` and then `k2`, with nothing nonlinear in between.

    An output of the second sums outputs of the first, which are sums over pixels. Collecting the
    weights of each pixel gives ``w[k, c, u] = sum over m, s of w2[k, m, s] w1[m, c, r]`` over all
    r with ``u = dilation1 r + stride1 dilation2 s``: the two kernels, convolved. Along each axis it
    has ``(R1 - 1) dilation1 + (R2 - 1) stride1 dilation2 + 1`` taps, ``R1 + R2 - 1`` in the plain
    case; its stride is ``stride1 stride2``, its padding ``padding1 + stride1 padding2``, its bias
    ``bias2 + sum of w2 bias1``. Output sizes agree always.

    The first one's padding does no harm. The second one's does: it puts zeros round the first
    one's output, where one convolution goes on computing from the image's border. There the two
    differ, `exact` is False, and `interior` says where they are equal. They are equal nevertheless
    where the first kernel sees no pixel from out there: with a full padding of its own, or 1x1.

    Parameters
    ----------
    k1, k2 : array, Convolution or nn.Conv2d
        Arrays of shape (K, C, R, S), or (R, S) for one channel, stand for stride 1, no padding.

    Returns
    -------
    Composition
        A `Convolution` with `exact`, `reason` and `interior(input_shape)`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    Convolution is associative: ``(x * k1) * k2 = x * (k1 * k2)``. The dilation that a stride gives
    to what comes after it is the "noble identity" of Vaidyanathan, "Multirate systems and filter
    banks", 1993, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> compose([[1, 2], [3, 4]], [[1, 1], [1, 1]]).kernel
    array([[ 1.,  3.,  2.],
           [ 4., 10.,  6.],
           [ 3.,  7.,  4.]])
    >>> print(compose(Convolution(np.ones((3, 3)), stride=2), np.ones((3, 3))))
    convolution: weight (1, 1, 7, 7), stride (2, 2), padding ((0, 0), (0, 0)), dilation (1, 1), \
groups 1, no bias; exact
    """
    first, second = _as_convolution("k1", k1), _as_convolution("k2", k2)
    if first.weight.shape[0] != second.in_channels:
        raise ValueError(
            f"k2: expected {first.weight.shape[0]} input channels, what k1 makes, "
            f"got {second.in_channels} (weight {second.weight.shape}, groups {second.groups})"
        )
    dtype = np.result_type(first.weight, second.weight)
    groups = gcd(first.groups, second.groups)
    w1 = _in_fewer_groups(first.weight, first.groups, groups).astype(dtype)
    w2 = _in_fewer_groups(second.weight, second.groups, groups).astype(dtype)
    taps1, taps2 = w1.shape[2:], w2.shape[2:]
    # distance between taps of the first kernel, and between those of the second, in input pixels
    near = first.dilation
    far = tuple(s * d for s, d in zip(first.stride, second.dilation, strict=True))
    dilation = tuple(
        gcd(a if n > 1 else 0, b if m > 1 else 0) or 1
        for a, n, b, m in zip(near, taps1, far, taps2, strict=True)
    )
    # a single tap has no distance to its neighbours
    near = tuple(a // g if n > 1 else 1 for a, g, n in zip(near, dilation, taps1, strict=True))
    far = tuple(b // g if m > 1 else 1 for b, g, m in zip(far, dilation, taps2, strict=True))
    sizes = tuple(
        a * (n - 1) + b * (m - 1) + 1 for a, n, b, m in zip(near, taps1, far, taps2, strict=True)
    )
    K, c = w2.shape[0], w1.shape[1]
    weight = np.zeros((K, c, *sizes), dtype)
    made, between = K // groups, w1.shape[0] // groups
    for g in range(groups):
        mine, theirs = slice(g * made, (g + 1) * made), slice(g * between, (g + 1) * between)
        for r in range(taps2[0]):
            for s in range(taps2[1]):
                rows = slice(r * far[0], r * far[0] + near[0] * (taps1[0] - 1) + 1, near[0])
                columns = slice(s * far[1], s * far[1] + near[1] * (taps1[1] - 1) + 1, near[1])
                weight[mine, :, rows, columns] += np.tensordot(w2[mine, :, r, s], w1[theirs], 1)
    return Composition(
        weight,
        _composed_bias(first, second),
        tuple(a * b for a, b in zip(first.stride, second.stride, strict=True)),
        tuple(
            (before1 + s * before2, after1 + s * after2)
            for s, (before1, after1), (before2, after2) in zip(
                first.stride, first.padding, second.padding, strict=True
            )
        ),
        dilation,
        groups,
        first,
        second,
        _why_inexact(first, second),
    )


def _composed_bias(first, second):
    if first.bias is None:
        return second.bias
    each = second.weight.sum(axis=(2, 3))  # (K, C / groups): what a constant image becomes
    per_group = first.bias.reshape(second.groups, -1, 1)
    bias = (each.reshape(second.groups, -1, each.shape[1]) @ per_group).ravel()
    return bias if second.bias is None else bias + second.bias


def _why_inexact(first, second) -> str:
    padding = tuple(n for sides in second.padding for n in sides)
    if not any(padding):
        return ""
    if first.bias is not None and np.any(first.bias):
        return f"the second one's padding {padding} holds zeros and not the first one's bias"
    for axis in range(2):
        _, step, apart, taps = _axis(first, axis)
        (before1, after1), (before2, after2) = first.padding[axis], second.padding[axis]
        reach = apart * (taps - 1)
        if (before2 and reach - step - before1 >= 0) or (after2 and reach > after1):
            return (
                f"the second one's padding {padding} (top, bottom, left, right) holds zeros where "
                "one convolution still sees the image's border"
            )
    return ""


@dataclass(frozen=True, eq=False)
class Factors:
    """Two kernels whose convolution is, or is nearest to, a kernel.

    Attributes
    ----------
    first, second : array
        (R1, S1) and (R - R1 + 1, S - S1 + 1).
    error : float
        Frobenius norm of the difference: the square root of the sum of its squares.
    relative_error : float
        `error` over the kernel's norm.
    """

    first: np.ndarray
    second: np.ndarray
    error: float
    relative_error: float

    @property
    def product(self) -> np.ndarray:
        """The kernel of both, one after the other."""
        return _convolved(self.first, self.second)

    def __iter__(self):
        return iter((self.first, self.second))

    def __str__(self) -> str:
        sizes = " and ".join(f"{k.shape[0]}x{k.shape[1]}" for k in self)
        return f"{sizes}, error {self.error:.3g} ({self.relative_error:.3g} of the kernel)"


@dataclass(frozen=True, eq=False)
class Separation:
    """A kernel as a sum of columns times rows.

    Attributes
    ----------
    columns : array of shape (terms, R)
    rows : array of shape (terms, S)
    error, relative_error : float
        As in `Factors`.
    """

    columns: np.ndarray
    rows: np.ndarray
    error: float
    relative_error: float

    @property
    def product(self) -> np.ndarray:
        """The sum of ``columns[t][:, None] * rows[t]``."""
        return self.columns.T @ self.rows

    def __len__(self) -> int:
        return len(self.columns)

    def __str__(self) -> str:
        terms = f"{len(self)} column{'s' * (len(self) != 1)} times row{'s' * (len(self) != 1)}"
        return f"{terms}, error {self.error:.3g} ({self.relative_error:.3g} of the kernel)"


def _convolved(a, b):
    """The full convolution of two kernels."""
    out = np.zeros(tuple(n + m - 1 for n, m in zip(a.shape, b.shape, strict=True)))
    for (i, j), value in np.ndenumerate(a):
        out[i : i + b.shape[0], j : j + b.shape[1]] += value * b
    return out


def _kernel(kernel) -> tuple[np.ndarray, float]:
    """(the kernel in float64, the relative error below which it counts as reached)."""
    k = as_array("kernel", kernel)
    if k.ndim != 2 or 0 in k.shape:
        raise ValueError(f"kernel: expected shape (R, S), got {k.shape}")
    rtol = 1e-10 if k.dtype.kind != "f" or k.dtype.itemsize == 8 else 1e-5
    k = converted("kernel", k, np.dtype(np.float64))
    if not np.isfinite(k).all():
        raise ValueError("kernel: expected finite numbers, got NaN or infinity")
    return k, rtol


def _tolerance(rtol, default) -> float:
    if rtol is None:
        return default
    if isinstance(rtol, (bool, str)) or not np.isreal(rtol) or np.ndim(rtol) != 0:
        raise TypeError(f"rtol: expected a number, got {rtol!r}")
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol: expected at least 0 and less than 1, got {rtol!r}")
    return float(rtol)


def _errors(kernel, product) -> tuple[float, float]:
    error, norm = float(np.linalg.norm(kernel - product)), float(np.linalg.norm(kernel))
    return error, error / norm if norm else 0.0


def factor(kernel, size=None, *, least_squares=False, rtol=None) -> Factors | None:
    """Two smaller kernels that do the same one after the other, or None where there are none.

    Without `size` a column (R, 1) and a row (1, S): possible exactly where the kernel's matrix has
    rank 1, and then ``R + S`` multiplications replace ``R S``. The nearest such pair in least
    squares is the first term of the singular value decomposition (Eckart and Young), so this answer
    is certain. A kernel of integers gets factors of integers.

    With `size` a first kernel of that size and a second one that makes up for the rest,
    ``R - R1 + 1`` by ``S - S1 + 1``. Two kernels together have fewer numbers than the one
    (``9 + 9 - 1`` against 25 for two 3x3 and a 5x5), so most kernels do not split: as polynomials
    in two variables they would have to have a factor. They are searched for by damped Gauss-Newton
    steps from 40 fixed starts, so None means that none was found from any of them.

    Parameters
    ----------
    kernel : array of shape (R, S)
    size : int or pair, optional
        (R1, S1) of the first one.
    least_squares : bool
        Return the nearest pair with its error where none is exact.
    rtol : float, optional
        Relative error up to which a pair counts as exact; default 1e-10, or 1e-5 for float32.

    Returns
    -------
    Factors or None

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    See Also
    --------
    separate : more than one pair of column and row.
    compose : the way back.

    References
    ----------
    Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1,
    1936. Nocedal and Wright, "Numerical optimization", 2006, section 10.3 (Levenberg-Marquardt).

    Examples
    --------
    >>> import numpy as np
    >>> sobel = factor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    >>> sobel.first.ravel(), sobel.second.ravel()
    (array([1., 2., 1.]), array([ 1.,  0., -1.]))
    >>> factor(np.eye(3)) is None
    True
    >>> print(factor(np.eye(3), least_squares=True))
    3x1 and 1x3, error 1.41 (0.816 of the kernel)
    >>> first, second = factor([[3, 1], [10, 4], [8, 4]], size=(2, 1))
    >>> first.ravel(), second
    (array([1., 2.]), array([[3., 1.],
           [4., 2.]]))
    """
    k, default = _kernel(kernel)
    rtol = _tolerance(rtol, default)
    R, S = k.shape
    rows, columns = (R, 1) if size is None else pair("size", size)
    if rows > R or columns > S:
        raise ValueError(f"size: expected at most the kernel's {R}x{S}, got {rows}x{columns}")
    if not k.any():
        first, second = np.zeros((rows, columns)), np.zeros((R - rows + 1, S - columns + 1))
    elif (rows, columns) == (R, 1):
        column, row = _rank_one(k)
        first, second = column[:, None], row[None]
    elif (rows, columns) == (1, S):
        column, row = _rank_one(k)
        first, second = row[None], column[:, None]
    else:
        first, second = _searched(k, (rows, columns), rtol)
    if np.array_equal(k, np.rint(k)):
        first, second = _in_integers(k, first, second)
    error, relative = _errors(k, _convolved(first, second))
    if relative > rtol and not least_squares:
        return None
    return Factors(first, second, error, relative)


def separate(kernel, terms=None, *, rtol=None) -> Separation:
    """A kernel as a sum of columns times rows: the fewest, or the best of a given number.

    Each term is a vertical and a horizontal filter, ``R + S`` multiplications a pixel. A kernel of
    rank T needs T of them, at most ``min(R, S)``. Cut off after `terms`, the singular value
    decomposition is the nearest sum in least squares, and its error is the root of the sum of the
    squares of the singular values that were left out.

    Parameters
    ----------
    kernel : array of shape (R, S)
    terms : int, optional
        Default: as many as it takes to come within `rtol`.
    rtol : float, optional
        Relative error that counts as exact; default 1e-10, or 1e-5 for float32.

    Returns
    -------
    Separation

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Eckart and Young, Psychometrika 1, 1936.

    Examples
    --------
    >>> laplacian = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    >>> len(separate(laplacian))
    2
    >>> round(separate(laplacian, terms=1).relative_error, 3)
    0.101
    """
    k, default = _kernel(kernel)
    rtol = _tolerance(rtol, default)
    left, values, right = np.linalg.svd(k, full_matrices=False)
    if terms is None:
        # what is left out after 1, 2, ... terms
        rest = np.sqrt(np.cumsum(values[::-1] ** 2))[::-1][1:]
        terms = 1 + int(np.count_nonzero(rest > rtol * np.linalg.norm(values)))
    else:
        terms = _integer("terms", terms, 1)
        if terms > min(k.shape):
            raise ValueError(
                f"terms: expected at most {min(k.shape)} for a {k.shape[0]}x{k.shape[1]} kernel, "
                f"got {terms}"
            )
    columns = left[:, :terms].T * np.sqrt(values[:terms, None])
    rows = right[:terms] * np.sqrt(values[:terms, None])
    return Separation(columns, rows, *_errors(k, columns.T @ rows))


def _rank_one(k):
    """The column and the row nearest to a kernel; the column's largest element is 1."""
    left, values, right = np.linalg.svd(k, full_matrices=False)
    scale = left[np.argmax(np.abs(left[:, 0])), 0]
    return left[:, 0] / scale, right[0] * (values[0] * scale)


def _in_integers(k, first, second):
    """The same factors in integers where a scale makes them so, exactly; else as they came."""
    upright, lying = (k.shape[0], 1), (1, k.shape[1])
    if first.shape in (upright, lying):
        # of rank 1: the kernel's rows are integer multiples of one that has no common divisor
        i, j = np.unravel_index(np.argmax(np.abs(k)), k.shape)
        row, column = k[i] / (np.gcd.reduce(k[i].astype(np.int64)) or 1), k[:, j]
        column = column / (row[j] or 1)
        a, b = (column, row) if first.shape == upright else (row, column)
        candidates = [(a.reshape(first.shape), b.reshape(second.shape))]
    else:
        candidates = _rounded(k, first, second.shape)
    for a, b in candidates:
        if a.any() and np.array_equal(_convolved(a, b), k):
            sign = np.sign(a.ravel()[np.flatnonzero(a)[0]])
            return a * sign + 0.0, b * sign + 0.0  # no negative zeros
    return first, second


def _rounded(k, first, rest):
    """Pairs of integers: `first` in several units, rounded, and what `rest` is nearest with it."""
    sizes = np.abs(first[np.abs(first) > 1e-6 * np.abs(first).max()])
    tried = set()
    for unit, part in itertools.product(np.unique(sizes), range(1, 33)):
        a = np.rint(first * (part / unit)) + 0.0
        # a factor that stands several times in the kernel is only found roughly
        if np.abs(first * (part / unit) - a).max() < 0.1 and a.tobytes() not in tried:
            tried.add(a.tobytes())
            b = np.linalg.lstsq(_placements(a, rest), k.ravel(), rcond=None)[0]
            yield a, np.rint(b.reshape(rest))


def _placements(kernel, shape):
    """The matrix M with ``M @ a.ravel() == convolved(a, kernel).ravel()`` for `a` of `shape`."""
    full = tuple(n + m - 1 for n, m in zip(shape, kernel.shape, strict=True))
    matrix = np.zeros((*shape, *full))
    for i, j in np.ndindex(*shape):
        matrix[i, j, i : i + kernel.shape[0], j : j + kernel.shape[1]] = kernel
    return matrix.reshape(shape[0] * shape[1], -1).T


def _searched(k, shape, rtol):
    """Two kernels whose convolution is as near to `k` as any start leads to."""
    rest = tuple(n - m + 1 for n, m in zip(k.shape, shape, strict=True))
    scale = float(np.linalg.norm(k))
    target = (k / scale).ravel()
    rng = np.random.default_rng(0)  # the same starts in every call
    best = None
    for _ in range(_STARTS):
        a = rng.standard_normal(shape)
        b = np.linalg.lstsq(_placements(a, rest), target, rcond=None)[0].reshape(rest)
        a, b, error = _descended(a, b, target, 0.01 * rtol)
        if best is None or error < best[2]:
            best = a, b, error
        if best[2] <= 0.01 * rtol:
            break
    a, b, _ = best
    largest = a.ravel()[np.argmax(np.abs(a))]
    return a / largest, b * (largest * scale)


def _descended(a, b, target, enough):
    """Levenberg-Marquardt steps on ``|convolved(a, b) - target|``."""
    damping, error = 1e-2, np.linalg.norm(_convolved(a, b).ravel() - target)
    for _ in range(_STEPS):
        if error <= enough:
            break
        # factors are known up to a number; equal norms keep the steps well conditioned
        balance = np.sqrt(np.linalg.norm(b) / max(np.linalg.norm(a), 1e-300))
        a, b = a * balance, b / max(balance, 1e-300)
        jacobian = np.hstack([_placements(b, a.shape), _placements(a, b.shape)])
        residual = _convolved(a, b).ravel() - target
        normal, slope = jacobian.T @ jacobian, jacobian.T @ residual
        if np.linalg.norm(slope) <= 1e-15:
            break
        while damping < 1e12:
            step = np.linalg.solve(normal + damping * np.eye(len(normal)), slope)
            new_a = a - step[: a.size].reshape(a.shape)
            new_b = b - step[a.size :].reshape(b.shape)
            new_error = np.linalg.norm(_convolved(new_a, new_b).ravel() - target)
            if new_error < error:
                break
            damping *= 4
        else:
            break
        small = error - new_error <= 1e-9 * error
        a, b, error = new_a, new_b, new_error
        damping = max(damping / 8, 1e-14)
        if small and error > 1e-6:  # a minimum that is not an exact split
            break
    return a, b, error


def avg_pool_as_conv(
    channels, kernel_size, stride=None, padding=0, *, divisor_override=None, dtype=np.float64
) -> Convolution:
    """The convolution that average pooling is: a box of ``1 / (R S)``, each channel on its own.

    It equals ``avg_pool2d(x, kernel_size, stride, padding)``, whose divisor counts padded pixels.
    Where it does not (``count_include_pad=False``) the divisor depends on the place, which no
    convolution can do; the quotient of two can: the box of ones over x by the box over ones.

    Parameters
    ----------
    channels : int
        C; one group for each.
    kernel_size : int or pair
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : as in `conv2d`
    divisor_override : int, optional
        Divide by this instead.
    dtype : {float32, float64}

    Returns
    -------
    Convolution
        weight (C, 1, R, S), groups C.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.arange(16.0).reshape(1, 4, 4)
    >>> avg_pool_as_conv(1, 2)(image)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    >>> fc.avg_pool2d(image, 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    channels = _integer("channels", channels, 1)
    rows, columns = pair("kernel_size", kernel_size)
    stride = (rows, columns) if stride is None else pair("stride", stride)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    divisor = rows * columns
    if divisor_override is not None:
        divisor = _integer("divisor_override", divisor_override, -(2**31))
        if divisor == 0:
            raise ValueError("divisor_override: expected a number other than 0, got 0")
    weight = np.full((channels, 1, rows, columns), 1 / divisor, dtype)
    return Convolution(weight, None, stride, padding, 1, channels)


def max_pool_by_relu(input, kernel_size, stride=None, padding=0) -> np.ndarray:
    """Maximum pooling with nothing but convolutions and ReLU, by ``max(a, b) = relu(a - b) + b``.

    No single convolution is a maximum: it is linear, the maximum is not. But a convolution with a
    single 1 in its kernel picks one pixel of each window, a 1x1 convolution makes a - b of two
    such pictures, and a ReLU is all the nonlinearity it takes. Pairs of pixels are compared, then
    pairs of winners: ``R S - 1`` comparisons. Padding is with zeros, so the image is first raised
    until nothing is negative. It shows how a network can do it; `max_pool2d` does it in one
    pass over the image.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
        Finite.
    kernel_size : int or pair
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : as in `max_pool2d`

    Returns
    -------
    array of the shape of ``max_pool2d(input, kernel_size, stride, padding)``
        Equal for integers (in float64) below 2**52, else within rounding of ``a - b + b``.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np
    >>> max_pool_by_relu(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    x = as_array("input", input)
    dtype, target = dtypes(x)
    x, has_batch = batched("input", converted("input", x, dtype), "NCHW")
    spec = pool_spec(x.shape, kernel_size, stride, padding, dtype=dtype)  # checks
    if not np.isfinite(x).all():
        raise ValueError("input: expected finite numbers, got NaN or infinity")
    least = x.min(initial=0)
    sides = spec.padding[:2], spec.padding[2:]
    pixels = spec.R * spec.S
    picks = np.eye(pixels, dtype=dtype).reshape(pixels, 1, spec.R, spec.S)
    n = spec.N * spec.C
    # every channel is an image of its own; its windows' pixels become channels
    planes = ops.conv2d(
        (x - least).reshape(n, 1, spec.H, spec.W), picks, stride=spec.stride, padding=sides
    )
    while (count := planes.shape[1]) > 1:
        half = count // 2
        a, b = np.eye(count, dtype=dtype)[:half], np.eye(count, dtype=dtype)[half : 2 * half]
        larger = ops.conv2d(planes, (a - b)[..., None, None], activation="relu")
        larger = larger + ops.conv2d(planes, b[..., None, None])
        planes = np.concatenate([larger, planes[:, 2 * half :]], axis=1)
    y = (planes.reshape(spec.output_shape) + least).astype(target, copy=False)
    return y if has_batch else y[0]
