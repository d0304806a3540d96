"""Semantics, case by case: what users of PyTorch, ONNX, TensorFlow, SciPy and NumPy expect.

Each test names the convention that it holds fastconv to, on every backend.
"""

import inspect

import numpy as np
import pytest
from helpers import BACKENDS
from tolerance import assert_close

import fastconv as fc
from fastconv import grad

IMAGE = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
KERNEL = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
SIXTEEN = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with fc.using(backend=request.param):
        yield request.param


# -- convolution


def test_conv2d_is_cross_correlation():
    assert fc.conv2d(IMAGE, KERNEL)[0, 0].tolist() == [[37, 47], [67, 77]]


def test_there_is_no_flag_for_a_flipped_kernel():
    names = set(inspect.signature(fc.conv2d).parameters)
    assert not names & {"flip", "flip_kernel", "true_convolution", "mode", "transposed"}


def test_weight_is_filters_then_channels_of_a_group():
    x = np.ones((1, 6, 3, 3))
    assert fc.conv2d(x, np.ones((4, 3, 2, 2)), groups=2).shape == (1, 4, 2, 2)
    with pytest.raises(ValueError, match="weight: expected 3 input channels"):
        fc.conv2d(x, np.ones((4, 6, 2, 2)), groups=2)


def test_groups_see_their_own_channels():
    x = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 10.0)])
    assert fc.conv2d(x, np.ones((2, 1, 1, 1)), groups=2)[:, 0, 0].tolist() == [1, 10]


@pytest.mark.parametrize(
    "padding, shape",
    [
        (1, (5, 5)),
        ((2, 1), (7, 5)),
        ("valid", (3, 3)),
        ("same", (5, 5)),
        ("same_lower", (5, 5)),
        (((1, 2), (0, 3)), (6, 6)),
    ],
    ids=str,
)
def test_forms_of_padding(padding, shape):
    y = fc.conv2d(np.ones((1, 5, 5)), np.ones((1, 1, 3, 3)), padding=padding)
    assert y.shape == (1, *shape)


def test_four_paddings_are_top_bottom_left_right():
    y = fc.conv2d(np.ones((1, 1, 1)), np.ones((1, 1, 1, 1)), padding=((1, 2), (3, 4)))
    assert y.shape == (1, 4, 8)
    assert np.argwhere(y[0]).tolist() == [[1, 3]]


def test_same_with_an_even_kernel_pads_at_the_end():
    y = fc.conv2d(IMAGE, KERNEL, padding="same")
    assert y[0, 0].tolist() == [[37, 47, 21], [67, 77, 33], [23, 26, 9]]


def test_same_lower_with_an_even_kernel_pads_at_the_start():
    y = fc.conv2d(IMAGE, KERNEL, padding="same_lower")
    assert y[0, 0].tolist() == [[4, 11, 18], [18, 37, 47], [36, 67, 77]]


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize("stride", [2, 3])
def test_same_with_a_stride_gives_the_ceiling(size, stride):
    """ONNX's SAME_UPPER and SAME_LOWER, TensorFlow's SAME."""
    x, w = np.random.default_rng(0).uniform(size=(1, size, size)), np.ones((1, 1, 4, 4))
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + 4 - size)
    small, large = total // 2, total - total // 2
    for padding, sides in (("same", (small, large)), ("same_lower", (large, small))):
        y = fc.conv2d(x, w, stride=stride, padding=padding)
        assert y.shape == (1, out, out)
        np.testing.assert_array_equal(
            y, fc.conv2d(np.pad(x, ((0, 0), sides, sides)), w, None, stride)
        )


def test_unbatched_in_unbatched_out():
    assert fc.conv2d(IMAGE[0], KERNEL).shape == (1, 2, 2)
    assert fc.max_pool2d(IMAGE[0], 2).shape == (1, 1, 1)
    assert fc.avg_pool2d(IMAGE[0], 2).shape == (1, 1, 1)
    assert [a.shape for a in fc.max_pool2d(IMAGE[0], 2, return_indices=True)] == [(1, 1, 1)] * 2


def test_mixed_floats_promote():
    y = fc.conv2d(IMAGE.astype(np.float32), KERNEL)
    assert y.dtype == np.result_type(np.float32, np.float64)


def test_integers_never_wrap():
    four = np.full((1, 1, 1, 1), 4, np.uint8)
    y = fc.conv2d(np.full((1, 1, 1), 200, np.uint8), four)
    assert y.item() == 800
    assert "float64" in inspect.getdoc(fc.ops)


# -- pooling


def test_signatures_are_pytorch_s():
    def names(f):
        return [
            p.name if p.default is p.empty else (p.name, p.default)
            for p in inspect.signature(f).parameters.values()
            if p.kind is not p.KEYWORD_ONLY
        ]

    assert names(fc.conv2d) == [
        "input", "weight", ("bias", None), ("stride", 1), ("padding", 0), ("dilation", 1),
        ("groups", 1),
    ]  # fmt: skip
    assert names(fc.max_pool2d) == [
        "input", "kernel_size", ("stride", None), ("padding", 0), ("dilation", 1),
        ("ceil_mode", False), ("return_indices", False),
    ]  # fmt: skip
    assert names(fc.avg_pool2d) == [
        "input", "kernel_size", ("stride", None), ("padding", 0), ("ceil_mode", False),
        ("count_include_pad", True), ("divisor_override", None),
    ]  # fmt: skip
    assert names(grad.conv2d_input)[:3] == ["input_size", "weight", "grad_output"]
    assert names(grad.conv2d_weight)[:3] == ["input", "weight_size", "grad_output"]


def test_stride_defaults_to_the_kernel():
    assert fc.max_pool2d(SIXTEEN, (1, 3)).shape == fc.avg_pool2d(SIXTEEN, (1, 3)).shape
    assert fc.max_pool2d(SIXTEEN, (1, 3)).shape == (1, 1, 4, 1)


def test_max_pool2d_pads_with_minus_infinity():
    assert (fc.max_pool2d(-SIXTEEN, 3, 1, 1) < 0).all()
    assert fc.max_pool2d(np.full((1, 2, 2), -np.inf), 2, 1, 1).max() == -np.inf


@pytest.mark.parametrize("pool", [fc.max_pool2d, fc.avg_pool2d])
@pytest.mark.parametrize("kernel, padding", [(2, 2), (3, 2), ((4, 2), (1, 2)), (1, 1)], ids=str)
def test_padding_is_at_most_half_the_kernel(pool, kernel, padding):
    with pytest.raises(ValueError, match="padding: expected at most half the"):
        pool(SIXTEEN, kernel, padding=padding)


def test_nan_wins():
    x = np.array([[[np.inf, np.nan], [1, 2]]])
    y, index = fc.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(y.item()) and index.item() == 1


def test_the_first_maximum_wins():
    y, index = fc.max_pool2d(np.array([[[1.0, 3], [3, 3]]]), 2, return_indices=True)
    assert (y.item(), index.item()) == (3, 1)


def test_indices_are_flat_positions_in_each_plane():
    x = np.stack([SIXTEEN[0], -SIXTEEN[0]])
    _, index = fc.max_pool2d(x, 2, return_indices=True)
    assert index.dtype == np.int64
    assert index[:, 0].tolist() == [[[5, 7], [13, 15]], [[0, 2], [8, 10]]]


def test_indices_with_padding_and_dilation_are_positions_without_it():
    _, index = fc.max_pool2d(SIXTEEN, 2, 1, 1, 2, return_indices=True)
    assert index[0, 0].tolist() == [
        [5, 6, 7, 6],
        [9, 10, 11, 10],
        [13, 14, 15, 14],
        [9, 10, 11, 10],
    ]


def test_average_with_ceil_mode():
    """The worked example: what ceil_mode adds beyond the padding is not in the divisor."""
    y = fc.avg_pool2d(SIXTEEN, 3, 2, 1, True)
    expected = [[1.5556, 3.3333, 2], [6.3333, 11, 6], [4.5, 7.5, 4]]
    assert y[0, 0].round(4).tolist() == expected


def test_average_without_padding_in_the_count():
    y = fc.avg_pool2d(SIXTEEN, 3, 2, 1, True, count_include_pad=False)
    expected = np.array([[3.5, 5, 6], [9.5, 11, 12], [13.5, 15, 16]])
    assert_close(y[0, 0], expected, length=10, magnitude=16)


def test_padding_counts_by_default():
    """As in PyTorch; ONNX's count_include_pad is 0 by default."""
    assert fc.avg_pool2d(np.ones((1, 2, 2)), 2, 1, 1)[0, 0, 0] == 0.25


def test_divisor_override():
    assert fc.avg_pool2d(SIXTEEN, 2, divisor_override=1)[0, 0, 0, 0] == 1 + 2 + 5 + 6


def test_windows_that_would_start_in_the_padding_are_dropped():
    x = np.ones((1, 3, 3))
    # a third window would start at row 4, of rows -1 to 3
    assert fc.max_pool2d(x, 2, 3, 1, ceil_mode=True).shape == (1, 2, 2)
    assert fc.max_pool2d(np.ones((1, 2, 2)), 2, 3, 1, ceil_mode=True).shape == (1, 1, 1)
    assert fc.avg_pool2d(x, 1, 4, ceil_mode=True).shape == (1, 1, 1)


# -- arrays


def test_out_is_keyword_only():
    for function in (
        fc.conv2d,
        fc.max_pool2d,
        fc.avg_pool2d,
        grad.conv2d_input,
        grad.conv2d_weight,
        grad.conv2d_bias,
        grad.max_pool2d,
        grad.avg_pool2d,
    ):
        parameters = inspect.signature(function).parameters
        assert parameters["out"].kind is parameters["out"].KEYWORD_ONLY, function


def test_results_are_new_arrays():
    x = np.ones((1, 2, 2))
    y = fc.conv2d(x, np.ones((1, 1, 1, 1)))
    assert not np.may_share_memory(x, y)
    assert not np.may_share_memory(x, fc.max_pool2d(x, 1))
