"""The Numba backend: kernels compiled at their first call, for the machine at hand.

This module lists the rows and does not import Numba: that happens when a kernel is first run.
Its first call for a dtype compiles it, or loads it from Numba's cache on disk.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from fastconv import config
from fastconv._threads import usable
from fastconv.registry import Impl

__all__ = ["ROWS", "compile_seconds", "on_compile"]

if find_spec("numba") is None:
    raise ImportError("No module named 'numba'")


def _threads():
    return usable(config.current().num_threads)


@cache
def _kernels(name):
    return import_module(f"{__name__}.{name}")


def on_compile(tell):
    """Call ``tell()`` once, when Numba next begins to compile.

    Parameters
    ----------
    tell : callable
    """
    _kernels("_jit").watch.tell = tell


def compile_seconds():
    """Seconds that Numba has spent compiling in this process."""
    return _kernels("_jit").watch.seconds


_compiled = {}  # (kernel, dtype): seconds that compiling it took in this process
# ops that run another's kernel
_KERNEL_OF = {
    "conv2d_input": "conv2d",
    "sigmoid": "relu",
    "tanh": "relu",
    "sigmoid_backward": "relu_backward",
    "tanh_backward": "relu_backward",
}


def _watched(op, run):
    """`run`, taking note of the time that it spends compiling."""
    op = _KERNEL_OF.get(op, op)

    def watched(spec, *arrays):
        watch = _kernels("_jit").watch
        before = watch.seconds
        run(spec, *arrays)
        key = op, spec.dtype
        if key not in _compiled or watch.seconds != before:
            _compiled[key] = _compiled.get(key, 0.0) + watch.seconds - before

    return watched


def _note(op):
    op = _KERNEL_OF.get(op, op)

    def note(spec):
        seconds = _compiled.get((op, spec.dtype))
        if seconds is None:
            return "compiles at its first call, some seconds, unless Numba's cache on disk has it"
        return f"compiled in {seconds:.1f} s" if seconds else "loaded from Numba's cache on disk"

    return note


def _row(op, method, supports, cost, run):
    return Impl(op, method, "numba", supports, cost, _watched(op, run), _note(op))


def _conv2d(im2col):
    def run(spec, input, weight, bias, out, activation):
        _kernels("_conv").conv2d(spec, input, weight, bias, out, activation, im2col, _threads())

    return run


def _conv2d_input(im2col):
    def run(spec, grad_output, weight, out):
        _kernels("_conv").conv2d_input(spec, grad_output, weight, out, im2col, _threads())

    return run


def _conv2d_weight(im2col):
    def run(spec, input, grad_output, out):
        _kernels("_conv").conv2d_weight(spec, input, grad_output, out, im2col, _threads())

    return run


def _everything(spec):
    return None


def _one_by_one(spec):
    if (spec.R, spec.S) != (1, 1):
        return f"the kernel is {spec.R}x{spec.S}, not 1x1"
    if any(spec.padding):
        return f"the padding is {spec.padding}, not 0"
    return None


def _cost(taken_from, made):
    """Cost functions of "direct" and "im2col": multiplications, and what staging adds to them.

    `made` and `taken_from` are channels, as functions of the spec. "direct" stages at most one
    copy of the input for each column of the kernel, "im2col" one for each tap.
    """

    def cost(copies):
        def of(spec):
            area = spec.R * spec.S
            return (
                spec.N
                * spec.P
                * spec.Q
                * taken_from(spec)
                * (made(spec) // spec.groups * area + 4 * copies(spec))
            )

        return of

    return {
        "pointwise": cost(lambda spec: 1),
        "direct": cost(lambda spec: spec.S),
        "im2col": cost(lambda spec: spec.R * spec.S),
    }


def _unit(spec):
    return 1.0


_FORWARD = _cost(lambda spec: spec.C, lambda spec: spec.K)
_INPUT = _cost(lambda spec: spec.K, lambda spec: spec.C)

_CONV = tuple(
    _row(op, method, _one_by_one if method == "pointwise" else _everything, cost, run)
    # where costs are equal the first wins: a 1x1 kernel goes to "pointwise"
    for method in ("pointwise", "direct", "im2col")
    for op, cost, run in (
        ("conv2d", _FORWARD[method], _conv2d(method == "im2col")),
        ("conv2d_input", _INPUT[method], _conv2d_input(method == "im2col")),
        ("conv2d_weight", _FORWARD[method], _conv2d_weight(method == "im2col")),
    )
)


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
    if spec.stride != (1, 1):
        return f"the stride is {spec.stride}, not 1"
    return _one_channel(spec)


def _depthwise(spec, input, weight, bias, out, activation):
    _kernels("_depthwise").conv2d(spec, input, weight, bias, out, activation, _threads())


def _depthwise_input(spec, grad_output, weight, out):
    _kernels("_depthwise").conv2d_input(spec, grad_output, weight, out, _threads())


ROW_STEP = 64  # columns that the method "depthwise" does at a time


def _plane_cost(plane):
    def cost(spec):
        rows, cols = plane(spec)
        pixels = rows * -(-cols // ROW_STEP) * ROW_STEP
        return spec.N * spec.groups * pixels * (spec.K // spec.groups * spec.R * spec.S + 4)

    return cost


_DEPTHWISE = (
    _row("conv2d", "depthwise", _one_channel, _plane_cost(lambda s: (s.P, s.Q)), _depthwise),
    _row(
        "conv2d_input",
        "depthwise",
        _one_filter,
        _plane_cost(lambda s: (s.H, s.W)),
        _depthwise_input,
    ),
)


def _plane(name, module="_planes"):
    def run(spec, *arrays):
        getattr(_kernels(module), name)(spec, *arrays, _threads())

    return run


def _activation(kind):
    def run(spec, input, out):
        _kernels("_planes").activation(kind, input, out, _threads())

    return run


def _activation_backward(kind):
    def run(spec, grad_output, output, out):
        _kernels("_planes").activation_backward(kind, grad_output, output, out, _threads())

    return run


_PLANES = tuple(
    _row(op, "direct", _everything, _unit, run)
    for op, run in (
        ("conv2d_bias", _plane("channel_sum")),
        ("max_pool2d", _plane("max_pool2d")),
        ("min_pool2d", _plane("min_pool2d")),
        ("max_pool2d_backward", _plane("max_pool2d_backward")),
        ("avg_pool2d", _plane("avg_pool2d")),
        ("avg_pool2d_backward", _plane("avg_pool2d_backward")),
        *(
            (op, _plane(op, "_patches"))
            for op in ("softmax_pool2d", "softmax_pool2d_backward", "unfold", "fold")
        ),
        *((kind, _activation(kind)) for kind in ("relu", "sigmoid", "tanh")),
        *((f"{kind}_backward", _activation_backward(kind)) for kind in ("relu", "sigmoid", "tanh")),
    )
)

ROWS = _CONV + _DEPTHWISE + _PLANES
