"""How far a computed result may be from the exact one: the only tolerances of the suite.

A sum of `length` products in floating point is off by about its length times the spacing of the
numbers that it is made of. So ``length * eps * magnitude``, where `magnitude` is the largest
absolute value that a single term can have.

A convolution through Fourier transforms rounds values in which all pixels are mixed, once in each
of log2(points) stages: ``log2(points) * eps * |x| * |w|``, with the square roots of the sums of
squares over an image and over a filter (`transformed`).
"""

import numpy as np


def tolerance(length, dtype, magnitude):
    """Largest absolute error allowed in a sum of `length` terms of at most `magnitude`."""
    return length * float(np.finfo(dtype).eps) * float(magnitude)


def assert_close(actual, desired, *, length, magnitude=1.0):
    """Shape and dtype equal, NaN and infinities in the same places, the rest within tolerance."""
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.shape == desired.shape, (actual.shape, desired.shape)
    assert actual.dtype == desired.dtype, (actual.dtype, desired.dtype)
    allowed = tolerance(length, actual.dtype, magnitude)
    np.testing.assert_allclose(actual, desired, rtol=0, atol=allowed)


def transformed(points, images, filters, bias=0.0):
    """Length and magnitude, for `assert_close`, of a convolution through transforms of `points`.

    `images` and `filters` are arrays whose first axis counts them.
    """
    norms = [np.sqrt((a**2.0).sum(axis=tuple(range(1, a.ndim)))) for a in (images, filters)]
    product = np.prod([norm.max(initial=0.0) for norm in norms])
    return {"length": np.log2(points), "magnitude": product + np.abs(bias).max(initial=0.0)}


def largest(*arrays):
    """Largest product of one absolute value from each array."""
    return float(np.prod([np.abs(a).max(initial=0.0) for a in arrays]))
