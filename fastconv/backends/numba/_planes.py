"""Everything that works plane by plane or element by element: pooling, activations, sums.

Arrays are flat and packed inside the kernels. Rows of all planes are counted through, and each
piece of work is a range of them: every row is computed in one way whatever the range, so the bits
do not depend on the number of threads.

Rows are walked in vectors; the last one overlaps its neighbour. A row shorter than a vector is
computed as a whole one where what lies behind it in the output is still to be written.
"""

import numpy as np

from fastconv.backends.numba._jit import compiled, helper, inlined
from fastconv.backends.numba._simd import (
    add,
    bits,
    both,
    count,
    divide,
    either,
    equal,
    evens,
    every,
    first,
    fma,
    greater,
    load,
    load_wide,
    maximum,
    minimum,
    multiply,
    odds,
    pick,
    shift_left,
    splat,
    splat_bits,
    splat_wide,
    store,
    subtract,
    unbits,
    undercuts,
    wins,
    xor,
    zip_high,
    zip_low,
)

SERIAL_BYTES = 131072  # less traffic than this: starting threads costs more than they save
LANES = 16  # the most that a vector has

u = np.uintp  # an index of this type is not checked for counting from the end


# --- maximum, minimum and average ----------------------------------------------------------------
#
# `least` is None for the maximum, True for the minimum: a kernel is compiled for the one or the
# other. `divisors` is None for both, else (row_div, col_div, scale): row_div * col_div divides, or
# scale multiplies where it is the same power of two everywhere and not 0.


@inlined
def _beats(v, m, least):
    if least is None:
        return wins(v, m)
    else:
        return undercuts(v, m)


@inlined
def _beats1(v, m, least):
    if least is None:
        return (v > m) | (v != v)
    else:
        return (v < m) | (v != v)


@inlined
def _extreme(v, m, least):
    if least is None:
        return maximum(v, m)
    else:
        return minimum(v, m)


@inlined
def _join(v, acc, divisors, least):
    if divisors is None:
        return _extreme(v, acc, least)
    else:
        return add(acc, v)


@inlined
def _join1(v, acc, divisors, least):
    if divisors is None:
        return v if _beats1(v, acc, least) else acc
    else:
        return acc + v


@inlined
def _finish(x, acc, divisors, p, q):
    """The mean from the sum; p and q are the places in row_div and col_div."""
    if divisors is None:
        return acc
    else:
        row_div, col_div, scale = divisors
        if scale != 0:
            return multiply(acc, splat(scale, x))
        return divide(acc, multiply(splat(row_div[u(p)], x), load(col_div, q)))


@inlined
def _finish1(acc, divisors, p, q):
    if divisors is None:
        return acc
    else:
        row_div, col_div, _ = divisors
        return acc / (row_div[u(p)] * col_div[u(q)])


@inlined
def _is_2x2(g):
    _, _, H, W, R, S, stride_h, stride_w, top, left, dilation_h, dilation_w, P, Q = g
    return (
        (R == 2 and S == 2 and stride_h == 2 and stride_w == 2)
        and (dilation_h == 1 and dilation_w == 1 and top == 0 and left == 0)
        and (2 * P <= H and 2 * Q <= W)
    )


@helper
def _rows_2x2(x, out, start, stop, g, divisors, least):
    _, _, H, W, _, _, _, _, _, _, _, _, P, Q = g
    lanes = count(x)
    plane = start // P
    p = start - plane * P
    above = (plane * H + 2 * p) * W
    for t in range(start, stop):
        to = t * Q
        below = above + W
        if Q >= lanes or (to + lanes <= stop * Q and below + 2 * lanes <= x.size):
            q = 0
            while q < Q:
                if q > Q - lanes and Q >= lanes:
                    q = Q - lanes
                a, b = above + 2 * q, below + 2 * q
                low = _join(load(x, b), load(x, a), divisors, least)
                high = _join(load(x, b + lanes), load(x, a + lanes), divisors, least)
                acc = _join(odds(low, high), evens(low, high), divisors, least)
                store(out, to + q, _finish(x, acc, divisors, p, 0))
                q += lanes
        else:
            for q in range(Q):
                a, b = above + 2 * q, below + 2 * q
                low = _join1(x[u(b)], x[u(a)], divisors, least)
                high = _join1(x[u(b + 1)], x[u(a + 1)], divisors, least)
                out[u(to + q)] = _finish1(_join1(high, low, divisors, least), divisors, p, q)
        p += 1
        above += 2 * W
        if p == P:
            p = 0
            above += (H - 2 * P) * W


@inlined
def _inside(p, stride, top, dilation, H, R):
    """The rows of output row p that lie in the image: taps from, .. to - 1."""
    h = p * stride - top
    begin, end = max(-h, 0), max(H - h, 0)
    if dilation > 1:  # a division for each row would show
        begin, end = (begin + dilation - 1) // dilation, (end + dilation - 1) // dilation
    end = min(end, R)
    return min(begin, end), end


@inlined
def _down(x, at, step, rows, n, buffer, to, divisors, least):
    """buffer[to + i] = join of x[at + r * step + i] over the rows r."""
    lanes = count(x)
    if n < lanes:
        for i in range(n):
            acc = x[u(at + i)]
            for r in range(1, rows):
                acc = _join1(x[u(at + r * step + i)], acc, divisors, least)
            buffer[u(to + i)] = acc
        return
    i = 0
    while i < n:
        if i > n - lanes:
            i = n - lanes
        acc = load(x, at + i)
        if rows == 3:
            acc = _join(load(x, at + step + i), acc, divisors, least)
            acc = _join(load(x, at + 2 * step + i), acc, divisors, least)
        else:
            for r in range(1, rows):
                acc = _join(load(x, at + r * step + i), acc, divisors, least)
        store(buffer, to + i, acc)
        i += lanes


@inlined
def _along(buffer, at, taps, step, stride, divisors, least):
    """Join over the taps, for a vector of outputs; stride is 1 or 2."""
    lanes = count(buffer)
    if stride == 1:
        acc = load(buffer, at)
        if taps == 3:
            acc = _join(load(buffer, at + step), acc, divisors, least)
            acc = _join(load(buffer, at + 2 * step), acc, divisors, least)
        else:
            for s in range(1, taps):
                acc = _join(load(buffer, at + s * step), acc, divisors, least)
        return acc
    low, high = load(buffer, at), load(buffer, at + lanes)
    acc = evens(low, high)
    if step == 1 and taps == 3:
        acc = _join(odds(low, high), acc, divisors, least)
        last = evens(load(buffer, at + 2), load(buffer, at + 2 + lanes))
        return _join(last, acc, divisors, least)
    for s in range(1, taps):
        v = evens(load(buffer, at + s * step), load(buffer, at + s * step + lanes))
        acc = _join(v, acc, divisors, least)
    return acc


@helper
def _rows(x, out, start, stop, g, divisors, least, outside, buffer):
    """Down the columns into a row buffer that holds the padding, then along it."""
    _, _, H, W, R, S, stride_h, stride, top, left, dilation_h, step, P, Q = g
    lanes = count(x)
    span = (Q - 1) * stride + (S - 1) * step + 1
    inside = min(W, span - left)
    packed = buffer.size - lanes  # where a row waits that must not be written in whole vectors
    for i in range(buffer.size):
        buffer[u(i)] = outside
    plane = start // P
    p = start - plane * P - 1
    for t in range(start, stop):
        p += 1
        if p == P:
            p = 0
            plane += 1
        begin, end = _inside(p, stride_h, top, dilation_h, H, R)
        if begin < end:
            row = plane * H + p * stride_h - top + begin * dilation_h
            _down(x, row * W, dilation_h * W, end - begin, inside, buffer, left, divisors, least)
        else:
            for i in range(inside):
                buffer[u(left + i)] = outside
        to = t * Q
        if stride > 2:
            for q in range(Q):
                acc = buffer[u(q * stride)]
                for s in range(1, S):
                    acc = _join1(buffer[u(q * stride + s * step)], acc, divisors, least)
                out[u(to + q)] = _finish1(acc, divisors, p, q)
        elif Q >= lanes:
            q = 0
            while q < Q:
                if q > Q - lanes:
                    q = Q - lanes
                acc = _along(buffer, q * stride, S, step, stride, divisors, least)
                store(out, to + q, _finish(x, acc, divisors, p, q))
                q += lanes
        else:
            acc = _finish(x, _along(buffer, 0, S, step, stride, divisors, least), divisors, p, 0)
            if to + lanes <= stop * Q:
                store(out, to, acc)
            else:
                store(buffer, packed, acc)
                for q in range(Q):
                    out[u(to + q)] = buffer[u(packed + q)]


@compiled
def _pool(i, pieces, x, out, g, divisors, least, outside, buffers):
    rows = g[0] * g[1] * g[12]
    start, stop = rows * i // pieces, rows * (i + 1) // pieces
    if _is_2x2(g):
        _rows_2x2(x, out, start, stop, g, divisors, least)
    else:
        _rows(x, out, start, stop, g, divisors, least, outside, buffers[i])


# --- extremes with their places ------------------------------------------------------------------


@helper
def _rows_2x2_at(x, out, at, start, stop, g, least):
    _, _, H, W, _, _, _, _, _, _, _, _, P, Q = g
    lanes = count(x)
    plane = start // P
    p = start - plane * P
    above = (plane * H + 2 * p) * W
    zero, one = splat_wide(0, x), splat_wide(1, x)
    third, fourth = splat_wide(W, x), splat_wide(W + 1, x)
    columns = add(first(x), first(x))
    for t in range(start, stop):
        to = t * Q
        below = above + W
        if Q >= lanes or (to + lanes <= stop * Q and below + 2 * lanes <= x.size):
            q = 0
            while q < Q:
                if q > Q - lanes and Q >= lanes:
                    q = Q - lanes
                low, high = load(x, above + 2 * q), load(x, above + 2 * q + lanes)
                m, v = evens(low, high), odds(low, high)
                new = _beats(v, m, least)
                m, where = pick(new, v, m), pick(new, one, zero)
                low, high = load(x, below + 2 * q), load(x, below + 2 * q + lanes)
                v = evens(low, high)
                new = _beats(v, m, least)
                m, where = pick(new, v, m), pick(new, third, where)
                v = odds(low, high)
                new = _beats(v, m, least)
                m, where = pick(new, v, m), pick(new, fourth, where)
                store(out, to + q, m)
                corner = splat_wide(2 * p * W + 2 * q, x)
                store(at, to + q, add(add(where, columns), corner))
                q += lanes
        else:
            for q in range(Q):
                m, where = x[u(above + 2 * q)], 0
                for r in range(2):
                    for s in range(2):
                        v = x[u(above + r * W + 2 * q + s)]
                        if _beats1(v, m, least):
                            m, where = v, r * W + s
                out[u(to + q)] = m
                at[u(to + q)] = 2 * p * W + 2 * q + where
        p += 1
        above += 2 * W
        if p == P:
            p = 0
            above += (H - 2 * P) * W


@inlined
def _copy(x, at, n, buffer, to):
    lanes = count(x)
    i = 0
    if n >= lanes:
        while i < n:
            if i > n - lanes:
                i = n - lanes
            store(buffer, to + i, load(x, at + i))
            i += lanes
    else:
        for i in range(n):
            buffer[u(to + i)] = x[u(at + i)]


@helper
def _rows_at(x, out, at, start, stop, g, least, buffer, begins):
    """All taps in row-major order, from rows that are staged with their padding."""
    _, _, H, W, R, S, stride_h, stride, top, left, dilation_h, step, P, Q = g
    lanes = count(x)
    span = (Q - 1) * stride + (S - 1) * step + 1
    room = span + 3 * lanes
    inside = min(W, span - left)
    packed = R * room
    outside = -np.inf if least is None else np.inf
    for i in range(buffer.size):
        buffer[u(i)] = outside
    # where a row's search starts, from the window's corner: the first column in the image
    for q in range(begins.size):
        w = min(q, Q - 1) * stride - left
        to = w + (-w + step - 1) // step * step if w < 0 else w
        begins[u(q)] = to - w
    worst, columns = splat(outside, x), multiply(first(x), splat_wide(stride, x))
    for t in range(start, stop):
        plane = t // P
        p = t - plane * P
        begin, end = _inside(p, stride_h, top, dilation_h, H, R)
        h = p * stride_h - top
        corner = h * W - left
        to = t * Q
        if stride > 2:
            for q in range(Q):
                m = x.dtype.type(outside)
                where = begin * dilation_h * W + begins[u(q)]
                for r in range(begin, end):
                    row = (plane * H + h + r * dilation_h) * W
                    for s in range(S):
                        w = q * stride - left + s * step
                        if 0 <= w < W:
                            v = x[u(row + w)]
                            if _beats1(v, m, least):
                                m, where = v, r * dilation_h * W + s * step
                out[u(to + q)] = m
                at[u(to + q)] = corner + q * stride + where
            continue
        for r in range(begin, end):
            row = (plane * H + h + r * dilation_h) * W
            _copy(x, row, inside, buffer, r * room + left)
        q = 0
        while q < Q:
            if q > Q - lanes and Q >= lanes:
                q = Q - lanes
            m = worst
            where = add(load_wide(begins, q, x), splat_wide(begin * dilation_h * W, x))
            for r in range(begin, end):
                for s in range(S):
                    i = r * room + q * stride + s * step
                    v = load(buffer, i)
                    if stride == 2:
                        v = evens(v, load(buffer, i + lanes))
                    new = _beats(v, m, least)
                    m = pick(new, v, m)
                    where = pick(new, splat_wide(r * dilation_h * W + s * step, x), where)
            where = add(add(where, columns), splat_wide(corner + q * stride, x))
            if Q >= lanes or to + lanes <= stop * Q:
                store(out, to + q, m)
                store(at, to + q, where)
            else:
                store(buffer, packed, m)
                store(begins, begins.size - lanes, where)
                for i in range(Q):
                    out[u(to + i)] = buffer[u(packed + i)]
                    at[u(to + i)] = begins[u(begins.size - lanes + i)]
            q += lanes


@compiled
def _pool_at(i, pieces, x, out, at, g, least, buffers, begins):
    rows = g[0] * g[1] * g[12]
    start, stop = rows * i // pieces, rows * (i + 1) // pieces
    if _is_2x2(g):
        _rows_2x2_at(x, out, at, start, stop, g, least)
    else:
        _rows_at(x, out, at, start, stop, g, least, buffers[i], begins[i])


# --- gradients -----------------------------------------------------------------------------------


@helper
def _unpool_2x2(y, dx, start, stop, g, divisors):
    _, _, H, W, _, _, _, _, _, _, _, _, P, Q = g
    lanes = count(y)
    t = start
    while t < stop:
        plane = t // H
        h = t - plane * H
        p = h // 2
        if p >= P:
            for w in range(W):
                dx[u(t * W + w)] = 0
            t += 1
            continue
        rows = 2 if h % 2 == 0 and t + 1 < stop else 1
        of = (plane * P + p) * Q
        to = t * W
        if Q >= lanes:
            q = 0
            while q < Q:
                if q > Q - lanes:
                    q = Q - lanes
                v = _finish(y, load(y, of + q), divisors, p, 0)
                low, high = zip_low(v, v), zip_high(v, v)
                store(dx, to + 2 * q, low)
                store(dx, to + 2 * q + lanes, high)
                if rows == 2:
                    store(dx, to + W + 2 * q, low)
                    store(dx, to + W + 2 * q + lanes, high)
                q += lanes
            for r in range(rows):
                for w in range(2 * Q, W):
                    dx[u(to + r * W + w)] = 0
        elif of + lanes <= y.size and to + (rows - 1) * W + 2 * lanes <= stop * W:
            v = _finish(y, load(y, of), divisors, p, 0)
            low, high = zip_low(v, v), zip_high(v, v)
            for r in range(rows):  # what a row writes behind itself the next one overwrites
                store(dx, to + r * W, low)
                store(dx, to + r * W + lanes, high)
                for w in range(2 * Q, W):
                    dx[u(to + r * W + w)] = 0
        else:
            for r in range(rows):
                for w in range(W):
                    dx[u(to + r * W + w)] = 0
                for q in range(Q):
                    v = _finish1(y[u(of + q)], divisors, p, q)
                    dx[u(to + r * W + 2 * q)] = v
                    dx[u(to + r * W + 2 * q + 1)] = v
        t += rows


@inlined
def _unpool_columns(y, begin, end, plane, g, divisors, buffer, before):
    """What the windows begin, .. end - 1 over a row give, by window column."""
    row_div, col_div, scale = divisors
    P, Q = g[12], g[13]
    lanes = count(y)
    if Q < lanes:
        for q in range(Q):
            acc = y.dtype.type(0)
            for p in range(begin, end):
                acc += _finish1(y[u((plane * P + p) * Q + q)], divisors, p, q)
            buffer[u(before + q)] = acc
        return
    same = True  # one division for all rows
    for p in range(begin, end):
        same &= row_div[u(p)] == row_div[u(begin)]
    q = 0
    while q < Q:
        if q > Q - lanes:
            q = Q - lanes
        acc = splat(0, y)
        if same:
            for p in range(begin, end):
                acc = add(acc, load(y, (plane * P + p) * Q + q))
            if begin < end:
                acc = _finish(y, acc, divisors, begin, q)
        else:
            for p in range(begin, end):
                v = load(y, (plane * P + p) * Q + q)
                acc = add(acc, _finish(y, v, divisors, p, q))
        store(buffer, before + q, acc)
        q += lanes


@inlined
def _unpool_pixels(buffer, before, at, taps, stride):
    """What the pixels at, .. of a padded row get: two vectors, of which stride 1 uses the first."""
    if stride == 1:
        acc = load(buffer, before + at)
        if taps == 3:
            acc = add(acc, load(buffer, before + at - 1))
            acc = add(acc, load(buffer, before + at - 2))
        else:
            for s in range(1, taps):
                acc = add(acc, load(buffer, before + at - s))
        return acc, acc
    even = odd = splat(0, buffer)
    for s in range(at % 2, taps, 2):
        even = add(even, load(buffer, before + (at - s) // 2))
    for s in range((at + 1) % 2, taps, 2):
        odd = add(odd, load(buffer, before + (at + 1 - s) // 2))
    return zip_low(even, odd), zip_high(even, odd)


@helper
def _unpool_rows(y, dx, start, stop, g, divisors, buffer):
    """For each row: what all windows over it give, by window column, then by pixel."""
    _, _, H, W, R, S, stride_h, stride, top, left, _, _, P, _ = g
    lanes = count(y)
    before = (S - 1) // stride + 1
    packed = buffer.size - 2 * lanes
    for i in range(buffer.size):
        buffer[u(i)] = 0
    done = (-1, 0, 0)
    width = lanes * stride  # pixels from one pair of vectors
    for t in range(start, stop):
        plane = t // H
        at = t - plane * H + top
        begin = 0 if at < R else (at - R) // stride_h + 1
        end = min(at // stride_h + 1, P)
        begin = min(begin, end)
        if done != (plane, begin, end):
            _unpool_columns(y, begin, end, plane, g, divisors, buffer, before)
            done = (plane, begin, end)
        to = t * W
        if stride > 2:
            for w in range(left, left + W):
                acc = y.dtype.type(0)
                for s in range(w % stride, S, stride):
                    acc += buffer[u(before + (w - s) // stride)]
                dx[u(to + w - left)] = acc
        elif W >= width:
            w = 0
            while w < W:
                if w > W - width:
                    w = W - width
                low, high = _unpool_pixels(buffer, before, left + w, S, stride)
                store(dx, to + w, low)
                if stride == 2:
                    store(dx, to + w + lanes, high)
                w += width
        else:
            low, high = _unpool_pixels(buffer, before, left, S, stride)
            store(buffer, packed, low)
            store(buffer, packed + lanes, high)
            for w in range(W):
                dx[u(to + w)] = buffer[u(packed + w)]


@compiled
def _avg_unpool(i, pieces, y, dx, g, divisors, buffers):
    rows = g[0] * g[1] * g[2]
    start, stop = rows * i // pieces, rows * (i + 1) // pieces
    if _is_2x2(g):
        _unpool_2x2(y, dx, start, stop, g, divisors)
    else:
        _unpool_rows(y, dx, start, stop, g, divisors, buffers[i])


@helper
def _max_unpool_2x2(y, at, dx, plane, H, W, P, Q, end):
    """False if some index lies outside its 2x2 window; the plane is then half done.

    `end` is the place in dx up to which this piece may write.
    """
    lanes = count(y)
    columns = add(first(y), first(y))
    zero, one = splat_wide(0, y), splat_wide(1, y)
    third, fourth = splat_wide(W, y), splat_wide(W + 1, y)
    nothing = splat(0, y)
    behind = greater(first(y), splat_wide(Q - 1, y))  # lanes that belong to the next row
    for p in range(P):
        of = (plane * P + p) * Q
        to = (plane * H + 2 * p) * W
        if Q >= lanes or (of + lanes <= y.size and to + W + 2 * lanes <= end):
            found = equal(zero, zero)
            q = 0
            while q < Q:
                if q > Q - lanes and Q >= lanes:
                    q = Q - lanes
                v = load(y, of + q)
                corner = add(columns, splat_wide(2 * (p * W + q), y))
                place = subtract(load_wide(at, of + q, y), corner)
                a, b = equal(place, zero), equal(place, one)
                c, d = equal(place, third), equal(place, fourth)
                found = both(found, either(either(either(a, b), either(c, d)), behind))
                even, odd = pick(a, v, nothing), pick(b, v, nothing)
                store(dx, to + 2 * q, zip_low(even, odd))
                store(dx, to + 2 * q + lanes, zip_high(even, odd))
                if W > 2 * Q:
                    dx[u(to + 2 * Q)] = 0
                even, odd = pick(c, v, nothing), pick(d, v, nothing)
                store(dx, to + W + 2 * q, zip_low(even, odd))
                store(dx, to + W + 2 * q + lanes, zip_high(even, odd))
                if W > 2 * Q:
                    dx[u(to + W + 2 * Q)] = 0
                q += lanes
            if not every(found):
                return False
        else:
            for w in range(2 * W):
                dx[u(to + w)] = 0
            for q in range(Q):
                place = at[u(of + q)] - 2 * (p * W + q)
                if place != 0 and place != 1 and place != W and place != W + 1:
                    return False
                dx[u(to + 2 * q + place)] = y[u(of + q)]
    for w in range(2 * P * W, H * W):
        dx[u(plane * H * W + w)] = 0
    return True


@helper
def _scatter(y, at, dx, plane, pixels, each):
    """dx[i] = sum of y with at = i; the first place of an i that is none, or -1."""
    for i in range(plane * pixels, (plane + 1) * pixels):
        dx[u(i)] = 0
    for i in range(plane * each, (plane + 1) * each):
        place = at[u(i)]
        if place < 0 or place >= pixels:
            return i
        dx[u(plane * pixels + place)] += y[u(i)]
    return -1


@compiled
def _max_unpool(i, pieces, y, at, dx, g, wrong):
    planes, H, W, P, Q = g
    stop = planes * (i + 1) // pieces
    for plane in range(planes * i // pieces, stop):
        if H // 2 == P and W // 2 == Q:
            if _max_unpool_2x2(y, at, dx, plane, H, W, P, Q, stop * H * W):
                continue
        bad = _scatter(y, at, dx, plane, H * W, P * Q)
        if bad >= 0:
            wrong[i] = bad
            break


# --- sums ----------------------------------------------------------------------------------------


@helper
def _sum(x, start, stop, lane):
    """Partial sums by lane over blocks, the blocks' sums added up in double precision."""
    lanes = count(x)
    total = 0.0
    i = start
    while i < stop:
        end = min(i + 64 * lanes, stop)
        a = b = c = d = splat(0, x)
        while i + 4 * lanes <= end:
            a = add(a, load(x, i))
            b = add(b, load(x, i + lanes))
            c = add(c, load(x, i + 2 * lanes))
            d = add(d, load(x, i + 3 * lanes))
            i += 4 * lanes
        while i + lanes <= end:
            a = add(a, load(x, i))
            i += lanes
        store(lane, 0, add(add(a, b), add(c, d)))
        for j in range(lanes):
            total += lane[u(j)]
        while i < end:
            total += x[u(i)]
            i += 1
    return total


@compiled
def _channel_sum(i, pieces, x, out, images, pixels, lane):
    channels = out.size
    for k in range(channels * i // pieces, channels * (i + 1) // pieces):
        total = 0.0
        for n in range(images):
            at = (n * channels + k) * pixels
            total += _sum(x, at, at + pixels, lane[i])
        out[k] = total


# --- activations ---------------------------------------------------------------------------------
#
# As csrc/kernels/activation.h: e^y = 2^k e^r with k = round(y / ln 2) and r = y - k ln 2 from ln 2
# in two parts (Cody and Waite, Software Manual for the Elementary Functions, 1980, chapter 6), for
# y <= 0 only, where nothing overflows.

RELU, SIGMOID, TANH = 0, 1, 2
fromhex = float.fromhex
KINDS = {"relu": RELU, "sigmoid": SIGMOID, "tanh": TANH}


# bits of the mantissa, bias of the exponent, the number that rounds to whole ones when it is added,
# ln 2 in two parts, where e^y is 0; (e^r - 1 - r) / r^2 as a polynomial, highest power first
_F32 = (
    (23.0, 127.0, 1.5 * 2**23, fromhex("0x1.63p-1"), fromhex("-0x1.bd0106p-13"), -104.0),
    tuple(map(fromhex, "0x1.6d10fcp-10 0x1.120b62p-7 0x1.55551ap-5 0x1.5554dep-3 0x1p-1".split())),
)
_F64 = (
    (
        52.0,
        1023.0,
        1.5 * 2**52,
        fromhex("0x1.62e42fee00000p-1"),
        fromhex("0x1.a39ef35793c76p-33"),
        -746.0,
    ),
    tuple(
        map(
            fromhex,
            """0x1.af389ecfc4b9cp-26 0x1.28917c89a43a7p-22 0x1.71de0db2f6b19p-19
            0x1.a019b9149a41cp-16 0x1.a01a01a7c2efep-13 0x1.6c16c17889ef1p-10
            0x1.11111111109b5p-7 0x1.5555555553d68p-5 0x1.5555555555556p-3
            0x1.0000000000001p-1""".split(),
        )
    ),
)
_LOG2E = fromhex("0x1.71547652b82fep+0")


@inlined
def _expm1(y, like, constants):
    """(z, k as the bits of an integer): e^y = 2^k (1 + z), for `least` <= y <= 0 or NaN."""
    numbers, coefficients = constants
    magic = splat(numbers[2], like)
    t = fma(y, splat(_LOG2E, like), magic)
    n = subtract(t, magic)
    k = subtract(bits(t), bits(magic))
    r = fma(n, splat(-numbers[3], like), y)
    r = fma(n, splat(-numbers[4], like), r)
    p = splat(coefficients[0], like)
    for i in range(1, len(coefficients)):
        p = fma(p, r, splat(coefficients[i], like))
    return fma(multiply(r, r), p, r), k


@inlined
def _power_of_2(k, like, constants, more):
    """2^(k + more)."""
    numbers = constants[0]
    exponent = add(k, splat_bits(int(numbers[1]) + more, like))
    return unbits(shift_left(exponent, splat_bits(int(numbers[0]), like)))


@inlined
def _exp(y, like, constants):
    """e^y for y <= 0 or NaN."""
    least = splat(constants[0][5], like)
    z, k = _expm1(pick(wins(y, least), y, least), like, constants)
    # in two steps: 2^k itself may be denormal
    e = multiply(add(z, splat(1.0, like)), _power_of_2(k, like, constants, 64))
    return multiply(e, splat(2.0**-64, like))


@inlined
def _activated(kind, x, like, constants):
    zero, one = splat(0.0, like), splat(1.0, like)
    if kind == RELU:
        return pick(wins(x, zero), x, zero)
    sign = both(bits(x), bits(splat(-0.0, like)))
    size = unbits(xor(bits(x), sign))
    if kind == SIGMOID:
        e = _exp(subtract(splat(-0.0, like), size), like, constants)
        return divide(pick(greater(zero, x), e, one), add(one, e))
    # beyond half of `least` tanh is 1 in every digit
    y, least = multiply(size, splat(-2.0, like)), splat(0.5 * constants[0][5], like)
    z, k = _expm1(pick(wins(y, least), y, least), like, constants)
    scale = _power_of_2(k, like, constants, 0)
    m = fma(scale, z, subtract(scale, one))
    y = divide(subtract(zero, m), add(splat(2.0, like), m))
    return unbits(either(bits(y), sign))


@inlined
def _activated_backward(kind, grad, y, like):
    one = splat(1.0, like)
    if kind == RELU:
        zero = splat(0.0, like)
        return pick(greater(y, zero), grad, zero)
    if kind == SIGMOID:
        return multiply(grad, multiply(subtract(one, y), y))
    return multiply(grad, subtract(one, multiply(y, y)))


@helper
def _activate_line(kind, x, out, start, stop, numbers, coefficients, rest):
    constants = numbers, coefficients
    lanes = count(x)
    i = start
    while i + lanes <= stop:
        store(out, i, _activated(kind, load(x, i), x, constants))
        i += lanes
    if i < stop:  # the same code for the last few, so that their place does not show
        for j in range(i, stop):
            rest[u(j - i)] = x[u(j)]
        store(rest, 0, _activated(kind, load(rest, 0), x, constants))
        for j in range(i, stop):
            out[u(j)] = rest[u(j - i)]


@helper
def _activate_line_backward(kind, grad, y, out, start, stop, rest):
    lanes = count(y)
    i = start
    while i + lanes <= stop:
        store(out, i, _activated_backward(kind, load(grad, i), load(y, i), y))
        i += lanes
    if i < stop:
        for j in range(i, stop):
            rest[u(j - i)] = grad[u(j)]
            rest[u(lanes + j - i)] = y[u(j)]
        store(rest, 0, _activated_backward(kind, load(rest, 0), load(rest, lanes), y))
        for j in range(i, stop):
            out[u(j)] = rest[u(j - i)]


@compiled
def _activate(i, pieces, kind, x, out, numbers, coefficients, rests):
    start, stop = x.size * i // pieces, x.size * (i + 1) // pieces
    if kind == RELU:
        _activate_line(RELU, x, out, start, stop, numbers, coefficients, rests[i])
    elif kind == SIGMOID:
        _activate_line(SIGMOID, x, out, start, stop, numbers, coefficients, rests[i])
    else:
        _activate_line(TANH, x, out, start, stop, numbers, coefficients, rests[i])


@compiled
def _activate_backward(i, pieces, kind, grad, y, out, rests):
    start, stop = y.size * i // pieces, y.size * (i + 1) // pieces
    if kind == RELU:
        _activate_line_backward(RELU, grad, y, out, start, stop, rests[i])
    elif kind == SIGMOID:
        _activate_line_backward(SIGMOID, grad, y, out, start, stop, rests[i])
    else:
        _activate_line_backward(TANH, grad, y, out, start, stop, rests[i])


# --- drivers -------------------------------------------------------------------------------------


class _Memory:
    """The memory of an array, as an array that counts as writable."""

    __slots__ = ("__array_interface__", "array")

    def __init__(self, array):
        self.array = array  # kept alive
        pointer, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (pointer, False)}


def _flat(array):
    """An input as kernels take it: flat and packed."""
    array = np.ascontiguousarray(array).reshape(-1)
    # kernels only read it; Numba would compile them once more for read-only arrays
    return array if array.flags.writeable else np.asarray(_Memory(array))


class _Flat:
    """An output as kernels take it; `finish` brings it to an array that is not packed."""

    __slots__ = ("array", "given")

    def __init__(self, out):
        self.given = out
        self.array = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        self.array = self.array.reshape(-1)

    def finish(self):
        if not self.given.flags.c_contiguous:
            self.given[...] = self.array.reshape(self.given.shape)


def _pieces(size, itemsize, units, threads):
    return max(1, min(threads, units)) if size * itemsize >= SERIAL_BYTES else 1


def _span(spec):
    return (spec.Q - 1) * spec.stride[1] + (spec.S - 1) * spec.dilation[1] + 1


def max_pool2d(spec, input, out, indices, threads):
    """out = maxima of the input, and where indices is not None the places where they stood."""
    _extreme_pool2d(spec, input, out, indices, None, threads)


def min_pool2d(spec, input, out, indices, threads):
    """The same with minima."""
    _extreme_pool2d(spec, input, out, indices, True, threads)


def _extreme_pool2d(spec, input, out, indices, least, threads):
    if out.size == 0:
        return
    x, y = _flat(input), _Flat(out)
    pieces = _pieces(x.size, x.itemsize, spec.N * spec.C * spec.P, threads)
    room = _span(spec) + 3 * LANES
    if indices is None:
        buffers = np.empty((pieces, room + LANES), x.dtype)
        outside = np.inf if least else -np.inf
        _pool(pieces)(x, y.array, spec.geometry, None, least, outside, buffers)
    else:
        at = _Flat(indices)
        buffers = np.empty((pieces, spec.R * room + LANES), x.dtype)
        begins = np.empty((pieces, spec.Q + 2 * LANES), np.int64)
        _pool_at(pieces)(x, y.array, at.array, spec.geometry, least, buffers, begins)
        at.finish()
    y.finish()


def _divisors(spec, dtype):
    """(row_div, col_div, scale) with row_div * col_div the divisors of the windows."""
    if spec.divisor_override is None:
        rows, cols = spec.row_counts, spec.col_counts
        same = len(set(rows)) == len(set(cols)) == 1
        divisor = rows[0] * cols[0] if same else 0
    else:
        rows, cols, divisor = (
            (spec.divisor_override,) * spec.P,
            (1,) * spec.Q,
            spec.divisor_override,
        )
    power = divisor > 0 and divisor & (divisor - 1) == 0
    col_div = np.ones(spec.Q + LANES, dtype)
    col_div[: spec.Q] = cols
    return np.array(rows, dtype), col_div, 1.0 / divisor if power else 0.0


def avg_pool2d(spec, input, out, threads):
    """out = means of the input."""
    if out.size == 0:
        return
    x, y = _flat(input), _Flat(out)
    pieces = _pieces(x.size, x.itemsize, spec.N * spec.C * spec.P, threads)
    buffers = np.empty((pieces, _span(spec) + 4 * LANES), x.dtype)
    divisors = _divisors(spec, x.dtype)
    _pool(pieces)(x, y.array, spec.geometry, divisors, None, 0.0, buffers)
    y.finish()


def avg_pool2d_backward(spec, grad_output, out, threads):
    """out = grad_output spread over the windows."""
    if out.size == 0:
        return
    dy, dx = _flat(grad_output), _Flat(out)
    pieces = _pieces(dx.array.size, dy.itemsize, spec.N * spec.C * spec.H, threads)
    stride = spec.stride[1]
    columns = max(spec.Q, (spec.padding[2] + spec.W) // stride + 1)
    buffers = np.empty((pieces, (spec.S - 1) // stride + 1 + columns + 5 * LANES), dy.dtype)
    _avg_unpool(pieces)(dy, dx.array, spec.geometry, _divisors(spec, dy.dtype), buffers)
    dx.finish()


def max_pool2d_backward(spec, grad_output, indices, out, threads):
    """out = grad_output brought back to where the maxima stood."""
    if out.size == 0:
        return
    dy, at, dx = _flat(grad_output), _flat(indices), _Flat(out)
    pieces = _pieces(dx.array.size, dy.itemsize, spec.N * spec.C, threads)
    wrong = np.full(pieces, -1, np.int64)
    geometry = (spec.N * spec.C, spec.H, spec.W, spec.P, spec.Q)
    _max_unpool(pieces)(dy, at, dx.array, geometry, wrong)
    for place in wrong:
        if place >= 0:
            raise ValueError(
                f"indices: expected values from 0 to {spec.H * spec.W - 1}, got {at[place]}"
            )
    dx.finish()


def channel_sum(spec, grad_output, out, threads):
    """out[k] = sum of grad_output[:, k]."""
    images, channels, height, width = grad_output.shape
    dy, total = _flat(grad_output), _Flat(out)
    pieces = _pieces(dy.size, dy.itemsize, channels, threads)
    lane = np.empty((pieces, LANES), dy.dtype)
    _channel_sum(pieces)(dy, total.array, images, height * width, lane)
    total.finish()


def activation(kind, input, out, threads):
    """out = kind(input); kind is relu, sigmoid or tanh. The input may be `out` itself."""
    if out.size == 0:
        return
    x, y = _flat(input), _Flat(out)
    pieces = _pieces(x.size, x.itemsize, x.size, threads)
    rests = np.empty((pieces, LANES), x.dtype)
    constants = _F32 if x.itemsize == 4 else _F64
    _activate(pieces)(KINDS[kind], x, y.array, *constants, rests)
    y.finish()


def activation_backward(kind, grad_output, output, out, threads):
    """out = gradient through output = kind(x). An input may be `out` itself."""
    if out.size == 0:
        return
    grad, y, dx = _flat(grad_output), _flat(output), _Flat(out)
    pieces = _pieces(y.size, y.itemsize, y.size, threads)
    rests = np.empty((pieces, 2 * LANES), y.dtype)
    _activate_backward(pieces)(KINDS[kind], grad, y, dx.array, rests)
    dx.finish()
