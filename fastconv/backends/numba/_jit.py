"""How kernels are compiled and run: one Python function gives a serial and a parallel variant."""

import threading
import time
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import FunctionType

import numba
from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache

# "contract" allows fused multiply-add and nothing that would lose NaN or change an order
OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}

# functions that kernels call: they make no arrays, so they need not count references, which LLVM
# would leave in the inner loops
helper = njit(_nrt=False, **OPTIONS)
inlined = njit(_nrt=False, forceinline=True, **OPTIONS)


class _Watch(event.Listener):
    """Seconds that compiling has taken in this process; `tell` is called when it next begins."""

    def __init__(self):
        self.seconds = 0.0
        self.tell = None
        self.depth = 0

    def on_start(self, event):
        self.depth += 1
        if self.depth == 1:
            self.start = time.perf_counter()
            if self.tell is not None:
                tell, self.tell = self.tell, None
                tell()

    def on_end(self, event):
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.start


watch = _Watch()  # Numba compiles one function at a time
event.register("numba:compile", watch)

_SOURCE = b"".join(
    sha256(f.read_bytes()).digest() for f in sorted(Path(__file__).parent.glob("*.py"))
)


class _Cache(FunctionCache):
    """Numba's cache, out of date when any file of this folder has changed.

    Numba looks at the kernel's own file, and would keep kernels made with helpers of yesterday.
    """

    def __init__(self, function):
        super().__init__(function)
        self._cache_file._source_stamp = _SOURCE

    def save_overload(self, *args):
        # the disk may be full by now: what was compiled runs all the same
        with suppress(OSError):
            super().save_overload(*args)


def _dispatcher(function, **options):
    made = njit(**OPTIONS, **options)(function)
    with suppress(RuntimeError):  # no directory that a cache could be written to
        made._cache = _Cache(function)
    return made


_one_team = threading.Lock()


def _layer():
    """Name of Numba's threading layer; None before its threads have been started."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def _in_team(kernel, threads, *args):
    if _layer() in ("omp", "tbb"):
        _masked(kernel, threads, *args)
    else:  # Numba's own layer ends the process where two threads use it at once
        with _one_team:
            _masked(kernel, threads, *args)


def _masked(kernel, threads, *args):
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        kernel(*args)
    finally:
        numba.set_num_threads(before)


def compiled(function):
    """``kernel(threads)`` is the function's serial variant, or for threads > 1 its parallel one.

    A parallel variant shares out its ``numba.prange`` loops.
    """
    # Numba's cache knows variants of a function by their name alone
    name = f"{function.__qualname__}_parallel"
    twin = FunctionType(function.__code__, function.__globals__, name)
    twin.__qualname__ = name
    twin.__module__ = function.__module__
    serial = _dispatcher(function)
    parallel = _dispatcher(twin, parallel=True)

    def kernel(threads):
        return partial(_in_team, parallel, threads) if threads > 1 else serial

    return kernel
