# The gradient with respect to the input, by the tile of panel.h: included by _conv.pyx.
#
# Each tap adds its products to the places that its pixels reach: a tile's rows are neighbouring pixels
# of grad_output, its start and its results a row of dx with the channels in the lanes, in steps of the
# stride.  So grad_output is staged once and the weights are packed once whatever the stride, where a
# correlation for each residue would do both again, and the planes leave whole.  A panel of channels
# of one image waits in the cache, which is what limits the size of the planes.

cdef enum:
    SPREAD_BYTES = 262144       # most of a panel's planes: they stay in the second level
    SPREAD_STAGE = 2097152      # of the gradient of an item's images
    ROWS_AHEAD = 8              # of weights, which lie in other pages
    SPREAD_ROWS = 65536         # of it that all taps meet before the next ones
    SPREAD_PIXELS = 256         # most of a plane that a 1x1 kernel leaves as it is
    SPREAD_DEPTH = 192          # fewest channels of grad_output at stride 1
    SPREAD_RUN = 4              # panels whose weights are packed together where they are neighbours


cdef struct SpreadPlan:
    PanelPlan panels            # axes of the forward pass; `co` are dx's channels, its block panels
    ptrdiff_t width             # columns of the planes that wait, with the padding beside them
    ptrdiff_t images, n_nb      # of an item; blocks of images
    ptrdiff_t few               # panels that wait together
    ptrdiff_t pixels, pitch     # of grad_output; elements of a tile of them
    size_t stage_size, w_size, sum_size, off_size, at_size, slot_size, scratch


cdef inline bint is_spread(const Plan* xp) noexcept nogil:
    """Whether this is the faster way, as _costs.py counts it: at stride 1 where sums are long, for
    there rows of pixels fill their tiles less well, or weights are many beside the pixels."""
    if xp.row.step > 1 or xp.col.step > 1:
        return True
    if xp.xc == 1:      # NHWC: read where it lies
        return False
    if xp.row.n_taps * xp.col.n_taps == 1:
        return xp.images == 1 and xp.row.n_out * xp.col.n_out <= SPREAD_PIXELS
    return xp.ci >= SPREAD_DEPTH


cdef bint plan_spread(SpreadPlan* plan, const fc_isa* isa, size_t item_size,
                      int threads) noexcept nogil:
    """Blocks and scratch; plan.panels.x has its axes, strides and channels. False where planes or
    filters are too large."""
    cdef PanelPlan* pp = &plan.panels
    cdef Plan* xp = &pp.x
    cdef ptrdiff_t width, sums, staged, wanted
    xp.taps = xp.row.n_taps * xp.col.n_taps
    pp.panel_v = isa.f32.panel_v if item_size == 4 else isa.f64.panel_v
    width = pp.panel_v * xp.lanes
    pp.n_v = ceil_div(xp.co, xp.lanes)
    pp.n_panels = ceil_div(pp.n_v, pp.panel_v)
    pp.block = pp.n_panels
    xp.cb = block_of(xp.ci, PANEL_DEPTH)
    plan.pixels = xp.row.n_out * xp.col.n_out
    plan.pitch = tile_pitch(xp.ci)
    plan.width = imax(xp.col.n_in - xp.col.start, (xp.col.n_out - 1) * xp.col.step
                      + (xp.col.n_taps - 1) * xp.col.tap_step + 1)
    if plan.width > SPREAD_BYTES or xp.row.n_in > SPREAD_BYTES:
        return False
    sums = xp.row.n_in * plan.width * width * <ptrdiff_t>item_size
    staged = ceil_div(plan.pixels, FC_PANEL_M) * plan.pitch * <ptrdiff_t>item_size
    plan.w_size = xp.taps * (xp.cb + 1) * width * item_size
    if (staged == 0 or sums > SPREAD_BYTES or staged > SPREAD_STAGE
            or <ptrdiff_t>plan.w_size > SPREAD_STAGE):
        return False
    plan.few = imin(SPREAD_RUN, SPREAD_BYTES // sums) if xp.taps == 1 else 1
    plan.few = imin(plan.few, pp.n_panels)
    plan.images = imin(SPREAD_BYTES // (sums * plan.few), SPREAD_STAGE // staged)
    plan.images = imin(imax(plan.images, 1), xp.images)
    plan.n_nb = ceil_div(xp.images, plan.images)
    if threads > 1:
        wanted = ceil_div(4 * threads, xp.groups * plan.n_nb)
        pp.block = imax(ceil_div(pp.n_panels, wanted), 1)
        plan.few = imin(plan.few, pp.block)
    pp.n_kb = ceil_div(pp.n_panels, pp.block)
    plan.stage_size = rounded(plan.images * staged)
    plan.w_size = rounded(plan.few * plan.w_size)
    plan.sum_size = rounded(plan.few * plan.images * sums)
    plan.off_size = rounded(xp.cb * sizeof(int32_t))
    plan.at_size = rounded(plan.pixels * sizeof(int32_t))
    plan.slot_size = rounded(xp.taps * sizeof(int32_t))
    plan.scratch = (plan.stage_size + plan.w_size + plan.sum_size + plan.off_size + plan.at_size
                    + plan.slot_size
                    + rounded(imax(plan.pixels, xp.col.n_in * xp.lanes) * item_size))
    return True


cdef void stage_spread(const fc_isa* isa, const SpreadPlan* plan, const real* dy, real* run,
                       real* to) noexcept nogil:
    """An image of grad_output as [tile][channel][pixel], tiles of its plane as one long row."""
    cdef const Plan* xp = &plan.panels.x
    cdef ptrdiff_t c, p, cols = xp.col.n_out
    cdef bint flat = xp.xw == 1 and xp.xh == cols
    cdef const real* pixels = run
    for c in range(xp.ci):
        if flat:
            pixels = dy
            fc_fetch(<const char*>(dy + PLANES_AHEAD * xp.xc), plan.pixels * sizeof(real))
        else:
            for p in range(xp.row.n_out):
                take(isa, cols, dy + p * xp.xh, xp.xw, 1, run + p * cols)
        fc_spread_tiles(to, plan.pitch * sizeof(real), FC_PANEL_M * sizeof(real), pixels,
                        plan.pixels * sizeof(real))
        to += FC_PANEL_M
        dy += xp.xc


cdef void pack_spread(const fc_isa* isa, const SpreadPlan* plan, const real* w, ptrdiff_t n,
                      ptrdiff_t depth, const int32_t* slot, real* to) noexcept nogil:
    """The weights of n channels as [panel][tap][channel of grad_output][channel of dx].

    A row more for each tap: those of one channel do not meet in the same cache set.
    """
    cdef const Plan* xp = &plan.panels.x
    cdef ptrdiff_t k, width = plan.panels.panel_v * xp.lanes, bytes = n * xp.taps * sizeof(real)
    for k in range(depth):
        fc_fetch(<const char*>(w + ROWS_AHEAD * xp.w_c), bytes)
        if xp.taps == 1:
            fc_spread_groups(to, (depth + 1) * width * sizeof(real), width * sizeof(real), w, bytes)
        else:           # of one panel
            pack(isa, <int>n, xp.taps, w, xp.taps, slot, to, width)
        to += width
        w += xp.w_c


cdef void spread_tiles(const fc_isa* isa, const SpreadPlan* plan, ptrdiff_t v, ptrdiff_t depth,
                       const real* w, const real* dy, const int32_t* off, const int32_t* at,
                       real* sums) noexcept nogil:
    """Adds what `depth` channels of grad_output contribute to a panel's planes."""
    cdef const Plan* xp = &plan.panels.x
    cdef ptrdiff_t width = v * xp.lanes, cols = xp.col.n_out, step = xp.col.step * width
    cdef ptrdiff_t pitch = plan.panels.panel_v * xp.lanes
    cdef ptrdiff_t tiles = ceil_div(cols, FC_PANEL_M), t, p, y, i, q, end, p0 = 0, p1
    cdef ptrdiff_t rows = block_of(xp.row.n_out, SPREAD_ROWS // <ptrdiff_t>(
        depth * cols * sizeof(real)))
    cdef const real* w_t
    cdef real* to
    while p0 < xp.row.n_out:
        p1 = imin(p0 + rows, xp.row.n_out)
        w_t = w
        for t in range(xp.taps):
            for p in range(p0, p1):
                y = (xp.row.start + p * xp.row.step + t // xp.col.n_taps * xp.row.tap_step)
                if y < 0 or y >= xp.row.n_in:
                    continue
                to = sums + (y * plan.width + t % xp.col.n_taps * xp.col.tap_step) * width
                q = 0
                for i in range(tiles):
                    end = (i + 1) * cols // tiles
                    panel_from(isa, end - q, v, depth, w_t, pitch, dy, off, at + p * cols + q,
                               <const real*>NULL, to + q * step, step)
                    q = end
            w_t += (depth + 1) * pitch
        p0 = p1


cdef void emit_spread(const fc_isa* isa, const SpreadPlan* plan, ptrdiff_t v, ptrdiff_t channels,
                      real* sums, real* run, real* out) noexcept nogil:
    """A panel's planes of an image into the array, without the padding."""
    cdef const Plan* xp = &plan.panels.x
    cdef ptrdiff_t cols = xp.col.n_in, y = 0, rows = 1
    if plan.width == cols:
        rows = xp.row.n_in
    sums -= xp.col.start * v * xp.lanes
    while y < xp.row.n_in:
        emit_pixels(isa, xp, v, channels, cols, 0, rows * cols, sums, run, out + y * xp.oh)
        sums += plan.width * v * xp.lanes
        y += rows


cdef void spread_block(const fc_isa* isa, const SpreadPlan* plan, const real* dy, const real* w,
                       real* dx, ptrdiff_t item, char* scratch) noexcept nogil:
    """dx of a block of images and panels of channels."""
    cdef const PanelPlan* pp = &plan.panels
    cdef const Plan* xp = &pp.x
    cdef ptrdiff_t lanes = xp.lanes, width = pp.panel_v * lanes
    cdef ptrdiff_t plane = xp.row.n_in * plan.width * width
    cdef ptrdiff_t group = item // (plan.n_nb * pp.n_kb)
    cdef ptrdiff_t image = item // pp.n_kb % plan.n_nb * plan.images
    cdef ptrdiff_t images = imin(plan.images, xp.images - image)
    cdef ptrdiff_t first = item % pp.n_kb * pp.block, end = imin(first + pp.block, pp.n_panels)
    cdef ptrdiff_t staged = ceil_div(plan.pixels, FC_PANEL_M) * plan.pitch
    cdef ptrdiff_t last, i, k, n, v, depth
    cdef real* ys = <real*>scratch
    cdef real* ws = <real*>(scratch + plan.stage_size)
    cdef real* sums = <real*>(scratch + plan.stage_size + plan.w_size)
    cdef char* tables = scratch + plan.stage_size + plan.w_size + plan.sum_size
    cdef int32_t* off = <int32_t*>tables
    cdef int32_t* at = <int32_t*>(tables + plan.off_size)
    cdef int32_t* slot = <int32_t*>(tables + plan.off_size + plan.at_size)
    cdef real* run = <real*>(tables + plan.off_size + plan.at_size + plan.slot_size)
    cdef real* w_panel
    for k in range(xp.cb):
        off[k] = <int32_t>(k * FC_PANEL_M)
    for k in range(plan.pixels):
        at[k] = <int32_t>(k // FC_PANEL_M * plan.pitch + k % FC_PANEL_M)
    for n in range(images):
        stage_spread(isa, plan, dy + (image + n) * xp.xn + group * xp.ci * xp.xc, run,
                     ys + n * staged)
    w += group * xp.w_group
    while first < end:
        last = imin(first + plan.few, end)
        memset(sums, 0, (last - first) * images * plane * sizeof(real))
        k = 0
        while k < xp.ci:
            depth = imin(xp.cb, xp.ci - k)
            for i in range(xp.taps):
                slot[i] = <int32_t>(i * (depth + 1))
            pack_spread(isa, plan, w + k * xp.w_c + first * width * xp.taps,
                        imin((last - first) * width, xp.co - first * width), depth, slot, ws)
            w_panel = ws
            for i in range(first, last):
                v = imin(pp.panel_v, pp.n_v - i * pp.panel_v)
                for n in range(images):
                    spread_tiles(isa, plan, v, depth, w_panel, ys + n * staged + k * FC_PANEL_M,
                                 off, at, sums + ((i - first) * images + n) * plane)
                w_panel += xp.taps * (depth + 1) * width
            k += depth
        for i in range(first, last):
            v = imin(pp.panel_v, pp.n_v - i * pp.panel_v)
            for n in range(images):
                emit_spread(isa, plan, v, imin(width, xp.co - i * width),
                            sums + ((i - first) * images + n) * plane, run,
                            dx + (image + n) * xp.on + (group * xp.co + i * width) * xp.oc)
        first = last


cdef int spread_input(const fc_isa* isa, const SpreadPlan* plan, const real* dy, const real* w,
                      real* dx, int threads) except -1:
    cdef ptrdiff_t n_items = plan.panels.x.groups * plan.n_nb * plan.panels.n_kb, item
    cdef size_t each = plan.scratch
    threads = <int>imin(threads, n_items)
    cdef Workspace space = take_workspace(threads * each)
    cdef char* scratch = space.aligned()
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        if threads == 1:
            for item in range(n_items):
                spread_block(isa, plan, dy, w, dx, item, scratch)
        else:
            for item in prange(n_items, num_threads=threads, schedule="dynamic"):
                before = fc_set_float_mode(mode)
                spread_block(isa, plan, dy, w, dx, item, scratch + each * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0
