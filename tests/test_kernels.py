"""What each kernel is for, as facts: derivatives of polynomials, sums, rank, SciPy's filters."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerance import assert_close, largest

from fastconv import kernels, signal

ndimage = pytest.importorskip("scipy.ndimage")

EXAMPLES = {
    "edge": kernels.edge(),
    "derivative 1": kernels.derivative(1),
    "derivative 3, smallest": kernels.derivative(3, accuracy=1),
    "derivative 4, axis 0": kernels.derivative(4, 6, axis=0, spacing=0.5),
    "laplacian": kernels.laplacian(),
    "laplacian, 8": kernels.laplacian(8),
    "sobel": kernels.sobel(),
    "prewitt": kernels.prewitt(0),
    "gabor, odd": kernels.gabor(9, 4, phase=np.pi / 2),
    "box": kernels.box((3, 4)),
    "gaussian": kernels.gaussian((5, 8)),
    "sharpen": kernels.sharpen(0.7, 8),
    "emboss": kernels.emboss(1.5, (-1, 0.5)),
}
SUM_1 = ("box", "gaussian", "sharpen", "emboss")


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (12, 17)).astype(float)


@pytest.mark.parametrize("name", EXAMPLES)
def test_sums(name):
    kernel = EXAMPLES[name]
    wanted = 1.0 if name in SUM_1 else 0.0
    length, magnitude = kernel.size, np.abs(kernel).max()
    assert_close(kernel.sum(), np.float64(wanted), length=length, magnitude=max(magnitude, 1))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_even_image(name):
    """What the sums are for: an even area stays as it is, or is nothing."""
    found = signal.filter2d(np.full((4, 5), 7.0), EXAMPLES[name])
    wanted = np.full((4, 5), 7.0 if name in SUM_1 else 0.0)
    assert_close(found, wanted, length=81, magnitude=7 * np.abs(EXAMPLES[name]).max())


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("sobel", 1),
        ("prewitt", 1),
        ("box", 1),
        ("gaussian", 1),
        ("laplacian", 2),
        ("sharpen", 2),
        ("emboss", 3),
    ],
)
def test_separability(name, rank):
    assert np.linalg.matrix_rank(EXAMPLES[name]) == rank


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", kernels._NAMED)
def test_dtypes(name, dtype):
    argument = {"derivative": (2,), "gabor": (5, 3)}.get(name)
    if argument is None:
        argument = (3,) if name in ("box", "integral", "gaussian") else ()
    kernel = getattr(kernels, name)(*argument, dtype=dtype)
    wide = getattr(kernels, name)(*argument)
    assert kernel.dtype == dtype and kernel.ndim == 2 and kernel.flags.c_contiguous
    np.testing.assert_array_equal(kernel, wide.astype(dtype))
    # a new array each time, for the caller to change
    kernel[...] = 9
    np.testing.assert_array_equal(getattr(kernels, name)(*argument), wide)


# -- derivatives

orders = st.integers(1, 6)
accuracies = st.sampled_from([1, 2, 4, 6])


def exact_degree(order, accuracy):
    """The degree up to which `derivative` is exact in its middle."""
    return order + (2 if accuracy == 1 else accuracy) - 1


def moments(order, accuracy, degrees):
    """The kernel applied to x^degree, with x = 0 in its middle."""
    kernel = kernels.derivative(order, accuracy)[0]
    x = np.arange(kernel.size) - (kernel.size - 1) / 2
    return kernel, x, [np.sum(kernel * x**degree) for degree in degrees]


@given(order=orders, accuracy=accuracies)
def test_derivatives_of_polynomials(order, accuracy):
    """x^order gives order! and every other power up to the degree promised gives 0."""
    top = exact_degree(order, accuracy)
    kernel, x, found = moments(order, accuracy, range(top + 2))
    for degree in range(top + 1):
        wanted = np.float64(np.prod(np.arange(1.0, order + 1)) if degree == order else 0.0)
        # 8: the power is rounded too
        assert_close(
            found[degree], wanted, length=8 * x.size, magnitude=np.abs(kernel * x**degree).max()
        )
    # and not one degree more: the middle is symmetric, so the first error is that of top + 1
    assert abs(found[top + 1]) > 0.1


@given(order=orders)
def test_the_smallest_kernel_is_a_row_of_binomials(order):
    smallest = kernels.derivative(order, accuracy=1)
    assert smallest.shape == (1, order + 1)
    repeated = np.ones((1, 1))
    for _ in range(order):
        repeated = signal.convolve2d(repeated, [[1.0, -1.0]])
    np.testing.assert_array_equal(smallest, repeated[:, ::-1])


@given(order=orders)
def test_no_smaller_kernel_can_do_it(order):
    """With `order` weights those that are 0 on 1, x ... x^(order - 1) are all 0."""
    x = np.arange(order) - (order - 1) / 2
    assert np.linalg.matrix_rank(np.vander(x, order)) == order


@given(order=orders, accuracy=st.sampled_from([2, 4, 6]))
def test_central_kernels(order, accuracy):
    kernel = kernels.derivative(order, accuracy)[0]
    assert kernel.size == 2 * ((order + 1) // 2) - 1 + accuracy
    np.testing.assert_array_equal(kernel, kernel[::-1] * (-1) ** order)


def test_known_derivatives():
    """From Fornberg's table 1."""
    for order, accuracy, numerators, denominator in (
        (1, 2, [-1, 0, 1], 2),
        (1, 4, [1, -8, 0, 8, -1], 12),
        (1, 6, [-1, 9, -45, 0, 45, -9, 1], 60),
        (2, 4, [-1, 16, -30, 16, -1], 12),
        (3, 2, [-1, 2, 0, -2, 1], 2),
        (4, 2, [1, -4, 6, -4, 1], 1),
    ):
        found = kernels.derivative(order, accuracy)
        np.testing.assert_array_equal(found, [[n / denominator for n in numerators]])


@pytest.mark.parametrize("accuracy", [2, 4])
def test_the_accuracy_is_an_order(accuracy):
    """Half the spacing, an error 2^accuracy times smaller."""
    errors = []
    for spacing in (0.1, 0.05):
        kernel = kernels.derivative(1, accuracy, spacing=spacing)[0]
        x = 1.0 + (np.arange(kernel.size) - kernel.size // 2) * spacing
        errors.append(abs(np.sum(kernel * np.sin(x)) - np.cos(1.0)))
    assert errors[0] / errors[1] == pytest.approx(2**accuracy, rel=0.05)


def test_direction_and_spacing():
    y, x = np.mgrid[:5, :6] * 0.5
    image = 3 * x - 2 * y
    inside = (slice(1, -1), slice(1, -1))
    right = signal.filter2d(image, kernels.derivative(1, spacing=0.5))
    down = signal.filter2d(image, kernels.derivative(1, axis=0, spacing=0.5))
    assert (right[inside] == 3).all() and (down[inside] == -2).all()
    for name, gain in (("sobel", 8), ("prewitt", 6)):
        kernel = getattr(kernels, name)
        assert (signal.filter2d(image, kernel())[inside] == 3 * 0.5 * gain).all()
        assert (signal.filter2d(image, kernel(0))[inside] == -2 * 0.5 * gain).all()


@pytest.mark.parametrize(
    "function",
    [kernels.edge, kernels.sobel, kernels.prewitt, lambda a: kernels.derivative(2, 2, a)],
)
def test_axes(function):
    np.testing.assert_array_equal(function(0), function(1).T)
    np.testing.assert_array_equal(function(-1), function(1))
    np.testing.assert_array_equal(function(-2), function(0))


def test_the_edge_of_the_chapter():
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    found = signal.correlate2d(image, kernels.edge(), "valid")
    assert found.tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6
    assert not signal.correlate2d(image.T, kernels.edge(), "valid").any()
    np.testing.assert_array_equal(kernels.edge(), -kernels.derivative(1, accuracy=1))


@pytest.mark.parametrize(("neighbours", "gain"), [(4, 1), (8, 3)])
def test_laplacian(neighbours, gain):
    y, x = np.mgrid[:6, :7].astype(float)
    image = 2 * x**2 + 3 * y**2 + x * y + x**3
    found = signal.filter2d(image, kernels.laplacian(neighbours))[1:-1, 1:-1]
    np.testing.assert_array_equal(found, gain * (4 + 6 + 6 * x[1:-1, 1:-1]))


def test_laplacian_is_the_sum_of_two_derivatives():
    both = np.zeros((3, 3))
    both[1:2] += kernels.derivative(2)
    both[:, 1:2] += kernels.derivative(2, axis=0)
    np.testing.assert_array_equal(kernels.laplacian(), both)


# -- smoothing


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_gradients_as_ndimage(name, axis, image):
    found = signal.filter2d(image, getattr(kernels, name)(axis))
    np.testing.assert_array_equal(found, getattr(ndimage, name)(image, axis))


def test_laplacian_as_ndimage(image):
    found = signal.filter2d(image, kernels.laplacian(), "mirror")
    np.testing.assert_array_equal(found, ndimage.laplace(image, mode="mirror"))


@pytest.mark.parametrize("size", [3, 4, (2, 5)])
def test_box_as_ndimage(size, image):
    found = signal.filter2d(image, kernels.box(size))
    assert_close(found, ndimage.uniform_filter(image, size), length=40, magnitude=255)


@pytest.mark.parametrize("sigma", [0.6, 1.0, (2.3, 0.4)])
def test_gaussian_as_ndimage(sigma, image):
    kernel = kernels.gaussian(sigma=sigma)
    expected = ndimage.gaussian_filter(image, sigma)
    assert_close(signal.filter2d(image, kernel), expected, length=kernel.size, magnitude=255)


def test_gaussian():
    kernel = kernels.gaussian((5, 6), sigma=(1.0, 2.0))
    assert kernel.shape == (5, 6)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    # two pixels down at sigma 1, four to the right at sigma 2: the same drop
    assert kernel[2, 2] / kernel[0, 2] == pytest.approx(np.exp(2.0))
    assert kernel[0, 3] / kernel[0, 5] == pytest.approx(np.exp((2.5**2 - 0.5**2) / 8))
    # OpenCV's width of a curve of five pixels
    np.testing.assert_allclose(kernels.gaussian(5), kernels.gaussian(5, 1.1), rtol=1e-12)
    # a curve so narrow that all its weights would round to zero
    assert kernels.gaussian((1, 2), sigma=1e-3).tolist() == [[0.5, 0.5]]
    assert kernels.gaussian(3, sigma=1e-3)[1, 1] == 1.0


def test_two_gaussians_are_one():
    """Their variances add up."""
    one = kernels.gaussian((1, 41), 3.0)
    other = kernels.gaussian((1, 41), 4.0)
    both = signal.convolve2d(one, other)
    np.testing.assert_allclose(both, kernels.gaussian((1, 81), 5.0), atol=1e-7)


def test_integral_undoes_the_derivative(image):
    found = signal.correlate2d(
        signal.correlate2d(image, kernels.derivative(1, accuracy=1), "valid"),
        kernels.integral((1, 4)),
        "valid",
    )
    np.testing.assert_array_equal(found, image[:, 4:] - image[:, :-4])


def test_integral():
    x = (np.arange(8) + 0.5) * 0.25  # the middles of eight pixels from 0 to 2
    assert kernels.integral((1, 8), 0.25)[0] @ (3 * x + 1) == 8.0
    assert (kernels.integral((2, 3), (0.5, 2.0)) == 1.0).all()
    assert (kernels.integral((2, 1), (0.5, 2.0)) == 0.5).all()
    np.testing.assert_allclose(kernels.integral(4) / 16, kernels.box(4))
    # the error falls with the square of the spacing
    errors = [abs(kernels.integral((1, n), 1 / n)[0] @ np.exp((np.arange(n) + 0.5) / n) - np.e + 1)
              for n in (10, 20)]  # fmt: skip
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.01)


# -- sharpen, emboss, gabor


def test_sharpen(image):
    found = signal.filter2d(image, kernels.sharpen(2.0))
    np.testing.assert_array_equal(found, image - 2 * ndimage.laplace(image))
    np.testing.assert_array_equal(signal.filter2d(image, kernels.sharpen(0)), image)
    assert kernels.sharpen(neighbours=8)[1].tolist() == [-1, 9, -1]


def test_emboss(image):
    found = signal.filter2d(image, kernels.emboss(2.0, (1, -1)))
    slope = ndimage.prewitt(image, 0) - ndimage.prewitt(image, 1)
    np.testing.assert_array_equal(found, image + 2 * slope)
    np.testing.assert_array_equal(kernels.emboss(0), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_gabor_symmetry():
    even, odd = kernels.gabor((7, 9), 5, 0.7), kernels.gabor((7, 9), 5, 0.7, np.pi / 2)
    assert even[3, 4] == 1.0
    np.testing.assert_allclose(even, even[::-1, ::-1], atol=1e-15)
    np.testing.assert_allclose(odd, -odd[::-1, ::-1], atol=1e-15)
    # together they are the envelope
    v = np.hypot(even, odd)
    np.testing.assert_allclose(v[3, 5] ** 2, np.exp(-(np.cos(0.7) ** 2 + 0.25 * np.sin(0.7) ** 2)
                               / (0.56 * 5) ** 2))  # fmt: skip


def test_gabor_finds_its_stripes():
    y, x = np.mgrid[:40, :40]
    turned = kernels.gabor(21, 6, np.pi / 2)
    np.testing.assert_allclose(turned, kernels.gabor(21, 6).T, atol=1e-12)
    strength = {
        (theta, wavelength): np.abs(
            signal.correlate2d(
                np.cos(2 * np.pi * (x * np.cos(theta) + y * np.sin(theta)) / wavelength),
                kernels.gabor(21, 6, 0.5),
                "valid",
            )
        ).max()
        for theta in (0.5, 0.5 + np.pi / 2, 0.5 + np.pi / 4)
        for wavelength in (3, 6, 12)
    }
    best = max(strength, key=strength.get)
    assert best == (0.5, 6)
    assert all(value < strength[best] / 2 for key, value in strength.items() if key != best)


# -- names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sobel", kernels.sobel()),
        ("sobel:0", kernels.sobel(0)),
        ("gaussian:5", kernels.gaussian(5)),
        ("gaussian:sigma=1.5", kernels.gaussian(sigma=1.5)),
        ("gaussian:5,sigma=1e0", kernels.gaussian(5, 1.0)),
        ("derivative:2,4,axis=0", kernels.derivative(2, 4, axis=0)),
        ("sharpen:-0.5", kernels.sharpen(-0.5)),
        ("box:1x9", kernels.box((1, 9))),
        ("emboss:2,direction=0x-1.5", kernels.emboss(2, (0, -1.5))),
    ],
)
def test_named(text, expected):
    np.testing.assert_array_equal(kernels.named(text), expected)
    assert kernels.named(text, dtype=np.float32).dtype == np.float32


def test_every_function_has_a_name():
    assert set(kernels._NAMED) == set(kernels.__all__) - {"named"}


# -- refusals

ERRORS = {
    "axis": (lambda: kernels.sobel(2), ValueError, "axis: expected 0, 1, -1 or -2, got 2"),
    "axis, no integer": (
        lambda: kernels.edge(None),
        ValueError,
        "axis: expected 0, 1, -1 or -2, got None",
    ),
    "order": (lambda: kernels.derivative(0), ValueError, "order: expected at least 1, got 0"),
    "order, no integer": (
        lambda: kernels.derivative(1.5),
        TypeError,
        "order: expected an integer, got float 1.5",
    ),
    "accuracy": (
        lambda: kernels.derivative(2, 3),
        ValueError,
        r"accuracy: expected 1 \(the smallest kernel\) or an even number, got 3",
    ),
    "spacing": (
        lambda: kernels.derivative(1, spacing=0),
        ValueError,
        "spacing: expected a positive number, got 0",
    ),
    "spacing, three": (
        lambda: kernels.integral(3, (1, 2, 3)),
        ValueError,
        r"spacing: expected two numbers, got 3: \(1, 2, 3\)",
    ),
    "neighbours": (
        lambda: kernels.laplacian(6),
        ValueError,
        "neighbours: expected 4 or 8, got 6",
    ),
    "size": (lambda: kernels.box((3, 0)), ValueError, "size: expected at least 1, got 0"),
    "neither size nor sigma": (
        lambda: kernels.gaussian(),
        TypeError,
        "size: expected a size or a sigma, got neither",
    ),
    "sigma": (
        lambda: kernels.gaussian(3, (1, -1)),
        ValueError,
        "sigma: expected a positive number, got -1",
    ),
    "amount": (
        lambda: kernels.sharpen("much"),
        TypeError,
        "amount: expected a number, got 'much'",
    ),
    "depth": (
        lambda: kernels.emboss(np.inf),
        ValueError,
        "depth: expected a finite number, got inf",
    ),
    "direction": (
        lambda: kernels.emboss(direction=1),
        TypeError,
        "direction: expected two numbers, got 1",
    ),
    "wavelength": (
        lambda: kernels.gabor(5, 0),
        ValueError,
        "wavelength: expected a positive number, got 0",
    ),
    "dtype": (
        lambda: kernels.box(3, dtype="int8"),
        TypeError,
        "dtype: expected float64, float32 or float16, got 'int8'",
    ),
    "no name": (lambda: kernels.named(3), TypeError, "kernel: expected a name, got 3"),
    "name": (
        lambda: kernels.named("sobell:1"),
        ValueError,
        "kernel: expected one of edge, derivative, .*, gabor, got 'sobell'",
    ),
    "no number": (
        lambda: kernels.named("box:big"),
        ValueError,
        "kernel: expected numbers, or pairs such as 3x5, as arguments, got 'big' in 'box:big'",
    ),
    "order of arguments": (
        lambda: kernels.named("gaussian:sigma=1,5"),
        ValueError,
        "kernel: expected values before names of arguments, got 'gaussian:sigma=1,5'",
    ),
    "too many arguments": (
        lambda: kernels.named("sobel:1,2"),
        ValueError,
        r"kernel: sobel\(axis=-1\): too many positional arguments, in 'sobel:1,2'",
    ),
    "unknown argument": (
        lambda: kernels.named("box:3,dtype=1"),
        ValueError,
        r"kernel: box\(size\): got an unexpected keyword argument 'dtype', in 'box:3,dtype=1'",
    ),
    "argument missing": (
        lambda: kernels.named("box"),
        ValueError,
        r"kernel: box\(size\): missing a required argument: 'size', in 'box'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind) as caught:
        call()
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


def test_the_tolerance_can_fail():
    kernel = kernels.gaussian(5)
    with pytest.raises(AssertionError):
        assert_close(kernel, kernel * 1.0001, length=25, magnitude=largest(kernel))
