"""What Winograd's convolution costs, with tiles of 2x2 and of 4x4 outputs, and which one is taken.

A tile of m x m outputs takes (m + 2)^2 products for each pair of channels instead of 9 m^2: 2.25
times fewer for m = 2, 4 times for m = 4. Against that stand transforms, tiles that reach beyond the
plane, more bytes of weights, and larger errors: those of a direct sum times `ERROR[m]` at most,
measured as the largest error of an output against the largest of a direct sum in the same precision
(tests/test_winograd.py). That is of sums over three channels and more, or whose terms are of one
size: a sum of few terms that differ by decades is hardly rounded, and the ratio can be larger.
Those of one channel are up to `ERROR[m]` * 2**-23 * the largest pixel * the taps' magnitudes.
A NaN or an infinity spreads over the tiles that read it.

With stride 2 the inputs fall into four phases, each of which meets one tap, two or four: F(4, 2) of
them takes 81 products for 16 outputs instead of 144, in float32.

Planes with a filter of their own, of many taps, are convolved by F(m, m) down the rows: groups of
m rows take (2m - 1) / m^2 of the products. Errors are up to `ERROR_ROWS` times those of the direct
sum where taps are of one size; they follow the largest taps and pixels near by, so that a filter
that is nearly all zeros, or whose rows differ by decades, has better ones from the direct sum.
With AVX-512 filters of 5x5 taps go by F(2, 2) of pairs of rows in the same way, in float32: 8 rows
of taps for two of outputs instead of 10. Arrays whose channels lie side by side (NHWC) go to the
direct kernels.

In float64 only the smaller tile is taken, and m = 2: its numbers are quarters, so that whole
numbers, which all integers are computed as, give exact results as long as 64 times the sum of
absolute values is below 2**53.

The constants are cycles, measured with AVX2 on float32, those of pairs and of wide paths with
AVX-512.
"""

from math import ceil

from fastconv.backends.native._conv import bounds

# bound of the error, in units of that of a direct sum
ERROR = {2: 4, 4: 16}
ERROR_ROWS, ROWS_LEAST_TAPS, PAIRS_TAPS = 4, 49, 5
# tiles allowed by `using(winograd=)`
TILES = {"auto": (4, 2), "precise": (2,), "never": ()}

# cycles for a vector of a tile's transformed inputs, of its products back, and of a pixel, each way
INPUT, OUTPUT, PIXEL = 3.3, 2.4, 3.5
# what four phases multiply all of these by: they are transformed one by one
PHASES = 1.35
# bytes of transformed weights in a cycle: made and stored; made for a panel at a time and used at
# once
MADE, MADE_AT_ONCE = 2.6, 10.0
# bytes of weights that stay in a cache, and in a cycle from beyond it; of four phases, which are
# many for few tiles, fewer stay; processors with paths of 64 bytes have slow last caches
CACHED, CACHED_PHASES, READ = 2**24, 2**22, 9.0
CACHED_WIDE, READ_WIDE = 2**21, 13.0
# cycles round the sums of a register tile: its call, and its results to and from memory
CALL = 60
# the tiles, and the channels of a product, that the driver takes at a time (_winograd.pxi)
_BOUNDS = bounds()
V_BYTES, VZ_BYTES, V_MOST_BYTES = (_BOUNDS[n] for n in ("V_BYTES", "VZ_BYTES", "V_MOST_BYTES"))
FEW_TILES, U_BYTES, PANEL_ROWS = (_BOUNDS[n] for n in ("FEW_TILES", "U_BYTES", "PANEL_ROWS"))
PRODUCT_DEPTH, PRODUCT_BYTES = _BOUNDS["PRODUCT_DEPTH"], _BOUNDS["PRODUCT_BYTES"]
ROWS = {4: _BOUNDS["ROWS_FLOAT"], 8: _BOUNDS["ROWS_DOUBLE"]}  # m, by the bytes of an element
ROWS_BLOCK, ROWS_TILE = _BOUNDS["ROWS_BLOCK"], _BOUNDS["ROWS_TILE"]
# cycles for a vector of m rows transformed, and back; for a plane's block and filter
ROWS_INPUT, ROWS_OUTPUT, ROWS_CALL = 50.0, 30.0, 5000.0
# cycles for a vector and a tap of a plane in pairs of rows, where vectors go through in halves and
# where moves and sums take the units of products; for a row
PAIRS_TAP, PAIRS_TAP_WHOLE, PAIRS_ROW = 0.62, 0.9, 60.0
FMA_LATENCY = 4  # in cycles, of which each has two
TILE_SHARE = 0.92  # of its peak that the register tile reaches


def in_pairs(spec):
    """Whether planes are convolved in pairs of rows, where the ISA has the kernel."""
    return spec.C == spec.groups and (spec.R, spec.S) == (PAIRS_TAPS, PAIRS_TAPS)


def by_rows(spec):
    """Whether planes are convolved down their rows, not tile by tile."""
    return in_pairs(spec) or (spec.C == spec.groups and spec.R * spec.S >= ROWS_LEAST_TAPS)


def reason(op, spec, setting, tile):
    """Why Winograd's algorithm cannot serve a convolution, or None."""
    one = spec.C == spec.groups and (op == "conv2d" or spec.K == spec.groups)
    planes, pairs = one and by_rows(spec), one and in_pairs(spec)
    if pairs:
        if not tile["pairs"]:
            return "the kernel is 5x5, which takes AVX-512 and float32"
        if spec.padding[2] >= PAIRS_TAPS:
            return f"{spec.padding[2]} columns of padding on the left, and 4 are the most"
    if (spec.R, spec.S) != (3, 3) and not planes:
        least = f"neither 3x3 nor of {ROWS_LEAST_TAPS} taps and more"
        return f"the kernel is {spec.R}x{spec.S}, {least if one else 'not 3x3'}"
    in_phases = op == "conv2d" and not planes and spec.stride == (2, 2)
    if spec.stride != (1, 1) and not in_phases:
        return f"the stride is {spec.stride}, not 1"
    if spec.dilation != (1, 1) and (pairs or not planes or spec.dilation[0] != 1):
        return f"the dilation is {spec.dilation}, not 1"
    if in_phases and spec.dtype.itemsize == 8:
        return "the stride is 2, and the dtype float64"
    if not TILES[setting] or (in_phases and 4 not in TILES[setting]):
        return f"using(winograd={setting!r}) forbids it"
    return None


def work(op, spec, m, tile):
    """Of `op` in tiles of m x m: (flops, flops in a cycle, other cycles, cycles of packing)."""
    lanes, path, panel_v = tile["lanes"], tile["path"], tile["panel_v"]
    channels, filters, rows, cols = spec.C, spec.K, spec.P, spec.Q
    if op == "conv2d_input":
        channels, filters, rows, cols = spec.K, spec.C, spec.H, spec.W
    channels, filters = channels // spec.groups, filters // spec.groups
    # products of a tile, and of those with a channel: of four phases not all have each
    item, products, of_channel = spec.dtype.itemsize, (m + 2) ** 2, (m + 2) ** 2
    # a vector of 64 bytes takes as long as two of 32, be the paths whole: it is shuffled and stored
    transform = max(lanes / path, lanes * item / 32)
    phases, cached, read = 1, CACHED, READ
    if spec.stride == (2, 2):
        products, of_channel, phases = (m + 1) ** 2, (2 * m + 1) ** 2, 4
        transform, cached = PHASES * transform, CACHED_PHASES
    if path * item >= 64:
        cached, read = CACHED_WIDE, READ_WIDE
    tiles = spec.N * ceil(rows / m) * ceil(cols / m)
    inputs, outputs = ceil(channels / lanes), ceil(filters / lanes)
    each = products * phases * channels * item
    block = min(V_BYTES // each, VZ_BYTES // (each + products * panel_v * lanes * item))
    weights = of_channel * channels * outputs * lanes * item * spec.groups
    if weights > U_BYTES:
        block = max(block, min(V_MOST_BYTES // each, FEW_TILES))
    blocks = ceil(tiles / max(block, 1)) or 1
    flops = 2 * of_channel * tiles * channels * outputs * lanes * spec.groups
    # a register tile that is not full waits for its sums
    tall = min(PANEL_ROWS, ceil(tiles / ceil(tiles / PANEL_ROWS))) if tiles else 1
    sums = tall * min(outputs, panel_v)
    passes = lanes / path  # of a vector, in halves through some processors
    rate = TILE_SHARE * 2 * lanes * sums / max(passes * sums / 2, FMA_LATENCY)
    moved = spec.groups * tiles * (of_channel * INPUT * inputs + products * OUTPUT * outputs)
    moved += spec.groups * PIXEL * spec.N * (spec.H * spec.W * inputs + spec.P * spec.Q * outputs)
    moved *= transform
    deepest = min(PRODUCT_DEPTH, PRODUCT_BYTES // (panel_v * lanes * item))
    panels, depths = ceil(outputs / panel_v), ceil(channels / deepest)
    moved += spec.groups * CALL * of_channel * ceil(tiles / PANEL_ROWS) * panels * depths
    # few channels hide nothing of what goes to and from memory
    moved *= max(1, 2 * min(path, 32 // item) / channels)
    far = max(0, weights - cached) / read
    moved += blocks * far
    packing = weights / (MADE if blocks > 1 else MADE_AT_ONCE)
    if phases == 4:  # made before they are used
        packing += far
    return flops, rate, moved, packing


def work_by_rows(op, spec, tile, plane_tap):
    """The same of planes, down their rows."""
    lanes, path = tile["lanes"], tile["path"]
    m = ROWS[spec.dtype.itemsize]
    rows, cols = (spec.H, spec.W) if op == "conv2d_input" else (spec.P, spec.Q)
    taps, groups, planes = ceil(spec.R / m), ceil(rows / m), 2 * m - 1
    vectors, blocks = ceil(cols / lanes), ceil(groups / ROWS_BLOCK)
    summed = ceil(groups / ROWS_TILE) * ROWS_TILE
    flops = 2 * lanes * spec.N * spec.K * summed * planes * vectors * taps * spec.S
    read = spec.N * spec.C * (groups + blocks * (taps - 1)) * vectors * ROWS_INPUT
    made = spec.N * spec.K * (groups * vectors * ROWS_OUTPUT + blocks * ROWS_CALL)
    return flops, 2 * path / plane_tap(cols, lanes), read * lanes / path + made


def work_in_pairs(op, spec, tile):
    """The same of planes with filters of 5x5 taps."""
    lanes, path = tile["lanes"], tile["path"]
    rows, cols = (spec.H, spec.W) if op == "conv2d_input" else (spec.P, spec.Q)
    rows *= spec.N * spec.K
    flops = 2 * lanes * rows * ceil(cols / lanes) * 4 * PAIRS_TAPS
    tap = PAIRS_TAP if path < lanes else PAIRS_TAP_WHOLE
    return flops, 2 * path / tap, rows * PAIRS_ROW


def choose_tile(op, spec, setting, tile):
    """m of the cheapest tile that the setting allows."""

    def cycles(m):
        flops, rate, moved, _ = work(op, spec, m, tile)
        return flops / rate + moved

    if spec.stride == (2, 2):
        return 4
    return 2 if spec.dtype.itemsize == 8 else min(TILES[setting], key=cycles)
