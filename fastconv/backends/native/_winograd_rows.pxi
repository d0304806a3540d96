# Planes with filters of many taps, by Winograd's F(m, m) down the rows (csrc/kernels/winograd_rows.h).
#
# A block is some groups of m output rows, of some columns, and is worked off a few groups at a time: the
# rows of the input that come new with them are transformed, with the padding beside them, to 2m - 1
# planes, in place of rows that have served; each plane is convolved with its filter by the kernel for
# planes; and the results are transformed back.  All of it stays in L2.  A row's place in its group is
# its place in the plane, so the bits depend neither on the blocks nor on the threads.

cdef enum:
    ROWS_AT_ONCE = 8        # groups, and up to as many more as would not fill a tile
    ROWS_TILE = 4
    ROWS_BYTES = 262144     # transformed rows, and the products
    ROWS_BLOCK = 64         # groups of a block: its first rows are transformed twice
    ROWS_FLOAT = 3          # m
    ROWS_DOUBLE = 2


cdef struct RowsPlan:
    ptrdiff_t m, n                          # rows of a group, transformed planes
    ptrdiff_t taps, groups                  # groups of m rows of the filter, of the plane
    ptrdiff_t pi, n_pi, pq, n_pq            # groups and columns of a block, blocks
    ptrdiff_t once, ring                    # most groups at a time, transformed rows that are kept
    ptrdiff_t v_pitch, v_plane, z_pitch, z_plane, u_plane
    size_t rows_size, v_size, scratch       # the first: what is in v's padding, and pointers


cdef inline void rows_weight(const fc_isa* isa, ptrdiff_t columns, int rows, const real* w, real* u,
                             ptrdiff_t u_pitch) noexcept nogil:
    if real is float:
        isa.f32.winograd_rows_weight(columns, rows, w, u, u_pitch)
    else:
        isa.f64.winograd_rows_weight(columns, rows, w, u, u_pitch)


cdef inline void rows_input(const fc_isa* isa, ptrdiff_t n, const real** x, real* v,
                            ptrdiff_t v_pitch) noexcept nogil:
    if real is float:
        isa.f32.winograd_rows_input(n, x, v, v_pitch)
    else:
        isa.f64.winograd_rows_input(n, x, v, v_pitch)


cdef inline void rows_output(const fc_isa* isa, ptrdiff_t n, int rows, const real* z,
                             ptrdiff_t z_pitch, real bias, real* y, ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.winograd_rows_output(n, rows, z, z_pitch, bias, y, y_pitch)
    else:
        isa.f64.winograd_rows_output(n, rows, z, z_pitch, bias, y, y_pitch)


cdef void rows_block(const fc_isa* isa, const PlanePlan* xp, const RowsPlan* plan, const real* x,
                     const int32_t* at, const real* zeros, const real* u, const real* bias, real* out,
                     ptrdiff_t item, char* scratch) noexcept nogil:
    """All filters of one channel over one block."""
    cdef ptrdiff_t* padded = <ptrdiff_t*>scratch    # for which columns v has its padding
    cdef const real** row = <const real**>(scratch + sizeof(ptrdiff_t))
    cdef real* v = <real*>(scratch + plan.rows_size)
    cdef real* z = <real*>(scratch + plan.rows_size + plan.v_size)
    cdef ptrdiff_t q0 = item % plan.n_pq * plan.pq, i0 = item // plan.n_pq % plan.n_pi * plan.pi
    cdef ptrdiff_t c = item // plan.n_pq // plan.n_pi % xp.channels
    cdef ptrdiff_t image = item // plan.n_pq // plan.n_pi // xp.channels
    cdef ptrdiff_t end_i = imin(i0 + plan.pi, plan.groups), columns = imin(plan.pq, xp.out_w - q0)
    cdef ptrdiff_t first = q0 - xp.left, begin, end, ready = i0, slot = 0, oldest = 0, i, k, h, t, groups
    cdef const real* u_k
    cdef real start
    cdef real* to
    # what lies in the plane of the columns of v
    span(first, 1, xp.width, plan.v_pitch, &begin, &end)
    x += image * xp.xn + c * xp.xc + (first + begin) * xp.xw
    if padded[0] != q0:
        padded[0] = q0
        for i in range(plan.n * plan.ring):
            to = v + i * plan.v_pitch
            memset(to, 0, begin * sizeof(real))
            memset(to + end, 0, (plan.v_pitch - end) * sizeof(real))
    while i0 < end_i:
        groups = end_i - i0
        if groups >= ROWS_AT_ONCE + ROWS_TILE:
            groups = ROWS_AT_ONCE
        while ready < i0 + groups + plan.taps - 1:
            for k in range(plan.n):
                h = ready * plan.m - xp.top + k
                row[k] = x + h * xp.xh if 0 <= h < xp.height else zeros
            rows_input(isa, end - begin, row, v + slot * plan.v_pitch + begin, plan.v_plane)
            slot = slot + 1 if slot + 1 < plan.ring else 0
            ready += 1
        u_k = u + c * xp.filters * plan.n * plan.u_plane
        for k in range(c * xp.filters, (c + 1) * xp.filters):
            for t in range(plan.n):
                for i in range(groups + plan.taps - 1):
                    h = oldest + i if oldest + i < plan.ring else oldest + i - plan.ring
                    row[i] = v + t * plan.v_plane + h * plan.v_pitch
                depthwise_rows(isa, 1, 1, plan.taps, xp.kernel_w, groups, columns, row, at, u_k, <real>0,
                               z + t * plan.z_plane, plan.z_pitch)
                u_k += plan.u_plane
            start = bias[k] if bias != NULL else 0
            for i in range(groups):
                h = (i0 + i) * plan.m
                to = out + image * xp.on + k * xp.oc + h * xp.oh + q0
                h = imin(plan.m, xp.out_h - h)
                rows_output(isa, columns, <int>h, z + i * plan.z_pitch, plan.z_plane, start, to, xp.oh)
                if xp.activation:
                    for h in range(h):
                        activate(isa, xp.activation, columns, to + h * xp.oh)
        i0 += groups
        oldest = oldest + groups if oldest + groups < plan.ring else oldest + groups - plan.ring


cdef RowsPlan plan_groups(const PlanePlan* xp, ptrdiff_t lanes, ptrdiff_t item_size,
                          int threads) noexcept nogil:
    cdef RowsPlan plan
    cdef ptrdiff_t items, reach = (xp.kernel_w - 1) * xp.dilation_w
    plan.m = ROWS_FLOAT if item_size == 4 else ROWS_DOUBLE
    plan.n = 2 * plan.m - 1
    plan.taps, plan.groups = ceil_div(xp.kernel_h, plan.m), ceil_div(xp.out_h, plan.m)
    plan.u_plane = plan.taps * xp.kernel_w
    plan.once = imin(plan.groups, ROWS_AT_ONCE + ROWS_TILE - 1)
    plan.ring = plan.once + plan.taps - 1
    # columns in whole tiles
    plan.pq = ROWS_BYTES // (plan.n * item_size) - plan.ring * reach
    plan.pq = block_of(xp.out_w, imax(plan.pq // (plan.ring + plan.once), 8 * lanes))
    plan.pq = ceil_div(plan.pq, 4 * lanes) * 4 * lanes
    plan.n_pq = ceil_div(xp.out_w, plan.pq)
    plan.v_pitch = ceil_div(imax(imin(plan.pq, xp.out_w), 2 * lanes) + reach, lanes) * lanes
    plan.z_pitch = plan.pq
    items = xp.images * xp.channels * plan.n_pq
    plan.pi = ROWS_BLOCK
    if items < 4 * threads:
        plan.pi = imin(plan.pi, ceil_div(plan.groups, ceil_div(4 * threads, imax(items, 1))))
    plan.pi = ceil_div(block_of(plan.groups, plan.pi), ROWS_AT_ONCE) * ROWS_AT_ONCE
    plan.n_pi = ceil_div(plan.groups, imax(plan.pi, 1))
    plan.v_plane, plan.z_plane = plan.ring * plan.v_pitch, plan.once * plan.z_pitch
    plan.rows_size = rounded(sizeof(ptrdiff_t) + imax(plan.ring, plan.n) * sizeof(void*))
    plan.v_size = rounded(plan.n * plan.v_plane * item_size)
    plan.scratch = plan.rows_size + plan.v_size + rounded(plan.n * plan.z_plane * item_size)
    return plan


cdef int winograd_planes(const fc_isa* isa, const PlanePlan* xp, const real* x, const real* w,
                         const real* bias, real* out, int threads) except -1:
    """Planes whose pixels are neighbours in memory, stride 1, rows of taps beside each other."""
    cdef ptrdiff_t filters = xp.channels * xp.filters, taps, items, item, j, left
    if plane_flops(xp) < SERIAL_FLOPS:
        threads = 1
    cdef RowsPlan plan = plan_groups(xp, lanes_of(isa, x), sizeof(real), threads)
    taps = xp.kernel_h * xp.kernel_w
    items = xp.images * xp.channels * plan.n_pi * plan.n_pq
    threads = <int>imin(threads, imax(items, 1))
    cdef size_t at_size = rounded(xp.kernel_w * sizeof(int32_t))
    cdef size_t zeros_size = rounded(xp.width * sizeof(real))
    cdef size_t shared = at_size + zeros_size + rounded(filters * plan.n * plan.u_plane * sizeof(real))
    cdef Workspace space = take_workspace(shared + threads * plan.scratch)
    cdef int32_t* at = <int32_t*>space.aligned()
    cdef real* zeros = <real*>(space.aligned() + at_size)
    cdef real* u = <real*>(space.aligned() + at_size + zeros_size)
    cdef char* scratch = space.aligned() + shared
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for j in range(xp.kernel_w):
            at[j] = <int32_t>(j * xp.dilation_w)
        memset(zeros, 0, xp.width * sizeof(real))
        for item in range(threads):
            (<ptrdiff_t*>(scratch + item * plan.scratch))[0] = -1
        for item in range(filters):
            for j in range(plan.taps):
                left = imin(plan.m, xp.kernel_h - j * plan.m)
                rows_weight(isa, xp.kernel_w, <int>left, w + item * taps + j * plan.m * xp.kernel_w,
                            u + item * plan.n * plan.u_plane + j * xp.kernel_w, plan.u_plane)
        if threads == 1:
            for item in range(items):
                rows_block(isa, xp, &plan, x, at, zeros, u, bias, out, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                rows_block(isa, xp, &plan, x, at, zeros, u, bias, out, item,
                           scratch + plan.scratch * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0
