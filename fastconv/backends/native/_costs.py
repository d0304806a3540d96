"""What a convolution would cost in each form, counted from its spec.

A form is what lies in the lanes of a vector: pixels of a row, images, pixels with their patches, or
filters. "direct" and "pointwise" take the cheapest form that they have. The constants are cycles,
measured with AVX2; what matters is how they compare.
"""

from functools import lru_cache
from math import ceil, prod

from fastconv import config
from fastconv.backends.native._conv import bounds
from fastconv.registry import Cost

# as the drivers number them (_conv.pyx)
FORMS = {"rows": 0, "lanes": 1, "patches": 2, "panels": 3}
_METHODS = {
    "direct": ("panels", "rows", "lanes"),
    "pointwise": ("panels", "rows", "patches"),
    "im2col": ("patches",),
}

FMA_LATENCY, FMA_PER_CYCLE, LOADS_PER_CYCLE = 4, 2, 2
# steps of a sum that a tile takes at a time, and cycles of its call, beside its results' way to and
# from memory
DEPTH, CALL = 256, 30
# shares of its peak that a tile then reaches: stores, caches
PANELS, LANES, ROWS, PATCHES = 0.92, 0.91, 0.87, 0.91
# rows whose steps each come from another plane, and so from another page, beyond those planes whose
# translations a processor keeps beside those of the results
ROWS_APART, PAGES = 0.83, 48
# the same where vectors of 64 bytes leave twice the time for it, of images that stay in the cache
# and sums over so many planes that what a tile begins and ends with does not show
ROWS_APART_WIDE, WIDE_BYTES, WIDE_PLANES = 0.90, 2**21, (128, 256)
# and panels whose tiles' pixels are staged one behind the other
PANELS_IN_ORDER = 1.0
# where panels make the gradient with respect to the input tap by tap (_panels_input.pxi)
_BOUNDS = bounds()
SPREAD_BYTES, SPREAD_PIXELS = _BOUNDS["SPREAD_BYTES"], _BOUNDS["SPREAD_PIXELS"]
SPREAD_DEPTH = _BOUNDS["SPREAD_DEPTH"]
# the same for the gradient with respect to the weight: panels, those of 1x1 kernels, inner products
PANELS_WEIGHT, POINTS, DOT = 0.80, 0.92, 0.82
# cycles for a vector of grad_output that is read where it lies; what a row's last vector, of which
# only a part counts, costs beyond a whole one
READ, ROW_END = 1.5, 0.7
# bytes of grad_output that a tile of inner products takes at a time; the widest piece of a row
RUN_BYTES, COLUMNS = 16384, 512
# cycles for a vector staged, also with a stride; for a vector's lane transposed; for a vector of a
# patch, and for a row of one; for a vector of a plane that a block has a part of
STAGE, STAGE_STRIDED, TRANSPOSE, PATCH, PATCH_ROW = 3.0, 6.0, 0.8, 8.0, 25.0
STAGE_FAR = 5.0
# cycles for an element of a weight that comes as it lies
WEIGHT_FAR = 0.3
# the same for results that come out of panels, filter by filter
EMIT = 1.3
EMIT_IN_ORDER = 0.8
# and in a forward 1x1 convolution, whose results are many beside its sums: they go to memory; with
# vectors of 64 bytes
EMIT_POINTS, EMIT_POINTS_WIDE = 1.4, 2.2
# cycles for a vector of results that a tile writes into the output, and into a page for each row
WRITE, WRITE_APART = 1.0, 4.0
# cycles for an element of the weight: packed for all blocks, or by the block that needs it
PACK, PACK_AT_ONCE = 2.0, 0.7
# the same for 1x1 kernels, whose weights come from memory and are used once or twice; with vectors
# of 64 bytes
PACK_POINTS, PACK_POINTS_WIDE = 1.6, 1.2
# cycles that a tap of a plane's tile takes, with its share of the loads; of tiles of two vectors,
# whose rows end soon
PLANE_TAP, NARROW_TAP = 0.54, 0.70
# cycles for a row of a plane with each further filter of a channel, which "direct" has in one tile
PLANE_ROW = 60.0
# cycles that a step of a transform takes, and a product of spectra, in float32; that a call takes
FFT_STEP, FFT_PRODUCT, FFT_CALL = 0.72, 1.2, 300_000


def _tile(tile, rows, vectors, depth):
    """Multiplications and additions in a cycle of a register tile of rows x vectors."""
    passes = tile["lanes"] / tile["path"]
    products, depth = rows * vectors, max(1, min(depth, DEPTH))
    loads = rows + vectors * passes
    cycles = max(products * passes / FMA_PER_CYCLE, loads / LOADS_PER_CYCLE, FMA_LATENCY)
    each = cycles * depth + CALL + 1.5 * products * passes
    return 2 * tile["lanes"] * products * depth / each


def _is_plain(spec):
    """A 1x1 kernel that leaves the plane as it is: the plane is then one long row."""
    return (spec.R, spec.S) == (1, 1) and not any(spec.padding) and spec.stride == (1, 1)


class _Job:
    """The sizes of an operation: what it sums over, what it makes."""

    def __init__(self, op, spec, tile):
        self.op, self.spec, self.tile = op, spec, tile
        self.lanes, groups = tile["lanes"], spec.groups
        self.path = tile["path"]  # so many elements in a vector's cycle
        self.C, self.K = spec.C // groups, spec.K // groups
        self.rows, self.cols = spec.P, spec.Q
        if op == "conv2d_input":
            # a correlation for each residue of the stride, with the taps that reach it
            self.C, self.K = self.K, self.C
            self.rows, self.cols = spec.H, spec.W
        self.depth = self.C * spec.R * spec.S
        self.flops = 2 * spec.N * groups * self.K * self.depth * spec.P * spec.Q
        # a stride larger than the kernel leaves rows out
        image = min(spec.H, spec.P * spec.R) * spec.W
        if op == "conv2d_input":
            image = spec.P * spec.Q
        self.read = spec.N * groups * self.C * image
        self.made = spec.N * groups * self.K * self.rows * self.cols

    @property
    def staging(self):
        """Cycles for a vector of the input."""
        return STAGE if self.spec.stride[1] == 1 else STAGE_STRIDED

    @property
    def inside(self):
        """Share of the row taps that do not lie in the padding."""
        spec = self.spec
        if self.op == "conv2d_input" or spec.padding[:2] == (0, 0):
            return 1.0
        taps = sum(
            0 <= p * spec.stride[0] + r * spec.dilation[0] - spec.padding[0] < spec.H
            for p in range(min(spec.P, 256))
            for r in range(spec.R)
        )
        return max(taps, 1) / (min(spec.P, 256) * spec.R)

    def pixels(self, wide=1):
        """Pixels of the output's plane, its rows (or all of it) filled up to whole vectors."""
        rows, cols = self.spec.P, self.spec.Q
        if _is_plain(self.spec):
            rows, cols = 1, rows * cols
        return rows * ceil(cols / wide) * wide

    def of_rows(self):
        """Pixels of a row in the lanes."""
        spec, tile, lanes = self.spec, self.tile, self.lanes
        share = self.pixels(lanes) / max(self.pixels(), 1)
        height = max(1, min(self.K, tile["m"]))
        vectors = max(1, min(tile["v"], ceil(self.pixels(lanes) / lanes / max(spec.P, 1))))
        if self.op == "conv2d_weight":
            # rows of grad_output meet taps, lane by lane
            rows, row = (1, self.pixels()) if _is_plain(spec) else (spec.P, spec.Q)
            row = max(1, min(row, COLUMNS))
            share += ROW_END * lanes / row if row % lanes else 0
            moved = self.staging * self.read * ceil(self.K / 32) + READ * self.made
            rate = self.of_dots(rows, row, ceil(row / lanes), row % lanes)
            return Cost(self.flops * share, rate, moved / self.path)
        # whole rows, summed at once, go straight into the output
        whole = (self.pixels() if _is_plain(spec) else self.cols) >= lanes
        whole = whole and (self.op == "conv2d" or spec.stride[1] == 1)
        apart = _is_plain(spec) and self.C > PAGES
        write = WRITE_APART if apart else WRITE
        made = self.made * (write if whole and self.depth <= DEPTH else STAGE)
        moved = (self.staging * self.read + made) / self.path
        reached = ROWS
        if apart:
            image = self.read // max(spec.N, 1) * spec.dtype.itemsize
            wide = self.path * spec.dtype.itemsize == 64
            wide = wide and image <= WIDE_BYTES and WIDE_PLANES[0] <= self.C <= WIDE_PLANES[1]
            reached = ROWS_APART_WIDE if wide else ROWS_APART
        rate = reached * _tile(tile, height, vectors, self.depth)
        return Cost(self.flops * share * self.inside, rate, moved)

    def of_dots(self, rows, row, vectors, tail=0):
        """Rate of inner products of rows: of their elements, vectors, the rest in the last."""
        most, wide = self.tile["dot_m"], self.tile["dot_v"]
        if most == 4 and tail and vectors <= 8:
            most, wide = 3, 3  # as the driver: a register for the mask
        height = ceil(self.K / max(1, ceil(self.K / most)))
        wide = ceil(self.depth / max(1, ceil(self.depth / wide)))
        run = RUN_BYTES // max(1, self.spec.dtype.itemsize * self.tile["dot_m"] * row)
        return DOT * _tile(self.tile, height, wide, max(1, min(rows, run)) * vectors)

    def of_lanes(self):
        """Images in the lanes."""
        spec, tile, lanes = self.spec, self.tile, self.lanes
        share = ceil(spec.N / lanes) * lanes / max(spec.N, 1)
        height = max(1, min(self.K, tile["m"]))
        back = EMIT_POINTS if _is_plain(spec) else TRANSPOSE
        moved = share * (TRANSPOSE * self.read + back * self.made)
        if self.op == "conv2d_weight":
            moved += TRANSPOSE * share * self.read * (ceil(self.K / 32) - 1)
            return Cost(self.flops * share, self.of_dots(spec.P, spec.Q * lanes, spec.Q), moved)
        rate = LANES * _tile(tile, height, max(1, min(tile["v"], spec.Q)), self.depth)
        return Cost(self.flops * share * self.inside, rate, moved)

    def of_patches(self):
        """Pixels in the lanes, patches as columns."""
        spec, tile, lanes = self.spec, self.tile, self.lanes
        flat = spec.P * spec.Q
        vectors = max(1, ceil(flat / lanes))
        each = PATCH * vectors + PATCH_ROW * spec.P
        if _is_plain(spec) and self.op != "conv2d_weight":
            each = STAGE_FAR * vectors
        staged = spec.N * spec.groups * self.depth * each * lanes / self.path
        if self.op == "conv2d_weight":
            # patches of each block of filters; grad_output's plane is one row
            row = max(1, min(flat, DEPTH))
            share = 1 + (ROW_END * lanes / row if row % lanes else 0)
            moved = staged * ceil(self.K / 32) + READ * self.made / self.path
            return Cost(self.flops * share, self.of_dots(1, row, ceil(row / lanes)), moved)
        # groups of as many vectors as a tile is wide, and one of the rest
        wide = tile["panel_v"]
        groups = [wide] * (vectors // wide) + [vectors % wide] * (vectors % wide > 0)
        height = self.K / ceil(self.K / 6)
        times = [v / _tile(tile, height, v, self.depth) for v in groups[-2:]]
        taken = times[0] * (len(groups) - 1) + times[-1]
        flops = self.flops * vectors * lanes / max(flat, 1)
        rate = PATCHES * vectors / taken
        moved = staged + WRITE_APART * self.made / self.path + WEIGHT_FAR * spec.K * self.depth
        if self.op == "conv2d_input":
            moved += PACK_AT_ONCE * self.K * spec.groups * self.depth  # turned
        return Cost(flops, rate, moved)

    def of_points(self):
        """The weight gradient of a 1x1 kernel: channels in the lanes, tiles of filters."""
        spec, lanes = self.spec, self.lanes
        vectors = ceil(self.C / lanes)
        pixels = spec.N * spec.P * spec.Q
        rate = POINTS * _tile(
            self.tile, self.K / ceil(self.K / 6), min(vectors, self.tile["panel_v"]), pixels
        )
        moved = TRANSPOSE * pixels * spec.C
        if not _is_plain(spec):
            moved += self.staging * pixels * spec.C / self.path
        return Cost(self.flops * vectors * lanes / self.C, rate, moved)

    def spreads(self):
        """Whether panels make dx tap by tap, as the driver decides it (_panels_input.pxi)."""
        spec = self.spec
        wide = self.tile["panel_v"] * self.lanes * spec.dtype.itemsize
        columns = max(
            spec.W + spec.padding[2],
            (spec.Q - 1) * spec.stride[1] + (spec.S - 1) * spec.dilation[1] + 1,
        )
        if spec.H * columns * wide > SPREAD_BYTES:
            return False
        if spec.stride != (1, 1):
            return True
        if (spec.R, spec.S) == (1, 1):
            return spec.N == 1 and spec.P * spec.Q <= SPREAD_PIXELS
        return self.C >= SPREAD_DEPTH

    def of_spread(self):
        """The input gradient with the channels in the lanes, tiles of a row of grad_output."""
        spec, lanes = self.spec, self.lanes
        vectors = ceil(self.K / lanes)
        row = max(1, spec.P * spec.Q if _is_plain(spec) else spec.Q)
        wide = min(vectors, self.tile["panel_v"])
        share = PANELS_IN_ORDER if (spec.R, spec.S) == (1, 1) else PANELS
        rate = share * _tile(self.tile, row / ceil(row / 6), wide, self.C)
        moved = STAGE_FAR * self.read / self.path + EMIT_IN_ORDER * self.made
        weights = vectors * lanes * spec.groups * self.depth
        return Cost(self.flops * vectors * lanes / self.K, rate, moved, PACK_AT_ONCE * weights)

    def of_panels(self):
        """Filters in the lanes."""
        spec, lanes = self.spec, self.lanes
        if self.op == "conv2d_weight" and (spec.R, spec.S) == (1, 1):
            return self.of_points()
        if self.op == "conv2d_input" and self.spreads():
            return self.of_spread()
        vectors = ceil(self.K / lanes)
        wide = min(vectors, self.tile["panel_v"])
        flops = self.flops * vectors * lanes / self.K
        if self.op == "conv2d_weight":
            rows = 6 if self.C >= 6 or spec.R * spec.S > 1 else self.C
            # each block of filters stages the input, each block of channels transposes the rest
            blocks = ceil(vectors * lanes / 64), ceil(self.depth * 64 / 65536)
            moved = self.staging * self.read * blocks[0] / self.path
            moved += TRANSPOSE * (spec.N * spec.K * spec.P * spec.Q * blocks[1])
            moved += TRANSPOSE * spec.K * self.depth
            rate = PANELS_WEIGHT * _tile(self.tile, rows, wide, spec.P * spec.Q)
            return Cost(flops * self.inside, rate, moved)
        in_order = _is_plain(spec)
        emit = EMIT_POINTS_WIDE if lanes * spec.dtype.itemsize == 64 else EMIT_POINTS
        moved = (emit if in_order else EMIT) * self.made
        # what is far comes no faster for longer vectors
        path = min(self.path, 32 // spec.dtype.itemsize) if in_order else self.path
        staging = STAGE_FAR if in_order else self.staging
        moved += staging * self.read * max(1, vectors // 16) / path
        count = max(1, self.rows * self.cols)
        rows = count / ceil(count / 6)
        packing = vectors * lanes * spec.groups * self.depth
        at_once = PACK_AT_ONCE
        if (spec.R, spec.S) == (1, 1):
            at_once = PACK_POINTS_WIDE if lanes * spec.dtype.itemsize == 64 else PACK_POINTS
        packing *= at_once if spec.N == 1 and count <= 784 else PACK
        share = PANELS_IN_ORDER if in_order else PANELS
        rate = share * _tile(self.tile, rows, wide, self.depth)
        return Cost(flops * self.inside, rate, moved, packing)


def _tiles(spec):
    from fastconv.backends import native

    return native.tiles()[spec.dtype.name]


@lru_cache(maxsize=4096)
def _best(op, method, spec, packed, isa):
    """(form, cost) of the cheapest form; `isa` is there because the tiles depend on it."""
    job = _Job(op, spec, _tiles(spec))
    found = []
    for name in _METHODS[method]:
        cost = getattr(job, f"of_{name}")()
        cost = Cost(cost.flops, cost.rate, cost.moved, cost.packing, name)
        found.append((cost.cycles + (0 if packed else cost.packing), name, cost))
    _, name, cost = min(found, key=lambda entry: entry[0])
    return FORMS[name], cost


def form_of(op, method, spec, packed=False):
    """Number of the form in which a method serves a call."""
    return _best(op, method, spec, packed, config.current().isa)[0]


def cost_of(op, method):
    """The cost function of a registry row."""

    def cost(spec):
        return _best(op, method, spec, True, config.current().isa)[1]

    return cost


def pack_cost_of(op, method):
    """What a plain weight adds to it: packing, or a form that needs less of it."""

    def cost(spec):
        plain = _best(op, method, spec, False, config.current().isa)[1]
        return plain.cycles + plain.packing - cost_of(op, method)(spec).cycles

    return cost


def plane_tap(columns, lanes):
    """Cycles for a vector and a tap of a plane so wide; an odd vector is one of two in a tile."""
    vectors = max(1, ceil(columns / lanes))
    return (NARROW_TAP if vectors <= 2 else PLANE_TAP) * (vectors + vectors % 2) / vectors


def depthwise(op):
    """The cost function of the method "depthwise"."""

    def cost(spec):
        lanes, path = _tiles(spec)["lanes"], _tiles(spec)["path"]
        channels, rows, cols, taps = spec.K, spec.P, spec.Q, spec.R * spec.S
        staged = STAGE * prod(spec.stride) * spec.C / spec.K
        if op == "conv2d_input":
            channels, rows, cols = spec.C, spec.H, spec.W
            taps /= prod(spec.stride)  # the taps of a residue
            if spec.stride[1] == 2:
                staged = STAGE
        vectors = spec.N * channels * rows * ceil(cols / lanes)
        further = PLANE_ROW * spec.N * rows * (spec.K - spec.C)
        flops = 2 * lanes * vectors * taps
        moved = vectors * staged * lanes / path + further
        return Cost(flops, 2 * path / plane_tap(cols, lanes), moved)

    return cost


def by_transforms(spec, steps, products):
    """The cost of the method "fft": so many steps of transforms and products of spectra."""
    wide = spec.dtype.itemsize / 4
    moved = FFT_STEP * wide * steps + FFT_CALL
    return Cost(2 * products, 2 / (FFT_PRODUCT * wide), moved)
