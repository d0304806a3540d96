"""Convolutions with one input channel a group, plane by plane, as csrc/kernels/depthwise.h.

A block of rows is staged with its padding and in the phases of its stride, so that the pixels that
a tap shows to neighbouring outputs are neighbours; then every filter of the channel goes over it.
"""

import numpy as np

from fastconv.backends.numba import _planes
from fastconv.backends.numba._jit import compiled, helper, inlined
from fastconv.backends.numba._patches import _take
from fastconv.backends.numba._planes import LANES, _Flat, _flat, _pieces
from fastconv.backends.numba._simd import count, fma, load, splat, store

BLOCK_BYTES = 65536  # staged rows of a block, if they are short

u = np.uintp  # an index of this type is not checked for counting from the end


@inlined
def _sums(block, row, pitch, at, size, w, first_w, bias, q):
    """Four vectors of outputs from column q on."""
    R, S = size
    lanes = count(block)
    a = b = c = d = splat(bias, block)
    for r in range(R):
        for s in range(S):
            weight = splat(w[u(first_w + r * S + s)], block)
            x = row + r * pitch + at[u(s)] + q
            a = fma(load(block, x), weight, a)
            b = fma(load(block, x + lanes), weight, b)
            c = fma(load(block, x + 2 * lanes), weight, c)
            d = fma(load(block, x + 3 * lanes), weight, d)
    return a, b, c, d


@inlined
def _keep(v, y, to, end, block, spare):
    """A vector of outputs, as far as it lies before `end`; `spare` is the end of the block."""
    lanes = count(block)
    if to + lanes <= end:
        store(y, to, v)
    elif to < end:
        store(block, spare, v)
        for j in range(end - to):
            y[u(to + j)] = block[u(spare + j)]


@helper
def _row(block, row, pitch, at, size, w, first_w, bias, n, y, to, end, spare):
    """y[to : to + n] = one row of outputs; what lies behind, before `end`, may be written, too."""
    lanes = count(block)
    for q in range(0, n, 4 * lanes):
        a, b, c, d = _sums(block, row, pitch, at, size, w, first_w, bias, q)
        stop = end if n - q <= 4 * lanes else to + q + 4 * lanes
        _keep(a, y, to + q, stop, block, spare)
        if n - q > lanes:
            _keep(b, y, to + q + lanes, stop, block, spare)
        if n - q > 2 * lanes:
            _keep(c, y, to + q + 2 * lanes, stop, block, spare)
        if n - q > 3 * lanes:
            _keep(d, y, to + q + 3 * lanes, stop, block, spare)


@helper
def _stage(x, plane, height, width, first, rows, stride, lead, phase, block):
    """Rows from `first` on, with zeros where there are none."""
    for i in range(rows):
        for f in range(stride):
            to = (i * stride + f) * phase
            n = 0
            if 0 <= first + i < height and f < width:
                n = (width - f + stride - 1) // stride
                at = plane + (first + i) * width + f
                _take(x, at, n, stride, block, to + lead, None)
            for j in range(to, to + lead):
                block[u(j)] = 0
            for j in range(to + lead + n, to + phase):
                block[u(j)] = 0


@compiled
def _filtered(i, pieces, x, w, bias, out, g, layout, at, blocks):
    images, channels, filters, height, width, P, Q, R, S, step, stride, top = g
    pb, lead, phase = layout
    n_pb = (P + pb - 1) // pb
    items = images * channels * n_pb
    block = blocks[i]
    spare = block.size - count(x)
    for item in range(items * i // pieces, items * (i + 1) // pieces):
        plane = item // n_pb
        c = plane % channels
        p0 = (item - plane * n_pb) * pb
        rows = min(pb, P - p0)
        _stage(
            x, plane * height * width, height, width, p0 * step - top, (rows - 1) * step + R,
            stride, lead, phase, block,
        )  # fmt: skip
        for k in range(filters):
            base = ((plane * filters + k) * P + p0) * Q
            filter = c * filters + k
            for p in range(rows):
                _row(
                    block, p * step * stride * phase, stride * phase, at, (R, S), w,
                    filter * R * S, bias[u(filter)], Q, out, base + p * Q, base + rows * Q, spare,
                )  # fmt: skip


def _run(sizes, left, x, w, bias, out, threads):
    """Stage and filter: `sizes` as _filtered takes them."""
    images, channels, filters, _, width, P, Q, R, S, step, stride, _ = sizes
    lanes = 4 * LANES  # a row is done in steps of so many
    lead = -(-max(left, 0) // stride)
    reach = max((S - 1 - left) // stride, 0) + -(-Q // lanes) * lanes
    phase = lead + max(reach, -(-width // stride)) + LANES
    at = np.array([(s - left) % stride * phase + lead + (s - left) // stride for s in range(S)])
    pb = (BLOCK_BYTES // x.itemsize // (stride * phase) - R) // step
    pb = min(max(pb, 8), P)
    units = images * channels * -(-P // pb)
    pieces = _pieces(out.size * R * S, x.itemsize, units, threads)
    blocks = np.empty((pieces, ((pb - 1) * step + R) * stride * phase + 2 * LANES), x.dtype)
    _filtered(pieces)(x, w, bias, out, sizes, (pb, lead, phase), at, blocks)


def conv2d(spec, input, weight, bias, out, activation, threads):
    """The row "conv2d"."""
    y = _Flat(out)
    if out.size:
        _, _, _, _, _, _, _, step, stride, top, left, *_ = spec.geometry
        sizes = (spec.N, spec.C, spec.K // spec.C, spec.H, spec.W, spec.P, spec.Q)
        sizes = (*sizes, spec.R, spec.S, step, stride, top)
        bias = np.zeros(spec.K, out.dtype) if bias is None else _flat(bias)
        _run(sizes, left, _flat(input), _flat(weight), bias, y.array, threads)
        if activation is not None:
            _planes.activation(activation, y.array, y.array, threads)
    y.finish()


def conv2d_input(spec, grad_output, weight, out, threads):
    """The row "conv2d_input", at stride 1: the output's gradient with the filters turned round."""
    dx = _Flat(out)
    if out.size:
        _, _, _, _, _, _, _, _, _, top, left, *_ = spec.geometry
        sizes = (spec.N, spec.C, 1, spec.P, spec.Q, spec.H, spec.W, spec.R, spec.S, 1, 1)
        turned = _flat(weight[:, :, ::-1, ::-1])
        bias = np.zeros(spec.C, out.dtype)
        sizes = (*sizes, spec.R - 1 - top)
        _run(sizes, spec.S - 1 - left, _flat(grad_output), turned, bias, dx.array, threads)
    dx.finish()
