"""Filtering against SciPy: every mode and border, with kernels of any size beside the image's."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerance import assert_close, largest

import fastconv as fc
from fastconv import grad, signal

scipy_signal = pytest.importorskip("scipy.signal")
ndimage = pytest.importorskip("scipy.ndimage")

NAMES = ("correlate2d", "convolve2d")
sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))
kernel_sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)

# SciPy's border as NumPy's, so that the answer does not hang on SciPy alone
PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "replicate": "edge",
    "wrap": "wrap",
    "constant": "constant",
}


def whole(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.integers(-4, 5, shape).astype(float) for shape in shapes]


def fits(a, b):
    """Whether one shape contains the other."""
    return all(n >= k for n, k in zip(a, b, strict=True)) or all(
        n <= k for n, k in zip(a, b, strict=True)
    )


# -- correlate2d, convolve2d


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", NAMES)
@given(shape=sizes, kernel=kernel_sizes, fill=st.integers(-3, 3), seed=seeds)
def test_as_scipy(name, mode, boundary, shape, kernel, fill, seed):
    x, w = whole(seed, shape, kernel)
    args = (x, w, mode, boundary, fill)
    if mode == "valid" and not fits(shape, kernel):
        with pytest.raises(ValueError, match="in2: mode valid"):
            getattr(signal, name)(*args)
        return
    expected = getattr(scipy_signal, name)(*args)
    np.testing.assert_array_equal(getattr(signal, name)(*args), expected, strict=True)


@pytest.mark.parametrize("boundary", ["wrap", "symm"])
def test_a_border_of_several_images(boundary):
    x, w = whole(7, (2, 3), (11, 17))
    border = np.pad(x, ((10, 10), (16, 16)), PAD[signal.BOUNDARIES[boundary]])
    expected = fc.conv2d(border[None], w[None, None])[0]
    np.testing.assert_array_equal(signal.correlate2d(x, w, "full", boundary), expected)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", NAMES)
@given(shape=sizes, kernel=sizes, seed=seeds, which=st.sampled_from(["both", "in1", "in2"]))
def test_complex(name, mode, shape, kernel, seed, which):
    a, b, c, d = whole(seed, shape, shape, kernel, kernel)
    x = a if which == "in2" else a + 1j * b
    w = c if which == "in1" else c + 1j * d
    if mode == "valid" and any(n < k for n, k in zip(shape, kernel, strict=True)):
        return  # SciPy conjugates the wrong one where they change places: see the next test
    expected = getattr(scipy_signal, name)(x, w, mode, "fill", 1 - 2j)
    found = getattr(signal, name)(x, w, mode, "fill", 1 - 2j)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_complex_and_swapped_keeps_the_definition():
    a, b, c, d = whole(3, (2, 3), (2, 3), (4, 5), (4, 5))
    x, w = a + 1j * b, c + 1j * d
    # scipy.signal.correlate, of any number of dimensions, conjugates in2 in every case
    expected = scipy_signal.correlate(x, w, "valid", method="direct")
    np.testing.assert_array_equal(signal.correlate2d(x, w, "valid"), expected)


@given(shape=sizes, kernel=kernel_sizes, seed=seeds)
def test_convolution_commutes(shape, kernel, seed):
    x, w = whole(seed, shape, kernel)
    np.testing.assert_array_equal(signal.convolve2d(x, w), signal.convolve2d(w, x))
    if fits(shape, kernel):
        np.testing.assert_array_equal(
            signal.convolve2d(x, w, "valid"), signal.convolve2d(w, x, "valid")
        )


def test_even_kernels_in_same_mode():
    image, kernel = np.arange(1.0, 10.0).reshape(3, 3), [[1, 2], [3, 4]]
    assert signal.correlate2d(image, kernel, "same")[0].tolist() == [37, 47, 21]
    assert signal.convolve2d(image, kernel, "same")[0].tolist() == [1, 4, 7]
    # ndimage.convolve's third origin, as a correlation with the turned kernel
    assert ndimage.convolve(image, kernel, mode="constant")[0].tolist() == [23, 33, 24]
    centred = np.zeros((3, 3))
    centred[1:, 1:] = np.array(kernel)[::-1, ::-1]
    assert signal.filter2d(image, centred, "constant")[0].tolist() == [23, 33, 24]


def test_floating_point(rng):
    for dtype in (np.float32, np.float64):
        x, w = rng.standard_normal((40, 50)), rng.standard_normal((7, 5))
        x, w = x.astype(dtype), w.astype(dtype)
        expected = scipy_signal.convolve2d(x.astype(float), w.astype(float), boundary="symm")
        found = signal.convolve2d(x, w, boundary="symm")
        assert_close(found, expected.astype(dtype), length=35, magnitude=largest(x, w))


def test_integers_do_not_wrap():
    x, w = np.full((1, 4), 200, np.uint8), np.ones((1, 4), np.uint8)
    assert signal.correlate2d(x, w, "valid") == 800
    assert signal.filter2d(x, w).tolist() == [[800.0] * 4]
    # nor does the border
    assert signal.correlate2d(x, w, fillvalue=-1)[0, 0] == 197
    assert signal.filter2d(x, w, "constant", -0.5)[0, 0] == 399


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        ("float32", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("float16", "float16", "float16"),
        ("uint8", "float32", "float32"),
        ("uint8", "int8", "float64"),
        ("bool", "bool", "float64"),
        ("complex64", "float32", "complex64"),
        ("complex64", "float64", "complex128"),
        ("complex64", "int16", "complex64"),
    ],
)
@pytest.mark.parametrize("fillvalue", [0, 1])
def test_dtypes(a, b, result, fillvalue):
    x, w = np.ones((3, 4), a), np.ones((2, 2), b)
    assert signal.correlate2d(x, w, fillvalue=fillvalue).dtype == result
    assert signal.convolve2d(w, x, boundary="wrap").dtype == result
    if "complex" not in result:
        assert signal.filter2d(x, w, "constant", fillvalue).dtype == result
        assert signal.filter2d(x, w).dtype == result


def test_inputs_are_left_alone():
    x, w = whole(1, (5, 5), (3, 3))
    x.flags.writeable = w.flags.writeable = False
    before = x.copy(), w.copy()
    signal.convolve2d(x[::-1], w[:, ::2], boundary="wrap")
    signal.filter2d(x.T, w)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


# -- filter2d


@pytest.mark.parametrize("border", signal.BORDERS)
@given(shape=sizes, kernel=kernel_sizes, cval=st.integers(-3, 3), seed=seeds)
def test_filter2d_as_ndimage(border, shape, kernel, cval, seed):
    x, w = whole(seed, shape, kernel)
    mode = "nearest" if border == "replicate" else border
    expected = ndimage.correlate(x, w, mode=mode, cval=cval)
    np.testing.assert_array_equal(signal.filter2d(x, w, border, cval), expected, strict=True)


@pytest.mark.parametrize("border", signal.BORDERS)
@given(shape=sizes, kernel=kernel_sizes, seed=seeds)
def test_filter2d_as_np_pad(border, shape, kernel, seed):
    x, w = whole(seed, shape, kernel)
    sides = [(k // 2, k - 1 - k // 2) for k in kernel]
    expected = fc.conv2d(np.pad(x, sides, PAD[border])[None], w[None, None])[0]
    np.testing.assert_array_equal(signal.filter2d(x, w, border), expected)


def test_filter2d_takes_planes():
    x, w = whole(5, (2, 3, 6, 5), (3, 4))
    found = signal.filter2d(x, w, "mirror")
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[i, j], signal.filter2d(x[i, j], w, "mirror"))
    colour = np.moveaxis(x[0], 0, -1)
    np.testing.assert_array_equal(
        signal.filter2d(np.moveaxis(colour, -1, 0), w), signal.filter2d(x[0], w)
    )


def test_gradients_are_those_of_conv2d():
    """The adjoint of a "full" correlation is a "valid" convolution: <Ax, y> = <x, A'y>."""
    x, w, y = whole(9, (5, 6), (3, 2), (7, 7))
    forward = np.vdot(signal.correlate2d(x, w), y)
    back = signal.convolve2d(y, w, "valid")
    assert forward == np.vdot(x, back)
    same = grad.conv2d_input((1, 1, 5, 6), w[None, None], y[None, None], padding=(2, 1))
    np.testing.assert_array_equal(same[0, 0], back)


# -- refusals


IMAGE, KERNEL = np.ones((4, 5)), np.ones((3, 3))
ERRORS = {
    "in1 of one dimension": (
        lambda: signal.correlate2d(IMAGE[0], KERNEL),
        ValueError,
        r"in1: expected an array of two dimensions, at least \(1, 1\), got shape \(5,\)",
    ),
    "in2 of no column": (
        lambda: signal.convolve2d(IMAGE, KERNEL[:, :0]),
        ValueError,
        r"in2: expected an array of two dimensions, at least \(1, 1\), got shape \(3, 0\)",
    ),
    "in1 ragged": (
        lambda: signal.convolve2d([[1, 2], [3]], KERNEL),
        ValueError,
        "in1: cannot be made an array: .*inhomogeneous.*",
    ),
    "in2 of strings": (
        lambda: signal.correlate2d(IMAGE, [["a"]]),
        TypeError,
        "in2: expected real numbers of up to 64 bits, got dtype <U1",
    ),
    "large integers": (
        lambda: signal.correlate2d(IMAGE, np.full((1, 1), 2**53 + 1)),
        ValueError,
        "in2: 64-bit integers are computed in float64.*",
    ),
    "large integers in a border": (
        lambda: signal.convolve2d(np.full((1, 1), 2**53 + 1), KERNEL, fillvalue=1),
        ValueError,
        "in1: 64-bit integers are computed in float64.*",
    ),
    "mode": (
        lambda: signal.correlate2d(IMAGE, KERNEL, "fulll"),
        ValueError,
        "mode: expected one of full, same, valid, got 'fulll'",
    ),
    "boundary": (
        lambda: signal.convolve2d(IMAGE, KERNEL, boundary="reflect"),
        ValueError,
        "boundary: expected one of fill, wrap, symm, got 'reflect'",
    ),
    "valid, neither contains the other": (
        lambda: signal.correlate2d(IMAGE, np.ones((5, 2)), "valid"),
        ValueError,
        "in2: mode valid needs one array to be at least as large as the other in both "
        r"directions, got \(4, 5\) and \(5, 2\)",
    ),
    "fillvalue, complex": (
        lambda: signal.correlate2d(IMAGE, KERNEL, fillvalue=1j),
        TypeError,
        "fillvalue: expected a real number, got 1j",
    ),
    "fillvalue, no number": (
        lambda: signal.correlate2d(IMAGE + 1j, KERNEL, fillvalue="0"),
        TypeError,
        "fillvalue: expected a number, got '0'",
    ),
    "input of one dimension": (
        lambda: signal.filter2d(IMAGE[0], KERNEL),
        ValueError,
        r"input: expected shape \(..., H, W\) without a zero, got \(5,\)",
    ),
    "input, complex": (
        lambda: signal.filter2d(IMAGE + 1j, KERNEL),
        TypeError,
        "input: expected real numbers of up to 64 bits, got dtype complex128",
    ),
    "kernel of four dimensions": (
        lambda: signal.filter2d(IMAGE, KERNEL[None, None]),
        ValueError,
        r"kernel: expected shape \(R, S\) of at least \(1, 1\), got \(1, 1, 3, 3\)",
    ),
    "border": (
        lambda: signal.filter2d(IMAGE, KERNEL, "symm"),
        ValueError,
        "border: expected one of reflect, mirror, nearest, replicate, wrap, constant, got 'symm'",
    ),
    "cval": (
        lambda: signal.filter2d(IMAGE, KERNEL, "constant", None),
        TypeError,
        "cval: expected a real number, got None",
    ),
}

if np.dtype(np.clongdouble).itemsize > 16:  # not on every platform
    ERRORS["in1 of long complex numbers"] = (
        lambda: signal.correlate2d(IMAGE.astype(np.clongdouble), KERNEL),
        TypeError,
        r"in1: expected complex numbers of up to 128 bits, got dtype complex\d+",
    )


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind) as caught:
        call()
    assert re.fullmatch(message, str(caught.value)), str(caught.value)
