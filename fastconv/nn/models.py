"""LeNet and the deeper variant of the chapter."""

from __future__ import annotations

from typing import Any

import numpy as np

from .init import initialize
from .layers import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    MinPool2d,
    Module,
    ReLU,
    Sequential,
    Sigmoid,
    SoftmaxPool2d,
    Tanh,
)

__all__ = ["ACTIVATIONS", "MODELS", "POOLS", "lenet", "lenet_improved"]

#: Activations by name.
ACTIVATIONS = {"sigmoid": Sigmoid, "relu": ReLU, "tanh": Tanh}
#: Pooling layers by name.
POOLS = {"avg": AvgPool2d, "max": MaxPool2d, "min": MinPool2d, "softmax": SoftmaxPool2d}


def _build(
    convolutions: tuple[tuple[int, int, int, int], ...],
    linear: tuple[int, ...],
    activation: str,
    pool: str,
    init: str | None,
    seed: Any,
    dtype: Any,
) -> Sequential:
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation: expected one of {', '.join(ACTIVATIONS)}; got {activation!r}"
        )
    if pool not in POOLS:
        raise ValueError(f"pool: expected one of {', '.join(POOLS)}; got {pool!r}")
    if init is None:
        init = "he_uniform" if activation == "relu" else "xavier_uniform"
    nonlinear = ACTIVATIONS[activation]
    layers: list[Module] = []
    for before, after, kernel, padding in convolutions:
        # initialize() draws the weights: the constructor's seed only makes it repeatable.
        convolution = Conv2d(before, after, kernel, padding=padding, rng=0, dtype=dtype)
        layers += [convolution, nonlinear(), POOLS[pool](2, 2)]
    layers.append(Flatten())
    for before, after in zip(linear, linear[1:], strict=False):
        layers += [Linear(before, after, rng=0, dtype=dtype), nonlinear()]
    layers.pop()
    return initialize(Sequential(*layers), init, seed)


def lenet(
    activation: str = "sigmoid",
    pool: str = "avg",
    *,
    classes: int = 10,
    init: str | None = None,
    seed: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """LeNet for 28 x 28 images in one channel, as in *Dive into Deep Learning*.

    Convolution 6@5x5 padded by 2, pool 2, convolution 16@5x5, pool 2, then linear layers of 120,
    84 and 10, with the activation after each but the last.

    Parameters
    ----------
    activation : {"sigmoid", "relu", "tanh"}
    pool : {"avg", "max", "min", "softmax"}
    classes : int
        Length of the output.
    init : str, optional
        A name of :data:`fastconv.nn.init.METHODS`; default Xavier's uniform distribution (the
        chapter's), He's for ReLU.
    seed : int, numpy.random.Generator or None
        Fixes the initial weights.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    Sequential

    References
    ----------
    LeCun et al., Gradient-based learning applied to document recognition, 1998; Zhang et al.,
    Dive into Deep Learning, section "Convolutional Neural Networks (LeNet)".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.lenet(seed=0)(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """
    convolutions = ((1, 6, 5, 2), (6, 16, 5, 0))
    linear = (400, 120, 84, classes)
    return _build(convolutions, linear, activation, pool, init, seed, dtype)


def lenet_improved(
    activation: str = "relu",
    pool: str = "avg",
    *,
    classes: int = 10,
    init: str | None = None,
    seed: Any = None,
    dtype: Any = np.float32,
) -> Sequential:
    """The deeper LeNet of the chapter's exercise, for 28 x 28 images in one channel.

    Convolutions 6@5x5 padded by 2, 16@5x5 and 32@4x4, each with activation and pool 2, then
    linear layers of 240, 120, 84 and 10.

    Parameters
    ----------
    activation, pool, classes, init, seed, dtype
        As in :func:`lenet`.

    Returns
    -------
    Sequential

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.lenet_improved(seed=0)(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """
    convolutions = ((1, 6, 5, 2), (6, 16, 5, 0), (16, 32, 4, 0))
    linear = (32, 240, 120, 84, classes)
    return _build(convolutions, linear, activation, pool, init, seed, dtype)


#: Models by name.
MODELS = {"lenet": lenet, "lenet_improved": lenet_improved}
