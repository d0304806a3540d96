"""Frozen descriptions of one call: arguments normalised, checked, and the sizes that follow.

A spec is all that choosing an implementation needs; the arrays come later. The functions
`conv_spec` and `pool_spec` are the only makers. They normalise their arguments to plain integers
and then look the spec up in a cache, so that a repeated call costs about a microsecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from operator import index

import numpy as np

__all__ = [
    "ArraySpec",
    "ConvSpec",
    "PoolSpec",
    "UnpoolSpec",
    "array_spec",
    "conv_spec",
    "conv_transpose_spec",
    "pool_spec",
    "unpool_spec",
]

Pair = tuple[int, int]
Four = tuple[int, int, int, int]

_CACHE_SIZE = 4096
_LIMIT = 2**31  # compiled drivers keep sizes and steps well inside 64 bits
_NAMED_PADDING = ("same", "same_lower", "valid")


@dataclass(frozen=True, slots=True, eq=False)  # cached, so identity is equality
class ConvSpec:
    """A two-dimensional convolution: input (N, C, H, W), weight (K, C/groups, R, S), output P x Q.

    Attributes
    ----------
    padding : tuple of int
        (top, bottom, left, right), in pixels.
    geometry : tuple of int
        (N, C, H, W, K, R, S, stride_h, stride_w, top, left, dilation_h, dilation_w, groups, P, Q):
        what a compiled driver reads.
    """

    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: Pair
    padding: Four
    dilation: Pair
    groups: int
    P: int
    Q: int
    dtype: np.dtype
    geometry: tuple[int, ...]

    @property
    def input_shape(self) -> Four:
        """(N, C, H, W)."""
        return self.N, self.C, self.H, self.W

    @property
    def weight_shape(self) -> Four:
        """(K, C/groups, R, S)."""
        return self.K, self.C // self.groups, self.R, self.S

    @property
    def output_shape(self) -> Four:
        """(N, K, P, Q)."""
        return self.N, self.K, self.P, self.Q

    @property
    def flops(self) -> int:
        """Multiplications and additions: ``2 N K P Q (C / groups) R S``."""
        return 2 * self.N * self.K * self.P * self.Q * (self.C // self.groups) * self.R * self.S

    @property
    def bytes(self) -> int:
        """Bytes of input, weight and output, each moved once."""
        elements = (
            self.N * self.C * self.H * self.W
            + self.K * (self.C // self.groups) * self.R * self.S
            + self.N * self.K * self.P * self.Q
        )
        return elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class PoolSpec:
    """Pooling of (N, C, H, W) with an R x S window; output (N, C, P, Q).

    Attributes
    ----------
    padding : tuple of int
        (top, bottom, left, right), in pixels, without what `ceil_mode` adds.
    row_counts, col_counts : tuple of int
        Average pooling divides output (p, q) by ``row_counts[p] * col_counts[q]``, unless
        `divisor_override` is given.
    geometry : tuple of int
        (N, C, H, W, R, S, stride_h, stride_w, top, left, dilation_h, dilation_w, P, Q).
    beta : float
        Of soft pooling: 0 is the mean, infinity would be the maximum.
    """

    N: int
    C: int
    H: int
    W: int
    R: int
    S: int
    stride: Pair
    padding: Four
    dilation: Pair
    P: int
    Q: int
    dtype: np.dtype
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    row_counts: tuple[int, ...]
    col_counts: tuple[int, ...]
    geometry: tuple[int, ...]
    beta: float

    @property
    def row_geometry(self) -> tuple[int, ...] | None:
        """Where a window is a whole plane: the geometry of one long row for each image.

        Its windows are the image's planes. None for any other pooling.
        """
        if (self.R, self.S) != (self.H, self.W) or any(self.padding):
            return None
        size = self.H * self.W
        return (self.N, 1, 1, self.C * size, 1, size, 1, size, 0, 0, 1, 1, 1, self.C)

    @property
    def input_shape(self) -> Four:
        """(N, C, H, W)."""
        return self.N, self.C, self.H, self.W

    @property
    def output_shape(self) -> Four:
        """(N, C, P, Q)."""
        return self.N, self.C, self.P, self.Q

    @property
    def flops(self) -> int:
        """Comparisons or additions: one for each element of each window."""
        return self.N * self.C * self.P * self.Q * self.R * self.S

    @property
    def bytes(self) -> int:
        """Bytes of input and output, each moved once."""
        return self.N * self.C * (self.H * self.W + self.P * self.Q) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class UnpoolSpec:
    """Planes of P x Q values that go back to places in planes of H x W."""

    N: int
    C: int
    H: int
    W: int
    P: int
    Q: int
    dtype: np.dtype


@dataclass(frozen=True, slots=True, eq=False)
class ArraySpec:
    """An array of any shape, for elementwise operations."""

    shape: tuple[int, ...]
    dtype: np.dtype


@lru_cache(maxsize=_CACHE_SIZE)
def unpool_spec(input_shape: Four, output_shape: Four, dtype: np.dtype) -> UnpoolSpec:
    """The spec of scattering (N, C, P, Q) values into (N, C, H, W)."""
    return UnpoolSpec(*input_shape, *output_shape[2:], dtype)


@lru_cache(maxsize=_CACHE_SIZE)
def array_spec(shape: tuple[int, ...], dtype: np.dtype) -> ArraySpec:
    """The spec of an elementwise operation."""
    return ArraySpec(shape, dtype)


def _integer(name: str, value, least: int) -> int:
    if type(value) is not int:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        try:
            value = index(value)
        except TypeError:
            raise TypeError(
                f"{name}: expected an integer, got {type(value).__name__} {value!r}"
            ) from None
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    if value >= _LIMIT:
        raise ValueError(f"{name}: expected less than 2**31, got {value}")
    return value


def _finite(name: str, value) -> float:
    if isinstance(value, (bool, np.bool_, str)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {number}")
    return number


def shape_of(name: str, value, *lengths: int) -> tuple[int, ...]:
    """A shape given as a sequence of integers, of one of these lengths.

    Examples
    --------
    >>> shape_of("input_size", [1, 3, 8, 8], 4)
    (1, 3, 8, 8)
    """
    if type(value) is tuple and len(value) in lengths and all(type(n) is int for n in value):
        if min(value) >= 0:
            return value
    try:
        shape = tuple(value)
    except TypeError:
        raise TypeError(f"{name}: expected a tuple of integers, got {value!r}") from None
    if len(shape) not in lengths:
        expected = " or ".join(map(str, lengths))
        raise ValueError(f"{name}: expected {expected} sizes, got {shape}")
    return tuple(_integer(name, n, 0) for n in shape)


def pair(name: str, value, least: int = 1) -> Pair:
    """Two integers from one or two, for the vertical and the horizontal axis.

    Parameters
    ----------
    name : str
        The argument's name, for the error message.
    value : int or sequence of two int
    least : int
        Smallest allowed value.

    Examples
    --------
    >>> pair("stride", 2), pair("stride", (2, 1))
    ((2, 2), (2, 1))
    """
    if type(value) is int and least <= value < _LIMIT:
        return value, value
    if isinstance(value, (tuple, list, np.ndarray)):
        if len(value) == 1:
            value = (value[0], value[0])
        if len(value) != 2:
            raise ValueError(f"{name}: expected one integer or two, got {len(value)}: {value!r}")
        return _integer(name, value[0], least), _integer(name, value[1], least)
    both = _integer(name, value, least)
    return both, both


def _same(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> Pair:
    """Padding before and after, so that ceil(size / stride) outputs come out.

    The odd pixel goes to the end, or with `lower` to the start (ONNX's SAME_UPPER, SAME_LOWER).
    """
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def _padding(padding, extent: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Four:
    """(top, bottom, left, right) from any of the accepted forms."""
    if type(padding) is int and 0 <= padding < _LIMIT:
        return padding, padding, padding, padding
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0, 0, 0
        if padding not in _NAMED_PADDING:
            raise ValueError(
                f"padding: expected integers or one of {', '.join(_NAMED_PADDING)}, got {padding!r}"
            )
        top, bottom = _same(extent[0], kernel[0], stride[0], dilation[0], padding == "same_lower")
        left, right = _same(extent[1], kernel[1], stride[1], dilation[1], padding == "same_lower")
        return top, bottom, left, right
    if isinstance(padding, (tuple, list)) and any(
        isinstance(side, (tuple, list)) for side in padding
    ):
        if len(padding) != 2 or not all(
            isinstance(side, (tuple, list)) and len(side) == 2 for side in padding
        ):
            raise ValueError(f"padding: expected ((top, bottom), (left, right)), got {padding!r}")
        (top, bottom), (left, right) = padding
        return (
            _integer("padding", top, 0),
            _integer("padding", bottom, 0),
            _integer("padding", left, 0),
            _integer("padding", right, 0),
        )
    vertical, horizontal = pair("padding", padding, 0)
    return vertical, vertical, horizontal, horizontal


def conv_spec(
    input_shape, weight_shape, stride=1, padding=0, dilation=1, groups=1, dtype=np.float32
) -> ConvSpec:
    """The spec of a convolution.

    Parameters
    ----------
    input_shape : tuple of four int
        (N, C, H, W).
    weight_shape : tuple of four int
        (K, C/groups, R, S).
    stride, dilation : int or pair
        At least 1.
    padding : int, pair, "same", "same_lower", "valid" or ((top, bottom), (left, right))
    groups : int
        Divides C and K.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ConvSpec
        With output size ``P = (H + top + bottom - dilation_h (R - 1) - 1) // stride_h + 1`` and Q
        likewise.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> conv_spec((1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3).output_shape
    (1, 64, 112, 112)
    """
    stride = pair("stride", stride)
    dilation = pair("dilation", dilation)
    groups = _integer("groups", groups, 1)
    if len(input_shape) != 4:
        raise ValueError(f"input: expected shape (N, C, H, W), got {tuple(input_shape)}")
    if len(weight_shape) != 4:
        raise ValueError(f"weight: expected shape (K, C/groups, R, S), got {tuple(weight_shape)}")
    padding = _padding(padding, input_shape[2:], weight_shape[2:], stride, dilation)
    return _conv_spec(
        tuple(input_shape), tuple(weight_shape), stride, padding, dilation, groups, np.dtype(dtype)
    )


@lru_cache(maxsize=_CACHE_SIZE)
def _conv_spec(input_shape, weight_shape, stride, padding, dilation, groups, dtype) -> ConvSpec:
    N, C, H, W = input_shape
    K, c, R, S = weight_shape
    if C < 1 or H < 1 or W < 1:
        raise ValueError(f"input: expected C, H and W of at least 1, got shape {input_shape}")
    if K < 1 or R < 1 or S < 1:
        raise ValueError(f"weight: expected K, R and S of at least 1, got shape {weight_shape}")
    if C % groups or K % groups:
        raise ValueError(
            f"groups: expected a divisor of the {C} input and {K} output channels, got {groups}"
        )
    if c != C // groups:
        raise ValueError(
            f"weight: expected {C // groups} input channels (input has {C}, groups {groups}), "
            f"got shape {weight_shape}"
        )
    top, bottom, left, right = padding
    P = (H + top + bottom - dilation[0] * (R - 1) - 1) // stride[0] + 1
    Q = (W + left + right - dilation[1] * (S - 1) - 1) // stride[1] + 1
    if P < 1 or Q < 1:
        raise ValueError(
            f"weight: a {R}x{S} kernel (dilation {dilation}) does not fit the padded input of "
            f"{H + top + bottom}x{W + left + right}; the output would be {max(P, 0)}x{max(Q, 0)}"
        )
    geometry = (N, C, H, W, K, R, S, *stride, top, left, *dilation, groups, P, Q)
    return ConvSpec(N, C, H, W, K, R, S, stride, padding, dilation, groups, P, Q, dtype, geometry)


def conv_transpose_spec(
    input_shape,
    weight_shape,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    dtype=np.float32,
) -> ConvSpec:
    """The spec of the convolution whose transpose maps `input_shape` to that convolution's input.

    Parameters
    ----------
    input_shape : tuple of four int
        (N, C, H, W).
    weight_shape : tuple of four int
        (C, K/groups, R, S).
    stride, dilation : int or pair
    padding : int, pair or ((top, bottom), (left, right))
        Pixels that are cropped from the output.
    output_padding : int or pair
        Pixels added at the output's end; smaller than the stride or the dilation.
    groups : int
    dtype : dtype

    Returns
    -------
    ConvSpec
        Its input is the transpose's output, of
        ``H' = (H - 1) stride - top - bottom + dilation (R - 1) + output_padding + 1`` rows; its P
        and Q are H and W, or more where `output_padding` reaches the stride.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> conv_transpose_spec((1, 8, 5, 5), (8, 3, 4, 4), stride=2, padding=1).input_shape
    (1, 3, 10, 10)
    """
    stride = pair("stride", stride)
    dilation = pair("dilation", dilation)
    extra = pair("output_padding", output_padding, 0)
    groups = _integer("groups", groups, 1)
    if len(input_shape) != 4:
        raise ValueError(f"input: expected shape (N, C, H, W), got {tuple(input_shape)}")
    if len(weight_shape) != 4:
        raise ValueError(f"weight: expected shape (C, K/groups, R, S), got {tuple(weight_shape)}")
    if isinstance(padding, str):
        raise TypeError(f"padding: expected integers, got {padding!r}")
    N, C, *extent = input_shape
    filters, k, *kernel = weight_shape
    padding = _padding(padding, extent, kernel, stride, dilation)
    if C < 1 or min(extent) < 1:
        raise ValueError(
            f"input: expected C, H and W of at least 1, got shape {tuple(input_shape)}"
        )
    if filters != C or k < 1 or min(kernel) < 1:
        raise ValueError(
            f"weight: expected shape (C, K/groups, R, S) with the input's C = {C} and nothing "
            f"empty, got {tuple(weight_shape)}"
        )
    if C % groups:
        raise ValueError(f"groups: expected a divisor of the {C} input channels, got {groups}")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding: expected less than the stride {stride} or the dilation {dilation}, "
            f"got {extra}"
        )
    size = tuple(
        (n - 1) * s - before - after + d * (r - 1) + e + 1
        for n, s, before, after, d, r, e in zip(
            extent, stride, padding[::2], padding[1::2], dilation, kernel, extra, strict=True
        )
    )
    if min(size) < 1:
        raise ValueError(
            f"padding: (top, bottom, left, right) = {padding} crops everything: the output would "
            f"be {max(size[0], 0)}x{max(size[1], 0)}"
        )
    return _conv_spec(
        (N, k * groups, *size),
        tuple(weight_shape),
        stride,
        padding,
        dilation,
        groups,
        np.dtype(dtype),
    )


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """A convolution, its activation and a pooling whose windows do not overlap.

    Attributes
    ----------
    conv : ConvSpec
    activation : {None, "relu", "sigmoid", "tanh"}
    pool : {"avg", "max"}
    window : tuple of int
        Rows and columns of a window; (1, 1) is no pooling.
    """

    conv: ConvSpec
    activation: str | None
    pool: str
    window: Pair

    @property
    def output_shape(self) -> Four:
        """(N, K, P // window rows, Q // window columns)."""
        conv = self.conv
        return conv.N, conv.K, conv.P // self.window[0], conv.Q // self.window[1]


def pool_spec(
    input_shape,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    dtype=np.float32,
    count_include_pad=True,
    divisor_override=None,
    beta=1.0,
) -> PoolSpec:
    """The spec of a pooling.

    Parameters
    ----------
    input_shape : tuple of four int
        (N, C, H, W).
    kernel_size : int or pair
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int, pair, "valid", "same", "same_lower" or ((top, bottom), (left, right))
        Numbers: at most half the kernel.
    dilation : int or pair
    ceil_mode : bool
        Round the output size up; a window that would start beyond input and left padding is
        dropped.
    dtype : dtype
    count_include_pad : bool
    divisor_override : int, optional
    beta : float

    Returns
    -------
    PoolSpec

    Examples
    --------
    >>> pool_spec((1, 1, 4, 4), 3, stride=2, padding=1, ceil_mode=True).output_shape
    (1, 1, 3, 3)
    """
    if len(input_shape) != 4:
        raise ValueError(f"input: expected shape (N, C, H, W), got {tuple(input_shape)}")
    kernel = pair("kernel_size", kernel_size)
    stride = kernel if stride is None else pair("stride", stride)
    dilation = pair("dilation", dilation)
    named = isinstance(padding, str)
    padding = _padding(padding, input_shape[2:], kernel, stride, dilation)
    if not named and (max(padding[:2]) > kernel[0] // 2 or max(padding[2:]) > kernel[1] // 2):
        raise ValueError(
            f"padding: expected at most half the {kernel[0]}x{kernel[1]} kernel, "
            f"got (top, bottom, left, right) = {padding}"
        )
    if divisor_override is not None:
        divisor_override = _integer("divisor_override", divisor_override, -_LIMIT)
        if divisor_override == 0:
            raise ValueError("divisor_override: expected a number other than 0, got 0")
    return _pool_spec(
        tuple(input_shape),
        kernel,
        stride,
        padding,
        dilation,
        bool(ceil_mode),
        np.dtype(dtype),
        bool(count_include_pad),
        divisor_override,
        _finite("beta", beta),
    )


def _pooled_size(size, kernel, stride, before, after, dilation, ceil_mode) -> int:
    room = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    # rounding up lets a window into an input that is up to stride - 1 too small for it
    count = -(-room // stride) + 1
    # PyTorch: the last window has to start inside the input or its left padding
    return count - 1 if (count - 1) * stride >= size + before else count


def _each_sees_a_pixel(size, kernel, stride, before, dilation, outputs) -> bool:
    """Whether every window holds a pixel of the input: only dilated ones can miss it."""
    return dilation == 1 or all(
        any(0 <= p * stride + r * dilation - before < size for r in range(kernel))
        for p in range(outputs)
    )


def _window_counts(size, kernel, stride, before, after, outputs, include_pad) -> tuple[int, ...]:
    """Pixels that count in each window along one axis; beyond the padding none does."""
    counts = []
    for p in range(outputs):
        start = p * stride - before
        end = min(start + kernel, size + after)
        if not include_pad:
            start, end = max(start, 0), min(end, size)
        counts.append(end - start)
    return tuple(counts)


@lru_cache(maxsize=_CACHE_SIZE)
def _pool_spec(
    input_shape,
    kernel,
    stride,
    padding,
    dilation,
    ceil_mode,
    dtype,
    count_include_pad,
    divisor_override,
    beta,
) -> PoolSpec:
    N, C, H, W = input_shape
    R, S = kernel
    top, bottom, left, right = padding
    if C < 1 or H < 1 or W < 1:
        raise ValueError(f"input: expected C, H and W of at least 1, got shape {input_shape}")
    P = _pooled_size(H, R, stride[0], top, bottom, dilation[0], ceil_mode)
    Q = _pooled_size(W, S, stride[1], left, right, dilation[1], ceil_mode)
    if P < 1 or Q < 1:
        raise ValueError(
            f"kernel_size: a {R}x{S} window (dilation {dilation}) does not fit the padded input of "
            f"{H + top + bottom}x{W + left + right}; the output would be {max(P, 0)}x{max(Q, 0)}"
        )
    if not (
        _each_sees_a_pixel(H, R, stride[0], top, dilation[0], P)
        and _each_sees_a_pixel(W, S, stride[1], left, dilation[1], Q)
    ):
        raise ValueError(
            f"padding: with dilation {dilation} some {R}x{S} windows would hold no pixel of the "
            f"{H}x{W} input, got (top, bottom, left, right) = {padding}"
        )
    return PoolSpec(
        N,
        C,
        H,
        W,
        R,
        S,
        stride,
        padding,
        dilation,
        P,
        Q,
        dtype,
        ceil_mode,
        count_include_pad,
        divisor_override,
        _window_counts(H, R, stride[0], top, bottom, P, count_include_pad),
        _window_counts(W, S, stride[1], left, right, Q, count_include_pad),
        (N, C, H, W, R, S, *stride, top, left, *dilation, P, Q),
        beta,
    )
