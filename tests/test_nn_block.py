"""Convolution, activation and pooling as one operation: the same as layer by layer."""

from functools import cache

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import assert_close

import fastconv as fc
from fastconv import nn, registry

pytestmark = pytest.mark.skipif("native" not in BACKENDS, reason="native is not built")

POOLS = {
    "none": None,
    "avg": lambda: nn.AvgPool2d(2),
    "avg 3x2": lambda: nn.AvgPool2d((3, 2)),
    "max": lambda: nn.MaxPool2d(2),
    "max 2x3": lambda: nn.MaxPool2d((2, 3)),
}
ACTIVATIONS = {"none": None, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def network(channels, filters, kernel, activation, pool, dtype, **options):
    layers = [nn.Conv2d(channels, filters, kernel, rng=1, dtype=np.dtype(dtype), **options)]
    layers += [make() for make in (ACTIVATIONS[activation], POOLS[pool]) if make]
    return nn.Sequential(*layers)


def step(net, x):
    """Output and all gradients, the output's gradient being fixed numbers."""
    net.train().zero_grad()
    y = net(x)
    grad_output = np.random.default_rng(2).normal(size=y.shape).astype(y.dtype)
    grad_input = net.backward(grad_output)
    return [y, grad_input, *(p.grad for p in net.parameters())]


@pytest.fixture
def fused(monkeypatch):
    """Counts the calls that were offered a fused operation."""
    found = []
    real = registry.offer

    def offer(op, spec):
        impl = real(op, spec)
        found.append(impl is not None)
        return impl

    monkeypatch.setattr(registry, "offer", offer)
    return found


def block_step(activation, pool, dtype):
    net = network(3, 7, (3, 2), activation, pool, dtype, padding=1)
    return step(net, np.random.default_rng(0).normal(size=(31, 3, 8, 4)).astype(dtype))


@cache  # the plain loops take longer than everything else here
def expected_step(activation, pool, dtype):
    with fc.using(backend="reference"):
        return block_step(activation, pool, dtype)


@pytest.mark.parametrize("isa", fc.config.config().get("isa available", [None]))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_block_is_its_layers(activation, pool, dtype, isa, fused):
    if activation == pool == "none":
        pytest.skip("a convolution alone is no block")
    with fc.using(isa=isa):
        results = block_step(activation, pool, dtype)
    assert all(fused) and fused
    expected = expected_step(activation, pool, dtype)
    terms = 31 * 8 * 5
    for result, reference in zip(results, expected, strict=True):
        assert result.shape == reference.shape
        bound = terms * np.finfo(dtype).eps * max(1, np.abs(reference).max())
        np.testing.assert_allclose(result, reference, rtol=0, atol=bound)


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(14, 40),
    channels=st.integers(1, 4),
    filters=st.integers(1, 19),
    kernel=st.integers(1, 5),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    size=st.integers(9, 16),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    pool=st.sampled_from(sorted(POOLS)),
)
def test_any_shape(images, channels, filters, kernel, padding, dilation, size, activation, pool):
    options = {"padding": padding, "dilation": dilation}
    net = network(channels, filters, kernel, activation, pool, "float64", **options)
    x = np.random.default_rng(0).normal(size=(images, channels, size, size + 1))
    results = step(net, x)
    with fc.using(method="im2col"):  # the layers one by one
        expected = step(net, x)
    for result, reference in zip(results, expected, strict=True):
        bound = 1e-12 * max(1, np.abs(reference).max())
        np.testing.assert_allclose(result, reference, rtol=0, atol=bound)


@pytest.mark.parametrize("pool", POOLS)
def test_the_bits_do_not_depend_on_the_threads(pool, fused):
    net = network(2, 9, 3, "sigmoid", pool, "float32", padding=1)
    x = np.random.default_rng(0).normal(size=(150, 2, 12, 12)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 5):
        with fc.using(num_threads=threads):
            results.append([r.copy() for r in step(net, x)])
    assert all(fused) and fused
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_nan_and_infinity_go_where_layers_send_them(pool):
    net = network(1, 2, 3, "relu", pool, "float32", padding=1)
    x = np.random.default_rng(0).normal(size=(17, 1, 8, 8)).astype(np.float32)
    x[3, 0, 2, 2], x[16, 0, 5, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        y = net.train()(x)
        with fc.using(method="im2col"):
            expected = net(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(expected))


def test_weights_that_overflow_leave_the_missing_images_out():
    # zero images times an infinite weight are NaN in the lanes that hold no image
    net = network(1, 1, 1, "sigmoid", "none", "float32")
    net[0].weight.data[...] = np.inf
    x = np.ones((17, 1, 4, 4), np.float32)
    results = step(net, x)
    assert np.isfinite(results[2]).all() and np.isfinite(results[3]).all()


def test_an_instruction_set_of_the_forward_pass_serves_the_backward_pass():
    net = network(1, 3, 3, "tanh", "avg", "float32")
    x = np.random.default_rng(0).normal(size=(32, 1, 10, 10)).astype(np.float32)
    expected = step(net, x)
    with fc.using(isa="portable"):
        y = net(x)
    grad_output = np.random.default_rng(2).normal(size=y.shape).astype(y.dtype)
    net.zero_grad()
    result = net.backward(grad_output)
    assert_close(result, expected[1], length=27, magnitude=np.abs(expected[1]).max())


def test_a_given_method_or_overlapping_windows_run_layer_by_layer(fused):
    x = np.random.default_rng(0).normal(size=(32, 1, 10, 10)).astype(np.float32)
    with fc.using(method="im2col"):
        step(network(1, 3, 3, "relu", "avg", "float32"), x)
    assert not any(fused)
    fused.clear()
    for pool in (nn.AvgPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)):
        step(nn.Sequential(nn.Conv2d(1, 3, 3, rng=0), nn.ReLU(), pool), x)
    assert not fused


def test_kept_memory_is_not_shared_with_what_was_returned():
    net = network(1, 3, 3, "relu", "avg", "float32").train()
    x = np.random.default_rng(0).normal(size=(64, 1, 10, 10)).astype(np.float32)
    first = net(x)
    copy = first.copy()
    net(2 * x)
    np.testing.assert_array_equal(first, copy)
