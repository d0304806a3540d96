"""Laws that hold for any arguments, on whole numbers, so that they hold exactly."""

import helpers
import numpy as np
import pytest
from helpers import (
    BACKENDS,
    FAST_ROWS,
    INEXACT_METHODS,
    REFERENCE,
    call,
    integers,
    length,
    operands,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tolerance import assert_close, tolerance

import fastconv as fc
from fastconv import grad
from fastconv.spec import array_spec, conv_spec, pool_spec, unpool_spec

backends = pytest.mark.parametrize("backend", BACKENDS)
small = st.integers(1, 3)
pairs = st.tuples(small, small)
seeds = st.integers(0, 2**32 - 1)


def whole(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.integers(-4, 5, shape).astype(float) for shape in shapes]


@st.composite
def convolutions(draw, largest=7):
    """Arguments of conv_spec, without the dtype."""
    groups, c, k = draw(small), draw(small), draw(small)
    r, s = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    h, w = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    stride, dilation = draw(pairs), draw(pairs)
    side = st.integers(0, 3)
    padding = draw(
        st.sampled_from(["same", "same_lower"])
        | st.tuples(side, side)
        | st.tuples(st.tuples(side, side), st.tuples(side, side))
    )
    args = (
        (draw(small), groups * c, h, w),
        (groups * k, c, r, s),
        stride,
        padding,
        dilation,
        groups,
    )
    try:
        conv_spec(*args)
    except ValueError as error:
        assume("does not fit" not in str(error))
        raise
    return args


@st.composite
def poolings(draw, largest=8):
    """Arguments of pool_spec, without dilation and dtype."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, n // 2)) for n in kernel)
    shape = (draw(small), draw(small), draw(st.integers(1, largest)), draw(st.integers(1, largest)))
    stride, ceil = draw(st.none() | pairs), draw(st.booleans())
    try:
        pool_spec(shape, kernel, stride, padding, 1, ceil)
    except ValueError as error:
        assume("does not fit" not in str(error))
        raise
    return shape, kernel, stride, padding, ceil


# -- any fast row equals its reference twin


@pytest.mark.parametrize("row", FAST_ROWS, ids=lambda row: f"{row}, {row.op}")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data(), seed=seeds)
def test_rows(row, dtype, data, seed):
    dtype = np.dtype(dtype)
    if row.op in ("conv2d", "conv2d_input", "conv2d_weight"):
        args = data.draw(convolutions())
        if row.method == "pointwise":
            shape, weight, stride, _, _, groups = args
            args = (shape, (*weight[:2], 1, 1), stride, 0, 1, groups)
        if row.method == "winograd":
            shape, weight, _, _, _, groups = args
            args = (shape, (*weight[:2], 3, 3), 1, data.draw(st.integers(1, 3)), 1, groups)
        if row.method == "depthwise":
            shape, weight, stride, padding, _, groups = args
            filters = shape[1] * data.draw(st.integers(1, 2 if row.op == "conv2d" else 1))
            step = data.draw(st.integers(1, 2 if row.op == "conv2d" else 1))
            args = (shape, (filters, 1, *weight[2:]), step, padding, 1, shape[1])
        spec = conv_spec(*args, dtype)
        assume(row.supports(spec) is None)
    elif row.op in ("unfold", "fold"):
        shape, weight, *how, _ = data.draw(convolutions())
        spec = conv_spec(shape, (1, shape[1], *weight[2:]), *how, 1, dtype)
    elif "pool" in row.op:
        shape, kernel, stride, padding, ceil = data.draw(poolings(20))
        include, beta = data.draw(st.booleans()), data.draw(st.sampled_from([0.0, 0.5, -1.0]))
        spec = pool_spec(shape, kernel, stride, padding, 1, ceil, dtype, include, None, beta)
        if row.op == "max_pool2d_backward":
            spec = unpool_spec(spec.input_shape, spec.output_shape, dtype)
    else:
        least = 4 if row.op == "conv2d_bias" else 0
        shape = data.draw(st.lists(st.integers(1, 20), min_size=least, max_size=4))
        spec = array_spec(tuple(shape), dtype)
    inputs = operands(row.op, spec, np.random.default_rng(seed), integers)
    actual, desired = call(row, spec, inputs), call(REFERENCE[row.op], spec, inputs)
    rounded = row.op.startswith(("avg", "softmax", "sigmoid", "tanh"))
    rounded = rounded or row.method in INEXACT_METHODS
    terms = length(row.op, spec) * helpers.slack(row, spec) if rounded else 0
    assert_close(actual[0], desired[0], length=terms, magnitude=4**3)  # dy * y * (1 - y)
    for a, b in zip(actual[1:], desired[1:], strict=True):
        np.testing.assert_array_equal(a, b)


# -- convolution


@backends
@given(args=convolutions(), seed=seeds)
def test_linear_in_the_input(backend, args, seed):
    shape, weight_shape, *how = args
    x, y, w = whole(seed, shape, shape, weight_shape)
    with fc.using(backend=backend):
        left = fc.conv2d(2 * x - 3 * y, w, None, *how)
        right = 2 * fc.conv2d(x, w, None, *how) - 3 * fc.conv2d(y, w, None, *how)
    np.testing.assert_array_equal(left, right)


@backends
@given(args=convolutions(), seed=seeds)
def test_linear_in_the_weight_and_bias(backend, args, seed):
    shape, weight_shape, *how = args
    x, v, w, b = whole(seed, shape, weight_shape, weight_shape, weight_shape[0])
    with fc.using(backend=backend):
        left = fc.conv2d(x, 2 * v - 3 * w, b, *how)
        right = 2 * fc.conv2d(x, v, None, *how) - 3 * fc.conv2d(x, w, None, *how)
    np.testing.assert_array_equal(left, right + b[:, None, None])


@backends
@given(args=convolutions(), seed=seeds)
def test_gradients_are_adjoint(backend, args, seed):
    """<conv(x, w), dy> = <x, grad_input> = <w, grad_weight>."""
    shape, weight_shape, *how = args
    x, w, dy = whole(seed, shape, weight_shape, conv_spec(*args).output_shape)
    with fc.using(backend=backend):
        product = (fc.conv2d(x, w, None, *how) * dy).sum()
        assert product == (x * grad.conv2d_input(shape, w, dy, *how)).sum()
        assert product == (w * grad.conv2d_weight(x, weight_shape, dy, *how)).sum()


@backends
@given(args=convolutions(), seed=seeds)
def test_padding_is_zeros_round_the_input(backend, args, seed):
    shape, weight_shape, stride, padding, dilation, groups = args
    x, w = whole(seed, shape, weight_shape)
    top, bottom, left, right = conv_spec(*args).padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    with fc.using(backend=backend):
        actual = fc.conv2d(x, w, None, *args[2:])
        expected = fc.conv2d(padded, w, None, stride, 0, dilation, groups)
    np.testing.assert_array_equal(actual, expected)


@backends
@given(args=convolutions(), seed=seeds)
def test_a_stride_keeps_every_so_manyth_output(backend, args, seed):
    shape, weight_shape, stride, _, dilation, groups = args
    x, w = whole(seed, shape, weight_shape)
    padding = conv_spec(*args).padding
    padding = padding[:2], padding[2:]
    with fc.using(backend=backend):
        strided = fc.conv2d(x, w, None, stride, padding, dilation, groups)
        dense = fc.conv2d(x, w, None, 1, padding, dilation, groups)
    np.testing.assert_array_equal(strided, dense[:, :, :: stride[0], :: stride[1]])


@backends
@given(args=convolutions(), seed=seeds)
def test_dilation_is_a_kernel_with_zeros_between(backend, args, seed):
    shape, weight_shape, stride, _, (dh, dw), groups = args
    x, w = whole(seed, shape, weight_shape)
    padding = conv_spec(*args).padding
    padding = padding[:2], padding[2:]
    k, c, r, s = weight_shape
    spread = np.zeros((k, c, dh * (r - 1) + 1, dw * (s - 1) + 1))
    spread[:, :, ::dh, ::dw] = w
    with fc.using(backend=backend):
        dilated = fc.conv2d(x, w, None, stride, padding, (dh, dw), groups)
        dense = fc.conv2d(x, spread, None, stride, padding, 1, groups)
    np.testing.assert_array_equal(dilated, dense)


@backends
@given(args=convolutions(), seed=seeds)
def test_groups_are_separate_convolutions(backend, args, seed):
    shape, weight_shape, *how, groups = args
    x, w = whole(seed, shape, weight_shape)
    with fc.using(backend=backend):
        together = fc.conv2d(x, w, None, *how, groups)
        apart = [
            fc.conv2d(a, b, None, *how)
            for a, b in zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True)
        ]
    np.testing.assert_array_equal(together, np.concatenate(apart, 1))


@backends
@given(args=convolutions(), seed=seeds, dy=st.integers(0, 3), dx=st.integers(0, 3))
def test_translation_equivariance(backend, args, seed, dy, dx):
    """Moving the image moves the result, where the border does not reach."""
    shape, weight_shape, _, _, dilation, groups = args
    x, w = whole(seed, shape, weight_shape)
    room = np.pad(x, ((0, 0), (0, 0), (8, 8 + dy), (8, 8 + dx)))
    moved = np.pad(x, ((0, 0), (0, 0), (8 + dy, 8), (8 + dx, 8)))
    with fc.using(backend=backend):
        y = fc.conv2d(room, w, dilation=dilation, groups=groups)
        z = fc.conv2d(moved, w, dilation=dilation, groups=groups)
    np.testing.assert_array_equal(y[:, :, : y.shape[2] - dy, : y.shape[3] - dx], z[:, :, dy:, dx:])


@backends
@given(seed=seeds, n=small, c=small, k=small, h=small, w=small)
def test_1x1_is_a_matrix_product(backend, seed, n, c, k, h, w):
    x, weight = whole(seed, (n, c, h, w), (k, c, 1, 1))
    y = fc.conv2d(x, weight, backend=backend)
    np.testing.assert_array_equal(y, np.einsum("kc,nchw->nkhw", weight[:, :, 0, 0], x))


@given(args=convolutions(40))
@settings(max_examples=200)
def test_output_size(args):
    spec = conv_spec(*args)
    for size, kernel, stride, dilation, (before, after), outputs in (
        (spec.H, spec.R, spec.stride[0], spec.dilation[0], spec.padding[:2], spec.P),
        (spec.W, spec.S, spec.stride[1], spec.dilation[1], spec.padding[2:], spec.Q),
    ):
        last = (outputs - 1) * stride + dilation * (kernel - 1)
        assert last < size + before + after <= last + stride


# -- pooling


@backends
@given(args=poolings(), seed=seeds)
def test_max_pool2d_indices_point_at_the_maxima(backend, args, seed):
    (x,) = whole(seed, args[0])
    shape, kernel, stride, padding, ceil = args
    y, i = fc.max_pool2d(x, kernel, stride, padding, 1, ceil, True, backend=backend)
    planes, flat = x.reshape(*shape[:2], -1), i.reshape(*i.shape[:2], -1)
    np.testing.assert_array_equal(np.take_along_axis(planes, flat, 2).reshape(y.shape), y)


@backends
@given(args=poolings(), seed=seeds)
def test_max_pool2d_commutes_with_growing_functions(backend, args, seed):
    (x,) = whole(seed, args[0])
    how = args[1:4]
    with fc.using(backend=backend):
        left = fc.max_pool2d(np.exp2(x) + 3, *how, ceil_mode=args[4])
        right = np.exp2(fc.max_pool2d(x, *how, ceil_mode=args[4])) + 3
    np.testing.assert_array_equal(left, right)


@backends
@given(args=poolings(), seed=seeds)
def test_an_average_lies_between_minimum_and_maximum(backend, args, seed):
    (x,) = whole(seed, args[0])
    kernel, stride, padding, ceil = args[1:]
    with fc.using(backend=backend):
        mean = fc.avg_pool2d(x, kernel, stride, padding, ceil, count_include_pad=False)
        most = fc.max_pool2d(x, kernel, stride, padding, 1, ceil)
        least = -fc.max_pool2d(-x, kernel, stride, padding, 1, ceil)
    slack = tolerance(kernel[0] * kernel[1] + 1, x.dtype, 4)
    assert (least - slack <= mean).all() and (mean <= most + slack).all()


@backends
@given(args=poolings(), seed=seeds)
def test_avg_pool2d_is_a_convolution(backend, args, seed):
    (shape, kernel, stride, padding, _) = args
    (x,) = whole(seed, shape)
    c = shape[1]
    box = np.ones((c, 1, *kernel))
    with fc.using(backend=backend):
        try:
            total = fc.conv2d(x, box, None, stride or kernel, padding, groups=c)
        except ValueError as error:
            assume("does not fit" not in str(error))
            raise
        pooled = fc.avg_pool2d(x, kernel, stride, padding, divisor_override=1)
    np.testing.assert_array_equal(pooled, total)


@backends
@given(args=poolings(), seed=seeds, include=st.booleans())
def test_pooling_gradients_are_adjoint(backend, args, seed, include):
    shape, kernel, stride, padding, ceil = args
    spec = pool_spec(shape, kernel, stride, padding, 1, ceil)
    x, dy = whole(seed, shape, spec.output_shape)
    with fc.using(backend=backend):
        y, i = fc.max_pool2d(x, kernel, stride, padding, 1, ceil, True)
        assert (y * dy).sum() == (x * grad.max_pool2d(dy, i, shape)).sum()
        how = kernel, stride, padding, ceil, include
        left = (fc.avg_pool2d(x, *how) * dy).sum()
        right = (x * grad.avg_pool2d(dy, shape, *how)).sum()
    assert abs(left - right) <= tolerance(dy.size * kernel[0] * kernel[1] + x.size, x.dtype, 16)
