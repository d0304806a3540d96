"""Winograd's convolution: its numbers, its errors, its tiles and threads, and who may forbid it."""

import importlib.util
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import fastconv as fc
from fastconv import grad, registry
from fastconv.spec import conv_spec

native = pytest.importorskip("fastconv.backends.native")
from fastconv.backends.native import _conv, _winograd  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
HEADER = ROOT / "csrc" / "kernels" / "winograd.h"
ISAS = native.available_isas()
# those with a kernel for 5x5 taps
PAIRED = [isa for isa in ISAS if native.tiles(isa)["float32"]["pairs"]]


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "winograd.py"
    if not path.exists():
        pytest.skip("needs the source tree")
    spec = importlib.util.spec_from_file_location("winograd_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the numbers


@pytest.mark.parametrize("m", [2, 4])
def test_the_identity_holds_exactly(script, m):
    a, g, b = script.from_tables(m)
    assert (a, g, b) == script.matrices(m)
    assert script.is_correlation(m, a, g, b)
    g[1][1] += Fraction(1, 10**9)
    assert not script.is_correlation(m, a, g, b)
    assert script.is_correlation(m, *script.phases(m))


def test_the_identity_of_pairs_holds_exactly(script):
    a, g, b = script.pairs()
    assert script.is_correlation(2, a, g, b)
    b[2][2] = Fraction(1)
    assert not script.is_correlation(2, a, g, b)


def test_the_header_has_the_numbers_of_the_script(script):
    text = HEADER.read_text()
    text = text[text.index("fc_winograd[2]") : text.index("};\n#endif")]
    text = text[text.index("=") :]
    found = [
        Fraction(int(top), int(bottom or 1))
        for top, bottom in re.findall(r"(-?\d+)(?:\. / (\d+))?", text)
    ]
    expected = []
    for m in (2, 4):
        for numbers in script.tables(m).values():
            for row in numbers if isinstance(numbers[0], list) else [numbers]:
                expected += row
    assert found == expected


# -- errors, in units of those of a direct sum


def direct(x, w, stride=1):
    """The correlation, padded by 1, tap by tap in the precision of its operands."""
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    y = np.zeros((len(x), len(w), *windows.shape[2:4]), x.dtype)
    for c, r, s in np.ndindex(*w.shape[1:]):
        y += windows[:, c, None, :, :, r, s] * w[:, c, r, s][:, None, None]
    return y


def within(y, plain, exact, factor):
    """Whether the largest error of y is at most `factor` times that of a plain sum."""
    return np.abs(y - exact).max() <= factor * np.abs(plain - exact).max()


def decades(rng, shape, low, high):
    return rng.normal(size=shape) * 10 ** rng.uniform(low, high, shape)


def rows(rng, shape):
    """Every sixth row a thousand times as large as the others."""
    return rng.uniform(-1, 1, shape) * np.where(np.indices(shape)[2] % 6 == 0, 1e3, 1)


DATA = {
    # name: (input, weight)
    "uniform": (lambda rng, s: rng.uniform(-1, 1, s), lambda rng, s: rng.uniform(-1, 1, s)),
    "positive": (lambda rng, s: rng.uniform(0, 1, s), lambda rng, s: rng.uniform(0, 1, s)),
    "six decades": (lambda rng, s: decades(rng, s, -3, 3), lambda rng, s: decades(rng, s, -3, 3)),
    "large rows": (rows, lambda rng, s: rng.uniform(-1, 1, s)),
    "large rows and taps": (
        rows,
        lambda rng, s: rng.uniform(-1, 1, s) * np.array([[1e-2], [1], [1e2]]),
    ),
    "large pixels": (
        lambda rng, s: rng.uniform(-1, 1, s) * np.where(np.indices(s).sum(0) % 2, 1e4, 1),
        lambda rng, s: rng.uniform(-1, 1, s),
    ),
}


# one channel's sums are short: where their terms differ by decades a direct one hardly rounds
ONE_SIZE = ("uniform", "positive", "large pixels")


@pytest.mark.parametrize(
    "channels, name",
    [(c, n) for c in (1, 3, 32, 300) for n in DATA if c > 1 or n in ONE_SIZE],
)
@pytest.mark.parametrize("m, stride", [(2, 1), (4, 1), (4, 2)])
def test_errors_stay_within_the_documented_bound(m, stride, channels, name, rng):
    draw_x, draw_w = DATA[name]
    spec = conv_spec((1, channels, 26, 26), (16, channels, 3, 3), stride, 1, 1, 1, np.dtype("f4"))
    x = draw_x(rng, spec.input_shape).astype("f4")
    w = draw_w(rng, spec.weight_shape).astype("f4")
    exact = direct(x.astype("f8"), w.astype("f8"), stride)
    y = np.empty(spec.output_shape, "f4")
    for isa in ISAS:
        _conv.winograd(spec.geometry, x, w, None, None, y, 0, m, False, native.ISA_INDEX[isa], 1)
        assert within(y, direct(x, w, stride), exact, _winograd.ERROR[m])


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("m, stride", [(2, 1), (4, 1), (4, 2)])
def test_errors_of_one_channel_stay_within_a_formula(m, stride, name, rng):
    """ERROR[m] * eps * the largest pixel * the largest sum of a filter's magnitudes."""
    draw_x, draw_w = DATA[name]
    spec = conv_spec((1, 1, 26, 26), (16, 1, 3, 3), stride, 1, 1, 1, np.dtype("f4"))
    for _ in range(10):
        x = draw_x(rng, spec.input_shape).astype("f4")
        w = draw_w(rng, spec.weight_shape).astype("f4")
        allowed = _winograd.ERROR[m] * 2**-23 * np.abs(x).max() * np.abs(w).sum((1, 2, 3)).max()
        exact = direct(x.astype("f8"), w.astype("f8"), stride)
        y = np.empty(spec.output_shape, "f4")
        for isa in ISAS:
            number = native.ISA_INDEX[isa]
            _conv.winograd(spec.geometry, x, w, None, None, y, 0, m, False, number, 1)
            assert np.abs(y - exact).max() <= allowed


def plain_sum(x, w, padding, dilation):
    """A plane's correlation, tap by tap in the precision of its operands."""
    (top, bottom), (left, right) = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = padded.shape[2] - (w.shape[2] - 1)
    cols = padded.shape[3] - (w.shape[3] - 1) * dilation
    y = np.zeros((len(x), len(w), rows, cols), x.dtype)
    channels = np.arange(len(w)) // (len(w) // x.shape[1])
    for r, s in np.ndindex(*w.shape[2:]):
        part = padded[:, channels, r : r + rows, s * dilation : s * dilation + cols]
        y += part * w[:, 0, r, s][:, None, None]
    return y


# but for rows of taps that differ by decades: a direct sum's errors follow each, these the largest
@pytest.mark.parametrize("name", [n for n in DATA if n != "large rows and taps"])
@pytest.mark.parametrize(
    "dtype, kernel",
    [(d, k) for k in ((7, 7), (9, 9), (15, 15), (31, 7), (2, 25), (49, 1)) for d in ("f4", "f8")]
    + [("f4", (5, 5))],
)
def test_errors_down_the_rows_stay_within_their_bound(dtype, kernel, name, rng):
    draw_x, draw_w = DATA[name]
    x = draw_x(rng, (2, 3, 70, 90)).astype("f4").astype(dtype)
    w = draw_w(rng, (3, 1, *kernel)).astype("f4").astype(dtype)
    spec = conv_spec(x.shape, w.shape, 1, 0, 1, 3, x.dtype)
    wide = np.dtype("f8" if dtype == "f4" else "g")
    none = ((0, 0), (0, 0))
    exact, plain = plain_sum(x.astype(wide), w.astype(wide), none, 1), plain_sum(x, w, none, 1)
    y = np.empty(spec.output_shape, dtype)
    for isa in PAIRED if kernel == (5, 5) else ISAS:
        _conv.depthwise(spec.geometry, x, w, None, y, 0, True, native.ISA_INDEX[isa], 1)
        assert within(y, plain, exact, _winograd.ERROR_ROWS)


@pytest.mark.parametrize("m", [2, 4])
def test_the_bound_can_be_missed(m, rng):
    exact = rng.uniform(size=100)
    plain = exact + 1e-7 * rng.uniform(-1, 1, 100)
    factor = _winograd.ERROR[m]
    assert within(exact + factor * (plain - exact), plain, exact, factor + 1e-6)
    assert not within(exact + 1.1 * factor * (plain - exact), plain, exact, factor)


# -- tiles, blocks, threads, weights


def run(spec, x, w, m, isa, threads, *, packed=False, turned=False, bias=None, activation=0):
    shape = spec.input_shape if turned else spec.output_shape
    out = np.full(shape, np.nan, spec.dtype)
    how = (m, turned, native.ISA_INDEX[isa], threads)
    weights = _conv.winograd_pack(spec.geometry, w, *how) if packed else None
    _conv.winograd(spec.geometry, x, w, weights, bias, out, activation, *how)
    return out


SHAPES = {
    # name: (input, weight, padding, groups); more tiles than a block holds, and fewer than threads
    "many blocks": ((3, 40, 60, 70), (20, 40, 3, 3), 1, 1),
    "one block": ((2, 100, 14, 14), (37, 100, 3, 3), 1, 1),
    "one tile": ((1, 5, 3, 3), (3, 5, 3, 3), 0, 1),
    "groups": ((2, 24, 9, 30), (12, 8, 3, 3), ((0, 2), (3, 1)), 3),
    "many channels": ((1, 530, 9, 9), (9, 530, 3, 3), 2, 1),
}


TILES = {
    # name: (m, stride, dtype, turned)
    "2x2": (2, 1, "f4", False),
    "4x4": (4, 1, "f4", False),
    "2x2, float64": (2, 1, "f8", False),
    "4x4, stride 2": (4, 2, "f4", False),
    "2x2, gradient": (2, 1, "f4", True),
    "2x2, float64, gradient": (2, 1, "f8", True),
    "4x4, gradient": (4, 1, "f4", True),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_bits_do_not_depend_on_threads_blocks_or_packing(tile, shape, rng):
    m, stride, dtype, turned = TILES[tile]
    x_shape, w_shape, padding, groups = SHAPES[shape]
    spec = conv_spec(x_shape, w_shape, stride, padding, 1, groups, np.dtype(dtype))
    x = rng.uniform(-1, 1, spec.output_shape if turned else x_shape).astype(dtype)
    w = rng.uniform(-1, 1, w_shape).astype(dtype)
    expected = run(spec, x, w, m, ISAS[0], 1, turned=turned)
    assert np.isfinite(expected).all()
    for threads in (1, 2, 3, 7):
        for packed in (False, True):
            y = run(spec, x, w, m, ISAS[0], threads, packed=packed, turned=turned)
            np.testing.assert_array_equal(y, expected)
    one = conv_spec((1, *x_shape[1:]), w_shape, stride, padding, 1, groups, np.dtype(dtype))
    y = run(one, x[-1:], w, m, ISAS[0], 1, turned=turned)
    np.testing.assert_array_equal(y, expected[-1:])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_on_integers(tile, shape, isa, rng):
    """Exact with tiles of 2x2; with those of 4x4 to a few of 2**-24 times the sum of magnitudes."""
    m, stride, dtype, turned = TILES[tile]
    x_shape, w_shape, padding, groups = SHAPES[shape]
    spec = conv_spec(x_shape, w_shape, stride, padding, 1, groups, np.dtype(dtype))
    w = rng.integers(-4, 5, w_shape).astype(dtype)
    how = {"stride": stride, "padding": padding, "groups": groups, "method": "im2col"}
    if turned:
        dy = rng.integers(-4, 5, spec.output_shape).astype(dtype)
        y = run(spec, dy, w, m, isa, 2, turned=True)
        wanted = grad.conv2d_input(x_shape, w, dy, **how)
    else:
        x, bias = (rng.integers(-4, 5, s).astype(dtype) for s in (x_shape, spec.K))
        y = run(spec, x, w, m, isa, 2, bias=bias, activation=1)
        wanted = fc.conv2d(x, w, bias, activation="relu", **how)
    sums = 9 * 16 * max(w_shape[:2])
    np.testing.assert_allclose(y, wanted, rtol=0, atol=0 if m == 2 else 4 * sums * 2**-24)


PLANES = {
    # name: (input, weight, padding, dilation, layout)
    "an image": ((1, 1, 130, 2100), (1, 1, 15, 15), ((7, 7), (7, 7)), 1, "NCHW"),
    "one block": ((3, 4, 25, 31), (4, 1, 9, 9), ((4, 4), (4, 4)), 1, "NCHW"),
    "filters of a channel": ((2, 2, 40, 33), (6, 1, 10, 5), ((0, 9), (5, 0)), 1, "NCHW"),
    "taps apart": ((1, 2, 19, 47), (2, 1, 7, 8), ((2, 1), (11, 3)), 3, "NCHW"),
    "less than a group": ((2, 3, 10, 9), (3, 1, 10, 5), ((0, 0), (0, 0)), 1, "NCHW"),
    "rows in the padding": ((1, 2, 2, 3), (2, 1, 7, 7), ((9, 9), (9, 9)), 1, "NCHW"),
    "one row of taps": ((2, 1, 9, 170), (1, 1, 1, 49), ((0, 0), (4, 4)), 1, "NCHW"),
    "one column": ((2, 1, 90, 1), (1, 1, 50, 1), ((4, 3), (0, 0)), 1, "NCHW"),
    "a filter for all colours": ((1, 3, 60, 80), (3, 1, 9, 9), ((4, 4), (4, 4)), 1, "NHWC"),
    "channels side by side": ((1, 20, 14, 15), (20, 1, 7, 7), ((3, 3), (3, 3)), 1, "NHWC"),
}
PAIRS = {
    "an image in pairs": ((1, 1, 131, 2100), (1, 1, 5, 5), ((2, 2), (2, 2)), 1, "NCHW"),
    "a row without its pair": ((3, 4, 25, 64), (4, 1, 5, 5), ((0, 0), (0, 0)), 1, "NCHW"),
    "filters of a channel in pairs": ((2, 2, 40, 33), (6, 1, 5, 5), ((0, 9), (4, 0)), 1, "NCHW"),
    "pairs of three pixels": ((2, 3, 6, 3), (3, 1, 5, 5), ((2, 2), (1, 9)), 1, "NCHW"),
    "one output": ((2, 3, 5, 5), (3, 1, 5, 5), ((0, 0), (0, 0)), 1, "NCHW"),
    "colours in pairs": ((1, 3, 60, 80), (3, 1, 5, 5), ((2, 2), (2, 2)), 1, "NHWC"),
}
KERNELS = [  # dtype, shape, ISA
    *((d, n, isa) for d in ("f4", "f8") for n in PLANES for isa in ISAS),
    *(("f4", n, isa) for n in PAIRS for isa in PAIRED),
]


@pytest.mark.parametrize("dtype, shape, isa", KERNELS)
def test_planes_down_their_rows(dtype, shape, isa, rng):
    """On whole numbers, exact in float64 and in pairs; and the same bits however it is cut."""
    x_shape, w_shape, padding, dilation, layout = {**PLANES, **PAIRS}[shape]
    x, w = (rng.integers(-9, 10, s).astype(dtype) for s in (x_shape, w_shape))
    if shape in ("a filter for all colours", "colours in pairs"):
        w[1:] = w[0]
    bias = rng.integers(-9, 10, len(w)).astype(dtype)
    how = {
        "padding": padding,
        "dilation": (1, dilation),
        "groups": x.shape[1],
        "method": "winograd",
    }
    wanted = plain_sum(x.astype("f8"), w.astype("f8"), padding, dilation) + bias[:, None, None]
    allowed = 0 if dtype == "f8" or shape in PAIRS else 81 * w[0].size * 2e-6

    def called(x, threads, **more):
        with fc.using(isa=isa, num_threads=threads):
            if layout == "NCHW":
                return fc.conv2d(x, w, bias, **how, **more)
            last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
            return fc.conv2d(last, w, bias, layout=layout, **how, **more).transpose(0, 3, 1, 2)

    y = called(x, 1)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=allowed)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(called(x, threads), y)
    np.testing.assert_array_equal(called(x[-1:], 1), y[-1:])
    np.testing.assert_array_equal(called(x, 1, activation="relu"), np.maximum(y, 0))


@pytest.mark.parametrize(
    "dtype, shape, isa",
    [(d, n, isa) for d, n, isa in KERNELS if "filters" not in n and (d == "f8" or n in PAIRS)],
)
def test_their_gradient_down_the_rows(dtype, shape, isa, rng):
    x_shape, w_shape, padding, dilation, _ = {**PLANES, **PAIRS}[shape]
    w = rng.integers(-9, 10, w_shape).astype(dtype)
    how = {"padding": padding, "dilation": (1, dilation), "groups": x_shape[1], "backend": "native"}
    spec = conv_spec(x_shape, w_shape, 1, padding, (1, dilation), x_shape[1], w.dtype)
    dy = rng.integers(-9, 10, spec.output_shape).astype(dtype)
    wanted = grad.conv2d_input(x_shape, w, dy, method="direct", **how)
    with fc.using(isa=isa):
        dx = grad.conv2d_input(x_shape, w, dy, method="winograd", **how)
    np.testing.assert_array_equal(dx, wanted)


@pytest.mark.parametrize("taps, isa", [*((9, isa) for isa in ISAS), *((5, isa) for isa in PAIRED)])
def test_strides_change_no_bits(taps, isa, rng):
    with fc.using(isa=isa):
        strides_change_no_bits(taps, rng)


def strides_change_no_bits(taps, rng):
    x, w = (rng.uniform(-1, 1, s).astype("f4") for s in ((2, 3, 40, 50), (3, 1, taps, taps)))
    how = {"groups": 3, "method": "winograd", "backend": "native"}
    y = fc.conv2d(x, w, **how)
    assert (y != fc.conv2d(x, w, groups=3, method="depthwise")).any()
    apart = np.empty((2, 3, 40, 100), "f4")[..., ::2]
    apart[...] = x
    np.testing.assert_array_equal(fc.conv2d(apart, w, **how), y)
    out = np.empty((*y.shape[:3], 2 * y.shape[3]), "f4")[..., ::2]
    assert fc.conv2d(x, w, out=out, **how) is out
    np.testing.assert_array_equal(out, y)
    dy = rng.uniform(-1, 1, y.shape).astype("f4")
    dx = grad.conv2d_input(x.shape, w, dy, **how)
    out[...] = dy
    np.testing.assert_array_equal(grad.conv2d_input(x.shape, w, out, **how), dx)
    # one column: its stride says nothing
    x = rng.uniform(-1, 1, (3, 3, 1, 1)).astype("f4").transpose(1, 0, 2, 3)
    w = rng.uniform(-1, 1, (9, 1, 12, 9)).astype("f4")
    how["padding"] = ((9, 7), (16, 8))
    np.testing.assert_array_equal(fc.conv2d(x[1:2], w, **how), fc.conv2d(x, w, **how)[1:2])


@pytest.mark.parametrize("isa", PAIRED)
def test_where_rows_begin_changes_no_bits(isa, rng):
    x, w = (rng.uniform(-1, 1, s).astype("f4") for s in ((1, 1, 9, 1104), (1, 1, 5, 5)))
    memory = np.empty(x.size + 16, "f4")
    with fc.using(isa=isa):
        y = fc.conv2d(x, w, padding=2, method="winograd")
        for first in range(16):
            placed = memory[first : first + x.size].reshape(x.shape)
            placed[...] = x
            np.testing.assert_array_equal(fc.conv2d(placed, w, padding=2, method="winograd"), y)


def test_auto_takes_it_for_large_filters_of_large_planes():
    assert chosen((1, 1, 1080, 1920), (1, 1, 15, 15), padding=7) == "winograd"
    tile = native.tiles()["float32"]
    taken = "winograd" if tile["pairs"] and tile["path"] < tile["lanes"] else "depthwise"
    assert chosen((1, 1, 1080, 1920), (1, 1, 5, 5), padding=2) == taken
    assert chosen((1, 32, 56, 56), (32, 1, 5, 5), padding=2, groups=32) == "depthwise"
    assert chosen((1, 64, 7, 7), (64, 1, 7, 7), padding=3, groups=64) == "depthwise"
    with fc.using(winograd="never"):
        assert chosen((1, 1, 1080, 1920), (1, 1, 15, 15), padding=7) in ("depthwise", "fft")
    found = fc.explain("conv2d", (1, 1, 200, 200), (1, 1, 9, 9), method="winograd", dtype="f4")
    assert "works in groups of 3 rows: errors up to 4 times a direct sum's" in str(found)
    for isa in PAIRED:
        with fc.using(isa=isa):
            shapes = (1, 1, 99, 99), (1, 1, 5, 5)
            found = fc.explain("conv2d", *shapes, method="winograd", dtype="f4")
        assert "works in groups of 2 rows: errors up to 4 times a direct sum's" in str(found)


def test_packed_weights_serve_any_size_and_nothing_else(rng):
    w = rng.uniform(-1, 1, (9, 5, 3, 3)).astype("f4")
    small = conv_spec((1, 5, 8, 8), w.shape, 1, 1, 1, 1, w.dtype)
    large = conv_spec((2, 5, 90, 50), w.shape, 1, 0, 1, 1, w.dtype)
    apart = conv_spec((2, 5, 181, 101), w.shape, 2, 0, 1, 1, w.dtype)
    isa = native.ISA_INDEX[ISAS[0]]
    packed = _conv.winograd_pack(small.geometry, w, 4, False, isa, 1)
    x = rng.uniform(-1, 1, large.input_shape).astype("f4")
    y = np.empty(large.output_shape, "f4")
    _conv.winograd(large.geometry, x, w, packed, None, y, 0, 4, False, isa, 1)
    np.testing.assert_array_equal(y, run(large, x, w, 4, ISAS[0], 1))
    for spec, m, turned in ((large, 2, False), (large, 4, True), (apart, 4, False)):
        given = np.empty(spec.input_shape, "f4")
        with pytest.raises(ValueError, match="packed: expected weights packed for this"):
            _conv.winograd(spec.geometry, given, w, packed, None, y, 0, m, turned, isa, 1)


@pytest.mark.parametrize("method", ["auto", "winograd"])
def test_one_packed_weight_serves_both_strides(method, rng):
    x = rng.uniform(-1, 1, (1, 64, 56, 56)).astype("f4")
    w = rng.uniform(-1, 1, (64, 64, 3, 3)).astype("f4")
    packed = fc.pack_conv2d(w, x.shape, padding=1, method=method)
    # what is packed already may be served by another method than a plain weight
    bound = _winograd.ERROR[4] * 2**-23 * np.abs(x).max() * np.abs(w).sum((1, 2, 3)).max()
    for stride in (1, 2, 1, 2):
        how = {"stride": stride, "padding": 1, "method": method}
        y, wanted = fc.conv2d(x, packed, **how), fc.conv2d(x, w, **how)
        np.testing.assert_allclose(y, wanted, rtol=0, atol=0 if method == "winograd" else bound)


@pytest.mark.parametrize(
    "stride, m, turned, dtype",
    [
        (1, 4, False, "f8"),
        (2, 2, False, "f4"),
        (2, 4, True, "f4"),
        ((1, 2), 4, False, "f4"),
        (3, 4, False, "f4"),
    ],
)
def test_tiles_that_there_are_not(stride, m, turned, dtype):
    spec = conv_spec((1, 2, 9, 9), (2, 2, 3, 3), stride, 1, 1, 1, np.dtype(dtype))
    with pytest.raises(ValueError, match="m: expected 2 for float64|stride: expected 1, or 2"):
        run(spec, np.ones(spec.input_shape, dtype), np.ones((2, 2, 3, 3), dtype), m, ISAS[0], 1,
            turned=turned)  # fmt: skip


# -- who may forbid it

LARGE = ((1, 64, 56, 56), (64, 64, 3, 3))


def chosen(*shapes, **how):
    return fc.explain("conv2d", *shapes, dtype="f4", backend="native", **how).chosen.method


def test_auto_takes_it_for_large_planes():
    assert chosen(*LARGE, padding=1) == "winograd"
    assert chosen((1, 256, 14, 14), (256, 256, 3, 3), padding=1) == "winograd"
    assert chosen((1, 3, 224, 224), (64, 3, 3, 3), padding=1) != "winograd"
    assert chosen((1, 64, 3, 3), (64, 64, 3, 3)) != "winograd"
    assert chosen((1, 1, 56, 56), (2, 1, 3, 3)) != "winograd"
    assert chosen((1, 128, 56, 56), (128, 128, 3, 3), stride=2) == "winograd"
    assert chosen(*LARGE, stride=(2, 1)) != "winograd"
    assert chosen((1, 512, 14, 14), (512, 512, 3, 3), stride=2, padding=1) != "winograd"


def test_never_forbids_it(rng):
    x, w = (rng.uniform(-1, 1, s).astype("f4") for s in ((1, 16, 40, 40), (16, 16, 3, 3)))
    with fc.using(winograd="never"):
        assert chosen(*LARGE, padding=1) != "winograd"
        said = str(fc.explain("conv2d", *LARGE))
        assert "not native winograd: using(winograd='never') forbids it" in said
        with pytest.raises(ValueError, match="method: 'winograd' cannot serve this conv2d: using"):
            fc.conv2d(x, w, method="winograd")
    assert chosen(*LARGE, padding=1) == "winograd"


def test_precise_takes_the_smaller_tiles(rng):
    x = rng.integers(-4, 5, (1, 64, 40, 40)).astype("f4")
    w = rng.integers(-4, 5, (64, 64, 3, 3)).astype("f4")
    expected = fc.conv2d(x, w, method="im2col")
    with fc.using(winograd="precise"):
        found = fc.explain("conv2d", x.shape, w.shape, method="winograd", dtype="f4")
        assert "works in tiles of 2x2: errors up to 4 times a direct sum's" in str(found)
        np.testing.assert_array_equal(fc.conv2d(x, w, method="winograd"), expected)
        with pytest.raises(ValueError, match=r"using\(winograd='precise'\) forbids it"):
            fc.conv2d(x, w, stride=2, method="winograd")
        assert chosen(*LARGE, stride=2) != "winograd"
    found = fc.explain("conv2d", x.shape, w.shape, method="winograd", dtype="f4")
    assert "tiles of 4x4" in str(found)
    assert (fc.conv2d(x, w, method="winograd") != expected).any()


def test_integers_stay_exact(rng):
    x, w = rng.integers(0, 256, (2, 64, 30, 30)), rng.integers(-128, 128, (32, 64, 3, 3))
    assert fc.choose_conv_method(x, w, padding=1) != "winograd"
    expected = fc.conv2d(x, w, padding=1, method="im2col")
    np.testing.assert_array_equal(fc.conv2d(x, w, padding=1), expected)


@pytest.mark.parametrize(
    "shapes, how, reason",
    [
        (((1, 2, 9, 9), (2, 2, 3, 5)), {}, "the kernel is 3x5, not 3x3"),
        (((1, 2, 9, 9), (2, 2, 7, 7)), {}, "the kernel is 7x7, not 3x3"),
        (((1, 2, 9, 9), (2, 2, 3, 3)), {"stride": (1, 2)}, r"the stride is \(1, 2\), not 1"),
        (((1, 2, 9, 9), (2, 2, 3, 3)), {"stride": 2}, "the stride is 2, and the dtype float64"),
        (((1, 2, 9, 9), (2, 2, 3, 3)), {"stride": 3}, r"the stride is \(3, 3\), not 1"),
        (((1, 2, 9, 9), (2, 2, 3, 3)), {"dilation": 2}, r"the dilation is \(2, 2\), not 1"),
        (((1, 1, 29, 29), (1, 1, 9, 9)), {"dilation": 2}, r"the dilation is \(2, 2\), not 1"),
        (((1, 1, 9, 9), (1, 1, 5, 4)), {}, "is 5x4, neither 3x3 nor of 49 taps and more"),
        (((1, 1, 9, 9), (1, 1, 5, 5)), {}, "is 5x5, which takes AVX-512 and float32"),
        (((1, 1, 9, 9), (1, 1, 7, 7)), {"stride": (2, 1)}, r"the stride is \(2, 1\), not 1"),
    ],
)
def test_what_it_cannot_serve(shapes, how, reason):
    with pytest.raises(ValueError, match=reason):
        fc.conv2d(*map(np.ones, shapes), method="winograd", **how)


@pytest.mark.parametrize("isa", PAIRED)
@pytest.mark.parametrize(
    "how, reason",
    [
        ({"padding": ((0, 0), (5, 0))}, "5 columns of padding on the left, and 4 are the most"),
        ({"dilation": (1, 2)}, r"the dilation is \(1, 2\), not 1"),
        ({"dilation": (2, 1)}, r"the dilation is \(2, 1\), not 1"),
        ({"stride": 2}, r"the stride is \(2, 2\), not 1"),
    ],
)
def test_what_pairs_of_rows_cannot_serve(how, reason, isa):
    x, w = (np.ones(s, "f4") for s in ((1, 1, 9, 9), (1, 1, 5, 5)))
    with fc.using(isa=isa), pytest.raises(ValueError, match=reason):
        fc.conv2d(x, w, method="winograd", **how)


def test_packing_by_the_row(rng):
    spec = conv_spec((1, 8, 20, 20), (8, 8, 3, 3), 1, 1, 1, 1, np.dtype("f4"))
    x = rng.uniform(-1, 1, spec.input_shape).astype("f4")
    w = rng.uniform(-1, 1, spec.weight_shape).astype("f4")
    [row] = [r for r in registry.implementations("conv2d", "native") if r.method == "winograd"]
    y, again = np.empty(spec.output_shape, "f4"), np.empty(spec.output_shape, "f4")
    row.run(spec, x, w, None, y, "tanh")
    packed = native._winograd_pack(spec, w, "NCHW")
    row.run(spec, x, w, None, again, "tanh", packed=packed)
    np.testing.assert_array_equal(again, y)
    assert native._winograd_pack_cost(spec) > 0
    with fc.using(winograd="precise"):
        assert native._winograd_packing_key(spec, "NCHW") != (native._isa(), 4)


def test_integers_near_the_limit_of_doubles():
    """Near 2**53, where Winograd's sums would round."""
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**20), 2**20, (1, 64, 14, 14))
    w = rng.integers(-(2**20), 2**20, (64, 64, 3, 3))
    floats = x.astype(np.float64), w.astype(np.float64)
    assert fc.choose_conv_method(*floats, padding=1) == "winograd"
    expected = np.zeros((1, 64, 14, 14), np.int64)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for r in range(3):
        for s in range(3):
            part = padded[..., r : r + 14, s : s + 14]
            expected += np.einsum("kc,nchw->nkhw", w[:, :, r, s], part)
    np.testing.assert_array_equal(fc.conv2d(x, w, padding=1), expected)
    dx = fc.grad.conv2d_input(x.shape, w.swapaxes(0, 1)[:, :, ::-1, ::-1], x, padding=1)
    np.testing.assert_array_equal(dx, expected)
