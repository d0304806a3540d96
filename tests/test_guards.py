"""The native drivers on arrays against a page that nobody may touch.

A read or write beside an array ends the process, on every instruction set and without a sanitizer;
masked loads, which the address sanitizer does not see, are no exception.
"""

import ctypes
import mmap
import signal
import subprocess
import sys

import helpers
import numpy as np
import pytest
from helpers import DTYPES, call, operands
from test_native_forms import OPS, row_of
from test_ops import FAST_ROWS, cases, check, few

from fastconv.backends.native import _costs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
SIDES = ("before", "behind")


def guarded(array, side):
    """A copy of `array` that begins behind such a page (side "before"), or ends before one."""
    page = mmap.PAGESIZE
    size = -(-max(array.nbytes, 1) // page) * page
    memory = mmap.mmap(-1, size + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (start, start + page + size):
        if protect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page if side == "before" else page + size - array.nbytes
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def run_guarded(row, spec, rng, side):
    inputs = operands(row.op, spec, rng)
    out = np.full(helpers.shapes(row.op, spec)[1], np.nan, spec.dtype)
    given = tuple(guarded(a, side) if isinstance(a, np.ndarray) else a for a in inputs)
    check(row, spec, inputs, call(row, spec, given, guarded(out, side)))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("row, spec", cases([r for r in FAST_ROWS if r.backend == "native"]))
def test_row_stays_in_its_arrays(row, spec, side, rng):
    run_guarded(row, spec, rng, side)


def guarded_nhwc(array, side):
    return guarded(array.transpose(0, 2, 3, 1), side).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "row, spec", cases([r for r in FAST_ROWS if (r.backend, r.method) == ("native", "depthwise")])
)
def test_depthwise_stays_in_its_arrays_with_channels_last(row, spec, side, rng):
    inputs = operands(row.op, spec, rng)
    out = np.full(helpers.shapes(row.op, spec)[1], np.nan, spec.dtype)
    weight = {"conv2d": 1, "conv2d_input": 1, "conv2d_weight": None}[row.op]
    given = [
        a
        if not isinstance(a, np.ndarray)
        else guarded(a, side)
        if i == weight or a.ndim != 4
        else guarded_nhwc(a, side)
        for i, a in enumerate(inputs)
    ]
    out = (guarded if weight is None else guarded_nhwc)(out, side)
    check(row, spec, inputs, call(row, spec, tuple(given), out))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("form", _costs.FORMS)
@pytest.mark.parametrize(
    "op, spec",
    [
        pytest.param(op, spec, id=f"{op}, {dtype}, {name}")
        for op in OPS
        for dtype in DTYPES
        for name, spec in helpers.specs(op, dtype).items()
        if name in few(op, dtype)
    ],
)
def test_form_stays_in_its_arrays(op, spec, form, side, rng, monkeypatch):
    monkeypatch.setattr(_costs, "form_of", lambda *_: _costs.FORMS[form])
    run_guarded(row_of(op, form), spec, rng, side)


@pytest.mark.parametrize("side", SIDES)
def test_the_guards_work(side):
    index = {"before": -1, "behind": 5}[side]
    code = f"""
import ctypes, numpy as np
from test_guards import guarded
inside = guarded(np.arange(5.0), {side!r})
assert inside.sum() == 10
ctypes.c_double.from_address(inside.ctypes.data + 8 * {index}).value
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=helpers.__file__.rpartition("/")[0])
    assert -done.returncode in (signal.SIGSEGV, signal.SIGBUS)
