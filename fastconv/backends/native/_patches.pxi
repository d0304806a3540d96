# Correlation as a product of matrices (csrc/kernels/panel.h): included by _conv.pyx.
#
# The patches of a block of output pixels are columns of k values, k over (row tap, channel, column
# tap).  A group of them, as many vectors as a tile is wide, lies together as [k][pixel]: a tile reads it
# in order, from L1 for all filters of a block whose weights stay in L2, and these where they lie.  The
# sums go straight into the output; those of a last group that is not whole wait in scratch, as do all
# where neighbouring pixels do not follow each other in the output.  This is how BLAS multiplies: Goto
# and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008.
#
# Pixels of a 1x1 kernel lie in the planes as a tile wants them, only too far from each other.  Where
# vectors are long the first tile of a group reads them there and puts them together for the others; these
# fetch the next group's meanwhile.

cdef extern from *:
    """
    #include <string.h>
    /* n bytes cut into groups of `group` bytes, a multiple of 32, which lie `pitch` apart; the last
     * one is filled up with zeros */
    static inline void fc_spread_groups(void *first, ptrdiff_t pitch, ptrdiff_t group, const void *x,
                                        ptrdiff_t n) {
      char *to = first;
      const char *from = x;
      for (; n >= group; n -= group, from += group, to += pitch)
        for (ptrdiff_t i = 0; i < group; i += 32) memcpy(to + i, from + i, 32);
      if (n > 0) {
        memcpy(to, from, n);
        memset(to + n, 0, group - n);
      }
    }
    /* The same with groups of any size; copies reach up to 15 bytes into what follows a group, which
     * must not hold anything yet. */
    static inline void fc_spread_tiles(void *first, ptrdiff_t pitch, ptrdiff_t group, const void *x,
                                       ptrdiff_t n) {
      char *to = first;
      const char *from = x;
      for (; n >= group + 16; n -= group, from += group, to += pitch)
        for (ptrdiff_t i = 0; i < group; i += 16) memcpy(to + i, from + i, 16);
      for (; n > 0; n -= group, from += group, to += pitch) memcpy(to, from, n < group ? n : group);
    }
    """
    void fc_spread_tiles(void* first, ptrdiff_t pitch, ptrdiff_t group, const void* x,
                         ptrdiff_t n) nogil
    void fc_spread_groups(void* first, ptrdiff_t pitch, ptrdiff_t group, const void* x,
                          ptrdiff_t n) nogil

cdef enum:
    PATCH_PIXELS = 512      # of a block, at most
    TURNED_SLOTS = 1024     # weights of a filter that are turned at a time
    KEEP_GROUPS = 8         # of pixels of a plane from which on the first tile reads them there
    PLANES_AHEAD = 8        # whose pixels are fetched: each lies in other pages than the one before

cdef ptrdiff_t patch_bytes = fc_second_level() // 8     # patches of a block; weights that they meet
cdef ptrdiff_t patch_step_bytes = fc_first_level() * 3 // 4     # patches of some steps of a group


cdef ptrdiff_t share_groups(ptrdiff_t groups, ptrdiff_t most, ptrdiff_t planes,
                            int threads) noexcept nogil:
    """Groups of pixels of a block, at least two, that keep the threads about equally busy."""
    cdef ptrdiff_t size, cost, least = 0, best = most
    for size in range(2, most + 1):
        # a block takes as long as its groups, and half of one to begin
        cost = ceil_div(ceil_div(groups, size) * planes, threads) * (2 * size + 1)
        if least == 0 or cost <= least:
            least, best = cost, size
    return best


cdef void cut_patches(Plan* plan, const fc_isa* isa, size_t item_size, int threads) noexcept nogil:
    """Chooses the blocks and sizes the scratch, as `cut` does for the other forms."""
    cdef ptrdiff_t flat = plan.row.n_out * plan.col.n_out, depth = imax(plan.cb * plan.taps, 1)
    cdef ptrdiff_t item = <ptrdiff_t>item_size, width, items, parts
    plan.group_v = isa.f32.panel_v if item_size == 4 else isa.f64.panel_v
    width = plan.group_v * plan.lanes
    plan.steps = imax(patch_step_bytes // (item * width), 32)
    plan.pb = block_of(flat, imin(patch_bytes // (item * depth), PATCH_PIXELS))
    plan.direct = plan.ow * plan.col.out_step == 1 and (
        plan.row.n_out == 1 or plan.oh * plan.row.out_step == plan.col.n_out)
    plan.keeps = plan.direct and flat >= KEEP_GROUPS * width and is_long_row(plan) and (
        isa.f32.panel_keep != NULL if item_size == 4 else isa.f64.panel_keep != NULL)
    plan.pb = ceil_div(plan.pb, width)
    if threads == 1:
        plan.pb *= width
    elif plan.keeps:    # of blocks of any size no more than a group stays: equal ones
        items = plan.images * plan.groups
        items = threads * ceil_div(flat, 2 * PATCH_PIXELS * threads) if items % threads else (
            ceil_div(flat, 2 * PATCH_PIXELS))
        plan.pb = imax(ceil_div(ceil_div(flat, items), plan.lanes) * plan.lanes, 2 * width)
    else:
        plan.pb = share_groups(ceil_div(flat, width), plan.pb, plan.images * plan.groups, threads)
        plan.pb *= width
    plan.n_pb, plan.n_qb, plan.qb = ceil_div(flat, plan.pb), 1, plan.col.n_out
    plan.rest = width if plan.direct else plan.pb
    plan.filters = plan.co
    items = plan.images * plan.groups * plan.n_pb
    # those that keep are equal already, and each piece of the filters would read the planes again
    parts = threads if plan.keeps else 2 * threads
    if threads > 1 and items < parts:
        plan.filters = ceil_div(plan.co, ceil_div(parts, items))
    if not plan.direct:
        plan.filters = imin(plan.filters, Y_BYTES // (item * plan.rest))
    # whole tiles
    plan.filters = imin(ceil_div(plan.filters, FC_PANEL_M) * FC_PANEL_M, plan.co)
    plan.near = imax(patch_bytes // (item * depth * FC_PANEL_M), 1) * FC_PANEL_M
    plan.n_kb = ceil_div(plan.co, plan.filters)
    # a filter's weights lie beside each other but in the gradient with respect to the input
    plan.turned = plan.w_c > plan.w_m
    classify_columns(plan)
    plan.x_size = rounded((2 * width if plan.keeps else plan.pb) * depth * item)
    plan.y_size = rounded(plan.filters * plan.rest * item)
    plan.at_size = rounded(FC_PANEL_M * sizeof(int32_t))
    plan.scratch = plan.x_size + plan.y_size + plan.at_size + rounded(plan.pb * item)


cdef inline ptrdiff_t filter_pitch(const Plan* plan) noexcept nogil:
    return plan.w_plane * plan.ci if plan.turned else plan.w_m


cdef inline size_t turned_size(const Plan* plan, size_t item_size) noexcept nogil:
    return rounded(plan.groups * plan.co * plan.w_plane * plan.ci * item_size)


cdef void turn_weight(const fc_isa* isa, const Plan* plan, const real* w, int32_t* slot,
                      real* to) noexcept nogil:
    """Weights as [group][filter][tap][channel]; slot has room for TURNED_SLOTS."""
    cdef ptrdiff_t n = plan.co * plan.w_plane, j = 0, here, g
    for here in range(imin(n, TURNED_SLOTS)):
        slot[here] = <int32_t>here
    for g in range(plan.groups):
        j = 0
        while j < n:
            here = imin(n - j, TURNED_SLOTS)
            pack(isa, <int>plan.ci, here, w + g * plan.w_group + j, plan.w_c, slot,
                 to + (g * n + j) * plan.ci, plan.ci)
            j += here


cdef void patch_offsets(const Plan* plan, ptrdiff_t channels, int32_t* off) noexcept nogil:
    """Places of a filter's weights, from its first channel of a block on, in the order of k."""
    cdef ptrdiff_t tr, c, tc, tap, k = 0
    for tr in range(plan.row.n_taps):
        for c in range(channels):
            for tc in range(plan.col.n_taps):
                tap = ((plan.row.w_start + tr * plan.row.w_step) * plan.w_row
                       + plan.col.w_start + tc * plan.col.w_step)
                off[k] = <int32_t>(tap * plan.ci + c if plan.turned else c * plan.w_c + tap)
                k += 1


cdef void patch_run(const fc_isa* isa, const Plan* plan, const real* plane, ptrdiff_t tr,
                    ptrdiff_t tc, ptrdiff_t i0, ptrdiff_t n, real* to) noexcept nogil:
    """What tap (tr, tc) sees at the n output pixels from flat position i0 on."""
    cdef const Axis* row = &plan.row
    cdef const Axis* col = &plan.col
    cdef ptrdiff_t p = i0 // col.n_out, q = i0 % col.n_out, done = 0, here, y, j
    while done < n:
        here = imin(n - done, col.n_out - q)
        y = row.start + p * row.step + tr * row.tap_step
        if y < 0 or y >= row.n_in:
            for j in range(here):
                to[done + j] = 0
        else:
            stage_run(isa, plane + y * plan.xh, plan.xw, col.n_in,
                      col.start + q * col.step + tc * col.tap_step, col.step, here, to + done)
        done += here
        q = 0
        p += 1


cdef void stage_patches(const fc_isa* isa, const Plan* plan, const real* x, ptrdiff_t channels,
                        ptrdiff_t i0, ptrdiff_t n, real* run, real* to) noexcept nogil:
    """Patches of the n pixels from i0 on as [group][k][pixel]; x is the first channel's plane."""
    cdef ptrdiff_t group = plan.group_v * plan.lanes, pitch = channels * plan.taps * group
    cdef ptrdiff_t tr, tc, c
    cdef bint as_they_lie = is_long_row(plan)
    cdef const real* pixels = run
    for tr in range(plan.row.n_taps):
        for c in range(channels):
            for tc in range(plan.col.n_taps):
                if as_they_lie:
                    pixels = x + c * plan.xc + i0
                    fc_fetch(<const char*>(pixels + PLANES_AHEAD * plan.xc), n * sizeof(real))
                else:
                    patch_run(isa, plan, x + c * plan.xc, tr, tc, i0, n, run)
                fc_spread_groups(to, pitch * sizeof(real), group * sizeof(real), pixels,
                                 n * sizeof(real))
                to += group


cdef void emit_patches(const Plan* plan, ptrdiff_t i0, ptrdiff_t n, const real* y,
                       real* out) noexcept nogil:
    """Sums of the n pixels from flat position i0 on into a plane of the output."""
    cdef ptrdiff_t p = i0 // plan.col.n_out, q = i0 % plan.col.n_out, here, j
    cdef ptrdiff_t oh = plan.oh * plan.row.out_step, ow = plan.ow * plan.col.out_step
    cdef real* to
    while n > 0:
        here = imin(n, plan.col.n_out - q)
        to = out + p * oh + q * ow
        if ow == 1:
            memcpy(to, y, here * sizeof(real))
        else:
            for j in range(here):
                to[j * ow] = y[j]
        y += here
        n -= here
        q = 0
        p += 1


cdef void patches_block(const fc_isa* isa, const Plan* plan, const real* x, const Tables* tables,
                        real* out, ptrdiff_t item, char* scratch) noexcept nogil:
    """One block of outputs: patches, tiles, epilogue."""
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + plan.x_size)
    cdef int32_t* at = <int32_t*>(scratch + plan.x_size + plan.y_size)
    cdef real* run = <real*>(scratch + plan.x_size + plan.y_size + plan.at_size)
    cdef ptrdiff_t i0 = item % plan.n_pb * plan.pb
    cdef ptrdiff_t ki = item // plan.n_pb % plan.n_kb
    cdef ptrdiff_t group = item // (plan.n_pb * plan.n_kb) % plan.groups
    cdef ptrdiff_t image = item // (plan.n_pb * plan.n_kb * plan.groups)
    cdef ptrdiff_t n = imin(plan.pb, plan.row.n_out * plan.col.n_out - i0)
    cdef ptrdiff_t width = plan.group_v * plan.lanes
    cdef ptrdiff_t n_direct = n // width if plan.direct else 0, done = n_direct * width
    cdef ptrdiff_t k0 = ki * plan.filters, k1 = imin(k0 + plan.filters, plan.co), end, k, m
    cdef ptrdiff_t ci, c0, channels
    cdef const real* bias = <const real*>tables.bias + group * plan.co * width
    cdef const real* w = <const real*>tables.w + group * plan.w_group
    cdef const real* from_x
    cdef const real* after
    # place of filter 0 in the array, and of its sums in scratch
    cdef real* to = out + place_of(plan, image, group * plan.co, 0, 0)
    cdef real* rest = ys - k0 * plan.rest
    for m in range(FC_PANEL_M):
        at[m] = <int32_t>(m * filter_pitch(plan))
    for ci in range(plan.n_cb):
        c0 = ci * plan.cb
        channels = imin(plan.cb, plan.ci - c0)
        from_x = x + image * plan.xn + (group * plan.ci + c0) * plan.xc
        after = NULL
        if not plan.keeps:
            stage_patches(isa, plan, from_x, channels, i0, n, run, xs)
        else:   # the last group, if it is not whole; behind the one kept
            stage_patches(isa, plan, from_x, channels, i0 + done, n - done, run,
                          xs + channels * width)
            if ci < plan.n_cb - 1:
                after = from_x + channels * plan.xc + i0
            elif i0 + n < plan.col.n_out:
                after = from_x - c0 * plan.xc + i0 + n
        end = k0
        while end < k1:
            k, end = end, imin(end + plan.near, k1)
            patch_tiles(isa, plan, k, end, n, n_direct, channels * plan.taps, from_x + i0,
                        after if end == k1 else NULL,
                        w + c0 * (1 if plan.turned else plan.w_c),
                        tables.off if channels == plan.cb else tables.off_last, at, xs,
                        bias if ci == 0 else NULL, to + i0, rest)
            for m in range(k, end if ci == plan.n_cb - 1 else k):
                if plan.activation:
                    activate(isa, plan.activation, done, to + m * plan.oc + i0)
                    activate(isa, plan.activation, n - done, rest + m * plan.rest)
                if done < n:
                    emit_patches(plan, i0 + done, n - done, rest + m * plan.rest,
                                 to + m * plan.oc)


cdef void patch_tiles(const fc_isa* isa, const Plan* plan, ptrdiff_t begin, ptrdiff_t end,
                      ptrdiff_t n, ptrdiff_t n_direct, ptrdiff_t depth, const real* x,
                      const real* after, const real* w, const int32_t* off, const int32_t* at,
                      real* xs, const real* bias, real* to, real* rest) noexcept nogil:
    """The register tiles of the filters from `begin` to `end` and a block's groups: of these the first
    n_direct into the output, the others into scratch. `w`, `bias`, `to` and `rest` begin with filter 0;
    where the plan keeps, x is the first channel's first pixel and `after` what is read next."""
    cdef ptrdiff_t width = plan.group_v * plan.lanes, steps = block_of(depth, plan.steps)
    cdef ptrdiff_t first = 0, tiles, each, taller   # heights: a first tile's, then nearly equal ones
    cdef ptrdiff_t bytes = width * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t g, v, k, m, i, height, pitch = plan.oc, start_pitch, here, row, ahead
    cdef const real* start
    cdef const real* group = xs
    cdef const real* following
    cdef real* y = to
    cdef Fetch fetch
    cdef bint keeps
    if plan.keeps and end - begin >= 2 * FC_PANEL_M:
        first = FC_PANEL_M
    tiles = ceil_div(end - begin - first, FC_PANEL_M)
    each, taller = (end - begin - first) // tiles, (end - begin - first) % tiles
    for g in range(ceil_div(n, width)):
        v = ceil_div(imin(n - g * width, width), plan.lanes)
        keeps = plan.keeps and g < n_direct
        if g == n_direct:
            y, pitch = rest, plan.rest
            if plan.keeps:
                group = xs + depth * width
        k = 0
        while True:
            here = imin(steps, depth - k)
            row, fetch = width, Fetch(NULL, 0, 0, 0)
            if keeps:
                group, row = x + k * plan.xc + g * width, plan.xc
                ahead = imin(steps, depth - k - here)
                following = group + here * plan.xc
                if ahead == 0:
                    following = x + (g + 1) * width if g + 1 < n_direct else after
                    ahead = here
                if following != NULL:
                    fetch = fetch_rows(<const char*>following, bytes,
                                       plan.xc * <ptrdiff_t>sizeof(real), ahead)
            m = begin
            for i in range(-1 if first else 0, tiles):
                height = first if i < 0 else each + (1 if i < taller else 0)
                start, start_pitch = <const real*>y + m * pitch, pitch
                if bias != NULL and k == 0:
                    start, start_pitch = bias + m * width, width
                if i < 0 and keeps:
                    panel_keep(isa, here, group, row, w + m * filter_pitch(plan), off + k, at,
                               start, start_pitch, y + m * pitch, pitch, xs)
                    group, row = xs, width
                else:
                    if fetch.turns <= 0 and k == 0 and g < n_direct:    # for the next tile's sums
                        fetch = fetch_rows(<const char*>(y + (m + height) * pitch), bytes,
                                           pitch * <ptrdiff_t>sizeof(real), FC_PANEL_M)
                    panel(isa, height, v, here, group, row, w + m * filter_pitch(plan), off + k, at,
                          start, start_pitch, y + m * pitch, pitch, &fetch)
                    fetched(&fetch, here)
                m += height
            if not keeps:
                group += here * width
            k += steps
            if k >= depth:
                break
        y += width
