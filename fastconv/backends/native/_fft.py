"""Convolution through the fast Fourier transform, for kernels so large that it saves work.

The image is cut into tiles that overlap by the kernel (overlap-save): a tile is transformed,
multiplied by the transformed kernels and transformed back; the results that the tile's edges did
not reach are kept. The gradient with respect to the input is the same with the kernels turned
round, between whose inputs a stride leaves zeros.

scipy.fft transforms where SciPy is installed, else numpy.fft; both in the precision of the arrays.
The tiles are cut in one way for any number of threads, which share them out.

Error. A transform mixes all pixels of a tile, so an error is relative to all of them and not to the
terms of one result. It is below ``eps * log2(points) * |x| * |w|``, where `points` is the size of
the transform and ``|x|``, ``|w|`` are square roots of sums of squares, over the tile and over the
filter. Whole numbers give whole numbers: they are rounded to them where eight times this bound is
below 1/2.

What a tile does not give is left to another method, for the whole call: NaN and infinities (they
would spread over the tile), overflow on the way, and in float64, in which integers are computed,
whole numbers too large to be rounded to.

Memory. A tile has at most `POINTS` pixels where the kernel leaves a choice, and the spectra of a
block of channels take at most `SPECTRA` bytes: some 30 MB, and 20 more for each further thread.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

SIDES = (48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # that a tile may have
POINTS = 2**20  # pixels of the largest tile
CACHED = 2**18  # pixels of a tile up to which a step takes no longer
TILE = 250_000  # steps that a tile costs beside its transforms: some 80 us
SPECTRA = 2**24  # bytes
SERIAL_POINTS = 2**18  # fewer in all tiles: starting threads costs more than they save


class Axis(NamedTuple):
    """One axis: output p and tap t meet at ``start + p * step + t * tap_step`` of the input.

    The input's pixels stand `spread` apart, with zeros between them.
    """

    n_in: int
    n_out: int
    taps: int
    start: int
    step: int = 1
    tap_step: int = 1
    spread: int = 1

    @property
    def extent(self):
        """From the first tap to the last."""
        return (self.taps - 1) * self.tap_step + 1


class Tiles(NamedTuple):
    """How the outputs are cut: `rows` x `cols` of them a tile, transformed in `size`."""

    rows: int
    cols: int
    size: tuple[int, int]
    count: int


def forward_axes(spec):
    """The axes of `conv2d`."""
    ends = zip((spec.H, spec.W), (spec.P, spec.Q), (spec.R, spec.S), spec.padding[::2],
               spec.stride, spec.dilation, strict=True)  # fmt: skip
    return tuple(Axis(n, p, r, -pad, step, d) for n, p, r, pad, step, d in ends)


def input_axes(spec):
    """The axes of its gradient with respect to the input, with the kernel turned round.

    Input x takes from output p the tap r with p * stride + r * dilation = x + pad; the turned
    kernel begins with the last one, dilation * (taps - 1) before.
    """
    ends = zip((spec.P, spec.Q), (spec.H, spec.W), (spec.R, spec.S), spec.padding[::2],
               spec.stride, spec.dilation, strict=True)  # fmt: skip
    return tuple(Axis(p, n, r, pad - d * (r - 1), 1, d, s) for p, n, r, pad, s, d in ends)


@cache
def fast_length(n):
    """The next length of which transforms are quick: 2^a 3^b 5^c, and even.

    Examples
    --------
    >>> fast_length(7), fast_length(97)
    (8, 100)
    """
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def _cut(axis, side):
    """(outputs of a tile, its length) for tiles of about `side`."""
    most = max(1, (side - axis.extent) // axis.step + 1)
    count = -(-axis.n_out // most)
    each = -(-axis.n_out // count)
    return each, fast_length((each - 1) * axis.step + axis.extent)


def _work(points):
    """Steps of one transform: points log2(points), a third more where no cache holds them."""
    return points * math.log2(points) * (1 if points <= CACHED else 4 / 3)


@lru_cache(maxsize=4096)
def tiles(rows, cols):
    """The tiles of an image with these axes.

    Examples
    --------
    >>> tiles(Axis(100, 92, 9, 0), Axis(60, 52, 9, 0)).size
    (100, 60)
    """
    found = []
    for side in SIDES:
        (p, height), (q, width) = _cut(rows, side), _cut(cols, side)
        count = -(-rows.n_out // p) * -(-cols.n_out // q)
        found.append(Tiles(p, q, (height, width), count))
    smallest = min(t.size[0] * t.size[1] for t in found)
    fitting = [t for t in found if t.size[0] * t.size[1] <= max(POINTS, smallest)]
    return min(fitting, key=lambda t: t.count * (2 * _work(t.size[0] * t.size[1]) + TILE))


def work(spec, axes, taken, made):
    """(steps of all transforms and tiles, products of spectra) that a call takes."""
    cut = tiles(*axes)
    points = cut.size[0] * cut.size[1]
    products = made * taken // spec.groups
    images = spec.N * cut.count
    steps = (images * (taken + made) + products) * _work(points) + images * spec.groups * TILE
    return steps, images * products * points


@cache
def _library():
    try:
        from scipy import fft
    except ImportError:
        from numpy import fft
    return fft.rfft2, fft.irfft2


def _copy_rows(axis, first, need):
    """(slice of the input, slice of the tile) of what lies in the tile that begins at `first`."""
    begin = max(0, -(-first // axis.spread))
    end = max(begin, min(axis.n_in, (first + need - 1) // axis.spread + 1))
    at = begin * axis.spread - first
    return slice(begin, end), slice(at, at + (end - begin) * axis.spread, axis.spread)


def is_whole(a):
    """Whether an array has whole numbers alone.

    Examples
    --------
    >>> is_whole(np.array([1.0, -3.0])), is_whole(np.array([1.0, 0.5]))
    (True, False)
    """
    return bool((np.rint(a) == a).all())


def _norm(a):
    return math.sqrt(np.square(a, dtype=np.float64).sum())


def _kept(axis, outputs):
    """Where the outputs of a tile lie in what comes back."""
    return slice(0, (outputs - 1) * axis.step + 1, axis.step)


@contextmanager
def _team(threads):
    """A `map` on this many threads."""
    if threads <= 1:
        yield map
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def correlate(axes, groups, x, w, bias, out, threads):
    """out[n, k] = bias[k] + sum over c of x[n, c] correlated with w[k, c], along these axes.

    Parameters
    ----------
    axes : pair of Axis
    groups : int
    x : array of shape (N, C, H, W), any strides
    w : array of shape (K, C / groups, R, S), any strides
    bias : array of shape (K,) or None
    out : array of shape (N, K, P, Q), any strides
    threads : int

    Returns
    -------
    bool
        False where another method has to do it (see above): `out` is then of no use.
    """
    rows, cols = axes
    cut = tiles(rows, cols)
    height, width = cut.size
    rfft2, irfft2 = _library()
    plane = height * (width // 2 + 1) * 2 * x.itemsize
    ci, co = x.shape[1] // groups, out.shape[1] // groups
    most = max(1, SPECTRA // 4 // plane)  # planes of a block of channels
    cb = min(ci, most)
    kb = min(co, most, max(1, SPECTRA // (cb * plane)))

    whole = is_whole(w)

    def spectra(k0, k1, c0, c1):
        spread = np.zeros((k1 - k0, c1 - c0, height, width), x.dtype)
        spread[:, :, : rows.extent : rows.tap_step, : cols.extent : cols.tap_step] = w[k0:k1, c0:c1]
        return np.conj(rfft2(spread))

    def run(item):
        (n, p0, q0), (k0, k1), (c0, c1), kernels, shift = item
        p1, q1 = min(p0 + cut.rows, rows.n_out), min(q0 + cut.cols, cols.n_out)
        tile = np.zeros((c1 - c0, height, width), x.dtype)
        from_h, to_h = _copy_rows(rows, rows.start + p0 * rows.step,
                                  (p1 - p0 - 1) * rows.step + rows.extent)  # fmt: skip
        from_w, to_w = _copy_rows(cols, cols.start + q0 * cols.step,
                                  (q1 - q0 - 1) * cols.step + cols.extent)  # fmt: skip
        tile[:, to_h, to_w] = x[n, shift + c0 : shift + c1, from_h, from_w]
        with np.errstate(all="ignore"):
            spectrum = rfft2(tile)
            total = spectrum[0] * kernels[:, 0]
            if c1 - c0 > 1:
                product = np.empty_like(total)
                for c in range(1, c1 - c0):
                    np.multiply(spectrum[c], kernels[:, c], out=product)
                    total += product
            y = irfft2(total, (height, width))
            y = y[:, _kept(rows, p1 - p0), _kept(cols, q1 - q0)]
            if whole and is_whole(tile):
                size = _norm(tile) * max(_norm(kernel) for kernel in w[k0:k1, c0:c1])
                if 8 * np.finfo(x.dtype).eps * math.log2(height * width) * size < 0.5:
                    y = np.rint(y)
                elif x.itemsize == 8:
                    return False
            to = out[n, k0:k1, p0:p1, q0:q1]
            if c0:
                to += y
            elif bias is not None:
                np.add(y, bias[k0:k1, None, None], out=to)
            else:
                to[...] = y
            return bool(np.isfinite(y.sum()))

    places = [
        (n, p0, q0)
        for n in range(x.shape[0])
        for p0 in range(0, rows.n_out, cut.rows)
        for q0 in range(0, cols.n_out, cut.cols)
    ]
    blocks = [
        ((g * co + k0, min(g * co + k0 + kb, (g + 1) * co)), (c0, min(c0 + cb, ci)), g * ci)
        for g in range(groups)
        for k0 in range(0, co, kb)
        for c0 in range(0, ci, cb)
    ]
    if len(places) * height * width < SERIAL_POINTS:
        threads = 1
    with _team(min(threads, len(places))) as share:
        for ks, cs, shift in blocks:
            kernels = spectra(*ks, *cs)
            if not all(share(run, [(place, ks, cs, kernels, shift) for place in places])):
                return False
    return True
