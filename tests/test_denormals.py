"""Denormals are zeros to the native backend where it adds up products, and to nobody else."""

import threading

import helpers
import numpy as np
import pytest
from helpers import DTYPES

import fastconv as fc
from fastconv import grad, ops

pytestmark = pytest.mark.skipif("native" not in helpers.BACKENDS, reason="native is not built")

# so small that a sum of ten thousand is denormal; powers of 2, so that sums are exact
TINY = {"float32": 2.0**-140, "float64": 2.0**-1060}
SIZES = {"on one thread": (2, 3, 8, 10), "shared out": (5, 16, 42, 44)}


def conv(x, method="direct", groups=1):
    c = x.shape[1]
    w = np.ones((c, c // groups, 3, 3), x.dtype)
    return fc.conv2d(x, w, groups=groups, padding=1, method=method)


def conv_input(x, method="direct", groups=1):
    c = x.shape[1]
    w = np.ones((c, c // groups, 3, 3), x.dtype)
    return grad.conv2d_input(x.shape, w, x, groups=groups, padding=1, method=method)


def conv_weight(x, method="direct"):
    c = x.shape[1]
    return grad.conv2d_weight(x, (c, c, 3, 3), np.ones_like(x), padding=1, method=method)


def unpool(x):
    n, c, h, w = x.shape
    return grad.avg_pool2d(x, (n, c, 2 * h, 2 * w), 2)


# linear in x, all of them
MULTIPLY = {
    "conv2d": conv,
    "conv2d, im2col": lambda x: conv(x, "im2col"),
    "conv2d, depthwise": lambda x: conv(x, "depthwise", x.shape[1]),
    "conv2d_input": conv_input,
    "conv2d_input, depthwise": lambda x: conv_input(x, "depthwise", x.shape[1]),
    "conv2d_weight": conv_weight,
    "conv2d_weight, im2col": lambda x: conv_weight(x, "im2col"),
    "avg_pool2d": lambda x: fc.avg_pool2d(x, 2),
    "avg_pool2d, backward": unpool,
    "softmax_pool2d": lambda x: fc.softmax_pool2d(x, 2),
}
KEEP = {
    "tanh, backward": lambda x: grad.tanh(x, np.full_like(x, 0.5)),
    "sigmoid, backward": lambda x: grad.sigmoid(x, np.full_like(x, 0.5)),
    "max_pool2d": lambda x: fc.max_pool2d(x, 2),
    "min_pool2d": lambda x: fc.min_pool2d(x, 2),
    "max_pool2d, backward": lambda x: grad.max_pool2d(x, np.zeros(x.shape, np.int64), x.shape),
    "relu": ops.relu,
    "relu, backward": lambda x: grad.relu(x, np.ones_like(x)),
    "unfold": lambda x: fc.unfold(x, 2),
    "fold": lambda x: fc.fold(x.reshape(x.shape[0], 2, -1), (1, x[0].size // 2 + 1), (1, 2)),
    "conv2d_bias": grad.conv2d_bias,
}


def denormals(size, dtype):
    return np.full(SIZES[size], TINY[dtype], dtype)


sizes = pytest.mark.parametrize("size", SIZES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@dtypes
@sizes
@pytest.mark.parametrize("function", MULTIPLY.values(), ids=MULTIPLY)
def test_zeros_in_sums_of_products(function, size, dtype):
    x = denormals(size, dtype)
    with fc.using(num_threads=3, backend="native"):
        assert not function(x).any()
        with fc.using(flush_denormals=False):
            kept = function(x)
        desired = function(np.ones_like(x)) * x.dtype.type(TINY[dtype])
    assert desired.any()
    np.testing.assert_array_equal(kept, desired)


@dtypes
@sizes
@pytest.mark.parametrize("function", KEEP.values(), ids=KEEP)
def test_kept_elsewhere(function, size, dtype):
    x = denormals(size, dtype)
    with fc.using(num_threads=3, backend="native"):
        kept = function(x)
        desired = function(np.ones_like(x)) * x.dtype.type(TINY[dtype])
    assert desired.any()
    np.testing.assert_array_equal(kept, desired)


def test_a_result_that_would_be_denormal_is_zero():
    x, w = np.full((1, 1, 4, 4), 1e-20, "f4"), np.full((1, 1, 2, 2), 1e-20, "f4")
    with fc.using(backend="native"):
        assert not fc.conv2d(x, w).any()
        with fc.using(flush_denormals=False):
            assert fc.conv2d(x, w).all()


@dtypes
@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("function", MULTIPLY.values(), ids=MULTIPLY)
def test_same_bits_for_any_number_of_threads(function, flush, dtype, rng):
    x = denormals("shared out", dtype)
    x *= rng.uniform(0.25, 4, x.shape).astype(dtype)
    x[:, ::3] /= x.dtype.type(TINY[dtype])
    results = []
    for threads in (1, 2, 3, 4):
        with fc.using(num_threads=threads, backend="native", flush_denormals=flush):
            results.append(function(x).tobytes())
    assert len(set(results)) == 1


def keeps_denormals():
    """Whether NumPy, in the thread that asks, still computes with them."""
    return bool((denormals("on one thread", "float32") * np.float32(0.5)).all())


def test_the_rest_of_the_process_keeps_them():
    x = denormals("shared out", "float32")
    seen = []

    def run():
        with fc.using(backend="native", num_threads=3):
            assert not conv(x).any()
            seen.append(keeps_denormals())
            with pytest.raises(TypeError):  # a driver that raises
                fc.backends.native._run(fc.backends.native._conv.conv2d, "no geometry")
            seen.append(keeps_denormals())

    run()
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 6


def test_by_variable(monkeypatch):
    x = denormals("on one thread", "float32")
    monkeypatch.setattr(fc.config, "_process", None)
    monkeypatch.setenv("FASTCONV_FLUSH_DENORMALS", "0")
    assert conv(x).any()
    assert fc.config.config()["denormals"] == "kept"
    with fc.using(flush_denormals=True):
        assert not conv(x).any()
        assert fc.config.config()["denormals"] == "zeros"
