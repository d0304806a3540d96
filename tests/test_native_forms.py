"""Every form of the native convolutions, whichever the costs would choose."""

import helpers
import numpy as np
import pytest
from helpers import DTYPES, REFERENCE, call, embedded, operands
from test_ops import check, few
from tolerance import assert_close

import fastconv as fc
from fastconv import registry
from fastconv.backends import native
from fastconv.backends.native import _costs
from fastconv.bench import baselines

OPS = ("conv2d", "conv2d_input", "conv2d_weight")


def row_of(op, form):
    method = "im2col" if form == "patches" else "direct"
    return next(r for r in registry.implementations(op, "native") if r.method == method)


@pytest.fixture(params=_costs.FORMS)
def form(request, monkeypatch):
    """A form that every call takes."""
    monkeypatch.setattr(_costs, "form_of", lambda *_: _costs.FORMS[request.param])
    return request.param


def cases(names=None):
    return [
        pytest.param(op, spec, id=f"{op}, {dtype}, {name}")
        for op in OPS
        for dtype in DTYPES
        for name, spec in helpers.specs(op, dtype).items()
        if names is None or name in names(op, dtype)
    ]


@pytest.mark.parametrize("op, spec", cases())
def test_form_is_exact_on_small_integers(form, op, spec, rng):
    inputs = operands(op, spec, rng, helpers.integers)
    row = row_of(op, form)
    check(row, spec, inputs, call(row, spec, inputs), length=0)


@pytest.mark.parametrize("op, spec", cases(few))
def test_form_equals_reference(form, op, spec, rng):
    inputs = operands(op, spec, rng)
    row = row_of(op, form)
    check(row, spec, inputs, call(row, spec, inputs))


@pytest.mark.parametrize("memory", ["NHWC", *helpers.FORMS])
@pytest.mark.parametrize("op, spec", cases(few))
def test_form_with_inputs_of_any_strides(form, op, spec, memory, rng):
    """Views between NaN: a read beside the array poisons the result."""
    inputs = operands(op, spec, rng, helpers.integers)

    def lying(array):
        if memory != "NHWC":
            return embedded(array, memory)
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    # the weight and the bias are C-contiguous
    given = [lying(a) if i == 0 or op == "conv2d_weight" else a for i, a in enumerate(inputs)]
    row = row_of(op, form)
    check(row, spec, inputs, call(row, spec, tuple(given)), length=0)


def same_on_threads(op, form, spec, inputs):
    """The result, which has to be the same bits on one, two and three threads."""
    results = []
    for threads in (1, 2, 3):
        with fc.using(num_threads=threads):
            results.append(call(row_of(op, form), spec, inputs)[0])
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)
    return results[0]


@pytest.mark.parametrize("op, spec", cases(few))
def test_bits_do_not_depend_on_threads(form, op, spec, rng):
    same_on_threads(op, form, spec, operands(op, spec, rng))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_bits_of_large_sums_do_not_depend_on_threads(form, op, dtype, rng):
    """Enough work for several threads, several blocks of channels, filters and pixels."""
    spec = helpers.conv_spec((2, 70, 19, 17), (83, 70, 3, 3), 1, 1, 1, 1, dtype)
    inputs = operands(op, spec, rng)
    result = same_on_threads(op, form, spec, inputs)
    double = [a.astype(np.float64) for a in inputs]
    if op == "conv2d_input":
        double.reverse()  # the baseline takes the weight first
    desired = getattr(baselines, op)(spec, *double)
    assert_close(result, desired.astype(dtype), length=helpers.length(op, spec))


@pytest.mark.parametrize(
    "input, weight, stride",
    [
        pytest.param((1, 70, 9, 8), (200, 70, 3, 3), 1, id="long sums"),
        pytest.param((3, 300, 5, 7), (270, 300, 1, 1), 2, id="images, sums in blocks"),
        pytest.param((1, 300, 5, 7), (270, 300, 1, 1), 1, id="neighbouring weights"),
        pytest.param((5, 40, 40, 38), (9, 40, 2, 3), (2, 3), id="fewer images at a time"),
        pytest.param((1, 20, 130, 90), (5, 20, 3, 3), 2, id="planes too large to wait"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_input_gradient_tap_by_tap(dtype, input, weight, stride, rng, monkeypatch):
    """Where panels spread grad_output over planes in the cache, and where these would not fit."""
    monkeypatch.setattr(_costs, "form_of", lambda *_: _costs.FORMS["panels"])
    spec = helpers.conv_spec(input, weight, stride, weight[3] // 2, 1, 1, dtype)
    grad_output, w = operands("conv2d_input", spec, rng, helpers.integers)
    desired = baselines.conv2d_input(spec, w, grad_output)
    result = same_on_threads("conv2d_input", "panels", spec, (grad_output, w))
    np.testing.assert_array_equal(result, desired)


@pytest.mark.parametrize("memory", ["row ends apart", "offset"])
@pytest.mark.parametrize("width", [1, 7, 8, 17, 31, 45, 530])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "op, activation", [("conv2d", None), ("conv2d", "relu"), ("conv2d_input", None)]
)
def test_form_writes_whole_rows_and_nothing_beside(form, op, activation, dtype, width, memory, rng):
    """Rows of less than a vector, of whole ones and of more, each between places of others."""
    spec = helpers.conv_spec((2, 3, 7, width), (9, 3, 3, 3), (2, 1), 1, 1, 1, dtype)
    inputs = operands(op, spec, rng, helpers.integers)
    desired = getattr(baselines, op)(spec, *(inputs if op == "conv2d" else inputs[::-1]))
    if activation:
        desired = np.maximum(desired, 0)
    view, buffer = helpers.embed(desired.shape, dtype, memory)
    call(row_of(op, form), spec, inputs, view, activation=activation)
    np.testing.assert_array_equal(view, desired)
    assert helpers.untouched(view, buffer)


def test_form_reads_planes_in_any_order(form, rng):
    """Those that could be read in place, too, where they lie backwards."""
    spec = helpers.conv_spec((2, 9, 6, 40), (17, 9, 1, 1), 1, 0, 1, 1, "float32")
    x, weight, bias = operands("conv2d", spec, rng, helpers.integers)
    desired = baselines.conv2d(spec, x, weight, bias)
    backwards = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    out = np.empty_like(desired)
    call(row_of("conv2d", form), spec, (backwards, weight, bias), out)
    np.testing.assert_array_equal(out, desired)


@pytest.mark.parametrize(
    "images, groups, channels, filters",
    [
        pytest.param(1, 1, 300, 67, id="sums in blocks"),
        pytest.param(1, 1, 130, 14, id="a tile and some filters"),
        pytest.param(2, 1, 9, 6, id="one tile"),
        pytest.param(2, 2, 10, 7, id="groups"),
        pytest.param(1, 1, 256, 520, id="more filters than the cache has weights of"),
    ],
)
@pytest.mark.parametrize("memory", ["offset", "backwards"])
@pytest.mark.parametrize("op", ["conv2d", "conv2d_input"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_planes_of_pixels_that_lie_as_tiles_want_them(
    form, dtype, op, memory, images, groups, channels, filters, rng
):
    """Groups of pixels that a tile reads where they lie, between NaN, and a last one of a few."""
    width = native.tiles()[dtype]["panel_v"] * native.tiles()[dtype]["lanes"]
    x = (images, groups * channels, 9, width + 5)
    weight = (groups * filters, channels, 1, 1)
    spec = helpers.conv_spec(x, weight, 1, 0, 1, groups, dtype)
    inputs = operands(op, spec, rng, helpers.integers)
    desired = getattr(baselines, op)(spec, *(inputs if op == "conv2d" else inputs[::-1]))
    given = inputs[0]
    if memory == "offset":
        given = embedded(given, memory)
    else:
        given = np.ascontiguousarray(given[:, ::-1])[:, ::-1]
    result = same_on_threads(op, form, spec, (given, *inputs[1:]))
    np.testing.assert_array_equal(result, desired)


@pytest.mark.parametrize("first", [0, 1, 4, 15])
@pytest.mark.parametrize("kernel, padding", [(1, 0), (3, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_form_does_not_care_where_its_output_begins(form, dtype, kernel, padding, first, rng):
    """Planes of whole cache lines: vectors may begin where one of the output's does."""
    spec = helpers.conv_spec((2, 5, 6, 272), (9, 5, kernel, kernel), 1, padding, 1, 1, dtype)
    inputs = operands("conv2d", spec, rng, helpers.integers)
    desired = baselines.conv2d(spec, *inputs)
    memory = np.full(desired.size + 64, np.nan, dtype)
    line = 64 // memory.itemsize
    start = line - memory.ctypes.data // memory.itemsize % line + first
    out = memory[start : start + desired.size].reshape(desired.shape)
    assert out.ctypes.data % 64 == first % line * memory.itemsize
    call(row_of("conv2d", form), spec, inputs, out)
    np.testing.assert_array_equal(out, desired)
    assert np.isnan(memory[:start]).all() and np.isnan(memory[start + desired.size :]).all()


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("op, spec", [c for c in cases(few) if c.values[0] == "conv2d"])
def test_form_with_activation_and_output_of_any_strides(form, op, spec, activation, rng):
    inputs = operands(op, spec, rng)
    (desired,) = call(REFERENCE[op], spec, inputs, activation=activation)
    out = np.full((*spec.output_shape[:1], *spec.output_shape[2:], spec.K), np.nan, spec.dtype)
    row_of(op, form).run(spec, *inputs, out.transpose(0, 3, 1, 2), activation)
    np.testing.assert_allclose(
        out.transpose(0, 3, 1, 2), desired, rtol=0, atol=200 * np.finfo(spec.dtype).eps
    )


def layers_of_few_channels(dtype):
    """Shapes round the tile of inner products, for the gradient with respect to the weight."""
    tile = native.tiles()[dtype]
    lanes, m, v = tile["lanes"], tile["dot_m"], tile["dot_v"]
    item = np.dtype(dtype).itemsize
    rows = _costs.RUN_BYTES // (item * m * 8 * lanes)
    shapes = {
        # name: (images, channels, filters, rows and columns of the output, of the kernel, stride)
        "short rows that end within a vector": (2, 1, m, 3, 2 * lanes + 3, 3, v, 1),
        "long rows that end within a vector": (1, 1, m + 1, 2, 9 * lanes + 1, 1, v + 1, 1),
        "rows of whole vectors": (2, 2, 2 * m - 1, 4, 3 * lanes, 2, 5, 1),
        "rows shorter than a vector": (lanes + 1, 1, m + 1, 3, lanes - 1, 3, 3, 1),
        "more rows than a tile takes at a time": (1, 1, m, 2 * rows + 1, 8 * lanes, 2, 2, 1),
        "phases of a stride": (1, 3, m, 3, 2 * lanes + 1, 3, 3, 2),
    }
    for name, (images, channels, filters, p, q, r, s, stride) in shapes.items():
        x_shape = images, channels, (p - 1) * stride + r, (q - 1) * stride + s
        weight_shape = filters, channels, r, s
        yield name, helpers.conv_spec(x_shape, weight_shape, stride, 0, 1, 1, dtype)


FEW_CHANNELS = [
    pytest.param(spec, id=f"{dtype}, {name}")
    for dtype in DTYPES
    for name, spec in layers_of_few_channels(dtype)
]


@pytest.mark.parametrize("spec", FEW_CHANNELS)
def test_weight_gradient_of_few_channels(form, spec, rng):
    x, dy = operands("conv2d_weight", spec, rng, helpers.integers)
    given = embedded(x, "row ends apart"), embedded(dy, "row ends apart")
    result = same_on_threads("conv2d_weight", form, spec, given)
    desired = baselines.conv2d_weight(spec, x.astype(np.float64), dy.astype(np.float64))
    np.testing.assert_array_equal(result, desired)


@pytest.mark.parametrize("spec", FEW_CHANNELS)
def test_nan_reaches_the_taps_that_meet_it(form, spec, rng):
    """A corner of the input meets one tap alone, though vectors of others may lie across it."""
    x, dy = operands("conv2d_weight", spec, rng, helpers.integers)
    for row, col in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        poisoned = x.copy()
        poisoned[0, 0, row, col] = np.nan
        (result,) = call(row_of("conv2d_weight", form), spec, (poisoned, dy))
        met = np.zeros(result.shape, bool)
        met[:, 0, row, col] = True
        np.testing.assert_array_equal(np.isnan(result), met)
