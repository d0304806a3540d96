"""Convolution: staging, blocking and threads round the register tiles of `_tile`.

The forward pass and the gradient with respect to the input are correlations (`_correlate`): along
each axis output p and tap t meet at the input position ``start + p * step + t * tap_step``. The
gradient is one correlation for each residue of the position modulo the stride, with the taps that
reach it. The gradient with respect to the weight is a sum of products over the pixels (`_dot`).

A block of the input is staged with its padding, each axis in pieces (`Side`): one for each phase
of the stride, or one for each tap, in which neighbouring outputs are neighbours. A tap is then an
offset, and the pixels of a block count through as one long row. With a piece for every tap of both
axes the staged block is the matrix of patches: that is the method "im2col".

Work is shared out over outputs alone, and each output is summed in one order wherever a block
begins: the bits do not depend on the number of threads. The memory of a thread is bounded.
"""

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np

from fastconv.backends.numba import _planes
from fastconv.backends.numba._jit import compiled, helper
from fastconv.backends.numba._tile import (
    TILE_M,
    TILE_V,
    copy_vector,
    dot_tile,
    lanes,
    multiply_tile,
    sum_lanes,
)

SERIAL_FLOPS = 1_000_000  # below: starting threads costs more than they save
DEPTH = 256  # taps times channels that are summed in registers, about
STAGED_BYTES = 262144  # staged input of a block
RESULT_BYTES = 524288  # results of a block, or sums of the gradient of the weight
ROW = 512  # widest block
RUN_COST = 4  # staging an element, in multiply-adds of the tile
DOT_ROW = 64
DOT_PIXELS = 512
DOT_FILTERS = 32

u = np.uintp  # an index of this type is not checked for counting from the end


class Axis(NamedTuple):
    """Output p and tap t meet at ``start + p * step + t * tap_step``."""

    outputs: int
    inputs: int
    start: int
    step: int
    tap_step: int
    taps: int
    out_start: int = 0  # where output p lies in the array
    out_step: int = 1


class Side(NamedTuple):
    """An axis cut into blocks; a block is staged in pieces, each of every step-th position."""

    outputs: int
    inputs: int
    start: int
    step: int
    out_start: int
    out_step: int
    firsts: np.ndarray  # where the pieces begin, beyond the first output's first tap
    block: int  # outputs of a block
    reach: int  # what a piece has more than that


class Plan(NamedTuple):
    """A correlation, or a sum of products, and how it is cut; beside it go the Sides of its axes.

    Numba brings tuples into the body of a `prange` loop, but no tuples within tuples.
    """

    images: int
    groups: int
    channels: int  # of one group
    filters: int
    height: int  # of the output array
    width: int
    taps: int
    channel_block: int
    filter_block: int
    tile: int  # filters of a register tile
    pitch: int  # elements between filters in a block of results
    offsets: np.ndarray  # of channel and tap in the staged block


class Taps(NamedTuple):
    """Where the weight of group g, filter i, channel c and tap (r, s) lies: a sum of steps."""

    rows: int
    cols: int
    first: int
    group: int
    filter: int
    channel: int
    row: int
    col: int


# --- staging -------------------------------------------------------------------------------------


@helper
def _copy(x, at, n, to_array, to):
    """Exactly n elements."""
    width = lanes(x.itemsize)
    if n < width:
        for i in range(n):
            to_array[u(to + i)] = x[u(at + i)]
        return
    i = 0
    while i < n:
        if i > n - width:
            i = n - width
        copy_vector(x, at + i, to_array, to + i)
        i += width


@helper
def _stage_run(x, base, first, step, inputs, n, whole, buffer, to):
    """buffer[to + j] = x[base + first + j * step]; zero outside the row, and for n <= j < whole.

    Up to a vector behind it is overwritten.
    """
    if step == 1:
        begin, end = -first, inputs - first
    else:
        begin, end = -(first // step), (inputs - 1 - first) // step + 1
    begin = min(max(begin, 0), n)
    end = max(begin, min(end, n))
    for j in range(begin):
        buffer[u(to + j)] = 0
    j = begin
    if step == 1:
        width = lanes(x.itemsize)
        source = base + first
        last = x.size - width
        while j < end and source + j <= last:
            copy_vector(x, source + j, buffer, to + j)
            j += width
    while j < end:
        buffer[u(to + j)] = x[u(base + first + j * step)]
        j += 1
    for j in range(end, whole):
        buffer[u(to + j)] = 0


@helper
def _stage(x, plane, channels, row, col, p0, q0, rows, cols, full, buffer):
    """The input of outputs p0.., q0.. in `channels` planes; with `full` all rows are of one length.

    buffer[channel][row piece][column piece][row][column], in ascending order.
    """
    height, width = row.block + row.reach, col.block + col.reach
    n = cols + col.reach
    whole = width if full else n
    to = 0
    for c in range(plane, plane + channels):
        for f in range(row.firsts.size):
            above = row.start + p0 * row.step + row.firsts[u(f)]
            for e in range(col.firsts.size):
                first = col.start + q0 * col.step + col.firsts[u(e)]
                for i in range(rows + row.reach):
                    h = above + i * row.step
                    if 0 <= h < row.inputs:
                        base = (c * row.inputs + h) * col.inputs
                        at = to + i * width
                        _stage_run(x, base, first, col.step, col.inputs, n, whole, buffer, at)
                    else:
                        for j in range(whole):
                            buffer[u(to + i * width + j)] = 0
                to += height * width


# --- correlations --------------------------------------------------------------------------------


@helper
def _pack(w, packed, tile, plan, taps):
    """packed[channel, tap][filter of the tile], zeros for filters that are none."""
    m = plan.tile
    tiles = (plan.filters + m - 1) // m
    group = tile // tiles
    first = (tile - group * tiles) * m
    valid = min(m, plan.filters - first)
    to = tile * m * plan.channels * plan.taps
    for c in range(plan.channels):
        for r in range(taps.rows):
            at = taps.first + group * taps.group + first * taps.filter + c * taps.channel
            at += r * taps.row
            for _ in range(taps.cols):
                for i in range(valid):
                    packed[u(to + i)] = w[u(at + i * taps.filter)]
                for i in range(valid, m):
                    packed[u(to + i)] = 0
                at += taps.col
                to += m


@helper
def _finish(y, plan, row, col, kind, constants, filters, at, p0, q0, rows, cols, out):
    """Activation, and from the block of results to the output; `at`: first filter's plane."""
    width = col.block + col.reach
    for i in range(filters):
        of = i * plan.pitch
        stop = of + plan.pitch
        if kind == _planes.RELU:
            _planes._activate_line(_planes.RELU, y, y, of, stop, *constants, y)
        elif kind == _planes.SIGMOID:
            _planes._activate_line(_planes.SIGMOID, y, y, of, stop, *constants, y)
        elif kind == _planes.TANH:
            _planes._activate_line(_planes.TANH, y, y, of, stop, *constants, y)
        plane = (at + i) * plan.height
        if cols == width and cols == plan.width and row.out_step == 1:
            _copy(y, of, rows * cols, out, (plane + row.out_start + p0) * plan.width)
            continue
        for p in range(rows):
            to = (plane + row.out_start + (p0 + p) * row.out_step) * plan.width
            to += col.out_start + q0 * col.out_step
            if col.out_step == 1:
                _copy(y, of + p * width, cols, out, to)
            else:
                for q in range(cols):
                    out[u(to + q * col.out_step)] = y[u(of + p * width + q)]


@helper
def _multiply(w, w_at, depth, staged, offsets, bias, first, y, y_at, pitch, m, vectors, width):
    """All pixels of a block for the filters of one tile, in runs of about equal length."""
    runs = (vectors + TILE_V - 1) // TILE_V
    done = 0
    for run in range(runs):
        v = (vectors - done + runs - run - 1) // (runs - run)
        i = done * width
        multiply_tile(m, v, depth, w, w_at, staged, i, offsets, bias, first, y, y_at + i, pitch)
        done += v


@compiled
def _pack_tiles(i, pieces, w, packed, plan, taps):
    tiles = plan.groups * ((plan.filters + plan.tile - 1) // plan.tile)
    for tile in range(tiles * i // pieces, tiles * (i + 1) // pieces):
        _pack(w, packed, tile, plan, taps)


@compiled
def _correlate(
    i,
    pieces,
    x,
    w,
    bias,
    out,
    packed,
    plan,
    row,
    col,
    taps,
    kind,
    numbers,
    coefficients,
    staged,
    results,
):
    """out = correlation of x and w + bias, activated; all arrays are flat and packed.

    In one piece it packs the weights, too; several pieces find them packed.
    """
    m = plan.tile
    tiles = (plan.filters + m - 1) // m
    if pieces == 1:
        for tile in range(plan.groups * tiles):
            _pack(w, packed, tile, plan, taps)
    row_blocks = (row.outputs + row.block - 1) // row.block
    col_blocks = (col.outputs + col.block - 1) // col.block
    tile_block = plan.filter_block // m
    tile_blocks = (tiles + tile_block - 1) // tile_block
    units = plan.images * plan.groups * row_blocks * col_blocks * tile_blocks
    block, y = staged[i], results[i]
    vector = lanes(x.itemsize)
    width = col.block + col.reach
    for unit in range(units * i // pieces, units * (i + 1) // pieces):
        rest, tile_at = unit // tile_blocks, unit % tile_blocks * tile_block
        rest, q0 = rest // col_blocks, rest % col_blocks * col.block
        rest, p0 = rest // row_blocks, rest % row_blocks * row.block
        image, group = rest // plan.groups, rest % plan.groups
        rows = min(row.block, row.outputs - p0)
        cols = min(col.block, col.outputs - q0)
        vectors = ((rows - 1) * width + cols + vector - 1) // vector
        tile_end = min(tile_at + tile_block, tiles)
        for c in range(0, plan.channels, plan.channel_block):
            channels = min(plan.channel_block, plan.channels - c)
            plane = (image * plan.groups + group) * plan.channels + c
            _stage(x, plane, channels, row, col, p0, q0, rows, cols, False, block)
            for tile in range(tile_at, tile_end):
                first = (group * tiles + tile) * m if c == 0 else -1
                w_at = (group * tiles + tile) * plan.channels + c
                _multiply(
                    packed,
                    w_at * plan.taps * m,
                    channels * plan.taps,
                    block,
                    plan.offsets,
                    bias,
                    first,
                    y,
                    (tile - tile_at) * m * plan.pitch,
                    plan.pitch,
                    m,
                    vectors,
                    vector,
                )
        filters = min(tile_end * m, plan.filters) - tile_at * m
        at = (image * plan.groups + group) * plan.filters + tile_at * m
        constants = numbers, coefficients
        _finish(y, plan, row, col, kind, constants, filters, at, p0, q0, rows, cols, out)


# --- gradient with respect to the weight ---------------------------------------------------------


@helper
def _stage_filters(dy, plane, filters, plan, row, col, p0, q0, rows, cols, buffer):
    """buffer[filter][pixel], zeros where there is no pixel or no filter."""
    width = col.block
    for i in range(plan.filter_block):
        to = i * plan.pitch
        if i >= filters:
            for j in range(plan.pitch):
                buffer[u(to + j)] = 0
            continue
        at = ((plane + i) * row.outputs + p0) * col.outputs + q0
        if cols == width and cols == col.outputs:
            _copy(dy, at, rows * cols, buffer, to)
        else:
            for p in range(rows):
                _copy(dy, at + p * col.outputs, cols, buffer, to + p * width)
                for j in range(cols, width):
                    buffer[u(to + p * width + j)] = 0
        for j in range(rows * width, plan.pitch):
            buffer[u(to + j)] = 0


@compiled
def _dot(i, pieces, x, dy, out, plan, row, col, staged, filters_staged, all_sums):
    """out[filter][channel, tap] = sum of dy * x over images and pixels."""
    filter_blocks = (plan.filters + plan.filter_block - 1) // plan.filter_block
    channel_blocks = (plan.channels + plan.channel_block - 1) // plan.channel_block
    units = plan.groups * filter_blocks * channel_blocks
    block, a, sums = staged[i], filters_staged[i], all_sums[i]
    vector = lanes(x.itemsize)
    pitch = plan.channel_block * plan.taps * vector
    for unit in range(units * i // pieces, units * (i + 1) // pieces):
        rest, c0 = unit // channel_blocks, unit % channel_blocks * plan.channel_block
        group, k0 = rest // filter_blocks, rest % filter_blocks * plan.filter_block
        filters = min(plan.filter_block, plan.filters - k0)
        channels = min(plan.channel_block, plan.channels - c0)
        for j in range(sums.size):
            sums[u(j)] = 0
        for image in range(plan.images):
            x_plane = (image * plan.groups + group) * plan.channels + c0
            dy_plane = (image * plan.groups + group) * plan.filters + k0
            for p0 in range(0, row.outputs, row.block):
                rows = min(row.block, row.outputs - p0)
                for q0 in range(0, col.outputs, col.block):
                    cols = min(col.block, col.outputs - q0)
                    _stage(x, x_plane, channels, row, col, p0, q0, rows, cols, True, block)
                    _stage_filters(dy, dy_plane, filters, plan, row, col, p0, q0, rows, cols, a)
                    count = rows * col.block
                    depth = channels * plan.taps
                    _multiply_sums(a, block, sums, plan, filters, depth, count, pitch)
        for k in range(filters):
            to = ((group * plan.filters + k0 + k) * plan.channels + c0) * plan.taps
            _sum_lanes(sums, k * pitch, channels * plan.taps, a, out, to)


@helper
def _multiply_sums(a, block, sums, plan, filters, depth, count, pitch):
    """All filters, and all `depth` channels and taps, of a block."""
    m, vector = plan.tile, lanes(a.itemsize)
    for k in range(0, filters, m):
        runs = (depth + TILE_V - 1) // TILE_V
        done = 0
        for run in range(runs):
            v = (depth - done + runs - run - 1) // (runs - run)
            dot_tile(
                m,
                v,
                count,
                a,
                k * plan.pitch,
                plan.pitch,
                block,
                0,
                plan.offsets,
                done,
                sums,
                k * pitch + done * vector,
                pitch,
            )
            done += v


@helper
def _sum_lanes(sums, at, n, rest, out, to):
    """out[to + j] = sum of the lanes of vector j, for n vectors; `rest` is room for one."""
    vector = lanes(out.itemsize)
    j = 0
    while j + vector <= n:
        sum_lanes(sums, at + j * vector, out, to + j)
        j += vector
    if j < n:
        sum_lanes(sums, at + j * vector, rest, 0)
        for i in range(n - j):
            out[u(to + j + i)] = rest[u(i)]


# --- plans ---------------------------------------------------------------------------------------


def _ceil(a, b):
    return -(-a // b)


def _input_axis(residue, n_x, n_y, taps, stride, pad, dilation):
    """(axis, first kernel index, its step): the gradient where (x + pad) % stride == residue.

    Forward, x = p * stride - pad + r * dilation. With x + pad = u * stride + residue the taps that
    reach x have r * dilation % stride == residue, and p = u - (r * dilation) // stride; they are
    taken from the last one down, so that p rises with the tap.
    """
    common = gcd(dilation, stride)
    begin = _ceil(max(pad - residue, 0), stride)
    x = begin * stride + residue - pad
    outputs = max(0, _ceil(n_x - x, stride))
    reaching = [r for r in range(min(taps, stride)) if r * dilation % stride == residue]
    if not reaching:
        return Axis(outputs, n_y, 0, 1, 1, 0, x, stride), 0, 1
    apart = stride // common
    n_taps = (taps - 1 - reaching[0]) // apart + 1
    last = reaching[0] + (n_taps - 1) * apart
    start = begin - (last * dilation - residue) // stride
    return Axis(outputs, n_y, start, 1, dilation // common, n_taps, x, stride), last, -apart


def _pieces(axis, by_tap):
    """(firsts, reach, [(piece, shift) of each tap])."""
    places = [t * axis.tap_step for t in range(axis.taps)]
    if by_tap:
        return places, 0, [(t, 0) for t in range(axis.taps)]
    firsts = sorted({place % axis.step for place in places})
    taps = [(firsts.index(place % axis.step), place // axis.step) for place in places]
    return firsts, places[-1] // axis.step, taps


def _staged(axis, block, by_tap):
    """`_pieces` of a block; with a piece for every tap where that is less to stage."""
    firsts, reach, taps = _pieces(axis, by_tap)
    if not by_tap and len(firsts) * (block + reach) > axis.taps * block:
        firsts, reach, taps = _pieces(axis, True)
    side = Side(
        axis.outputs,
        axis.inputs,
        axis.start,
        axis.step,
        axis.out_start,
        axis.out_step,
        np.array(firsts, np.int64),
        block,
        reach,
    )
    return side, taps


def _layout(row, col, rows, cols, by_tap):
    """(row side, column side, elements of a channel, offsets of the taps in it)."""
    row_side, row_taps = _staged(row, rows, by_tap[0])
    col_side, col_taps = _staged(col, cols, by_tap[1])
    height, width = rows + row_side.reach, cols + col_side.reach
    piece = height * width
    row_piece = col_side.firsts.size * piece
    offsets = [f * row_piece + i * width + e * piece + j for f, i in row_taps for e, j in col_taps]
    return row_side, col_side, row_side.firsts.size * row_piece, np.array(offsets, np.int64)


def _fitting(row, col, rows, cols, by_tap, room):
    """`_layout` of a block of at most rows x cols, made smaller until a channel fits."""
    while True:
        found = _layout(row, col, rows, cols, by_tap)
        if found[2] <= room or rows * cols == 1:
            return found
        if rows > 1:
            rows = (rows + 1) // 2
        elif cols > 16:
            cols = (cols + 1) // 2
        else:
            return found


def _tile_rows(filters):
    """Filters of a register tile: as few tiles as possible, and then small ones."""
    largest = TILE_M[-1]
    each = _ceil(filters, _ceil(filters, largest))
    return next(m for m in TILE_M if m >= each)


def _as_row(row, col):
    """A 1x1 kernel that leaves the plane as it is: the plane is one long row."""
    plain = (0, 1, 1)
    for axis in (row, col):
        if (axis.start, axis.step, axis.taps) != plain or axis.outputs != axis.inputs:
            return row, col
    n = row.outputs * col.outputs
    return Axis(1, 1, 0, 1, 1, 1), Axis(n, n, 0, 1, 1, 1)


def _plan(images, groups, channels, filters, size, row, col, im2col, itemsize, threads):
    """How a correlation is cut."""
    width = lanes(itemsize)
    if row.out_step == col.out_step == 1:
        given = row
        row, col = _as_row(row, col)
        if row is not given:
            size = (1, col.outputs)
    taps = row.taps * col.taps
    m = _tile_rows(filters)
    padded = _ceil(filters, m) * m
    channel_block = min(channels, max(1, DEPTH // taps))
    pixels = max(6 * width, RESULT_BYTES // (padded * itemsize) // width * width)
    cols = min(col.outputs, ROW, pixels)
    rows = min(row.outputs, max(1, pixels // cols))
    # a piece for each column tap leaves no gap between rows, and is more to stage
    gap = (col.taps - 1) * col.tap_step // col.step
    by_tap = filters * taps * gap > RUN_COST * (col.taps - 1) * (width + 2 * cols)
    room = STAGED_BYTES // itemsize // channel_block
    sides = _fitting(row, col, rows, cols, (im2col, im2col or by_tap), room)
    row_side, col_side, channel, tap_offsets = sides
    offsets = np.arange(channel_block)[:, None] * channel + tap_offsets
    flat = (row_side.block - 1) * (col_side.block + col_side.reach) + col_side.block
    pitch = _ceil(flat, 16) * 16
    blocks = _ceil(row.outputs, row_side.block) * _ceil(col.outputs, col_side.block)
    tiles = padded // m
    share = _ceil(2 * threads, max(1, images * groups * blocks)) if threads > 1 else 1
    plan = Plan(
        images,
        groups,
        channels,
        filters,
        *size,
        taps,
        channel_block,
        _ceil(tiles, min(share, tiles)) * m,
        m,
        pitch,
        offsets.ravel(),
    )
    slack = (TILE_V + 1) * width + pitch - flat
    staged, results = channel_block * channel + slack, plan.filter_block * pitch + slack
    return plan, row_side, col_side, staged, results


@lru_cache(maxsize=256)
def _forward_plan(spec, im2col, threads):
    g = spec.groups
    row = Axis(spec.P, spec.H, -spec.padding[0], spec.stride[0], spec.dilation[0], spec.R)
    col = Axis(spec.Q, spec.W, -spec.padding[2], spec.stride[1], spec.dilation[1], spec.S)
    c, k, area = spec.C // g, spec.K // g, spec.R * spec.S
    size = spec.P, spec.Q
    taps = Taps(spec.R, spec.S, 0, k * c * area, c * area, area, spec.S, 1)
    plan = _plan(spec.N, g, c, k, size, row, col, im2col, spec.dtype.itemsize, threads)
    return [(taps, *plan)]


@lru_cache(maxsize=256)
def _input_plans(spec, im2col, threads):
    g = spec.groups
    c, k, area = spec.C // g, spec.K // g, spec.R * spec.S
    top, _, left, _ = spec.padding
    plans = []
    for i in range(spec.stride[0]):
        row, r, r_step = _input_axis(
            i, spec.H, spec.P, spec.R, spec.stride[0], top, spec.dilation[0]
        )
        for j in range(spec.stride[1]):
            col, s, s_step = _input_axis(
                j, spec.W, spec.Q, spec.S, spec.stride[1], left, spec.dilation[1]
            )
            if not (row.outputs and col.outputs and row.taps and col.taps):
                continue
            taps = Taps(
                row.taps,
                col.taps,
                r * spec.S + s,
                k * c * area,
                area,
                c * area,
                r_step * spec.S,
                s_step,
            )
            size = spec.H, spec.W
            plan = _plan(spec.N, g, k, c, size, row, col, im2col, spec.dtype.itemsize, threads)
            plans.append((taps, *plan))
    return plans


@lru_cache(maxsize=256)
def _weight_plan(spec, im2col, threads):
    g, itemsize = spec.groups, spec.dtype.itemsize
    row = Axis(spec.P, spec.H, -spec.padding[0], spec.stride[0], spec.dilation[0], spec.R)
    col = Axis(spec.Q, spec.W, -spec.padding[2], spec.stride[1], spec.dilation[1], spec.S)
    row, col = _as_row(row, col)
    c, k, taps = spec.C // g, spec.K // g, spec.R * spec.S
    width = lanes(itemsize)
    m = _tile_rows(k)
    # a wide block where the plane is one row
    cols = min(col.outputs, DOT_ROW if row.outputs > 1 else DOT_PIXELS)
    rows = min(row.outputs, max(1, DOT_PIXELS // cols))
    filter_block = min(_ceil(k, m) * m, max(m, DOT_FILTERS // m * m))
    each = taps * width * itemsize
    while filter_block > m and filter_block * each > RESULT_BYTES:
        filter_block -= m
    channel_block = min(c, max(1, RESULT_BYTES // (filter_block * each)))
    room = STAGED_BYTES // itemsize
    sides = _fitting(row, col, rows, cols, (im2col, True), room)
    row_side, col_side, channel, tap_offsets = sides
    channel_block = min(channel_block, max(1, 2 * room // channel))
    if threads > 1:
        while channel_block > 1 and (
            g * _ceil(k, filter_block) * _ceil(c, channel_block) < 2 * threads
        ):
            channel_block = (channel_block + 1) // 2
        while filter_block > m and g * _ceil(k, filter_block) * c < 2 * threads:
            filter_block -= m
    offsets = np.arange(channel_block)[:, None] * channel + tap_offsets
    pitch = _ceil(row_side.block * col_side.block, width) * width
    plan = Plan(
        spec.N,
        g,
        c,
        k,
        0,
        0,
        taps,
        channel_block,
        filter_block,
        m,
        pitch,
        offsets.ravel(),
    )
    sums = filter_block * channel_block * taps * width + width * width
    buffers = channel_block * channel + 2 * width, filter_block * pitch + width, sums
    return (plan, row_side, col_side), buffers


# --- drivers -------------------------------------------------------------------------------------

_NOTHING = -1  # no activation
_LINE = 16  # elements of a cache line, at most


def _buffers(threads, n, dtype):
    """One row of n elements, and a little more, for each thread; rows begin at cache lines."""
    n = _ceil(n, _LINE) * _LINE
    memory = np.empty(threads * n + _LINE, dtype)
    start = -memory.ctypes.data % (_LINE * 4) // memory.itemsize
    return memory[start : start + threads * n].reshape(threads, n)


def _run(plans, x, weight, bias, out, activation, threads):
    kind = _NOTHING if activation is None else _planes.KINDS[activation]
    constants = _planes._F32 if x.itemsize == 4 else _planes._F64
    for taps, plan, row, col, staged, results in plans:
        tiles = plan.groups * _ceil(plan.filters, plan.tile)
        # each group's filters, and zeros up to a whole tile
        padded = np.zeros((plan.groups, tiles // plan.groups * plan.tile), x.dtype)
        if bias is not None:
            padded[:, : plan.filters] = bias.reshape(plan.groups, plan.filters)
        packed = np.empty(tiles * plan.tile * plan.channels * plan.taps, x.dtype)
        if threads > 1:
            _pack_tiles(threads)(weight, packed, plan, taps)
        _correlate(threads)(
            x,
            weight,
            padded.reshape(-1),
            out,
            packed,
            plan,
            row,
            col,
            taps,
            kind,
            *constants,
            _buffers(threads, staged, x.dtype),
            _buffers(threads, results, x.dtype),
        )


def _threads(spec, threads):
    return threads if spec.flops >= SERIAL_FLOPS else 1


def conv2d(spec, input, weight, bias, out, activation, im2col, threads):
    """The rows "conv2d": as `Impl.run`, with the method and the number of threads."""
    threads = _threads(spec, threads)
    y = _planes._Flat(out)
    if spec.N:
        x, w = _planes._flat(input), _planes._flat(weight)
        plans = _forward_plan(spec, im2col, threads)
        _run(plans, x, w, bias, y.array, activation, threads)
    y.finish()


def conv2d_input(spec, grad_output, weight, out, im2col, threads):
    """The rows "conv2d_input"."""
    threads = _threads(spec, threads)
    dx = _planes._Flat(out)
    if spec.N:
        dy, w = _planes._flat(grad_output), _planes._flat(weight)
        plans = _input_plans(spec, im2col, threads)
        if spec.stride != (1, 1):
            dx.array[:] = 0  # some pixels may be reached by no tap
        _run(plans, dy, w, None, dx.array, None, threads)
    dx.finish()


def conv2d_weight(spec, input, grad_output, out, im2col, threads):
    """The rows "conv2d_weight"."""
    threads = _threads(spec, threads)
    dw = _planes._Flat(out)
    plan, buffers = _weight_plan(spec, im2col, threads)
    _dot(threads)(
        _planes._flat(input),
        _planes._flat(grad_output),
        dw.array,
        *plan,
        *(_buffers(threads, size, spec.dtype) for size in buffers),
    )
    dw.finish()
