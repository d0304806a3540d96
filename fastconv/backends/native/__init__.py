"""The native backend: Cython drivers over the C kernels of csrc/.

`ROWS` lists what it offers; the cost functions beside them are rough counts of vector operations,
good enough to choose among the methods of this backend.
"""

import math
import os
from importlib import import_module

import numpy as np

from fastconv import config
from fastconv._threads import usable
from fastconv.backends.native import _winograd
from fastconv.registry import Impl


def _drivers():
    """The extension modules, loaded with OpenMP threads that sleep between calls.

    libgomp reads its settings when it is loaded. By default its threads spin for milliseconds at
    the end of a call, against BLAS's threads or another process: a training step on two busy cores
    took ten times as long. Waking a sleeping thread costs some microseconds.
    """
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    unset = not any(name in os.environ for name in names)
    if unset:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        return [import_module(f"{__name__}.{name}") for name in ("_conv", "_dispatch", "_planes")]
    finally:
        if unset:
            del os.environ["OMP_WAIT_POLICY"]


_conv, _dispatch, _planes = _drivers()
available_isas, compiler, isa_names = (
    _dispatch.available_isas,
    _dispatch.compiler,
    _dispatch.isa_names,
)

__all__ = ["ROWS", "available_isas", "compiler", "isa_names", "openmp_runtime", "tiles"]

# numbers that the drivers know the methods and activations by
METHODS = {"direct": 0, "im2col": 1, "pointwise": 2}
ACTIVATIONS = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3}

ISA_INDEX = {name: i for i, name in enumerate(isa_names())}
BEST_ISA = available_isas()[0]

# vector operations that bringing one vector of patches, or one short row of them, costs
PACK_VECTOR, PACK_ROW = 6, 15
# vector operations that staging a vector of a plane costs
STAGE_VECTOR = 2
# vector operations that a tap of a plane's tile costs, with its share of the loads
PLANE_TAP = 1.2
# vector operations that loading a vector of inputs costs a register tile, shared by its rows
TILE_LOAD = 2
# what images in the lanes lose to bringing them in and out
LANES_EFFICIENCY = 0.9


def openmp_runtime():
    """OpenMP support compiled into the drivers, e.g. ``'OpenMP 201511'``, or ``'none'``."""
    version = _dispatch.openmp_version()
    return f"OpenMP {version}" if version else "none"


def tiles(isa=None):
    """Register-tile sizes of an ISA (by default the one in use).

    Parameters
    ----------
    isa : str, optional
        A name out of `isa_names()`.

    Returns
    -------
    dict
        For "float32" and "float64": lanes of a vector, rows `m` (output channels) and vectors `v`
        (output pixels) of the register tile.

    Examples
    --------
    >>> tiles("portable")["float32"]["lanes"]
    4
    """
    return _dispatch.tiles(ISA_INDEX[isa or config.current().isa or BEST_ISA])


def _how():
    """Index of the ISA and number of threads for the call at hand."""
    settings = config.current()
    return ISA_INDEX[settings.isa or BEST_ISA], usable(settings.num_threads)


def _conv2d(number):
    def run(spec, input, weight, bias, out, activation):
        _conv.conv2d(
            spec.geometry, input, weight, bias, out, ACTIVATIONS[activation], number, *_how()
        )

    return run


def _conv2d_input(number):
    def run(spec, grad_output, weight, out):
        _conv.conv2d_input(spec.geometry, grad_output, weight, out, number, *_how())

    return run


def _conv2d_weight(number):
    def run(spec, input, grad_output, out):
        _conv.conv2d_weight(spec.geometry, input, grad_output, out, number, *_how())

    return run


def _depthwise(spec, input, weight, bias, out, activation):
    _conv.depthwise(spec.geometry, input, weight, bias, out, ACTIVATIONS[activation], *_how())


def _depthwise_input(spec, grad_output, weight, out):
    rows, cols = spec.stride
    residues = [weight[:, :, a::rows, b::cols] for a in range(rows) for b in range(cols)]
    parts = np.concatenate([part[:, :, ::-1, ::-1].ravel() for part in residues])
    _conv.depthwise_input(spec.geometry, grad_output, parts, out, *_how())


def _one_channel(spec):
    """Why a convolution does not go plane by plane."""
    if spec.C != spec.groups:
        return f"a group has {spec.C // spec.groups} input channels, not 1"
    if spec.dilation != (1, 1):
        return f"the dilation is {spec.dilation}, not 1"
    return None


def _one_filter(spec):
    """Why its gradient with respect to the input does not."""
    if spec.K != spec.groups:
        return f"a channel has {spec.K // spec.groups} filters, not 1"
    return _one_channel(spec)


def _everything(spec):
    return None


def _one_by_one(spec):
    if (spec.R, spec.S) != (1, 1):
        return f"the kernel is {spec.R}x{spec.S}, not 1x1"
    if any(spec.padding):
        return f"the padding is {spec.padding}, not 0"
    return None


def _vectors(n, lanes):
    return -(-n // lanes)


def _lanes(spec):
    return tiles()[spec.dtype.name]["lanes"]


def _is_plain(spec):
    """A 1x1 kernel that leaves the plane as it is: the plane is then one long row."""
    return _one_by_one(spec) is None and spec.stride == (1, 1)


def _row_vectors(spec, lanes, rows, cols):
    return _vectors(rows * cols, lanes) if _is_plain(spec) else rows * _vectors(cols, lanes)


def _rows_cost(spec, lanes, rows, cols):
    return spec.N * _row_vectors(spec, lanes, rows, cols)


def _direct_cost(spec, lanes, rows, cols):
    by_image = _vectors(spec.N, lanes) * rows * cols / LANES_EFFICIENCY
    return min(_rows_cost(spec, lanes, rows, cols), by_image)


def _cost(method, taken_from, made):
    """Vector operations of `method` for an op that makes `made` channels from `taken_from`.

    `made` and `taken_from` are functions of the spec; the gradient with respect to the input makes
    the input's channels and plane.
    """

    def cost(spec):
        tile = tiles()[spec.dtype.name]
        lanes = tile["lanes"]
        channels, rows, cols = made(spec)
        depth = taken_from(spec) // spec.groups * spec.R * spec.S
        # a group with few output channels leaves rows of the tile empty
        height = max(1, min(channels // spec.groups, tile["m"]))
        products = channels * (1 + TILE_LOAD / height) / (1 + TILE_LOAD / tile["m"])
        if method == "im2col":
            vectors = _vectors(rows * cols, lanes)
            each = vectors * (products / spec.groups + PACK_VECTOR) + PACK_ROW * rows
            return spec.N * spec.groups * depth * each
        pixels = _rows_cost if method == "pointwise" else _direct_cost
        return products * depth * pixels(spec, lanes, rows, cols)

    return cost


def _depthwise_cost(made):
    def cost(spec):
        channels, rows, cols = made(spec)
        each = PLANE_TAP * spec.R * spec.S + STAGE_VECTOR * math.prod(spec.stride) * spec.C / spec.K
        return spec.N * channels * rows * _vectors(cols, _lanes(spec)) * each

    return cost


def _unit(spec):
    return 1.0


_FORWARD = (lambda s: s.C, lambda s: (s.K, s.P, s.Q))
_INPUT = (lambda s: s.K, lambda s: (s.C, s.H, s.W))

_CONV = tuple(
    Impl(op, method, "native", _one_by_one if method == "pointwise" else _everything, cost, run)
    # where costs are equal the first wins: a 1x1 kernel goes to "pointwise"
    for method, number in sorted(METHODS.items(), reverse=True)
    for op, cost, run in (
        ("conv2d", _cost(method, *_FORWARD), _conv2d(number)),
        ("conv2d_input", _cost(method, *_INPUT), _conv2d_input(number)),
        ("conv2d_weight", _cost(method, *_FORWARD), _conv2d_weight(number)),
    )
)


_DEPTHWISE = (
    Impl("conv2d", "depthwise", "native", _one_channel, _depthwise_cost(_FORWARD[1]), _depthwise),
    Impl(
        "conv2d_input",
        "depthwise",
        "native",
        _one_filter,
        _depthwise_cost(_INPUT[1]),
        _depthwise_input,
    ),
)


def _winograd_tile(op, spec):
    """m of the m x m outputs that a tile of Winograd's algorithm makes."""
    return _winograd.choose_tile(op, spec, config.current().winograd, tiles()[spec.dtype.name])


def _no_winograd(spec):
    return _winograd.reason(spec, config.current().winograd)


def _winograd_conv2d(spec, input, weight, bias, out, activation, packed=None):
    m = _winograd_tile("conv2d", spec)
    number = ACTIVATIONS[activation]
    _conv.winograd(spec.geometry, input, weight, packed, bias, out, number, m, False, *_how())


def _winograd_input(spec, grad_output, weight, out):
    m = _winograd_tile("conv2d_input", spec)
    _conv.winograd(spec.geometry, grad_output, weight, None, None, out, 0, m, True, *_how())


def _winograd_pack(spec, weight):
    """The weight's transforms, for inputs of any size that get the same tile."""
    return _conv.winograd_pack(
        spec.geometry, weight, _winograd_tile("conv2d", spec), False, *_how()
    )


def _winograd_packing_key(spec):
    return _how()[0], _winograd_tile("conv2d", spec)


def _winograd_cost(op):
    def cost(spec):
        m = _winograd_tile(op, spec)
        flops, rate, moved, packing = _winograd.work(op, spec, m, tiles()[spec.dtype.name])
        # two vector operations in a cycle
        return 2 * (flops / rate + moved + packing)

    return cost


def _winograd_pack_cost(spec):
    m = _winograd_tile("conv2d", spec)
    return 2 * _winograd.work("conv2d", spec, m, tiles()[spec.dtype.name])[3]


def _winograd_note(op):
    def note(spec):
        m = _winograd_tile(op, spec)
        return f"works in tiles of {m}x{m}: errors up to {_winograd.ERROR[m]} times a direct sum's"

    return note


_WINOGRAD = tuple(
    Impl(op, "winograd", "native", _no_winograd, _winograd_cost(op), run, note=_winograd_note(op))
    for op, run in (("conv2d", _winograd_conv2d), ("conv2d_input", _winograd_input))
)


def _extreme_pool2d(minimum):
    def run(spec, input, out, indices):
        _planes.extreme_pool2d(minimum, spec.geometry, input, out, indices, *_how())

    return run


def _max_pool2d_backward(spec, grad_output, indices, out):
    _planes.max_pool2d_backward(grad_output, indices, out, *_how())


def _avg_pool2d(spec, input, out):
    _planes.avg_pool2d(
        spec.geometry, spec.row_counts, spec.col_counts, spec.divisor_override, input, out, *_how()
    )


def _avg_pool2d_backward(spec, grad_output, out):
    _planes.avg_pool2d_backward(
        spec.geometry,
        spec.row_counts,
        spec.col_counts,
        spec.divisor_override,
        grad_output,
        out,
        *_how(),
    )


def _soft_windows(spec, *arrays):
    """(geometry, arrays) that fill the lanes also where each plane is one window."""
    geometry = spec.row_geometry
    if geometry is None or not all(a.flags.c_contiguous for a in arrays):
        return spec.geometry, *arrays
    pixels = [a.shape[2] * a.shape[3] for a in arrays]
    rows = (a.reshape(spec.N, 1, 1, spec.C * n) for a, n in zip(arrays, pixels, strict=True))
    return geometry, *rows


def _softmax_pool2d(spec, input, out):
    geometry, x, y = _soft_windows(spec, input, out)
    _planes.softmax_pool2d(geometry, x, spec.beta, y, *_how())


def _softmax_pool2d_backward(spec, grad_output, input, out):
    geometry, dy, x, dx = _soft_windows(spec, grad_output, input, out)
    _planes.softmax_pool2d_backward(geometry, dy, x, spec.beta, dx, *_how())


def _unfold(spec, input, out):
    _planes.unfold(spec.geometry, input, out, *_how())


def _fold(spec, input, out):
    _planes.fold(spec.geometry, input, out, *_how())


def _channel_sum(spec, grad_output, out):
    _planes.channel_sum(grad_output, out, *_how())


def _activation(kind):
    def run(spec, input, out):
        _planes.activation(kind, input, out, *_how())

    return run


def _activation_backward(kind):
    def run(spec, grad_output, output, out):
        _planes.activation_backward(kind, grad_output, output, out, *_how())

    return run


_PLANES = tuple(
    Impl(op, "direct", "native", _everything, _unit, run)
    for op, run in (
        ("conv2d_bias", _channel_sum),
        ("max_pool2d", _extreme_pool2d(False)),
        ("min_pool2d", _extreme_pool2d(True)),
        ("max_pool2d_backward", _max_pool2d_backward),
        ("avg_pool2d", _avg_pool2d),
        ("avg_pool2d_backward", _avg_pool2d_backward),
        ("softmax_pool2d", _softmax_pool2d),
        ("softmax_pool2d_backward", _softmax_pool2d_backward),
        ("unfold", _unfold),
        ("fold", _fold),
        *((kind, _activation(kind)) for kind in ("relu", "sigmoid", "tanh")),
        *((f"{kind}_backward", _activation_backward(kind)) for kind in ("relu", "sigmoid", "tanh")),
    )
)

POOLS = {"avg": 0, "max": 1}


def _block_reason(spec):
    size = _conv.block_size(spec.conv.geometry, spec.conv.dtype.itemsize, _how()[0])
    if isinstance(size, str):
        return size
    return None if 0 not in spec.output_shape else "the output is empty"


def block_size(spec):
    """Elements that `conv2d_block` keeps for its gradients."""
    return _conv.block_size(spec.conv.geometry, spec.conv.dtype.itemsize, _how()[0])


def _block(spec, input, weight, bias, kept, out):
    _conv.block(
        spec.conv.geometry,
        input,
        weight,
        bias,
        ACTIVATIONS[spec.activation],
        POOLS[spec.pool],
        *spec.window,
        kept,
        out,
        *_how(),
    )


def _block_gradients(spec, input, weight, kept, grad_output, grad_input, grad_weight, grad_bias):
    _conv.block_gradients(
        spec.conv.geometry,
        input,
        weight,
        kept,
        grad_output,
        ACTIVATIONS[spec.activation],
        POOLS[spec.pool],
        *spec.window,
        grad_input,
        grad_weight,
        grad_bias,
        *_how(),
    )


# what a block keeps depends on the ISA's lanes: both rows are for nn, which calls them in one go
_BLOCKS = tuple(
    Impl(op, "direct", "native", _block_reason, _unit, run)
    for op, run in (
        ("conv2d_block", _block),
        ("conv2d_block_size", block_size),
        ("conv2d_block_backward", _block_gradients),
    )
)

ROWS = _CONV + _DEPTHWISE + _WINOGRAD + _PLANES + _BLOCKS
