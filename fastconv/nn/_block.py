"""A convolution with the activation and the pooling after it, as one stage of a network.

Where the backend in use offers it ("conv2d_block" in the registry) the stage runs as one operation,
a few images at a time, with its intermediate results in the cache; else layer by layer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import registry
from ..config import current, using
from ..spec import BlockSpec
from ._workspace import Workspace, empty

__all__ = ["Block"]

_block_spec = lru_cache(maxsize=1024)(BlockSpec)
_NO_PADDING = (0, (0, 0), [0, 0], "valid")


class Block:
    """A Conv2d, then an activation or None, then a pooling layer or None.

    Parameters
    ----------
    conv : Conv2d
    activation : ReLU, Sigmoid, Tanh or None
    pool : AvgPool2d, MaxPool2d or None
    """

    def __init__(self, conv: Any, activation: Any = None, pool: Any = None) -> None:
        self.conv, self.activation, self.pool = conv, activation, pool

    def _spec(self, x: np.ndarray) -> BlockSpec | None:
        """What a fused operation would have to do; None when no such operation could do it."""
        conv, pool = self.conv, self.pool
        dtype = conv.weight.dtype
        if x.dtype != dtype or x.ndim != 4 or not x.flags.aligned or not dtype.isnative:
            return None
        kind, window = "avg", (1, 1)
        if pool is not None:
            kind, window = pool.kind, pool.kernel_size
            if (
                pool.stride not in (None, window)
                or pool.padding not in _NO_PADDING
                or pool.ceil_mode
                or getattr(pool, "dilation", (1, 1)) != (1, 1)
                or getattr(pool, "divisor_override", None) is not None
            ):
                return None
        elif self.activation is None:
            return None
        name = None if self.activation is None else self.activation.name
        return _block_spec(conv._spec(x.shape, dtype), name, kind, window)

    def run(self, x: np.ndarray, workspace: Workspace | None, keep: bool) -> tuple[np.ndarray, Any]:
        """The output, and what `pull` needs."""
        # one image fills no lanes: asking for more would take as long as a small layer
        spec = self._spec(x) if len(x) > 1 else None
        fused = None if spec is None else registry.offer("conv2d_block", spec)
        if fused is None:
            return self._run_layers(x, workspace, keep)
        conv = self.conv
        kept = None
        if keep:
            size = registry.offer("conv2d_block_size", spec).run(spec)
            kept = empty(workspace, (size,), x.dtype)
        out = empty(workspace, spec.output_shape, x.dtype)
        bias = None if conv.bias is None else conv.bias.data
        fused.run(spec, x, conv.weight.data, bias, kept, out)
        # the lanes of `kept` are those of the instruction set in use now
        return out, (spec, x, kept, current().isa)

    def pull(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        """Add to the parameters' gradients; the input's gradient where it is needed."""
        spec = context[0]
        if spec is None:
            return self._pull_layers(context, grad_output, need_input_grad, workspace)
        _, x, kept, isa = context
        conv = self.conv
        grad_output = np.ascontiguousarray(grad_output, x.dtype)
        grad_input = empty(workspace, x.shape, x.dtype) if need_input_grad else None
        bias = None if conv.bias is None else np.empty(conv.bias.shape, x.dtype)

        def compute(out):
            out = np.empty(conv.weight.shape, x.dtype) if out is None else out
            with using(backend="native", isa=isa):
                registry.offer("conv2d_block_backward", spec).run(
                    spec, x, conv.weight.data, kept, grad_output, grad_input, out, bias
                )
            return out

        conv.weight._add(compute, x.dtype)
        if bias is not None:
            conv.bias._add(lambda out: bias if out is None else np.copyto(out, bias), x.dtype)
        return grad_input

    def _run_layers(
        self, x: np.ndarray, workspace: Workspace | None, keep: bool
    ) -> tuple[np.ndarray, Any]:
        name = () if self.activation is None else (self.activation.name,)
        y, conv_context = self.conv._run(x, workspace, keep, *name)
        out, pool_context = y, None
        if self.pool is not None:
            out, pool_context = self.pool._run(y, workspace, keep)
        return out, (None, conv_context, y if keep else None, pool_context)

    def _pull_layers(
        self,
        context: Any,
        grad_output: np.ndarray,
        need_input_grad: bool,
        workspace: Workspace | None,
    ) -> np.ndarray | None:
        _, conv_context, y, pool_context = context
        if self.pool is not None:
            grad_output = self.pool._pull(pool_context, grad_output, True, workspace)
        if self.activation is not None:
            if self.pool is not None:  # then the gradient is an array of our own
                grad_output = self.activation._pull_in_place(y, grad_output)
            else:
                grad_output = self.activation._pull(y, grad_output, True, workspace)
        return self.conv._pull(conv_context, grad_output, need_input_grad, workspace)
