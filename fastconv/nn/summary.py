"""What a network consists of and what it costs, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..analysis.fields import fields_of

if TYPE_CHECKING:
    from .layers import Module

__all__ = ["LayerSummary", "Summary", "summarize"]


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer's line.

    Attributes
    ----------
    name : str
        As in ``state_dict``.
    layer : str
        Its class.
    output_shape : tuple of int
    parameters : int
    flops : int
        Multiplications, additions and comparisons of one forward pass; an activation, and an
        exponential in a softmax pooling, count as one.
    bytes : int
        Input, parameters and output of one forward pass: what has to move at least.
    receptive_field : (int, int) or None
        Rows and columns of the input that one output element depends on (borders apart);
        None where `reach` is not "window".
    reach : {"window", "all", "varies"}
        As in `fastconv.analysis.Field`.
    """

    name: str
    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    bytes: int
    receptive_field: tuple[int, int] | None
    reach: str = "all"


@dataclass(frozen=True, slots=True)
class Summary:
    """The lines of a network's layers; ``str`` is a table.

    Attributes
    ----------
    input_shape : tuple of int
    layers : tuple of LayerSummary

    Examples
    --------
    >>> from fastconv import nn
    >>> summary = nn.lenet(seed=0).summary((1, 1, 28, 28))
    >>> summary.parameters
    61706
    >>> [line.output_shape for line in summary][:3]
    [(1, 6, 28, 28), (1, 6, 28, 28), (1, 6, 14, 14)]
    """

    input_shape: tuple[int, ...]
    layers: tuple[LayerSummary, ...]

    def __iter__(self) -> Iterator[LayerSummary]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def parameters(self) -> int:
        """Number of learnt numbers."""
        return sum(line.parameters for line in self.layers)

    @property
    def flops(self) -> int:
        """Work of one forward pass."""
        return sum(line.flops for line in self.layers)

    @property
    def bytes(self) -> int:
        """Memory traffic of one forward pass."""
        return sum(line.bytes for line in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for ``json.dump``."""
        return {
            "input_shape": list(self.input_shape),
            "layers": [asdict(line) for line in self.layers],
            "parameters": self.parameters,
            "flops": self.flops,
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        rows = [("name", "layer", "output shape", "parameters", "FLOPs", "bytes", "")]
        rows[0] = (*rows[0][:-1], "receptive field")
        for line in self.layers:
            field = line.receptive_field
            rows.append(
                (
                    line.name,
                    line.layer,
                    str(line.output_shape),
                    f"{line.parameters:,}",
                    f"{line.flops:,}",
                    f"{line.bytes:,}",
                    line.reach if field is None else f"{field[0]} x {field[1]}",
                )
            )
        totals = f"{self.parameters:,}", f"{self.flops:,}", f"{self.bytes:,}"
        rows.append(("total", "", "", *totals, ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [
                cell.rjust(width) if 3 <= column <= 5 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def leaves(module: Module, name: str) -> Iterator[tuple[str, Module]]:
    """The layers of nested Sequentials, in order."""
    from .layers import Sequential

    if not isinstance(module, Sequential):
        yield name, module
        return
    for child_name, child in module.children():
        yield from leaves(child, f"{name}.{child_name}" if name else child_name)


def summarize(net: Module, input_shape: tuple[int, ...]) -> Summary:
    """What ``net.summary(input_shape)`` returns.

    The receptive fields are those of `fastconv.analysis.receptive_field`.

    Parameters
    ----------
    net : Module
    input_shape : tuple of int

    Returns
    -------
    Summary
    """
    shape = tuple(input_shape)
    lines = []
    counted: set[int] = set()
    parts = list(leaves(net, ""))
    for (name, layer), field in zip(parts, fields_of(parts, shape), strict=True):
        after = tuple(layer.output_shape(shape))
        parameters = list(layer.parameters())
        itemsize = parameters[0].dtype.itemsize if parameters else 4
        if not parameters:
            itemsize = next((p.dtype.itemsize for p in net.parameters()), 4)
        elements = math.prod(shape) + math.prod(after) + sum(p.size for p in parameters)
        lines.append(
            LayerSummary(
                name,
                type(layer).__name__,
                after,
                sum(p.size for p in parameters if id(p) not in counted),
                layer.flops(shape),
                elements * itemsize,
                field.size,
                field.reach,
            )
        )
        counted.update(id(p) for p in parameters)
        shape = after
    return Summary(tuple(input_shape), tuple(lines))
