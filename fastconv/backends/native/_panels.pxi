# Correlation with filters in the lanes (csrc/kernels/panel.h): included by _conv.pyx.
#
# A block of the input is staged row by row, or pixel by pixel where the channels are neighbours (NHWC),
# or, for a 1x1 kernel, in the order in which the tiles read it; NHWC without padding is read where it
# lies.  Each panel of filters goes over its pixels, six at a time.  Finished sums wait as
# [pixel][filter] until there are enough to go into the output's planes; sums over more than a block of
# channels wait as [panel][pixel][filter] for the rest of them.  A group of pixels takes as many steps of
# its sums at a time as leave weights and inputs in L1: that changes no bits.

cdef enum:
    PANEL_DEPTH = 256           # most taps times channels of a block: its weights stay in L1 or L2
    PANEL_GROUP = 48            # pixels that go into the output together: whole tiles, whole vectors

cdef ptrdiff_t panel_step_bytes = fc_first_level() * 7 // 8  # weights and inputs of some steps
cdef ptrdiff_t panel_stage_bytes = fc_second_level() // 4   # staged input of one block
cdef ptrdiff_t panel_y_bytes = fc_second_level() * 3 // 8   # sums of one block


cdef struct PanelPlan:
    Plan x                      # axes, strides, blocks of rows and columns
    ptrdiff_t n_v, panel_v      # vectors of a group's filters, and of a panel at most
    ptrdiff_t n_panels, block, n_kb     # panels of a group, of a block; blocks
    bint by_pixel, by_tile, in_place    # how the input is staged
    bint packs                  # each block packs the weights that it alone needs
    bint far                    # whether the weights lie beyond the near caches
    ptrdiff_t steps             # of the sums of a group of pixels, at a time
    size_t w_size               # of those
    ptrdiff_t off_chan, off_row, off_col, at_row, at_pixel   # places in it: a tap's, an output's


cdef inline void panel_from(const fc_isa* isa, ptrdiff_t m, ptrdiff_t v, ptrdiff_t depth,
                            const real* w, ptrdiff_t w_pitch, const real* x, const int32_t* off,
                            const int32_t* at, const real* first, real* y,
                            ptrdiff_t y_pitch) noexcept nogil:
    """A tile whose rows all begin with `first`, or add to y where that is NULL."""
    cdef Fetch nothing = Fetch(NULL, 0, 0, 0)
    panel(isa, m, v, depth, w, w_pitch, x, off, at, y if first == NULL else first,
          y_pitch if first == NULL else 0, y, y_pitch, &nothing)


cdef inline ptrdiff_t panel_start(const PanelPlan* plan, ptrdiff_t i) noexcept nogil:
    """First vector of filters of panel i: panels of nearly equal width."""
    return i * plan.n_v // plan.n_panels


cdef inline double idle(ptrdiff_t n, ptrdiff_t size, int threads) noexcept nogil:
    """How much longer n take in blocks of this size than shared out to the threads evenly."""
    cdef ptrdiff_t n_blocks = ceil_div(n, size)
    return <double>ceil_div(n_blocks, threads) * size * threads / imax(n, 1)


cdef void plan_panels(PanelPlan* plan, const fc_isa* isa, size_t item_size,
                      int threads) noexcept nogil:
    """Blocks and scratch; plan.x has its axes, strides and channels."""
    cdef Plan* xp = &plan.x
    cdef ptrdiff_t width, rows, most, items, parts, n_kb, block, reach, per_row, whole
    cdef bint own
    cdef double cost, least = 0
    plan.panel_v = isa.f32.panel_v if item_size == 4 else isa.f64.panel_v
    width = plan.panel_v * xp.lanes
    xp.mode = ROWS
    xp.taps = xp.row.n_taps * xp.col.n_taps
    xp.depth = xp.taps * xp.ci
    # the order of the sums: that of the other forms, whatever the ISA
    xp.cb = block_of(xp.ci, PANEL_DEPTH // imax(xp.taps, 1))
    xp.n_cb = ceil_div(xp.ci, xp.cb)
    plan.n_v = ceil_div(xp.co, xp.lanes)
    plan.n_panels = ceil_div(plan.n_v, plan.panel_v)
    plan.far = plan.n_v * xp.lanes * xp.depth * <ptrdiff_t>item_size > NEAR_BYTES
    xp.n_classes = 1
    xp.class_taps = xp.col.n_taps
    xp.classes[0] = Columns(0, xp.col.n_out, 0, xp.col.n_taps, 0)

    plan.in_place = reads_in_place(xp)
    plan.by_pixel = xp.xc == 1 and not plan.in_place
    plan.by_tile = xp.xc != 1 and is_long_row(xp)
    # each step reads a row of weights, and for each pixel a cache line that column taps share, or some
    # of them, one behind the other
    plan.steps = imax(panel_step_bytes // <ptrdiff_t>(
        width * item_size + CACHE_LINE // imin(imax(xp.col.n_taps, 1), 4)), 32)
    # vectors that are multiplied in halves leave the time to get them from L2
    if plan.by_tile or is_halved(isa):
        plan.steps = PANEL_DEPTH
    most = imax(panel_stage_bytes // <ptrdiff_t>(item_size * xp.cb * xp.col.step), PANEL_GROUP)
    if not plan.in_place:
        most = imin(most, COLUMN_BLOCK)
    # where there are more weights than inputs each thread reads its own
    own = threads > 1 and xp.co * xp.taps > xp.images * xp.row.n_in * xp.col.n_in
    if threads > 1 and not own and xp.row.n_out == 1:     # a long row is all there is to share out
        parts = ceil_div(ceil_div(xp.col.n_out, most), threads) * threads
        most = imin(most, imax(ceil_div(xp.col.n_out, parts), PANEL_GROUP))
    xp.qb = block_of(xp.col.n_out, most)
    if xp.qb < xp.col.n_out:
        whole = PANEL_GROUP if threads == 1 else FC_PANEL_M     # equal ones
        xp.qb = ceil_div(xp.qb, whole) * whole
    xp.n_qb = ceil_div(xp.col.n_out, xp.qb)
    xp.pb = 1
    lay_out_panels(plan)
    reach = 0
    per_row = item_size * imax(xp.cb * xp.staged_row, 1)
    if plan.in_place:
        per_row = item_size * xp.cb * xp.qb * xp.col.step
    most = panel_stage_bytes // per_row
    if xp.row_side.by_tap:
        most //= imax(xp.row.n_taps, 1)
    elif not plan.in_place:
        reach = (xp.row.n_taps - 1) * xp.row.tap_step
        most = (most - reach) // xp.row.step
    # rows of a block and panels of a block: whatever stages the fewest rows
    for n_kb in range(1, plan.n_panels + 1):
        block = ceil_div(plan.n_panels, n_kb)
        rows = most
        if xp.n_cb > 1:
            rows = imin(rows, panel_y_bytes // <ptrdiff_t>(item_size * xp.qb * width * block))
        rows = block_of(xp.row.n_out, rows)
        cost = <double>n_kb * (rows * xp.row.step + reach) / rows
        if n_kb == 1 or cost < least:
            least, plan.block, xp.pb = cost, block, rows
        if xp.n_cb == 1 or rows == xp.row.n_out:
            break
    if threads > 1:     # enough blocks for them
        items = xp.images * xp.groups * xp.n_qb
        # of its own weights; then staging, which each thread repeats, is worth no more blocks than
        # threads
        if own:
            parts = ceil_div(2 * threads if plan.in_place or plan.by_tile else threads,
                             items * ceil_div(xp.row.n_out, xp.pb))
            block = imin(plan.block, ceil_div(plan.n_panels, parts))
            rows = block_of(xp.row.n_out, ceil_div(xp.row.n_out, parts))
            # unless rows go into the threads evenly, and panels do not
            if (idle(plan.n_panels, block, threads) <= 1.15 * idle(xp.row.n_out, rows, threads)
                    or items > 1):
                plan.block = block
        items *= ceil_div(plan.n_panels, plan.block)
        parts = ceil_div(2 * threads if plan.block < plan.n_panels else 4 * threads, items)
        if items * ceil_div(xp.row.n_out, xp.pb) < threads or plan.block == plan.n_panels:
            xp.pb = block_of(xp.row.n_out, imin(xp.pb, ceil_div(xp.row.n_out, parts)))
        items *= ceil_div(xp.row.n_out, xp.pb)
        if items < threads:
            plan.block = imin(plan.block, ceil_div(plan.n_panels, ceil_div(threads, items)))
    xp.n_pb = ceil_div(xp.row.n_out, xp.pb)
    plan.n_kb = ceil_div(plan.n_panels, plan.block)
    lay_out_panels(plan)
    plan.packs = xp.images * xp.n_pb * xp.n_qb == 1
    plan.w_size = rounded(xp.cb * xp.taps * plan.block * width * item_size) if plan.packs else 0

    xp.n_vec = xp.pb * xp.qb
    xp.x_size = 0 if plan.in_place else rounded((xp.cb * xp.chan + 2 * xp.lanes) * item_size)
    if plan.by_tile:
        xp.x_size = rounded(ceil_div(xp.qb, FC_PANEL_M) * tile_pitch(xp.cb) * item_size)
    xp.y_size = (imin(xp.n_vec, PANEL_GROUP + xp.lanes) if xp.n_cb == 1
                 else xp.n_vec * plan.block)
    xp.y_size = rounded(xp.y_size * width * item_size)
    xp.at_size = rounded(xp.n_vec * sizeof(int32_t))
    xp.scratch = (xp.x_size + xp.y_size + xp.at_size + plan.w_size
                  + rounded(imin(xp.qb, PANEL_GROUP + xp.lanes) * xp.lanes * item_size))


cdef inline bint reads_in_place(const Plan* xp) noexcept nogil:
    """Whether channels are neighbours, no tap of any output lies in the padding, and offsets fit."""
    cdef ptrdiff_t last_h = (xp.row.start + (xp.row.n_out - 1) * xp.row.step
                             + (xp.row.n_taps - 1) * xp.row.tap_step)
    cdef ptrdiff_t last_w = (xp.col.start + (xp.col.n_out - 1) * xp.col.step
                             + (xp.col.n_taps - 1) * xp.col.tap_step)
    return (xp.xc == 1 and xp.row.start >= 0 and xp.col.start >= 0 and xp.taps > 0
            and last_h < xp.row.n_in and last_w < xp.col.n_in
            and xp.xh > 0 and xp.xw > 0
            and last_h * xp.xh + last_w * xp.xw + xp.ci < <ptrdiff_t>1 << 31)


cdef inline ptrdiff_t tile_pitch(ptrdiff_t channels) noexcept nogil:
    """Elements of a tile's pixels, by_tile; copies of some of them reach into the next ones."""
    return (channels + 1) * FC_PANEL_M


cdef void stage_tiles(const PanelPlan* plan, const real* x, ptrdiff_t channels, ptrdiff_t n,
                      real* to) noexcept nogil:
    """n pixels of planes as [tile][channel][pixel], which a tile reads in order; x is their first."""
    cdef ptrdiff_t c, pitch = tile_pitch(plan.x.cb)
    for c in range(channels):
        fc_fetch(<const char*>(x + (c + PLANES_AHEAD) * plan.x.xc), n * sizeof(real))
        fc_spread_tiles(to + c * FC_PANEL_M, pitch * sizeof(real), FC_PANEL_M * sizeof(real),
                        x + c * plan.x.xc, n * sizeof(real))


cdef void lay_out_panels(PanelPlan* plan) noexcept nogil:
    """Pitches of a staged block of pb rows, qb columns and cb channels."""
    cdef Plan* xp = &plan.x
    if plan.in_place:
        xp.row_side, xp.col_side = Side(False, False, 0, 0), Side(False, False, 0, 0)
        xp.staged_row = 0
        plan.off_chan, plan.off_row, plan.off_col = (
            xp.xc, xp.row.tap_step * xp.xh, xp.col.tap_step * xp.xw)
        plan.at_row, plan.at_pixel = xp.row.step * xp.xh, xp.col.step * xp.xw
        return
    if plan.by_pixel:
        xp.row_side = side_of(&xp.row, xp.pb, False)
        xp.col_side = side_of(&xp.col, xp.qb, False)
        plan.off_chan = 1
        plan.at_pixel = xp.cb * (1 if xp.col_side.by_tap else xp.col.step)
        plan.off_col = xp.cb * (xp.qb if xp.col_side.by_tap else xp.col.tap_step)
        xp.piece = xp.cb * xp.col_side.length
        # staged_row counts elements of one channel, as for planes
        xp.staged_row = xp.col_side.n_pieces * xp.col_side.length
        xp.chan = xp.row_side.n_pieces * xp.row_side.length * xp.staged_row
        plan.at_row = xp.cb * xp.staged_row * (1 if xp.row_side.by_tap else xp.row.step)
        plan.off_row = xp.cb * xp.staged_row * (xp.pb if xp.row_side.by_tap else xp.row.tap_step)
        return
    lay_out(xp)
    if plan.by_tile:
        xp.chan, xp.tap_row = FC_PANEL_M, 0
    plan.off_chan, plan.off_row = xp.chan, xp.tap_row
    plan.at_row, plan.at_pixel = xp.out_row, 1


cdef void stage_pixels(const PanelPlan* plan, const real* x, ptrdiff_t channels, ptrdiff_t p0,
                       ptrdiff_t rows, ptrdiff_t q0, real* to) noexcept nogil:
    """The padded block as [row][column][channel]; x is its first channel in the image."""
    cdef const Plan* xp = &plan.x
    cdef const Axis* row = &xp.row
    cdef const Axis* col = &xp.col
    cdef ptrdiff_t i, j, y, c, first, step, begin, end, n_rows, piece
    cdef ptrdiff_t cb = xp.cb, length = xp.col_side.length
    cdef ptrdiff_t origin_h = row.start + p0 * row.step, origin_w = col.start + q0 * col.step
    cdef const real* from_row
    cdef real* to_piece
    if xp.row_side.by_tap:
        n_rows = xp.row_side.n_pieces * xp.pb
    else:
        n_rows = (rows - 1) * row.step + (row.n_taps - 1) * row.tap_step + 1
    for i in range(n_rows):
        y = origin_h + (i // xp.pb * row.tap_step + i % xp.pb * row.step
                        if xp.row_side.by_tap else i)
        for piece in range(xp.col_side.n_pieces):
            to_piece = to + (i * xp.col_side.n_pieces + piece) * length * cb
            if y < 0 or y >= row.n_in:
                memset(to_piece, 0, length * cb * sizeof(real))
                continue
            first = origin_w + piece * col.tap_step
            step = col.step if xp.col_side.by_tap else 1
            begin = imin(ceil_div(-first, step), length) if first < 0 else 0
            end = imin((col.n_in - 1 - first) // step + 1, length) if first < col.n_in else 0
            end = imax(end, begin)
            from_row = x + y * xp.xh + first * xp.xw
            memset(to_piece, 0, begin * cb * sizeof(real))
            if step * xp.xw == cb and channels == cb:
                memcpy(to_piece + begin * cb, from_row + begin * cb,
                       (end - begin) * cb * sizeof(real))
            else:
                for j in range(begin, end):
                    for c in range(channels):
                        to_piece[j * cb + c] = from_row[j * step * xp.xw + c]
            memset(to_piece + end * cb, 0, (length - end) * cb * sizeof(real))


cdef void panel_offsets(const PanelPlan* plan, ptrdiff_t channels, int32_t* off) noexcept nogil:
    """Places of the taps: k over (row tap, channel, column tap)."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t tr, c, tc, k = 0
    for tr in range(xp.row.n_taps):
        for c in range(channels):
            for tc in range(xp.col.n_taps):
                off[k] = <int32_t>(tr * plan.off_row + c * plan.off_chan + (
                    tc * plan.off_col if plan.by_pixel or plan.in_place else tap_col(xp, tc)))
                k += 1


cdef void panel_run(const fc_isa* isa, ptrdiff_t lanes, ptrdiff_t v, ptrdiff_t begin, ptrdiff_t end,
                    ptrdiff_t depth, const real* w, const real* x, const int32_t* off,
                    const int32_t* at, const real* bias, real* y, Fetch* fetch) noexcept nogil:
    """One panel over the pixels from `begin` to `end`, in tiles of nearly equal height; y is the first's."""
    cdef ptrdiff_t n = end - begin, pitch = v * lanes, start_pitch = pitch if bias == NULL else 0
    cdef ptrdiff_t each, rest, m
    if n == 0:
        return
    m = ceil_div(n, FC_PANEL_M)
    each, rest = n // m, n % m
    while begin < end:
        m = each
        if rest > 0:
            m += 1
            rest -= 1
        panel(isa, m, v, depth, w, pitch, x, off, at + begin, y if bias == NULL else bias,
              start_pitch, y, pitch, fetch)
        fetched(fetch, depth)
        y += m * pitch
        begin += m


cdef void panel_rows(const fc_isa* isa, const PanelPlan* plan, ptrdiff_t v, ptrdiff_t p0,
                     ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t channels, const real* w,
                     const real* x, const int32_t* off, const int32_t* at, const real* bias,
                     real* y, ptrdiff_t filters, real* run, real* to) noexcept nogil:
    """One panel over a block: rows that need the same row taps together, the others left out.

    Where `to` is given, the place of its first filter and pixel, the sums are finished and go there in
    groups, so that memory takes them while the next ones are computed. What follows the weights is
    read next; weights that are near leave time to fetch where a group goes.
    """
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t p = 0, end, t0, t1, per_tap = channels * xp.col.n_taps, width = v * xp.lanes
    cdef ptrdiff_t q, last = rows * cols, here, group = 0, stop, k, depth, steps, start
    cdef ptrdiff_t item = sizeof(real)
    cdef bint plane_by_plane = (to != NULL and not plan.far and xp.oc > 1 and is_flat(xp, cols))
    cdef Fetch fetch = fetch_bytes(
        <const char*>(w + xp.taps * channels * width), xp.taps * channels * width * item,
        ceil_div(last, FC_PANEL_M) * ceil_div(xp.taps * channels, FC_PANEL_TURN) if plan.far else 0)
    stop = PANEL_GROUP if to == NULL else first_group(xp, to)
    while p < rows:
        t0 = first_tap(&xp.row, p0 + p)
        t1 = imax(end_tap(&xp.row, p0 + p), t0)
        end = p + 1
        while (end < rows and first_tap(&xp.row, p0 + end) == t0
               and imax(end_tap(&xp.row, p0 + end), t0) == t1):
            end += 1
        depth = (t1 - t0) * per_tap
        start = t0 * per_tap
        steps = block_of(depth, plan.steps)
        q = p * cols
        while q < end * cols:
            if last - stop < xp.lanes:
                stop = last     # no group of a few pixels at the end
            here = imin(end * cols, stop)
            if plane_by_plane and q == group:
                fetch = fetch_rows(<const char*>(to + q), PANEL_GROUP * item, xp.oc * item, filters)
            k = 0
            while True:
                panel_run(isa, xp.lanes, v, q, here, imin(steps, depth - k),
                          w + (start + k) * width, x, off + start + k, at, bias if k == 0 else NULL,
                          y + (q - group if xp.n_cb == 1 else q) * width, &fetch)
                k += steps
                if k >= depth:
                    break
            q = here
            if q == stop:
                if to != NULL:
                    emit_pixels(isa, xp, v, filters, cols, group, q,
                                y if xp.n_cb == 1 else y + group * width, run, to)
                group, stop = q, q + PANEL_GROUP
        p = end


cdef inline bint is_flat(const Plan* xp, ptrdiff_t cols) noexcept nogil:
    """Whether a block's rows, if there are several, follow each other in the output."""
    return xp.ow * xp.col.out_step == 1 and (xp.row.n_out == 1 or xp.oh * xp.row.out_step == cols)


cdef inline ptrdiff_t first_group(const Plan* xp, const real* to) noexcept nogil:
    """Pixels of a block's first group: in one long row the next ones begin with a cache line."""
    if xp.oc * <ptrdiff_t>sizeof(real) % CACHE_LINE:
        return PANEL_GROUP
    return PANEL_GROUP - <ptrdiff_t>(<size_t>to % CACHE_LINE) // <ptrdiff_t>sizeof(real)


cdef void emit_pixels(const fc_isa* isa, const Plan* xp, ptrdiff_t v, ptrdiff_t filters,
                      ptrdiff_t cols, ptrdiff_t begin, ptrdiff_t end, real* y, real* run,
                      real* to) noexcept nogil:
    """A panel's sums of a block's pixels from `begin` to `end`, y, into the array."""
    cdef ptrdiff_t lanes = xp.lanes, width = v * lanes, j, q, l, here, count
    cdef ptrdiff_t oh = xp.oh * xp.row.out_step, ow = xp.ow * xp.col.out_step
    cdef real* to_row
    activate(isa, xp.activation, (end - begin) * width, y)
    if is_flat(xp, cols):
        cols = end          # one long row
    while begin < end:
        count = imin(end, (begin // cols + 1) * cols) - begin
        to_row = to + begin // cols * oh + begin % cols * ow
        if xp.oc == 1:      # NHWC: as it is
            for q in range(count):
                memcpy(to_row + q * ow, y + q * width, filters * sizeof(real))
        else:
            for j in range(v):
                here = imin(lanes, filters - j * lanes)
                if ow == 1:
                    scatter_lanes(isa, count, <int>here, y + j * lanes, width,
                                  to_row + j * lanes * xp.oc, xp.oc)
                    continue
                scatter_lanes(isa, count, <int>here, y + j * lanes, width, run, count)
                for l in range(here):
                    for q in range(count):
                        to_row[(j * lanes + l) * xp.oc + q * ow] = run[l * count + q]
        y += count * width
        begin += count


cdef void panel_block(const fc_isa* isa, const PanelPlan* plan, const real* x,
                      const Tables* tables, real* out, ptrdiff_t item,
                      char* scratch) noexcept nogil:
    """One block of outputs: stage, panels, epilogue."""
    cdef const Plan* xp = &plan.x
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + xp.x_size)
    cdef int32_t* at = <int32_t*>(scratch + xp.x_size + xp.y_size)
    cdef real* own = <real*>(scratch + xp.x_size + xp.y_size + xp.at_size)
    cdef real* run = <real*>(scratch + xp.x_size + xp.y_size + xp.at_size + plan.w_size)
    cdef ptrdiff_t qi = item % xp.n_qb
    cdef ptrdiff_t pi = item // xp.n_qb % xp.n_pb
    cdef ptrdiff_t ki = item // (xp.n_qb * xp.n_pb) % plan.n_kb
    cdef ptrdiff_t group = item // (xp.n_qb * xp.n_pb * plan.n_kb) % xp.groups
    cdef ptrdiff_t image = item // (xp.n_qb * xp.n_pb * plan.n_kb * xp.groups)
    cdef ptrdiff_t p0 = pi * xp.pb, q0 = qi * xp.qb
    cdef ptrdiff_t rows = imin(xp.pb, xp.row.n_out - p0), cols = imin(xp.qb, xp.col.n_out - q0)
    cdef ptrdiff_t first = ki * plan.block, last = imin(first + plan.block, plan.n_panels)
    cdef ptrdiff_t lanes = xp.lanes, ci, c0, channels, i, v0, v, p, q
    cdef ptrdiff_t v_first = panel_start(plan, first)
    cdef const real* bias = <const real*>tables.bias + group * plan.n_v * lanes
    cdef const real* w = <const real*>tables.w
    cdef const real* w_panel
    cdef const real* from_x
    cdef const int32_t* off
    cdef bint packs = tables.as_given
    cdef real* y
    cdef real* to
    for p in range(rows):
        for q in range(cols):
            if plan.by_tile:    # one row
                at[q] = <int32_t>(q // FC_PANEL_M * tile_pitch(xp.cb) + q % FC_PANEL_M)
            else:
                at[p * cols + q] = <int32_t>(p * plan.at_row + q * plan.at_pixel)
    for ci in range(xp.n_cb):
        c0 = ci * xp.cb
        channels = imin(xp.cb, xp.ci - c0)
        off = tables.off if channels == xp.cb else tables.off_last
        from_x = x + image * xp.xn + (group * xp.ci + c0) * xp.xc
        if plan.in_place:
            from_x += ((xp.row.start + p0 * xp.row.step) * xp.xh
                       + (xp.col.start + q0 * xp.col.step) * xp.xw)
        elif xp.taps:
            if plan.by_tile:
                stage_tiles(plan, from_x + q0, channels, cols, xs)
            elif plan.by_pixel:
                stage_pixels(plan, from_x, channels, p0, rows, q0, xs)
            else:
                stage(isa, xp, x, image, 1, group, c0, channels, p0, rows, q0, xs)
            from_x = xs
        if packs:
            pack_some_panels(isa, plan, w + group * xp.w_group, c0, channels, first, last,
                             tables.slot if channels == xp.cb else tables.slot_last, own)
        for i in range(first, last):
            v0 = panel_start(plan, i)
            v = panel_start(plan, i + 1) - v0
            if packs:
                w_panel = own + lanes * (v0 - v_first) * channels * xp.taps
            else:
                w_panel = w + lanes * xp.taps * (plan.n_v * (group * xp.ci + c0) + v0 * channels)
            y = ys if xp.n_cb == 1 else ys + (v0 - v_first) * lanes * rows * cols
            to = NULL
            if ci == xp.n_cb - 1:
                to = out + place_of(xp, image, group * xp.co + v0 * lanes, p0, q0)
            panel_rows(isa, plan, v, p0, rows, cols, channels, w_panel, from_x, off, at,
                       bias + v0 * lanes if ci == 0 else NULL, y,
                       imin(v * lanes, xp.co - v0 * lanes), run, to)


cdef inline size_t panel_weight_size(const PanelPlan* plan, size_t item_size) noexcept nogil:
    return rounded(plan.x.groups * plan.n_v * plan.x.lanes * plan.x.depth * item_size)


cdef void pack_panels(const fc_isa* isa, const PanelPlan* plan, const real* w,
                      const Tables* tables, real* to) noexcept nogil:
    """Weights in the order in which the panels read them."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t g, ci, c0, channels
    for ci in range(xp.n_cb):
        c0 = ci * xp.cb
        channels = imin(xp.cb, xp.ci - c0)
        for g in range(xp.groups):
            pack_some_panels(isa, plan, w + g * xp.w_group, c0, channels, 0, plan.n_panels,
                             tables.slot if channels == xp.cb else tables.slot_last,
                             to + xp.lanes * xp.taps * plan.n_v * (g * xp.ci + c0))


cdef void pack_some_panels(const fc_isa* isa, const PanelPlan* plan, const real* w, ptrdiff_t c0,
                           ptrdiff_t channels, ptrdiff_t first, ptrdiff_t last,
                           const int32_t* slot, real* to) noexcept nogil:
    """The panels from `first` to `last` of a block of channels; w is the group's first weight."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t i, v0, v
    for i in range(first, last):
        v0 = panel_start(plan, i)
        v = panel_start(plan, i + 1) - v0
        pack_block(isa, xp, &xp.classes[0], <int>imin(v * xp.lanes, xp.co - v0 * xp.lanes),
                   channels, w + v0 * xp.lanes * xp.w_m + c0 * xp.w_c, slot, to, v * xp.lanes)
        to += v * xp.lanes * channels * xp.taps


cdef inline size_t panel_bias_size(const PanelPlan* plan, size_t item_size) noexcept nogil:
    return rounded(plan.x.groups * plan.n_v * plan.x.lanes * item_size)


cdef inline size_t panel_operands_size(const PanelPlan* plan, size_t item_size,
                                       bint packed) noexcept nogil:
    """Bytes of bias and weights; of the bias alone where the weights are packed already."""
    return panel_bias_size(plan, item_size) + (
        0 if packed or plan.packs else panel_weight_size(plan, item_size))


cdef inline size_t panel_offsets_size(const PanelPlan* plan, bint packed) noexcept nogil:
    """Bytes of the tables that depend on the plan alone."""
    return 2 * off_size(&plan.x) + (0 if packed else 2 * slot_size(&plan.x))


cdef void fill_panel_offsets(const PanelPlan* plan, Tables* tables, char* memory,
                             bint packed) noexcept nogil:
    cdef const Plan* xp = &plan.x
    tables.off = <int32_t*>memory
    tables.off_last = <int32_t*>(memory + off_size(xp))
    memory += 2 * off_size(xp)
    tables.slot, tables.slot_last = <int32_t*>memory, <int32_t*>(memory + slot_size(xp))
    panel_offsets(plan, xp.cb, tables.off)
    panel_offsets(plan, xp.ci - (xp.n_cb - 1) * xp.cb, tables.off_last)
    if not packed:
        pack_slots(xp, &xp.classes[0], xp.cb, tables.slot)
        pack_slots(xp, &xp.classes[0], xp.ci - (xp.n_cb - 1) * xp.cb, tables.slot_last)


cdef void fill_panel_operands(const fc_isa* isa, const PanelPlan* plan, Tables* tables, char* memory,
                              const real* w, const char* packed, const real* bias) noexcept nogil:
    """The weights as [group][block of channels][panel][k][filter], unless each block packs those that
    it alone needs; the bias filled up to vectors."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t width = plan.n_v * xp.lanes, g, k
    cdef real* start = <real*>memory
    for g in range(xp.groups):
        for k in range(width):
            start[g * width + k] = bias[g * xp.co + k] if bias != NULL and k < xp.co else 0
    tables.bias = memory
    tables.w = packed
    tables.as_given = packed == NULL and plan.packs
    if tables.as_given:
        tables.w = <const char*>w
    elif packed == NULL:
        memory += panel_bias_size(plan, sizeof(real))
        tables.w = memory
        pack_panels(isa, plan, w, tables, <real*>memory)


cdef inline ptrdiff_t panel_blocks(const PanelPlan* plan) noexcept nogil:
    return plan.x.images * plan.x.groups * plan.n_kb * plan.x.n_pb * plan.x.n_qb


cdef int run_panels(const fc_isa* isa, const PanelPlan* plan, const real* x, const real* w,
                    const char* packed, const real* bias, real* out, int threads) except -1:
    """Packs the weights unless they are packed already, then runs the blocks on the threads."""
    cdef ptrdiff_t n_items = panel_blocks(plan), item
    cdef Tables tables
    cdef size_t each = plan.x.scratch, offsets = panel_offsets_size(plan, packed != NULL)
    cdef size_t shared = offsets + panel_operands_size(plan, sizeof(real), packed != NULL)
    cdef Workspace space = take_workspace(shared + threads * each)
    cdef char* memory = space.aligned()
    cdef char* scratch = memory + shared
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        fill_panel_offsets(plan, &tables, memory, packed != NULL)
        fill_panel_operands(isa, plan, &tables, memory + offsets, w, packed, bias)
        if threads == 1:
            for item in range(n_items):
                panel_block(isa, plan, x, &tables, out, item, scratch)
        else:
            for item in prange(n_items, num_threads=threads, schedule="dynamic"):
                before = fc_set_float_mode(mode)
                panel_block(isa, plan, x, &tables, out, item, scratch + each * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0
