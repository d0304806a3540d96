"""What every operation does with the arrays that come in and the one that goes out."""

from __future__ import annotations

import numpy as np

FLOAT16, FLOAT32, FLOAT64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
_KERNEL_DTYPES = (FLOAT32, FLOAT64)
_EXACT = 2**53  # integers up to here are exact in float64


LARGE = 65536  # bytes of an array that is worth its alignment
_LINE = 64  # bytes of a cache line


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As np.empty; a large array begins with a cache line.

    NumPy's large arrays begin 16 bytes behind one, so that each vector of 64 bytes lies in two:
    kernels that mostly load and store then take up to a quarter longer. Such an array is a view of
    its memory, so its ``flags.owndata`` is False.
    """
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < LARGE:
        return np.empty(shape, dtype)
    memory = np.empty(size + _LINE, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % _LINE)


def as_array(name: str, value) -> np.ndarray:
    """An ndarray of real numbers, without a copy where that is possible."""
    if type(value) is not np.ndarray:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            value = np.from_dlpack(value)
        else:
            try:
                value = np.asarray(value)
            except ValueError as error:  # nested lists of unequal lengths
                raise ValueError(f"{name}: cannot be made an array: {error}") from None
    if value.dtype not in _KERNEL_DTYPES and (
        value.dtype.kind not in "fiub" or value.dtype.itemsize > 8
    ):
        raise TypeError(f"{name}: expected real numbers of up to 64 bits, got dtype {value.dtype}")
    return value


def dtypes(*arrays: np.ndarray) -> tuple[np.dtype, np.dtype]:
    """(float32 or float64 to compute in, dtype of the result).

    They are what NumPy promotes to, except that float16 is computed in float32, and integers in
    float64, where they are exact, which is also their result's dtype.
    """
    first = arrays[0].dtype
    if first is FLOAT32 or first is FLOAT64:
        for a in arrays:
            if a.dtype is not first:
                break
        else:
            return first, first
    dtype = np.result_type(*(a.dtype for a in arrays))
    if dtype.kind != "f":
        return FLOAT64, FLOAT64
    if dtype.itemsize == 2:
        return FLOAT32, FLOAT16
    return (FLOAT32, FLOAT32) if dtype.itemsize == 4 else (FLOAT64, FLOAT64)


def integral(*arrays: np.ndarray) -> bool:
    """Whether the arrays hold integers, all of them."""
    return all(a.dtype.kind in "iub" for a in arrays)


def converted(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`array` as a kernel takes it: `dtype`, in native byte order, aligned, of any strides."""
    if array.dtype == dtype and array.flags.aligned:
        return array
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        low, high = int(array.min()), int(array.max())
        if low < -_EXACT or high > _EXACT:
            raise ValueError(
                f"{name}: 64-bit integers are computed in float64, exact up to 2**53; "
                f"got values from {low} to {high}"
            )
    return array.astype(dtype)


def batched(name: str, array: np.ndarray, layout: str) -> tuple[np.ndarray, bool]:
    """(array as (N, C, H, W), whether it had a batch axis); NHWC becomes a view."""
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"layout: expected NCHW or NHWC, got {layout!r}")
    if array.ndim == 4:
        unbatched = False
    elif array.ndim == 3:
        array, unbatched = array[None], True
    else:
        expected = ", ".join(layout)
        raise ValueError(
            f"{name}: expected shape ({expected}) or ({expected[3:]}), got {array.shape}"
        )
    if layout == "NHWC":
        array = array.transpose(0, 3, 1, 2)
    return array, not unbatched


def checked_out(out, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise unless `out` is a writable array of this shape and dtype."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a numpy.ndarray, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {out.shape}")
    if out.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out: expected a writable array, got a read-only one")


class Result:
    """The array a kernel writes to, and the one the caller gets.

    They are the same where the caller's array can be written to directly. A separate one is
    needed when it overlaps an input, when several of its elements share memory, or when the
    result is computed in another dtype than it is returned in.
    """

    __slots__ = ("array", "given", "order", "squeeze", "target")

    def __init__(
        self,
        shape,
        dtype,
        out,
        target_dtype,
        inputs,
        has_batch=True,
        layout="NCHW",
        contiguous=False,
    ):
        nhwc = layout == "NHWC"
        self.squeeze = not has_batch
        self.given = out
        self.target = target_dtype
        self.order = (0, 2, 3, 1) if nhwc else None
        if out is not None:
            public = shape if not nhwc else (shape[0], *shape[2:], shape[1])
            checked_out(out, public if has_batch else public[1:], target_dtype)
            direct = (
                out.dtype == dtype
                and out.flags.aligned
                and not any(np.may_share_memory(out, a) for a in inputs if a is not None)
                and (out.flags.c_contiguous or (not contiguous and _distinct(out)))
            )
            if direct:
                self.array = out if has_batch else out[None]
                if nhwc:
                    self.array = self.array.transpose(0, 3, 1, 2)
                return
        if nhwc:
            self.array = empty((shape[0], *shape[2:], shape[1]), dtype).transpose(0, 3, 1, 2)
        else:
            self.array = empty(shape, dtype)

    def finish(self) -> np.ndarray:
        """What the caller gets: `out` where it was given."""
        array = self.array if self.order is None else self.array.transpose(self.order)
        if self.squeeze:
            array = array[0]
        if self.given is None:
            return array if array.dtype == self.target else array.astype(self.target)
        if not np.may_share_memory(array, self.given):
            self.given[...] = array
        return self.given


def _distinct(array: np.ndarray) -> bool:
    """Whether no two elements share memory (a sufficient test, over the sorted strides)."""
    reach = array.itemsize
    for stride, extent in sorted(
        (abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1
    ):
        if stride < reach:
            return False
        reach = stride * extent
    return True
