"""The chapter "Convolutional Neural Networks" of *Dive into Deep Learning*: what it says, as facts.

One test for each idea and exercise, in the chapter's order; the numbers are the book's, or made by
hand.
"""

import math

import numpy as np
import pytest
from tolerance import assert_close, largest

import fastconv as fc
from fastconv import analysis, datasets, kernels, nn, signal

X = np.arange(9.0).reshape(3, 3)
K = np.arange(4.0).reshape(2, 2)
EDGE = np.array([[1.0, -1.0]])


def correlate(image, kernel, **settings):
    """One image with one kernel."""
    return fc.conv2d(image[None, None], kernel[None, None], **settings)[0, 0]


def integers(rng, *shape):
    return rng.integers(-9, 10, shape).astype(np.float64)


# --- from fully connected layers to convolutions


def test_a_convolution_is_a_fully_connected_layer_with_shared_weights(rng):
    x, weight = integers(rng, 1, 5, 6), integers(rng, 1, 1, 3, 2) + 10
    matrix = analysis.conv_matrix(weight, x.shape)
    layer = nn.Linear(30, 15, bias=False, dtype=np.float64)
    layer.load_state_dict({"weight": matrix})
    np.testing.assert_array_equal(layer(x.ravel()), fc.conv2d(x, weight).ravel())
    # translation: 6 numbers for 15 x 30 weights; locality: the others of a row are zero
    assert set(np.unique(matrix)) == {0, *weight.ravel()}
    assert ((matrix != 0).sum(axis=1) == 6).all()
    # one pixel to the right is the same row, one column on
    np.testing.assert_array_equal(matrix[1, 1:], matrix[0, :-1])


def test_when_the_image_moves_so_does_the_result(rng):
    x, weight = integers(rng, 1, 1, 12, 12), integers(rng, 1, 1, 3, 3)
    moved = np.roll(x, (2, 1), axis=(2, 3))
    np.testing.assert_array_equal(
        fc.conv2d(moved, weight)[..., 2:, 1:], fc.conv2d(x, weight)[..., :-2, :-1]
    )
    # which is not so for a fully connected layer
    dense = integers(rng, 144, 144)
    y, y_moved = ((dense @ image.ravel()).reshape(12, 12) for image in (x, moved))
    assert not np.array_equal(y_moved[2:, 1:], y[:-2, :-1])


def test_with_a_window_of_one_pixel_each_pixel_has_a_network_of_its_own(rng):
    """Exercise: delta = 0 leaves the sum over the channels."""
    x, weight = integers(rng, 3, 4, 5), integers(rng, 7, 3, 1, 1)
    layer = nn.Linear(3, 7, bias=False, dtype=np.float64)
    layer.load_state_dict({"weight": weight[:, :, 0, 0]})
    y = fc.conv2d(x, weight)
    for i, j in np.ndindex(4, 5):
        np.testing.assert_array_equal(y[:, i, j], layer(x[:, i, j]))


def test_at_the_boundary_there_is_less_to_see():
    """Exercise: without padding the result shrinks, with zeros the outermost sums are smaller."""
    ones, window = np.ones((4, 4)), np.ones((3, 3))
    assert (correlate(ones, window) == 9).all()
    np.testing.assert_array_equal(
        correlate(ones, window, padding=1),
        [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]],
    )


def test_convolution_commutes(rng):
    """Exercise: f * g = g * f."""
    f, g = integers(rng, 5, 4), integers(rng, 3, 7)
    np.testing.assert_array_equal(signal.convolve2d(f, g), signal.convolve2d(g, f))
    # the sum of two dice has the same distribution in whichever order they are thrown
    dice = np.ones((1, 6)), np.array([[2.0, 2, 1, 1, 0, 0]])
    np.testing.assert_array_equal(signal.convolve2d(*dice), [[2, 4, 5, 6, 6, 6, 4, 2, 1, 0, 0]])


def test_correlation_does_not_commute():
    """It comes out turned round by 180 degrees; and it is convolution with the kernel turned."""
    f, g = X, K
    there, back = signal.correlate2d(f, g), signal.correlate2d(g, f)
    assert not np.array_equal(there, back)
    np.testing.assert_array_equal(there, back[::-1, ::-1])
    np.testing.assert_array_equal(there, signal.convolve2d(f, g[::-1, ::-1]))


def test_audio_is_a_convolution_over_time(rng):
    """Exercise: one axis; the same sound later gives the same result later."""
    sound, filters = integers(rng, 2, 50), integers(rng, 3, 2, 5)
    y = fc.conv1d(sound, filters)
    assert y.shape == (3, 46)
    by_hand = sum(np.correlate(sound[c], filters[1, c], "valid") for c in range(2))
    np.testing.assert_array_equal(y[1], by_hand)
    later = np.concatenate([np.zeros((2, 7)), sound], axis=1)
    np.testing.assert_array_equal(fc.conv1d(later, filters)[:, 7:], y)


def test_text_is_a_convolution_over_words():
    """Exercise: words as vectors; a filter of two words finds a phrase wherever it stands."""
    words = {word: np.eye(5)[i] for i, word in enumerate("this is not very good".split())}
    phrase = np.stack([words["not"], words["good"]], axis=1)[None]  # (1, 5, 2)
    found = [
        fc.conv1d(np.stack([words[w] for w in text.split()], axis=1), phrase)[0].tolist()
        for text in ("this is not good", "not good is this", "this is very good")
    ]
    assert found == [[0, 0, 2], [2, 0, 0], [0, 0, 1]]


# --- convolutions for images


def test_the_books_cross_correlation():
    np.testing.assert_array_equal(correlate(X, K), [[19, 25], [37, 43]])
    np.testing.assert_array_equal(signal.correlate2d(X, K, mode="valid"), [[19, 25], [37, 43]])


def test_edge_kernel_finds_the_edges_of_the_books_image():
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    np.testing.assert_array_equal(kernels.edge(), EDGE)
    y = correlate(image, EDGE)
    np.testing.assert_array_equal(y, np.tile([0, 1, 0, 0, 0, -1, 0], (6, 1)))
    # transposed, the edges lie along the kernel
    assert not correlate(image.T, EDGE).any()
    np.testing.assert_array_equal(correlate(image.T, EDGE.T), y.T)


def test_diagonal_edges_are_found_by_either_kernel():
    """Exercise: not zero; transposing image or kernel turns the sign or the side."""
    image = np.triu(np.ones((6, 6)))  # 1 above the diagonal edge
    y = correlate(image, EDGE)
    np.testing.assert_array_equal(y, -np.eye(6, 5, -1))
    np.testing.assert_array_equal(correlate(image.T, EDGE), np.eye(6, 5))
    np.testing.assert_array_equal(correlate(image, EDGE.T), np.eye(5, 6))
    np.testing.assert_array_equal(correlate(image.T, EDGE.T), y.T)


def test_the_edge_kernel_is_learnt_from_input_and_output():
    image = np.ones((1, 1, 6, 8))
    image[..., 2:6] = 0
    target = fc.conv2d(image, EDGE[None, None])
    layer = nn.Conv2d(1, 1, (1, 2), bias=False, rng=0, dtype=np.float64)
    losses = []
    for _ in range(200):
        error = layer(image) - target
        losses.append((error**2).sum())
        layer.zero_grad()
        layer.backward(2 * error)
        layer.weight.data -= 3e-2 * layer.weight.grad
    assert losses[10] < losses[0] / 10 and losses[-1] < 1e-12
    np.testing.assert_allclose(layer.weight.data[0, 0], EDGE, rtol=0, atol=1e-6)


def test_the_gradient_is_the_parameters_not_the_layers():
    """Exercise: what error message is there?"""
    layer = nn.Conv2d(1, 1, 2, rng=0)
    with pytest.raises(AttributeError, match="'Conv2d' object has no attribute 'grad'"):
        layer.grad  # noqa: B018
    layer.backward(np.ones_like(layer(np.ones((1, 1, 3, 3), np.float32))))
    assert layer.weight.grad.shape == (1, 1, 2, 2)


def test_cross_correlation_as_a_matrix_product_of_patches():
    """Exercise: the patches as columns, the kernel as a row."""
    patches = fc.unfold(X[None], 2)
    np.testing.assert_array_equal(patches, [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]])
    np.testing.assert_array_equal(K.reshape(1, 4) @ patches, [[19, 25, 37, 43]])


@pytest.mark.parametrize("order", range(1, 7))
def test_a_derivative_kernel_of_order_d_has_d_plus_1_taps(order):
    """Exercise: the smallest kernel; it takes x^d to d! and every lower power to 0."""
    kernel = kernels.derivative(order, accuracy=1)
    assert kernel.shape == (1, order + 1)
    # the binomial coefficients, signs in turn
    assert [abs(w) for w in kernel[0]] == [math.comb(order, i) for i in range(order + 1)]
    x = np.arange(12.0)
    for power in range(order):
        assert not fc.conv1d(x[None] ** power, kernel[None]).any()
    assert (fc.conv1d(x[None] ** order, kernel[None]) == math.factorial(order)).all()
    # d taps that give 0 for the d powers below d are zero: these are independent
    powers = np.vander(np.arange(order), increasing=True)
    assert np.linalg.matrix_rank(powers) == order


def test_the_second_derivative():
    np.testing.assert_array_equal(kernels.derivative(2), [[1, -2, 1]])
    # which is the first one twice
    first = kernels.derivative(1, accuracy=1)
    np.testing.assert_array_equal(analysis.compose(first, first).kernel, [[1, -2, 1]])


def test_the_kernel_of_an_integral_is_all_ones(rng):
    """Exercise: a running sum; the derivative of it is a difference over its length."""
    x = integers(rng, 1, 40)
    kernel = kernels.integral((1, 7))
    assert (kernel == 1).all()
    sums = fc.conv1d(x, kernel[None])
    upto = np.concatenate([[0], np.cumsum(x)])
    np.testing.assert_array_equal(sums[0], upto[7:] - upto[:-7])
    difference = fc.conv1d(sums, kernels.derivative(1, accuracy=1)[None])
    np.testing.assert_array_equal(difference[0], x[0, 7:] - x[0, :-7])


def test_the_receptive_field_grows_with_depth():
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, rng=0) for _ in range(4)))
    sizes = [field.size for field in analysis.receptive_field(net)]
    assert sizes == [(3, 3), (5, 5), (7, 7), (9, 9)]
    assert [f.size for f in analysis.receptive_field(nn.lenet(seed=0))][:6] == [
        (5, 5), (5, 5), (6, 6), (14, 14), (14, 14), (16, 16),
    ]  # fmt: skip


# --- padding and stride


def test_the_books_padded_example():
    np.testing.assert_array_equal(
        correlate(X, K, padding=1), [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]]
    )


def test_the_books_strided_example():
    np.testing.assert_array_equal(correlate(X, K, padding=1, stride=(3, 2)), [[0, 8], [6, 8]])


@pytest.mark.parametrize(
    "kernel, padding, stride, expected",
    [
        (3, 1, 1, (8, 8)),
        ((5, 3), (2, 1), 1, (8, 8)),
        (3, 1, 2, (4, 4)),
        ((3, 5), (0, 1), (3, 4), (2, 2)),
        ((3, 5), "valid", 1, (6, 4)),
    ],
)
def test_the_books_output_sizes(kernel, padding, stride, expected):
    layer = nn.Conv2d(1, 1, kernel, stride, padding, rng=0)
    assert layer(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 1, *expected)
    assert analysis.output_shape((8, 8), kernel, stride, padding) == expected


def test_output_size_by_the_books_formula():
    """Exercise: floor((n - k + p + s) / s), p on both sides together."""
    assert math.floor((8 - 3 + 0 + 3) / 3) == 2 and math.floor((8 - 5 + 2 + 4) / 4) == 2
    for n in range(5, 12):
        for k in range(1, 6):
            for p in range(k):
                for s in range(1, 4):
                    size = analysis.output_shape(n, k, s, p)
                    assert size == (n - k + 2 * p + s) // s
                    # how many starts there are
                    assert size == len(range(-p, n + p - k + 1, s))


def test_padding_by_k_minus_1_in_all_keeps_the_size():
    for k in (1, 3, 5, 7):
        assert analysis.output_shape(20, k, padding=(k - 1) // 2) == 20
        assert analysis.output_shape(20, k, padding="same") == 20


def test_a_stride_of_2_divides_the_size_and_the_work():
    """Exercise: the benefit; with sizes that it divides, n / s."""
    whole = analysis.conv2d_cost((8, 32, 32), (8, 8, 3, 3), padding=1)
    strided = analysis.conv2d_cost((8, 32, 32), (8, 8, 3, 3), stride=2, padding=1)
    assert strided.output_shape == (1, 8, 16, 16)
    assert whole.forward.multiplications == 4 * strided.forward.multiplications
    x, weight = np.arange(64.0).reshape(8, 8), K
    np.testing.assert_array_equal(correlate(x, weight, stride=2), correlate(x, weight)[::2, ::2])


def test_a_stride_of_2_halves_the_sampling_rate_of_audio():
    """Exercise: what lies above half the new rate comes back as a lower tone."""
    time = np.arange(400) / 1000  # 1000 samples a second
    high, low = (np.cos(2 * np.pi * hertz * time)[None] for hertz in (400, 100))
    every_second = np.ones((1, 1, 1))
    np.testing.assert_array_equal(fc.conv1d(low, every_second, stride=2), low[:, ::2])
    # of 500 samples a second 400 Hz and 100 Hz are the same
    np.testing.assert_allclose(
        fc.conv1d(high, every_second, stride=2), fc.conv1d(low, every_second, stride=2), atol=1e-9
    )
    # unless a mean over 5 samples goes first: two periods of 400 Hz, which it takes away
    mean = np.full((1, 1, 5), 0.2)
    assert abs(fc.conv1d(high, mean, stride=2)).max() < 1e-9
    assert abs(fc.conv1d(low, mean, stride=2)).max() > 0.6


# --- several channels

X2 = np.stack([X, X + 1])
K2 = np.stack([K, K + 1])


def test_the_books_two_input_channels():
    np.testing.assert_array_equal(fc.conv2d(X2, K2[None])[0], [[56, 72], [104, 120]])


def test_the_books_three_output_channels():
    y = fc.conv2d(X2, np.stack([K2, K2 + 1, K2 + 2]))
    np.testing.assert_array_equal(
        y, [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]
    )


def one_by_one_both_ways(x, weight):
    """Y1 and Y2 of the chapter: the matrix product, and the convolution."""
    product = weight[:, :, 0, 0] @ x.reshape(len(x), -1)
    return product.reshape(-1, *x.shape[1:]), fc.conv2d(x, weight)


def test_one_by_one_is_a_matrix_product(rng):
    x = rng.standard_normal((3, 3, 3)).astype(np.float32)
    weight = rng.standard_normal((2, 3, 1, 1)).astype(np.float32)
    y1, y2 = one_by_one_both_ways(x, weight)
    assert_close(y1, y2, length=2 * 3, magnitude=largest(x, weight))
    assert np.abs(y1 - y2).sum() < 1e-6  # the book's own check


def test_one_by_one_is_the_same_exactly_where_nothing_is_rounded(rng):
    """Exercise: are Y1 and Y2 the same? As sums; a rounded one depends on its order."""
    y1, y2 = one_by_one_both_ways(integers(rng, 64, 9, 9), integers(rng, 32, 64, 1, 1))
    np.testing.assert_array_equal(y1, y2)
    assert (0.1 + 0.2) + 0.3 != 0.1 + (0.2 + 0.3)


def test_one_by_one_costs_pixels_times_channels_times_channels():
    """Exercise: the complexity for a window of 1x1."""
    cost = analysis.conv2d_cost((16, 10, 12), (8, 16, 1, 1), method="pointwise")
    assert cost.forward.multiplications == 10 * 12 * 16 * 8
    assert cost.parameters == 16 * 8


def test_two_convolutions_are_one_of_k1_plus_k2_minus_1(rng):
    """Exercise: correlating with k1, then k2, is correlating with the convolution of the two."""
    x, k1, k2 = integers(rng, 12, 12), integers(rng, 3, 2), integers(rng, 4, 5)
    one = signal.convolve2d(k1, k2)
    assert one.shape == (3 + 4 - 1, 2 + 5 - 1)
    np.testing.assert_array_equal(correlate(x, one), correlate(correlate(x, k1), k2))
    np.testing.assert_array_equal(analysis.compose(k1, k2).kernel, one)


def test_not_every_kernel_is_two_convolutions():
    """Exercise: the converse. 1 + z + z^2 has no real root, so it has no real factors."""
    assert analysis.factor([[1, 1, 1]], size=(1, 2)) is None
    assert analysis.factor(kernels.laplacian()) is None
    # 1 + 2 z + z^2 has
    found = analysis.factor([[1, 2, 1]], size=(1, 2))
    np.testing.assert_array_equal(signal.convolve2d(found.first, found.second), [[1, 2, 1]])


def test_cost_of_a_convolution():
    """Exercise: c_o c_i k_h k_w h' w' multiplications forward, twice that backward; memory."""
    ci, co, h, w, kh, kw, ph, pw, sh, sw = 3, 5, 11, 13, 3, 4, 1, 2, 2, 3
    rows, columns = (h - kh + 2 * ph) // sh + 1, (w - kw + 2 * pw) // sw + 1
    cost = analysis.conv2d_cost((ci, h, w), (co, ci, kh, kw), (sh, sw), (ph, pw))
    assert cost.output_shape == (1, co, rows, columns)
    assert cost.forward.multiplications == co * ci * kh * kw * rows * columns
    assert cost.forward.additions == co * (ci * kh * kw - 1) * rows * columns
    assert cost.backward.multiplications == 2 * cost.forward.multiplications
    numbers = ci * h * w + co * ci * kh * kw + co * rows * columns
    assert cost.forward.memory == 4 * numbers
    # the input stays for the backward pass; input and weight each get a gradient of their size
    assert cost.held_for_backward == 4 * ci * h * w
    assert cost.backward.memory == 4 * (numbers + ci * h * w + co * ci * kh * kw)


def test_what_doubling_does():
    """Exercise: channels double the work, both four times; padding adds a rim."""
    table = analysis.doubling((4, 10, 10), (6, 4, 3, 3), padding=1)
    assert table["input channels"].multiplications == 2
    assert table["output channels"].multiplications == 2
    assert table["both channels"].multiplications == 4
    assert table["padding"].multiplications == 12**2 / 10**2
    assert table["padding"].parameters == 1


def test_any_window_as_a_matrix_product(rng):
    """Exercise: im2col; and the convolution as a matrix."""
    x, weight = integers(rng, 2, 3, 8, 9), integers(rng, 4, 3, 3, 2)
    y = fc.conv2d(x, weight, stride=2, padding=1)
    patches = fc.unfold(x, (3, 2), stride=2, padding=1)
    np.testing.assert_array_equal((weight.reshape(4, -1) @ patches).reshape(y.shape), y)
    np.testing.assert_array_equal(fc.conv2d(x, weight, stride=2, padding=1, method="im2col"), y)
    matrix = analysis.conv_matrix(weight, x.shape, stride=2, padding=1)
    np.testing.assert_array_equal(matrix @ x.ravel(), y.ravel())
    # its transpose is the transposed convolution
    spread = fc.conv_transpose2d(y, weight, stride=2, padding=1, output_padding=(1, 1))
    np.testing.assert_array_equal((matrix.T @ y.ravel()).reshape(x.shape), spread)


# --- pooling


def test_the_books_pooling():
    np.testing.assert_array_equal(fc.max_pool2d(X[None], 2, 1)[0], [[4, 5], [7, 8]])
    np.testing.assert_array_equal(fc.avg_pool2d(X[None], 2, 1)[0], [[2, 3], [5, 6]])
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    assert nn.MaxPool2d(3)(image).tolist() == [[[[10]]]]  # the stride is the window
    expected = [[[[5, 7], [13, 15]]]]
    assert nn.MaxPool2d(3, padding=1, stride=2)(image).tolist() == expected
    assert nn.MaxPool2d((2, 3), stride=(2, 3), padding=(0, 1))(image).tolist() == expected
    # channels stay apart
    both = nn.MaxPool2d(3, padding=1, stride=2)(np.concatenate([image, image + 1], axis=1))
    assert both.tolist() == [[[[5, 7], [13, 15]], [[6, 8], [14, 16]]]]


def test_pooling_does_not_see_a_shift_within_its_window():
    image, moved = np.zeros((2, 1, 4, 4))
    image[0, 0, 0], moved[0, 1, 1] = 1, 1
    np.testing.assert_array_equal(fc.max_pool2d(image, 2), fc.max_pool2d(moved, 2))


def test_average_pooling_is_a_convolution(rng):
    """Exercise: with 1 / (p q) everywhere, each channel on its own."""
    x = integers(rng, 3, 8, 8)
    weight = np.full((3, 1, 2, 2), 1 / 4)
    expected = fc.avg_pool2d(x, 2)
    np.testing.assert_array_equal(fc.conv2d(x, weight, stride=2, groups=3), expected)
    np.testing.assert_array_equal(analysis.avg_pool_as_conv(3, 2)(x), expected)


def test_maximum_pooling_is_no_convolution_but_convolutions_and_relu(rng):
    """Exercise: it is not linear; max(a, b) = relu(a - b) + b."""
    a, b = integers(rng, 2, 1, 6, 6)
    assert not np.array_equal(fc.max_pool2d(a + b, 2), fc.max_pool2d(a, 2) + fc.max_pool2d(b, 2))
    np.testing.assert_array_equal(np.maximum(a, b), np.maximum(a - b, 0) + b)
    # a window of two: its two pixels as channels, and their difference through ReLU
    pick = np.array([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    first, second = fc.conv2d(a, pick, stride=(1, 2))
    difference = fc.conv2d(a, pick[:1] - pick[1:], stride=(1, 2), activation="relu")[0]
    np.testing.assert_array_equal(difference + second, fc.max_pool2d(a, (1, 2))[0])
    np.testing.assert_array_equal(np.maximum(first, second), fc.max_pool2d(a, (1, 2))[0])
    np.testing.assert_array_equal(analysis.max_pool_by_relu(a, 3, 2), fc.max_pool2d(a, 3, 2))


def test_cost_of_pooling():
    """Exercise: c floor((h - ph + 2 pad) / s + 1) ... windows, of one less than p_h p_w each."""
    c, h, w, rows, columns, pad, stride = 3, 10, 12, 3, 2, 1, 2
    windows = c * ((h - rows + 2 * pad) // stride + 1) * ((w - columns + 2 * pad) // stride + 1)
    settings = (c, h, w), (rows, columns), stride, pad
    for kind in ("max", "min"):
        cost = analysis.pool2d_cost(*settings, kind=kind).forward
        assert cost.comparisons == windows * (rows * columns - 1) and cost.multiplications == 0
    cost = analysis.pool2d_cost(*settings, kind="avg").forward
    assert cost.additions == windows * (rows * columns - 1) and cost.multiplications == windows
    cost = analysis.pool2d_cost(*settings, kind="softmax").forward
    assert cost.exponentials == windows * rows * columns


def test_maximum_and_average_see_different_things():
    """Exercise: one bright pixel is all of a maximum and a quarter of a mean."""
    image = np.zeros((1, 2, 2))
    image[0, 1, 0] = 8
    assert fc.max_pool2d(image, 2).item() == 8 and fc.avg_pool2d(image, 2).item() == 2
    # and their gradients: to the winner, and to all
    assert fc.grad.avg_pool2d(np.ones((1, 1, 1)), (1, 2, 2), 2).tolist() == [[[1 / 4] * 2] * 2]
    _, winner = fc.max_pool2d(image, 2, return_indices=True)
    back = fc.grad.max_pool2d(np.ones((1, 1, 1)), winner, (1, 2, 2))
    assert back.tolist() == [[[0, 0], [1, 0]]]


def test_minimum_pooling_is_the_maximum_turned_round(rng):
    """Exercise: no layer of its own is needed."""
    x = integers(rng, 2, 3, 9, 8)
    for settings in ((2,), (3, 2, 1), (3, 1, 1, 2)):
        np.testing.assert_array_equal(fc.min_pool2d(x, *settings), -fc.max_pool2d(-x, *settings))
        np.testing.assert_array_equal(nn.MinPool2d(*settings)(x), -nn.MaxPool2d(*settings)(-x))


def test_softmax_pooling_lies_between_mean_and_maximum(rng):
    """Exercise: beta to 0 is the mean, beta to infinity the maximum; it grows in between."""
    x = rng.permutation(64.0 * np.arange(64)).reshape(1, 8, 8) / 640
    values = [fc.softmax_pool2d(x, 2, beta=beta) for beta in (1e-9, 0.1, 1, 10, 1000)]
    np.testing.assert_allclose(values[0], fc.avg_pool2d(x, 2), rtol=1e-7)
    np.testing.assert_allclose(values[-1], fc.max_pool2d(x, 2), rtol=1e-7)
    for lower, higher in zip(values, values[1:], strict=False):
        assert (lower <= higher).all()
    np.testing.assert_allclose(fc.softmax_pool2d(x, 2, beta=-1000), fc.min_pool2d(x, 2), rtol=1e-7)
    # by hand, of 0 and log 3 their shares are 1/4 and 3/4
    pair = np.array([[[0.0, math.log(3)]]])
    assert fc.softmax_pool2d(pair, (1, 2)).item() == pytest.approx(0.75 * math.log(3))


# --- LeNet

LENET = [
    ("Conv2d", (6, 28, 28), 6 * 25 + 6),
    ("Sigmoid", (6, 28, 28), 0),
    ("AvgPool2d", (6, 14, 14), 0),
    ("Conv2d", (16, 10, 10), 16 * 6 * 25 + 16),
    ("Sigmoid", (16, 10, 10), 0),
    ("AvgPool2d", (16, 5, 5), 0),
    ("Flatten", (400,), 0),
    ("Linear", (120,), 400 * 120 + 120),
    ("Sigmoid", (120,), 0),
    ("Linear", (84,), 120 * 84 + 84),
    ("Sigmoid", (84,), 0),
    ("Linear", (10,), 84 * 10 + 10),
]


def test_lenet_layer_by_layer():
    net, x = nn.lenet(seed=0), np.zeros((1, 1, 28, 28), np.float32)
    found = []
    for layer in net:
        x = layer(x)
        parameters = sum(p.size for p in layer.parameters())
        found.append((type(layer).__name__, x.shape[1:], parameters))
    assert found == LENET


def test_lenet_with_maximum_pooling_has_the_same_shapes_and_parameters():
    """Exercise: replace average pooling by maximum pooling; minimum and softmax too."""
    shapes = {}
    for pool in nn.POOLS:
        summary = nn.lenet(pool=pool, seed=0).summary((1, 1, 28, 28))
        shapes[pool] = [(line.output_shape[1:], line.parameters) for line in summary]
        assert type(nn.lenet(pool=pool, seed=0)[2]) is nn.POOLS[pool]
    assert all(found == [(shape, n) for _, shape, n in LENET] for found in shapes.values())


def test_the_deeper_lenet():
    """Exercise: convolutions 6@5x5, 16@5x5, 32@4x4, linear 240, 120, 84, 10, with ReLU."""
    net = nn.lenet_improved(seed=0)
    shapes = [(6, 1, 5, 5), (16, 6, 5, 5), (32, 16, 4, 4), (240, 32), (120, 240), (84, 120)]
    assert [p.shape for p in net.parameters()][::2] == [*shapes, (10, 84)]
    parts = (156, 2416, 8192 + 32, 7680 + 240, 28800 + 120, 10080 + 84, 850)
    assert net.summary((1, 1, 28, 28)).parameters == sum(parts) == 58650
    kinds = [type(layer).__name__ for layer in net]
    assert kinds == 3 * ["Conv2d", "ReLU", "AvgPool2d"] + ["Flatten"] + 3 * ["Linear", "ReLU"] + [
        "Linear"
    ]


def test_activations_of_the_first_and_second_layer():
    """Exercise: the network up to there is a network."""
    net = nn.lenet(seed=0).eval()
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    first, second = net[:2](x), net[:5](x)
    assert first.shape == (2, 6, 28, 28) and second.shape == (2, 16, 10, 10)
    np.testing.assert_array_equal(second, net[2:5](first))
    assert 0 < first.min() and first.max() < 1  # a sigmoid's


@pytest.mark.parametrize("pool", nn.POOLS)
def test_lenet_learns_with_each_pooling(pool):
    """On 100 real images, to a third of the loss of guessing, log 10."""
    train = datasets.embedded_sample()[0].take(100)
    x, labels = train.inputs(), train.labels
    net, criterion = nn.lenet("relu", pool, seed=0), nn.CrossEntropyLoss()
    optimizer = nn.Adam(net.parameters(), lr=0.005)
    losses = []
    for _ in range(60):
        losses.append(criterion(net(x), labels))
        net.zero_grad()
        net.backward(criterion.backward(), need_input_grad=False)
        optimizer.step()
    assert losses[0] > math.log(10)
    assert losses[-1] < math.log(10) / 3
