"""Weights brought into the kernels' layout beforehand, for convolutions that use them again."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np

from fastconv import registry
from fastconv._arrays import as_array, converted, dtypes
from fastconv.config import BACKENDS, METHODS
from fastconv.spec import conv_spec, pair, shape_of

__all__ = ["PackedConv2d", "pack_conv2d"]


class PackedConv2d:
    """A weight for `fastconv.conv2d`, with what its kernels make of it; see `pack_conv2d`.

    It is read-only and may be used by several threads at once. What a kernel needs is made by the
    first call that needs it and kept: for each method and instruction set, number of groups and
    dtype of the computation. Other functions take it as the array that it was made of.

    Attributes
    ----------
    shape : tuple of int
        (K, C / groups, R, S).
    dtype : dtype

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> packed = fc.pack_conv2d(np.ones((4, 3, 3, 3), np.float32))
    >>> packed.shape, np.asarray(packed).sum()
    ((4, 3, 3, 3), np.float32(108.0))
    """

    __slots__ = ("_array", "_buffers", "_calls", "_converted", "_lock")

    def __init__(self, array: np.ndarray) -> None:
        # the array is borrowed: `pack_conv2d` hands over a copy of its own
        self._array = array
        self._converted: dict[np.dtype, np.ndarray] = {}
        self._buffers: dict[tuple, Any] = {}
        self._calls: Any = None  # see `fastconv._calls`
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, C / groups, R, S)."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        """That of the weight it was made of."""
        return self._array.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the weight, and of all arrays that were made of it so far."""
        arrays = {id(a): a for a in (self._array, *self._converted.values())}
        arrays |= {id(b): b for b in self._buffers.values() if hasattr(b, "nbytes")}
        return sum(a.nbytes for a in arrays.values())

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        array = self._array.view()
        array.flags.writeable = False
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"dtype: {np.dtype(dtype)} needs a copy of this {array.dtype}")
            return array.astype(dtype)
        return array.copy() if copy else array

    def as_dtype(self, dtype: np.dtype) -> np.ndarray:
        """The weight as a kernel takes it: C-contiguous and of this dtype."""
        array = self._converted.get(dtype)
        if array is None:
            array = np.ascontiguousarray(converted("weight", self._array, dtype))
            self._converted[dtype] = array
        return array

    def buffer(self, row: registry.Impl, spec: Any, layout: str) -> Any:
        """What `row` makes of the weight for such a call, now if this is the first to need it."""
        if row.pack is None:
            return None
        key = (row, spec.groups, spec.dtype, row.packing_key(spec, layout))
        try:
            return self._buffers[key]
        except KeyError:
            pass
        with self._lock:
            if key not in self._buffers:
                self._buffers[key] = row.pack(spec, self.as_dtype(spec.dtype), layout)
            return self._buffers[key]

    def __reduce__(self) -> tuple:
        return pack_conv2d, (np.asarray(self),)  # the copy packs anew

    def __repr__(self) -> str:
        return f"PackedConv2d(shape={self.shape}, dtype={self.dtype})"


def pack_conv2d(
    weight,
    input_shape=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCHW",
    method="auto",
    backend=None,
):
    """Bring a weight into the kernels' layout, once for many calls of `conv2d`.

    A call with a plain weight arranges it for the kernels each time, which on few images takes a
    good part of the call. ``conv2d(x, packed, ...)`` finds it done, and "auto" chooses knowing
    that it costs nothing. The weight is copied: what happens to the array later does not matter.

    Parameters
    ----------
    weight : array of shape (K, C / groups, R, S)
    input_shape : tuple of int, optional
        (N, C, H, W) or (C, H, W): packs now for such an input. Otherwise, and for any other, the
        first call packs.
    stride, padding, dilation, groups, layout, method, backend
        As in the calls to come; they only serve to pack now. A call has its own, and may have
        others.

    Returns
    -------
    PackedConv2d
        In the place of a weight of `conv2d`; of `conv1d` where R is 1.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    See Also
    --------
    fastconv.nn.Conv2d : keeps a packed weight in evaluation mode.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image, weight = np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    >>> packed = fc.pack_conv2d(weight, image.shape)
    >>> float(fc.conv2d(image, packed)[0, 0, 0, 0])
    18.0
    """
    array = as_array("weight", weight)
    if array.ndim != 4 or not prod(array.shape):
        raise ValueError(
            "weight: expected shape (K, C/groups, R, S) of sizes of at least 1, "
            f"got shape {array.shape}"
        )
    packed = PackedConv2d(np.array(array, order="C"))
    packed._array.flags.writeable = False
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"layout: expected NCHW or NHWC, got {layout!r}")
    if input_shape is None:
        # what a spec would check is checked with the smallest input that fits
        steps = pair("dilation", dilation)
        size = [step * (n - 1) + 1 for step, n in zip(steps, array.shape[2:], strict=True)]
        groups_given = pair("groups", groups)[0]
        conv_spec(
            (1, array.shape[1] * groups_given, *size),
            array.shape,
            stride,
            padding,
            dilation,
            groups,
            dtypes(array)[0],
        )
        if method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
        if backend not in (None, *BACKENDS):
            raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
        return packed
    shape = shape_of("input_shape", input_shape, 3, 4)
    shape = (1, *shape)[-4:]
    if layout == "NHWC":
        shape = (shape[0], shape[3], shape[1], shape[2])
    spec = conv_spec(shape, array.shape, stride, padding, dilation, groups, dtypes(array)[0])
    row = registry.choose("conv2d", spec, method, backend, packed=True)
    packed.buffer(row, spec, layout)
    return packed
