# Winograd's convolution F(m, 3) of 3x3 kernels with stride 1, and its gradient with respect to the
# input: the same with the kernels turned and the channels exchanged.  With stride 2 it is F(4, 2) of
# the inputs' four phases, whose products add up: four times as many channels for each of 25 products,
# but for those at infinity (csrc/kernels/winograd_phases.h).
#
# A block of tiles, in flat order over images, rows and columns of tiles, goes through three stages:
#
#   V[xi][tile][c]   its inputs transformed, channels in the lanes (csrc/kernels/winograd.h)
#   Z[xi][tile][k]   for one panel of filters: V[xi] times U[xi], by the panel tile
#   outputs          Z transformed back, with bias and activation, into the image
#
# The weights U[group][panel][xi][c][k] are read once for each block, so a block has many tiles; they
# depend on nothing but the weights, m, the stride and the ISA.  A plain call of one block makes them just
# before it uses them, at stride 1 a few channels at a time.  Weights that are near leave the products
# time to fetch where a block's outputs go, and the next block's inputs.  Sums run over c in one order
# whatever the block, so the bits depend neither on it nor on the threads.

cdef enum:
    V_BYTES = 1572864           # transformed inputs of a block
    VZ_BYTES = 786432           # with the products of a panel
    V_MOST_BYTES = 5242880      # transformed inputs where many channels would leave few tiles
    FEW_TILES = 64              # below: reading the weights costs more than using them
    U_BYTES = 2097152           # unless they are few, and stay in a cache
    PRODUCT_DEPTH = 256         # channels that a product sums at a time
    PRODUCT_BYTES = 32768       # and their weights, which stay in L1
    WEIGHT_CHANNELS = 16        # channels of weights transformed at a time
    USED_CHANNELS = 64          # of weights used as soon as they are transformed, while L2 has them


cdef struct WinogradPlan:
    ptrdiff_t m, n                              # outputs and products of a tile's side
    ptrdiff_t stride, window, step              # of its inputs; from tile to tile
    ptrdiff_t phases, v_phase                   # of channels, and elements of one
    ptrdiff_t images, height, width, top, left, out_h, out_w
    ptrdiff_t groups, channels, filters, vectors    # channels, their vectors, filters of a group
    ptrdiff_t tiles_h, tiles_w, tiles
    ptrdiff_t n_strips, strip                   # pieces of a row of tiles
    ptrdiff_t block, n_blocks                   # tiles of a block
    ptrdiff_t ahead                             # blocks from one to a thread's next one
    ptrdiff_t lanes, panel_v, panel, panels     # filters of a panel, panels of a group
    ptrdiff_t v_tile, v_pitch, z_pitch, u_pitch, stage_row
    ptrdiff_t u_channels                        # whose weights U holds at a time
    ptrdiff_t xn, xc, xh, xw, on, oc, oh, ow
    ptrdiff_t w_filter, w_channel, w_group      # strides of the weights
    int turned, activation
    bint far                                    # whether the weights lie beyond the near caches
    size_t v_size, z_size, u_size, small_size, item
    const void* x
    const void* w           # weights, used where u is NULL
    const void* u
    const void* bias
    void* out
    const int32_t* off      # 0, 1, 2, ...
    const void* zeros       # a panel's


cdef inline ptrdiff_t odd_lines(ptrdiff_t count, ptrdiff_t item) noexcept nogil:
    """At least `count` elements, an odd number of cache lines: rows so far apart share no set."""
    return (ceil_div(count * item, CACHE_LINE) | 1) * CACHE_LINE // item


cdef inline void winograd_weight(const fc_isa* isa, const WinogradPlan* plan, ptrdiff_t channels,
                                 const real* w, real* u) noexcept nogil:
    cdef ptrdiff_t phase = plan.u_channels * plan.panel
    if real is float:
        if plan.stride == 2:
            isa.f32.winograd_phases_weight(channels, w, u, plan.panel, phase, plan.u_pitch)
        else:
            isa.f32.winograd_weight[plan.m // 2 - 1](channels, plan.turned, w, u, plan.panel,
                                                     plan.u_pitch)
    else:
        isa.f64.winograd_weight[plan.m // 2 - 1](channels, plan.turned, w, u, plan.panel, plan.u_pitch)


cdef inline void winograd_input(const fc_isa* isa, const WinogradPlan* plan, ptrdiff_t tiles,
                                const real* x, const int32_t* at, ptrdiff_t x_col,
                                real* v) noexcept nogil:
    if real is float:
        if plan.stride == 2:
            isa.f32.winograd_phases_input(tiles, x, at, x_col, v, plan.v_tile, plan.v_phase,
                                          plan.v_pitch)
        else:
            isa.f32.winograd_input[plan.m // 2 - 1](tiles, x, at, x_col, v, plan.v_tile, plan.v_pitch)
    else:
        isa.f64.winograd_input[plan.m // 2 - 1](tiles, x, at, x_col, v, plan.v_tile, plan.v_pitch)


cdef inline void winograd_output(const fc_isa* isa, const WinogradPlan* plan, ptrdiff_t tiles,
                                 const real* z, const real* bias, real* y,
                                 ptrdiff_t y_row) noexcept nogil:
    if real is float:
        if plan.stride == 2:
            isa.f32.winograd_phases_output(tiles, z, plan.panel, plan.z_pitch, bias, y, y_row)
        else:
            isa.f32.winograd_output[plan.m // 2 - 1](tiles, z, plan.panel, plan.z_pitch, bias, y, y_row)
    else:
        isa.f64.winograd_output[plan.m // 2 - 1](tiles, z, plan.panel, plan.z_pitch, bias, y, y_row)


# --- plan ----------------------------------------------------------------------------------------

cdef WinogradPlan winograd_weights_plan(const fc_isa* isa, const Geometry* g, ptrdiff_t m,
                                        bint turned, ptrdiff_t item) except *:
    """What depends on the weights alone."""
    cdef WinogradPlan plan
    if m == 4 and item != 4:
        raise ValueError("m: expected 2 for float64, got 4")
    if not (g.stride_h == g.stride_w == 1 or g.stride_h == g.stride_w == 2 and m == 4 and not turned):
        raise ValueError("stride: expected 1, or 2 with tiles of 4x4 and no gradient")
    memset(&plan, 0, sizeof(WinogradPlan))
    plan.m, plan.n, plan.turned, plan.item, plan.groups = m, m + 2, turned, item, g.groups
    plan.stride, plan.phases = g.stride_h, 1
    if plan.stride == 2:
        plan.n, plan.phases = m + 1, 4
    if item == 4:
        plan.lanes, plan.panel_v = isa.f32.lanes, isa.f32.panel_v
    else:
        plan.lanes, plan.panel_v = isa.f64.lanes, isa.f64.panel_v
    plan.channels, plan.filters = g.channels // g.groups, g.filters // g.groups
    plan.w_filter, plan.w_channel = 9 * plan.channels, 9
    plan.w_group = plan.filters * plan.w_filter
    if turned:
        plan.channels, plan.filters = plan.filters, plan.channels
        plan.w_filter, plan.w_channel = plan.w_channel, plan.w_filter
    plan.vectors = ceil_div(plan.channels, plan.lanes)
    plan.panel = plan.lanes * plan.panel_v
    plan.panels = ceil_div(plan.filters, plan.panel)
    winograd_hold(&plan, plan.channels)
    return plan


cdef void winograd_hold(WinogradPlan* plan, ptrdiff_t channels) noexcept nogil:
    """Sizes U for the weights of so many channels."""
    plan.u_channels = channels
    plan.u_pitch = odd_lines(plan.phases * channels * plan.panel, plan.item)
    plan.u_size = plan.n * plan.n * plan.u_pitch * plan.item    # of a panel


cdef void winograd_plan(WinogradPlan* plan, const Geometry* g, int threads) noexcept nogil:
    """Tiles, blocks and scratch."""
    cdef ptrdiff_t item = plan.item, each, most = FC_WINOGRAD_STRIP // plan.stride
    plan.images = g.images
    plan.step, plan.window = plan.m * plan.stride, (plan.m - 1) * plan.stride + 3
    if plan.turned:
        plan.height, plan.width, plan.out_h, plan.out_w = g.out_h, g.out_w, g.height, g.width
        plan.top, plan.left = 2 - g.top, 2 - g.left
    else:
        plan.height, plan.width, plan.out_h, plan.out_w = g.height, g.width, g.out_h, g.out_w
        plan.top, plan.left = g.top, g.left
    plan.tiles_h, plan.tiles_w = ceil_div(plan.out_h, plan.m), ceil_div(plan.out_w, plan.m)
    plan.tiles = plan.images * plan.tiles_h * plan.tiles_w
    plan.n_strips = ceil_div(plan.tiles_w, most)
    plan.strip = ceil_div(plan.tiles_w, imax(plan.n_strips, 1))
    plan.v_phase = plan.vectors * plan.lanes
    plan.v_tile = odd_lines(plan.phases * plan.v_phase, item)
    each = plan.n * plan.n * plan.v_tile * item
    plan.block = imin(V_BYTES // each, VZ_BYTES // (each + plan.n * plan.n * plan.panel * item))
    plan.far = plan.groups * plan.panels * plan.u_size > U_BYTES
    if plan.far:
        plan.block = imax(plan.block, imin(V_MOST_BYTES // each, FEW_TILES))
    plan.block = imax(plan.block, 1)
    plan.n_blocks = imax(ceil_div(plan.tiles, plan.block), 1)
    if plan.n_blocks > 1:       # as many for each thread
        plan.n_blocks = ceil_div(plan.n_blocks, threads) * threads
    plan.block = imax(ceil_div(plan.tiles, plan.n_blocks), 1)
    if plan.block > plan.tiles_w:   # whole rows of tiles: each stages what the next one needs, too
        plan.block = ceil_div(plan.block, plan.tiles_w) * plan.tiles_w
    else:                           # or nearly equal pieces of one
        plan.block = ceil_div(plan.tiles_w, ceil_div(plan.tiles_w, plan.block))
    plan.n_blocks = ceil_div(plan.tiles, plan.block)
    plan.v_pitch = odd_lines(plan.block * plan.v_tile, item)
    plan.z_pitch = odd_lines(plan.block * plan.panel, item)
    plan.stage_row = (plan.strip * plan.step + plan.window - plan.step) * plan.lanes
    plan.v_size = rounded(plan.n * plan.n * plan.v_pitch * item)
    plan.z_size = rounded(plan.n * plan.n * plan.z_pitch * item)
    # staged rows, or transformed outputs and a vector, or weights
    plan.small_size = rounded(imax(plan.window * plan.stage_row + plan.lanes,
                                   9 * WEIGHT_CHANNELS * plan.lanes) * item)


# --- the three stages ----------------------------------------------------------------------------

cdef void winograd_weights(const fc_isa* isa, const WinogradPlan* plan, const real* w,
                           ptrdiff_t panel, ptrdiff_t begin, ptrdiff_t end, real* u,
                           char* scratch) noexcept nogil:
    """u = U[panel] of the channels begin <= c < end of a group whose weights begin at w."""
    cdef real* taps = <real*>scratch
    cdef ptrdiff_t v, c, k, i, many, here
    for v in range(plan.panel_v):
        k = panel * plan.panel + v * plan.lanes
        if k >= plan.filters:
            return
        here = imin(plan.filters - k, plan.lanes)
        c = begin
        while c < end:
            many = imin(end - c, WEIGHT_CHANNELS)
            if plan.w_channel == 9:
                gather_lanes(isa, 9 * many, <int>here, w + k * plan.w_filter + 9 * c, plan.w_filter,
                             taps)
            else:
                for i in range(many):
                    gather_lanes(isa, 9, <int>here, w + 9 * k + (c + i) * plan.w_channel, 9,
                                 taps + 9 * i * plan.lanes)
            winograd_weight(isa, plan, many, taps, u + (c - begin) * plan.panel + v * plan.lanes)
            c += many


cdef void stage_strip(const fc_isa* isa, const WinogradPlan* plan, const real* x, ptrdiff_t here,
                       ptrdiff_t h, ptrdiff_t first, ptrdiff_t count, real* to) noexcept nogil:
    """to[i][l] = pixel first + i of row h, channel l < here; zeros beyond the image."""
    cdef ptrdiff_t begin = imin(imax(-first, 0), count), i, l
    cdef ptrdiff_t end = imax(imin(plan.width - first, count), begin)
    if h < 0 or h >= plan.height:
        begin = end = count
    memset(to, 0, begin * plan.lanes * sizeof(real))
    memset(to + end * plan.lanes, 0, (count - end) * plan.lanes * sizeof(real))
    if begin == end:
        return
    x += h * plan.xh + (first + begin) * plan.xw
    to += begin * plan.lanes
    if plan.xw == 1:
        gather_lanes(isa, end - begin, <int>here, x, plan.xc, to)
        return
    for i in range(end - begin):
        if plan.xc == 1 and here == plan.lanes:
            memcpy(to, x, plan.lanes * sizeof(real))
        else:
            for l in range(here):
                to[l] = x[l * plan.xc]
            for l in range(here, plan.lanes):
                to[l] = 0
        x += plan.xw
        to += plan.lanes


cdef void winograd_inputs(const fc_isa* isa, const WinogradPlan* plan, const real* x,
                          ptrdiff_t vector, ptrdiff_t begin, ptrdiff_t end, real* v,
                          char* scratch) noexcept nogil:
    """V of tiles begin <= t < end, for one vector of a group's channels; v is that of tile begin."""
    cdef real* staged = <real*>scratch
    cdef int32_t[9] at
    cdef ptrdiff_t s, row, i, lo, hi, h, w, slot, last_row, last_lo = 0, last_hi = 0
    cdef ptrdiff_t here = imin(plan.channels - vector * plan.lanes, plan.lanes), step = plan.step
    cdef ptrdiff_t shared = plan.window - step      # with the next tile
    cdef const real* image
    x += vector * plan.lanes * plan.xc
    v += vector * plan.lanes
    for s in range(plan.n_strips):
        last_row = -2
        for row in range(begin // plan.tiles_w, (end - 1) // plan.tiles_w + 1):
            lo = imax(s * plan.strip, begin - row * plan.tiles_w)
            hi = imin(imin((s + 1) * plan.strip, plan.tiles_w), end - row * plan.tiles_w)
            if lo >= hi:
                continue
            image = x + row // plan.tiles_h * plan.xn
            h = row % plan.tiles_h * step - plan.top
            w = lo * step - plan.left
            if (plan.xc == 1 and here == plan.lanes and h >= 0 and h + plan.window <= plan.height
                    and w >= 0 and hi * step + shared - plan.left <= plan.width
                    and -0x8000000 < plan.xh < 0x8000000):
                for i in range(plan.window):
                    at[i] = <int32_t>(i * plan.xh)
                winograd_input(isa, plan, hi - lo, image + h * plan.xh + w * plan.xw, at, plan.xw,
                               v + (row * plan.tiles_w + lo - begin) * plan.v_tile)
                last_row = -2
                continue
            # the row of tiles above has staged the first rows
            i = 0
            if row == last_row + 1 and row % plan.tiles_h and lo == last_lo and hi == last_hi:
                i = shared
            last_row, last_lo, last_hi = row, lo, hi
            while i < plan.window:
                slot = (row % plan.tiles_h * step + i) % plan.window
                stage_strip(isa, plan, image, here, h + i, w, (hi - lo) * step + shared,
                             staged + slot * plan.stage_row)
                i += 1
            for i in range(plan.window):
                slot = (row % plan.tiles_h * step + i) % plan.window
                at[i] = <int32_t>(slot * plan.stage_row)
            winograd_input(isa, plan, hi - lo, staged, at, plan.lanes,
                           v + (row * plan.tiles_w + lo - begin) * plan.v_tile)


cdef struct FetchPlanes:        # pixels of tiles in some planes, which products fetch in parts
    const char* first
    ptrdiff_t planes, plane_pitch
    ptrdiff_t rows, row_pitch, row_bytes


cdef FetchPlanes fetch_tiles(const WinogradPlan* plan, const char* first, ptrdiff_t planes,
                             const ptrdiff_t* strides, ptrdiff_t height, ptrdiff_t width,
                             ptrdiff_t step, ptrdiff_t before, ptrdiff_t tile,
                             ptrdiff_t tiles) noexcept nogil:
    """Of `tiles` tiles from `tile` on, `step` pixels from one to the next; a row of them begins so many
    rows of pixels before. `strides` are those of image, plane, row and column."""
    cdef FetchPlanes to
    cdef ptrdiff_t row = tile // plan.tiles_w, column = tile % plan.tiles_w, item = plan.item
    cdef ptrdiff_t h = imax(row % plan.tiles_h * step - before, 0)
    to.planes = planes if tile < plan.tiles and strides[3] == 1 and strides[1] != 1 else 0
    to.plane_pitch, to.row_pitch = strides[1] * item, strides[2] * item
    to.rows = imin(ceil_div(tiles, plan.tiles_w) * step, height - h)
    to.row_bytes = imin(imin(tiles, plan.tiles_w - column) * step, width - column * step) * item
    if to.row_bytes == to.row_pitch:
        to.rows, to.row_bytes = imin(to.rows, 1), to.rows * to.row_bytes
    to.first = first + (row // plan.tiles_h * strides[0] + h * strides[2] + column * step) * item
    return to


cdef inline Fetch fetch_part(const FetchPlanes* of, ptrdiff_t i, ptrdiff_t n) noexcept nogil:
    """Part i of n: of a row or of some of it, in a plane each turn."""
    cdef ptrdiff_t lines = ceil_div(of.row_bytes, CACHE_LINE)
    cdef ptrdiff_t parts = imax(n // imax(of.rows, 1), 1)
    cdef ptrdiff_t each = ceil_div(lines, parts)
    return Fetch(of.first + i // parts * of.row_pitch + i % parts * each * CACHE_LINE, each,
                 of.plane_pitch, of.planes if i < of.rows * parts else 0)


cdef void winograd_products(const fc_isa* isa, const WinogradPlan* plan, const real* u,
                            ptrdiff_t channels, bint first, ptrdiff_t vectors, ptrdiff_t tiles,
                            const real* v, real* z, const FetchPlanes* outputs,
                            const FetchPlanes* inputs) noexcept nogil:
    """Z of some tiles and one panel, of so many channels: the first ones, or added to what is there."""
    cdef int32_t[6] at
    cdef ptrdiff_t xi, phase, end, i, parts = plan.n * plan.n // 2
    cdef Fetch fetch
    for i in range(6):
        at[i] = <int32_t>(i * plan.v_tile)
    for xi in range(plan.n * plan.n):
        fetch = fetch_part(inputs if xi % 2 else outputs, xi // 2, parts)
        # at infinity there are the phases of two taps: the first two, or those in the middle
        phase = 1 if plan.phases == 4 and xi % 5 == 4 else 0
        end = 2 if plan.phases == 4 and xi // 5 == 4 else plan.phases - phase
        i = phase
        while i < end:
            # all of them as one where no lanes are left over
            winograd_sums(isa, plan, u + i * channels * plan.panel, vectors, tiles,
                          channels * (end - i if plan.v_phase == channels else 1),
                          v + i * plan.v_phase, at, first and i == phase, z, &fetch)
            i = end if plan.v_phase == channels else i + 1
        u += plan.u_pitch
        v += plan.v_pitch
        z += plan.z_pitch


cdef void winograd_sums(const fc_isa* isa, const WinogradPlan* plan, const real* u, ptrdiff_t vectors,
                        ptrdiff_t tiles, ptrdiff_t channels, const real* v, const int32_t* at,
                        bint first, real* z, Fetch* fetch) noexcept nogil:
    """One product of tiles, summed over channels; added to what is there unless it is the first."""
    cdef ptrdiff_t k = 0, t, left, rows, depth
    cdef real* sums
    cdef bint begins
    cdef ptrdiff_t most = imin(PRODUCT_DEPTH,
                               PRODUCT_BYTES // (plan.panel * <ptrdiff_t>sizeof(real)))
    while k < channels:
        depth = imin(channels - k, most)
        t = 0
        left = ceil_div(tiles, FC_PANEL_M)
        if plan.far and plan.u != NULL:
            fetch[0] = fetch_bytes(<const char*>(u + (k + depth) * plan.panel),
                                   depth * plan.panel * <ptrdiff_t>sizeof(real),
                                   left * ceil_div(depth, FC_PANEL_TURN))
        begins = first and k == 0
        while left:         # 13 tiles are 5 + 4 + 4: a short tile waits for its sums
            rows = ceil_div(tiles - t, left)
            sums = z + t * plan.panel
            panel(isa, rows, vectors, depth, u + k * plan.panel, plan.panel,
                  v + t * plan.v_tile + k, plan.off, at,
                  <const real*>plan.zeros if begins else sums, 0 if begins else plan.panel, sums,
                  plan.panel, fetch)
            fetched(fetch, depth)
            t += rows
            left -= 1
        k += depth


cdef void winograd_outputs(const fc_isa* isa, const WinogradPlan* plan, const real* z,
                           const real* bias, ptrdiff_t here, ptrdiff_t begin, ptrdiff_t end,
                           real* out, char* scratch) noexcept nogil:
    """The outputs of `here` filters and tiles begin <= t < end; out is those filters' first pixel."""
    cdef real* b = <real*>scratch
    cdef real* y = b + plan.lanes
    cdef real* rows
    cdef real* to
    cdef ptrdiff_t s, row, i, j, l, lo, hi, h, count, m = plan.m, y_row
    for l in range(plan.lanes):
        b[l] = bias[l] if bias != NULL and l < here else 0
    for row in range(begin // plan.tiles_w, (end - 1) // plan.tiles_w + 1):
        for s in range(plan.n_strips):
            lo = imax(s * plan.strip, begin - row * plan.tiles_w)
            hi = imin(imin((s + 1) * plan.strip, plan.tiles_w), end - row * plan.tiles_w)
            if lo >= hi:
                continue
            y_row = (hi - lo) * m * plan.lanes
            winograd_output(isa, plan, hi - lo, z + (row * plan.tiles_w + lo - begin) * plan.panel, b,
                            y, y_row)
            activate(isa, plan.activation, m * y_row, y)
            h = row % plan.tiles_h * m
            count = imin(hi * m, plan.out_w) - lo * m
            for i in range(imin(m, plan.out_h - h)):
                to = (out + row // plan.tiles_h * plan.on + (h + i) * plan.oh + lo * m * plan.ow)
                rows = y + i * y_row
                if plan.ow == 1:
                    scatter_lanes(isa, count, <int>here, rows, plan.lanes, to, plan.oc)
                    continue
                for j in range(count):
                    if plan.oc == 1 and here == plan.lanes:
                        memcpy(to + j * plan.ow, rows + j * plan.lanes, plan.lanes * sizeof(real))
                    else:
                        for l in range(here):
                            to[j * plan.ow + l * plan.oc] = rows[j * plan.lanes + l]


cdef void winograd_channels(const fc_isa* isa, const WinogradPlan* plan, ptrdiff_t item,
                            ptrdiff_t vector, ptrdiff_t piece, ptrdiff_t pieces, real* v,
                            char* scratch) noexcept nogil:
    """V of one vector of channels, for one of the pieces of a block's tiles."""
    cdef ptrdiff_t first = item % plan.n_blocks * plan.block
    cdef ptrdiff_t tiles = imin(plan.block, plan.tiles - first)
    cdef ptrdiff_t begin = tiles * piece // pieces, end = tiles * (piece + 1) // pieces
    if begin < end:
        winograd_inputs(isa, plan,
                        <const real*>plan.x + item // plan.n_blocks * plan.channels * plan.xc,
                        vector, first + begin, first + end, v + begin * plan.v_tile, scratch)


cdef void winograd_filters(const fc_isa* isa, const WinogradPlan* plan, ptrdiff_t item,
                           ptrdiff_t panel, ptrdiff_t piece, ptrdiff_t pieces, const real* v,
                           char* scratch) noexcept nogil:
    """The outputs of one panel of filters, for one of the pieces of a block's tiles."""
    cdef ptrdiff_t first = item % plan.n_blocks * plan.block, group = item // plan.n_blocks
    cdef ptrdiff_t tiles = imin(plan.block, plan.tiles - first)
    cdef ptrdiff_t begin = tiles * piece // pieces, end = tiles * (piece + 1) // pieces
    cdef ptrdiff_t before = panel * plan.panel, i, k, here, many, c = 0
    cdef ptrdiff_t vectors = imin(ceil_div(plan.filters - before, plan.lanes), plan.panel_v)
    cdef real* z = <real*>scratch
    cdef real* own = <real*>(scratch + plan.z_size + plan.small_size)
    cdef const real* u = <const real*>plan.u
    cdef const real* bias = <const real*>plan.bias
    cdef FetchPlanes outputs, inputs, nothing = FetchPlanes(NULL, 0, 0, 0, 0, 0)
    cdef bint is_last
    if begin == end:
        return
    outputs = fetch_tiles(
        plan, <const char*>(<const real*>plan.out + (group * plan.filters + before) * plan.oc),
        imin(plan.filters - before, plan.panel), &plan.on, plan.out_h, plan.out_w, plan.m, 0,
        first + begin, end - begin)
    inputs = fetch_tiles(
        plan, <const char*>(<const real*>plan.x + group * plan.channels * plan.xc),
        plan.channels if panel == plan.panels - 1 else 0, &plan.xn, plan.height, plan.width,
        plan.step, plan.top - (plan.window - plan.step), first + plan.ahead * plan.block + begin,
        end - begin)
    v += begin * plan.v_tile
    if u != NULL:
        u += (group * plan.panels + panel) * (plan.u_size // <ptrdiff_t>sizeof(real))
        winograd_products(isa, plan, u, plan.channels, True, vectors, end - begin, v, z, &outputs,
                          &inputs)
    else:
        while c < plan.channels:
            many = imin(plan.channels - c, plan.u_channels)
            is_last = c + many == plan.channels
            winograd_weights(isa, plan, <const real*>plan.w + group * plan.w_group, panel, c,
                             c + many, own, scratch + plan.z_size)
            winograd_products(isa, plan, own, many, c == 0, vectors, end - begin, v + c, z,
                              &outputs if is_last else &nothing, &inputs if is_last else &nothing)
            c += many
    for i in range(vectors):
        here = imin(plan.filters - before - i * plan.lanes, plan.lanes)
        k = group * plan.filters + before + i * plan.lanes
        winograd_outputs(isa, plan, z + i * plan.lanes, bias + k if bias != NULL else bias, here,
                         first + begin, first + end, <real*>plan.out + k * plan.oc,
                         scratch + plan.z_size)


cdef void winograd_block(const fc_isa* isa, const WinogradPlan* plan, ptrdiff_t item, real* v,
                         char* scratch) noexcept nogil:
    """One block of one group, from inputs to outputs."""
    cdef ptrdiff_t i
    for i in range(plan.vectors):
        winograd_channels(isa, plan, item, i, 0, 1, v, scratch)
    for i in range(plan.panels):
        winograd_filters[real](isa, plan, item, i, 0, 1, v, scratch)


cdef int winograd_run(const fc_isa* isa, WinogradPlan* plan, real* unused, int threads) except -1:
    cdef ptrdiff_t items = plan.groups * plan.n_blocks, item, i, pieces
    cdef bint shared = threads > 1 and items < threads      # the threads go through a block together
    cdef size_t off_size = rounded(PRODUCT_DEPTH * sizeof(int32_t))
    cdef size_t head = off_size + rounded(plan.panel * sizeof(real))
    cdef size_t each = plan.z_size + plan.small_size
    cdef real* v
    plan.ahead = 1 if shared else threads
    if plan.u == NULL:
        each += plan.u_size
    if shared:
        head += plan.v_size
    else:
        each += plan.v_size
        threads = <int>imin(threads, imax(items, 1))
    cdef Workspace space = take_workspace(head + threads * each)
    cdef char* scratch = space.aligned()
    cdef int32_t* off = <int32_t*>scratch
    plan.off = off
    plan.zeros = scratch + off_size
    v = <real*>(scratch + off_size + rounded(plan.panel * sizeof(real)))
    scratch += head
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for i in range(PRODUCT_DEPTH):
            off[i] = <int32_t>i
        memset(<void*>plan.zeros, 0, plan.panel * sizeof(real))
        if threads == 1:
            for item in range(items):
                winograd_block(isa, plan, item, <real*>scratch, scratch + plan.v_size)
        elif not shared:
            for item in prange(items, num_threads=threads, schedule="dynamic"):
                before = fc_set_float_mode(mode)
                winograd_block(isa, plan, item, <real*>(scratch + each * threadid()),
                               scratch + each * threadid() + plan.v_size)
                fc_set_float_mode(before)
        else:
            for item in range(items):
                pieces = winograd_pieces(plan, plan.vectors, threads)
                for i in prange(plan.vectors * pieces, num_threads=threads, schedule="dynamic"):
                    before = fc_set_float_mode(mode)
                    winograd_channels(isa, plan, item, i // pieces, i % pieces, pieces, v,
                                      scratch + each * threadid())
                    fc_set_float_mode(before)
                pieces = winograd_pieces(plan, plan.panels, threads)
                if plan.u == NULL:      # each piece of a panel transforms its weights again
                    pieces = imin(pieces, ceil_div(threads, plan.panels))
                for i in prange(plan.panels * pieces, num_threads=threads, schedule="dynamic"):
                    before = fc_set_float_mode(mode)
                    winograd_filters[real](isa, plan, item, i // pieces, i % pieces, pieces, v,
                                     scratch + each * threadid())
                    fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


cdef inline ptrdiff_t winograd_pieces(const WinogradPlan* plan, ptrdiff_t parts,
                                      ptrdiff_t threads) noexcept nogil:
    """Into how many pieces a block's tiles go, so that all threads have work to the end."""
    return imin(ceil_div(4 * threads, parts), ceil_div(plan.block, 2 * FC_PANEL_M))


# --- what Python calls ---------------------------------------------------------------------------

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    /* A first touch of 4 KiB costs a microsecond, and its entry in the TLB. */
    static void fc_huge_pages(void* p, size_t size) { madvise(p, size, MADV_HUGEPAGE); }
    #else
    static void fc_huge_pages(void* p, size_t size) { (void)p; (void)size; }
    #endif
    """
    void fc_huge_pages(void*, size_t) noexcept nogil


cdef enum:
    HUGE_PAGE = 2097152


cdef class WinogradWeights:
    """U of some weights, for inputs of any size and one stride."""

    cdef char* memory
    cdef char* first
    cdef WinogradPlan plan
    cdef int isa
    cdef readonly size_t nbytes

    def __dealloc__(self):
        free(self.memory)

    cdef int reserve(self, size_t size) except -1:
        cdef size_t unit = HUGE_PAGE if size > 2 * HUGE_PAGE else CACHE_LINE
        self.nbytes = size
        size = (size + unit - 1) // unit * unit
        self.memory = <char*>malloc(size + unit)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {self.nbytes} bytes of weights")
        self.first = self.memory + (-<size_t>self.memory) % unit
        if unit == HUGE_PAGE:
            fc_huge_pages(self.first, size)
        return 0


cdef WinogradWeights winograd_pack_of(const WinogradPlan* plan, const real* w, int isa_index,
                                      int threads):
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef WinogradWeights packed = WinogradWeights.__new__(WinogradWeights)
    cdef ptrdiff_t items = plan.groups * plan.panels, item
    cdef size_t each = rounded(9 * WEIGHT_CHANNELS * plan.lanes * sizeof(real))
    packed.plan, packed.isa = plan[0], isa_index
    packed.reserve(items * plan.u_size)
    if plan.groups * plan.filters * plan.channels * 9 < SERIAL_FLOPS // 100:
        threads = 1
    threads = <int>imin(threads, items)
    cdef Workspace space = take_workspace(threads * each)
    cdef char* scratch = space.aligned()
    cdef char* u = packed.first
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for item in prange(items, num_threads=threads, schedule="static"):
            before = fc_set_float_mode(mode)
            winograd_weights(isa, plan, w + item // plan.panels * plan.w_group,
                             item % plan.panels, 0, plan.channels, <real*>(u + item * plan.u_size),
                             scratch + each * threadid())
            fc_set_float_mode(before)
    give_workspace(space, threads)
    return packed


cdef int winograd_on(WinogradPlan* plan, const real* w, WinogradWeights packed, int isa_index,
                     int threads) except -1:
    """Runs a plan that has all but its weights: `packed`, or w where that is None."""
    cdef const fc_isa* isa = isa_table(isa_index)
    if packed is None and plan.n_blocks > 1:
        packed = winograd_pack_of[real](plan, w, isa_index, threads)
    if packed is None:
        plan.w = w
        if plan.stride == 1:    # four phases sum over all channels of one before those of the next
            winograd_hold(plan, imin(plan.channels, USED_CHANNELS))
        return winograd_run(isa, plan, <real*>NULL, threads)
    if (packed.isa != isa_index or packed.plan.m != plan.m or packed.plan.turned != plan.turned
            or packed.plan.stride != plan.stride or packed.plan.item != plan.item
            or packed.plan.groups != plan.groups or packed.plan.channels != plan.channels
            or packed.plan.filters != plan.filters):
        raise ValueError("packed: expected weights packed for this convolution and ISA")
    plan.u = packed.first
    return winograd_run(isa, plan, <real*>NULL, threads)


cdef inline bint winograd_is_small(const Geometry* g) noexcept nogil:
    return (2 * g.images * g.out_h * g.out_w * g.filters * (g.channels // g.groups)
            < SERIAL_FLOPS // 4)


cdef int winograd_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, ::1] w,
                     WinogradWeights packed, const real[::1] bias, real[:, :, :, :] out,
                     int activation, int m, bint turned, int isa_index, int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef WinogradPlan plan = winograd_weights_plan(isa_table(isa_index), &g, m, turned, sizeof(real))
    if winograd_is_small(&g):
        threads = 1
    winograd_plan(&plan, &g, threads)
    plan.x, plan.out, plan.activation = &x[0, 0, 0, 0], &out[0, 0, 0, 0], activation
    if bias is not None:
        plan.bias = &bias[0]
    element_strides(x.strides, sizeof(real), &plan.xn)
    element_strides(out.strides, sizeof(real), &plan.on)
    return winograd_on(&plan, &w[0, 0, 0, 0] if packed is None else NULL, packed, isa_index,
                       threads)


def winograd_pack(tuple geometry, weight, int m, bint turned, int isa, int threads):
    """The weights' transforms for tiles of m x m outputs.

    `turned`: for the gradient with respect to the input.
    """
    cdef Geometry g = read_geometry(geometry)
    cdef WinogradPlan plan = winograd_weights_plan(isa_table(isa), &g, m, turned, weight.itemsize)
    cdef const float[:, :, :, ::1] w32
    cdef const double[:, :, :, ::1] w64
    if weight.itemsize == 4:
        w32 = weight
        return winograd_pack_of[float](&plan, &w32[0, 0, 0, 0], isa, threads)
    w64 = weight
    return winograd_pack_of[double](&plan, &w64[0, 0, 0, 0], isa, threads)


def winograd(tuple geometry, x, weight, packed, bias, out, int activation, int m, bint turned,
             int isa, int threads):
    """conv2d of 3x3 kernels with stride 1 or 2 (m = 4) and dilation 1; `weight` is read where `packed`
    is None.

    `turned`: conv2d_input instead, from the gradient x.
    """
    if out.itemsize == 4:
        winograd_of[float](geometry, x, weight, packed, bias, out, activation, m, turned, isa,
                           threads)
    else:
        winograd_of[double](geometry, x, weight, packed, bias, out, activation, m, turned, isa,
                            threads)
