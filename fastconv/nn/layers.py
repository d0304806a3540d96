"""Layers with an explicit forward and backward pass, named and shaped as ``torch.nn``'s.

``layer(x)`` computes; in training mode it keeps what ``layer.backward(grad_output)`` needs,
which adds to each ``Parameter.grad`` and returns the gradient of the input. Arrays that a call
returns belong to the caller and never change behind their back: memory is reused only when
nothing refers to it any more.

A layer of one's own is a :class:`Module` with ``forward`` and ``backward``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import grad, ops
from ._block import Block
from ._workspace import Workspace, empty
from .convolution import Conv1d, Conv2d, ConvTranspose2d
from .init import generator, torch_default
from .module import Layer, Module, Parameter, as_float, place, real_dtype, size
from .pooling import AvgPool2d, MaxPool2d, MinPool2d, SoftmaxPool2d

__all__ = [
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "MinPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxPool2d",
    "Tanh",
]


class Linear(Layer):
    """``y = x W^T + b`` over the last axis, as ``torch.nn.Linear``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    rng : numpy.random.Generator, int or None
        Where the initial weights come from (uniform within 1 / sqrt(in_features)).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : Parameter, (out_features, in_features)
    bias : Parameter, (out_features,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Linear(400, 120, rng=0)(np.zeros((2, 400), np.float32)).shape
    (2, 120)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_features = size(in_features, "in_features")
        self.out_features = size(out_features, "out_features")
        rng, dtype = generator(rng), real_dtype(dtype)
        self.weight = Parameter(torch_default((self.out_features, self.in_features), rng, dtype))
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(self.in_features)
            self.bias = Parameter(rng.uniform(-bound, bound, self.out_features).astype(dtype))

    def _run(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        weight = self.weight.data
        shape = self.output_shape(x.shape)
        x = as_float(x, weight.dtype)
        y = empty(workspace, shape, x.dtype)
        np.matmul(x, weight.T, out=y)
        if self.bias is not None:
            y += self.bias.data
        return y, x

    def _pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        x, weight = context, self.weight.data
        rows = x.reshape(-1, self.in_features)
        grad_rows = grad_output.reshape(-1, self.out_features)
        self.weight._add(
            lambda out: np.matmul(grad_rows.T, rows, out=out), np.result_type(x, grad_output)
        )
        if self.bias is not None:
            self.bias._add(lambda out: grad_rows.sum(axis=0, out=out), grad_output.dtype)
        if not need_input_grad:
            return None
        out = empty(workspace, x.shape, np.result_type(grad_output, weight))
        return np.matmul(grad_output, weight, out=out)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(..., out_features) for (..., in_features)."""
        if not input_shape or input_shape[-1] != self.in_features:
            raise ValueError(
                f"input: expected a last axis of {self.in_features}, got {tuple(input_shape)}"
            )
        return (*input_shape[:-1], self.out_features)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """2 N in_features out_features: multiplications and additions, the bias not counted."""
        return 2 * math.prod(self.output_shape(input_shape)) * self.in_features

    def _options(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Flatten(Layer):
    """Axes `start_dim` to `end_dim` as one, as ``torch.nn.Flatten``; a view where possible.

    Parameters
    ----------
    start_dim, end_dim : int

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Flatten()(np.zeros((2, 16, 5, 5))).shape
    (2, 400)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape with the axes merged."""
        axes = len(input_shape)
        start = self.start_dim + axes if self.start_dim < 0 else self.start_dim
        end = self.end_dim + axes if self.end_dim < 0 else self.end_dim
        if not 0 <= start <= end < axes:
            raise ValueError(
                f"input: expected axes {self.start_dim} to {self.end_dim}, "
                f"got shape {tuple(input_shape)}"
            )
        middle = math.prod(input_shape[start : end + 1])
        return (*input_shape[:start], middle, *input_shape[end + 1 :])

    def _run(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        return x.reshape(self.output_shape(x.shape)), x.shape

    def _pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        return grad_output.reshape(context) if need_input_grad else None

    def _options(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class _Activation(Layer):
    """An elementwise function whose gradient follows from its output."""

    name = ""
    _pointwise = True

    def _run(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        y = getattr(ops, self.name)(x, out=place(workspace, x.shape, x.dtype))
        return y, y

    def _pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        if not need_input_grad:
            return None
        out = place(workspace, context.shape, np.result_type(grad_output, context))
        return getattr(grad, self.name)(grad_output, context, out=out)

    def _pull_in_place(self, context: np.ndarray, grad_output: np.ndarray) -> np.ndarray:
        """`_pull` into `grad_output` itself, which must be nobody else's."""
        if grad_output.dtype != np.result_type(grad_output, context):
            return getattr(grad, self.name)(grad_output, context)
        return getattr(grad, self.name)(grad_output, context, out=grad_output)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """One per element."""
        return math.prod(input_shape)


class ReLU(_Activation):
    """max(x, 0), as ``torch.nn.ReLU``; the gradient at 0 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    name = "relu"


class Sigmoid(_Activation):
    """1 / (1 + exp(-x)), as ``torch.nn.Sigmoid``; its gradient is y (1 - y).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Sigmoid()(np.array([0.0]))
    array([0.5])
    """

    name = "sigmoid"


class Tanh(_Activation):
    """The hyperbolic tangent, as ``torch.nn.Tanh``; its gradient is 1 - y^2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Tanh()(np.array([0.0]))
    array([0.])
    """

    name = "tanh"


# Layers whose gradient is always a new array.
_MAKES_ITS_GRADIENT = (
    Block,
    Linear,
    Conv1d,
    ConvTranspose2d,
    AvgPool2d,
    MaxPool2d,
    MinPool2d,
    SoftmaxPool2d,
    ReLU,
    Sigmoid,
    Tanh,
)


class Sequential(Layer):
    """Layers one after another, as ``torch.nn.Sequential``.

    A convolution, the activation and the pooling after it run as one operation. In training the
    memory of intermediate results serves the next step; what a call returned, and whatever else
    is still referred to, is left alone.

    Parameters
    ----------
    *layers : Module

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0), nn.ReLU())
    >>> net(np.ones((5, 1, 2, 2), np.float32)).shape
    (5, 3)
    >>> list(net.state_dict())
    ['1.weight', '1.bias']
    >>> net[:2]                             # the same layers
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(4, 3, bias=True)
    )
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for position, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(
                    f"layers: expected Modules, got {type(layer).__name__} at position {position}"
                )
        self._layers = tuple(layers)
        self._workspace = Workspace()
        self._stages: list[Module | Block] = []
        self._first = 0  # the first stage with parameters: before it no gradient is needed
        found = False
        for layer in layers:
            block = self._stages[-1] if self._stages else None
            if isinstance(block, Block) and block.pool is None:
                if block.activation is None and type(layer) in (ReLU, Sigmoid, Tanh):
                    block.activation = layer
                    continue
                if type(layer) in (AvgPool2d, MaxPool2d):
                    block.pool = layer
                    continue
            if not found:
                self._first = len(self._stages)
                # A layer of somebody's own may get its parameters later.
                found = not _is_stateless(layer) or any(True for _ in layer.parameters())
            self._stages.append(Block(layer) if type(layer) is Conv2d else layer)
        if not found:
            self._first = len(self._stages)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]

    def children(self) -> Iterator[tuple[str, Module]]:
        """("0", first layer), ("1", second layer), ..."""
        for position, layer in enumerate(self._layers):
            yield str(position), layer

    def _memory(self) -> Workspace | None:
        if self.training:
            self._workspace.next_step()
            return self._workspace
        return None

    def _run(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        contexts = []
        for layer in self._stages:
            if isinstance(layer, Block):
                x, context = layer.run(x, workspace, keep)
            elif _is_stateless(layer):
                x, context = layer._run(x, workspace, keep)
            else:
                x, context = layer.forward(x), None
            if keep:
                contexts.append(context)
        return x, contexts

    def _pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        last = 0 if need_input_grad else self._first
        ours = False  # grad_output is an array of this call's own, not the caller's or a layer's
        for position in range(len(self._stages) - 1, last - 1, -1):
            layer = self._stages[position]
            kept = context[position]
            need = need_input_grad or position > last
            if isinstance(layer, Block):
                grad_output = layer.pull(kept, grad_output, need, workspace)
            elif ours and isinstance(layer, _Activation):
                grad_output = layer._pull_in_place(kept, grad_output)
            elif _is_stateless(layer):
                grad_output = layer._pull(kept, grad_output, need, workspace)
            else:
                grad_output = layer.backward(grad_output, need)
            ours = type(layer) in _MAKES_ITS_GRADIENT or (ours and type(layer) is Flatten)
            if need and grad_output is None:
                raise TypeError(
                    f"backward of {type(layer).__name__}: expected the input's gradient, got None"
                )
        return grad_output if need_input_grad else None

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the last layer's output."""
        for layer in self._layers:
            input_shape = layer.output_shape(input_shape)
        return tuple(input_shape)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """Sum over the layers."""
        total = 0
        for layer in self._layers:
            total += layer.flops(input_shape)
            input_shape = layer.output_shape(input_shape)
        return total

    def _release(self) -> None:
        super()._release()
        self._workspace.clear()

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(layer).replace("\n", "\n  ") for name, layer in self.children()
        ]
        return "\n".join(["Sequential(", *lines, ")"])


def _is_stateless(module: Module) -> bool:
    """Whether its passes are ``_run`` and ``_pull``: nothing was overridden in front of them."""
    kind = type(module)
    return (
        isinstance(module, Layer)
        and kind.forward is Layer.forward
        and kind.backward is Layer.backward
    )
