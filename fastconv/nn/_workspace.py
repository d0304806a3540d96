"""Memory that a training step leaves for the next one.

A fresh large array costs a page fault per 4 KiB when it is first written, more than the
arithmetic of a pooling layer. A :class:`Workspace` hands the same memory out again as soon as
nothing refers to it, so it can never change an array that somebody still holds.
"""

from __future__ import annotations

import sys

import numpy as np

__all__ = ["Workspace", "empty"]

_SMALL = 1 << 16  # bytes; malloc serves smaller arrays from its heap, without page faults
_ALIGNMENT = 64  # bytes: one cache line, one AVX-512 vector
_MAX_AGE = 16  # steps a buffer may stay unused before it is given back

# The count of a buffer that only its list holds, measured: it differs between interpreters.
_PROBE = [np.empty(1, np.uint8)]
_UNUSED = sys.getrefcount(_PROBE[0])


class Workspace:
    """Arrays whose memory is reused once no reference to it is left.

    Every array handed out keeps its buffer referenced (``array.base``), and so do views of it,
    memoryviews and tensors that share it; a buffer is handed out again only when its reference
    count shows none of them. One workspace belongs to one thread.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn._workspace import Workspace
    >>> workspace = Workspace()
    >>> a = workspace.take((256, 1024), np.float32)
    >>> address = a.ctypes.data
    >>> del a                              # nobody holds it: the next array gets its memory
    >>> b = workspace.take((200, 1024), np.float32)
    >>> b.ctypes.data == address
    True
    >>> c = workspace.take((256, 1024), np.float32)
    >>> c.ctypes.data == address           # b is still held
    False
    """

    def __init__(self) -> None:
        self._buffers: list[np.ndarray] = []
        self._starts: list[int] = []  # first aligned byte of each
        self._used: list[int] = []  # step of its last use
        self._step = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised C-contiguous array, aligned to a cache line.

        Parameters
        ----------
        shape : tuple of int
        dtype : numpy.dtype

        Returns
        -------
        numpy.ndarray
        """
        dtype = np.dtype(dtype)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if size < _SMALL:
            return np.empty(shape, dtype)
        buffers = self._buffers
        best = -1
        # A buffer up to four times too large will do: a last, smaller batch finds its place.
        best_size = 4 * size + _ALIGNMENT + 1
        for i in range(len(buffers)):
            if size + _ALIGNMENT <= buffers[i].size < best_size and (
                sys.getrefcount(buffers[i]) <= _UNUSED
            ):
                best, best_size = i, buffers[i].size
        if best < 0:
            best = len(buffers)
            fresh = np.empty(size + _ALIGNMENT, np.uint8)
            buffers.append(fresh)
            self._starts.append(-fresh.ctypes.data % _ALIGNMENT)
            self._used.append(0)
            del fresh
        self._used[best] = self._step
        start = self._starts[best]
        return np.ndarray(shape, dtype, buffers[best], start)

    def next_step(self) -> None:
        """Give back what the last steps did not use (a batch has become smaller, say)."""
        self._step += 1
        oldest = self._step - _MAX_AGE
        if self._used and min(self._used) < oldest:
            kept = [i for i, used in enumerate(self._used) if used >= oldest]
            self._buffers = [self._buffers[i] for i in kept]
            self._starts = [self._starts[i] for i in kept]
            self._used = [self._used[i] for i in kept]

    def __reduce__(self) -> tuple:
        return Workspace, ()  # a copied or pickled network starts with no spare memory

    def clear(self) -> None:
        """Forget every buffer; arrays handed out stay valid."""
        self._buffers.clear()
        self._starts.clear()
        self._used.clear()


def empty(workspace: Workspace | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array from `workspace`, or a new one where that is None.

    Examples
    --------
    >>> from fastconv.nn._workspace import empty
    >>> empty(None, (2, 3), "float32").shape
    (2, 3)
    """
    return np.empty(shape, dtype) if workspace is None else workspace.take(shape, dtype)
