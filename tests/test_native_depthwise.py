"""Depthwise convolution of images whose few channels are neighbours in memory, such as colours.

Numbers are small integers, whose sums are exact in any order.
"""

import helpers
import numpy as np
import pytest
from helpers import DTYPES, embed, embedded

import fastconv as fc
from fastconv import grad
from fastconv.backends import native


def lanes_of(dtype):
    return native.tiles()[dtype]["lanes"]


def both(call, x, w, *rest, **how):
    """The results on NCHW and on NHWC, both as NCHW."""
    how |= {"backend": "native", "method": "depthwise"}
    last = [np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if a is x else a for a in (x, w, *rest)]
    return call(x, w, *rest, **how), call(*last, layout="NHWC", **how).transpose(0, 3, 1, 2)


def filters(rng, channels, kernel, dtype, kind):
    """A filter and a bias for each channel, some of them the same."""
    count = channels if kind == "filters" else 1
    w = np.repeat(helpers.integers(rng, (count, 1, *kernel), dtype), channels // count, 0)
    b = np.arange(1, channels + 1, dtype=dtype)
    return w, np.full_like(b, 3) if kind == "one filter" else b


@pytest.mark.parametrize("kind", ["filters", "one filter", "one filter, biases"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 3, "most"])
@pytest.mark.parametrize(
    "width, kernel, padding, stride, dilation",
    [
        pytest.param(0, (3, 3), 1, 1, 1, id="one group"),
        pytest.param(-1, (3, 3), 1, 1, 1, id="no group"),
        pytest.param(13, (5, 4), ((2, 1), (1, 4)), 1, 1, id="a group of the rest"),
        pytest.param(9, (3, 2), (2, 7), (2, 1), 1, id="rows left out"),
        pytest.param(40, (4, 3), (3, 6), 1, (2, 3), id="taps apart"),
        pytest.param(24, (1, 7), 0, 1, 1, id="one row of taps"),
        pytest.param(8, (3, 3), 1, 2, 1, id="every second pixel"),
        pytest.param(3, (1, 1), 0, 1, 1, id="one tap"),
    ],
)
def test_channels_last_give_what_planes_give(
    width, kernel, padding, stride, dilation, channels, dtype, kind, rng
):
    lanes = lanes_of(dtype)
    channels = max(lanes - 1, 2) if channels == "most" else channels
    reach = (kernel[1] - 1) * (dilation if isinstance(dilation, int) else dilation[1])
    x = helpers.integers(rng, (2, channels, 11, lanes + reach + width), dtype)
    w, b = filters(rng, channels, kernel, dtype, kind)
    how = {"padding": padding, "stride": stride, "dilation": dilation, "groups": channels}
    np.testing.assert_array_equal(*both(fc.conv2d, x, w, b, activation="relu", **how))
    np.testing.assert_array_equal(*both(fc.conv2d, x, w, None, **how))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel, padding", [((3, 3), 1), ((5, 4), ((2, 1), (1, 4)))])
@pytest.mark.parametrize("channels", [2, 3])
def test_gradient_with_channels_last(channels, kernel, padding, dtype, rng):
    shape = (2, channels, 9, 3 * lanes_of(dtype) + 2)
    w = helpers.integers(rng, (channels, 1, *kernel), dtype)
    how = {"padding": padding, "groups": channels, "backend": "native", "method": "depthwise"}
    dy = helpers.integers(rng, fc.conv2d(np.zeros(shape, dtype), w, **how).shape, dtype)
    expected = grad.conv2d_input(shape, w, dy, **how)
    last = np.ascontiguousarray(dy.transpose(0, 2, 3, 1))
    shape_last = (shape[0], *shape[2:], channels)
    dx = grad.conv2d_input(shape_last, w, last, layout="NHWC", **how)
    np.testing.assert_array_equal(dx.transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize("memory", helpers.FORMS)
@pytest.mark.parametrize("kind", ["filters", "one filter"])
def test_pixels_that_are_not_neighbours(kind, memory, rng):
    """Views between NaN: a pixel taken for the next one poisons the result."""
    x = helpers.integers(rng, (1, 9, 40, 3), "f4")
    w, b = filters(rng, 3, (3, 3), "f4", kind)
    how = {"padding": 1, "groups": 3, "backend": "native", "method": "depthwise", "layout": "NHWC"}
    expected = fc.conv2d(x, w, b, **how)
    np.testing.assert_array_equal(fc.conv2d(embedded(x, memory), w, b, **how), expected)
    out, buffer = embed(expected.shape, expected.dtype, memory)
    fc.conv2d(x, w, b, out=out, **how)
    np.testing.assert_array_equal(out, expected)
    assert np.isnan(buffer).sum() == buffer.size - out.size


def test_one_filter_of_nan(rng):
    """Filters are the same by their bits: NaN is one filter, 0 and -0 are two."""
    x = rng.uniform(-1, 1, (1, 3, 8, 40)).astype("f4")
    w = np.full((3, 1, 3, 3), np.nan, "f4")
    np.testing.assert_array_equal(*both(fc.conv2d, x, w, None, padding=1, groups=3))
    w = np.zeros((3, 1, 3, 3), "f4")
    w[1] = -w[1]
    planes, last = both(fc.conv2d, x, w, None, padding=1, groups=3)
    np.testing.assert_array_equal(np.signbit(planes), np.signbit(last))


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rows, columns", [(101, 200), (37, 97), (73, 40), (9, 14)])
def test_bits_do_not_depend_on_blocks_of_rows(rows, columns, stride, dtype, isa, rng):
    """Also where the last of them is one row alone."""
    x = rng.uniform(-1, 1, (1, 3, rows, columns)).astype(dtype)
    w = rng.uniform(-1, 1, (3, 1, 3, 3)).astype(dtype)
    how = {"groups": 3, "padding": 1, "stride": stride, "backend": "native", "method": "depthwise"}

    def called(x, threads, **more):
        with fc.using(isa=isa, num_threads=threads):
            return fc.conv2d(x, w, **how | more)

    y = called(x, 1)
    for threads in (2, 3, 4, 8, 16):
        np.testing.assert_array_equal(called(x, threads), y)
    alone = {"padding": ((0, 0), (1, 1))}
    for p in range(1, y.shape[2] - 1):
        row = called(x[:, :, p * stride - 1 : p * stride + 2], 1, **alone)
        np.testing.assert_array_equal(row[:, :, 0], y[:, :, p])
