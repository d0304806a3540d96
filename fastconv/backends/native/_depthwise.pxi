# Convolutions with one input channel a group, plane by plane: a filter of its own for each channel
# ("depthwise"), several of them, or many filters on images of one channel.
#
# A block of rows of a plane is staged with its padding, and every filter that reads the plane goes
# over it (csrc/kernels/depthwise.h).

cdef enum:
    PLANE_BYTES = 24576     # staged rows of a plane: in L1 until the tile has been over them


cdef struct PlanePlan:
    ptrdiff_t images, channels, filters     # filters of one channel
    ptrdiff_t kernel_h, kernel_w, stride_h, stride_w, top, left, height, width, out_h, out_w
    int activation
    ptrdiff_t pb, n_pb                      # output rows of a block, blocks
    ptrdiff_t lead, phase, pitch            # a staged row: zeros before it, its phases, all of it
    ptrdiff_t xn, xc, xh, xw, on, oc, oh, ow
    size_t at_size, x_size, scratch


cdef inline void depthwise_rows(const fc_isa* isa, const PlanePlan* plan, ptrdiff_t rows,
                                const real* x, const int32_t* at, const real* w, real bias,
                                real* y, ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.depthwise(plan.stride_h, plan.kernel_h, plan.kernel_w, rows, plan.out_w, x,
                          plan.pitch, at, w, bias, y, y_pitch)
    else:
        isa.f64.depthwise(plan.stride_h, plan.kernel_h, plan.kernel_w, rows, plan.out_w, x,
                          plan.pitch, at, w, bias, y, y_pitch)


cdef inline void split_rows(const fc_isa* isa, const PlanePlan* plan, ptrdiff_t above,
                            ptrdiff_t rows, ptrdiff_t below, const real* x,
                            real* y) noexcept nogil:
    if real is float:
        isa.f32.split_rows(above, rows, below, plan.width, plan.stride_w, plan.lead, x, plan.xh, y,
                           plan.phase)
    else:
        isa.f64.split_rows(above, rows, below, plan.width, plan.stride_w, plan.lead, x, plan.xh, y,
                           plan.phase)


cdef void depthwise_block(const fc_isa* isa, const PlanePlan* plan, const real* x,
                          const int32_t* at, const real* w, const real* bias, real* out,
                          ptrdiff_t item, char* scratch) noexcept nogil:
    """All filters of one channel over one block of rows."""
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + plan.x_size)
    cdef ptrdiff_t p0 = item % plan.n_pb * plan.pb
    cdef ptrdiff_t c = item // plan.n_pb % plan.channels
    cdef ptrdiff_t image = item // plan.n_pb // plan.channels
    cdef ptrdiff_t rows = imin(plan.pb, plan.out_h - p0), p, q, i, f, k
    cdef ptrdiff_t first = p0 * plan.stride_h - plan.top
    cdef ptrdiff_t n_rows = (rows - 1) * plan.stride_h + plan.kernel_h
    # rows above the plane, in it, and below it
    cdef ptrdiff_t above = imin(imax(-first, 0), n_rows)
    cdef ptrdiff_t inside = imax(imin(plan.height - first, n_rows), above)
    cdef const real* plane = x + image * plan.xn + c * plan.xc + (first + above) * plan.xh
    cdef real* to
    if plan.xw == 1:
        split_rows(isa, plan, above, inside - above, n_rows - inside, plane, xs)
    else:
        memset(xs, 0, n_rows * plan.pitch * sizeof(real))
        for i in range(inside - above):
            for f in range(plan.stride_w):
                stage_run(isa, plane + i * plan.xh, plan.xw, plan.width, f, plan.stride_w,
                          plan.phase - plan.lead,
                          xs + (above + i) * plan.pitch + f * plan.phase + plan.lead)
    for k in range(c * plan.filters, (c + 1) * plan.filters):
        to = out + image * plan.on + k * plan.oc + p0 * plan.oh
        if plan.ow == 1:
            depthwise_rows(isa, plan, rows, xs, at, w + k * plan.kernel_h * plan.kernel_w,
                           bias[k] if bias != NULL else 0, to, plan.oh)
            if plan.activation:
                for p in range(rows):
                    activate(isa, plan.activation, plan.out_w, to + p * plan.oh)
            continue
        depthwise_rows(isa, plan, rows, xs, at, w + k * plan.kernel_h * plan.kernel_w,
                       bias[k] if bias != NULL else 0, ys, plan.out_w)
        activate(isa, plan.activation, rows * plan.out_w, ys)
        for p in range(rows):
            for q in range(plan.out_w):
                to[p * plan.oh + q * plan.ow] = ys[p * plan.out_w + q]


cdef int depthwise_planes(const fc_isa* isa, PlanePlan* plan, const real* x, const real* w,
                          const real* bias, real* out, int threads) except -1:
    cdef ptrdiff_t lanes, reach, item, items, s
    cdef size_t item_size = sizeof(real)
    if item_size == 4:
        lanes = isa.f32.lanes
    else:
        lanes = isa.f64.lanes
    # tap s of output q is pixel q * stride + s - left: of phase (s - left) % stride, there at
    # q + (s - left) // stride
    plan.lead = ceil_div(ceil_div(imax(plan.left, 0), plan.stride_w), lanes) * lanes
    reach = (imax(floor_div(plan.kernel_w - 1 - plan.left, plan.stride_w), 0)
             + ceil_div(plan.out_w, lanes) * lanes)
    plan.phase = imax(reach, ceil_div(plan.width, plan.stride_w))
    plan.phase = plan.lead + ceil_div(plan.phase, lanes) * lanes
    plan.pitch = plan.stride_w * plan.phase
    plan.pb = (PLANE_BYTES // <ptrdiff_t>item_size // plan.pitch - plan.kernel_h) // plan.stride_h
    items = plan.images * plan.channels
    if (2 * items * plan.filters * plan.kernel_h * plan.kernel_w * plan.out_h * plan.out_w
            < SERIAL_FLOPS):
        threads = 1
    if items < 4 * threads:     # enough blocks for the threads
        plan.pb = imin(plan.pb, ceil_div(plan.out_h, ceil_div(4 * threads, imax(items, 1))))
    # not below the rows of a tile
    plan.pb = block_of(plan.out_h, imax(plan.pb, 8))
    plan.n_pb = ceil_div(plan.out_h, plan.pb)
    items *= plan.n_pb
    plan.at_size = rounded(plan.kernel_w * sizeof(int32_t))
    plan.x_size = rounded(((plan.pb - 1) * plan.stride_h + plan.kernel_h) * plan.pitch * item_size)
    plan.scratch = plan.x_size
    if plan.ow != 1:
        plan.scratch += rounded(plan.pb * plan.out_w * item_size)
    threads = <int>imin(threads, imax(items, 1))
    cdef Workspace space = take_workspace(plan.at_size + threads * plan.scratch)
    cdef int32_t* at = <int32_t*>space.aligned()
    cdef char* scratch = space.aligned() + plan.at_size
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for s in range(plan.kernel_w):
            item = floor_div(s - plan.left, plan.stride_w)
            at[s] = <int32_t>((s - plan.left - item * plan.stride_w) * plan.phase + plan.lead + item)
        if threads == 1:
            for item in range(items):
                depthwise_block(isa, plan, x, at, w, bias, out, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                depthwise_block(isa, plan, x, at, w, bias, out, item,
                                scratch + plan.scratch * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


cdef int depthwise_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, ::1] w,
                      const real[::1] bias, real[:, :, :, :] out, int activation, int isa,
                      int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef PlanePlan plan
    cdef const real* first = NULL
    if bias is not None:
        first = &bias[0]
    plan.images, plan.channels, plan.filters = g.images, g.channels, g.filters // g.channels
    plan.kernel_h, plan.kernel_w = g.kernel_h, g.kernel_w
    plan.stride_h, plan.stride_w = g.stride_h, g.stride_w
    plan.top, plan.left, plan.height, plan.width = g.top, g.left, g.height, g.width
    plan.out_h, plan.out_w, plan.activation = g.out_h, g.out_w, activation
    element_strides(x.strides, sizeof(real), &plan.xn)
    element_strides(out.strides, sizeof(real), &plan.on)
    return depthwise_planes(isa_table(isa), &plan, &x[0, 0, 0, 0], &w[0, 0, 0, 0],
                            first, &out[0, 0, 0, 0], threads)


# The gradient with respect to the input, for one filter a channel.  Input row h = u * stride + a - top
# meets the taps r = a + j * stride of output rows u - j: for each residue (a, b) of the stride a
# correlation of the output's gradient with that part of the filter, turned round.  A block is a range
# of u, with all residues; merge_rows puts the columns of a row's residues beside each other.
cdef struct TurnedPlan:
    PlanePlan x         # of the output's gradient: how it is staged
    ptrdiff_t stride_h, stride_w, top, left, height, width      # of the input
    ptrdiff_t n_u, n_v, taps_h, taps_w                          # taps of residue 0, the most
    ptrdiff_t y_pitch
    size_t y_size, row_size


cdef inline ptrdiff_t residue_taps(ptrdiff_t taps, ptrdiff_t residue, ptrdiff_t stride) noexcept nogil:
    return imax(ceil_div(taps - residue, stride), 0)


cdef inline void merge_row(const fc_isa* isa, const TurnedPlan* plan, const real* x,
                           ptrdiff_t x_pitch, real* y) noexcept nogil:
    if real is float:
        isa.f32.merge_rows(plan.width, plan.left, plan.stride_w, x, x_pitch, y)
    else:
        isa.f64.merge_rows(plan.width, plan.left, plan.stride_w, x, x_pitch, y)


cdef void turned_block(const fc_isa* isa, TurnedPlan* plan, const real* dy, const int32_t* at,
                       const real* w, real* dx, ptrdiff_t item, char* scratch) noexcept nogil:
    """One channel's input rows of a block of u."""
    cdef PlanePlan* xp = &plan.x
    cdef PlanePlan part = plan.x
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + xp.x_size)
    cdef real* row = <real*>(scratch + xp.x_size + plan.y_size)
    cdef ptrdiff_t u0 = item % xp.n_pb * xp.pb
    cdef ptrdiff_t c = item // xp.n_pb % xp.channels
    cdef ptrdiff_t image = item // xp.n_pb // xp.channels
    cdef ptrdiff_t rows = imin(xp.pb, plan.n_u - u0), a, b, u, h, q, taps_h, taps_w, size
    cdef ptrdiff_t first = u0 - (plan.taps_h - 1), n_rows = rows + plan.taps_h - 1, i
    cdef ptrdiff_t above = imin(imax(-first, 0), n_rows)
    cdef ptrdiff_t inside = imax(imin(xp.height - first, n_rows), above)
    cdef const real* plane = dy + image * xp.xn + c * xp.xc + (first + above) * xp.xh
    cdef const real* w_part = w
    cdef real* to
    if xp.xw == 1:
        split_rows(isa, xp, above, inside - above, n_rows - inside, plane, xs)
    else:
        memset(xs, 0, n_rows * xp.pitch * sizeof(real))
        for i in range(inside - above):
            stage_run(isa, plane + i * xp.xh, xp.xw, xp.width, 0, 1, xp.phase - xp.lead,
                      xs + (above + i) * xp.pitch + xp.lead)
    for a in range(plan.stride_h):
        taps_h = residue_taps(xp.kernel_h, a, plan.stride_h)
        for b in range(plan.stride_w):
            taps_w = residue_taps(xp.kernel_w, b, plan.stride_w)
            size = taps_h * taps_w
            part.kernel_h, part.kernel_w = taps_h, taps_w
            to = ys + b * rows * plan.y_pitch
            if size:
                depthwise_rows(isa, &part, rows, xs + (plan.taps_h - taps_h) * xp.pitch,
                               at + plan.taps_w - taps_w, w_part + c * size, 0, to, plan.y_pitch)
            else:
                memset(to, 0, rows * plan.y_pitch * sizeof(real))
            w_part += xp.channels * size
        for u in range(rows):
            h = (u0 + u) * plan.stride_h + a - plan.top
            if h < 0 or h >= plan.height:
                continue
            to = dx + image * xp.on + c * xp.oc + h * xp.oh
            if xp.ow == 1:
                merge_row(isa, plan, ys + u * plan.y_pitch, rows * plan.y_pitch, to)
            else:
                merge_row(isa, plan, ys + u * plan.y_pitch, rows * plan.y_pitch, row)
                for q in range(plan.width):
                    to[q * xp.ow] = row[q]


cdef int depthwise_input_of(tuple fields, const real[:, :, :, :] dy, const real[::1] parts,
                            real[:, :, :, :] dx, int isa_index, int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef Geometry g = read_geometry(fields)
    cdef TurnedPlan plan
    cdef PlanePlan* xp = &plan.x
    cdef ptrdiff_t lanes, items, item, s
    if sizeof(real) == 4:
        lanes = isa.f32.lanes
    else:
        lanes = isa.f64.lanes
    memset(&plan, 0, sizeof(TurnedPlan))
    xp.images, xp.channels, xp.filters = g.images, g.channels, 1
    xp.kernel_h, xp.kernel_w, xp.stride_h, xp.stride_w = g.kernel_h, g.kernel_w, 1, 1
    xp.height, xp.width = g.out_h, g.out_w
    plan.stride_h, plan.stride_w, plan.top, plan.left = g.stride_h, g.stride_w, g.top, g.left
    plan.height, plan.width = g.height, g.width
    plan.taps_h = residue_taps(g.kernel_h, 0, g.stride_h)
    plan.taps_w = residue_taps(g.kernel_w, 0, g.stride_w)
    plan.n_u = (g.height - 1 + g.top) // g.stride_h + 1
    plan.n_v = (g.width - 1 + g.left) // g.stride_w + 1
    element_strides(dy.strides, sizeof(real), &xp.xn)
    element_strides(dx.strides, sizeof(real), &xp.on)
    # column v and the last tap of any residue meet at lead + v
    xp.lead = ceil_div(plan.taps_w - 1, lanes) * lanes
    xp.out_w = plan.n_v
    plan.y_pitch = ceil_div(plan.n_v, lanes) * lanes + 2 * lanes
    xp.phase = xp.lead + ceil_div(imax(plan.y_pitch, g.out_w), lanes) * lanes
    xp.pitch = xp.phase
    xp.pb = PLANE_BYTES // <ptrdiff_t>sizeof(real) // xp.pitch - plan.taps_h
    items = xp.images * xp.channels
    if 2 * items * g.kernel_h * g.kernel_w * g.out_h * g.out_w < SERIAL_FLOPS:
        threads = 1
    if items < 4 * threads:
        xp.pb = imin(xp.pb, ceil_div(plan.n_u, ceil_div(4 * threads, imax(items, 1))))
    xp.pb = block_of(plan.n_u, imax(xp.pb, 8))
    xp.n_pb = ceil_div(plan.n_u, xp.pb)
    items *= xp.n_pb
    xp.at_size = rounded(plan.taps_w * sizeof(int32_t))
    xp.x_size = rounded((xp.pb + plan.taps_h - 1) * xp.pitch * sizeof(real))
    plan.y_size = rounded(g.stride_w * xp.pb * plan.y_pitch * sizeof(real))
    plan.row_size = rounded(plan.width * sizeof(real)) if xp.ow != 1 else 0
    xp.scratch = xp.x_size + plan.y_size + plan.row_size
    threads = <int>imin(threads, imax(items, 1))
    cdef Workspace space = take_workspace(xp.at_size + threads * xp.scratch)
    cdef int32_t* at = <int32_t*>space.aligned()
    cdef char* scratch = space.aligned() + xp.at_size
    cdef const real* from_dy = &dy[0, 0, 0, 0]
    cdef const real* w = &parts[0]
    cdef real* to = &dx[0, 0, 0, 0]
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for s in range(plan.taps_w):
            at[s] = <int32_t>(xp.lead - (plan.taps_w - 1) + s)
        if threads == 1:
            for item in range(items):
                turned_block(isa, &plan, from_dy, at, w, to, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                turned_block(isa, &plan, from_dy, at, w, to, item,
                             scratch + xp.scratch * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


def depthwise(tuple geometry, x, weight, bias, out, int activation, int isa, int threads):
    """conv2d with one input channel a group and dilation 1."""
    if out.itemsize == 4:
        depthwise_of[float](geometry, x, weight, bias, out, activation, isa, threads)
    else:
        depthwise_of[double](geometry, x, weight, bias, out, activation, isa, threads)


def depthwise_input(tuple geometry, grad_output, parts, out, int isa, int threads):
    """conv2d_input with one filter a channel and dilation 1.

    `parts` holds, for each residue (a, b) of the stride, the filters' taps a, a + stride, ... by
    b, b + stride, ..., turned by 180 degrees.
    """
    if out.itemsize == 4:
        depthwise_input_of[float](geometry, grad_output, parts, out, isa, threads)
    else:
        depthwise_input_of[double](geometry, grad_output, parts, out, isa, threads)
