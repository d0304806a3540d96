"""Gradients against finite differences in float64.

Convolution and average pooling are linear, so a central difference over a step of 1/4 has no error
but rounding.  The maximum is linear while no other element overtakes it: values are whole numbers.
"""

import numpy as np
import pytest
from helpers import BACKENDS
from tolerance import assert_close

import fastconv as fc
from fastconv import grad, ops

STEP = 0.25


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with fc.using(backend=request.param):
        yield request.param


def differences(function, x, dy, step=STEP):
    """Gradient of ``(function(x) * dy).sum()`` by central differences."""
    result = np.empty_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        result[i] = ((function(up) - function(down)) * dy).sum() / (2 * step)
    return result


CONV = {
    "plain": ((2, 2, 4, 5), (3, 2, 3, 2), 1, 0, 1, 1),
    "1x1": ((1, 3, 3, 4), (2, 3, 1, 1), 1, 0, 1, 1),
    "all at once": ((1, 4, 7, 8), (4, 2, 2, 3), (2, 3), ((1, 0), (2, 1)), (2, 1), 2),
    "depthwise, same": ((1, 3, 5, 4), (3, 1, 3, 3), 1, "same", 1, 3),
    "same_lower, stride": ((1, 1, 6, 5), (2, 1, 4, 2), (3, 2), "same_lower", 1, 1),
    "padding beyond the kernel": ((1, 1, 2, 2), (1, 1, 2, 2), 1, 3, 1, 1),
}


@pytest.mark.parametrize("case", CONV.values(), ids=CONV)
def test_conv2d(case, rng):
    shape, weight_shape, *how = case
    x, w = rng.uniform(-1, 1, shape), rng.uniform(-1, 1, weight_shape)
    b = rng.uniform(-1, 1, len(w))
    dy = rng.uniform(-1, 1, fc.conv2d(x, w, b, *how).shape)
    terms = dict(length=dy.size * w.size, magnitude=1 / STEP)
    assert_close(
        grad.conv2d_input(x.shape, w, dy, *how),
        differences(lambda a: fc.conv2d(a, w, b, *how), x, dy),
        **terms,
    )
    assert_close(
        grad.conv2d_weight(x, w.shape, dy, *how),
        differences(lambda a: fc.conv2d(x, a, b, *how), w, dy),
        **terms,
    )
    assert_close(
        grad.conv2d_bias(dy), differences(lambda a: fc.conv2d(x, w, a, *how), b, dy), **terms
    )


POOL = {
    "2": ((2, 2, 4, 6), 2, None, 0),
    "overlapping": ((1, 2, 5, 6), 3, 1, 1),
    "unequal": ((1, 1, 7, 8), (2, 3), (3, 2), (1, 0)),
}


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("case", POOL.values(), ids=POOL)
def test_avg_pool2d(case, ceil, rng):
    shape, *how = case
    x = rng.uniform(-1, 1, shape)
    for include, divisor in ((True, None), (False, None), (True, 3)):
        how_all = *how, ceil, include, divisor
        dy = rng.uniform(-1, 1, fc.avg_pool2d(x, *how_all).shape)
        assert_close(
            grad.avg_pool2d(dy, x.shape, *how_all),
            differences(lambda a, h=how_all: fc.avg_pool2d(a, *h), x, dy),
            length=dy.size * 9,
            magnitude=1 / STEP,
        )


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("case", POOL.values(), ids=POOL)
def test_max_pool2d(case, dilation, ceil, rng):
    shape, *how = case
    how = *how, dilation, ceil
    x = rng.permutation(np.arange(float(np.prod(shape)))).reshape(shape)
    y, indices = fc.max_pool2d(x, *how, return_indices=True)
    dy = rng.uniform(-1, 1, y.shape)
    assert_close(
        grad.max_pool2d(dy, indices, x.shape),
        differences(lambda a: fc.max_pool2d(a, *how), x, dy),
        length=dy.size,
        magnitude=x.size / STEP,
    )


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_activations(name, rng):
    x, dy = (
        rng.uniform(0.1, 3, (2, 3, 4)) * rng.choice([-1, 1], (2, 3, 4)),
        rng.uniform(-1, 1, (2, 3, 4)),
    )
    step = 2.0**-14
    function = getattr(ops, name)
    actual = getattr(grad, name)(dy, function(x))
    # the difference is off by step^2 / 6 times the third derivative, which is at most 2
    assert_close(
        actual,
        differences(function, x, dy, step),
        length=1,
        magnitude=step**2 / 3 / np.finfo(float).eps + 8 / step,
    )


def test_a_pixel_that_wins_several_windows_gets_their_sum():
    x = np.zeros((1, 3, 3))
    x[0, 1, 1] = 1
    _, indices = fc.max_pool2d(x, 2, 1, return_indices=True)
    dx = grad.max_pool2d(np.array([[[1.0, 2], [4, 8]]]), indices, x.shape)
    assert dx.tolist() == [[[0, 0, 0], [0, 15, 0], [0, 0, 0]]]


def test_gradients_of_the_input_and_of_the_weight_agree(rng):
    """<dy, conv(x, w)> is linear in x and in w: Euler's identity holds for both."""
    x, w = rng.integers(-3, 4, (2, 4, 7, 6)) * 1.0, rng.integers(-3, 4, (6, 2, 3, 2)) * 1.0
    how = (2, 1), (1, 2), (1, 2), 2
    y = fc.conv2d(x, w, None, *how)
    dy = rng.integers(-3, 4, y.shape) * 1.0
    assert (y * dy).sum() == (x * grad.conv2d_input(x.shape, w, dy, *how)).sum()
    assert (y * dy).sum() == (w * grad.conv2d_weight(x, w.shape, dy, *how)).sum()
