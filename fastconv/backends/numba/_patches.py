"""Windows as columns: unfold, fold, and soft pooling, which unfolds a few windows at a time.

One tap of neighbouring windows is a row: every `stride`-th pixel of the image. Windows are counted
through over all planes. A row is copied in vectors, the last of which may leave rubbish behind it
where something is still to be written.
"""

import numpy as np

from fastconv.backends.numba._jit import compiled, helper, inlined
from fastconv.backends.numba._planes import _F32, _F64, LANES, _exp, _Flat, _flat, _pieces
from fastconv.backends.numba._simd import (
    add,
    count,
    divide,
    equal,
    evens,
    first,
    fma,
    greater,
    load,
    maximum,
    multiply,
    pick,
    splat,
    splat_wide,
    store,
    subtract,
    zip_high,
    zip_low,
)

BLOCK_BYTES = 16384  # one of the two sets of columns that soft pooling works on, if they are short
BLOCK = 256  # windows in a block at most

u = np.uintp  # an index of this type is not checked for counting from the end


@inlined
def _finite(v, finite):
    if finite is None:
        return v
    else:
        return add(v, subtract(v, v))


@inlined
def _finite1(v, finite):
    return v if finite is None else v + (v - v)


@inlined
def _take(x, at, n, stride, y, to, finite):
    """y[to + i] = x[at + i * stride] for i < n; what lies behind in y may be written, too.

    Infinities become NaN where `finite` is True, and stay where it is None.
    """
    lanes = count(x)
    i = 0
    if stride <= 2:
        while i < n and to + i + lanes <= y.size and at + stride * (i + lanes) <= x.size:
            v = load(x, at + stride * i)
            if stride == 2:
                v = evens(v, load(x, at + 2 * i + lanes))
            store(y, to + i, _finite(v, finite))
            i += lanes
    while i < n:
        y[u(to + i)] = _finite1(x[u(at + i * stride)], finite)
        i += 1


@inlined
def _give(y, at, n, x, to, stride, end):
    """x[to + i * stride] += y[at + i] for i < n; 0 is added to others before x[end]."""
    lanes = count(x)
    zero = splat(0, x)
    i = 0
    if stride <= 2:
        while i < n and at + i + lanes <= y.size and to + stride * (i + lanes) <= end:
            v = load(y, at + i)
            if n - i < lanes:
                v = pick(greater(splat_wide(n - i, x), first(x)), v, zero)
            if stride == 1:
                store(x, to + i, add(load(x, to + i), v))
            else:
                j = to + 2 * i
                store(x, j, add(load(x, j), zip_low(v, zero)))
                store(x, j + lanes, add(load(x, j + lanes), zip_high(v, zero)))
            i += lanes
    while i < n:
        x[u(to + i * stride)] += y[u(at + i)]
        i += 1


@inlined
def _columns(s, g):
    """The window columns whose tap s lies in the image: from .. to - 1."""
    W, stride, left, step, Q = g[3], g[7], g[9], g[11], g[13]
    w = s * step - left
    begin = (stride - 1 - w) // stride if w < 0 else 0
    end = min((W - 1 - w) // stride + 1 if w < W else 0, Q)
    return min(begin, end), end


@helper
def _unfold(x, window, n, r, s, g, outside, finite, y, to):
    """y[to + i] = tap (r, s) of window + i, or `outside`, for i < n; the rest as in `_take`."""
    _, _, H, W, _, _, stride_h, stride, top, left, dilation_h, step, P, Q = g
    begin, end = _columns(s, g)
    row = window // Q
    q = window - row * Q
    plane = row // P
    p = row - plane * P
    stop = to + n
    while to < stop:
        last = min(Q, q + stop - to)
        h = p * stride_h - top + r * dilation_h
        a = b = last
        if 0 <= h < H:
            a, b = max(min(begin, last), q), max(min(end, last), q)
        for i in range(to, to + a - q):
            y[u(i)] = outside
        at = (plane * H + h) * W + a * stride + s * step - left
        _take(x, at, b - a, stride, y, to + a - q, finite)
        for i in range(to + b - q, to + last - q):
            y[u(i)] = outside
        to += last - q
        q = 0
        p += 1
        if p == P:
            p = 0
            plane += 1


@helper
def _fold(y, at, window, n, r, s, g, x, end_of_x):
    """Tap (r, s) of window + i in x grows by y[at + i], for i < n; `_give` for what is added 0."""
    _, _, H, W, _, _, stride_h, stride, top, left, dilation_h, step, P, Q = g
    begin, end = _columns(s, g)
    row = window // Q
    q = window - row * Q
    plane = row // P
    p = row - plane * P
    stop = at + n
    while at < stop:
        last = min(Q, q + stop - at)
        h = p * stride_h - top + r * dilation_h
        if 0 <= h < H:
            a, b = max(min(begin, last), q), max(min(end, last), q)
            to = (plane * H + h) * W + a * stride + s * step - left
            _give(y, at + a - q, b - a, x, to, stride, end_of_x)
        at += last - q
        q = 0
        p += 1
        if p == P:
            p = 0
            plane += 1


@compiled
def _unfolded(i, pieces, x, out, g):
    taps, each = g[4] * g[5], g[12] * g[13]
    rows = g[0] * g[1] * taps
    start, stop = rows * i // pieces, rows * (i + 1) // pieces
    mine = out[: stop * each]  # what follows another thread may have written already
    for row in range(start, stop):
        plane = row // taps
        r = (row - plane * taps) // g[5]
        s = row - plane * taps - r * g[5]
        _unfold(x, plane * each, each, r, s, g, 0.0, None, mine, row * each)


@compiled
def _folded(i, pieces, y, out, g):
    taps, each, pixels = g[4] * g[5], g[12] * g[13], g[2] * g[3]
    planes = g[0] * g[1]
    start, stop = planes * i // pieces, planes * (i + 1) // pieces
    for plane in range(start, stop):
        for j in range(plane * pixels, (plane + 1) * pixels):
            out[u(j)] = 0
        for r in range(g[4]):
            for s in range(g[5]):
                at = (plane * taps + r * g[5] + s) * each
                _fold(y, at, plane * each, each, r, s, g, out, stop * pixels)


# --- soft pooling --------------------------------------------------------------------------------
#
# As csrc/kernels/soft_pool.h, on blocks of `room` windows: tap t of window j is x[t * room + j].
# `sign` is that of beta: a minimum is a maximum of negated values.


@inlined
def _softmax(x, j, taps, room, beta, sign, constants, powers):
    """(sum of x_t e_t, sum of e_t) for a vector of windows; e_t stays in `powers` if not None."""
    turn, outside, zero = splat(sign, x), splat(-np.inf * sign, x), splat(0.0, x)
    top = multiply(load(x, j), turn)
    for t in range(1, taps):
        top = maximum(multiply(load(x, t * room + j), turn), top)
    # of halves no difference overflows
    half, twice = splat(0.5 * sign, x), splat(2 * beta * sign, x)
    top = multiply(top, splat(-0.5, x))
    weighted = total = zero
    for t in range(taps):
        v = load(x, t * room + j)
        e = _exp(multiply(twice, fma(v, half, top)), x, constants)
        nothing = equal(v, outside)
        e, v = pick(nothing, zero, e), pick(nothing, zero, v)
        weighted, total = fma(v, e, weighted), add(total, e)
        if powers is not None:
            store(powers, t * room + j, e)
    return weighted, total


@inlined
def _unfold_taps(x, window, n, g, outside, block, room):
    """A block of windows; `outside` is infinite, and infinities of the image are made NaN."""
    for r in range(g[4]):
        for s in range(g[5]):
            _unfold(x, window, n, r, s, g, outside, True, block, (r * g[5] + s) * room)


@compiled
def _soft_pool(i, pieces, x, out, g, beta, sign, numbers, coefficients, room, blocks):
    constants = numbers, coefficients
    taps = g[4] * g[5]
    windows = g[0] * g[1] * g[12] * g[13]
    stop = windows * (i + 1) // pieces
    mine, block = out[:stop], blocks[i]
    for start in range(windows * i // pieces, stop, room):
        n = min(room, stop - start)
        _unfold_taps(x, start, n, g, -np.inf * sign, block, room)
        for j in range(0, n, count(x)):
            weighted, total = _softmax(block, j, taps, room, beta, sign, constants, None)
            store(block, j, divide(weighted, total))  # over tap 0
        _take(block, 0, n, 1, mine, start, None)


@compiled
def _soft_unpool(i, pieces, dy, x, dx, g, beta, sign, numbers, coefficients, room, blocks):
    constants = numbers, coefficients
    taps, each, pixels = g[4] * g[5], g[12] * g[13], g[2] * g[3]
    planes = g[0] * g[1]
    begin, end = planes * i // pieces, planes * (i + 1) // pieces
    for j in range(begin * pixels, end * pixels):
        dx[u(j)] = 0
    block, grads = blocks[i, 0], blocks[i, 1]
    slope, one = splat(beta, x), splat(1.0, x)
    start, stop = begin * each, end * each
    while start < stop:
        # blocks end at the same windows whatever the piece: the order of sums depends on them
        n = min(room - start % room, stop - start)
        _unfold_taps(x, start, n, g, -np.inf * sign, block, room)
        _take(dy, start, n, 1, grads, taps * room, None)  # behind the taps
        for j in range(0, n, count(x)):
            weighted, total = _softmax(block, j, taps, room, beta, sign, constants, grads)
            y, share = divide(weighted, total), divide(load(grads, taps * room + j), total)
            for t in range(taps):
                at = t * room + j
                rise = fma(slope, subtract(load(block, at), y), one)
                store(grads, at, multiply(multiply(share, load(grads, at)), rise))
        for r in range(g[4]):
            for s in range(g[5]):
                at = (r * g[5] + s) * room
                _fold(grads, at, start, n, r, s, g, dx, end * pixels)
        start += n


# --- drivers -------------------------------------------------------------------------------------


def _windows(spec):
    """The geometry of a convolution as that of a pooling."""
    n, c, h, w, _, *windows, _, p, q = spec.geometry
    return (n, c, h, w, *windows, p, q)


def unfold(spec, input, out, threads):
    """out = the patches of the input."""
    if out.size == 0:
        return
    x, y = _flat(input), _Flat(out)
    pieces = _pieces(out.size, x.itemsize, spec.N * spec.C * spec.R * spec.S, threads)
    _unfolded(pieces)(x, y.array, _windows(spec))
    y.finish()


def fold(spec, input, out, threads):
    """out = the patches added up where they came from."""
    if out.size == 0:
        return
    x, y = _flat(input), _Flat(out)
    pieces = _pieces(x.size, x.itemsize, spec.N * spec.C, threads)
    _folded(pieces)(x, y.array, _windows(spec))
    y.finish()


def _soft(spec, itemsize, windows):
    """(beta and its sign, the constants of e^y, the windows of a block) and taps in a window."""
    taps = spec.R * spec.S
    room = min(BLOCK, BLOCK_BYTES // itemsize // taps, windows)
    room = max(1, -(-room // LANES)) * LANES
    constants = _F32 if itemsize == 4 else _F64
    return (spec.beta, -1.0 if spec.beta < 0 else 1.0, *constants, room), taps


def softmax_pool2d(spec, input, out, threads):
    """out = means of the input, weighted by e^(beta x)."""
    if out.size == 0:
        return
    x, y = _flat(input), _Flat(out)
    how, taps = _soft(spec, x.itemsize, out.size)
    pieces = _pieces(x.size, x.itemsize, spec.N * spec.C * spec.P, threads)
    blocks = np.empty((pieces, taps * how[-1] + LANES), x.dtype)
    _soft_pool(pieces)(x, y.array, spec.row_geometry or spec.geometry, *how, blocks)
    y.finish()


def softmax_pool2d_backward(spec, grad_output, input, out, threads):
    """out = gradient of softmax_pool2d."""
    if out.size == 0:
        return
    dy, x, dx = _flat(grad_output), _flat(input), _Flat(out)
    how, taps = _soft(spec, x.itemsize, dy.size)
    pieces = _pieces(x.size, x.itemsize, spec.N * spec.C, threads)
    blocks = np.empty((pieces, 2, (taps + 1) * how[-1] + LANES), x.dtype)
    _soft_unpool(pieces)(dy, x, dx.array, spec.row_geometry or spec.geometry, *how, blocks)
    dx.finish()
