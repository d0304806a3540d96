"""Convolution and pooling for NumPy arrays, forward and backward, at the speed of the machine.

>>> import numpy as np, fastconv as fc
>>> fc.conv2d(np.ones((1, 3, 8, 8)), np.ones((4, 3, 3, 3)), padding=1).shape
(1, 4, 8, 8)

Layers and training are in `fastconv.nn`, data sets in `fastconv.datasets`, filters for images in
`fastconv.signal` and their kernels in `fastconv.kernels`; what a convolution costs and sees, and
what it equals, in `fastconv.analysis`.
"""

from fastconv import grad
from fastconv.config import get_num_threads, set_num_threads, show_config, using
from fastconv.ops import (
    avg_pool2d,
    choose_conv_method,
    conv1d,
    conv2d,
    conv_transpose2d,
    explain,
    fold,
    max_pool2d,
    min_pool2d,
    softmax_pool2d,
    unfold,
)
from fastconv.packing import PackedConv2d, pack_conv2d
from fastconv.registry import forget_tuned

__version__ = "0.1.0"

__all__ = [
    "PackedConv2d",
    "__version__",
    "analysis",
    "avg_pool2d",
    "choose_conv_method",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "datasets",
    "explain",
    "fold",
    "forget_tuned",
    "get_num_threads",
    "grad",
    "kernels",
    "load_tuned",
    "max_pool2d",
    "min_pool2d",
    "nn",
    "pack_conv2d",
    "set_num_threads",
    "show_config",
    "signal",
    "softmax_pool2d",
    "tune",
    "unfold",
    "using",
]


def __getattr__(name):
    # imported when first used: none of them is needed for a convolution
    if name in ("analysis", "datasets", "kernels", "nn", "signal"):
        from importlib import import_module

        return import_module(f"fastconv.{name}")
    if name in ("load_tuned", "tune"):
        from fastconv import tuning

        return getattr(tuning, name)
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(__all__))
