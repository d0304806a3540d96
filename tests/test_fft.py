"""The method "fft": tiles, blocks of channels, errors, and what it leaves to another method."""

import subprocess
import sys
import tracemalloc

import helpers
import numpy as np
import pytest
from helpers import DTYPES, call, operands
from tolerance import assert_close, transformed

import fastconv as fc
from fastconv import grad
from fastconv.registry import implementations
from fastconv.spec import conv_spec

pytestmark = pytest.mark.skipif("native" not in helpers.BACKENDS, reason="native is not built")

if "native" in helpers.BACKENDS:
    from fastconv.backends.native import _fft

ROWS = {
    op: {r.method: r for r in implementations(op, "native")} for op in ("conv2d", "conv2d_input")
}
# several tiles along both axes
TILED = {
    "31x29": ((1, 1, 611, 709), (1, 1, 31, 29), 1, "same", 1, 1),
    "stride": ((1, 2, 803, 617), (3, 2, 23, 40), (3, 2), ((5, 0), (1, 30)), 1, 1),
    "dilation": ((1, 2, 800, 813), (2, 2, 11, 9), 1, 3, (4, 5), 1),
    "groups": ((2, 4, 500, 530), (6, 2, 17, 17), 2, 8, 1, 2),
    "padding beyond the kernel": ((1, 1, 700, 750), (1, 1, 21, 20), 1, 60, 1, 1),
}


def tiles_of(op, spec):
    axes = _fft.forward_axes(spec) if op == "conv2d" else _fft.input_axes(spec)
    return _fft.tiles(*axes)


def both(op, spec, rng, draw=helpers.uniform):
    """(inputs, by transforms, directly)."""
    inputs = operands(op, spec, rng, draw)
    return inputs, *(call(ROWS[op][method], spec, inputs)[0] for method in ("fft", "direct"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ROWS)
@pytest.mark.parametrize("args", TILED.values(), ids=TILED)
def test_tiles(args, op, dtype, rng):
    spec = conv_spec(*args, np.dtype(dtype))
    cut = tiles_of(op, spec)
    assert cut.count > 2
    inputs, actual, desired = both(op, spec, rng)
    assert_close(actual, desired, **helpers.within(ROWS[op]["fft"], spec, inputs))


@pytest.mark.parametrize("op", ROWS)
@pytest.mark.parametrize("planes", [1, 2, 5])
def test_blocks_of_channels(op, planes, monkeypatch, rng):
    spec = conv_spec((2, 14, 20, 21), (10, 7, 5, 5), 1, 2, 1, 2, np.dtype("f4"))
    height, width = tiles_of(op, spec).size
    monkeypatch.setattr(_fft, "SPECTRA", 4 * planes * height * (width // 2 + 1) * 8)
    inputs, actual, desired = both(op, spec, rng)
    assert_close(actual, desired, **helpers.within(ROWS[op]["fft"], spec, inputs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ROWS)
@pytest.mark.parametrize("scale", [1, 1e4, 1e-4], ids=str)
def test_error_bound(op, dtype, scale, rng):
    """Against float64, or directly: pixels of very unequal size, the bound that is documented."""
    spec = conv_spec((1, 3, 300, 290), (2, 3, 41, 37), 1, 20, dtype=np.dtype(dtype))
    inputs = operands(op, spec, rng)
    inputs[0][..., ::7] *= scale
    actual = call(ROWS[op]["fft"], spec, inputs)[0]
    wide = conv_spec((1, 3, 300, 290), (2, 3, 41, 37), 1, 20, dtype=np.dtype("f8"))
    desired = call(ROWS[op]["direct"], wide, tuple(a.astype("f8") for a in inputs))[0]
    height, width = tiles_of(op, spec).size
    filters = inputs[1] if op == "conv2d" else inputs[1].swapaxes(0, 1)
    allowed = transformed(height * width, inputs[0], filters, *inputs[2:])
    assert_close(actual, desired.astype(dtype), **allowed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ROWS)
@pytest.mark.parametrize("value", [np.nan, np.inf, "large"], ids=str)
def test_what_is_not_finite_is_computed_directly(op, value, dtype, rng):
    spec = conv_spec((1, 2, 400, 410), (2, 2, 25, 25), 1, 12, dtype=np.dtype(dtype))
    for sick in (0, 1):
        inputs = operands(op, spec, rng)
        inputs[sick].flat[1000] = np.finfo(dtype).max / 4 if value == "large" else value
        with np.errstate(all="ignore"):
            actual = call(ROWS[op]["fft"], spec, inputs)[0]
            desired = call(ROWS[op]["direct"], spec, inputs)[0]
        np.testing.assert_array_equal(actual, desired)


@pytest.mark.parametrize("op", ROWS)
def test_whole_numbers_are_exact(op, rng):
    spec = conv_spec((1, 2, 400, 410), (2, 2, 25, 25), 1, 12, dtype=np.dtype("f8"))
    for high in (2, 256, 2**16, 2**20):
        inputs = [rng.integers(-high, high, a.shape).astype("f8") for a in operands(op, spec, rng)]
        actual, desired = (call(ROWS[op][method], spec, inputs)[0] for method in ("fft", "direct"))
        np.testing.assert_array_equal(actual, desired)


def test_integers_by_auto(rng):
    x = rng.integers(0, 256, (1, 300, 310), dtype=np.uint8)
    w = rng.integers(-9, 10, (1, 1, 63, 61))
    assert fc.choose_conv_method(x, w, backend="native") == "fft"
    with fc.using(backend="native"):
        np.testing.assert_array_equal(fc.conv2d(x, w), fc.conv2d(x, w, method="direct"))
        w[0, 0, 5, 5] = 2**31  # too large to be rounded to
        np.testing.assert_array_equal(fc.conv2d(x, w), fc.conv2d(x, w, method="direct"))


def test_auto_takes_it_for_large_kernels_alone():
    def chosen(size):
        return fc.explain("conv2d", (1, 1, 1080, 1920), (1, 1, size, size), 1, size // 2,
                          backend="native").chosen.method  # fmt: skip

    assert chosen(3) == "depthwise"
    assert {chosen(5), chosen(9)} <= {"depthwise", "winograd"}
    assert [chosen(size) for size in (45, 63, 101)] == ["fft"] * 3
    found = fc.explain("conv2d", (1, 1, 512, 512), (1, 1, 63, 63), backend="native")
    assert "native fft runs\n" in str(found) and "\n  it leaves NaN, infinities and" in str(found)
    found = fc.explain("conv2d", (1, 1, 512, 512), (1, 1, 5, 5), backend="native")
    assert "not native fft: about" in str(found)
    assert (
        fc.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), backend="native").chosen.method
        != "fft"
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(dtype, rng):
    x, w = rng.standard_normal((2, 2, 500, 611)).astype(dtype), rng.standard_normal((3, 2, 21, 21))
    w = w.astype(dtype)
    results = []
    for threads in (1, 2, 3):
        with fc.using(num_threads=threads, method="fft", backend="native"):
            y = fc.conv2d(x, w)
            results.append(y.tobytes() + grad.conv2d_input(x.shape, w, y).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ROWS)
def test_without_scipy(op, dtype, monkeypatch, rng):
    monkeypatch.setitem(sys.modules, "scipy", None)
    _fft._library.cache_clear()
    try:
        assert _fft._library()[0].__module__.startswith("numpy")
        spec = conv_spec(*TILED["groups"], np.dtype(dtype))
        inputs, actual, desired = both(op, spec, rng)
    finally:
        _fft._library.cache_clear()
    assert_close(actual, desired, **helpers.within(ROWS[op]["fft"], spec, inputs))


def test_memory_is_bounded(rng):
    x, w = np.ones((1, 1, 3000, 3000), "f4"), rng.uniform(size=(1, 1, 31, 31)).astype("f4")
    out = np.empty((1, 1, 2970, 2970), "f4")
    many, kernels = np.ones((1, 128, 100, 100), "f4"), np.ones((128, 128, 9, 9), "f4")
    with fc.using(num_threads=1, method="fft", backend="native"):
        for arrays, kw in (((x, w), {"out": out}), ((many, kernels), {})):
            tracemalloc.start()
            fc.conv2d(*arrays, **kw)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 60e6


def test_scipy_is_imported_by_the_first_transform():
    script = """
import sys
import numpy as np, fastconv as fc
fc.conv2d(np.ones((1, 9, 9)), np.ones((1, 1, 3, 3)), backend="native")
assert "scipy" not in sys.modules and "concurrent.futures" not in sys.modules
fc.conv2d(np.ones((1, 9, 9)), np.ones((1, 1, 3, 3)), method="fft", backend="native")
assert "scipy.fft" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_lengths():
    lengths = [_fft.fast_length(n) for n in range(1, 200)]
    for n, length in enumerate(lengths, 1):
        assert length >= n and length % 2 == 0
        for prime in (2, 3, 5):
            while length % prime == 0:
                length //= prime
        assert length == 1
