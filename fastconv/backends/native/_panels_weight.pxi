# The gradient with respect to the weight, by the tile of panel.h: included by _conv.pyx.
#
# The same kernel with pixels and taps exchanged: dw[c][r][s][k] sums over pixels, the filters in the
# lanes.  grad_output is brought into panels [pixel][filter]; a tile's rows are channels of one tap, so
# that a row tap in the padding is a sub-range of the pixels, or, where channels are few, any taps.

cdef enum:
    PIXELS_DEPTH = 256          # most pixels of a block

cdef ptrdiff_t panel_sum_bytes = fc_second_level() // 2     # sums of one item


cdef struct PanelWeightPlan:
    PanelPlan panels            # panels.x.cb: channels of an item; panels.block: its panels
    ptrdiff_t yn, yc, yh, yw    # grad_output
    size_t dy_size, off_size, sum_size, scratch


cdef inline void gather_apart(const fc_isa* isa, ptrdiff_t n, int filters, const real* x,
                              ptrdiff_t x_filter, real* y, ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.gather_lanes(n, filters, x, x_filter, y, y_pitch)
    else:
        isa.f64.gather_lanes(n, filters, x, x_filter, y, y_pitch)


cdef void plan_panel_weight(PanelWeightPlan* plan, const fc_isa* isa, size_t item_size,
                            int threads) noexcept nogil:
    """Blocks and scratch; plan.panels.x has its axes, strides and channels."""
    cdef PanelPlan* pp = &plan.panels
    cdef Plan* xp = &pp.x
    cdef ptrdiff_t width, filters, most, wanted
    pp.panel_v = isa.f32.panel_v if item_size == 4 else isa.f64.panel_v
    width = pp.panel_v * xp.lanes
    xp.mode = ROWS
    xp.taps = xp.row.n_taps * xp.col.n_taps
    xp.depth = xp.taps * xp.ci
    pp.n_v = ceil_div(xp.co, xp.lanes)
    pp.n_panels = ceil_div(pp.n_v, pp.panel_v)
    # a block of filters stages the input again, one of channels transposes grad_output again
    most = panel_sum_bytes // <ptrdiff_t>(imax(xp.taps, 1) * item_size)
    filters = 64
    while filters * filters < most * xp.row.step * xp.col.step:
        filters *= 2
    pp.block = block_of(pp.n_panels, imax(1, filters // width))
    most //= pp.block * width
    most = imax(most, FC_PANEL_M)
    if threads > 1:
        wanted = ceil_div(4 * threads, xp.groups * ceil_div(pp.n_panels, pp.block))
        most = imin(most, imax(ceil_div(xp.ci, wanted), FC_PANEL_M))
    # a multiple of a tile's rows
    xp.cb = imin(xp.ci, ceil_div(block_of(xp.ci, most), FC_PANEL_M) * FC_PANEL_M)
    xp.n_cb = ceil_div(xp.ci, xp.cb)
    pp.n_kb = ceil_div(pp.n_panels, pp.block)
    pp.in_place = False
    pp.by_pixel = xp.xc == 1

    # how pixels are cut decides the order of the sums: by the sizes of the planes alone
    xp.qb = block_of(xp.col.n_out, PIXELS_DEPTH)
    xp.n_qb = ceil_div(xp.col.n_out, xp.qb)
    xp.pb = block_of(xp.row.n_out, PIXELS_DEPTH // xp.qb)
    xp.n_pb = ceil_div(xp.row.n_out, xp.pb)
    lay_out_panels(pp)
    xp.x_size = rounded((xp.cb * xp.chan + 2 * xp.lanes) * item_size)
    xp.n_vec = xp.pb * xp.qb
    plan.dy_size = rounded(xp.n_vec * pp.block * width * item_size)
    plan.off_size = rounded(xp.n_vec * sizeof(int32_t))
    plan.sum_size = rounded(xp.cb * xp.taps * pp.block * width * item_size)
    xp.at_size = rounded(xp.cb * xp.taps * sizeof(int32_t))
    plan.scratch = (xp.x_size + plan.dy_size + plan.off_size + plan.sum_size + xp.at_size
                    + rounded(width * item_size))


cdef void gather_panel(const fc_isa* isa, const PanelWeightPlan* plan, ptrdiff_t v,
                       ptrdiff_t filters, ptrdiff_t rows, ptrdiff_t cols, const real* dy,
                       real* to) noexcept nogil:
    """grad_output of a panel's filters as [pixel][filter]; dy is its first filter's first pixel."""
    cdef ptrdiff_t lanes = plan.panels.x.lanes, width = v * lanes, j, p, q, l, here
    if plan.yc == 1:    # NHWC
        for p in range(rows):
            for q in range(cols):
                memcpy(to, dy + p * plan.yh + q * plan.yw, filters * sizeof(real))
                memset(to + filters, 0, (width - filters) * sizeof(real))
                to += width
        return
    for j in range(v):
        here = imin(lanes, filters - j * lanes)
        if plan.yw == 1 and plan.yh == cols:
            gather_apart(isa, rows * cols, <int>here, dy + j * lanes * plan.yc, plan.yc,
                         to + j * lanes, width)
            continue
        for p in range(rows):
            if plan.yw == 1:
                gather_apart(isa, cols, <int>here, dy + j * lanes * plan.yc + p * plan.yh, plan.yc,
                             to + p * cols * width + j * lanes, width)
                continue
            for q in range(cols):
                for l in range(lanes):
                    to[(p * cols + q) * width + j * lanes + l] = (
                        dy[(j * lanes + l) * plan.yc + p * plan.yh + q * plan.yw]
                        if l < here else 0)


cdef inline bint few_channels(const Plan* xp, ptrdiff_t channels) noexcept nogil:
    """Whether a tile's rows are any taps, [channel][tap], rather than channels of one tap."""
    return channels < FC_PANEL_M and xp.taps > 1


cdef void panel_weight_tiles(const fc_isa* isa, const PanelWeightPlan* plan, ptrdiff_t v,
                             ptrdiff_t channels, ptrdiff_t p0, ptrdiff_t rows, ptrdiff_t cols,
                             const real* dy, const real* xs, const int32_t* off,
                             const int32_t* at, const real* start, real* sums) noexcept nogil:
    """Adds a block of pixels to one panel's sums [channel][row tap][column tap][filter].

    Where `start` is given, a panel's row of zeros, the block is the first.
    """
    cdef const Plan* xp = &plan.panels.x
    cdef ptrdiff_t width = v * xp.lanes, t = 0, r, first, end, stop, c, m, taps = xp.taps
    cdef Fetch nothing = Fetch(NULL, 0, 0, 0)
    if few_channels(xp, channels):
        panel_run(isa, xp.lanes, v, 0, channels * taps, rows * cols, dy, xs, off, at, start, sums,
                  &nothing)
        return
    for r in range(xp.row.n_taps):
        first, end = 0, rows
        while first < end and (first_tap(&xp.row, p0 + first) > r
                               or end_tap(&xp.row, p0 + first) <= r):
            first += 1
        while end > first and (first_tap(&xp.row, p0 + end - 1) > r
                               or end_tap(&xp.row, p0 + end - 1) <= r):
            end -= 1
        if first == end and start == NULL:
            t += xp.col.n_taps
            continue
        stop = t + xp.col.n_taps
        while t < stop:
            c = 0
            while c < channels:
                m = ceil_div(channels - c, ceil_div(channels - c, FC_PANEL_M))
                panel_from(isa, m, v, (end - first) * cols, dy + first * cols * width, width, xs,
                           off + first * cols, at + t * channels + c, start,
                           sums + (c * taps + t) * width, taps * width)
                c += m
            t += 1


cdef void panel_weight_block(const fc_isa* isa, const PanelWeightPlan* plan, const real* x,
                             const real* dy, real* dw, ptrdiff_t item,
                             char* scratch) noexcept nogil:
    """dw of a block of filters and channels: all images, all pixels."""
    cdef const PanelPlan* pp = &plan.panels
    cdef const Plan* xp = &pp.x
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + xp.x_size)
    cdef real* sums = <real*>(scratch + xp.x_size + plan.dy_size)
    cdef int32_t* off = <int32_t*>(scratch + xp.x_size + plan.dy_size + plan.sum_size)
    cdef int32_t* at = <int32_t*>(scratch + xp.x_size + plan.dy_size + plan.sum_size
                                  + plan.off_size)
    cdef real* zeros = <real*>(scratch + plan.scratch - rounded(
        pp.panel_v * xp.lanes * sizeof(real)))
    cdef ptrdiff_t group = item // (xp.n_cb * pp.n_kb), lanes = xp.lanes
    cdef ptrdiff_t c0 = item % xp.n_cb * xp.cb, channels = imin(xp.cb, xp.ci - c0)
    cdef ptrdiff_t first = item // xp.n_cb % pp.n_kb * pp.block
    cdef ptrdiff_t last = imin(first + pp.block, pp.n_panels), v_first = panel_start(pp, first)
    cdef ptrdiff_t image, block, p0, q0, rows, cols, p, q, i, v0, v, filters, c, t, k, j
    cdef ptrdiff_t seen = 0, place
    cdef bint few = few_channels(xp, channels)
    cdef ptrdiff_t rest = xp.ci * xp.taps
    cdef const real* from_dy
    cdef real* to
    if xp.images * xp.n_pb * xp.n_qb == 0:
        memset(sums, 0, plan.sum_size)
    memset(zeros, 0, pp.panel_v * lanes * sizeof(real))
    for t in range(xp.taps):
        k = t % xp.col.n_taps
        place = t // xp.col.n_taps * pp.off_row + (
            k * pp.off_col if pp.by_pixel else tap_col(xp, k))
        for c in range(channels):
            at[c * xp.taps + t if few else t * channels + c] = <int32_t>(place + c * pp.off_chan)
    for image in range(xp.images):
        for block in range(xp.n_pb * xp.n_qb):
            p0, q0 = block // xp.n_qb * xp.pb, block % xp.n_qb * xp.qb
            rows, cols = imin(xp.pb, xp.row.n_out - p0), imin(xp.qb, xp.col.n_out - q0)
            if pp.by_pixel:
                stage_pixels(pp, x + image * xp.xn + (group * xp.ci + c0) * xp.xc, channels, p0,
                             rows, q0, xs)
            else:
                stage(isa, xp, x, image, 1, group, c0, channels, p0, rows, q0, xs)
            if cols != seen:    # the table of fewer rows is the beginning of it
                seen = cols
                for p in range(xp.pb):
                    for q in range(cols):
                        off[p * cols + q] = <int32_t>(p * pp.at_row + q * pp.at_pixel)
            for i in range(first, last):
                v0 = panel_start(pp, i)
                v = panel_start(pp, i + 1) - v0
                from_dy = (dy + image * plan.yn + (group * xp.co + v0 * lanes) * plan.yc
                           + p0 * plan.yh + q0 * plan.yw)
                gather_panel(isa, plan, v, imin(v * lanes, xp.co - v0 * lanes), rows, cols,
                             from_dy, ys)
                panel_weight_tiles(isa, plan, v, channels, p0, rows, cols, ys, xs, off, at,
                                   zeros if image + block == 0 else <real*>NULL,
                                   sums + (v0 - v_first) * lanes * channels * xp.taps)
    for i in range(first, last):
        v0 = panel_start(pp, i)
        v = panel_start(pp, i + 1) - v0
        filters = imin(v * lanes, xp.co - v0 * lanes)
        to = dw + (group * xp.co + v0 * lanes) * rest + c0 * xp.taps
        for j in range(v):
            scatter_lanes(isa, channels * xp.taps, <int>imin(lanes, filters - j * lanes),
                          sums + (v0 - v_first) * lanes * channels * xp.taps + j * lanes,
                          v * lanes, to + j * lanes * rest, rest)


# --- the same of 1x1 kernels ---
#
# dw[k][c] sums over pixels of grad_output[k] times input[c].  With channels in the lanes the tiles of
# filters write its rows where they belong, and grad_output is read where it lies: the input alone is
# brought into panels [pixel][channel].  The pixels of small planes go together, several images of them.

cdef enum:
    POINT_PANELS = 16           # most panels of channels that are brought at a time
    POINT_FILTERS = 48          # that meet them one after the other: no more pages than a processor knows


cdef struct PointPlan:
    Plan x                              # its output fields are grad_output's
    ptrdiff_t plane, images, pixels     # pixels of an image; images and pixels of a block
    ptrdiff_t n_v, n_panels, panel_v    # vectors of channels, panels of them
    ptrdiff_t n_pb, n_kb                # blocks of panels, of filters
    size_t w_size, off_size, run_size, sum_size, scratch


cdef inline bint is_point(const Plan* xp) noexcept nogil:
    """Whether this is a 1x1 kernel, and grad_output can be read where it lies: offsets fit."""
    cdef ptrdiff_t images = imin(PIXELS_DEPTH // (xp.row.n_out * xp.col.n_out) + 1, xp.images)
    cdef ptrdiff_t reach = (POINT_FILTERS * imax(xp.oc, -xp.oc) + images * imax(xp.on, -xp.on)
                            + PIXELS_DEPTH * (1 + imax(xp.oh, -xp.oh)) + xp.col.n_out)
    return (xp.row.n_taps == 1 and xp.col.n_taps == 1 and xp.ow == 1 and xp.xc != 1
            and xp.images > 0 and reach < <ptrdiff_t>1 << 31)


cdef void plan_point(PointPlan* plan, const fc_isa* isa, size_t item_size,
                     int threads) noexcept nogil:
    """Blocks and scratch; plan.x has its axes, strides and channels."""
    cdef Plan* xp = &plan.x
    cdef ptrdiff_t width, wanted
    xp.taps = 1
    plan.panel_v = isa.f32.panel_v if item_size == 4 else isa.f64.panel_v
    width = plan.panel_v * xp.lanes
    plan.n_v = ceil_div(xp.ci, xp.lanes)
    plan.n_panels = ceil_div(plan.n_v, plan.panel_v)
    # how pixels are cut decides the order of the sums: by the size of the planes alone
    plan.plane = xp.row.n_out * xp.col.n_out
    plan.pixels = block_of(plan.plane, PIXELS_DEPTH)
    plan.images = imin(imax(PIXELS_DEPTH // plan.plane, 1), xp.images)
    plan.n_pb, plan.n_kb = ceil_div(plan.n_panels, POINT_PANELS), 1
    if threads > 1:     # enough of them; those of filters bring the same panels again
        wanted = ceil_div(4 * threads, xp.groups)
        plan.n_pb = imax(plan.n_pb, imin(plan.n_panels, wanted))
        plan.n_kb = imin(ceil_div(wanted, plan.n_pb), ceil_div(xp.co, FC_PANEL_M))
    plan.w_size = rounded(ceil_div(plan.n_panels, plan.n_pb) * plan.images * plan.pixels * width
                          * item_size)
    plan.off_size = rounded((plan.images * plan.pixels + POINT_FILTERS) * sizeof(int32_t))
    plan.run_size = rounded((xp.lanes * plan.pixels + width) * item_size)
    plan.sum_size = rounded(xp.co * width * item_size) if xp.ci % xp.lanes else 0
    plan.scratch = plan.w_size + plan.off_size + plan.run_size + plan.sum_size


cdef void gather_point(const fc_isa* isa, const PointPlan* plan, int channels, const real* x,
                       ptrdiff_t first, ptrdiff_t pixels, real* run, real* to,
                       ptrdiff_t width) noexcept nogil:
    """The pixels from `first` on of a vector of channels, x the first of them, as [pixel][channel]."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t c
    if is_long_row(xp):
        gather_apart(isa, pixels, channels, x + first, xp.xc, to, width)
        return
    for c in range(channels):
        patch_run(isa, xp, x + c * xp.xc, 0, 0, first, pixels, run + c * pixels)
    gather_apart(isa, pixels, channels, run, pixels, to, width)


cdef void point_block(const fc_isa* isa, const PointPlan* plan, const real* x, const real* dy,
                      real* dw, ptrdiff_t item, char* scratch) noexcept nogil:
    """dw of a block of filters and channels: all images, all pixels."""
    cdef const Plan* xp = &plan.x
    cdef ptrdiff_t lanes = xp.lanes, width = plan.panel_v * lanes
    cdef ptrdiff_t group = item // (plan.n_pb * plan.n_kb)
    cdef ptrdiff_t first = item % plan.n_pb * plan.n_panels // plan.n_pb
    cdef ptrdiff_t last = (item % plan.n_pb + 1) * plan.n_panels // plan.n_pb
    cdef ptrdiff_t kb = item // plan.n_pb % plan.n_kb
    cdef ptrdiff_t k_first = kb * xp.co // plan.n_kb, k_last = (kb + 1) * xp.co // plan.n_kb
    cdef ptrdiff_t image, images, p0, pixels, i, j, v0, v, k, k0, k1, m, depth, c, pitch
    cdef real* w = <real*>scratch
    cdef int32_t* off = <int32_t*>(scratch + plan.w_size)
    cdef int32_t* at = off + plan.images * plan.pixels
    cdef real* run = <real*>(scratch + plan.w_size + plan.off_size)
    cdef real* zeros = run + lanes * plan.pixels
    cdef real* sums = <real*>(scratch + plan.w_size + plan.off_size + plan.run_size)
    cdef const real* from_dy
    cdef real* panel_w
    cdef real* to
    memset(zeros, 0, width * sizeof(real))
    dw += group * xp.co * xp.ci
    for k in range(POINT_FILTERS):
        at[k] = <int32_t>(k * xp.oc)
    image = 0
    while image < xp.images:
        images = imin(plan.images, xp.images - image)
        p0 = 0
        while p0 < plan.plane:
            pixels = imin(plan.pixels, plan.plane - p0)
            depth = images * pixels
            for i in range(images):
                for j in range(pixels):
                    off[i * pixels + j] = <int32_t>(
                        i * xp.on + (p0 + j) % xp.col.n_out
                        + ((p0 + j) // xp.col.n_out - p0 // xp.col.n_out) * xp.oh)
            panel_w = w
            for i in range(first, last):
                v0 = i * plan.n_v // plan.n_panels
                v = (i + 1) * plan.n_v // plan.n_panels - v0
                for j in range(v):
                    c = (v0 + j) * lanes
                    for k in range(images):
                        gather_point(isa, plan, <int>imin(lanes, xp.ci - c),
                                     x + (image + k) * xp.xn + (group * xp.ci + c) * xp.xc, p0,
                                     pixels, run, panel_w + k * pixels * v * lanes + j * lanes,
                                     v * lanes)
                panel_w += depth * v * lanes
            from_dy = (dy + image * xp.on + (group * xp.co + k_first) * xp.oc
                       + p0 // xp.col.n_out * xp.oh)
            k0 = k_first
            while k0 < k_last:
                k1 = imin(k0 + POINT_FILTERS, k_last)
                panel_w = w
                for i in range(first, last):
                    v0 = i * plan.n_v // plan.n_panels
                    v = (i + 1) * plan.n_v // plan.n_panels - v0
                    to, pitch = dw + v0 * lanes, xp.ci
                    if (v0 + v) * lanes > xp.ci:    # whole vectors would reach into the next row
                        to, pitch = sums, v * lanes
                    k = k0
                    while k < k1:
                        m = ceil_div(k1 - k, ceil_div(k1 - k, FC_PANEL_M))
                        panel_from(isa, m, v, depth, panel_w, v * lanes, from_dy, off, at + k - k0,
                                   zeros if image + p0 == 0 else <real*>NULL, to + k * pitch, pitch)
                        k += m
                    panel_w += depth * v * lanes
                from_dy += (k1 - k0) * xp.oc
                k0 = k1
            p0 += pixels
        image += images
    if last == plan.n_panels and xp.ci % lanes:
        v0 = (last - 1) * plan.n_v // plan.n_panels
        v = plan.n_v - v0
        for k in range(k_first, k_last):
            memcpy(dw + k * xp.ci + v0 * lanes, sums + k * v * lanes,
                   (xp.ci - v0 * lanes) * sizeof(real))


cdef inline void panel_weight_item(const fc_isa* isa, const PanelWeightPlan* plan,
                                   const PointPlan* points, const real* x, const real* dy,
                                   real* dw, ptrdiff_t item, char* scratch) noexcept nogil:
    if points.scratch:
        point_block(isa, points, x, dy, dw, item, scratch)
    else:
        panel_weight_block(isa, plan, x, dy, dw, item, scratch)


cdef int panel_weight_gradient(const fc_isa* isa, const Plan* forward, const real* x,
                               const real* dy, real* dw, int threads) except -1:
    """The plan has the forward pass's axes, channels and strides."""
    cdef PanelWeightPlan plan
    cdef PointPlan points
    cdef ptrdiff_t item, n_items
    cdef size_t each
    cdef uint64_t mode = fc_float_mode(), before
    memset(&plan, 0, sizeof(PanelWeightPlan))
    memset(&points, 0, sizeof(PointPlan))
    plan.panels.x = points.x = forward[0]
    plan.yn, plan.yc, plan.yh, plan.yw = forward.on, forward.oc, forward.oh, forward.ow
    if is_point(forward):
        plan_point(&points, isa, sizeof(real), threads)
        n_items, each = forward.groups * points.n_pb * points.n_kb, points.scratch
    else:
        plan_panel_weight(&plan, isa, sizeof(real), threads)
        n_items, each = forward.groups * plan.panels.x.n_cb * plan.panels.n_kb, plan.scratch
    threads = <int>imin(threads, n_items)
    cdef Workspace space = take_workspace(threads * each)
    cdef char* scratch = space.aligned()
    with nogil:
        if threads == 1:
            for item in range(n_items):
                panel_weight_item(isa, &plan, &points, x, dy, dw, item, scratch)
        else:
            for item in prange(n_items, num_threads=threads, schedule="dynamic"):
                before = fc_set_float_mode(mode)
                panel_weight_item(isa, &plan, &points, x, dy, dw, item,
                                  scratch + each * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0
