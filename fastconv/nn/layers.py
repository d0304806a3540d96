"""Layers with an explicit forward and backward pass, named and shaped as ``torch.nn``'s.

``layer(x)`` computes; in training mode it keeps what ``layer.backward(grad_output)`` needs,
which adds to each ``Parameter.grad`` and returns the gradient of the input. Arrays that a call
returns belong to the caller and never change behind their back: memory is reused only when
nothing refers to it any more.

A layer of one's own is a :class:`Module` with ``forward`` and ``backward``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import grad, ops, registry
from ..spec import conv_spec, pool_spec
from ._block import Block
from ._workspace import Workspace, empty
from .init import generator, torch_default
from .summary import Summary, summarize

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
]


_INT64 = np.dtype(np.int64)


class Parameter:
    """An array that is learnt, and its gradient.

    Parameters
    ----------
    data : array
        float32 or float64, copied where needed to be C-contiguous and writable.

    Attributes
    ----------
    data : array
        Updated in place by an optimiser.
    grad : array or None
        Sum of the gradients since the last ``zero_grad``; None when there was none.

    Raises
    ------
    TypeError
        When `data` is neither float32 nor float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> p = nn.Parameter(np.zeros((2, 3), np.float32))
    >>> p.shape, p.grad is None
    ((2, 3), True)
    """

    __slots__ = ("_workspace", "data", "grad")

    def __init__(self, data: Any) -> None:
        data = np.asarray(data)
        if data.dtype not in (np.float32, np.float64):
            raise TypeError(f"data: expected float32 or float64, got {data.dtype}")
        if not (data.flags.c_contiguous and data.flags.writeable):
            data = np.array(data, order="C")
        self.data = data
        self.grad: np.ndarray | None = None
        self._workspace = Workspace()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self.data.shape

    @property
    def size(self) -> int:
        """Number of elements of `data`."""
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        """dtype of `data`."""
        return self.data.dtype

    def zero_grad(self) -> None:
        """Set the gradient to None (an array that was taken from it stays as it is)."""
        self.grad = None

    def _add(self, compute: Any, dtype: np.dtype) -> None:
        """Add ``compute(out)``, a gradient of `dtype`, to `grad`; out=None makes a new array."""
        if self.grad is None and dtype == self.data.dtype:
            fresh = self._workspace.take(self.data.shape, dtype)
            compute(fresh)
            self.grad = fresh
        elif self.grad is None:
            self.grad = compute(None).astype(self.data.dtype)
        else:
            self.grad += compute(None)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype})"


class Module(ABC):
    """Base of all layers and networks.

    A subclass needs ``forward`` and ``backward``; Parameters and Modules among its attributes
    are found by name. ``output_shape`` is only needed for ``summary``.

    Attributes
    ----------
    training : bool
        In evaluation mode nothing is kept for ``backward``. Change it by :meth:`train` and
        :meth:`eval`.

    Examples
    --------
    A layer of one's own, with a parameter:

    >>> import numpy as np
    >>> from fastconv import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         self.factor = nn.Parameter(np.array([2.0]))
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * self.factor.data
    ...     def backward(self, grad_output, need_input_grad=True):
    ...         self.factor.grad = np.array([(grad_output * self.x).sum()])
    ...         return grad_output * self.factor.data
    >>> net = nn.Sequential(Scale(), nn.ReLU())
    >>> net(np.array([[-1.0, 3.0]])), list(net.state_dict())
    (array([[0., 6.]]), ['0.factor'])
    >>> net.backward(np.ones((1, 2)))
    array([[0., 2.]])
    """

    training = True

    @abstractmethod
    def forward(self, x: np.ndarray) -> np.ndarray:
        """The output for a batch `x`."""

    @abstractmethod
    def backward(self, grad_output: np.ndarray, need_input_grad: bool = True) -> np.ndarray | None:
        """Add to the parameters' gradients and return that of the last ``forward``'s input.

        Parameters
        ----------
        grad_output : array of the output's shape
        need_input_grad : bool
            Without it the input's gradient is not computed where it costs anything, and the
            result is None.
        """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of `input_shape`, batch included.

        A layer without a rule of its own is tried on zeros.
        """
        was, self.training = self.training, False
        try:
            return self.forward(np.zeros(input_shape, np.float32)).shape
        finally:
            self.training = was

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """Additions and multiplications (or comparisons) of one forward pass."""
        return 0

    def _window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
        """(kernel, stride, dilation) where an output pixel sees a window; None: all or one."""
        return None

    #: Whether an output pixel depends on one input pixel only.
    _pointwise = False

    def children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct submodule."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """This module and all within it, each once."""
        seen: set[int] = set()

        def walk(module: Module) -> Iterator[Module]:
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                for _, child in module.children():
                    yield from walk(child)

        return walk(self)

    def _entries(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), a shared one under each of its names."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self.children():
            yield from child._entries(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, Parameter) in PyTorch's order and naming; a shared one once."""
        seen: set[int] = set()
        for name, parameter in self._entries():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """The Parameters, each once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def zero_grad(self) -> None:
        """Set every parameter's ``.grad`` to None."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def train(self, mode: bool = True) -> Module:
        """Set training mode, here and below; returns self."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """Set evaluation mode, here and below; returns self."""
        return self.train(False)

    def release(self) -> Module:
        """Forget what was kept for ``backward``, and all spare memory; returns self."""
        for module in self.modules():
            if isinstance(module, Layer):
                module._release()
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every parameter's array by name, copied."""
        return {name: parameter.data.copy() for name, parameter in self._entries()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take parameters from arrays by name, those of a PyTorch network included.

        Parameters
        ----------
        state : mapping of str to array-like
            NumPy arrays, PyTorch tensors or lists; values are converted to the parameter's
            dtype.

        Raises
        ------
        ValueError
            When a name is missing or unexpected, or a shape does not fit; nothing is changed
            then.

        Examples
        --------
        >>> from fastconv import nn
        >>> net = nn.Linear(2, 1, rng=0)
        >>> net.load_state_dict({"weight": [[1, 2]], "bias": [3]})
        >>> net([[1.0, 1.0]])
        array([[6.]])
        """
        own = dict(self._entries())
        wrong = [
            f"{what} {', '.join(map(repr, names))}"
            for what, names in (
                ("missing", [name for name in own if name not in state]),
                ("unexpected", [name for name in state if name not in own]),
            )
            if names
        ]
        if wrong:
            raise ValueError(f"state: {' and '.join(wrong)}; expected {', '.join(own)}")
        arrays = {}
        for name, parameter in own.items():
            value = state[name]
            if hasattr(value, "detach"):
                value = value.detach().cpu()
            value = np.asarray(value)
            if value.dtype.kind not in "fiu":
                raise TypeError(f"state: {name!r} expected real numbers, got {value.dtype}")
            if value.shape != parameter.data.shape:
                raise ValueError(
                    f"state: {name!r} expected shape {parameter.data.shape}, got {value.shape}"
                )
            arrays[name] = value
        for name, parameter in own.items():
            parameter.data[...] = arrays[name]

    def summary(self, input_shape: tuple[int, ...]) -> Summary:
        """Layer by layer: output shape, parameters, work, memory, receptive field.

        Parameters
        ----------
        input_shape : tuple of int
            (N, C, H, W), say.

        Returns
        -------
        Summary
            Printing it gives a table.

        Examples
        --------
        >>> from fastconv import nn
        >>> print(nn.Sequential(nn.Conv2d(1, 6, 5, padding=2)).summary((1, 1, 28, 28)))
        name   layer   output shape    parameters    FLOPs   bytes  receptive field
        0      Conv2d  (1, 6, 28, 28)         156  235,200  22,576  5 x 5
        total                                 156  235,200  22,576
        """
        return summarize(self, input_shape)


class Layer(Module):
    """Base of the layers here: the work is in two methods that keep no state.

    ``_run(x, workspace, keep) -> (y, context)`` and
    ``_pull(context, grad_output, need_input_grad, workspace) -> grad_input``: a Sequential calls
    these, with its own memory and the contexts in its own hands, so that a layer may stand in
    it twice or be called in between.
    """

    def __init__(self) -> None:
        self._context: tuple[Any, tuple[int, ...]] | None = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The layer's output, in a new array.

        In training mode what ``backward`` needs is kept by reference: `x` and the output are
        not to be changed before it.
        """
        self._context = None
        y, context = self._run(np.asarray(x), self._memory(), self.training)
        if self.training:
            self._context = context, y.shape
        return y

    def backward(self, grad_output: np.ndarray, need_input_grad: bool = True) -> np.ndarray | None:
        """Add to the parameters' gradients and return the input's.

        Parameters
        ----------
        grad_output : array of the output's shape
        need_input_grad : bool
            Without it the result is None.

        Returns
        -------
        array of the input's shape, or None

        Raises
        ------
        RuntimeError
            When there was no forward pass in training mode.
        ValueError
            When `grad_output` has another shape than the output.
        """
        if self._context is None:
            raise RuntimeError(
                f"backward: {type(self).__name__} has had no forward pass in training mode; "
                "call train() and forward first"
            )
        context, shape = self._context
        grad_output = np.asarray(grad_output)
        if grad_output.shape != shape:
            raise ValueError(
                f"grad_output: expected the output's shape {shape}, got {grad_output.shape}"
            )
        return self._pull(context, grad_output, need_input_grad, self._memory())

    def _memory(self) -> Workspace | None:
        """Where a call from outside gets its arrays; None: each is new."""
        return None

    def _release(self) -> None:
        self._context = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_context": None}

    def _options(self) -> str:
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options()})"


def _size(value: Any, name: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return int(value)


def _sizes(value: Any, name: str) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name}: expected an integer or a pair, got {value!r}")
        return _size(value[0], name), _size(value[1], name)
    value = _size(value, name)
    return value, value


def _real_dtype(dtype: Any) -> np.dtype:
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return np.dtype(dtype)


def _as_float(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` in the dtype that a layer with parameters of `dtype` computes in."""
    if x.dtype == dtype:
        return x
    if x.dtype.kind not in "fiub":
        raise TypeError(f"input: expected real numbers, got dtype {x.dtype}")
    return x.astype(np.result_type(x, dtype), copy=False)


def _place(
    workspace: Workspace | None, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray | None:
    """Memory for a result of `dtype`; None where the operation is to choose its dtype."""
    return empty(workspace, shape, dtype) if dtype.char in "fd" else None


class _Windowed(Layer):
    """A layer of images (N, C, H, W); one image (C, H, W) is a batch that loses its axis."""

    def _run(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool, *extra: Any
    ) -> tuple[np.ndarray, Any]:
        if x.ndim == 4:
            return self._run_batch(x, workspace, keep, *extra)
        if x.ndim != 3:
            raise ValueError(f"input: expected (N, C, H, W) or (C, H, W), got {x.shape}")
        y, context = self._run_batch(x[None], workspace, keep, *extra)
        return y[0], context

    def _pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        if grad_output.ndim == 4:
            return self._pull_batch(context, grad_output, need_input_grad, workspace)
        grad_input = self._pull_batch(context, grad_output[None], need_input_grad, workspace)
        return None if grad_input is None else grad_input[0]

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, K, P, Q) for (N, C, H, W)."""
        if len(input_shape) not in (3, 4):
            raise ValueError(f"input: expected (N, C, H, W) or (C, H, W), got {tuple(input_shape)}")
        shape = (1, *input_shape)[-4:]
        return self._spec(shape).output_shape[-len(input_shape) :]


class Conv2d(_Windowed):
    """Two-dimensional convolution (cross-correlation), as ``torch.nn.Conv2d``.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size : int or pair
        R and S.
    stride, padding, dilation, groups
        As in :func:`fastconv.conv2d`.
    bias : bool
    rng : numpy.random.Generator, int or None
        Where the initial weights come from (uniform within 1 / sqrt(fan_in), PyTorch's
        default).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : Parameter, (K, C/groups, R, S)
    bias : Parameter, (K,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.Conv2d(1, 6, 5, padding=2, rng=0)
    >>> layer(np.zeros((1, 1, 28, 28), np.float32)).shape
    (1, 6, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.in_channels = _size(in_channels, "in_channels")
        self.out_channels = _size(out_channels, "out_channels")
        self.kernel_size = _sizes(kernel_size, "kernel_size")
        self.stride = _sizes(stride, "stride")
        self.padding = padding
        self.dilation = _sizes(dilation, "dilation")
        self.groups = _size(groups, "groups")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name}: expected a multiple of groups={groups}, got {channels}")
        rng, dtype = generator(rng), _real_dtype(dtype)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(torch_default(shape, rng, dtype))
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            self.bias = Parameter(rng.uniform(-bound, bound, shape[:1]).astype(dtype))

    def _spec(self, input_shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        return conv_spec(
            input_shape,
            self.weight.data.shape,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            np.dtype(dtype),
        )

    def _run_batch(
        self,
        x: np.ndarray,
        workspace: Workspace | None,
        keep: bool,
        activation: str | None = None,
    ) -> tuple[np.ndarray, Any]:
        weight = self.weight.data
        x = _as_float(x, weight.dtype)
        out = empty(workspace, self._spec(x.shape, x.dtype).output_shape, x.dtype)
        y = ops.conv2d(
            x,
            weight,
            None if self.bias is None else self.bias.data,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            activation=activation,
            out=out,
        )
        return y, x

    def _pull_batch(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        x, weight = context, self.weight.data
        settings = self.stride, self.padding, self.dilation, self.groups
        dtype = np.result_type(x, grad_output)
        self.weight._add(
            lambda out: grad.conv2d_weight(x, weight.shape, grad_output, *settings, out=out),
            dtype,
        )
        if self.bias is not None:
            self.bias._add(lambda out: grad.conv2d_bias(grad_output, out=out), grad_output.dtype)
        if not need_input_grad:
            return None
        out = empty(workspace, x.shape, np.result_type(weight, grad_output))
        return grad.conv2d_input(x.shape, weight, grad_output, *settings, out=out)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """2 N K P Q C/groups R S: multiplications and additions, the bias not counted."""
        return 2 * math.prod(self.output_shape(input_shape)) * math.prod(self.weight.shape[1:])

    def _window(self) -> tuple:
        return self.kernel_size, self.stride, self.dilation

    def _options(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}"
        )


class _Pool2d(_Windowed):
    def _spec(self, input_shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        return pool_spec(
            input_shape,
            self.kernel_size,
            self.stride,
            self.padding,
            getattr(self, "dilation", 1),
            self.ceil_mode,
            np.dtype(dtype),
        )

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """N C P Q R S: comparisons or additions."""
        rows, columns = self._window()[0]
        return math.prod(self.output_shape(input_shape)) * rows * columns

    def _window(self) -> tuple:
        kernel = _sizes(self.kernel_size, "kernel_size")
        stride = kernel if self.stride is None else _sizes(self.stride, "stride")
        return kernel, stride, _sizes(getattr(self, "dilation", 1), "dilation")

    def _options(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """Maximum over windows, as ``torch.nn.MaxPool2d``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As in :func:`fastconv.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.MaxPool2d(2)
    >>> layer(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]))
    array([[[[4.]]]])
    >>> layer.backward(np.array([[[[5.0]]]]))
    array([[[[0., 0.],
             [5., 0.]]]])
    """

    kind = "max"

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = _sizes(kernel_size, "kernel_size")
        self.stride = None if stride is None else _sizes(stride, "stride")
        self.padding = padding
        self.dilation = _sizes(dilation, "dilation")
        self.ceil_mode = bool(ceil_mode)

    def _run_batch(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        settings = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        spec = self._spec(x.shape, x.dtype)
        out = _place(workspace, spec.output_shape, x.dtype)
        if not keep:
            return ops.max_pool2d(x, *settings, out=out), None
        if out is None or not (x.flags.aligned and x.dtype.isnative):
            y, indices = ops.max_pool2d(x, *settings, return_indices=True)
            return y, (indices, x.shape)
        # Straight to the implementation: the functional call has no memory for the indices.
        indices = empty(workspace, spec.output_shape, _INT64)
        registry.choose("max_pool2d", spec).run(spec, x, out, indices)
        return out, (indices, x.shape)

    def _pull_batch(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        if not need_input_grad:
            return None
        indices, shape = context
        out = _place(workspace, shape, grad_output.dtype)
        return grad.max_pool2d(grad_output, indices, shape, out=out)


class AvgPool2d(_Pool2d):
    """Mean over windows, as ``torch.nn.AvgPool2d``.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in :func:`fastconv.avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.AvgPool2d(2)(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]))
    array([[[[2.5]]]])
    """

    kind = "avg"

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = _sizes(kernel_size, "kernel_size")
        self.stride = None if stride is None else _sizes(stride, "stride")
        self.padding = padding
        self.ceil_mode = bool(ceil_mode)
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = divisor_override

    def _settings(self) -> tuple:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def _run_batch(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        out = _place(workspace, self._spec(x.shape, x.dtype).output_shape, x.dtype)
        return ops.avg_pool2d(x, *self._settings(), out=out), x.shape

    def _pull_batch(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        if not need_input_grad:
            return None
        out = _place(workspace, context, grad_output.dtype)
        return grad.avg_pool2d(grad_output, context, *self._settings(), out=out)


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
        self.in_features = _size(in_features, "in_features")
        self.out_features = _size(out_features, "out_features")
        rng, dtype = generator(rng), _real_dtype(dtype)
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
        x = _as_float(x, weight.dtype)
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
        y = getattr(ops, self.name)(x, out=_place(workspace, x.shape, x.dtype))
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
        out = _place(workspace, context.shape, np.result_type(grad_output, context))
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
_MAKES_ITS_GRADIENT = (Block, Linear, AvgPool2d, MaxPool2d, ReLU, Sigmoid, Tanh)


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
