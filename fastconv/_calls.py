"""Calls that come again: found by their arguments, and run without checking them once more.

A small layer takes a kernel a few microseconds; to check a call's arguments, to choose a row of
the registry and to cut the work into blocks takes longer. So a row may `prepare` a call, and
`Calls` of the native backend, whose rows alone do, find it again by its arrays' shapes and strides,
its other arguments and the settings in force. Calls go the long way that come for the first time,
and all that are not plain: lists, subclasses, mixed dtypes.
"""

from __future__ import annotations

from typing import Any

from fastconv import registry
from fastconv.config import current


class Kept:
    """The calls of an operation with plain weights, or without."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: Any = None  # until there is one: the native backend is imported when used


conv2d, pool = Kept(), Kept()


def state() -> tuple:
    """What a choice of an implementation depends on beside the call."""
    return current(), registry._generation


def keep(
    holder: Any,
    row: registry.Impl,
    spec: Any,
    chosen_in: tuple,
    made: tuple,
    y: Any,
    *rest: Any,
) -> None:
    """Prepare a call for the next time.

    Parameters
    ----------
    holder : Kept or PackedConv2d
    row : Impl
        Which served it.
    spec : ConvSpec or PoolSpec
    chosen_in : tuple
        The `state` before it was chosen.
    made : tuple
        The call, as `Calls.run` is given it.
    y : array
        Its result.
    *rest
        What the row's `prepare` needs beside spec, settings, image and result.
    """
    x = made[0]
    if row.prepare is None or spec.dtype is not getattr(x, "dtype", None):
        return
    if holder._calls is None:
        from fastconv.backends.native._dispatch import Calls

        holder._calls = Calls()
    holder._calls.keep(made, y, *chosen_in, lambda: row.prepare(spec, chosen_in[0], x, y, *rest))


# by operation: what `Impl.prepare` gave, and the state in which it was chosen
_elements: dict[str, tuple] = {}


def element(op: str, x: Any, out: Any) -> Any:
    """What an elementwise operation returns; None where it is to go the long way."""
    kept = _elements.get(op)
    if kept is None or kept[1] is not current() or kept[2] is not registry._generation:
        return None
    return kept[0](x, out)


def keep_element(op: str, row: registry.Impl, spec: Any, chosen_in: tuple) -> None:
    """Prepare an elementwise operation on one array for the next time."""
    if row.prepare is not None:
        _elements[op] = (row.prepare(spec, chosen_in[0]), *chosen_in)
