"""How kernels are compiled and run.

A kernel is a function of (i, pieces, ...) that does piece i of its work. It is compiled once, with
code beside it (`_share_out`) that has all pieces done, one after the other or by Numba's threads.
For the latter that puts the arguments into a block of memory and hands its address and the
kernel's to `_team`, the one function with a parallel loop: for a parallel variant of each kernel
Numba would take twice as long again.
"""

import threading
import time
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from types import FunctionType

import numba
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils, event
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

# "contract" allows fused multiply-add and nothing that would lose NaN or change an order
OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}

# functions that kernels call: they make no arrays, so they need not count references, which LLVM
# would leave in the inner loops
INNER = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, **OPTIONS}
helper = njit(**INNER)
inlined = njit(forceinline=True, **INNER)


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


def _in_team(launch, pieces, *args):
    if _layer() in ("omp", "tbb"):
        _masked(launch, pieces, *args)
    else:  # Numba's own layer ends the process where two threads use it at once
        with _one_team:
            _masked(launch, pieces, *args)


def _masked(launch, pieces, *args):
    before = numba.get_num_threads()
    numba.set_num_threads(min(pieces, numba.config.NUMBA_NUM_THREADS))
    try:
        launch(_team_address(), pieces, *args)
    finally:
        numba.set_num_threads(before)


@intrinsic
def _share_out(typingctx, team, pieces, piece, args):
    """Have ``piece(i, pieces, *args)`` called for all i, by the function at the address `team`.

    Where that is 0 they are called one after the other.
    """
    kinds = (types.int64, types.int64, *args)
    piece.dispatcher.compile(kinds)
    made = piece.dispatcher.overloads[kinds]

    def codegen(context, builder, signature, values):
        context.active_code_library.add_linking_library(made.library)
        team, pieces, _, packed = values
        long, void = ir.IntType(64), ir.VoidType()
        block = cgutils.alloca_once_value(builder, packed)

        # the piece as a function of three numbers: where its arguments are, i, and pieces
        name = builder.function.name + ".piece"
        entry = ir.Function(builder.module, ir.FunctionType(void, [long, long, long]), name)
        entry.linkage = "internal"
        inside = ir.IRBuilder(entry.append_basic_block())
        data, i, n = entry.args
        elements = inside.load(inside.inttoptr(data, block.type))
        each = [inside.extract_value(elements, k) for k in range(len(args))]
        context.call_internal_no_propagate(inside, made.fndesc, made.signature, [i, n, *each])
        inside.ret_void()

        data = builder.ptrtoint(block, long)
        is_alone = builder.icmp_unsigned("==", team, long(0))
        with builder.if_else(is_alone) as (alone, together):
            with alone, cgutils.for_range(builder, pieces) as loop:
                builder.call(entry, [data, loop.index, pieces])
            with together:
                kind = ir.FunctionType(ir.IntType(8).as_pointer(), [long, long, long])
                address = builder.ptrtoint(entry, long)
                builder.call(builder.inttoptr(team, kind.as_pointer()), [address, data, pieces])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, piece, args), codegen


@intrinsic
def _call_piece(typingctx, entry, data, i, pieces):
    """Call the function at the address `entry`, one that `_share_out` has made."""

    def codegen(context, builder, signature, values):
        long = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [long] * 3).as_pointer()
        builder.call(builder.inttoptr(values[0], kind), values[1:])
        return context.get_dummy_value()

    long = types.int64
    return types.void(long, long, long, long), codegen


def _team(entry, data, pieces):
    for i in prange(pieces):
        _call_piece(entry, data, i, pieces)


_team = _dispatcher(_team, parallel=True)


@cache
def _team_address():
    kinds = (types.int64,) * 3
    _team.compile(kinds)
    made = _team.overloads[kinds]
    return made.library.get_pointer_to_function(made.fndesc.llvm_cfunc_wrapper_name)


def _launch(team, pieces, *args):
    _share_out(team, pieces, PIECE, args)  # noqa: F821  (a global of each kernel's own)


def compiled(function):
    """``kernel(pieces)(...)`` calls ``function(i, pieces, ...)`` for all i, in as many threads."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    # Numba's cache knows functions by name
    launch = FunctionType(
        _launch.__code__, {"_share_out": _share_out, "PIECE": helper(function)}, name
    )
    launch.__qualname__ = name
    launch.__module__ = function.__module__
    launch = _dispatcher(launch)

    def kernel(pieces):
        return partial(_in_team, launch, pieces) if pieces > 1 else partial(launch, 0, 1)

    return kernel
