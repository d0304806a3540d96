"""Poolings of joined planes, of narrow rows and of one window: the native kernels own ways."""

import numpy as np
import pytest

import fastconv as fc

native = pytest.importorskip("fastconv.backends.native")
ISAS = native.available_isas()

CASES = {
    # name: (input, window, stride)
    "halves of small planes": ((3, 37, 14, 14), (2, 2), (2, 2)),
    "rows of ten": ((5, 16, 10, 10), (2, 2), (2, 2)),
    "thirds": ((2, 9, 6, 9), (3, 3), (3, 3)),
    "rows left over between windows": ((2, 5, 12, 8), (2, 4), (3, 4)),
    "windows of one row": ((4, 7, 5, 12), (1, 3), (1, 3)),
    "windows that overlap down": ((2, 6, 9, 6), (3, 2), (2, 2)),
    "a row below the last window": ((2, 6, 11, 6), (2, 2), (2, 2)),
    "whole planes": ((3, 70, 7, 7), (7, 7), (7, 7)),
    "a whole plane": ((1, 1, 9, 50), (9, 50), (1, 1)),
    "whole planes of a few pixels": ((4, 33, 2, 3), (2, 3), (2, 3)),
    "long windows": ((2, 3, 4, 200), (1, 40), (1, 50)),
    "wide planes": ((1, 3, 8, 300), (2, 2), (2, 2)),
}
POOLS = {"max": fc.max_pool2d, "min": fc.min_pool2d, "avg": fc.avg_pool2d}


def whole_numbers(rng, shape, dtype):
    return rng.integers(-99, 100, shape).astype(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_against_the_reference(dtype, pool, case, isa, rng):
    shape, window, stride = CASES[case]
    x = whole_numbers(rng, shape, dtype)
    x[0, 0, 0, -1] = np.nan
    wanted = POOLS[pool](x, window, stride, backend="reference")
    with fc.using(isa=isa, backend="native"):
        for threads in (1, 2, 3):
            with fc.using(num_threads=threads):
                for _ in range(3):  # the second call on is a prepared one
                    y = POOLS[pool](x, window, stride)
                    np.testing.assert_allclose(y, wanted, rtol=1e-6)
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        y = POOLS[pool](last, window, stride, layout="NHWC").transpose(0, 3, 1, 2)
        np.testing.assert_allclose(y, wanted, rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pool", ["max", "min"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_places_are_the_reference_s(dtype, pool, case, isa, rng):
    """The first of equal ones, the last NaN; infinite everywhere, zeros of both signs."""
    shape, window, stride = CASES[case]
    x = rng.integers(-3, 4, shape).astype(dtype)
    x[rng.random(shape) < 0.02] = np.nan
    x[-1, -1] = -np.inf if pool == "max" else np.inf
    x[0, 0] = rng.choice([0.0, -0.0], shape[2:])
    wanted = POOLS[pool](x, window, stride, return_indices=True, backend="reference")
    with fc.using(isa=isa, backend="native"):
        for given in (x, np.ascontiguousarray(x[:, :, :, ::-1])[:, :, :, ::-1]):
            y, places = POOLS[pool](given, window, stride, return_indices=True)
            np.testing.assert_array_equal(y, wanted[0])
            np.testing.assert_array_equal(np.signbit(y), np.signbit(wanted[0]))
            np.testing.assert_array_equal(places, wanted[1])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pool", POOLS)
def test_bits_depend_neither_on_strides_nor_on_the_batch(pool, case, rng):
    shape, window, stride = CASES[case]
    n, c, h, w = shape
    x = rng.standard_normal(shape).astype("f4")

    def called(x, **how):
        return POOLS[pool](x, window, stride, backend="native", **how)

    y = called(x)
    for image in range(n):
        np.testing.assert_array_equal(called(x[image : image + 1]), y[image : image + 1])
    wide = np.empty((n, c + 2, h + 1, 2 * w), "f4")
    some = wide[:, 1 : c + 1, :h, ::2]
    some[...] = x
    np.testing.assert_array_equal(called(some), y)
    some = np.empty((n, c + 2, *y.shape[2:]), "f4")[:, :c]
    np.testing.assert_array_equal(called(x, out=some), y)
    for _ in range(3):
        last = called(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), layout="NHWC")
        np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), y)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][1][0] <= CASES[c][2][0]])
def test_gradients_against_the_reference(case, isa, rng):
    shape, window, stride = CASES[case]
    x = rng.permutation(np.prod(shape)).reshape(shape).astype("f4")
    y, places = fc.max_pool2d(x, window, stride, return_indices=True, backend="reference")
    dy = whole_numbers(rng, y.shape, "f4")
    for out in (
        lambda **how: fc.grad.max_pool2d(dy, places, shape, **how),
        lambda **how: fc.grad.avg_pool2d(dy, shape, window, stride, **how),
    ):
        wanted = out(backend="reference")
        with fc.using(isa=isa):
            np.testing.assert_allclose(out(backend="native"), wanted, rtol=1e-6, atol=1e-6)
