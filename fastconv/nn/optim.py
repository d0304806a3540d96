"""Optimisers: PyTorch's update rules, in place."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .layers import Parameter

__all__ = ["SGD", "Adam", "Optimizer"]


def _number(value: Any, name: str, least: float = 0.0, below: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__} {value!r}")
    value = float(value)
    if not least <= value < below:
        limit = "" if math.isinf(below) else f" and below {below:g}"
        raise ValueError(f"{name}: expected at least {least:g}{limit}, got {value}")
    return value


class Optimizer(ABC):
    """What updates parameters from their gradients; subclasses have the rule.

    A parameter whose ``.grad`` is None is passed over, as in PyTorch.

    Attributes
    ----------
    params : list of Parameter
    lr : float
        May be changed between steps.
    """

    #: Settings that ``state_dict`` keeps beside the arrays.
    settings: tuple[str, ...] = ("lr",)

    def __init__(self, params: Iterable[Parameter], lr: float) -> None:
        self.params = list(params)
        for position, parameter in enumerate(self.params):
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    f"params: expected Parameters, got {type(parameter).__name__} "
                    f"at position {position}"
                )
            if any(parameter is other for other in self.params[:position]):
                raise ValueError(f"params: the Parameter at position {position} is there twice")
        if not self.params:
            raise ValueError("params: expected at least one Parameter, got none")
        self.lr = _number(lr, "lr")
        self._state: list[dict[str, Any]] = [{} for _ in self.params]
        largest = max(p.data.nbytes for p in self.params)
        memory = np.empty(largest, np.uint8)
        # One scratch memory serves all parameters in turn.
        self._scratch = [
            memory[: p.data.nbytes].view(p.data.dtype).reshape(p.data.shape) for p in self.params
        ]

    def zero_grad(self) -> None:
        """Set every parameter's ``.grad`` to None."""
        for parameter in self.params:
            parameter.zero_grad()

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for parameter, state, scratch in zip(self.params, self._state, self._scratch, strict=True):
            if parameter.grad is not None:
                if parameter.grad.shape != parameter.data.shape:
                    raise ValueError(
                        f"grad: expected the parameter's shape {parameter.data.shape}, "
                        f"got {parameter.grad.shape}"
                    )
                self._update(parameter.data, parameter.grad, state, scratch)

    @abstractmethod
    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], scratch: np.ndarray
    ) -> None:
        """Change `data` in place; `scratch` is uninitialised memory of its shape and dtype."""

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, copied: ``"name"``, the settings, and ``"<parameter>.<what>"``."""
        found: dict[str, Any] = {"name": type(self).__name__}
        found.update((name, getattr(self, name)) for name in self.settings)
        for position, state in enumerate(self._state):
            for key, value in state.items():
                copied = value.copy() if isinstance(value, np.ndarray) else value
                found[f"{position}.{key}"] = copied
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take settings and state from :meth:`state_dict` of an optimiser of the same kind.

        Raises
        ------
        ValueError
            When the kind, a name or a shape does not fit; nothing is changed then.
        """
        if state.get("name") != type(self).__name__:
            raise ValueError(
                f"state: expected that of {type(self).__name__}, got {state.get('name')!r}"
            )
        settings = {}
        fresh: list[dict[str, Any]] = [{} for _ in self.params]
        missing = set(self.settings)
        for name, value in state.items():
            if name == "name":
                continue
            if name in self.settings:
                settings[name] = value
                missing.discard(name)
                continue
            position, _, key = name.partition(".")
            if not position.isdecimal() or int(position) >= len(self.params) or not key:
                raise ValueError(
                    f"state: unexpected entry {name!r} for {len(self.params)} parameters"
                )
            data = self.params[int(position)].data
            if isinstance(value, np.ndarray):
                if value.shape != data.shape:
                    raise ValueError(
                        f"state: {name!r} has shape {value.shape}, expected {data.shape}"
                    )
                value = value.astype(data.dtype)
            fresh[int(position)][key] = value
        if missing:
            raise ValueError(f"state: missing {', '.join(map(repr, sorted(missing)))}")
        for name, value in settings.items():
            setattr(self, name, value)
        self._state = fresh

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({settings})"


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum as in ``torch.optim.SGD``.

    .. math::
        g &\leftarrow g + \lambda\, \theta \\
        b &\leftarrow \mu b + (1 - \tau) g \quad (b = g \text{ at first}) \\
        \theta &\leftarrow \theta - \gamma b

    with Nesterov's momentum the last step takes :math:`g + \mu b` instead of :math:`b`.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Learning rate, gamma.
    momentum : float
        mu; 0 is plain gradient descent.
    dampening : float
        tau.
    weight_decay : float
        lambda.
    nesterov : bool
        Needs a momentum, and no dampening.

    References
    ----------
    Sutskever et al., On the importance of initialization and momentum in deep learning, 2013,
    in the form of https://pytorch.org/docs/stable/generated/torch.optim.SGD.html.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> p = nn.Parameter(np.array([1.0, 2.0]))
    >>> optimizer = nn.SGD([p], lr=0.5)
    >>> p.grad = np.array([1.0, -1.0])
    >>> optimizer.step()
    >>> p.data
    array([0.5, 2.5])
    """

    settings = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr)
        self.momentum = _number(momentum, "momentum")
        self.dampening = _number(dampening, "dampening", least=-math.inf)
        self.weight_decay = _number(weight_decay, "weight_decay")
        self.nesterov = bool(nesterov)
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError(
                "nesterov: needs momentum above 0 and dampening 0, "
                f"got momentum={self.momentum}, dampening={self.dampening}"
            )

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], scratch: np.ndarray
    ) -> None:
        if self.weight_decay:
            np.multiply(data, self.weight_decay, out=scratch)
            scratch += grad
            grad = scratch
        if self.momentum:
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = grad.astype(data.dtype)
            else:
                buffer *= self.momentum
                if self.dampening:
                    np.multiply(grad, 1 - self.dampening, out=scratch)
                    buffer += scratch
                else:
                    buffer += grad
            grad = grad + self.momentum * buffer if self.nesterov else buffer
        np.multiply(grad, self.lr, out=scratch)
        data -= scratch


class Adam(Optimizer):
    r"""Adam, as ``torch.optim.Adam`` (weight decay is added to the gradient, not decoupled).

    .. math::
        g &\leftarrow g + \lambda\, \theta \\
        m &\leftarrow m + (1 - \beta_1)(g - m) \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \theta &\leftarrow \theta - \frac{\gamma}{1 - \beta_1^t}
                 \frac{m}{\sqrt{v} / \sqrt{1 - \beta_2^t} + \epsilon}

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Learning rate, gamma.
    betas : pair of float
        beta 1 and beta 2, each at least 0 and below 1.
    eps : float
        epsilon.
    weight_decay : float
        lambda.

    References
    ----------
    Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, in the form of
    https://pytorch.org/docs/stable/generated/torch.optim.Adam.html.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> p = nn.Parameter(np.array([1.0]))
    >>> optimizer = nn.Adam([p], lr=0.25, eps=0.0)
    >>> p.grad = np.array([3.0])
    >>> optimizer.step()                   # the first step is lr in the gradient's direction
    >>> p.data
    array([0.75])
    """

    settings = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas: expected a pair of numbers, got {betas!r}")
        self.betas = [_number(beta, "betas", below=1.0) for beta in betas]
        self.eps = _number(eps, "eps")
        self.weight_decay = _number(weight_decay, "weight_decay")

    def _update(
        self, data: np.ndarray, grad: np.ndarray, state: dict[str, Any], scratch: np.ndarray
    ) -> None:
        beta1, beta2 = self.betas
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = np.zeros_like(data)
        state["step"] += 1
        step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
        if self.weight_decay:
            grad = grad + self.weight_decay * data
        np.subtract(grad, mean, out=scratch)
        scratch *= 1 - beta1
        mean += scratch
        np.multiply(grad, grad, out=scratch)
        scratch *= 1 - beta2
        square *= beta2
        square += scratch
        np.sqrt(square, out=scratch)
        scratch /= math.sqrt(1 - beta2**step)
        scratch += self.eps
        np.divide(mean, scratch, out=scratch)
        scratch *= self.lr / (1 - beta1**step)
        data -= scratch
