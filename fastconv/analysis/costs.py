"""What convolution and pooling cost: arithmetic, traffic and memory, forward and backward.

Counting rules. Every window counts in full, also where it reaches into the padding: that is how the
literature counts. A sum of n terms takes n - 1 additions; a subtraction is an addition, a division
a multiplication, and an exponential is counted apart. Traffic is what has to move at least, each
array once, and what a method moves beyond that. One multiplication and one addition are two FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from fastconv.spec import ConvSpec, conv_spec, pool_spec, shape_of

__all__ = [
    "ConvCost",
    "Doubling",
    "DoublingRow",
    "PassCost",
    "PoolCost",
    "conv2d_cost",
    "doubling",
    "pool2d_cost",
]


@dataclass(frozen=True, slots=True)
class PassCost:
    """One pass over the data.

    Attributes
    ----------
    multiplications, additions, comparisons : int
    bytes_read, bytes_written : int
    arrays : int
        Bytes of what the pass takes and makes.
    workspace : int
        Bytes that the method holds beside them while it runs.
    exponentials : int
    """

    multiplications: int = 0
    additions: int = 0
    comparisons: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    arrays: int = 0
    workspace: int = 0
    exponentials: int = 0

    @property
    def flops(self) -> int:
        """Multiplications, additions and comparisons; no exponentials."""
        return self.multiplications + self.additions + self.comparisons

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written

    @property
    def memory(self) -> int:
        """Bytes alive during the pass: arrays and workspace."""
        return self.arrays + self.workspace


@dataclass(frozen=True, slots=True)
class ConvCost:
    """What `conv2d_cost` returns; ``str`` is a table.

    Attributes
    ----------
    method : str
    input_shape, weight_shape, output_shape : tuple of int
    dtype : dtype
    parameters : int
        Weights and biases.
    held_for_backward : int
        Bytes that have to stay between the forward and the backward pass: the input, which the
        weight's gradient needs. (The weight stays anyway; the output is not needed.)
    forward, grad_input, grad_weight : PassCost
    grad_bias : PassCost or None
    """

    method: str
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: np.dtype
    parameters: int
    held_for_backward: int
    forward: PassCost
    grad_input: PassCost
    grad_weight: PassCost
    grad_bias: PassCost | None

    @property
    def backward(self) -> PassCost:
        """All of the backward pass: the sums of its parts, and the memory of them together."""
        passes = [p for p in (self.grad_input, self.grad_weight, self.grad_bias) if p is not None]
        total = {f.name: sum(getattr(p, f.name) for p in passes) for f in fields(PassCost)}
        gradients = self.parameters * self.dtype.itemsize
        # input, weight and output's gradient; the gradients of input, weight and bias
        weight = int(np.prod(self.weight_shape)) * self.dtype.itemsize
        output = int(np.prod(self.output_shape)) * self.dtype.itemsize
        total["arrays"] = 2 * self.held_for_backward + weight + gradients + output
        total["workspace"] = max(p.workspace for p in passes)
        return PassCost(**total)

    def __str__(self) -> str:
        lines = [
            f"conv2d {self.method}: input {self.input_shape}, weight {self.weight_shape}, "
            f"output {self.output_shape}, {self.dtype}",
            f"parameters: {self.parameters:,}; held for backward: {self.held_for_backward:,} bytes",
        ]
        named = (
            ("forward", self.forward),
            ("grad of input", self.grad_input),
            ("grad of weight", self.grad_weight),
            ("grad of bias", self.grad_bias),
            ("backward", self.backward),
        )
        return "\n".join(lines + _pass_table([(n, p) for n, p in named if p is not None]))


@dataclass(frozen=True, slots=True)
class PoolCost:
    """What `pool2d_cost` returns; ``str`` is a table.

    Attributes
    ----------
    kind : str
    input_shape, output_shape : tuple of int
    dtype : dtype
    held_for_backward : int
        Bytes: the positions of the maxima, or of the minima; for "softmax" the input; an average
        needs nothing but the shapes.
    forward, backward : PassCost
    """

    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: np.dtype
    held_for_backward: int
    forward: PassCost
    backward: PassCost

    #: Pooling learns nothing.
    parameters = 0

    def __str__(self) -> str:
        lines = [
            f"{self.kind} pooling: input {self.input_shape}, output {self.output_shape}, "
            f"{self.dtype}",
            f"parameters: 0; held for backward: {self.held_for_backward:,} bytes",
        ]
        return "\n".join(
            lines + _pass_table([("forward", self.forward), ("backward", self.backward)])
        )


def _table(rows) -> list[str]:
    """Lines of columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _pass_table(passes) -> list[str]:
    names = (
        "multiplications",
        "additions",
        "comparisons",
        "exponentials",
        "bytes_read",
        "bytes_written",
        "memory",
    )
    used = [n for n in names if any(getattr(p, n) for _, p in passes)]
    rows = [("", *(n.replace("_", " ") for n in used))]
    rows += [(name, *(f"{getattr(p, n):,}" for n in used)) for name, p in passes]
    return _table(rows)


@dataclass(frozen=True, slots=True)
class _Method:
    """A way to compute a convolution, as far as its costs go.

    `supports(spec)` is None or the reason why not; `multiplied(spec, products)` the multiplications
    that it takes for so many products; `scratch(spec)` the elements of what it builds for one
    image, which is written once and read once for each image, in each pass.
    """

    supports: Callable[[ConvSpec], str | None]
    multiplied: Callable[[ConvSpec, int], int]
    scratch: Callable[[ConvSpec], int]


def _always(spec):
    return None


def _each(spec, products):
    return products


def _nothing(spec):
    return 0


def _patches(spec):
    return spec.C * spec.R * spec.S * spec.P * spec.Q


def _one_by_one(spec):
    if (spec.R, spec.S) != (1, 1) or any(spec.padding):
        return f"it takes 1x1 kernels without padding, got {spec.R}x{spec.S} and {spec.padding}"
    return None


def _one_channel(spec):
    if spec.C != spec.groups:
        return f"it takes one input channel in a group, got {spec.C // spec.groups}"
    return None


_METHODS = {
    "direct": _Method(_always, _each, _nothing),
    "im2col": _Method(_always, _each, _patches),
    "pointwise": _Method(_one_by_one, _each, _nothing),
    "depthwise": _Method(_one_channel, _each, _nothing),
}


def _images(input_shape) -> tuple[int, ...]:
    shape = shape_of("input_shape", input_shape, 3, 4)
    if len(shape) == 4 and shape[0] < 1:
        raise ValueError(f"input_shape: expected at least one image, got {shape}")
    return shape if len(shape) == 4 else (1, *shape)


def _real(dtype) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected a dtype, got {dtype!r}") from None
    if found.kind not in "fiub":
        raise TypeError(f"dtype: expected real numbers, got {dtype!r}")
    return found


def _touched(outputs, stride, taps, dilation) -> int:
    """Positions along one axis, padding included, that some window covers."""
    places = np.add.outer(np.arange(outputs) * stride, np.arange(taps) * dilation)
    return len(np.unique(places))


def conv2d_cost(
    input_shape,
    weight_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    bias=False,
    method="direct",
    dtype=np.float32,
) -> ConvCost:
    """Arithmetic, traffic and memory of a convolution, forward and backward.

    With ``M = N K P Q (C / groups) R S`` products:

    - Forward: M multiplications. Each output is a sum of ``(C / groups) R S`` products, one
      addition fewer than that, one more with a bias.
    - Gradient of the input: M multiplications, each product added to one of the pixels; the first
      that arrives at a pixel (of the padded image) is no addition.
    - Gradient of the weight: M multiplications; each of the ``K (C / groups) R S`` weights is a sum
      of ``N P Q`` products. So the backward pass is about twice the forward pass.
    - Gradient of the bias: ``K (N P Q - 1)`` additions.
    - Traffic: each pass reads its two operands and writes its result, once. "im2col" also writes
      and reads the matrix of patches, ``C R S x P Q`` an image, which is its workspace. (That is
      the textbook's form, with one image's patches at a time; fastconv's own packs a few rows at a
      time and leaves them in the cache.)
    - Memory of a forward pass: input, weight, output, workspace; of the backward pass: input,
      weight, gradient of the output, and a gradient for each of the first two.

    A 1x1 kernel costs ``N K H W C`` multiplications: linear in the pixels, quadratic in the
    channels.

    Parameters
    ----------
    input_shape : tuple of int
        (N, C, H, W) or (C, H, W).
    weight_shape : tuple of int
        (K, C / groups, R, S).
    stride, padding, dilation, groups
        As in `fastconv.conv2d`.
    bias : bool
    method : {"direct", "im2col", "pointwise", "depthwise"}
    dtype : dtype
        Of all arrays.

    Returns
    -------
    ConvCost

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    Zhang et al., *Dive into Deep Learning*, exercises of the section on channels. Vivienne Sze et
    al., "Efficient processing of deep neural networks", Proceedings of the IEEE, 2017
    (arXiv:1703.09039), sections 2 and 4. For im2col: Chellapilla, Puri and Simard, "High
    performance convolutional neural networks for document processing", 2006.

    Examples
    --------
    >>> cost = conv2d_cost((1, 28, 28), (6, 1, 5, 5), padding=2, bias=True)
    >>> cost.forward.multiplications, cost.parameters, cost.held_for_backward
    (117600, 156, 3136)
    >>> print(cost)
    conv2d direct: input (1, 1, 28, 28), weight (6, 1, 5, 5), output (1, 6, 28, 28), float32
    parameters: 156; held for backward: 3,136 bytes
                    multiplications  additions  bytes read  bytes written  memory
    forward                 117,600    117,600       3,760         18,816  22,576
    grad of input           117,600    116,576      19,416          3,136  22,552
    grad of weight          117,600    117,450      21,952            600  22,552
    grad of bias                  0      4,698      18,816             24  18,840
    backward                235,200    238,724      60,184          3,760  26,312
    """
    shape, dtype = _images(input_shape), _real(dtype)
    weight_shape = shape_of("weight_shape", weight_shape, 4)
    spec = conv_spec(shape, weight_shape, stride, padding, dilation, groups, dtype)
    if method not in _METHODS:
        raise ValueError(f"method: expected one of {', '.join(_METHODS)}, got {method!r}")
    how = _METHODS[method]
    if (reason := how.supports(spec)) is not None:
        raise ValueError(f"method: {method!r} cannot serve this convolution: {reason}")
    item = spec.dtype.itemsize
    N, C, H, W = spec.input_shape
    K, c, R, S = spec.weight_shape
    outputs = N * K * spec.P * spec.Q
    x, w, y = N * C * H * W * item, K * c * R * S * item, outputs * item
    b = K * item if bias else 0
    products = outputs * c * R * S
    scratch = how.scratch(spec) * item

    def a_pass(additions, read, written):
        return PassCost(
            how.multiplied(spec, products),
            additions,
            0,
            read + N * scratch,
            written + N * scratch,
            read + written,
            scratch,
        )

    rows = _touched(spec.P, spec.stride[0], R, spec.dilation[0])
    columns = _touched(spec.Q, spec.stride[1], S, spec.dilation[1])
    return ConvCost(
        method,
        spec.input_shape,
        spec.weight_shape,
        spec.output_shape,
        spec.dtype,
        K * c * R * S + (K if bias else 0),
        x,
        a_pass(products - outputs + (outputs if bias else 0), x + w + b, y),
        a_pass(products - N * C * rows * columns, w + y, x),
        a_pass(products - K * c * R * S, x + y, w),
        PassCost(0, outputs - K, 0, y, b, y + b) if bias else None,
    )


def _maximum(spec, item, indexed):
    outputs = spec.N * spec.C * spec.P * spec.Q
    x, y, places = _pool_bytes(spec, item)
    # where windows are apart no pixel wins twice; else it depends on the image: this is the most
    apart = all(
        s >= d * (n - 1) + 1
        for s, d, n in zip(spec.stride, spec.dilation, (spec.R, spec.S), strict=True)
    )
    forward = PassCost(
        comparisons=outputs * (spec.R * spec.S - 1),
        bytes_read=x,
        bytes_written=y + indexed * places,
        arrays=x + y + indexed * places,
    )
    backward = PassCost(
        additions=0 if apart else outputs,
        bytes_read=y + places,
        bytes_written=x,
        arrays=x + y + places,
    )
    return forward, backward, places


def _average(spec, item, indexed):
    outputs = spec.N * spec.C * spec.P * spec.Q
    x, y, _ = _pool_bytes(spec, item)
    covered = _touched(spec.P, spec.stride[0], spec.R, 1) * _touched(
        spec.Q, spec.stride[1], spec.S, 1
    )
    forward = PassCost(
        multiplications=outputs,
        additions=outputs * (spec.R * spec.S - 1),
        bytes_read=x,
        bytes_written=y,
        arrays=x + y,
    )
    backward = PassCost(
        multiplications=outputs,
        additions=outputs * spec.R * spec.S - spec.N * spec.C * covered,
        bytes_read=y,
        bytes_written=x,
        arrays=x + y,
    )
    return forward, backward, 0


def _softmax(spec, item, indexed):
    outputs, taps = spec.N * spec.C * spec.P * spec.Q, spec.R * spec.S
    x, y, _ = _pool_bytes(spec, item)
    covered = _touched(spec.P, spec.stride[0], spec.R, 1) * _touched(
        spec.Q, spec.stride[1], spec.S, 1
    )
    forward = PassCost(
        multiplications=outputs * (2 * taps + 1),
        additions=outputs * (3 * taps - 2),
        comparisons=outputs * (taps - 1),
        exponentials=outputs * taps,
        bytes_read=x,
        bytes_written=y,
        arrays=x + y,
    )
    backward = PassCost(
        multiplications=outputs * (5 * taps + 2),
        additions=outputs * (6 * taps - 2) - spec.N * spec.C * covered,
        comparisons=outputs * (taps - 1),
        exponentials=outputs * taps,
        bytes_read=x + y,
        bytes_written=x,
        arrays=2 * x + y,
    )
    return forward, backward, x


def _pool_bytes(spec, item):
    """Bytes of input, output and the positions of its maxima (int64)."""
    outputs = spec.N * spec.C * spec.P * spec.Q
    return spec.N * spec.C * spec.H * spec.W * item, outputs * item, outputs * 8


_POOLS = {"max": _maximum, "min": _maximum, "avg": _average, "softmax": _softmax}


def pool2d_cost(
    input_shape,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    *,
    kind="max",
    training=True,
    dtype=np.float32,
) -> PoolCost:
    """Arithmetic, traffic and memory of a pooling, forward and backward.

    With ``N C P Q`` outputs of ``R S`` pixels each:

    - Maximum and minimum: ``R S - 1`` comparisons an output. Training keeps the position of each
      maximum (an int64), and the backward pass puts each gradient there: no arithmetic, unless
      windows overlap and a pixel wins more than once (then at most one addition an output).
    - Average: ``R S - 1`` additions and one multiplication by ``1 / (R S)`` an output; backward one
      multiplication an output, and ``R S`` times its value goes to a pixel, where the first to
      arrive is no addition. Nothing is kept.
    - Softmax, of ``n = R S`` pixels x with largest m (with a negative beta: smallest) and
      ``e = exp(beta (x - m))``: ``n - 1`` comparisons for m; n subtractions, n multiplications by
      beta and n exponentials for the e; ``n - 1`` additions for their sum t; n multiplications and
      ``n - 1`` additions for the sum of ``x e``; one division. That is ``2 n + 1``
      multiplications and ``3 n - 2`` additions an output. Backward from the input, which is kept,
      all of that again; then one division ``dy / t``, for a pixel ``e dy / t (1 + beta (x - y))``,
      3 multiplications and 2 additions, and the sum at the pixel as for an average: ``5 n + 2``
      multiplications and, those sums apart, ``5 n - 2`` additions an output.

    Padding adds windows, ``(H + top + bottom - R) // stride + 1`` rows of them; a stride of s in
    both directions divides their number by about ``s^2``.

    Parameters
    ----------
    input_shape : tuple of int
        (N, C, H, W) or (C, H, W).
    kernel_size, stride, padding, dilation, ceil_mode
        As in `fastconv.max_pool2d`; an average has no dilation, "softmax" no `ceil_mode` either.
    kind : {"max", "min", "avg", "softmax"}
    training : bool
        Whether the forward pass of a maximum also writes the positions.
    dtype : dtype

    Returns
    -------
    PoolCost

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    Zhang et al., *Dive into Deep Learning*, exercises of the section on pooling.

    Examples
    --------
    >>> print(pool2d_cost((6, 28, 28), 2))
    max pooling: input (1, 6, 28, 28), output (1, 6, 14, 14), float32
    parameters: 0; held for backward: 9,408 bytes
              comparisons  bytes read  bytes written  memory
    forward         3,528      18,816         14,112  32,928
    backward            0      14,112         18,816  32,928
    """
    shape, dtype = _images(input_shape), _real(dtype)
    spec = pool_spec(shape, kernel_size, stride, padding, dilation, ceil_mode, dtype)
    if kind not in _POOLS:
        raise ValueError(f"kind: expected one of {', '.join(_POOLS)}, got {kind!r}")
    if kind in ("avg", "softmax") and spec.dilation != (1, 1):
        raise ValueError(f"dilation: expected 1 for kind {kind!r}, got {dilation!r}")
    if kind == "softmax" and ceil_mode:
        raise ValueError(f"ceil_mode: expected False for kind 'softmax', got {ceil_mode!r}")
    forward, backward, held = _POOLS[kind](spec, spec.dtype.itemsize, bool(training))
    return PoolCost(kind, spec.input_shape, spec.output_shape, spec.dtype, held, forward, backward)


@dataclass(frozen=True, slots=True)
class DoublingRow:
    """By what each cost is multiplied when one thing is doubled.

    Attributes
    ----------
    doubled : str
    multiplications : float
        Of the forward pass; of the backward pass it is the same.
    parameters, output, bytes, held_for_backward : float
        Bytes: of the forward pass.
    """

    doubled: str
    multiplications: float
    parameters: float
    output: float
    bytes: float
    held_for_backward: float


@dataclass(frozen=True, slots=True)
class Doubling:
    """What `doubling` returns; ``str`` is a table.

    Attributes
    ----------
    cost : ConvCost
        Of the layer as it is.
    rows : tuple of DoublingRow
    left_out : tuple of (str, str)
        What cannot be doubled here, and why.
    """

    cost: ConvCost
    rows: tuple[DoublingRow, ...]
    left_out: tuple[tuple[str, str], ...]

    def __iter__(self):
        return iter(self.rows)

    def __getitem__(self, doubled: str) -> DoublingRow:
        for row in self.rows:
            if row.doubled == doubled:
                return row
        known = ", ".join(row.doubled for row in self.rows)
        raise KeyError(f"doubled: expected one of {known}, got {doubled!r}")

    def __str__(self) -> str:
        names = [f.name for f in fields(DoublingRow)]
        cells = [(names[0], *(n.replace("_", " ") for n in names[1:]))]
        cells += [
            (row.doubled, *(f"{getattr(row, n):.3g}x" for n in names[1:])) for row in self.rows
        ]
        return "\n".join(_table(cells) + [f"not {what}: {why}" for what, why in self.left_out])


def doubling(
    input_shape,
    weight_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    bias=False,
    method="direct",
    dtype=np.float32,
) -> Doubling:
    """What doubling the channels, the kernel, the stride, the padding or the image does to a layer.

    Each row is `conv2d_cost` of the changed layer over that of the layer as it is. The channels
    are exact factors: twice the input or the output channels, twice the work; both, four times. A
    kernel of twice the height and width is about four times the work, a stride of two a quarter;
    borders make these a little less or more. Doubling the padding adds only a rim.

    Parameters
    ----------
    input_shape, weight_shape, stride, padding, dilation, groups, bias, method, dtype
        As in `conv2d_cost`.

    Returns
    -------
    Doubling

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> print(doubling((16, 32, 32), (16, 16, 3, 3), padding=1))
    doubled          multiplications  parameters  output  bytes  held for backward
    input channels                2x          2x      1x  1.53x                 2x
    output channels               2x          2x      2x  1.53x                 1x
    both channels                 4x          4x      2x  2.13x                 2x
    kernel                     3.29x          4x  0.821x  1.11x                 1x
    stride                     0.25x          1x   0.25x  0.65x                 1x
    padding                    1.13x          1x   1.13x  1.06x                 1x
    image                         4x          1x      4x   3.8x                 4x
    batch                         2x          1x      2x  1.93x                 2x
    """
    settings = {"bias": bias, "method": method, "dtype": dtype}
    base = conv2d_cost(input_shape, weight_shape, stride, padding, dilation, groups, **settings)
    (N, C, H, W), (K, c, R, S) = base.input_shape, base.weight_shape
    spec = conv_spec(base.input_shape, base.weight_shape, stride, padding, dilation, groups, dtype)
    named = isinstance(padding, str)
    top, bottom, left, right = (2 * n for n in spec.padding)
    twice = tuple(2 * s for s in spec.stride)
    x, w = base.input_shape, base.weight_shape
    changes = {
        "input channels": ((N, 2 * C, H, W), (K, 2 * c, R, S), stride, padding),
        "output channels": (x, (2 * K, c, R, S), stride, padding),
        "both channels": ((N, 2 * C, H, W), (2 * K, 2 * c, R, S), stride, padding),
        "kernel": (x, (K, c, 2 * R, 2 * S), stride, padding),
        "stride": (x, w, twice, padding),
        "padding": (x, w, stride, ((top, bottom), (left, right))),
        "image": ((N, C, 2 * H, 2 * W), w, stride, padding),
        "batch": ((2 * N, C, H, W), w, stride, padding),
    }
    rows, left_out = [], []
    for what, change in changes.items():
        if what == "padding" and named:
            left_out.append((what, f"{padding!r} follows from the kernel"))
            continue
        try:
            cost = conv2d_cost(*change, dilation, groups, **settings)
        except ValueError as error:  # the kernel outgrows the image, or the method
            left_out.append((what, str(error)))
            continue
        rows.append(
            DoublingRow(
                what,
                cost.forward.multiplications / base.forward.multiplications,
                cost.parameters / base.parameters,
                int(np.prod(cost.output_shape)) / int(np.prod(base.output_shape)),
                cost.forward.bytes / base.forward.bytes,
                cost.held_for_backward / base.held_for_backward,
            )
        )
    return Doubling(base, tuple(rows), tuple(left_out))
