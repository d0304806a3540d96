"""How kernels are compiled: one Python function gives a serial and a parallel variant."""

from types import FunctionType

from numba import njit

# "contract" allows fused multiply-add and nothing that would lose NaN or change an order
OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}

# functions that kernels call: they make no arrays, so they need not count references, which LLVM
# would leave in the inner loops
helper = njit(_nrt=False, **OPTIONS)
inlined = njit(_nrt=False, forceinline=True, **OPTIONS)


def _dispatcher(function, **options):
    try:
        return njit(cache=True, **OPTIONS, **options)(function)
    except RuntimeError:  # no directory that a cache could be written to
        return njit(**OPTIONS, **options)(function)


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
        return parallel if threads > 1 else serial

    return kernel
