"""The reference backend: plain nested loops, one function per operation.

It defines what is correct, reads beside the formula, and is what every benchmark starts from.
Sums are accumulated in Python floats, i.e. in double precision, whatever the arrays hold.
"""

from fastconv.backends.reference import loops
from fastconv.registry import Impl

__all__ = ["ROWS"]


def _everything(spec):
    return None


def _unit(spec):
    return 1.0


_RUN = {
    "conv2d": loops.conv2d,
    "conv2d_input": loops.conv2d_input,
    "conv2d_weight": loops.conv2d_weight,
    "conv2d_bias": loops.conv2d_bias,
    "max_pool2d": loops.max_pool2d,
    "max_pool2d_backward": loops.max_pool2d_backward,
    "min_pool2d": loops.min_pool2d,
    "avg_pool2d": loops.avg_pool2d,
    "avg_pool2d_backward": loops.avg_pool2d_backward,
    "softmax_pool2d": loops.softmax_pool2d,
    "softmax_pool2d_backward": loops.softmax_pool2d_backward,
    "unfold": loops.unfold,
    "fold": loops.fold,
    "relu": loops.relu,
    "relu_backward": loops.relu_backward,
    "sigmoid": loops.sigmoid,
    "sigmoid_backward": loops.sigmoid_backward,
    "tanh": loops.tanh,
    "tanh_backward": loops.tanh_backward,
}

ROWS = tuple(Impl(op, "direct", "reference", _everything, _unit, run) for op, run in _RUN.items())
