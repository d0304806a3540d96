"""Convolutions: of images, of lines, and transposed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import grad, ops
from ..packing import PackedConv2d
from ..spec import conv_spec, conv_transpose_spec
from ._workspace import Workspace, empty
from .init import generator, torch_default
from .module import Parameter, Window, Windowed, as_float, real_dtype, size, sizes

__all__ = ["Conv1d", "Conv2d", "ConvTranspose2d"]


class _Convolution(Windowed):
    """What the three share; a subclass says its operation, its sizes and its settings."""

    _op = ""  # in fastconv.ops; in fastconv.grad with "_input", "_weight" and "_bias"

    def _prepare(
        self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups
    ) -> None:
        axes = len(self._layout) - 2
        self.in_channels = size(in_channels, "in_channels")
        self.out_channels = size(out_channels, "out_channels")
        self.kernel_size = sizes(kernel_size, "kernel_size", axes)
        self.stride = sizes(stride, "stride", axes)
        self.padding = padding
        self.dilation = sizes(dilation, "dilation", axes)
        self.groups = size(groups, "groups")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name}: expected a multiple of groups={groups}, got {channels}")

    def _draw(self, first: int, second: int, bias: bool, rng: Any, dtype: Any) -> None:
        """Initial weights of shape (first, second / groups, window), and biases."""
        rng, dtype = generator(rng), real_dtype(dtype)
        shape = (first, second // self.groups, *self.kernel_size)
        self.weight = Parameter(torch_default(shape, rng, dtype))
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            self.bias = Parameter(rng.uniform(-bound, bound, self.out_channels).astype(dtype))

    def _settings(self) -> tuple:
        return self.stride, self.padding, self.dilation, self.groups

    def _kernel(self, training: bool) -> np.ndarray | PackedConv2d:
        """The weight for a forward pass; packed where nothing is learnt meanwhile."""
        return self.weight.data if training else self.weight._pack()

    def _release(self) -> None:
        super()._release()
        self.weight._packed = None

    def _run_batch(
        self,
        x: np.ndarray,
        workspace: Workspace | None,
        keep: bool,
        activation: str | None = None,
    ) -> tuple[np.ndarray, Any]:
        x = as_float(x, self.weight.dtype)
        y = getattr(ops, self._op)(
            x,
            self._kernel(keep),
            None if self.bias is None else self.bias.data,
            *self._settings(),
            activation=activation,
            out=None
            if workspace is None
            else workspace.take(self._batch_shape(x.shape, x.dtype), x.dtype),
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
        settings = self._settings()
        of_input, of_weight, of_bias = (
            getattr(grad, f"{self._op}_{name}") for name in ("input", "weight", "bias")
        )
        self.weight._add(
            lambda out: of_weight(x, weight.shape, grad_output, *settings, out=out),
            np.result_type(x, grad_output),
        )
        if self.bias is not None:
            self.bias._add(lambda out: of_bias(grad_output, out=out), grad_output.dtype)
        if not need_input_grad:
            return None
        out = empty(workspace, x.shape, np.result_type(weight, grad_output))
        return of_input(x.shape, weight, grad_output, *settings, out=out)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """2 N K P Q C/groups R S: multiplications and additions, the bias not counted."""
        return 2 * math.prod(self.output_shape(input_shape)) * math.prod(self.weight.shape[1:])

    def _options(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}"
        )
        for name in ("output_padding", "dilation", "groups"):
            value = getattr(self, name, 0)
            plain = 0 if name == "output_padding" else 1
            if value not in (plain, (plain,) * len(self.kernel_size)):
                text += f", {name}={value}"
        return text if self.bias is not None else f"{text}, bias=False"


class Conv1d(_Convolution):
    """One-dimensional convolution (cross-correlation) of lines, as ``torch.nn.Conv1d``.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size : int
        S.
    stride, padding, dilation, groups
        As in :func:`fastconv.conv1d`.
    bias : bool
    rng : numpy.random.Generator, int or None
        Where the initial weights come from (uniform within 1 / sqrt(fan_in), PyTorch's
        default).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : Parameter, (K, C/groups, S)
    bias : Parameter, (K,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.Conv1d(1, 4, 9, stride=2, padding=4, rng=0)
    >>> layer(np.zeros((8, 1, 1000), np.float32)).shape
    (8, 4, 500)
    """

    _layout, _op = "NCL", "conv1d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self._prepare(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self._draw(self.out_channels, self.in_channels, bias, rng, dtype)

    def _batch_shape(self, shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[int, ...]:
        K, c, S = self.weight.shape
        spec = conv_spec(
            (*shape[:2], 1, shape[2]),
            (K, c, 1, S),
            *ops.as_2d(self.stride, self.padding, self.dilation),
            self.groups,
            np.dtype(dtype),
        )
        return spec.N, spec.K, spec.Q

    def _window(self) -> Window:
        stride, padding, dilation = ops.as_2d(self.stride, self.padding, self.dilation)
        return Window((1, *self.kernel_size), stride, dilation, padding, lines=True)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """2 N K Q C/groups S: multiplications and additions, the bias not counted."""
        return super().flops(input_shape)


class Conv2d(_Convolution):
    """Two-dimensional convolution (cross-correlation), as ``torch.nn.Conv2d``.

    In evaluation mode it keeps its weight packed (see `fastconv.pack_conv2d`) from the first call
    until ``weight.data`` is next asked for. While somebody else holds that array, or the memory is
    somebody else's, each call packs anew.

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

    _op = "conv2d"

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
        self._prepare(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self._draw(self.out_channels, self.in_channels, bias, rng, dtype)

    def _spec(self, input_shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        return conv_spec(input_shape, self.weight.shape, *self._settings(), np.dtype(dtype))

    def _window(self) -> Window:
        return Window(self.kernel_size, self.stride, self.dilation, self.padding)


class ConvTranspose2d(_Convolution):
    """Transposed two-dimensional convolution, as ``torch.nn.ConvTranspose2d``.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size : int or pair
        R and S.
    stride, padding, output_padding, groups, dilation
        As in :func:`fastconv.conv_transpose2d`.
    bias : bool
    rng : numpy.random.Generator, int or None
        Where the initial weights come from (uniform within 1 / sqrt(K/groups R S), PyTorch's
        default).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : Parameter, (C, K/groups, R, S)
    bias : Parameter, (K,), or None

    Examples
    --------
    Twice the height and width:

    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, rng=0)
    >>> layer(np.zeros((1, 16, 14, 14), np.float32)).shape
    (1, 8, 28, 28)
    """

    _op = "conv_transpose2d"

    def _kernel(self, training: bool) -> np.ndarray:
        return self.weight.data  # which its kernels bring into another order

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        *,
        rng: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        if isinstance(padding, str):
            raise TypeError(f"padding: expected integers, got {padding!r}")
        self._prepare(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.output_padding = sizes(output_padding, "output_padding", least=0)
        self._draw(self.in_channels, self.out_channels, bias, rng, dtype)

    def _settings(self) -> tuple:
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def _batch_shape(self, shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[int, ...]:
        spec = conv_transpose_spec(
            tuple(shape), self.weight.shape, *self._settings(), np.dtype(dtype)
        )
        return spec.input_shape

    def _window(self) -> Window:
        return Window(self.kernel_size, self.stride, self.dilation, self.padding, transposed=True)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """2 N C H W K/groups R S, what `padding` crops included, the bias not."""
        self.output_shape(input_shape)  # says what is wrong with it
        return 2 * math.prod(input_shape) * math.prod(self.weight.shape[1:])
