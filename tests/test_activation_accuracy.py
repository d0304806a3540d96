"""Accuracy of sigmoid and tanh in units in the last place, as csrc/kernels/activation.h states it.

Float is compared with NumPy in double precision, double with mpmath in 40 digits.
"""

import numpy as np
import pytest

from fastconv import ops, using

native = pytest.importorskip("fastconv.backends.native")
mpmath = pytest.importorskip("mpmath")

STATED = 2.5  # ulp, the table at the head of activation.h


def in_double(kind, x):
    """The function in double precision, without cancellation or overflow."""
    if kind == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def exactly(kind, x):
    """The function at each double of x, in 40 digits."""
    with mpmath.workdps(40):
        if kind == "tanh":
            return [mpmath.tanh(mpmath.mpf(float(v))) for v in x]
        return [1 / (1 + mpmath.exp(-mpmath.mpf(float(v)))) for v in x]


def error_in_ulp(got, true):
    """Distance from the true value, in units of the last place of the nearest number."""
    spacing = np.spacing(np.abs(got).astype(got.dtype))
    if isinstance(true, list):
        pairs = zip(got, spacing, true, strict=True)
        with mpmath.workdps(40):
            return np.array([float(abs(mpmath.mpf(float(g)) - t) / float(s)) for g, s, t in pairs])
    return np.abs(got.astype(np.float64) - true) / spacing.astype(np.float64)


def points(dtype, count):
    """All magnitudes, both signs; dense where the functions bend."""
    rng = np.random.default_rng(5)
    small = np.finfo(dtype).smallest_subnormal
    wide = np.exp(rng.uniform(np.log(float(small)), np.log(800.0), count))
    x = np.concatenate([wide, -wide, rng.uniform(-4, 4, count), rng.uniform(-110, 110, count)])
    return x.astype(dtype)


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_float(kind, isa):
    x = points(np.float32, 200_000)
    with using(isa=isa, backend="native"):
        got = getattr(ops, kind)(x)
    assert got.dtype == np.float32
    assert error_in_ulp(got, in_double(kind, x.astype(np.float64))).max() <= STATED


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_double(kind, isa):
    x = points(np.float64, 1_000)
    with using(isa=isa, backend="native"):
        got = getattr(ops, kind)(x)
    assert error_in_ulp(got, exactly(kind, x)).max() <= STATED


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits(dtype, isa):
    x = np.array([-np.inf, np.inf, np.nan, 0.0, -0.0, 1e4, -1e4], dtype)
    with using(isa=isa, backend="native"):
        np.testing.assert_array_equal(ops.sigmoid(x), [0, 1, np.nan, 0.5, 0.5, 1, 0])
        np.testing.assert_array_equal(ops.tanh(x), [-1, 1, np.nan, 0, 0, 1, -1])
        np.testing.assert_array_equal(ops.relu(x), [0, np.inf, np.nan, 0, 0, 1e4, 0])
        assert np.signbit(ops.tanh(x))[4]


def test_the_measure_can_fail():
    x = points(np.float32, 100)
    wrong = in_double("tanh", x.astype(np.float64)).astype(np.float32) * np.float32(1 + 5e-7)
    assert error_in_ulp(wrong, in_double("tanh", x.astype(np.float64))).max() > STATED
