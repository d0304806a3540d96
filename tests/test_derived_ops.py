"""conv1d, conv_transpose2d, min_pool2d, softmax_pool2d, unfold and fold: facts, PyTorch, gradients.

Their rows of the registry, where they have any, are in test_ops.py with all others.
"""

import numpy as np
import pytest
from helpers import BACKENDS, DTYPES
from test_grad import differences
from tolerance import assert_close

import fastconv as fc
from fastconv import grad


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with fc.using(backend=request.param):
        yield request.param


def tensors(*arrays):
    import torch

    return [torch.tensor(a, requires_grad=True) for a in arrays]


def drawn(rng, *shapes, dtype="float64"):
    return [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]


def inner(a, b):
    return float((np.asarray(a) * np.asarray(b)).sum())


# -- conv1d

CONV1D = {
    # name: (input shape, weight shape, stride, padding, dilation, groups)
    "plain": ((2, 3, 11), (4, 3, 3), 1, 0, 1, 1),
    "all at once": ((2, 4, 17), (6, 2, 3), 2, 3, 2, 2),
    "same": ((1, 2, 10), (3, 2, 4), 1, "same", 1, 1),
    "one place": ((1, 1, 1), (1, 1, 1), 1, 0, 1, 1),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONV1D.values(), ids=CONV1D)
@pytest.mark.parametrize("has_batch", [True, False], ids=["batch", "line"])
def test_conv1d_and_its_gradients_are_pytorchs(case, dtype, has_batch, rng):
    torch = pytest.importorskip("torch")
    shape, weight_shape, *how = case
    shape = shape if has_batch else shape[1:]
    x, w, b = drawn(rng, shape, weight_shape, weight_shape[:1], dtype=dtype)
    y = fc.conv1d(x, w, b, *how)
    dy = drawn(rng, y.shape, dtype=dtype)[0]
    tx, tw, tb = tensors(x, w, b)
    ty = torch.nn.functional.conv1d(tx, tw, tb, *how)
    (ty * tensors(dy)[0]).sum().backward()
    assert_close(y, ty.detach().numpy(), length=w[0].size + 1)
    pixels = dy.size
    assert_close(grad.conv1d_input(x.shape, w, dy, *how), tx.grad.numpy(), length=w.size)
    assert_close(grad.conv1d_weight(x, w.shape, dy, *how), tw.grad.numpy(), length=pixels)
    assert_close(grad.conv1d_bias(dy), tb.grad.numpy(), length=pixels)


def test_conv1d_takes_a_padding_for_each_end_and_both_layouts(rng):
    x, w = drawn(rng, (2, 3, 9), (4, 3, 3))
    y = fc.conv1d(x, w, padding=((2, 1),), stride=(2,), dilation=(1,))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 1)))
    np.testing.assert_array_equal(y, fc.conv1d(padded, w, stride=2))
    out = np.empty((2, 5, 4))
    last = fc.conv1d(
        x.swapaxes(1, 2), w, padding=((2, 1),), stride=2, layout="NLC", activation="relu", out=out
    )
    assert last is out
    assert_close(out, np.maximum(y, 0).swapaxes(1, 2), length=10)
    dx = grad.conv1d_input((2, 9, 3), w, out, 2, ((2, 1),), layout="NLC")
    assert dx.shape == (2, 9, 3)
    dw = grad.conv1d_weight(x.swapaxes(1, 2), w.shape, out, 2, ((2, 1),), layout="NLC")
    assert_close(inner(dx, x.swapaxes(1, 2)), inner(dw, w), length=200)


# -- conv_transpose2d

TRANSPOSED = {
    # name: (input shape, weight shape, stride, padding, output_padding, groups, dilation)
    "plain": ((2, 3, 4, 5), (3, 2, 3, 2), 1, 0, 0, 1, 1),
    "doubling": ((2, 3, 4, 5), (3, 2, 4, 4), 2, 1, 0, 1, 1),
    "output padding": ((1, 2, 4, 5), (2, 3, 3, 3), (2, 3), 1, (1, 2), 1, 1),
    "all at once": ((2, 4, 5, 6), (4, 3, 3, 2), (3, 2), (2, 1), (2, 1), 2, (2, 1)),
    "output padding as large as the stride": ((1, 2, 4, 3), (2, 2, 3, 3), 2, 1, (3, 2), 1, 4),
    "output padding beyond the padding": ((1, 1, 3, 3), (1, 1, 2, 2), 1, 0, 2, 1, 3),
    "1x1": ((2, 5, 4, 3), (5, 3, 1, 1), 1, 0, 0, 1, 1),
    "depthwise": ((1, 3, 4, 4), (3, 1, 3, 3), 2, 1, 1, 3, 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED)
@pytest.mark.parametrize("has_batch", [True, False], ids=["batch", "image"])
def test_conv_transpose2d_and_its_gradients_are_pytorchs(case, dtype, has_batch, rng):
    torch = pytest.importorskip("torch")
    shape, weight_shape, *how = case
    shape = shape if has_batch else shape[1:]
    filters = weight_shape[1] * how[3]
    x, w, b = drawn(rng, shape, weight_shape, (filters,), dtype=dtype)
    y = fc.conv_transpose2d(x, w, b, *how)
    dy = drawn(rng, y.shape, dtype=dtype)[0]
    tx, tw, tb = tensors(x, w, b)
    ty = torch.nn.functional.conv_transpose2d(tx, tw, tb, *how)
    (ty * tensors(dy)[0]).sum().backward()
    assert_close(y, ty.detach().numpy(), length=w.size + 1)
    dx = grad.conv_transpose2d_input(x.shape, w, dy, *how)
    assert_close(dx, tx.grad.numpy(), length=w.size)
    dw = grad.conv_transpose2d_weight(x, w.shape, dy, *how)
    assert_close(dw, tw.grad.numpy(), length=x.size)
    assert_close(grad.conv_transpose2d_bias(dy), tb.grad.numpy(), length=dy.size)


@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED)
def test_conv_transpose2d_against_differences(case, rng):
    shape, weight_shape, *how = case
    x, w = drawn(rng, shape, weight_shape)
    dy = drawn(rng, fc.conv_transpose2d(x, w, None, *how).shape)[0]
    terms = dict(length=dy.size * w.size, magnitude=4)
    assert_close(
        grad.conv_transpose2d_input(x.shape, w, dy, *how),
        differences(lambda a: fc.conv_transpose2d(a, w, None, *how), x, dy),
        **terms,
    )
    assert_close(
        grad.conv_transpose2d_weight(x, w.shape, dy, *how),
        differences(lambda a: fc.conv_transpose2d(x, a, None, *how), w, dy),
        **terms,
    )


def test_conv_transpose2d_is_the_transpose_of_conv2d(rng):
    """<conv2d(x), y> = <x, conv_transpose2d(y)>, with four paddings too."""
    w = rng.integers(-3, 4, (6, 2, 3, 2)) * 1.0
    x = rng.integers(-3, 4, (2, 4, 9, 8)) * 1.0
    how = dict(stride=2, padding=((1, 0), (2, 1)), groups=2)
    y = fc.conv2d(x, w, **how)
    dy = rng.integers(-3, 4, y.shape) * 1.0
    # (9 + 1 - 3) / 2 leaves a rest of 1: that row comes back as output padding
    back = fc.conv_transpose2d(dy, w, output_padding=(1, 1), **how)
    assert back.shape == x.shape
    assert inner(y, dy) == inner(x, back)


def test_conv_transpose2d_layout_activation_and_out(rng):
    x, w, b = drawn(rng, (2, 3, 4, 5), (3, 2, 3, 3), (2,))
    y = fc.conv_transpose2d(x, w, b, 2)
    out = np.empty((2, 9, 11, 2))
    last = fc.conv_transpose2d(
        x.transpose(0, 2, 3, 1), w, b, 2, layout="NHWC", activation="sigmoid", out=out
    )
    assert last is out
    assert_close(out.transpose(0, 3, 1, 2), fc.ops.sigmoid(y), length=60)
    dx = grad.conv_transpose2d_input((2, 4, 5, 3), w, out, 2, layout="NHWC")
    dw = grad.conv_transpose2d_weight(x.transpose(0, 2, 3, 1), w.shape, out, 2, layout="NHWC")
    assert_close(inner(dx, x.transpose(0, 2, 3, 1)), inner(dw, w), length=1000)


# -- min_pool2d

POOLS = [
    # kernel, stride, padding, dilation, ceil_mode
    (2, None, 0, 1, False),
    (3, 2, 1, 1, True),
    ((2, 3), (3, 1), (1, 0), (2, 1), False),
]


@pytest.mark.parametrize("how", POOLS, ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "float16"])
def test_min_pool2d_is_the_maximum_of_the_negative(how, dtype, rng):
    x = rng.integers(-5, 5, (2, 3, 9, 37)).astype(dtype)
    y, places = fc.min_pool2d(x, *how, return_indices=True)
    z, where = fc.max_pool2d(-x, *how, return_indices=True)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, -z)
    np.testing.assert_array_equal(places, where)
    dy = rng.integers(-5, 5, y.shape) * 1.0
    np.testing.assert_array_equal(
        grad.min_pool2d(dy, places, x.shape), grad.max_pool2d(dy, where, x.shape)
    )


def test_nan_wins_a_minimum_and_the_first_of_equals_stays():
    x = np.array([[[1.0, np.nan, 5.0, 2.0], [3.0, 4.0, 2.0, 7.0]]])
    y, places = fc.min_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y, [[[np.nan, 2.0]]])
    assert places.tolist() == [[[1, 3]]]
    np.testing.assert_array_equal(fc.min_pool2d(x[..., 2:], 2, padding=1)[0, :, 0], [5, 2])


# -- softmax_pool2d


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [0.0, 0.5, -2.0, 7.0])
@pytest.mark.parametrize("how", [(2, None, 0), (3, 1, 1), ((2, 3), (3, 2), (1, 0))], ids=str)
def test_softmax_pool2d_and_its_gradient_are_pytorchs(how, beta, dtype, rng):
    torch = pytest.importorskip("torch")
    kernel, stride, padding = how
    x = drawn(rng, (2, 3, 7, 9), dtype=dtype)[0]
    y = fc.softmax_pool2d(x, *how, beta=beta)
    dy = drawn(rng, y.shape, dtype=dtype)[0]
    (tx,) = tensors(x)
    pairs = [(n, n) if isinstance(n, int) else n for n in (kernel, stride or kernel, padding)]

    def patches(t, fill):  # padded by hand: torch's unfold pads with zeros
        top, left = pairs[2]
        t = torch.nn.functional.pad(t, (left, left, top, top), value=fill)
        t = t.unfold(2, pairs[0][0], pairs[1][0]).unfold(3, pairs[0][1], pairs[1][1])
        return t.flatten(-2)

    shares = torch.softmax(patches(tx * beta, -np.inf), -1)
    ty = (shares * patches(tx, 0.0)).sum(-1)
    ty.backward(torch.tensor(dy))
    assert_close(y, ty.detach().numpy(), length=40)
    dx = grad.softmax_pool2d(dy, x, *how, beta=beta)
    assert_close(dx, tx.grad.numpy(), length=100, magnitude=1 + abs(beta))


def test_softmax_pool2d_lies_between_minimum_and_maximum(rng):
    x = rng.normal(size=(1, 2, 9, 40))
    how = 3, 2, 1
    np.testing.assert_allclose(
        fc.softmax_pool2d(x, *how, beta=0),
        fc.avg_pool2d(x, *how, count_include_pad=False),
        rtol=0,
        atol=1e-14,
    )
    rising = [fc.softmax_pool2d(x, *how, beta=b) for b in (-40, -2, 0, 2, 40)]
    for low, high in zip(rising, rising[1:], strict=False):
        assert (low <= high).all()
    # the distance to the maximum is at most log(n) / beta
    distance = fc.max_pool2d(x, *how) - fc.softmax_pool2d(x, *how, beta=1e4)
    assert 0 <= distance.min() and distance.max() <= np.log(9) / 1e4


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_pool2d_does_not_overflow_and_keeps_nan_in_its_window(dtype):
    huge = float(np.finfo(dtype).max) / 4
    x = np.array([[[huge, -huge, 1.0, 2.0], [huge, 0.0, 3.0, 4.0]]], dtype)
    for beta in (3.0, -3.0):
        y = fc.softmax_pool2d(x, 2, beta=beta)
        assert y[0, 0, 0] == (huge if beta > 0 else -huge) and np.isfinite(y).all()
    x[0, 0, 0] = np.nan
    y = fc.softmax_pool2d(x, 2)
    assert np.isnan(y[0, 0, 0]) and np.isfinite(y[0, 0, 1])


# -- unfold and fold

PATCHES = {
    # name: (input shape, kernel, dilation, padding, stride)
    "plain": ((2, 3, 5, 6), (2, 3), 1, 0, 1),
    "all at once": ((2, 3, 9, 8), (3, 2), (2, 1), (1, 2), (2, 3)),
    "larger padding than kernel": ((1, 2, 3, 3), 2, 1, 3, 2),
    "whole image": ((2, 3, 4, 5), (4, 5), 1, 0, 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", PATCHES.values(), ids=PATCHES)
@pytest.mark.parametrize("has_batch", [True, False], ids=["batch", "image"])
def test_unfold_and_fold_are_pytorchs(case, dtype, has_batch, rng):
    torch = pytest.importorskip("torch")
    shape, *how = case
    shape = shape if has_batch else shape[1:]
    x = drawn(rng, shape, dtype=dtype)[0]
    y = fc.unfold(x, *how)
    np.testing.assert_array_equal(y, torch.nn.functional.unfold(torch.tensor(x), *how).numpy())
    z = drawn(rng, y.shape, dtype=dtype)[0]
    back = fc.fold(z, shape[-2:], *how)
    desired = torch.nn.functional.fold(torch.tensor(z), shape[-2:], *how).numpy()
    assert_close(back, desired, length=9)
    np.testing.assert_array_equal(grad.unfold(z, shape, *how), back)
    np.testing.assert_array_equal(grad.fold(x, *how), y)


def test_a_convolution_is_a_product_with_the_patches(rng):
    x, w = rng.integers(-4, 5, (2, 3, 7, 8)), rng.integers(-4, 5, (5, 3, 3, 2))
    columns = fc.unfold(x, (3, 2), dilation=(1, 2), padding=((1, 0), (2, 1)), stride=2)
    assert columns.dtype == x.dtype
    y = fc.conv2d(x, w, None, 2, ((1, 0), (2, 1)), (1, 2))
    np.testing.assert_array_equal((w.reshape(5, -1) @ columns).reshape(y.shape), y)


def test_fold_after_unfold_counts_the_windows(rng):
    x = rng.integers(-4, 5, (2, 3, 7, 8)) * 1.0
    how = 3, 1, 1, 2
    count = fc.fold(fc.unfold(np.ones_like(x), *how), (7, 8), *how)
    np.testing.assert_array_equal(fc.fold(fc.unfold(x, *how), (7, 8), *how), x * count)


# -- out=, and what explain says

OUT = {
    "min_pool2d": lambda x, **kw: fc.min_pool2d(x, 2, **kw),
    "softmax_pool2d": lambda x, **kw: fc.softmax_pool2d(x, 2, **kw),
    "unfold": lambda x, **kw: fc.unfold(x, 2, **kw),
    "fold": lambda x, **kw: fc.fold(x, (4, 8), 2, 1, 0, (1, 2), **kw),
    "grad.softmax_pool2d": lambda x, **kw: grad.softmax_pool2d(np.ones((2, 4, 3, 3)), x, 2, **kw),
    "conv_transpose2d": lambda x, **kw: fc.conv_transpose2d(x, np.ones((4, 2, 2, 2)), **kw),
}


@pytest.mark.parametrize("call", OUT.values(), ids=OUT)
def test_out_may_overlap_the_input(call, rng):
    memory = rng.uniform(size=2000)
    x = memory[:288].reshape(2, 4, 6, 6)
    if call is OUT["fold"]:
        x = memory[:288].reshape(2, 12, 12)
    desired = call(x)
    out = memory[100 : 100 + desired.size].reshape(desired.shape)
    assert call(x, out=out) is out
    np.testing.assert_array_equal(out, desired)


def test_explain(backend):
    found = fc.explain("conv1d", (2, 3, 16), (4, 3, 5), 2, padding="same")
    assert found.op == "conv2d" and found.spec.output_shape == (2, 4, 1, 8)
    found = fc.explain("conv_transpose2d", (2, 3, 8, 8), (3, 4, 4, 4), 2, padding=1)
    assert found.op == "conv2d_input" and found.spec.input_shape == (2, 4, 16, 16)
    assert fc.explain("softmax_pool2d", (2, 3, 8, 8), 2, beta=3).spec.beta == 3
    assert fc.explain("min_pool2d", (3, 8, 8), 3, 2, 1).spec.output_shape == (1, 3, 4, 4)
    assert fc.explain("unfold", (3, 8, 8), 3, padding=1).spec.P == 8
