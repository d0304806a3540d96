"""What all layers share: parameters, the tree of modules, a layer's state, images in and out."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..packing import PackedConv2d
from ._workspace import Workspace, empty
from .summary import Summary, summarize

__all__ = ["Layer", "Module", "Parameter", "Window", "Windowed"]


class Window(NamedTuple):
    """The window through which an output pixel sees a layer's input: what the field is made of."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Any = 0
    #: Whether it is an input pixel that has the window, over the output: a transposed convolution.
    transposed: bool = False
    #: Whether the input is of lines (N, C, L), images of one row.
    lines: bool = False


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

    # `_data` and `_packed` are for `data` and `_pack` alone
    __slots__ = ("_data", "_packed", "_workspace", "grad")

    def __init__(self, data: Any) -> None:
        data = np.asarray(data)
        if data.dtype not in (np.float32, np.float64):
            raise TypeError(f"data: expected float32 or float64, got {data.dtype}")
        if not (data.flags.c_contiguous and data.flags.writeable):
            data = np.array(data, order="C")
        self._data = data
        self._packed: PackedConv2d | None = None
        self.grad: np.ndarray | None = None
        self._workspace = Workspace()

    @property
    def data(self) -> np.ndarray:
        """The array itself; updated in place by an optimiser."""
        data = self._data  # held first: see `_pack`
        self._packed = None
        return data

    @data.setter
    def data(self, data: np.ndarray) -> None:
        self._data = data
        self._packed = None

    def _pack(self) -> PackedConv2d:
        """The array for `fastconv.conv2d`, packed; kept for as long as nobody can write to it.

        Whoever wants to write has to take `data` first, and then what was kept is dropped. It is
        not kept either while somebody holds the array, or a view of it: then it serves one call.
        """
        packed = self._packed
        if packed is None:
            packed = self._packed = PackedConv2d(_as_images(self._data))
            # kept first, then counted: another thread that takes `data` in between is noticed here,
            # or drops it afterwards
            if not self._data.flags.owndata or sys.getrefcount(self._data) > _ALONE + 1:
                self._packed = None
        return packed

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self._data.shape

    @property
    def size(self) -> int:
        """Number of elements of `data`."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype:
        """dtype of `data`."""
        return self._data.dtype

    def zero_grad(self) -> None:
        """Set the gradient to None (an array that was taken from it stays as it is)."""
        self.grad = None

    def _add(self, compute: Any, dtype: np.dtype) -> None:
        """Add ``compute(out)``, a gradient of `dtype`, to `grad`; out=None makes a new array."""
        if self.grad is None and dtype == self.dtype:
            fresh = self._workspace.take(self.shape, dtype)
            compute(fresh)
            self.grad = fresh
        elif self.grad is None:
            self.grad = compute(None).astype(self.dtype)
        else:
            self.grad += compute(None)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"

    def __getstate__(self) -> tuple:
        own, slots = super().__getstate__()
        return own, slots | {"_packed": None}


def _as_images(weight: np.ndarray) -> np.ndarray:
    """The weight of a convolution of lines as that of one of images of one row."""
    return weight[:, :, None] if weight.ndim == 3 else weight


# references to an array that only its Parameter holds, measured: they differ between interpreters
_PROBE = Parameter(np.zeros(1))
_ALONE = sys.getrefcount(_PROBE._data)


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

    def _window(self) -> Window | None:
        """What an output pixel sees, where that is a window; None: all, or one pixel."""
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


def size(value: Any, name: str, least: int = 1) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return int(value)


def sizes(value: Any, name: str, axes: int = 2, least: int = 1) -> tuple[int, ...]:
    """An integer for each axis, from one for all of them or one for each."""
    if isinstance(value, (tuple, list)):
        if len(value) != axes:
            expected = "an integer or a pair" if axes == 2 else "one integer"
            raise ValueError(f"{name}: expected {expected}, got {value!r}")
        return tuple(size(one, name, least) for one in value)
    return (size(value, name, least),) * axes


def real_dtype(dtype: Any) -> np.dtype:
    """A dtype that parameters may have."""
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return np.dtype(dtype)


def as_float(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`x` in the dtype that a layer with parameters of `dtype` computes in."""
    if x.dtype == dtype:
        return x
    if x.dtype.kind not in "fiub":
        raise TypeError(f"input: expected real numbers, got dtype {x.dtype}")
    return x.astype(np.result_type(x, dtype), copy=False)


def place(
    workspace: Workspace | None, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray | None:
    """Memory for a result of `dtype`; None where the operation is to choose its dtype."""
    return empty(workspace, shape, dtype) if dtype.char in "fd" else None


class Windowed(Layer):
    """A layer of batches; one image (C, H, W) or line (C, L) is a batch that loses its axis."""

    _layout = "NCHW"

    def _refuse(self, shape: tuple[int, ...]) -> ValueError:
        batch, one = ", ".join(self._layout), ", ".join(self._layout[1:])
        return ValueError(f"input: expected ({batch}) or ({one}), got {tuple(shape)}")

    def _run(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool, *extra: Any
    ) -> tuple[np.ndarray, Any]:
        axes = len(self._layout)
        if x.ndim == axes:
            return self._run_batch(x, workspace, keep, *extra)
        if x.ndim != axes - 1:
            raise self._refuse(x.shape)
        y, context = self._run_batch(x[None], workspace, keep, *extra)
        return y[0], context

    def _pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        if grad_output.ndim == len(self._layout):
            return self._pull_batch(context, grad_output, need_input_grad, workspace)
        grad_input = self._pull_batch(context, grad_output[None], need_input_grad, workspace)
        return None if grad_input is None else grad_input[0]

    def _batch_shape(self, shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[int, ...]:
        """The output's shape for a batch."""
        return self._spec(shape, dtype).output_shape

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N, K, P, Q) for (N, C, H, W), or (N, K, Q) for (N, C, L)."""
        axes = len(self._layout)
        if len(input_shape) not in (axes - 1, axes):
            raise self._refuse(input_shape)
        return self._batch_shape((1, *input_shape)[-axes:])[-len(input_shape) :]
