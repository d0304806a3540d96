"""Random initial weights: Xavier, He and PyTorch's default, from a seed.

`fan_in` is the number of inputs that one output is a sum over, `fan_out` the number of outputs
that one input goes to: C/groups * R * S and K * R * S for a convolution (as PyTorch counts),
the two lengths for a linear layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .layers import Module

__all__ = [
    "METHODS",
    "fans",
    "he_normal",
    "he_uniform",
    "initialize",
    "torch_default",
    "xavier_normal",
    "xavier_uniform",
]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight.

    Parameters
    ----------
    shape : tuple of int
        (out, in) or (K, C/groups, R, S).

    Returns
    -------
    (int, int)

    Raises
    ------
    ValueError
        When there are fewer than two axes.

    Examples
    --------
    >>> from fastconv.nn import init
    >>> init.fans((6, 1, 5, 5))
    (25, 150)
    """
    if len(shape) < 2:
        raise ValueError(f"shape: expected (out, in, ...), got {tuple(shape)}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def generator(rng: Any) -> np.random.Generator:
    """A generator from a Generator, a seed, or None (unpredictable)."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or (isinstance(rng, (int, np.integer)) and not isinstance(rng, bool)):
        if rng is not None and rng < 0:
            raise ValueError(f"seed: expected at least 0, got {rng}")
        return np.random.Generator(np.random.PCG64(rng))
    raise TypeError(
        f"seed: expected an integer, a numpy.random.Generator or None, got {type(rng).__name__}"
    )


def _uniform(
    shape: tuple[int, ...], bound: float, rng: np.random.Generator, dtype: Any
) -> np.ndarray:
    # Drawn in float64 for either dtype: one seed means the same weights, rounded.
    return rng.uniform(-bound, bound, shape).astype(dtype)


def xavier_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    r"""Uniform within :math:`\pm\sqrt{6 / (fan_{in} + fan_{out})}`.

    References
    ----------
    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010, formula 16.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn import init
    >>> weight = init.xavier_uniform((2, 4), np.random.default_rng(0))
    >>> weight.shape, bool(abs(weight).max() <= 1)
    ((2, 4), True)
    """
    return _uniform(shape, math.sqrt(6 / sum(fans(shape))), rng, dtype)


def xavier_normal(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    r"""Normal with standard deviation :math:`\sqrt{2 / (fan_{in} + fan_{out})}`.

    References
    ----------
    Glorot and Bengio, 2010, formula 12.
    """
    return rng.normal(0.0, math.sqrt(2 / sum(fans(shape))), shape).astype(dtype)


def he_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    r"""Uniform within :math:`\pm\sqrt{6 / fan_{in}}`, for layers before a ReLU.

    References
    ----------
    He et al., Delving Deep into Rectifiers, 2015, formula 10 (as a uniform distribution of the
    same variance).
    """
    return _uniform(shape, math.sqrt(6 / fans(shape)[0]), rng, dtype)


def he_normal(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    r"""Normal with standard deviation :math:`\sqrt{2 / fan_{in}}`, for layers before a ReLU.

    References
    ----------
    He et al., Delving Deep into Rectifiers, 2015, formula 10.
    """
    return rng.normal(0.0, math.sqrt(2 / fans(shape)[0]), shape).astype(dtype)


def torch_default(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    r"""Uniform within :math:`\pm 1 / \sqrt{fan_{in}}`: what PyTorch's layers start with.

    References
    ----------
    ``torch.nn.Conv2d`` and ``torch.nn.Linear``, section "Variables".
    """
    return _uniform(shape, 1 / math.sqrt(fans(shape)[0]), rng, dtype)


#: Initialisations by name.
METHODS = {
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "torch_default": torch_default,
}


def initialize(net: Module, method: str, seed: Any = None) -> Module:
    """Draw all weights of a network anew.

    Weights (two axes or more) come from `method`; biases are uniform within
    ``1 / sqrt(fan_in)`` of their layer, as PyTorch's layers start with and the chapter leaves
    them.

    Parameters
    ----------
    net : Module
        Changed in place.
    method : {"xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "torch_default"}
    seed : int, numpy.random.Generator or None
        One seed always gives the same weights; None other ones each time.

    Returns
    -------
    Module
        `net` itself.

    Raises
    ------
    ValueError
        When there is no such method.

    Examples
    --------
    >>> from fastconv import nn
    >>> net = nn.init.initialize(nn.Sequential(nn.Linear(4, 2)), "he_normal", seed=1)
    >>> other = nn.init.initialize(nn.Sequential(nn.Linear(4, 2)), "he_normal", seed=1)
    >>> bool((net[0].weight.data == other[0].weight.data).all())
    True
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}; got {method!r}")
    rng = generator(seed)
    for module in net.modules():
        bound = None
        for parameter in vars(module).values():
            if not hasattr(parameter, "grad"):
                continue
            data = parameter.data
            if data.ndim >= 2:
                data[...] = METHODS[method](data.shape, rng, data.dtype)
                bound = 1 / math.sqrt(fans(data.shape)[0])
            elif bound is not None:
                data[...] = _uniform(data.shape, bound, rng, data.dtype)
    return net
