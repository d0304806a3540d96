"""The assertion that all others stand on can fail."""

import numpy as np
import pytest
from tolerance import assert_close, largest, tolerance


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
