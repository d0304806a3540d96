"""The assertion that all others stand on can fail."""

import numpy as np
import pytest
from tolerance import assert_close, largest, tolerance, transformed


@pytest.fixture
def exact():
    return np.linspace(-1, 1, 7, dtype=np.float32)


def test_formula():
    assert tolerance(10, np.float32, 3.0) == 10 * 2.0**-23 * 3
    assert tolerance(0, np.float64, 1.0) == 0


def test_largest():
    assert largest(np.array([1.0, -3.0]), np.array([2.0])) == 6
    assert largest(np.empty(0)) == 0


def test_accepts_what_is_within(exact):
    assert_close(exact, exact, length=0)
    assert_close(exact + np.float32(tolerance(9, "float32", 1)), exact, length=10)


def wrong_value(y):
    y[3] += 2 * tolerance(10, "float32", 1)
    return y


def wrong_sign_of_infinity(y):
    y[0] = np.inf
    return y


def unexpected_nan(y):
    y[0] = np.nan
    return y


def wrong_shape(y):
    return y[:, None]


def wrong_dtype(y):
    return y.astype(np.float64)


@pytest.mark.parametrize(
    "wrong", [wrong_value, wrong_sign_of_infinity, unexpected_nan, wrong_shape, wrong_dtype]
)
def test_can_fail(exact, wrong):
    with pytest.raises(AssertionError):
        assert_close(wrong(exact.copy()), exact, length=10)


def test_a_missing_term_fails():
    terms = np.full(1000, 0.1, np.float32)
    with pytest.raises(AssertionError):
        assert_close(terms[1:].sum(), terms.sum(), length=1000, magnitude=0.1)


def test_formula_of_transforms():
    x, w = np.array([[[3.0, 4.0]], [[0.0, 1.0]]]), np.array([[1.0], [-2.0]])
    assert transformed(8, x, w) == {"length": 3, "magnitude": 10}
    assert transformed(8, x, w, np.array([1.0, -7.0])) == {"length": 3, "magnitude": 17}
    assert transformed(2, np.empty((0, 3)), w) == {"length": 1, "magnitude": 0}


def test_a_missing_pixel_fails_beside_transforms():
    x, w = np.full((1, 64, 64), 0.1, np.float32), np.ones((1, 31, 31), np.float32)
    allowed = transformed(96 * 96, x, w)
    assert_close(np.float32(96.1), np.float32(96.1001), **allowed)
    with pytest.raises(AssertionError):
        assert_close(np.float32(96.0), np.float32(96.1), **allowed)
