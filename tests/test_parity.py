"""The same numbers as PyTorch, forward and every gradient, and as scipy.signal."""

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES
from tolerance import assert_close, largest

import fastconv as fc
from fastconv import grad


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with fc.using(backend=request.param):
        yield request.param


CONV = {
    # name: (input shape, weight shape, stride, padding, dilation, groups)
    "lenet, first": ((2, 1, 10, 10), (3, 1, 5, 5), 1, 2, 1, 1),
    "lenet, second": ((1, 6, 8, 8), (4, 6, 5, 5), 1, 0, 1, 1),
    "3x3": ((2, 4, 9, 8), (5, 4, 3, 3), 1, 1, 1, 1),
    "1x1": ((2, 9, 5, 4), (7, 9, 1, 1), 1, 0, 1, 1),
    "1x1, stride": ((2, 5, 7, 8), (4, 5, 1, 1), 2, 0, 1, 1),
    "unequal everything": ((2, 4, 13, 17), (6, 2, 3, 4), (2, 3), (2, 1), (1, 2), 2),
    "same": ((2, 3, 9, 8), (4, 3, 4, 3), 1, "same", 1, 1),
    "same, dilated": ((1, 3, 9, 8), (4, 3, 2, 3), 1, "same", (3, 2), 1),
    "valid": ((2, 3, 9, 8), (4, 3, 4, 3), 2, "valid", 1, 1),
    "depthwise": ((2, 6, 9, 8), (6, 1, 3, 3), 1, 1, 1, 6),
    "stride beyond the kernel": ((1, 2, 17, 19), (3, 2, 2, 3), (5, 7), 1, 1, 1),
}


def tensors(*arrays):
    import torch

    return [torch.tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONV.values(), ids=CONV)
@pytest.mark.parametrize("has_batch", [True, False], ids=["batch", "image"])
def test_conv2d_and_its_gradients(case, dtype, has_batch, rng):
    torch = pytest.importorskip("torch")
    shape, weight_shape, *how = case
    shape = shape if has_batch else shape[1:]
    x, w = (rng.uniform(-1, 1, s).astype(dtype) for s in (shape, weight_shape))
    b = rng.uniform(-1, 1, weight_shape[0]).astype(dtype)
    y = fc.conv2d(x, w, b, *how)
    dy = rng.uniform(-1, 1, y.shape).astype(dtype)

    tx, tw, tb = tensors(x, w, b)
    ty = torch.nn.functional.conv2d(tx, tw, tb, *how)
    (ty * tensors(dy)[0]).sum().backward()
    taps, pixels = w[0].size, dy.size // len(w)
    assert_close(y, ty.detach().numpy(), length=taps + 1)
    dx = grad.conv2d_input(x.shape, w, dy, *how)
    assert_close(dx, tx.grad.numpy(), length=w.size)
    assert_close(grad.conv2d_weight(x, w.shape, dy, *how), tw.grad.numpy(), length=pixels)
    assert_close(grad.conv2d_bias(dy), tb.grad.numpy(), length=pixels)


POOL = {
    # name: (input shape, kernel, stride, padding, ceil_mode)
    "2": ((2, 3, 8, 8), 2, None, 0, False),
    "a rest": ((2, 3, 7, 9), 2, None, 0, False),
    "a rest, ceil": ((2, 3, 7, 9), 2, None, 0, True),
    "3, stride 2, padding 1": ((2, 3, 8, 9), 3, 2, 1, False),
    "3, stride 2, padding 1, ceil": ((2, 3, 8, 9), 3, 2, 1, True),
    "overlapping": ((2, 3, 6, 7), (3, 2), 1, (1, 0), False),
    "unequal": ((1, 2, 11, 13), (2, 5), (3, 2), (1, 2), True),
    "beyond the kernel": ((1, 2, 11, 13), 2, 5, 0, True),
    "larger than the image, ceil": ((1, 2, 2, 2), 3, 2, 0, True),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", POOL.values(), ids=POOL)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("draw", ["continuous", "ties", "with NaN"])
def test_max_pool2d_and_its_gradient(case, dilation, draw, dtype, rng):
    torch = pytest.importorskip("torch")
    shape, kernel, stride, padding, ceil = case
    if dilation == 2 and ceil and max(shape) < 4:
        dilation = 1
    x = rng.uniform(-1, 1, shape) if draw == "continuous" else rng.integers(-2, 2, shape)
    x = x.astype(dtype)
    if draw == "with NaN":
        x[rng.uniform(size=shape) < 0.1] = np.nan
    how = kernel, stride, padding, dilation, ceil
    y, indices = fc.max_pool2d(x, *how, return_indices=True)
    dy = rng.uniform(-1, 1, y.shape).astype(dtype)

    (tx,) = tensors(x)
    ty, tindices = torch.nn.functional.max_pool2d(tx, *how, return_indices=True)
    ty.backward(torch.tensor(dy))
    np.testing.assert_array_equal(y, ty.detach().numpy())
    np.testing.assert_array_equal(indices, tindices.numpy())
    dx = grad.max_pool2d(dy, indices, x.shape)
    assert_close(dx, tx.grad.numpy(), length=dy[0, 0].size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", POOL.values(), ids=POOL)
@pytest.mark.parametrize("include, divisor", [(True, None), (False, None), (True, 7), (False, -1)])
def test_avg_pool2d_and_its_gradient(case, include, divisor, dtype, rng):
    torch = pytest.importorskip("torch")
    shape, *how = case
    how = *how, include, divisor
    x = rng.uniform(-1, 1, shape).astype(dtype)
    y = fc.avg_pool2d(x, *how)
    dy = rng.uniform(-1, 1, y.shape).astype(dtype)

    (tx,) = tensors(x)
    ty = torch.nn.functional.avg_pool2d(tx, *how)
    ty.backward(torch.tensor(dy))
    assert_close(y, ty.detach().numpy(), length=16)
    assert_close(grad.avg_pool2d(dy, x.shape, *how), tx.grad.numpy(), length=16)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_and_their_gradients(name, dtype, rng):
    torch = pytest.importorskip("torch")
    x, dy = (rng.uniform(-4, 4, (2, 3, 5, 7)).astype(dtype) for _ in range(2))
    (tx,) = tensors(x)
    ty = getattr(torch, name)(tx)
    ty.backward(torch.tensor(dy))
    y = getattr(fc.ops, name)(x)
    assert_close(y, ty.detach().numpy(), length=4)
    dx = getattr(grad, name)(dy, ty.detach().numpy())
    assert_close(dx, tx.grad.numpy(), length=4, magnitude=4)


def test_tensors_come_in(rng):
    torch = pytest.importorskip("torch")
    x, w = rng.uniform(size=(1, 2, 5, 6)), rng.uniform(size=(3, 2, 2, 2))
    y = fc.conv2d(torch.tensor(x), torch.tensor(w))
    np.testing.assert_array_equal(y, fc.conv2d(x, w))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 3), (2, 5)], ids=str)
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_scipy_correlate2d(kernel, mode, dtype, rng):
    signal = pytest.importorskip("scipy.signal")
    x, w = (rng.uniform(-1, 1, s).astype(dtype) for s in ((9, 11), kernel))
    padding = ((kernel[0] - 1,) * 2, (kernel[1] - 1,) * 2) if mode == "full" else mode
    # for even kernels correlate2d's "same" puts the odd pixel at the end, as conv2d does
    y = fc.conv2d(x[None], w[None, None], padding=padding)[0]
    desired = signal.correlate2d(x, w, mode)
    assert_close(y, desired, length=w.size, magnitude=largest(x, w))
