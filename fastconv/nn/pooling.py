"""Pooling: maximum, minimum, mean, and what lies between mean and maximum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import grad, ops, registry
from ..spec import _finite, pool_spec
from ._workspace import Workspace, empty
from .module import Window, Windowed, place, sizes

__all__ = ["AvgPool2d", "MaxPool2d", "MinPool2d", "SoftmaxPool2d"]

_INT64 = np.dtype(np.int64)


class _Pool2d(Windowed):
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

    def _window(self) -> Window:
        stride = self.kernel_size if self.stride is None else self.stride
        return Window(self.kernel_size, stride, getattr(self, "dilation", (1, 1)), self.padding)

    def _options(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _ExtremePool2d(_Pool2d):
    """Maximum or minimum: a window gives one of its pixels, and the gradient goes back to it."""

    _op = ""  # in fastconv.ops and fastconv.grad

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = sizes(kernel_size, "kernel_size")
        self.stride = None if stride is None else sizes(stride, "stride")
        self.padding = padding
        self.dilation = sizes(dilation, "dilation")
        self.ceil_mode = bool(ceil_mode)

    def _run_batch(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        settings = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        if workspace is None and not keep:
            return getattr(ops, self._op)(x, *settings), None
        spec = self._spec(x.shape, x.dtype)
        out = place(workspace, spec.output_shape, x.dtype)
        if not keep:
            return getattr(ops, self._op)(x, *settings, out=out), None
        if out is None or not (x.flags.aligned and x.dtype.isnative):
            y, indices = getattr(ops, self._op)(x, *settings, return_indices=True)
            return y, (indices, x.shape)
        # Straight to the implementation: the functional call has no memory for the indices.
        indices = empty(workspace, spec.output_shape, _INT64)
        registry.choose(self._op, spec).run(spec, x, out, indices)
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
        out = place(workspace, shape, grad_output.dtype)
        return getattr(grad, self._op)(grad_output, indices, shape, out=out)


class MaxPool2d(_ExtremePool2d):
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
    _op = "max_pool2d"


class MinPool2d(_ExtremePool2d):
    """Minimum over windows: ``-MaxPool2d(-x)``, without the copies; PyTorch has none.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As in :func:`fastconv.min_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.MinPool2d(2)
    >>> layer(np.array([[[[1.0, 2.0], [4.0, 3.0]]]]))
    array([[[[1.]]]])
    >>> layer.backward(np.array([[[[5.0]]]]))
    array([[[[5., 0.],
             [0., 0.]]]])
    """

    kind = "min"
    _op = "min_pool2d"


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
        self.kernel_size = sizes(kernel_size, "kernel_size")
        self.stride = None if stride is None else sizes(stride, "stride")
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
        out = None
        if workspace is not None:
            out = place(workspace, self._spec(x.shape, x.dtype).output_shape, x.dtype)
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
        out = place(workspace, context, grad_output.dtype)
        return grad.avg_pool2d(grad_output, context, *self._settings(), out=out)


class SoftmaxPool2d(_Pool2d):
    """Mean over windows, weighted by the softmax of `beta` times the pixels; PyTorch has none.

    Parameters
    ----------
    kernel_size, stride, padding, beta
        As in :func:`fastconv.softmax_pool2d`: with a `beta` of 0 the mean, with a large one
        nearly the maximum.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> x = np.array([[[[1.0, 2.0], [4.0, 3.0]]]])
    >>> [round(nn.SoftmaxPool2d(2, beta=beta)(x).item(), 4) for beta in (0, 1, 100)]
    [2.5, 3.4927, 4.0]
    """

    kind = "softmax"

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Any = 0,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel_size = sizes(kernel_size, "kernel_size")
        self.stride = None if stride is None else sizes(stride, "stride")
        self.padding = padding
        self.beta = _finite("beta", beta)

    def _spec(self, input_shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        return pool_spec(
            input_shape,
            self.kernel_size,
            self.stride,
            self.padding,
            dtype=np.dtype(dtype),
            beta=self.beta,
        )

    def _settings(self) -> tuple:
        return self.kernel_size, self.stride, self.padding, self.beta

    def _run_batch(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        out = place(workspace, self._batch_shape(x.shape), x.dtype)
        return ops.softmax_pool2d(x, *self._settings(), out=out), x

    def _pull_batch(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        if not need_input_grad:
            return None
        x, out = context, None
        if x.dtype.char in "fd":
            out = place(workspace, x.shape, np.result_type(x, grad_output))
        return grad.softmax_pool2d(grad_output, x, *self._settings(), out=out)

    def flops(self, input_shape: tuple[int, ...]) -> int:
        """N C P Q (7 R S - 2): as `fastconv.analysis.pool2d_cost` counts, an exponential as one."""
        rows, columns = self.kernel_size
        return math.prod(self.output_shape(input_shape)) * (7 * rows * columns - 2)

    def _options(self) -> str:
        return f"{super()._options()}, beta={self.beta}"
