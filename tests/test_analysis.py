"""Analysis: each formula against what it describes, run or counted; sums of integers exactly."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from tolerance import assert_close, largest

import fastconv as fc
from fastconv import analysis, grad, nn
from fastconv.analysis import Convolution


def integers(rng, *shape):
    return rng.integers(-9, 10, shape).astype(np.float64)


def some_padding(rng, most):
    """A padding in one of its forms, up to `most` pixels (rows, columns)."""
    form = rng.integers(4)
    if form == 0:
        return int(rng.integers(0, min(most) + 1))
    if form == 1:
        return tuple(int(rng.integers(0, n + 1)) for n in most)
    if form == 2:
        return tuple(tuple(int(n) for n in rng.integers(0, n + 1, 2)) for n in most)
    return str(rng.choice(["same", "same_lower", "valid"]))


def some_convolution(rng, channels=None, groups=None, named=True):
    """(weight, {stride, padding, dilation, groups}) of random sizes."""
    groups = int(rng.choice([1, 1, 2, 3])) if groups is None else groups
    c = int(rng.integers(1, 3)) if channels is None else channels // groups
    weight = integers(rng, groups * int(rng.integers(1, 3)), c, *rng.integers(1, 4, 2))
    padding = some_padding(rng, (2, 3))
    if not named and isinstance(padding, str):
        padding = 1
    return weight, {
        "stride": tuple(int(n) for n in rng.integers(1, 4, 2)),
        "padding": padding,
        "dilation": tuple(int(n) for n in rng.integers(1, 3, 2)),
        "groups": groups,
    }


def an_image(rng, weight, groups, batch=False):
    shape = (weight.shape[1] * groups, *(int(n) for n in rng.integers(6, 11, 2)))
    return integers(rng, *((2,) if batch else ()), *shape)


# --- sizes


@pytest.mark.parametrize("case", range(40))
def test_output_shape_is_that_of_the_result(rng, case):
    weight, settings = some_convolution(rng)
    x = an_image(rng, weight, settings["groups"])
    expected = fc.conv2d(x, weight, **settings).shape[1:]
    del settings["groups"]
    assert analysis.output_shape(x.shape[1:], weight.shape[2:], **settings) == expected
    # one axis at a time
    for axis in range(2):
        single = {
            name: value if isinstance(value, (int, str)) else value[axis]
            for name, value in settings.items()
        }
        if isinstance(single["padding"], tuple):
            single["padding"] = ((0, 0), single["padding"])
        size = analysis.output_shape(x.shape[1 + axis], weight.shape[2 + axis], **single)
        assert size == expected[axis]


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_output_shape_of_a_pooling(ceil_mode):
    for size, kernel, stride in itertools.product(range(3, 12), (2, 3), (1, 2, 3)):
        x = np.zeros((1, 1, size, size))
        shape = fc.max_pool2d(x, kernel, stride, 1, ceil_mode=ceil_mode).shape
        assert analysis.output_shape(x.shape, kernel, stride, 1, 1, ceil_mode) == shape


# --- the matrix


@pytest.mark.parametrize("case", range(500))
def test_conv_matrix(rng, case):
    weight, settings = some_convolution(rng)
    x = an_image(rng, weight, settings["groups"], batch=case % 5 == 0)
    A = analysis.conv_matrix(weight, x.shape, **settings)
    y = fc.conv2d(x, weight, **settings)
    assert A.shape == (y.size, x.size)
    np.testing.assert_array_equal(A @ x.ravel(), y.ravel())
    # its transpose is the gradient, the transposed convolution
    dy = integers(rng, *y.shape)
    expected = grad.conv2d_input(x.shape, weight, dy, **settings)
    np.testing.assert_array_equal(A.T @ dy.ravel(), expected.ravel())


@pytest.mark.parametrize("case", range(500))
def test_sparse_conv_matrix(rng, case):
    sparse = pytest.importorskip("scipy.sparse")
    weight, settings = some_convolution(rng)
    x = an_image(rng, weight, settings["groups"], batch=case % 2 == 0)
    A = analysis.conv_matrix(weight, x.shape, **settings, sparse=True)
    assert isinstance(A, sparse.csr_array)
    np.testing.assert_array_equal(A.toarray(), analysis.conv_matrix(weight, x.shape, **settings))
    np.testing.assert_array_equal(A @ x.ravel(), fc.conv2d(x, weight, **settings).ravel())
    assert A.nnz <= np.prod(fc.conv2d(x, weight, **settings).shape) * weight[0].size


def test_conv_matrix_of_real_numbers_and_float32(rng):
    x, weight = rng.standard_normal((3, 9, 8)), rng.standard_normal((4, 3, 3, 3))
    y = fc.conv2d(x, weight, padding=1)
    product = (analysis.conv_matrix(weight, x.shape, padding=1) @ x.ravel()).reshape(y.shape)
    assert_close(product, y, length=2 * weight[0].size, magnitude=largest(x, weight))
    assert analysis.conv_matrix(weight.astype(np.float32), x.shape).dtype == np.float32
    assert analysis.conv_matrix(weight, x.shape, dtype=np.float32).dtype == np.float32
    assert analysis.conv_matrix(np.ones((1, 1, 2, 2), np.uint8), (1, 3, 3)).dtype == np.float64


@pytest.mark.parametrize("case", range(200))
def test_transposed_conv_matrix_is_conv_transpose2d(rng, case):
    weight, settings = some_convolution(rng, named=False)
    x = an_image(rng, weight, settings["groups"], batch=case % 5 == 0)
    y = integers(rng, *fc.conv2d(x, weight, **settings).shape)
    padding = settings["padding"]
    sides = np.broadcast_to(np.transpose(padding) if np.ndim(padding) == 2 else padding, (2, 2))
    # of the sizes that give an output of y's, the one without output padding
    smallest = [
        (p - 1) * s - around + d * (r - 1) + 1
        for p, s, around, d, r in zip(
            y.shape[-2:],
            settings["stride"],
            sides.sum(axis=0),
            settings["dilation"],
            weight.shape[2:],
            strict=True,
        )
    ]
    missing = [int(n - m) for n, m in zip(x.shape[-2:], smallest, strict=True)]
    assert all(0 <= n < s for n, s in zip(missing, settings["stride"], strict=True))
    A = analysis.conv_matrix(weight, x.shape, **settings)
    spread = fc.conv_transpose2d(y, weight, output_padding=missing, **settings)
    np.testing.assert_array_equal((A.T @ y.ravel()).reshape(x.shape), spread)


@pytest.mark.parametrize("case", range(20))
def test_transposed_conv_matrix_is_torchs_conv_transpose2d(rng, case):
    torch = pytest.importorskip("torch")
    weight, settings = some_convolution(rng, named=False)
    padding = settings["padding"] = tuple(int(n) for n in rng.integers(0, 2, 2))
    x = an_image(rng, weight, settings["groups"])
    y = integers(rng, *fc.conv2d(x, weight, **settings).shape)
    # the input's size, of those that give this output's
    extra = [
        n - ((p - 1) * s - 2 * pad + d * (r - 1) + 1)
        for n, p, s, pad, d, r in zip(
            x.shape[1:],
            y.shape[1:],
            settings["stride"],
            padding,
            settings["dilation"],
            weight.shape[2:],
            strict=True,
        )
    ]
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(y)[None],
        torch.from_numpy(weight),
        None,
        settings["stride"],
        padding,
        [
            min(e, max(s, d) - 1)
            for e, s, d in zip(extra, settings["stride"], settings["dilation"], strict=True)
        ],
        settings["groups"],
        settings["dilation"],
    )[0].numpy()
    A = analysis.conv_matrix(weight, x.shape, **settings)
    np.testing.assert_array_equal((A.T @ y.ravel()).reshape(x.shape), expected)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_one_by_one_window_is_fully_connected(rng, groups):
    x, weight = integers(rng, 2, 6, 4, 5), integers(rng, 9, 6 // groups, 1, 1)
    M = analysis.fully_connected_equivalent(weight, groups)
    assert M.shape == (9, 6)
    y = np.einsum("kc,nchw->nkhw", M, x)
    np.testing.assert_array_equal(y, fc.conv2d(x, weight, groups=groups))
    # each pixel alone, through the layer of nn
    layer = nn.Linear(6, 9, bias=False, dtype=np.float64)
    layer.load_state_dict({"weight": M})
    np.testing.assert_array_equal(layer(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), y)


# --- two convolutions as one


@pytest.mark.parametrize("case", range(200))
def test_compose(rng, case):
    w1, settings1 = some_convolution(rng, named=False)
    channels = w1.shape[0]
    groups = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
    w2, settings2 = some_convolution(rng, channels, groups, named=False)
    if case % 2:
        settings2["padding"] = 0
    b1 = integers(rng, len(w1)) if case % 3 == 1 else None
    b2 = integers(rng, len(w2)) if case % 4 == 1 else None
    x = integers(rng, w1.shape[1] * settings1["groups"], *rng.integers(17, 24, 2))
    two = fc.conv2d(fc.conv2d(x, w1, b1, **settings1), w2, b2, **settings2)
    one = analysis.compose(Convolution(w1, b1, **settings1), Convolution(w2, b2, **settings2))
    y = one(x)
    assert y.shape == two.shape
    rows, columns = one.interior(x.shape)
    np.testing.assert_array_equal(y[:, rows, columns], two[:, rows, columns])
    whole = (slice(0, y.shape[1]), slice(0, y.shape[2]))
    if one.exact:
        assert (rows, columns) == whole
    if case % 2:
        assert one.exact and one.reason == ""
    # the interior cannot be larger: where nothing cancels, its neighbours differ
    positive = [None if b is None else abs(b) + 1 for b in (b1, b2)]
    one = analysis.compose(
        Convolution(abs(w1) + 1, positive[0], **settings1),
        Convolution(abs(w2) + 1, positive[1], **settings2),
    )
    x = abs(x) + 1
    same = (one(x) == one.second(one.first(x))).all(axis=0)
    assert one.interior(x.shape) == (rows, columns) and same[rows, columns].all()
    if same[rows, columns].size:
        for row in {rows.start - 1, rows.stop} - {-1, len(same)}:
            assert not same[row, columns].all()
        for column in {columns.start - 1, columns.stop} - {-1, same.shape[1]}:
            assert not same[rows, column].all()


@pytest.mark.parametrize(
    "first, second, exact",
    [
        # the first kernel, padded in full, sees nothing from outside
        (Convolution(np.ones((3, 3)), padding=2), Convolution(np.ones((3, 3)), padding=1), True),
        (Convolution(np.ones((1, 1))), Convolution(np.ones((3, 3)), padding=1), True),
        # a stride that steps over the whole kernel does the same at the top and the left
        (
            Convolution(np.ones((3, 3)), stride=3, padding=((0, 2), (0, 2))),
            Convolution(np.ones((3, 3)), padding=1),
            True,
        ),
        (Convolution(np.ones((3, 3)), padding=1), Convolution(np.ones((3, 3)), padding=1), False),
        (
            Convolution(np.ones((1, 1)), bias=[1.0]),
            Convolution(np.ones((3, 3)), padding=1),
            False,
        ),
        (
            Convolution(np.ones((1, 1)), bias=[0.0]),
            Convolution(np.ones((3, 3)), padding=1),
            True,
        ),
    ],
)
def test_where_compose_is_exact(rng, first, second, exact):
    x = integers(rng, 1, 9, 9)
    one = analysis.compose(first, second)
    assert one.exact is exact
    assert np.array_equal(one(x), second(first(x))) is exact
    assert ("inexact at the borders" in str(one)) is not exact
    if not exact:
        assert "padding (1, 1, 1, 1)" in one.reason
        assert one.interior((9, 9)) == (slice(1, 8), slice(1, 8))
        assert one.interior((1, 1)) == (slice(0, 0), slice(0, 0))


def test_compose_is_the_convolution_of_the_kernels(rng):
    signal = pytest.importorskip("scipy.signal")
    k1, k2 = integers(rng, 3, 4), integers(rng, 5, 2)
    one = analysis.compose(k1, k2)
    np.testing.assert_array_equal(one.kernel, signal.convolve2d(k1, k2))
    assert one.kernel.shape == (3 + 5 - 1, 4 + 2 - 1)
    # with one dilation for both the kernels are the same, further apart
    apart = analysis.compose(Convolution(k1, dilation=2), Convolution(k2, dilation=2))
    np.testing.assert_array_equal(apart.kernel, one.kernel)
    assert apart.dilation == (2, 2)
    # associative, also of what it returns
    k3 = integers(rng, 2, 2)
    left, right = analysis.compose(one, k3), analysis.compose(k1, analysis.compose(k2, k3))
    np.testing.assert_array_equal(left.weight, right.weight)


def test_compose_takes_layers(rng):
    first = nn.Conv2d(3, 4, 3, stride=2, padding=1, rng=0, dtype=np.float64)
    second = nn.Conv2d(4, 6, 3, groups=2, rng=1, dtype=np.float64)
    x = rng.standard_normal((2, 3, 15, 14))
    one = analysis.compose(first, second)
    assert one.exact and one.weight.shape == (6, 3, 7, 7) and one.stride == (2, 2)
    assert_close(one(x), second(first(x)), length=500, magnitude=largest(x, one.weight) + 1)
    assert one(x.astype(np.float32)).dtype == np.float64
    single = analysis.compose(nn.Conv2d(1, 1, 3, bias=False, rng=0), np.ones((2, 2), np.float32))
    assert single.weight.dtype == np.float32 and single.bias is None


# --- one kernel as two


def test_factor_into_column_and_row(rng):
    for R, S in itertools.product(range(1, 6), range(1, 6)):
        column, row = rng.standard_normal((R, 1)), rng.standard_normal((1, S))
        found = analysis.factor(column * row)
        assert found.first.shape == (R, 1) and found.second.shape == (1, S)
        assert found.relative_error < 1e-14
        np.testing.assert_allclose(found.product, column * row, rtol=0, atol=1e-14)
        swapped = analysis.factor(column * row, size=(1, S))
        assert swapped.first.shape == (1, S) and swapped.relative_error < 1e-14


@pytest.mark.parametrize(
    "kernel, column, row",
    [
        ([[1, 0, -1], [2, 0, -2], [1, 0, -1]], [1, 2, 1], [1, 0, -1]),
        ([[37, -74], [41, -82]], [37, 41], [1, -2]),
        ([[0, 0], [0, -6]], [0, 1], [0, -6]),
        (np.ones((3, 4)), [1, 1, 1], [1, 1, 1, 1]),
        (np.zeros((2, 2)), [0, 0], [0, 0]),
    ],
)
def test_factors_of_integers_are_integers(kernel, column, row):
    found = analysis.factor(kernel)
    assert found.error == 0
    np.testing.assert_array_equal(found.first * found.second, np.multiply.outer(column, row))
    np.testing.assert_array_equal(found.first, np.rint(found.first))
    np.testing.assert_array_equal(found.second, np.rint(found.second))


def test_what_has_no_factors():
    # of rank 2, and irreducible as polynomials
    laplacian = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    assert analysis.factor(laplacian) is None
    assert analysis.factor(laplacian, size=2) is None
    # 1 + z + z^2 has no real root, so a row of three ones is no product of two rows of two
    assert analysis.factor([[1, 1, 1]], size=(1, 2)) is None
    assert analysis.factor(np.ones((3, 3)), size=2) is None
    assert analysis.factor([[1, 2, 1]], size=(1, 2)).error == 0


@pytest.mark.parametrize("times", [2, 4, 6])
def test_a_factor_that_stands_several_times(times):
    kernel = np.ones((1, 1))
    for _ in range(times):
        kernel = analysis.compose(kernel, np.ones((2, 2))).kernel
    found = analysis.factor(kernel, size=2)
    assert found.error == 0
    np.testing.assert_array_equal(found.first, np.ones((2, 2)))


def test_a_column_that_is_not_all_of_the_kernels(rng):
    column, rest = np.array([[1.0], [2.0], [-3.0]]), integers(rng, 4, 1)
    kernel = analysis.compose(column, rest).kernel
    found = analysis.factor(kernel, size=(3, 1))
    # a column splits in many ways, not all of them in integers
    assert found.relative_error < 1e-10 and [k.shape for k in found] == [(3, 1), (4, 1)]


@pytest.mark.parametrize("case", range(60))
def test_factor_into_two_kernels(rng, case):
    sizes = [tuple(int(n) for n in rng.integers(1, 5, 2)) for _ in range(2)]
    k1, k2 = (rng.standard_normal(size) for size in sizes)
    kernel = analysis.compose(k1, k2).kernel
    found = analysis.factor(kernel, size=sizes[0])
    assert found is not None
    assert [k.shape for k in found] == sizes
    assert found.error == pytest.approx(np.linalg.norm(found.product - kernel), abs=1e-15)
    assert found.relative_error <= 1e-10
    np.testing.assert_allclose(found.product, kernel, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", range(20))
def test_factor_into_two_kernels_of_integers(rng, case):
    k1, k2 = integers(rng, 2, 2), integers(rng, 3, 3)
    kernel = analysis.compose(k1, k2).kernel
    found = analysis.factor(kernel, size=2)
    assert found.error == 0
    np.testing.assert_array_equal(analysis.compose(*found).kernel, kernel)


def test_factor_in_least_squares(rng):
    # a column and a row: the error is what the other singular values hold (Eckart and Young)
    kernel = rng.standard_normal((5, 4))
    found = analysis.factor(kernel, least_squares=True)
    values = np.linalg.svd(kernel, compute_uv=False)
    assert found.error == pytest.approx(np.sqrt((values[1:] ** 2).sum()))
    assert found.relative_error == pytest.approx(found.error / np.linalg.norm(kernel))
    assert analysis.factor(kernel) is None
    # two kernels: 1 + z + z^2 is nearest to a (b + z)^2, by hand: a = 4/3 or so; no start is better
    found = analysis.factor([[1, 1, 1]], size=(1, 2), least_squares=True)
    t = np.linspace(-2, 2, 401)
    a, b, c, d = np.meshgrid(t[::10], t[::10], t[::10], t[::10])
    grid = np.sqrt((a * c - 1) ** 2 + (a * d + b * c - 1) ** 2 + (b * d - 1) ** 2)
    assert 0.1 < found.error <= grid.min() + 1e-12
    assert found.error > grid.min() - 0.05
    assert found.error == pytest.approx(np.linalg.norm(found.product - 1))


def test_tolerance_of_factor():
    kernel = np.multiply.outer([1.0, 0.3], [0.7, 1.1])
    kernel[0, 0] += 1e-7
    assert analysis.factor(kernel) is None
    assert analysis.factor(kernel, rtol=1e-6).relative_error > 1e-9
    assert analysis.factor(kernel.astype(np.float32)) is not None


def test_separate(rng):
    kernel = rng.standard_normal((5, 7))
    values = np.linalg.svd(kernel, compute_uv=False)
    for terms in range(1, 6):
        found = analysis.separate(kernel, terms)
        assert len(found) == terms and found.columns.shape == (terms, 5)
        rest = np.sqrt((values[terms:] ** 2).sum())
        assert found.error == pytest.approx(rest, abs=1e-14)
        assert found.relative_error == pytest.approx(rest / np.linalg.norm(kernel), abs=1e-14)
    np.testing.assert_allclose(analysis.separate(kernel).product, kernel, rtol=0, atol=1e-14)
    assert len(analysis.separate(kernel)) == 5
    assert len(analysis.separate(np.ones((4, 4)))) == 1
    assert len(analysis.separate(np.zeros((4, 4)))) == 1
    assert str(analysis.separate(np.eye(3), 1)).startswith("1 column times row, error 1.41")
    # filtering by columns, then rows
    x = integers(rng, 1, 9, 9)
    parts = analysis.separate([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    y = sum(
        fc.conv2d(fc.conv2d(x, c[None, None, :, None]), r[None, None, None])
        for c, r in zip(parts.columns, parts.rows, strict=True)
    )
    assert_close(y, Convolution(parts.product)(x), length=40, magnitude=40)


# --- pooling as convolutions


@pytest.mark.parametrize(
    "kernel, stride, padding", [(2, None, 0), (3, 2, 1), ((2, 4), (1, 3), (1, 2))]
)
def test_avg_pool_as_conv(rng, kernel, stride, padding):
    x = integers(rng, 2, 3, 9, 8)
    conv = analysis.avg_pool_as_conv(3, kernel, stride, padding)
    expected = fc.avg_pool2d(x, kernel, stride, padding)
    assert_close(conv(x), expected, length=20, magnitude=9)
    # exactly, where the divisor is 1; and a power of two
    conv = analysis.avg_pool_as_conv(3, kernel, stride, padding, divisor_override=-4)
    expected = fc.avg_pool2d(x, kernel, stride, padding, divisor_override=-4)
    np.testing.assert_array_equal(conv(x), expected)
    # the quotient of two, where padding does not count
    box = analysis.avg_pool_as_conv(3, kernel, stride, padding, divisor_override=1)
    expected = fc.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)
    assert_close(box(x) / box(np.ones_like(x)), expected, length=20, magnitude=9)
    assert analysis.avg_pool_as_conv(2, 2, dtype=np.float32).weight.dtype == np.float32


@pytest.mark.parametrize(
    "kernel, stride, padding",
    [(1, 1, 0), (2, None, 0), (3, 2, 1), (3, 1, ((1, 0), (0, 1))), ((2, 5), (3, 1), (1, 2))],
)
def test_max_pool_by_relu(rng, kernel, stride, padding):
    x = integers(rng, 2, 3, 9, 8)
    for image in (x, x - 100, x[0]):
        np.testing.assert_array_equal(
            analysis.max_pool_by_relu(image, kernel, stride, padding),
            fc.max_pool2d(image, kernel, stride, padding),
        )
    x = rng.standard_normal((2, 3, 9, 8)).astype(np.float32)
    assert_close(
        analysis.max_pool_by_relu(x, kernel, stride, padding),
        fc.max_pool2d(x, kernel, stride, padding),
        length=10,
        magnitude=2 * largest(x),
    )


# --- costs


def counted_by_hand(x_shape, weight_shape, stride, padding, dilation, groups, bias):
    """Products and additions of the four passes, one at a time."""
    N, C, H, W = x_shape
    K, c, R, S = weight_shape
    P, Q = analysis.output_shape((H, W), (R, S), stride, padding, dilation)
    into_outputs, into_pixels, into_weights, into_biases = {}, {}, {}, {}
    for n, k, p, q in itertools.product(range(N), range(K), range(P), range(Q)):
        into_biases[k] = into_biases.get(k, 0) + 1
        for i, r, s in itertools.product(range(c), range(R), range(S)):
            channel = k // (K // groups) * c + i
            pixel = n, channel, p * stride + r * dilation, q * stride + s * dilation
            for sums, key in (
                (into_outputs, (n, k, p, q)),
                (into_pixels, pixel),
                (into_weights, (k, i, r, s)),
            ):
                sums[key] = sums.get(key, 0) + 1
    products = sum(into_outputs.values())
    additions = [
        sum(n - 1 for n in sums.values())
        for sums in (into_outputs, into_pixels, into_weights, into_biases)
    ]
    additions[0] += bias * len(into_outputs)
    return products, additions


@pytest.mark.parametrize(
    "x_shape, weight_shape, stride, padding, dilation, groups",
    [
        ((1, 1, 5, 6), (1, 1, 3, 2), 1, 0, 1, 1),
        ((2, 4, 7, 6), (6, 2, 3, 3), 2, 1, 1, 2),
        ((2, 3, 8, 8), (2, 3, 2, 2), 3, 1, 2, 1),
        ((3, 3, 4, 4), (3, 1, 1, 1), 2, 0, 1, 3),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_conv2d_cost_counts(x_shape, weight_shape, stride, padding, dilation, groups, bias):
    arguments = x_shape, weight_shape, stride, padding, dilation, groups
    products, additions = counted_by_hand(*arguments, bias)
    cost = analysis.conv2d_cost(*arguments, bias=bias, dtype=np.float64)
    passes = [cost.forward, cost.grad_input, cost.grad_weight]
    assert [p.multiplications for p in passes] == [products] * 3
    assert [p.additions for p in passes] == additions[:3]
    assert cost.backward.multiplications == 2 * products
    x, w = int(np.prod(x_shape)), int(np.prod(weight_shape))
    y, b = int(np.prod(cost.output_shape)), weight_shape[0] * bias
    assert cost.parameters == w + b and cost.held_for_backward == 8 * x
    assert (cost.forward.bytes_read, cost.forward.bytes_written) == (8 * (x + w + b), 8 * y)
    assert (cost.grad_input.bytes_read, cost.grad_input.bytes_written) == (8 * (w + y), 8 * x)
    assert (cost.grad_weight.bytes_read, cost.grad_weight.bytes_written) == (8 * (x + y), 8 * w)
    assert cost.forward.memory == 8 * (x + w + b + y)
    # input, weight and their gradients, gradient of output, gradient of bias
    assert cost.backward.memory == 8 * (2 * x + 2 * w + y + b)
    if bias:
        assert cost.grad_bias.additions == additions[3] and cost.grad_bias.bytes == 8 * (y + b)
        assert cost.backward.additions == sum(additions[1:])
    else:
        assert cost.grad_bias is None
    # what im2col has beside
    unfolded = analysis.conv2d_cost(*arguments, method="im2col", bias=bias, dtype=np.float64)
    assert unfolded.forward.multiplications == products
    patches = (
        8 * x_shape[1] * weight_shape[2] * weight_shape[3] * y // x_shape[0] // weight_shape[0]
    )
    assert unfolded.forward.workspace == unfolded.backward.workspace == patches
    assert unfolded.forward.bytes == cost.forward.bytes + 2 * x_shape[0] * patches
    assert unfolded.backward.memory == cost.backward.memory + patches


def test_conv2d_cost_agrees_with_the_summary():
    summary = nn.lenet(seed=0).summary((4, 1, 28, 28))
    cost = analysis.conv2d_cost((4, 1, 28, 28), (6, 1, 5, 5), padding=2, bias=True)
    assert cost.parameters == summary.layers[0].parameters
    assert 2 * cost.forward.multiplications == cost.forward.flops == summary.layers[0].flops
    assert cost.forward.bytes == summary.layers[0].bytes
    pooled = analysis.pool2d_cost((4, 6, 28, 28), 2, kind="avg")
    assert pooled.forward.bytes == summary.layers[2].bytes
    assert pooled.forward.flops == summary.layers[2].flops


def test_conv2d_cost_of_one_by_one():
    direct = analysis.conv2d_cost((16, 9, 9), (8, 16, 1, 1))
    pointwise = analysis.conv2d_cost((16, 9, 9), (8, 16, 1, 1), method="pointwise")
    assert direct.forward == pointwise.forward
    planes = (16, 9, 9), (16, 1, 3, 3)
    by_plane = analysis.conv2d_cost(*planes, groups=16, method="depthwise")
    assert by_plane.forward == analysis.conv2d_cost(*planes, groups=16).forward
    assert direct.forward.multiplications == 16 * 8 * 9 * 9


def test_pool2d_cost():
    # windows apart: 6 x 14 x 14 of them, 4 pixels each
    cost = analysis.pool2d_cost((1, 6, 28, 28), 2)
    assert cost.forward.comparisons == 6 * 14 * 14 * 3 and cost.forward.multiplications == 0
    assert cost.held_for_backward == 8 * 6 * 14 * 14 and cost.backward.flops == 0
    assert cost.parameters == 0
    assert cost.forward == analysis.pool2d_cost((6, 28, 28), 2, kind="min").forward
    inference = analysis.pool2d_cost((1, 6, 28, 28), 2, training=False)
    assert cost.forward.bytes_written - inference.forward.bytes_written == 8 * 6 * 14 * 14
    # overlapping, with padding: 14 windows of 9 an axis squared; they cover 29 of the 30 rows
    cost = analysis.pool2d_cost((1, 6, 28, 28), 3, 2, 1, kind="avg")
    outputs = 6 * 14 * 14
    assert cost.output_shape == (1, 6, 14, 14)
    assert cost.forward.additions == outputs * 8 and cost.forward.multiplications == outputs
    assert cost.backward.multiplications == outputs
    assert cost.backward.additions == outputs * 9 - 6 * 29 * 29
    assert cost.held_for_backward == 0
    assert analysis.pool2d_cost((1, 6, 28, 28), 3, 2, 1).backward.additions == outputs
    assert "comparisons" not in str(cost) and "additions" in str(cost)


def counted_softmax(image, kernel, stride, padding):
    """What a plain softmax pooling and its gradient do, one operation at a time."""
    forward = dict.fromkeys(("multiplications", "additions", "comparisons", "exponentials"), 0)
    backward = dict(forward)
    arrived = set()
    R, S = kernel
    P, Q = analysis.output_shape(image, kernel, stride, padding)
    for p, q in itertools.product(range(P), range(Q)):
        window = [(p * stride + r, q * stride + s) for r in range(R) for s in range(S)]
        for count in (forward, backward):  # backward from the input: all of it again
            count["comparisons"] += len(window) - 1  # the largest
            for i, _ in enumerate(window):
                count["additions"] += 1  # x - m
                count["multiplications"] += 1  # by beta
                count["exponentials"] += 1
                count["multiplications"] += 1  # x e
                count["additions"] += 2 * (i > 0)  # to both sums
            count["multiplications"] += 1  # one over the other: y
        backward["multiplications"] += 1  # dy over the sum
        for pixel in window:
            backward["multiplications"] += 3  # e, beta, the two factors
            backward["additions"] += 2  # x - y, 1 +
            backward["additions"] += pixel in arrived
            arrived.add(pixel)
    return forward, backward


@pytest.mark.parametrize(
    "kernel, stride, padding", [((2, 2), 2, 0), ((3, 2), 1, 1), ((2, 3), 3, 1), ((1, 1), 2, 0)]
)
def test_pool2d_cost_of_softmax_counts(kernel, stride, padding):
    cost = analysis.pool2d_cost((2, 3, 7, 8), kernel, stride, padding, kind="softmax")
    for found, counted in zip(
        (cost.forward, cost.backward),
        counted_softmax((7, 8), kernel, stride, padding),
        strict=True,
    ):
        assert {name: getattr(found, name) for name in counted} == {
            name: 2 * 3 * n for name, n in counted.items()
        }
    x, y = 4 * 2 * 3 * 7 * 8, 4 * int(np.prod(cost.output_shape))
    assert cost.held_for_backward == x
    assert (cost.forward.bytes_read, cost.forward.bytes_written) == (x, y)
    assert (cost.backward.bytes_read, cost.backward.bytes_written) == (x + y, x)
    assert cost.backward.memory == 2 * x + y
    assert "exponentials" in str(cost) and "exponentials" not in str(
        analysis.pool2d_cost((2, 3, 7, 8), kernel)
    )


@pytest.mark.parametrize("kind", ["max", "min"])
def test_pool2d_cost_of_an_extreme_counts(kind):
    # 3x3 windows of stride 2 on 7x7: 3 x 3 of them, 8 comparisons each; they overlap
    cost = analysis.pool2d_cost((2, 7, 7), 3, 2, kind=kind)
    assert cost.forward.comparisons == 2 * 9 * 8
    assert (cost.forward.multiplications, cost.forward.additions) == (0, 0)
    assert cost.forward.exponentials == 0
    # at most: the centre of each pair of windows wins both
    assert cost.backward.additions == 2 * 9


def test_pool2d_cost_agrees_with_the_summary():
    shape = 4, 6, 28, 28
    for layer in (nn.AvgPool2d(2), nn.SoftmaxPool2d(3, 2, 1)):
        cost = analysis.pool2d_cost(shape, layer.kernel_size, layer.stride, layer.padding,
                                    kind=layer.kind)  # fmt: skip
        assert layer.flops(shape) == cost.forward.flops + cost.forward.exponentials


def test_doubling():
    table = analysis.doubling((16, 32, 32), (16, 16, 3, 3), padding=1)
    factors = {row.doubled: row.multiplications for row in table}
    assert factors["input channels"] == factors["output channels"] == factors["batch"] == 2
    assert factors["both channels"] == factors["image"] == 4
    assert factors["stride"] == 1 / 4
    assert factors["padding"] == 34**2 / 32**2
    assert factors["kernel"] == 4 * 29**2 / 32**2
    assert table["both channels"].parameters == 4 and table["stride"].parameters == 1
    assert table["image"].held_for_backward == 4 and table["padding"].held_for_backward == 1
    assert table["output channels"].output == 2
    # what cannot be doubled is said
    table = analysis.doubling((1, 3, 3), (1, 1, 3, 3), padding="valid")
    assert [what for what, _ in table.left_out] == ["kernel", "padding"]
    assert "does not fit" in str(table) and "not padding: 'valid'" in str(table)
    # groups
    table = analysis.doubling((4, 8, 8), (6, 2, 3, 3), groups=2)
    assert table["both channels"].multiplications == 4


# --- receptive fields


def from_gradients(net, x, layer, position):
    """Which pixels count for an output, on a net whose weights are positive."""
    return analysis.sensitivity(net, x, layer, position) > 0


@pytest.mark.parametrize("pool", nn.POOLS)
@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
def test_receptive_field_of_lenet_from_gradients(rng, pool, activation):
    net = nn.lenet(activation, pool, seed=0, dtype=np.float64)
    for parameter in net.parameters():  # small, so that nothing saturates to a gradient of 0
        np.abs(parameter.data, out=parameter.data)
        parameter.data /= 20
    x = rng.uniform(0, 1, (40 if pool in ("max", "min") else 2, 1, 28, 28))
    if pool == "min":  # or the zeros round the image would be the least, always
        x, net[0].bias.data[...] = -x, 1
    fields = analysis.receptive_field(net, x.shape)
    assert [f.size for f in fields][:6] == [(n, n) for n in (5, 5, 6, 14, 14, 16)]
    assert [f.jump for f in fields][:6] == [(n, n) for n in (1, 1, 2, 2, 2, 4)]
    assert [f.start for f in fields][:6] == [(-2, -2)] * 6
    assert all(f.size is None for f in fields.layers[6:])
    for layer, outputs in zip(range(6), (28, 28, 14, 10, 10, 5), strict=True):
        for p in (0, outputs // 2, outputs - 1):
            top, bottom, left, right = fields[layer].box(p, outputs // 2)
            expected = np.zeros((28, 28), bool)
            expected[max(top, 0) : bottom, max(left, 0) : right] = True
            found = from_gradients(net, x, layer, (p, outputs // 2))
            rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
            box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            assert box == (max(top, 0), min(bottom, 28), max(left, 0), min(right, 28))
            np.testing.assert_array_equal(found, expected)
    # a linear layer sees all that the layers before it look at
    assert from_gradients(net, x, 7, None).all()


@pytest.mark.parametrize("stride, size", [(1, (3, 3)), (2, None), ((2, 1), None)])
def test_receptive_field_of_a_transposed_convolution(rng, stride, size):
    layer = nn.ConvTranspose2d(1, 1, 3, stride, 1, rng=0, dtype=np.float64)
    np.abs(layer.weight.data, out=layer.weight.data)
    net = nn.Sequential(nn.Conv2d(1, 1, 1, rng=0, dtype=np.float64), layer, nn.ReLU())
    fields = analysis.receptive_field(net, (1, 6, 7))
    assert [f.size for f in fields] == [(1, 1), size, size]
    assert [f.reach for f in fields][1:] == 2 * ["window" if size else "varies"]
    assert net.summary((1, 1, 6, 7)).layers[2].receptive_field == size
    assert str(fields).splitlines()[2].split()[2] == ("3" if size else "varies")
    # a stride of 2 spreads 3 taps over outputs that see one pixel or two, in turn
    if stride == 2:
        assert [len(fields.pixels(1, p, 0)[0]) for p in range(1, 6)] == [2, 1, 2, 1, 2]
    if size:
        assert fields[1].start == (-1, -1)
    behind = nn.Sequential(*net, nn.Flatten())
    assert analysis.receptive_field(behind)[-1].reach == "all"


def test_receptive_field_of_lines():
    net = nn.Sequential(
        nn.Conv1d(2, 4, 5, stride=2, padding=2, rng=0),
        nn.ReLU(),
        nn.Conv1d(4, 1, 3, padding=((0, 1),), dilation=3, rng=0),
    )
    fields = analysis.receptive_field(net, (1, 2, 40))
    # 5 + (3 - 1) * 3 * 2 samples, two further on from one output to the next
    assert [f.size for f in fields] == [(1, 5), (1, 5), (1, 17)]
    assert fields[-1].jump == (1, 2) and fields[-1].start == (0, -2)
    rows, columns = fields.pixels(-1, 0, 1)
    assert rows.tolist() == [0]
    assert columns.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16]
    assert net.summary((1, 2, 40)).layers[-1].receptive_field == (1, 17)


def some_net(rng):
    layers, channels = [], 1
    for _ in range(int(rng.integers(1, 5))):
        kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
        stride = tuple(int(n) for n in rng.integers(1, 4, 2))
        kind = rng.integers(4)
        if kind < 3:
            options = {"rng": int(rng.integers(99)), "dtype": np.float64}
            options["dilation"] = int(rng.integers(1, 3))
            if kind < 2:
                padding = some_padding(rng, (2, 2))
                layer = nn.Conv2d(channels, 2, kernel, stride, padding, **options)
            else:
                padding = tuple(int(n) for n in rng.integers(0, 3, 2))
                extra = int(rng.integers(0, max(min(stride), options["dilation"])))
                layer = nn.ConvTranspose2d(channels, 2, kernel, stride, padding, extra, **options)
            np.abs(layer.weight.data, out=layer.weight.data)
            np.abs(layer.bias.data, out=layer.bias.data)
            layers += [layer, nn.ReLU()] if kind else [layer]
            channels = 2
        else:
            padding = tuple(n // 2 for n in kernel)
            layers.append(nn.AvgPool2d(kernel, stride, padding, ceil_mode=bool(rng.integers(2))))
    return nn.Sequential(nn.Sequential(*layers[:1]), *layers[1:])


@pytest.mark.parametrize("case", range(120))
def test_pixels_are_those_with_a_gradient(rng, case):
    while True:
        net, x = some_net(rng), rng.uniform(1, 2, (1, 1, 17, 15))
        try:
            outputs = net.output_shape(x.shape)[2:]
        except ValueError:  # the image got too small
            continue
        break
    fields = analysis.receptive_field(net, x.shape)
    for row, column in {
        (0, 0),
        (outputs[0] // 2, outputs[1] // 2),
        (outputs[0] - 1, outputs[1] - 1),
    }:
        rows, columns = fields.pixels(-1, row, column)
        expected = np.zeros((17, 15), bool)
        expected[np.ix_(rows, columns)] = True
        np.testing.assert_array_equal(from_gradients(net, x, -1, (row, column)), expected)
        # and all of them in the box
        if fields[-1].size is None:
            assert fields[-1].reach == "varies"
            continue
        top, bottom, left, right = fields[-1].box(row, column)
        assert all((top <= rows) & (rows < bottom)) and all((left <= columns) & (columns < right))


def test_receptive_fields_as_data():
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=2, padding="same"), nn.ReLU(), nn.Flatten())
    with pytest.raises(ValueError, match="input_shape: layer '0' with padding 'same' and stride"):
        analysis.receptive_field(net)
    fields = analysis.receptive_field(net, (1, 9, 8))
    assert len(fields) == 3 and fields["1"] == fields[1] == fields.layers[1]
    assert fields[0].size == (3, 5) and fields[0].start == (-1, -1) and fields[0].centre == (0, 1)
    assert fields[2].centre is None and fields[2].box(0, 0) is None
    rows, columns = fields.pixels("2", 0, 0)
    assert (len(rows), len(columns)) == (9, 8)
    assert str(fields).splitlines()[-1] == "2     Flatten  all"

    # what nobody knows sees all, and so does what comes after it
    class Mine(nn.Module):
        def forward(self, x):
            return x

        def backward(self, grad_output, need_input_grad=True):
            return grad_output

    net = nn.Sequential(nn.Conv2d(1, 1, 3), Mine(), nn.Conv2d(1, 1, 3))
    assert [f.size for f in analysis.receptive_field(net)] == [(3, 3), None, None]


def test_sensitivity_leaves_the_network_alone(rng):
    net = nn.lenet(seed=0)
    x = rng.standard_normal((2, 1, 28, 28)).astype(np.float32)
    net(x)
    net.backward(np.ones((2, 10), np.float32))
    before = [p.grad.copy() for p in net.parameters()]
    net(x)
    found = analysis.sensitivity(net, x)
    assert found.shape == (28, 28) and net.training
    assert all((p.grad == b).all() for p, b in zip(net.parameters(), before, strict=True))
    net.backward(np.ones((2, 10), np.float32))  # the context of the call before is still there
    # by hand: the gradient of the sum of a linear layer's outputs
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=0, dtype=np.float64))
    expected = np.abs(linear[1].weight.data.sum(axis=0)).reshape(2, 2)
    np.testing.assert_allclose(analysis.sensitivity(linear, np.ones((1, 2, 2), int)), expected)


# --- equivariance


def test_a_convolution_moves_with_the_image(rng):
    x = integers(rng, 2, 3, 14, 12)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, rng=0, dtype=np.float64),
        nn.Tanh(),
        nn.Conv2d(4, 2, 3, dilation=2, padding="same", rng=1, dtype=np.float64),
    )
    for shift in ((0, 0), (1, 0), (-2, 3), (3, -1)):
        found = analysis.shift_equivariance(net, x, shift)
        assert found.error <= 1e-14 and found.magnitude > 0.1
        assert found.whole and found.output_shift == shift
        rows, columns = (n - 6 - abs(d) for n, d in zip((14, 12), shift, strict=True))
        assert found.compared == 2 * 2 * rows * columns
    assert analysis.shift_equivariance(net, x, 2).shift == (2, 2)
    assert net.training


def test_strides_and_pooling_move_in_steps(rng):
    x = integers(rng, 1, 16, 16)
    for net in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(1, 2, 3, stride=2, padding=1, rng=0)):
        whole = analysis.shift_equivariance(net, x, (2, -4))
        assert whole.whole and whole.output_shift == (1, -2) and whole.error == 0
        half = analysis.shift_equivariance(net, x, (1, 0))
        assert not half.whole and half.output_shift == (1, 0) and half.error > 0.5
        assert "(the nearest)" in str(half) and half.relative_error == half.error / half.magnitude


def test_what_is_not_equivariant(rng):
    x = integers(rng, 1, 8, 8)
    fixed = integers(rng, 1, 8, 8)
    found = analysis.shift_equivariance(lambda image: image * fixed, x, 1, window=(1, 1, 0))
    assert found.error > 1 and found.compared == 49
    # a mean over all pixels is invariant, but for what leaves the image
    mean = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())
    inside = np.zeros((1, 8, 8))
    inside[:, 2:6, 2:6] = fixed[:, 2:6, 2:6]
    found = analysis.shift_equivariance(mean, inside[None], (2, -1))
    assert found.output_shift is None and found.error <= 1e-15 and "outputs stay" in str(found)
    assert analysis.shift_equivariance(mean, inside[None], 5).error > 0.01


# --- wrong calls


def no_scipy():
    code = (
        "import sys; sys.modules['scipy.sparse'] = None\n"
        "import numpy as np, fastconv as fc\n"
        "fc.analysis.conv_matrix(np.ones((1, 1, 1, 1)), (1, 2, 2))\n"
        "fc.analysis.conv_matrix(np.ones((1, 1, 1, 1)), (1, 2, 2), sparse=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    raise ImportError(done.stderr.strip().splitlines()[-1])


X, K33, W4 = np.ones((1, 8, 8)), np.ones((3, 3)), np.ones((4, 3, 3, 3))
NET = nn.Sequential(nn.Conv2d(1, 1, 3, rng=0), nn.Flatten())

ERRORS = {
    "output_shape, kind": (
        lambda: analysis.output_shape(2.5, 3),
        TypeError,
        "input_shape: expected an integer or at least two, got 2.5",
    ),
    "output_shape, one size": (
        lambda: analysis.output_shape((5,), 3),
        ValueError,
        r"input_shape: expected an integer or at least two, got \(5,\)",
    ),
    "output_shape, nothing": (
        lambda: analysis.output_shape((0, 5), 3),
        ValueError,
        r"input_shape: expected H and W of at least 1, got \(0, 5\)",
    ),
    "output_shape, kernel": (
        lambda: analysis.output_shape((4, 4), 3, dilation=2),
        ValueError,
        r"kernel_size: a 3x3 window \(dilation \(2, 2\)\) does not fit the padded input of 4x4; "
        "the output would be 0x0",
    ),
    "output_shape, padding": (
        lambda: analysis.output_shape((4, 4), 3, padding=-1),
        ValueError,
        "padding: expected at least 0, got -1",
    ),
    "conv_matrix, shape": (
        lambda: analysis.conv_matrix(W4, (8, 8)),
        ValueError,
        r"input_shape: expected 3 or 4 sizes, got \(8, 8\)",
    ),
    "conv_matrix, weight": (
        lambda: analysis.conv_matrix(W4, (2, 8, 8)),
        ValueError,
        r"weight: expected 2 input channels \(input has 2, groups 1\), got shape \(4, 3, 3, 3\)",
    ),
    "conv_matrix, dtype": (
        lambda: analysis.conv_matrix(W4, (3, 8, 8), dtype=np.int64),
        TypeError,
        "dtype: expected float32 or float64, got <class 'numpy.int64'>",
    ),
    "conv_matrix, no SciPy": (
        no_scipy,
        ImportError,
        r"ImportError: sparse matrices need SciPy \(.*\); install it with: pip install scipy",
    ),
    "fully_connected_equivalent, window": (
        lambda: analysis.fully_connected_equivalent(W4),
        ValueError,
        r"weight: expected a 1x1 window, got shape \(4, 3, 3, 3\); a larger .*: conv_matrix",
    ),
    "fully_connected_equivalent, axes": (
        lambda: analysis.fully_connected_equivalent(K33),
        ValueError,
        r"weight: expected shape \(K, C/groups, 1, 1\), got \(3, 3\)",
    ),
    "fully_connected_equivalent, groups": (
        lambda: analysis.fully_connected_equivalent(np.ones((4, 2, 1, 1)), 3),
        ValueError,
        "groups: expected a divisor of the 6 input and 4 output channels, got 3",
    ),
    "Convolution, weight": (
        lambda: Convolution(np.ones(3)),
        ValueError,
        r"weight: expected shape \(K, C/groups, R, S\) or \(R, S\), got \(3,\)",
    ),
    "Convolution, bias": (
        lambda: Convolution(K33, bias=[1.0, 2.0]),
        ValueError,
        r"bias: expected shape \(1,\), got \(2,\)",
    ),
    "Convolution, padding": (
        lambda: Convolution(K33, stride=2, padding="same"),
        ValueError,
        r"padding: expected integers, because 'same' with stride \(2, 2\) depends on the input's "
        "size",
    ),
    "Convolution, kernel": (
        lambda: Convolution(W4).kernel,
        ValueError,
        r"weight: expected one channel, got shape \(4, 3, 3, 3\)",
    ),
    "compose, array": (
        lambda: analysis.compose(K33, ["a"]),
        TypeError,
        "k2: weight: expected real numbers of up to 64 bits, got dtype <U1",
    ),
    "compose, channels": (
        lambda: analysis.compose(W4, W4),
        ValueError,
        r"k2: expected 4 input channels, what k1 makes, got 3 \(weight \(4, 3, 3, 3\), groups 1\)",
    ),
    "compose, transposed": (
        lambda: analysis.compose(nn.ConvTranspose2d(1, 1, 3, rng=0), K33),
        TypeError,
        "k1: expected an nn.Conv2d or a kernel, got ConvTranspose2d",
    ),
    "factor, axes": (
        lambda: analysis.factor(W4),
        ValueError,
        r"kernel: expected shape \(R, S\), got \(4, 3, 3, 3\)",
    ),
    "factor, NaN": (
        lambda: analysis.factor([[np.nan]]),
        ValueError,
        "kernel: expected finite numbers, got NaN or infinity",
    ),
    "factor, size": (
        lambda: analysis.factor(K33, size=(4, 1)),
        ValueError,
        "size: expected at most the kernel's 3x3, got 4x1",
    ),
    "factor, rtol": (
        lambda: analysis.factor(K33, rtol=1.0),
        ValueError,
        "rtol: expected at least 0 and less than 1, got 1.0",
    ),
    "factor, rtol's kind": (
        lambda: analysis.factor(K33, rtol="small"),
        TypeError,
        "rtol: expected a number, got 'small'",
    ),
    "separate, terms": (
        lambda: analysis.separate(np.ones((3, 5)), 4),
        ValueError,
        "terms: expected at most 3 for a 3x5 kernel, got 4",
    ),
    "avg_pool_as_conv, channels": (
        lambda: analysis.avg_pool_as_conv(0, 2),
        ValueError,
        "channels: expected at least 1, got 0",
    ),
    "avg_pool_as_conv, divisor": (
        lambda: analysis.avg_pool_as_conv(1, 2, divisor_override=0),
        ValueError,
        "divisor_override: expected a number other than 0, got 0",
    ),
    "avg_pool_as_conv, dtype": (
        lambda: analysis.avg_pool_as_conv(1, 2, dtype=int),
        TypeError,
        "dtype: expected float32 or float64, got <class 'int'>",
    ),
    "max_pool_by_relu, infinity": (
        lambda: analysis.max_pool_by_relu(X * np.inf, 2),
        ValueError,
        "input: expected finite numbers, got NaN or infinity",
    ),
    "max_pool_by_relu, padding": (
        lambda: analysis.max_pool_by_relu(X, 2, padding=2),
        ValueError,
        "padding: expected at most half the 2x2 kernel, .*",
    ),
    "conv2d_cost, method": (
        lambda: analysis.conv2d_cost((3, 8, 8), W4.shape, method="fast"),
        ValueError,
        "method: expected one of direct, im2col, pointwise, depthwise, got 'fast'",
    ),
    "conv2d_cost, depthwise": (
        lambda: analysis.conv2d_cost((3, 8, 8), W4.shape, method="depthwise"),
        ValueError,
        "method: 'depthwise' cannot serve this convolution: it takes one input channel in a "
        "group, got 3",
    ),
    "conv2d_cost, pointwise": (
        lambda: analysis.conv2d_cost((3, 8, 8), W4.shape, method="pointwise"),
        ValueError,
        "method: 'pointwise' cannot serve this convolution: it takes 1x1 kernels without padding, "
        r"got 3x3 and \(0, 0, 0, 0\)",
    ),
    "conv2d_cost, shape": (
        lambda: analysis.conv2d_cost((8, 8), W4.shape),
        ValueError,
        r"input_shape: expected 3 or 4 sizes, got \(8, 8\)",
    ),
    "conv2d_cost, dtype": (
        lambda: analysis.conv2d_cost((3, 8, 8), W4.shape, dtype="integer"),
        TypeError,
        "dtype: expected a dtype, got 'integer'",
    ),
    "conv2d_cost, nothing": (
        lambda: analysis.conv2d_cost((0, 3, 8, 8), W4.shape),
        ValueError,
        r"input_shape: expected at least one image, got \(0, 3, 8, 8\)",
    ),
    "pool2d_cost, kind": (
        lambda: analysis.pool2d_cost((3, 8, 8), 2, kind="sum"),
        ValueError,
        "kind: expected one of max, min, avg, softmax, got 'sum'",
    ),
    "pool2d_cost, dilation": (
        lambda: analysis.pool2d_cost((3, 8, 8), 2, dilation=2, kind="avg"),
        ValueError,
        "dilation: expected 1 for kind 'avg', got 2",
    ),
    "pool2d_cost, ceil_mode": (
        lambda: analysis.pool2d_cost((3, 8, 8), 3, ceil_mode=True, kind="softmax"),
        ValueError,
        "ceil_mode: expected False for kind 'softmax', got True",
    ),
    "doubling, name": (
        lambda: analysis.doubling((3, 8, 8), W4.shape)["depth"],
        KeyError,
        "\"doubled: expected one of input channels, .*, batch, got 'depth'\"",
    ),
    "receptive_field, net": (
        lambda: analysis.receptive_field([3, 5]),
        TypeError,
        "net: expected a network of fastconv.nn, got list",
    ),
    "receptive_field, shape": (
        lambda: analysis.receptive_field(NET, (28, 28)),
        ValueError,
        r"input_shape: expected 3 or 4 sizes, got \(28, 28\)",
    ),
    "pixels, shape": (
        lambda: analysis.receptive_field(NET).pixels(0, 0, 0),
        ValueError,
        "input_shape: pixels needs it; give it to receptive_field",
    ),
    "pixels, row": (
        lambda: analysis.receptive_field(NET, X.shape).pixels(0, 6, 0),
        ValueError,
        "row: expected 0 to 5, got 6",
    ),
    "layer, position": (
        lambda: analysis.receptive_field(NET)[2],
        ValueError,
        "layer: expected a position from -2 to 1, got 2",
    ),
    "layer, name": (
        lambda: analysis.sensitivity(NET, X, "conv"),
        ValueError,
        "layer: expected one of 0, 1, got 'conv'",
    ),
    "layer, kind": (
        lambda: analysis.sensitivity(NET, X, 0.5),
        TypeError,
        "layer: expected a position or a name, got 0.5",
    ),
    "sensitivity, x": (
        lambda: analysis.sensitivity(NET, X[0]),
        ValueError,
        r"x: expected shape \(N, C, H, W\) or \(C, H, W\), got \(8, 8\)",
    ),
    "sensitivity, no image": (
        lambda: analysis.sensitivity(NET, X[None][:0]),
        ValueError,
        r"x: expected at least one image, got shape \(0, 1, 8, 8\)",
    ),
    "sensitivity, position": (
        lambda: analysis.sensitivity(NET, X, 0, (6, 0)),
        ValueError,
        r"position: expected a row and a column of the 6x6 output, got \(6, 0\)",
    ),
    "sensitivity, no position": (
        lambda: analysis.sensitivity(NET, X, 1, (0, 0)),
        ValueError,
        r"position: expected None for an output of shape \(1, 36\), got \(0, 0\)",
    ),
    "shift_equivariance, net": (
        lambda: analysis.shift_equivariance("lenet", X, 1),
        TypeError,
        "net: expected a network or a function, got str",
    ),
    "shift_equivariance, x": (
        lambda: analysis.shift_equivariance(NET, X[0], 1),
        ValueError,
        r"x: expected shape \(N, C, H, W\) or \(C, H, W\), got \(8, 8\)",
    ),
    "shift_equivariance, shift": (
        lambda: analysis.shift_equivariance(NET, X, (1, 2, 3)),
        ValueError,
        r"shift: expected one integer or two, got \(1, 2, 3\)",
    ),
    "shift_equivariance, half a pixel": (
        lambda: analysis.shift_equivariance(NET, X, 0.5),
        TypeError,
        "shift: expected one integer or two, got 0.5",
    ),
    "shift_equivariance, function": (
        lambda: analysis.shift_equivariance(abs, X, 1),
        TypeError,
        r"window: expected \(size, jump, start\) where net is a function, got None",
    ),
    "shift_equivariance, window": (
        lambda: analysis.shift_equivariance(abs, X, 1, window=3),
        ValueError,
        r"window: expected \(size, jump, start\), got 3",
    ),
    "shift_equivariance, jump": (
        lambda: analysis.shift_equivariance(abs, X, 1, window=(1, 0, 0)),
        ValueError,
        r"window: expected a size and a jump of at least 1, got \(1, 0, 0\)",
    ),
    "shift_equivariance, outputs": (
        lambda: analysis.shift_equivariance(np.sum, X, 1, window=(1, 1, 0)),
        ValueError,
        r"net: expected outputs of shape \(N, K, P, Q\) where a window is given, got \(\)",
    ),
    "shift_equivariance, too far": (
        lambda: analysis.shift_equivariance(NET[:1], X, 6),
        ValueError,
        r"x: no output's receptive field of 3x3 pixels is inside the 8x8 image before and after a "
        r"shift of \(6, 6\)",
    ),
}


@pytest.mark.parametrize("call, exception, message", ERRORS.values(), ids=ERRORS)
def test_error(call, exception, message):
    with pytest.raises(exception, match=f"^{message}$"):
        call()
