"""Specs: normalised arguments, output sizes, counts, and the cache."""

import dataclasses

import numpy as np
import pytest

from fastconv.spec import array_spec, conv_spec, pair, pool_spec, shape_of, unpool_spec

X, W = (2, 4, 9, 11), (6, 4, 3, 5)


@pytest.mark.parametrize(
    "value",
    [2, np.int64(2), np.uint8(2), [2], (2, 2), [np.int32(2), 2], np.array([2, 2])],
    ids=repr,
)
def test_pairs(value):
    assert pair("stride", value) == (2, 2)
    assert all(type(n) is int for n in pair("stride", value))


@pytest.mark.parametrize("value", [1.0, "1", True, None, np.float64(2), (1, 2.0), [True, 1]])
def test_pairs_are_integers(value):
    pair("stride", 1)  # the cached specs of 1 do not answer for 1.0
    conv_spec(X, W, 1)
    with pytest.raises(TypeError, match="stride: expected an integer, got"):
        pair("stride", value)
    with pytest.raises(TypeError, match="stride: expected an integer, got"):
        conv_spec(X, W, value)


def test_shape_of():
    assert shape_of("size", np.array([1, 2, 3]), 3, 4) == (1, 2, 3)
    assert shape_of("size", (n for n in (1, 2, 3)), 3) == (1, 2, 3)


@pytest.mark.parametrize(
    "padding, four",
    [
        (0, (0, 0, 0, 0)),
        (2, (2, 2, 2, 2)),
        ((1, 2), (1, 1, 2, 2)),
        ([1, 2], (1, 1, 2, 2)),
        (np.array([1, 2]), (1, 1, 2, 2)),
        (((1, 2), (3, 4)), (1, 2, 3, 4)),
        ([[1, 2], [3, 4]], (1, 2, 3, 4)),
        ("valid", (0, 0, 0, 0)),
        ("same", (1, 1, 2, 2)),
        ("same_lower", (1, 1, 2, 2)),
    ],
    ids=repr,
)
def test_padding(padding, four):
    assert conv_spec(X, W, padding=padding).padding == four


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_by_its_formula(size, kernel, stride, dilation):
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size)
    args = (1, 1, size, 1), (1, 1, kernel, 1), (stride, 1)
    upper = conv_spec(*args, "same", (dilation, 1))
    lower = conv_spec(*args, "same_lower", (dilation, 1))
    assert upper.P == lower.P == out
    assert upper.padding[:2] == (total // 2, total - total // 2)
    assert lower.padding[:2] == (total - total // 2, total // 2)


def windows_that_fit(size, kernel, stride, before, after, dilation):
    starts = range(-before, size + after, stride)
    return sum(start + dilation * (kernel - 1) < size + after for start in starts)


@pytest.mark.parametrize("size", [1, 4, 7, 12])
@pytest.mark.parametrize("kernel, dilation", [(1, 1), (2, 1), (3, 1), (3, 2), (2, 5)])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("before, after", [(0, 0), (1, 0), (2, 3)])
def test_output_size_counts_the_windows(size, kernel, dilation, stride, before, after):
    expected = windows_that_fit(size, kernel, stride, before, after, dilation)
    args = (1, 1, size, 1), (1, 1, kernel, 1), (stride, 1), ((before, after), (0, 0)), (dilation, 1)
    if expected:
        assert conv_spec(*args).P == expected
    else:
        with pytest.raises(ValueError, match="the output would be 0x1"):
            conv_spec(*args)


def test_conv_spec():
    spec = conv_spec((2, 4, 9, 11), (6, 2, 3, 5), (2, 1), ((1, 0), (2, 3)), (1, 2), 2, "float64")
    assert spec.input_shape == (2, 4, 9, 11)
    assert spec.weight_shape == (6, 2, 3, 5)
    assert spec.output_shape == (2, 6, 4, 8)
    assert spec.geometry == (2, 4, 9, 11, 6, 3, 5, 2, 1, 1, 2, 1, 2, 2, 4, 8)
    assert all(type(n) is int for n in spec.geometry)
    assert spec.dtype == np.float64
    assert spec.flops == 2 * (2 * 6 * 4 * 8) * (2 * 3 * 5)
    assert spec.bytes == 8 * (2 * 4 * 9 * 11 + 6 * 2 * 3 * 5 + 2 * 6 * 4 * 8)


def test_pool_spec():
    spec = pool_spec((2, 3, 4, 5), (3, 2), 2, (1, 0), 1, True, "float32", False)
    assert spec.input_shape == (2, 3, 4, 5)
    assert spec.output_shape == (2, 3, 3, 3)
    assert spec.geometry == (2, 3, 4, 5, 3, 2, 2, 2, 1, 0, 1, 1, 3, 3)
    assert spec.row_counts == (2, 3, 1) and spec.col_counts == (2, 2, 1)
    assert spec.flops == 2 * 3 * 3 * 3 * 6
    assert spec.bytes == 4 * 2 * 3 * (4 * 5 + 3 * 3)


def test_counts_with_padding_stop_where_it_ends():
    spec = pool_spec((1, 1, 4, 4), 3, 2, 1, 1, True)
    assert spec.row_counts == (3, 3, 2)


def test_stride_of_a_pool_is_its_kernel():
    assert pool_spec((1, 1, 9, 9), (2, 3)).stride == (2, 3)


def test_other_specs():
    spec = unpool_spec((2, 3, 8, 9), (2, 3, 4, 3), np.dtype("float32"))
    assert (spec.N, spec.C, spec.H, spec.W, spec.P, spec.Q) == (2, 3, 8, 9, 4, 3)
    assert array_spec((2, 3), np.dtype("float32")).shape == (2, 3)


def test_a_repeated_call_finds_the_same_spec():
    assert conv_spec(X, W, [1, 1], padding="same") is conv_spec(list(X), W, 1, ((1, 1), (2, 2)))
    assert conv_spec(X, W) is not conv_spec(X, W, dtype="float64")
    assert pool_spec(X, 2) is pool_spec(X, (2, 2), 2, "valid")


@pytest.mark.parametrize("spec", [conv_spec(X, W), pool_spec(X, 2)], ids=["conv", "pool"])
def test_specs_are_frozen(spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.H = 3
