"""Calls that come again: found by their arguments, and run without checking them once more.

A small layer takes a kernel a few microseconds; to check a call's arguments, to choose a row of
the registry and to cut the work into blocks takes longer. So a row may `prepare` a call: an object
whose ``run(*arrays, out)`` only looks where the arrays lie, and gives None where that is not as it
was. Such calls go the long way, and so do those that come for the first time and all that are not
plain: lists, subclasses, mixed dtypes.
"""

from __future__ import annotations

from typing import Any

from numpy import ndarray

from fastconv import registry
from fastconv._arrays import FLOAT32, FLOAT64
from fastconv.config import current

MOST = 256  # calls that are kept, each with some kilobytes of tables


class _LongWay:
    """What is kept of a call that cannot be prepared."""

    def run(self, *arrays: Any) -> None:
        return None


_LONG_WAY = _LongWay()


def _plain(number: Any) -> bool:
    """Whether an argument equals, as a key, only what means the same: 1.0 and True equal 1."""
    kind = type(number)
    if kind is tuple:
        for part in number:
            if type(part) is not int and not _plain(part):
                return False
        return True
    return kind is int or kind is str or number is None


class Calls(dict):
    """The calls of an operation that were prepared; several threads may use it at once."""

    __slots__ = ()

    def find(
        self, arrays: tuple, shape: tuple | None, numbers: tuple, names: tuple
    ) -> tuple[tuple | None, Any]:
        """(what a call is known by, what was prepared for it).

        Parameters
        ----------
        arrays : tuple
            All arrays of the call, the image first; None for one that is not given.
        shape : tuple or None
            What decides beside the image's: that of the weight.
        numbers : tuple
            Arguments that are integers, strings, None, or tuples of them.
        names : tuple
            The others.

        Returns
        -------
        key : tuple or None
            None where the call is to go the long way.
        call : prepared, or None
        """
        image = arrays[0]
        if type(image) is not ndarray:
            return None, None
        dtype = image.dtype
        if dtype is not FLOAT32 and dtype is not FLOAT64:
            return None, None
        for array in arrays:
            if array is not None and (type(array) is not ndarray or array.dtype is not dtype):
                return None, None
        for number in numbers:
            if type(number) is not int and not _plain(number):
                return None, None
        key = current(), registry._generation, dtype, image.shape, shape, numbers, names
        try:
            return key, self.get(key)
        except TypeError:  # a name that has no hash
            return None, None

    def keep(
        self, key: tuple, call: Any, row: registry.Impl, spec: Any, arrays: tuple, *rest: Any
    ) -> None:
        """Prepare a call for the next time; `call` is what `find` found.

        `arrays` are the image and the result, with axes in the order of the call's layout.
        """
        if call is not None and (call is _LONG_WAY or call.strides == _strides(arrays)):
            return
        if not arrays[-1].flags.c_contiguous:
            return  # its elements might share memory
        if row.prepare is not None:
            call = row.prepare(spec, key[0], *arrays, *rest)
        if len(self) >= MOST:
            self.clear()
        self[key] = _LONG_WAY if call is None else call


def _strides(arrays: tuple) -> tuple:
    return tuple(array.strides for array in arrays)


conv2d, pool = Calls(), Calls()
