"""What the tests over the registry share: the rows, the shapes, the operands, one way to call."""

import os
from functools import cache
from itertools import product

import numpy as np
from tolerance import largest, transformed

from fastconv import config, registry
from fastconv.spec import array_spec, conv_spec, pool_spec, unpool_spec

DTYPES = ("float32", "float64")

# Without its extension the native backend would silently go untested: only a run that asks for the
# reference backend may do without.
if os.environ.get("FASTCONV_BACKEND") != "reference":
    registry.require("native")

BACKENDS = tuple(sorted({row.backend for row in registry.implementations()}))
FAST_BACKENDS = tuple(name for name in BACKENDS if name != "reference")
BLOCK_OPS = ("conv2d_block", "conv2d_block_size", "conv2d_block_backward")  # test_nn_block.py
FAST_ROWS = tuple(
    row
    for row in registry.implementations()
    if row.backend != "reference" and row.op not in BLOCK_OPS
)
# these round where a direct sum of small integers would not, and spread NaN and infinities
INEXACT_METHODS = {"winograd"}
REFERENCE = {row.op: row for row in registry.implementations(backend="reference")}


def tiles():
    """Register tiles of the native backend, else those of a small vector."""
    if "native" in BACKENDS:
        from fastconv.backends import native

        return native.tiles()
    return dict.fromkeys(DTYPES, {"lanes": 4, "m": 4, "v": 2, "panel_v": 2})


def straddling(n):
    """Sizes below, at, above and a multiple of n."""
    return sorted({max(1, n - 1), n, n + 1, 2 * n})


# -- shapes: {name: arguments of the spec}

_CONV = {
    # name: (input shape, weight shape, stride, padding, dilation, groups)
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0, 1, 1),
    "kernel as large as the image": ((2, 3, 4, 5), (2, 3, 4, 5), 1, 0, 1, 1),
    "padding beyond the kernel": ((1, 2, 3, 2), (2, 2, 2, 3), 1, (4, 5), 1, 1),
    "no images": ((0, 2, 5, 5), (3, 2, 3, 3), 1, 1, 1, 1),
    "one row": ((2, 2, 1, 19), (3, 2, 1, 4), 1, (0, 2), 1, 1),
    "one column": ((2, 2, 19, 1), (3, 2, 4, 1), 1, (2, 0), 1, 1),
    "lenet": ((2, 1, 12, 12), (3, 1, 5, 5), 1, 2, 1, 1),
    "five images": ((5, 3, 6, 7), (4, 3, 3, 3), 1, 1, 1, 1),
    "1x1": ((2, 5, 4, 9), (7, 5, 1, 1), 1, 0, 1, 1),
    "1x1, stride": ((2, 5, 8, 9), (3, 5, 1, 1), (2, 3), 0, 1, 1),
    "1x1, padding": ((2, 3, 4, 5), (4, 3, 1, 1), 1, (1, 2), 1, 1),
    "1x1, groups": ((2, 6, 4, 5), (4, 3, 1, 1), 1, 0, 1, 2),
    "1x1, depthwise": ((1, 5, 4, 7), (5, 1, 1, 1), 1, 0, 1, 5),
    "wide kernel": ((1, 2, 6, 21), (3, 2, 1, 7), 1, 0, 1, 1),
    "tall kernel": ((1, 2, 21, 6), (3, 2, 7, 1), 1, 0, 1, 1),
    "even kernel": ((1, 2, 7, 8), (3, 2, 2, 4), 1, 1, 1, 1),
    "four paddings": ((2, 2, 6, 7), (3, 2, 3, 4), 1, ((1, 0), (2, 3)), 1, 1),
    "padding at the end": ((1, 2, 6, 7), (3, 2, 3, 3), 2, ((0, 2), (0, 1)), 1, 1),
    "same": ((1, 2, 7, 6), (3, 2, 4, 3), 1, "same", 1, 1),
    "same, stride": ((1, 2, 7, 6), (3, 2, 3, 2), (2, 3), "same", 1, 1),
    "same_lower, stride": ((1, 2, 8, 6), (3, 2, 4, 3), (3, 2), "same_lower", 1, 1),
    "stride 2": ((2, 2, 9, 10), (3, 2, 3, 3), 2, 1, 1, 1),
    "stride 3, 5": ((1, 2, 11, 17), (3, 2, 4, 3), (3, 5), (2, 1), 1, 1),
    "stride 5, 3": ((1, 2, 17, 11), (3, 2, 3, 7), (5, 3), (1, 3), 1, 1),
    "stride beyond the kernel": ((2, 2, 17, 23), (3, 2, 2, 3), (5, 7), 0, 1, 1),
    "stride leaves a rest": ((1, 1, 10, 10), (2, 1, 3, 3), 4, 0, 1, 1),
    "dilation 2": ((1, 2, 9, 10), (3, 2, 3, 3), 1, 2, 2, 1),
    "dilation 1, 3": ((1, 2, 5, 14), (3, 2, 3, 4), 1, (1, 2), (1, 3), 1),
    "dilation and stride": ((1, 2, 11, 13), (3, 2, 3, 3), (2, 3), 3, (3, 2), 1),
    "dilation, stride, groups": ((2, 4, 11, 13), (6, 2, 2, 3), (3, 2), (2, 1), (2, 3), 2),
    "groups": ((2, 6, 6, 7), (9, 2, 3, 3), 1, 1, 1, 3),
    "depthwise": ((2, 5, 6, 9), (5, 1, 3, 3), 1, 1, 1, 5),
    "depthwise, stride": ((1, 5, 9, 11), (5, 1, 3, 5), 2, (1, 2), 1, 5),
    "depthwise, multiplier": ((1, 3, 6, 7), (6, 1, 3, 3), 1, "same", 1, 3),
    # rows wide enough to be read where they lie, their border by columns or from strips
    "depthwise, wide": ((1, 2, 9, 61), (2, 1, 3, 3), 1, 1, 1, 2),
    "depthwise, wide, stride": ((1, 2, 9, 123), (2, 1, 3, 3), 2, 1, 1, 2),
    "depthwise, wide, dilation": ((1, 2, 9, 67), (2, 1, 2, 3), (3, 1), (1, 2), (2, 3), 2),
    "one channel, wide": ((1, 1, 6, 241), (2, 1, 5, 5), 1, 2, 1, 1),
    "one channel, wide, stride": ((1, 1, 7, 461), (1, 1, 5, 5), 2, 2, 1, 1),
}

_POOL = {
    # name: (input shape, kernel, stride, padding, dilation, ceil_mode)
    "one pixel": ((1, 1, 1, 1), 1, None, 0, 1, False),
    "no images": ((0, 2, 4, 4), 2, None, 0, 1, False),
    "2": ((2, 3, 6, 8), 2, None, 0, 1, False),
    "2, a rest": ((2, 3, 7, 9), 2, None, 0, 1, False),
    "2, ceil": ((2, 3, 7, 9), 2, None, 0, 1, True),
    "2, stride 1": ((1, 2, 5, 6), 2, 1, 0, 1, False),
    "3, stride 2": ((2, 2, 9, 11), 3, 2, 1, 1, False),
    "3, stride 2, ceil": ((2, 2, 4, 10), 3, 2, 1, 1, True),
    "larger than the image, ceil": ((1, 2, 2, 2), 3, 2, 0, 1, True),
    "whole image": ((2, 3, 5, 7), (5, 7), None, 0, 1, False),
    "1": ((1, 2, 5, 6), 1, 1, 0, 1, False),
    "wide": ((1, 2, 4, 19), (1, 4), (1, 3), (0, 2), 1, False),
    "tall": ((1, 2, 19, 4), (4, 1), (3, 1), (2, 0), 1, True),
    "unequal": ((1, 2, 10, 13), (2, 5), (3, 2), (1, 2), 1, False),
    "stride beyond the kernel": ((1, 2, 17, 23), (2, 3), (5, 7), 0, 1, False),
    "four paddings": ((2, 2, 6, 7), (3, 4), 2, ((1, 0), (2, 1)), 1, False),
    "four paddings, ceil": ((2, 2, 6, 8), (3, 4), (3, 5), ((0, 1), (1, 2)), 1, True),
    "same": ((1, 2, 7, 8), (3, 2), 2, "same", 1, False),
    "same_lower": ((1, 2, 8, 8), (2, 3), 1, "same_lower", 1, False),
}
_DILATED_POOL = {
    "dilation 2": ((1, 2, 9, 11), 3, 1, 1, 2, False),
    "dilation, stride, ceil": ((1, 2, 13, 12), (2, 3), (3, 2), (1, 0), (3, 2), True),
}
_DIVISORS = {
    # name: (count_include_pad, divisor_override)
    "": (True, None),
    "without padding": (False, None),
    "override 3": (True, 3),
    "override -2": (False, -2),
}


def _conv_shapes(dtype):
    tile = tiles()[dtype]
    lanes, m, v = tile["lanes"], tile["m"], tile["v"]
    shapes = dict(_CONV)
    for k in straddling(m):
        shapes[f"{k} filters"] = ((1, 3, 4, lanes + 3), (k, 3, 2, 3), 1, 0, 1, 1)
        shapes[f"{k} channels"] = ((1, k, 4, lanes + 3), (3, k, 2, 3), 1, 0, 1, 1)
        shapes[f"{k} filters, 1x1"] = ((1, 3, 3, lanes - 1), (k, 3, 1, 1), 1, 0, 1, 1)
    # panels of filters, and sums that do not fit into one block of channels
    for k in straddling(lanes * tile["panel_v"]):
        shapes[f"{k} filters, panels"] = ((2, 3, 3, 4), (k, 3, 2, 2), 1, 1, 1, 1)
    shapes["channels in blocks"] = ((1, 150, 3, 4), (5, 150, 2, 2), 1, 1, 1, 1)
    shapes["channels in blocks, 3x3"] = ((1, 150, 3, 6), (5, 150, 3, 3), 1, 1, 1, 1)
    for q in straddling(lanes) + straddling(lanes * v)[1:]:
        shapes[f"{q} columns"] = ((1, 2, 3, q + 2), (m + 1, 2, 2, 3), 1, 0, 1, 1)
        shapes[f"{q} columns, stride 3"] = ((1, 2, 3, 3 * q), (2, 2, 2, 3), (1, 3), 0, 1, 1)
        shapes[f"{q} pixels, 1x1"] = ((1, 3, 1, q), (m + 1, 3, 1, 1), 1, 0, 1, 1)
    # planes with a filter each, whose tiles are 4 rows by 1, 2 or 4 vectors, or 7 by 1
    for p, q, kernel, padding, stride in (
        (3, 2 * lanes + 1, (3, 3), 1, 1),
        (4, lanes, (5, 5), 2, 1),
        (9, lanes - 1, (3, 3), 1, 1),
        (8, lanes - 1, (3, 3), 3, 1),  # whose gradient leaves out ends of rows
        (6, 4 * lanes, (3, 3), 1, 1),
        (5, 7 * lanes - 2, (2, 7), (1, 4), 1),
        (15, 2 * lanes, (3, 3), 1, 2),
        (11, 4 * lanes + 3, (5, 5), 2, 2),
        (7, 10 * lanes, (4, 3), (0, 5), 2),
        (9, 7 * lanes + 3, (3, 5), (1, 2), 1),
        (4, 6 * lanes, (6, 2), (3, 1), 1),
    ):
        name = f"{p} x {q} planes, {kernel[0]}x{kernel[1]}, stride {stride}"
        shapes[name] = ((1, 2, p, q), (2, 1, *kernel), stride, padding, 1, 2)
    # Winograd's tiles: fewer, as many and more than one row of them; panels of filters
    for k in straddling(lanes * tile["panel_v"])[:3]:
        shapes[f"{k} filters, 3x3"] = ((2, lanes + 1, 6, 9), (k, lanes + 1, 3, 3), 1, 1, 1, 1)
    shapes["70 columns, 3x3"] = ((1, 3, 5, 70), (5, 3, 3, 3), 1, ((0, 3), (4, 1)), 1, 1)
    for n in straddling(lanes):
        shapes[f"{n} images"] = ((n, 2, 4, 3), (m + 1, 2, 3, 2), 1, 1, 1, 1)
    return shapes


def _pool_shapes(dtype, dilated):
    lanes = tiles()[dtype]["lanes"]
    shapes = dict(_POOL) | (_DILATED_POOL if dilated else {})
    for q in straddling(lanes):
        shapes[f"{q} columns"] = ((1, 2, 4, 2 * q), 2, None, 0, 1, False)
        shapes[f"{q} columns, overlapping"] = ((1, 2, 5, q + 2), 3, 1, 0, 1, False)
        shapes[f"{q} columns, stride 3"] = ((1, 2, 6, 3 * q), (3, 2), 3, 1, 1, True)
    return shapes


def _array_shapes(dtype):
    lanes = tiles()[dtype]["lanes"]
    shapes = {str(s): s for s in [(), (0,), (3, 0), (1,), (2, 3, 5, 7), (1, 1, 1, 1)]}
    return shapes | {f"({n},)": (n,) for n in straddling(lanes) + straddling(4 * lanes)}


@cache
def specs(op, dtype):
    """{name: spec} of every shape that `op` is tested with."""
    dt = np.dtype(dtype)
    if op in ("conv2d", "conv2d_input", "conv2d_weight"):
        return {name: conv_spec(*args, dt) for name, args in _conv_shapes(dtype).items()}
    if op == "conv2d_bias":
        lanes = tiles()[dtype]["lanes"]
        planes = [(0, 3, 4, 5), (1, 1, 1, 1), (3, 2, 5, 7)]
        planes += [(2, 3, 1, n) for n in straddling(lanes)]
        return {str(shape): array_spec(shape, dt) for shape in planes}
    if op in ("unfold", "fold"):
        return {
            f"{name}": conv_spec(x, (1, x[1], *w[2:]), *args[:3], 1, dt)
            for name, (x, w, *args) in _conv_shapes(dtype).items()
        }
    if op.startswith("softmax_pool2d"):
        betas = {"": 1.0, "beta 0": 0.0, "beta -3": -3.0, "beta 20": 20.0}
        return {
            f"{name}, {beta}".rstrip(", "): pool_spec(*args, dt, beta=betas[beta])
            for (name, args), beta in product(_pool_shapes(dtype, True).items(), betas)
            if beta == "" or name in ("3, stride 2, ceil", "unequal", "dilation 2")
        }
    if op.startswith(("max_pool2d", "min_pool2d")):
        pools = {name: pool_spec(*a, dt) for name, a in _pool_shapes(dtype, True).items()}
        if op != "max_pool2d_backward":
            return pools
        return {n: unpool_spec(p.input_shape, p.output_shape, dt) for n, p in pools.items()}
    if op.startswith("avg_pool2d"):
        return {
            f"{name}, {divisor}".rstrip(", "): pool_spec(*args, dt, *_DIVISORS[divisor])
            for (name, args), divisor in product(_pool_shapes(dtype, False).items(), _DIVISORS)
            if divisor == "" or name in ("3, stride 2, ceil", "unequal", "four paddings, ceil")
        }
    return {name: array_spec(shape, dt) for name, shape in _array_shapes(dtype).items()}


# -- operands and calls


def shapes(op, spec):
    """(shapes of the inputs, shape of the output)."""
    if op == "conv2d":
        return (spec.input_shape, spec.weight_shape, (spec.K,)), spec.output_shape
    if op == "conv2d_input":
        return (spec.output_shape, spec.weight_shape), spec.input_shape
    if op == "conv2d_weight":
        return (spec.input_shape, spec.output_shape), spec.weight_shape
    if op == "conv2d_bias":
        return (spec.shape,), spec.shape[1:2]
    if op == "max_pool2d_backward":
        return ((spec.N, spec.C, spec.P, spec.Q),) * 2, (spec.N, spec.C, spec.H, spec.W)
    if op in ("max_pool2d", "min_pool2d", "avg_pool2d", "softmax_pool2d"):
        return (spec.input_shape,), spec.output_shape
    if op == "softmax_pool2d_backward":
        return (spec.output_shape, spec.input_shape), spec.input_shape
    if op in ("unfold", "fold"):
        patches = (spec.N, spec.C * spec.R * spec.S, spec.P * spec.Q)
        ends = spec.input_shape, patches
        return ((ends[0],), ends[1]) if op == "unfold" else ((ends[1],), ends[0])
    if op == "avg_pool2d_backward":
        return (spec.output_shape,), spec.input_shape
    return (spec.shape,) * (2 if op.endswith("_backward") else 1), spec.shape


def uniform(rng, shape, dtype):
    return rng.uniform(-1, 1, shape).astype(dtype)


def integers(rng, shape, dtype):
    """Small integers: sums of their products are exact in either dtype, in any order."""
    return rng.integers(-4, 5, shape).astype(dtype)


def operands(op, spec, rng, draw=uniform):
    """Random inputs for a call; the indices of max_pool2d_backward are int64, with repetitions."""
    inputs = [draw(rng, shape, spec.dtype) for shape in shapes(op, spec)[0]]
    if op == "max_pool2d_backward":
        inputs[1] = rng.integers(0, spec.H * spec.W, inputs[1].shape)
    return tuple(inputs)


def call(row, spec, inputs, out=None, *, activation=None, with_indices=True):
    """Run a row; (output,), or (output, indices) for max_pool2d and min_pool2d.

    What the row leaves unwritten of an output that it is not given is NaN, or -1.
    """
    if out is None:
        out = np.full(shapes(row.op, spec)[1], np.nan, spec.dtype)
    if row.op == "conv2d":
        row.run(spec, *inputs, out, activation)
    elif row.op in ("max_pool2d", "min_pool2d"):
        indices = np.full(spec.output_shape, -1) if with_indices else None
        row.run(spec, *inputs, out, indices)
        return (out, indices) if with_indices else (out,)
    else:
        row.run(spec, *inputs, out)
    return (out,)


def length(op, spec):
    """Number of terms in one element of the result; 0 where it has to be exact."""
    if op == "conv2d":
        return spec.C // spec.groups * spec.R * spec.S + 1
    if op == "conv2d_input":
        return spec.K // spec.groups * spec.R * spec.S
    if op == "conv2d_weight":
        return spec.N * spec.P * spec.Q
    if op == "conv2d_bias":
        return max(1, spec.shape[0] * spec.shape[2] * spec.shape[3])
    if op == "max_pool2d_backward":
        return spec.P * spec.Q
    if op.startswith("avg_pool2d"):
        return spec.R * spec.S + 1
    if op.startswith("softmax_pool2d"):
        # the exponent beta x is rounded before its power is taken
        return (spec.R * spec.S + 4) * (2 + abs(spec.beta))
    if op == "fold":
        return spec.R * spec.S
    exact = ("max_pool2d", "min_pool2d", "unfold", "relu", "relu_backward")
    return 0 if op in exact else 4


def within(row, spec, inputs, terms=None):
    """Length and magnitude, for `assert_close`, of what a row makes of its inputs.

    `terms` in the place of `length`: 0 where the result has to be exact.
    """
    finite = [np.where(np.isfinite(a), a, 0) for a in inputs if a.dtype.kind == "f"]
    if row.method == "fft" and terms != 0:
        x, w, *bias = finite
        filters = w if row.op == "conv2d" else w.swapaxes(0, 1)
        ends = (spec.P, spec.Q) if row.op == "conv2d" else (spec.H, spec.W)
        steps = spec.stride if row.op == "conv2d" else (1, 1)
        sides = [
            (n - 1) * step + 1 + (taps - 1) * dilation + 1
            for n, step, taps, dilation in zip(
                ends, steps, (spec.R, spec.S), spec.dilation, strict=True
            )
        ]
        return transformed(sides[0] * sides[1], x, filters, *bias)
    terms = length(row.op, spec) * slack(row, spec) if terms is None else terms
    return {"length": terms, "magnitude": max(1.0, largest(*finite[:2]))}


def slack(row, spec):
    """By how much a row's errors may exceed those of a direct sum, as its method documents it."""
    if row.method == "winograd":
        from fastconv.backends.native import _winograd

        setting = config.current().winograd
        return _winograd.ERROR[
            _winograd.choose_tile(row.op, spec, setting, tiles()[spec.dtype.name])
        ]
    return 1


# -- memory: arrays inside larger buffers, to see what is read and written beside them

FORMS = ("offset", "fortran", "reversed", "spaced", "channels last", "row ends apart")


def embed(shape, dtype, form, poison=np.nan):
    """(view of this shape and form, the buffer round it), all of it `poison`."""
    if form == "spaced":
        buffer = np.full([2 * n + 1 for n in shape], poison, dtype)
        return buffer[tuple(slice(1, None, 2) for _ in shape)], buffer
    if form == "row ends apart":
        buffer = np.full((*shape[:-1], shape[-1] + 5), poison, dtype)
        return buffer[..., 3:-2], buffer
    guard = 67
    buffer = np.full(guard + int(np.prod(shape)) + guard, poison, dtype)
    inside = buffer[guard:-guard]
    if form == "fortran":
        return inside.reshape(shape[::-1]).T, buffer
    if form == "reversed":
        return inside[::-1].reshape(shape), buffer
    if form == "channels last" and len(shape) == 4:
        n, c, h, w = shape
        return inside.reshape(n, h, w, c).transpose(0, 3, 1, 2), buffer
    return inside.reshape(shape), buffer


def embedded(array, form):
    """The values of `array` in a read-only view, in a buffer that is otherwise NaN (or -1)."""
    poison = np.nan if array.dtype.kind == "f" else -1
    view, _ = embed(array.shape, array.dtype, form, poison)
    view[...] = array
    view.flags.writeable = False
    return view


def untouched(view, buffer):
    """Whether everything round a view is still NaN; the view is overwritten."""
    view[...] = np.nan
    return bool(np.isnan(buffer).all())
