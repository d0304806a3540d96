"""Every row of the registry against its reference twin, and the public functions on each backend.

To add a row, add it to its backend's ROWS: it is tested here without another line.
"""

import re

import helpers
import numpy as np
import pytest
from helpers import (
    BACKENDS,
    DTYPES,
    FAST_ROWS,
    FORMS,
    INEXACT_METHODS,
    REFERENCE,
    call,
    embedded,
    operands,
)
from tolerance import assert_close, tolerance

import fastconv as fc
from fastconv import grad, ops, registry
from fastconv.backends import native
from fastconv.backends.native import _costs

ROWS = FAST_ROWS + tuple(REFERENCE.values())


def cases(rows, names=None):
    """(row, spec) for every dtype and every spec that the row serves."""
    return [
        pytest.param(row, spec, id=f"{row}, {row.op}, {dtype}, {name}")
        for row in rows
        for dtype in DTYPES
        for name, spec in helpers.specs(row.op, dtype).items()
        if (names is None or name in names(row.op, dtype)) and row.supports(spec) is None
    ]


def few(op, dtype):
    """Names of a few specs: for tests of how arrays lie in memory."""
    lanes = helpers.tiles()[dtype]["lanes"]
    if op in ("conv2d", "conv2d_input", "conv2d_weight", "unfold", "fold"):
        return ("five images", "1x1", "1x1, stride", "dilation, stride, groups",
                f"{lanes + 1} columns", f"{lanes + 1} images")  # fmt: skip
    if "pool" in op:
        return ("3, stride 2, ceil", "2", f"{lanes + 1} columns, overlapping")
    return ("(3, 2, 5, 7)", "(2, 3, 5, 7)")


def check(row, spec, inputs, actual, length=None):
    """Compare what a row returned with what the reference returns for the same inputs."""
    desired = call(REFERENCE[row.op], spec, tuple(np.array(a, order="C") for a in inputs))
    assert_close(actual[0], desired[0], **helpers.within(row, spec, inputs, length))
    for a, b in zip(actual[1:], desired[1:], strict=True):
        np.testing.assert_array_equal(a, b)


# -- rows of the registry


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_large_results_begin_with_a_cache_line(layout):
    x = np.ones((1, 64, 64, 64), np.float32)
    with fc.using(num_threads=1):
        for _ in range(3):  # the first call, and those that were prepared
            y = fc.conv2d(x, np.ones((64, 64, 1, 1), np.float32), layout=layout)
            assert y.ctypes.data % 64 == 0 and y.flags.c_contiguous
            assert (y == 64).all()
            assert fc.max_pool2d(x, 2, layout=layout).ctypes.data % 64 == 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("memory", ["NCHW", "a view of NHWC", "NHWC"])
def test_neighbouring_channels_are_read_where_they_lie(memory, packed, monkeypatch, rng):
    """In one form, the first time and again: rows are for planes, panels for pixels."""
    x = rng.uniform(-1, 1, (1, 28, 28, 3)).astype(np.float32)
    weight = rng.uniform(-1, 1, (8, 3, 5, 5)).astype(np.float32)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    expected = fc.conv2d(planes, weight, backend="reference")
    layout = "NHWC" if memory == "NHWC" else "NCHW"
    if memory == "NCHW":
        x = planes
    elif memory == "a view of NHWC":
        x = x.transpose(0, 3, 1, 2)
    else:
        expected = expected.transpose(0, 2, 3, 1)
    forms = {}
    for name in ("conv2d", "prepare"):
        real = getattr(native._conv, name)

        def spied(*args, real=real, name=name):
            forms[name] = args[7]
            return real(*args)

        monkeypatch.setattr(native._conv, name, spied)
    with fc.using(num_threads=1):
        given = fc.pack_conv2d(weight) if packed else weight
        for _ in range(3):
            y = fc.conv2d(x, given, layout=layout, method="direct")
            assert_close(y, np.ascontiguousarray(expected), length=75)
    assert forms["conv2d"] == forms["prepare"]
    assert memory == "NCHW" or forms["conv2d"] == _costs.FORMS["panels"]


def test_every_op_has_a_reference_twin():
    assert {row.op for row in FAST_ROWS} <= set(REFERENCE)


@pytest.mark.parametrize("row, spec", cases(FAST_ROWS))
def test_row_equals_reference(row, spec, rng):
    inputs = operands(row.op, spec, rng)
    check(row, spec, inputs, call(row, spec, inputs))


def exact(row):
    """The `length` of sums of small integers."""
    return None if row.method in INEXACT_METHODS else 0


def has_exact_results(op, spec):
    """Whether small integers give a result without rounding: an average only by powers of 2."""
    if op.startswith("avg_pool2d"):
        return set(spec.row_counts + spec.col_counts) <= {1, 2, 4} and not spec.divisor_override
    return op not in ("sigmoid", "tanh", "softmax_pool2d", "softmax_pool2d_backward")


EXACT_ROWS = [row for row in FAST_ROWS if row.method not in INEXACT_METHODS]
EXACT = [case for case in cases(EXACT_ROWS) if has_exact_results(case.values[0].op, case.values[1])]


@pytest.mark.parametrize("row, spec", EXACT)
def test_row_is_exact_on_small_integers(row, spec, rng):
    inputs = operands(row.op, spec, rng, helpers.integers)
    check(row, spec, inputs, call(row, spec, inputs), length=0)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("row, spec", cases([r for r in FAST_ROWS if r.op == "conv2d"], few))
def test_conv2d_with_activation(row, spec, activation, rng):
    x, w, b = operands("conv2d", spec, rng)
    (actual,) = call(row, spec, (x, w, b), activation=activation)
    (desired,) = call(REFERENCE["conv2d"], spec, (x, w, b), activation=activation)
    # the steepest slope of all three is 1, so that errors of the sum pass through as they are
    allowed = helpers.within(row, spec, (x, w, b))
    assert_close(actual, desired, **allowed | {"length": allowed["length"] + 4})


@pytest.mark.parametrize("row, spec", cases([r for r in FAST_ROWS if r.op == "conv2d"], few))
def test_conv2d_without_bias(row, spec, rng):
    x, w, _ = operands("conv2d", spec, rng, helpers.integers)
    check(
        row, spec, (x, w, np.zeros(spec.K, spec.dtype)), call(row, spec, (x, w, None)), exact(row)
    )


EXTREMES = [r for r in FAST_ROWS if r.op in ("max_pool2d", "min_pool2d")]


@pytest.mark.parametrize("row, spec", cases(EXTREMES))
def test_extreme_pools_without_indices(row, spec, rng):
    inputs = operands(row.op, spec, rng)
    (y,) = call(row, spec, inputs, with_indices=False)
    np.testing.assert_array_equal(y, call(row, spec, inputs)[0])


@pytest.mark.parametrize("form", [*FORMS, "broadcast"])
@pytest.mark.parametrize("row, spec", cases(ROWS, few))
def test_inputs_of_any_strides(row, spec, form, rng):
    """Read-only views between NaN: a read beside the array poisons the result."""
    inputs = operands(row.op, spec, rng, helpers.integers)
    if form == "broadcast":
        given = tuple(np.broadcast_to(a[..., :1], a.shape) for a in inputs)
    else:
        given = tuple(embedded(a, form) for a in inputs)
    # weight, bias and indices are always C-contiguous
    ready = {
        "conv2d": lambda x, w, b: (x, np.array(w, order="C"), np.array(b, order="C")),
        "conv2d_input": lambda dy, w: (dy, np.array(w, order="C")),
        "max_pool2d_backward": lambda dy, i: (dy, np.array(i, order="C")),
    }.get(row.op, lambda *a: a)(*given)
    before = [a.copy() for a in ready]
    if row.op.startswith("softmax") or row.method in INEXACT_METHODS:
        length = None
    else:
        length = 4 if row.op.startswith(("avg", "sigmoid", "tanh")) else 0
    check(row, spec, given, call(row, spec, ready), length)
    for a, b in zip(ready, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("row, spec", cases(ROWS, few))
def test_out_of_any_strides(row, spec, form, rng):
    """The output lies between NaN, too: a write beside it shows."""
    if row.op in ("conv2d_weight", "conv2d_bias"):
        form = "offset"  # their outputs are C-contiguous
    inputs = operands(row.op, spec, rng)
    out, buffer = helpers.embed(helpers.shapes(row.op, spec)[1], spec.dtype, form)
    actual = call(row, spec, inputs, out)
    check(row, spec, inputs, actual)
    assert helpers.untouched(out, buffer)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("row, spec", cases(EXACT_ROWS, few))
def test_nan_and_infinity_stay_where_they_belong(row, spec, value, rng):
    inputs = operands(row.op, spec, rng)
    sick = inputs[0]
    sick.flat[rng.integers(sick.size)] = value
    with np.errstate(invalid="ignore"):
        check(row, spec, inputs, call(row, spec, inputs))


@pytest.mark.parametrize("row, spec", cases([r for r in ROWS if r.op == "max_pool2d"], few))
@pytest.mark.parametrize("values", [(np.nan, 1, 2), (-np.inf,), (0, 1), (np.nan, -np.inf)], ids=str)
def test_max_pool2d_of_special_values(row, spec, values, rng):
    x = rng.choice(np.array(values, spec.dtype), spec.input_shape)
    y, indices = call(row, spec, (x,))
    check(row, spec, (x,), (y, indices))
    planes = x.reshape(spec.N, spec.C, -1)
    at = np.take_along_axis(planes, indices.reshape(spec.N, spec.C, -1), axis=2)
    np.testing.assert_array_equal(at.reshape(y.shape), y)


@pytest.mark.parametrize("index", [-1, "H * W", 2**62, -(2**63)], ids=str)
@pytest.mark.parametrize(
    "row, spec", cases([r for r in ROWS if r.op == "max_pool2d_backward"], few)
)
def test_max_pool2d_backward_checks_indices(row, spec, index, rng):
    dy, indices = operands(row.op, spec, rng)
    indices[-1, -1, -1, -1] = spec.H * spec.W if index == "H * W" else index
    with pytest.raises(ValueError, match="indices: expected values from 0 to"):
        call(row, spec, (dy, indices))


# -- the public functions, on each backend


@pytest.fixture(params=BACKENDS)
def backend(request):
    with fc.using(backend=request.param):
        yield request.param


# name: (function of arrays, shapes of the arrays): everything that takes `out=`
FUNCTIONS = {
    "conv2d": (
        lambda x, w, b, **kw: fc.conv2d(x, w, b, padding="same", **kw),
        ((2, 3, 6, 7), (3, 3, 3, 3), (3,)),
    ),
    "conv2d, relu": (
        lambda x, w, **kw: fc.conv2d(x, w, activation="relu", padding=1, **kw),
        ((2, 3, 6, 7), (3, 3, 3, 3)),
    ),
    "conv2d, 1x1": (fc.conv2d, ((2, 3, 6, 7), (3, 3, 1, 1))),
    "max_pool2d": (lambda x, **kw: fc.max_pool2d(x, 3, 1, 1, **kw), ((2, 3, 6, 7),)),
    "avg_pool2d": (lambda x, **kw: fc.avg_pool2d(x, 3, 1, 1, **kw), ((2, 3, 6, 7),)),
    "grad.conv2d_input": (
        lambda w, dy, **kw: grad.conv2d_input((2, 3, 6, 7), w, dy, padding=1, **kw),
        ((3, 3, 3, 3), (2, 3, 6, 7)),
    ),
    "grad.conv2d_weight": (
        lambda x, dy, **kw: grad.conv2d_weight(x, (3, 3, 3, 3), dy, padding=1, **kw),
        ((2, 3, 6, 7), (2, 3, 6, 7)),
    ),
    "grad.conv2d_bias": (grad.conv2d_bias, ((2, 3, 6, 7),)),
    "grad.max_pool2d": (
        lambda dy, **kw: grad.max_pool2d(
            dy, np.arange(252).reshape(2, 3, 6, 7) * 31 % 42, (2, 3, 6, 7), **kw
        ),
        ((2, 3, 6, 7),),
    ),
    "grad.avg_pool2d": (
        lambda dy, **kw: grad.avg_pool2d(dy, (2, 3, 6, 7), 3, 1, 1, **kw),
        ((2, 3, 6, 7),),
    ),
    "relu": (ops.relu, ((2, 3, 6, 7),)),
    "sigmoid": (ops.sigmoid, ((2, 3, 6, 7),)),
    "tanh": (ops.tanh, ((2, 3, 6, 7),)),
    "grad.relu": (grad.relu, ((2, 3, 6, 7), (2, 3, 6, 7))),
    "grad.sigmoid": (grad.sigmoid, ((2, 3, 6, 7), (2, 3, 6, 7))),
    "grad.tanh": (grad.tanh, ((2, 3, 6, 7), (2, 3, 6, 7))),
}
functions = pytest.mark.parametrize("function, shapes", FUNCTIONS.values(), ids=FUNCTIONS)


def arguments(rng, shapes, dtype=np.float64):
    return [rng.integers(-3, 4, s).astype(dtype) for s in shapes]


@functions
@pytest.mark.parametrize("form", ["contiguous", *FORMS])
def test_out_is_returned(backend, function, shapes, form, rng):
    arrays = arguments(rng, shapes)
    expected = function(*arrays)
    if form == "contiguous":
        out = np.empty(expected.shape)
        assert function(*arrays, out=out) is out
    else:
        out, buffer = helpers.embed(expected.shape, np.float64, form)
        assert function(*arrays, out=out) is out
    np.testing.assert_array_equal(out, expected)
    if form != "contiguous":
        assert helpers.untouched(out, buffer)


@functions
def test_out_may_be_an_input(backend, function, shapes, rng):
    arrays = arguments(rng, shapes)
    expected = function(*arrays)
    for array in arrays:
        if array.shape == expected.shape:
            kept = array.copy()
            assert function(*arrays, out=array) is array
            np.testing.assert_array_equal(array, expected)
            array[...] = kept


@functions
@pytest.mark.parametrize("shift", [-5, -1, 1, 43])
def test_out_may_overlap_an_input(backend, function, shapes, shift, rng):
    arrays = arguments(rng, shapes)
    expected = function(*arrays)
    size = arrays[0].size
    room = np.zeros(size + expected.size + 100)
    x = room[50 : 50 + size].reshape(arrays[0].shape)
    out = room[50 + shift : 50 + shift + expected.size].reshape(expected.shape)
    x[...] = arrays[0]
    assert function(x, *arrays[1:], out=out) is out
    np.testing.assert_array_equal(out, expected)


@functions
def test_out_may_be_an_input_backwards(backend, function, shapes, rng):
    arrays = arguments(rng, shapes)
    expected = function(*arrays)
    x = np.zeros(max(arrays[0].size, expected.size))
    view = x[: arrays[0].size].reshape(arrays[0].shape)
    view[...] = arrays[0]
    out = x[: expected.size][::-1].reshape(expected.shape)
    function(view, *arrays[1:], out=out)
    np.testing.assert_array_equal(out, expected)


@functions
def test_inputs_stay_as_they_are(backend, function, shapes, rng):
    arrays = arguments(rng, shapes)
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    function(*arrays)
    for a, b in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, b)


@functions
@pytest.mark.parametrize(
    "dtype, result",
    [
        ("float16", "float16"),
        ("float32", "float32"),
        ("float64", "float64"),
        (">f4", "float32"),
        (">f8", "float64"),
        ("bool", "float64"),
        ("uint8", "float64"),
        ("int8", "float64"),
        ("int32", "float64"),
        ("uint64", "float64"),
        (">i2", "float64"),
    ],
)
def test_dtypes(backend, function, shapes, dtype, result, rng):
    arrays = [np.abs(a) % 2 for a in arguments(rng, shapes)]
    expected = function(*arrays)
    actual = function(*[a.astype(dtype) for a in arrays])
    if function is FUNCTIONS["max_pool2d"][0] and np.dtype(dtype).kind != "f":
        result = np.dtype(dtype).newbyteorder("=")
    assert actual.dtype == result and actual.dtype.isnative
    # exact but for the rounding of averages and curves
    narrow = result if np.dtype(result).kind == "f" else "float64"
    allowed = tolerance(10, narrow, np.abs(expected).max())
    np.testing.assert_allclose(actual.astype(float), expected, rtol=0, atol=allowed)


@pytest.mark.parametrize(
    "x, w, result",
    [
        ("float32", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("float16", "float32", "float32"),
        ("float16", "int8", "float16"),
        ("float32", "int16", "float32"),
        ("float32", "int32", "float64"),
        ("uint8", "float32", "float32"),
        ("uint8", "int8", "float64"),
    ],
)
def test_mixed_dtypes_promote_as_numpy(backend, x, w, result, rng):
    a, b = arguments(rng, ((1, 2, 4, 5), (3, 2, 2, 2)))
    a = np.abs(a)
    y = fc.conv2d(a.astype(x), b.astype(w))
    assert y.dtype == result
    np.testing.assert_array_equal(y, fc.conv2d(a, b))


def test_a_bias_takes_part_in_promotion(backend):
    y = fc.conv2d(np.ones((1, 3, 3), "f4"), np.ones((1, 1, 1, 1), "f4"), np.array([1e-12]))
    assert y.dtype == np.float64 and y[0, 0, 0] == 1 + 1e-12


def test_integers_do_not_wrap(backend):
    big = np.full((1, 2, 2), 200, np.uint8)
    assert fc.conv2d(big, np.full((1, 1, 1, 1), 4, np.uint8))[0, 0, 0] == 800
    assert fc.avg_pool2d(big, 2)[0, 0, 0] == 200
    large = np.full((1, 1, 2), 2**52, np.int64)
    assert fc.conv2d(large, np.array([[[[1, 1]]]]))[0, 0, 0] == 2**53


def test_max_pool2d_keeps_integers(backend):
    x = np.array([[[-(2**53), -5], [-7, -(2**31)]]])
    assert fc.max_pool2d(x, 2).dtype == np.int64
    assert fc.max_pool2d(x, 2)[0, 0, 0] == -5
    assert fc.max_pool2d(x, 1)[0, 0, 0] == -(2**53)
    out = np.empty((1, 1, 1), np.int64)
    assert fc.max_pool2d(x, 2, out=out) is out and out[0, 0, 0] == -5


def test_a_misaligned_array(backend, rng):
    x = rng.uniform(size=(1, 2, 5, 6))
    room = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = room[1:].view(np.float64).reshape(x.shape)
    misaligned[...] = x
    assert not misaligned.flags.aligned
    w = rng.uniform(size=(3, 2, 2, 2))
    np.testing.assert_array_equal(fc.conv2d(misaligned, w), fc.conv2d(x, w))
    expected = fc.max_pool2d(x, 3, 1, 1)
    assert fc.max_pool2d(x, 3, 1, 1, out=misaligned) is misaligned
    np.testing.assert_array_equal(misaligned, expected)


def test_out_whose_elements_share_memory(backend, rng):
    """The last write to each place wins, as in NumPy's ``out[...] = y``."""
    x, w = arguments(rng, ((1, 2, 5, 6), (3, 2, 2, 2)))
    expected, actual = np.zeros(36), np.zeros(36)
    strides = (0, 8 * 6, 8, 8)
    view = np.lib.stride_tricks.as_strided
    view(expected, (1, 3, 4, 5), strides)[...] = fc.conv2d(x, w)
    fc.conv2d(x, w, out=view(actual, (1, 3, 4, 5), strides))
    np.testing.assert_array_equal(actual, expected)


class OnlyDLPack:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize(
    "wrap",
    [OnlyDLPack, memoryview, np.ndarray.tolist, lambda a: a.view(type("Sub", (np.ndarray,), {}))],
    ids=["DLPack", "buffer", "lists", "subclass"],
)
def test_arrays_of_other_kinds(backend, wrap, rng):
    arrays = arguments(rng, ((1, 2, 5, 6), (3, 2, 2, 2), (3,)))
    actual = fc.conv2d(*map(wrap, arrays))
    assert type(actual) is np.ndarray
    np.testing.assert_array_equal(actual, fc.conv2d(*arrays))


NHWC = {
    "conv2d": lambda x, **kw: fc.conv2d(x, np.ones((3, 3, 2, 2)), stride=(1, 2), **kw),
    "conv2d, tanh": lambda x, **kw: fc.conv2d(x, np.ones((2, 3, 1, 1)), activation="tanh", **kw),
    "max_pool2d": lambda x, **kw: fc.max_pool2d(x, (2, 3), **kw),
    "avg_pool2d": lambda x, **kw: fc.avg_pool2d(x, (2, 3), padding=(1, 0), **kw),
    "indices": lambda x, **kw: fc.max_pool2d(x, (2, 3), return_indices=True, **kw)[1],
    "grad.conv2d_bias": grad.conv2d_bias,
}


@pytest.mark.parametrize("call", NHWC.values(), ids=NHWC)
@pytest.mark.parametrize("has_batch", [True, False], ids=["batch", "image"])
def test_nhwc(backend, call, has_batch, rng):
    x = rng.integers(-3, 4, (2, 3, 5, 6)).astype(np.float64)
    x = x if has_batch else x[0]
    expected = call(x)
    actual = call(np.moveaxis(x, -3, -1), layout="NHWC")
    if expected.ndim > 1:
        actual = np.moveaxis(actual, -1, -3)
    np.testing.assert_array_equal(actual, expected)


def test_nhwc_result_is_contiguous_and_fills_out(backend, rng):
    x, w = rng.uniform(size=(2, 5, 6, 3)), rng.uniform(size=(4, 3, 2, 2))
    y = fc.conv2d(x, w, layout="NHWC")
    assert y.shape == (2, 4, 5, 4) and y.flags.c_contiguous
    out = np.empty((2, 4, 5, 4))
    assert fc.conv2d(x, w, layout="NHWC", out=out) is out
    np.testing.assert_array_equal(out, y)
    one = np.empty((4, 5, 4))
    assert fc.conv2d(x[0], w, layout="NHWC", out=one) is one
    np.testing.assert_array_equal(one, y[0])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("has_batch", [True, False], ids=["batch", "image"])
def test_gradients_in_both_layouts(backend, layout, has_batch, rng):
    x, w, dy = arguments(rng, ((2, 4, 7, 6), (6, 2, 3, 2), (2, 6, 4, 4)))
    how = {"stride": (2, 1), "padding": ((1, 1), (0, -1 + 1)), "groups": 2}
    y = fc.conv2d(x, w, **how)
    dy = np.resize(dy, y.shape)
    pooled, indices = fc.max_pool2d(x, 2, return_indices=True)
    expected = [
        grad.conv2d_input(x.shape, w, dy, **how),
        grad.conv2d_weight(x, w.shape, dy, **how),
        grad.max_pool2d(pooled, indices, x.shape),
        grad.avg_pool2d(pooled, x.shape, 2),
    ]
    if not has_batch:
        one = slice(0, 1)
        x, dy, pooled, indices = x[one], dy[one], pooled[one], indices[one]
        expected = [e[0] if e.shape != w.shape else e for e in expected]
        expected[1] = grad.conv2d_weight(x, w.shape, dy, **how)
        x, dy, pooled, indices = x[0], dy[0], pooled[0], indices[0]
    if layout == "NHWC":
        x, dy, pooled, indices = (np.moveaxis(a, -3, -1) for a in (x, dy, pooled, indices))
        expected = [np.moveaxis(e, -3, -1) if e.shape != w.shape else e for e in expected]
    actual = [
        grad.conv2d_input(x.shape, w, dy, **how, layout=layout),
        grad.conv2d_weight(x, w.shape, dy, **how, layout=layout),
        grad.max_pool2d(pooled, indices, x.shape, layout=layout),
        grad.avg_pool2d(pooled, x.shape, 2, layout=layout),
    ]
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_batch(backend):
    x, w = np.zeros((0, 3, 8, 8), np.float32), np.zeros((4, 3, 3, 3), np.float32)
    assert fc.conv2d(x, w).shape == (0, 4, 6, 6)
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    assert y.shape == indices.shape == (0, 3, 4, 4)
    assert fc.avg_pool2d(x, 2).shape == (0, 3, 4, 4)
    dy = np.zeros((0, 4, 6, 6), np.float32)
    assert grad.conv2d_input(x.shape, w, dy).shape == x.shape
    assert not grad.conv2d_weight(x, w.shape, dy).any()
    assert not grad.conv2d_bias(dy).any()
    assert grad.max_pool2d(y, indices, x.shape).shape == x.shape
    assert grad.avg_pool2d(y, x.shape, 2).shape == x.shape


# -- choosing


@pytest.mark.parametrize("row", [r for r in ROWS if r.op == "conv2d"], ids=str)
def test_a_method_by_name(row, rng):
    kernel = (3, 3) if row.method == "winograd" else (1, 1)
    x, w = arguments(rng, ((1, 1, 5, 6), (3, 1, *kernel)))
    expected = fc.conv2d(x, w, backend="reference")
    with fc.using(winograd="precise"):  # exact on small integers
        y = fc.conv2d(x, w, method=row.method, backend=row.backend)
    np.testing.assert_array_equal(y, expected)
    with fc.using(method=row.method, backend=row.backend, winograd="precise"):
        assert fc.choose_conv_method(x, w) == row.method
        np.testing.assert_array_equal(fc.conv2d(x, w), expected)


def test_choose_conv_method_is_what_auto_runs(backend, rng):
    x, w = arguments(rng, ((1, 2, 5, 6), (3, 2, 3, 3)))
    best = fc.choose_conv_method(x, w, padding=1)
    assert best == fc.explain("conv2d", x.shape, w.shape, padding=1, dtype=x.dtype).chosen.method


@pytest.mark.parametrize("op", sorted(REFERENCE))
def test_explain(backend, op):
    shape = (2, 4, 9, 9)
    windows = "pool" in op or "fold" in op
    second = (4, 4, 1, 1) if "conv" in op else 2 if windows else None
    found = fc.explain(op, shape, second)
    assert found.op == op and found.chosen.backend == backend
    assert str(found).startswith(f"{op}: {found.chosen} runs")
    others = {row for row, _ in found.passed_over}
    assert {found.chosen} | others == set(registry.implementations(op))
    assert all(reason in str(found) for _, reason in found.passed_over)


def test_explain_takes_the_arguments_of_the_call(backend):
    found = fc.explain("avg_pool2d", (3, 9, 9), 3, 2, 1, True, False, 5, dtype="int8")
    spec = found.spec
    assert (spec.stride, spec.padding, spec.divisor_override) == ((2, 2), (1, 1, 1, 1), 5)
    assert spec.ceil_mode and not spec.count_include_pad and spec.dtype == np.float64
    found = fc.explain("max_pool2d_backward", (1, 3, 9, 9), 3, stride=2, padding=1)
    assert (found.spec.H, found.spec.P) == (9, 5)
    found = fc.explain("conv2d", (1, 4, 9, 9), (4, 2, 3, 3), 2, padding="same", groups=2)
    assert found.spec.output_shape == (1, 4, 5, 5)


def test_explain_says_which_method_was_asked_for(backend):
    with fc.using(method="direct"):
        found = fc.explain("conv2d", (1, 4, 9, 9), (4, 4, 3, 3))
    text = str(found)
    for row in registry.implementations("conv2d", backend):
        if row.method != "direct" and row.supports(found.spec) is None:
            assert re.search(f"not {row}: method 'direct' was asked for", text)
