"""The ideas of the chapter, a test or more for each, against numbers that can be checked by hand.

The long forms with their reasons are in docs/, whose code is run too.
"""

import numpy as np
import pytest

import fastconv as fc
from fastconv import analysis, kernels, nn, signal

X3 = np.arange(9.0).reshape(3, 3)
K2 = np.arange(4.0).reshape(2, 2)


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)


# -- a layer as a constrained linear map


def test_a_convolution_is_a_matrix_of_shared_weights():
    matrix = analysis.conv_matrix(K2[None, None], (1, 3, 3))
    same(
        matrix,
        [
            [0, 1, 0, 2, 3, 0, 0, 0, 0],
            [0, 0, 1, 0, 2, 3, 0, 0, 0],
            [0, 0, 0, 0, 1, 0, 2, 3, 0],
            [0, 0, 0, 0, 0, 1, 0, 2, 3],
        ],
    )
    same(matrix @ X3.ravel(), fc.conv2d(X3[None], K2[None, None]).ravel())
    columns = fc.unfold(X3[None], 2)
    same(K2.reshape(1, 4) @ columns, [[19, 25, 37, 43]])


@pytest.mark.parametrize("case", range(100))
def test_the_matrix_transposed_is_the_transposed_convolution(case):
    rng = np.random.default_rng(case)
    groups = int(rng.integers(1, 3))
    kernel, stride, dilation = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(3))
    padding = tuple(int(n) for n in rng.integers(0, 3, 2))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [
        int(rng.integers(max(1, r - 2 * p), r + 6)) for r, p in zip(reach, padding, strict=True)
    ]
    inputs, outputs = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    w = rng.integers(-4, 5, (outputs, inputs // groups, *kernel)).astype(float)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    matrix = analysis.conv_matrix(w, (inputs, *size), **how)
    out = analysis.output_shape(size, kernel, stride, padding, dilation)
    y = rng.integers(-4, 5, (outputs, *out)).astype(float)
    # the rows and columns that no window reached
    rest = [(n + 2 * p - r) % s for n, p, r, s in zip(size, padding, reach, stride, strict=True)]
    found = fc.conv_transpose2d(y, w, None, stride, padding, tuple(rest), groups, dilation)
    same(matrix.T @ y.ravel(), found.ravel())


def test_one_window_of_one_pixel_is_a_dense_layer_at_each_pixel():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 10, (3, 4, 5)), rng.integers(-9, 10, (2, 3, 1, 1))
    matrix = analysis.fully_connected_equivalent(w)
    same(matrix @ x.reshape(3, -1), fc.conv2d(x, w).reshape(2, -1))


# -- translation equivariance, locality


def test_a_convolution_moves_with_the_image():
    net = nn.Sequential(nn.Conv2d(1, 3, 5, padding=2, rng=0), nn.ReLU())
    x = np.random.default_rng(0).random((1, 1, 20, 20), np.float32)
    assert analysis.shift_equivariance(net, x, (3, -2)).error == 0


def test_what_an_output_of_lenet_sees():
    net = nn.lenet(seed=0)
    fields = analysis.receptive_field(net, (1, 1, 28, 28))
    assert [fields[i].size for i in (0, 2, 3, 5)] == [(5, 5), (6, 6), (14, 14), (16, 16)]
    x = np.random.default_rng(0).random((4, 1, 28, 28))
    for layer in (0, 2, 3, 5):
        seen = analysis.sensitivity(net, x, layer, (2, 2)) > 0
        rows, columns = fields.pixels(layer, 2, 2)
        expected = np.zeros((28, 28), bool)
        expected[np.ix_(rows, columns)] = True
        same(seen, expected)


# -- convolution and cross-correlation


def test_the_chapters_cross_correlation():
    same(signal.correlate2d(X3, K2, mode="valid"), [[19, 25], [37, 43]])
    same(fc.conv2d(X3[None], K2[None, None])[0], [[19, 25], [37, 43]])


def test_convolution_commutes_and_cross_correlation_is_turned():
    rng = np.random.default_rng(0)
    f, g = rng.integers(-9, 10, (4, 6)), rng.integers(-9, 10, (3, 2))
    same(signal.convolve2d(f, g), signal.convolve2d(g, f))
    same(signal.correlate2d(f, g), signal.correlate2d(g, f)[::-1, ::-1])
    assert (signal.correlate2d(f, g) != signal.correlate2d(g, f)).any()
    same(signal.convolve2d(f, g), signal.correlate2d(f, g[::-1, ::-1]))


# -- output sizes


@pytest.mark.parametrize(
    ("kernel", "padding", "stride", "expected"),
    [
        (3, 1, 1, (8, 8)),
        ((5, 3), (2, 1), 1, (8, 8)),
        (3, 1, 2, (4, 4)),
        ((3, 5), (0, 1), (3, 4), (2, 2)),
    ],
)
def test_the_chapters_sizes(kernel, padding, stride, expected):
    assert analysis.output_shape((8, 8), kernel, stride, padding) == expected
    layer = nn.Conv2d(1, 1, kernel, stride=stride, padding=padding, rng=0)
    assert layer(np.ones((1, 1, 8, 8), np.float32)).shape == (1, 1, *expected)


# -- edges, derivatives, integrals


def test_edges():
    vertical = np.ones((6, 8))
    vertical[:, 2:6] = 0
    found = signal.correlate2d(vertical, kernels.edge(), mode="valid")
    same(found, np.tile([0, 1, 0, 0, 0, -1, 0], (6, 1)))
    assert not signal.correlate2d(vertical.T, kernels.edge(), mode="valid").any()
    diagonal = np.triu(np.ones((5, 5)))
    one = signal.correlate2d(diagonal, kernels.edge(), mode="valid")
    other = signal.correlate2d(diagonal.T, kernels.edge(), mode="valid")
    assert np.count_nonzero(one) == np.count_nonzero(other) == 4
    same(other, -one[::-1, ::-1])
    turned = signal.correlate2d(diagonal, kernels.edge().T, mode="valid")
    same(turned, other.T)


@pytest.mark.parametrize("order", range(1, 6))
def test_a_derivative_of_order_d_has_at_least_d_plus_1_weights(order):
    kernel = kernels.derivative(order, accuracy=1)
    assert kernel.size == order + 1
    x = np.arange(12.0)
    for power in range(order):  # whatever annihilates these has that many conditions
        got = signal.correlate2d(x[None] ** power, kernel, mode="valid")
        np.testing.assert_allclose(got, 0, atol=1e-9 * 12**power)
    got = signal.correlate2d(x[None] ** order, kernel, mode="valid")
    np.testing.assert_allclose(got, np.prod(range(1, order + 1)), rtol=1e-9)


def test_the_second_derivative_and_the_integral():
    same(kernels.derivative(2), [[1, -2, 1]])
    x = np.random.default_rng(0).integers(0, 9, (6, 7)).astype(float)
    sums = signal.correlate2d(x, 9 * kernels.box(3), mode="valid")
    table = np.pad(x.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    expected = table[3:, 3:] - table[:-3, 3:] - table[3:, :-3] + table[:-3, :-3]
    np.testing.assert_allclose(sums, expected, rtol=1e-12)


def test_a_kernel_is_learnt():
    image = np.ones((1, 1, 6, 8))
    image[..., 2:6] = 0
    wanted = fc.conv2d(image, kernels.edge()[None, None])
    weight = np.random.default_rng(0).normal(size=(1, 1, 1, 2))
    for _ in range(50):
        error = fc.conv2d(image, weight) - wanted
        weight -= 0.03 * fc.grad.conv2d_weight(image, weight.shape, 2 * error)
    np.testing.assert_allclose(weight.ravel(), [1, -1], atol=1e-2)


# -- channels


def test_the_chapters_channels():
    x = np.stack([X3, X3 + 1])
    k = np.stack([K2, K2 + 1])
    same(fc.conv2d(x, k[None])[0], [[56, 72], [104, 120]])
    same(
        fc.conv2d(x, np.stack([k, k + 1, k + 2])),
        [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]],
    )


def test_a_1x1_convolution_is_a_matrix_product():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 3, 3)).astype(np.float32)
    w = rng.normal(size=(2, 3, 1, 1)).astype(np.float32)
    product = (w[:, :, 0, 0] @ x.reshape(3, 9)).reshape(2, 3, 3)
    for method in ("auto", "pointwise", "direct", "im2col"):
        np.testing.assert_allclose(fc.conv2d(x, w, method=method), product, rtol=0, atol=1e-6)


# -- two convolutions as one


def test_two_convolutions_are_one_of_size_k1_plus_k2_minus_1():
    rng = np.random.default_rng(0)
    first, second = rng.integers(-3, 4, (5, 2, 3, 3)), rng.integers(-3, 4, (4, 5, 4, 2))
    one = analysis.compose(first, second)
    assert one.weight.shape == (4, 2, 6, 4)
    x = rng.integers(-3, 4, (2, 12, 12)).astype(float)
    same(fc.conv2d(x, one.weight), fc.conv2d(fc.conv2d(x, first), second))


def test_not_every_kernel_is_two():
    assert analysis.factor(kernels.sobel()) is not None
    assert analysis.factor(kernels.laplacian()) is None


# -- costs


def test_costs_and_what_doubling_does():
    cost = analysis.conv2d_cost((16, 32, 32), (8, 16, 3, 3), padding=1)
    assert cost.forward.multiplications == 32 * 32 * 8 * 16 * 9
    assert cost.backward.multiplications == 2 * cost.forward.multiplications
    rows = {row.doubled: row for row in analysis.doubling((16, 32, 32), (8, 16, 3, 3), padding=1)}
    assert rows["input channels"].multiplications == 2
    assert rows["output channels"].multiplications == 2
    assert rows["both channels"].multiplications == 4
    assert rows["padding"].multiplications == pytest.approx((34 / 32) ** 2)


# -- pooling


def test_an_average_is_a_convolution():
    x = np.random.default_rng(0).integers(0, 9, (2, 3, 8, 8)).astype(float)
    same(analysis.avg_pool_as_conv(3, 2)(x), fc.avg_pool2d(x, 2))


def test_a_maximum_is_convolutions_and_relu():
    a, b = np.random.default_rng(0).integers(-9, 10, (2, 50))
    same(np.maximum(a - b, 0) + b, np.maximum(a, b))
    x = np.random.default_rng(1).integers(-9, 10, (2, 3, 8, 8)).astype(float)
    same(analysis.max_pool_by_relu(x, 2), fc.max_pool2d(x, 2))


def test_a_minimum_is_a_maximum_of_the_negative():
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 9))
    same(fc.min_pool2d(x, 3, 2, 1), -fc.max_pool2d(-x, 3, 2, 1))


def test_a_soft_pooling_lies_between_average_and_maximum():
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
    mean, most = fc.avg_pool2d(x, 2), fc.max_pool2d(x, 2)
    np.testing.assert_allclose(fc.softmax_pool2d(x, 2, beta=0), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fc.softmax_pool2d(x, 2, beta=1e6), most, rtol=0, atol=1e-4)
    before = mean
    for beta in (0.5, 1, 2, 4, 8):
        now = fc.softmax_pool2d(x, 2, beta=beta)
        assert (now >= before).all() and (now <= most).all()
        before = now


def test_costs_of_pooling():
    cost = analysis.pool2d_cost((3, 8, 10), 2)
    assert cost.forward.comparisons == 3 * 4 * 5 * 3
    cost = analysis.pool2d_cost((3, 8, 10), (3, 2), (2, 1), 1, kind="avg")
    assert cost.forward.additions == 3 * 4 * 11 * 5
    assert cost.forward.multiplications == 3 * 4 * 11


# -- one dimension


def test_a_stride_of_two_halves_the_sample_rate():
    t = np.arange(800) / 8000
    tone = np.cos(2 * np.pi * 3000 * t)
    slower = fc.conv1d(tone[None], np.ones((1, 1, 1)), stride=2)[0]
    np.testing.assert_allclose(slower, np.cos(2 * np.pi * 1000 * t[::2]), rtol=0, atol=1e-9)


def test_words_in_order():
    sentence = np.eye(4)[:, [0, 1, 2, 3, 0, 2]]  # words as channels, one-hot
    pair = np.zeros((1, 4, 2))
    pair[0, 1, 0] = pair[0, 2, 1] = 1  # word 1, then word 2
    same(fc.conv1d(sentence, pair)[0] == 2, [False, True, False, False, False])


# -- LeNet


def test_lenet_layer_by_layer():
    shapes, shape = [], (1, 1, 28, 28)
    for layer in nn.lenet(seed=0):
        shape = layer.output_shape(shape)
        shapes.append(tuple(shape[1:]))
    expected = [(6, 28, 28)] * 2 + [(6, 14, 14)] + [(16, 10, 10)] * 2 + [(16, 5, 5), (400,)]
    assert shapes == expected + [(120,)] * 2 + [(84,)] * 2 + [(10,)]


def test_the_deeper_variant():
    net = nn.lenet_improved(seed=0)
    weights = [p.data.shape for name, p in net.named_parameters() if name.endswith("weight")]
    convolutions = [(6, 1, 5, 5), (16, 6, 5, 5), (32, 16, 4, 4)]
    assert weights == [*convolutions, (240, 32), (120, 240), (84, 120), (10, 84)]


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_both_poolings_learn_alike(pool):
    from fastconv import datasets

    train, test = datasets.embedded_sample()
    net = nn.lenet("relu", pool, seed=0)
    adam = nn.Adam(net.parameters(), lr=0.002)
    history = nn.fit(net, train, epochs=6, batch_size=64, optimizer=adam, validation=test)
    assert history.final.test_accuracy > 0.7
