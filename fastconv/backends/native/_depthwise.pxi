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
                stage_run(plane + i * plan.xh, plan.xw, plan.width, f, plan.stride_w,
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
    with nogil:
        for s in range(plan.kernel_w):
            item = floor_div(s - plan.left, plan.stride_w)
            at[s] = <int32_t>((s - plan.left - item * plan.stride_w) * plan.phase + plan.lead + item)
        if threads == 1:
            for item in range(items):
                depthwise_block(isa, plan, x, at, w, bias, out, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                depthwise_block(isa, plan, x, at, w, bias, out, item,
                                scratch + plan.scratch * threadid())
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


cdef int depthwise_input_of(tuple fields, const real[:, :, :, :] dy,
                            const real[:, :, :, ::1] flipped, real[:, :, :, :] dx, int isa,
                            int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef PlanePlan plan
    plan.images, plan.channels, plan.filters = g.images, g.channels, 1
    plan.kernel_h, plan.kernel_w, plan.stride_h, plan.stride_w = g.kernel_h, g.kernel_w, 1, 1
    plan.top, plan.left = g.kernel_h - 1 - g.top, g.kernel_w - 1 - g.left
    plan.height, plan.width = g.out_h, g.out_w
    plan.out_h, plan.out_w, plan.activation = g.height, g.width, 0
    element_strides(dy.strides, sizeof(real), &plan.xn)
    element_strides(dx.strides, sizeof(real), &plan.on)
    return depthwise_planes(isa_table(isa), &plan, &dy[0, 0, 0, 0], &flipped[0, 0, 0, 0],
                            <const real*>NULL, &dx[0, 0, 0, 0], threads)


def depthwise(tuple geometry, x, weight, bias, out, int activation, int isa, int threads):
    """conv2d with one input channel a group and dilation 1."""
    if out.itemsize == 4:
        depthwise_of[float](geometry, x, weight, bias, out, activation, isa, threads)
    else:
        depthwise_of[double](geometry, x, weight, bias, out, activation, isa, threads)


def depthwise_input(tuple geometry, grad_output, flipped, out, int isa, int threads):
    """conv2d_input at stride 1 with one filter a channel, which comes turned by 180 degrees."""
    if out.itemsize == 4:
        depthwise_input_of[float](geometry, grad_output, flipped, out, isa, threads)
    else:
        depthwise_input_of[double](geometry, grad_output, flipped, out, isa, threads)
