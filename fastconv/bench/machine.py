"""What this machine reaches at best: multiply-adds, and copying between the levels of its memory.

There is no benchmark of the hardware in here: a peak is the highest rate that was measured, so a
share of it says how far a call is from the best that anything is known to reach on this machine.
"""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import fastconv as fc
from fastconv.bench import timing

__all__ = ["Peaks", "cache_sizes", "peaks"]

ROUNDS = 9
SAMPLE = 0.004  # seconds that a sample lasts at least
L2, L3 = 1 << 20, 32 << 20  # where the system does not tell

# a large matrix product; a pointwise convolution whose three arrays lie in a megabyte
MATRIX = 768
POINTWISE = (256, 14, 14)


@dataclass(frozen=True)
class Peaks:
    """The highest rates measured with a number of threads.

    Attributes
    ----------
    threads : int
    dtype : str
    gflops : float
        GFLOP/s, two for each multiply-add: the best of `gflops_by`.
    gflops_by : dict of str to float
        By what was measured.
    copy : dict of str to float
        GB/s of a copy, bytes read plus bytes written, with both arrays in "L2", in "L3" (the
        last-level cache), in "memory".
    cache : dict of str to int
        Bytes of one core's L2 and of the last-level cache.
    """

    threads: int
    dtype: str
    gflops: float
    gflops_by: dict[str, float]
    copy: dict[str, float]
    cache: dict[str, int]

    def level(self, size: int) -> str:
        """The smallest level that holds `size` bytes.

        Examples
        --------
        >>> found = Peaks(2, "float32", 1.0, {}, {}, {"L2": 1000, "L3": 5000})
        >>> found.level(2000), found.level(2001), found.level(9000)
        ('L2', 'L3', 'memory')
        """
        if size <= self.threads * self.cache["L2"]:
            return "L2"
        return "L3" if size <= self.cache["L3"] else "memory"

    def as_dict(self) -> dict:
        """As plain data, for JSON."""
        return asdict(self)


def cache_sizes() -> dict[str, int]:
    """Bytes of one core's L2 and of the last-level cache; usual ones where the system is silent.

    Examples
    --------
    >>> sizes = cache_sizes()
    >>> 0 < sizes["L2"] <= sizes["L3"]
    True
    """
    found = {}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level = int((folder / "level").read_text())
            size = (folder / "size").read_text().strip()
            if (folder / "type").read_text().strip() != "Instruction":
                found[level] = int(size.rstrip("KMG")) * units.get(size[-1], 1)
        except (OSError, ValueError):
            continue
    second = found.get(2, L2)
    return {"L2": second, "L3": max(second, found.get(max(found, default=0), L3))}


def _highest(call, work: float) -> float:
    """The highest rate of `call`, in units of `work` a second."""
    call()
    start = time.perf_counter()
    call()
    count = max(1, round(SAMPLE / max(time.perf_counter() - start, 1e-7)))
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - start) / count)
    return work / best


def _arithmetic(threads: int, dtype: np.dtype) -> dict[str, float]:
    """GFLOP/s by what was measured."""
    found = {}
    # without a limit on NumPy's BLAS its product would run on as many threads as it likes
    if timing.limits_blas():
        a, b, c = np.ones((3, MATRIX, MATRIX), dtype)
        found["NumPy matmul"] = _highest(lambda: np.matmul(a, b, out=c), 2e-9 * MATRIX**3)
    channels, height, width = POINTWISE
    x = np.ones((threads, *POINTWISE), dtype)
    w, y = np.ones((channels, channels, 1, 1), dtype), np.empty_like(x)
    work = 2e-9 * threads * height * width * channels**2
    found["fastconv pointwise"] = _highest(lambda: fc.conv2d(x, w, out=y), work)
    return found


def _copying(threads: int, size: int) -> float:
    """GB/s of `threads` threads that copy their parts of two arrays of `size` bytes in all."""
    part = max(64, size // (2 * threads) // 64 * 64)
    arrays = [np.ones((2, part), np.uint8) for _ in range(threads)]
    start_line = threading.Barrier(threads)
    # one copy takes about this long at 20 GB/s; what a call of NumPy costs is lost in it
    count = max(1, round(SAMPLE / (2 * part / 20e9)))

    def copy(source, target):
        np.copyto(target, source)
        start_line.wait()
        start = time.perf_counter()
        for _ in range(count):
            np.copyto(target, source)
        return start, time.perf_counter()

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            spans = list(pool.map(copy, *zip(*arrays, strict=True)))
            best = min(best, max(stop for _, stop in spans) - min(start for start, _ in spans))
    return 2e-9 * part * threads * count / best


@functools.cache
def peaks(threads: int = 1, dtype: str = "float32") -> Peaks:
    """Measure the machine, once in a process for each number of threads; takes about a second.

    Parameters
    ----------
    threads : int
    dtype : {"float32", "float64"}

    Returns
    -------
    Peaks

    Examples
    --------
    >>> found = peaks(1)
    >>> found.gflops == max(found.gflops_by.values()) and sorted(found.copy)
    ['L2', 'L3', 'memory']
    """
    cache = cache_sizes()
    with timing.threads(threads):
        arithmetic = _arithmetic(threads, np.dtype(dtype))
    sizes = {
        "L2": threads * cache["L2"] // 2,
        "L3": cache["L3"] // 2,
        "memory": max(4 * cache["L3"], 64 << 20),
    }
    copy = {level: _copying(threads, size) for level, size in sizes.items()}
    best = max(arithmetic.values())
    return Peaks(threads, str(np.dtype(dtype)), best, arithmetic, copy, cache)
