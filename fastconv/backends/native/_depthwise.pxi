# Convolutions with one input channel a group, plane by plane: a filter of its own for each channel
# ("depthwise"), several of them, or many filters on images of one channel.
#
# A block of rows of a plane is staged with its padding, and every filter that reads the plane goes
# over it (csrc/kernels/depthwise.h).

cdef enum:
    PLANE_BYTES = 24576     # staged rows of a plane: in L1 until the tile has been over them


cdef struct PlanePlan:
    ptrdiff_t images, channels, filters     # filters of one channel
    ptrdiff_t kernel_h, kernel_w, top, left, height, width, out_h, out_w
    int stride, activation
    ptrdiff_t pb, n_pb, pitch               # output rows of a block, blocks, pitch of staged rows
    ptrdiff_t skip, n                       # pixels of a row left out at its beginning, and taken
    ptrdiff_t xn, xc, xh, xw, on, oc, oh, ow
    size_t x_size, scratch


cdef inline void depthwise_rows(const fc_isa* isa, const PlanePlan* plan, ptrdiff_t rows,
                                const real* x, const real* w, real bias, real* y,
                                ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.depthwise(plan.stride, plan.kernel_h, plan.kernel_w, rows, plan.out_w, x,
                          plan.pitch, w, bias, y, y_pitch)
    else:
        isa.f64.depthwise(plan.stride, plan.kernel_h, plan.kernel_w, rows, plan.out_w, x,
                          plan.pitch, w, bias, y, y_pitch)


cdef inline void pad_rows(const fc_isa* isa, ptrdiff_t above, ptrdiff_t rows, ptrdiff_t below,
                          ptrdiff_t n, ptrdiff_t left, const real* x, ptrdiff_t x_row, real* y,
                          ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.pad_rows(above, rows, below, n, left, x, x_row, y, y_pitch)
    else:
        isa.f64.pad_rows(above, rows, below, n, left, x, x_row, y, y_pitch)


cdef void depthwise_block(const fc_isa* isa, const PlanePlan* plan, const real* x, const real* w,
                          const real* bias, real* out, ptrdiff_t item,
                          char* scratch) noexcept nogil:
    """All filters of one channel over one block of rows."""
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + plan.x_size)
    cdef ptrdiff_t p0 = item % plan.n_pb * plan.pb
    cdef ptrdiff_t c = item // plan.n_pb % plan.channels
    cdef ptrdiff_t image = item // plan.n_pb // plan.channels
    cdef ptrdiff_t rows = imin(plan.pb, plan.out_h - p0), p, q, i, k
    cdef ptrdiff_t first = p0 * plan.stride - plan.top
    cdef const real* plane = x + image * plan.xn + c * plan.xc
    cdef real* to
    cdef ptrdiff_t n_rows = (rows - 1) * plan.stride + plan.kernel_h
    # rows above the plane, in it, and below it
    cdef ptrdiff_t above = imin(imax(-first, 0), n_rows)
    cdef ptrdiff_t inside = imax(imin(plan.height - first, n_rows), above)
    plane += (first + above) * plan.xh
    if plan.xw == 1:
        pad_rows(isa, above, inside - above, n_rows - inside, plan.n, plan.left, plane + plan.skip,
                 plan.xh, xs, plan.pitch)
    else:
        memset(xs, 0, n_rows * plan.pitch * sizeof(real))
        for i in range(inside - above):
            stage_run(plane + i * plan.xh, plan.xw, plan.width, plan.skip - plan.left, 1,
                      plan.pitch, xs + (above + i) * plan.pitch)
    for k in range(c * plan.filters, (c + 1) * plan.filters):
        to = out + image * plan.on + k * plan.oc + p0 * plan.oh
        if plan.ow == 1:
            depthwise_rows(isa, plan, rows, xs, w + k * plan.kernel_h * plan.kernel_w,
                           bias[k] if bias != NULL else 0, to, plan.oh)
            if plan.activation:
                for p in range(rows):
                    activate(isa, plan.activation, plan.out_w, to + p * plan.oh)
            continue
        depthwise_rows(isa, plan, rows, xs, w + k * plan.kernel_h * plan.kernel_w,
                       bias[k] if bias != NULL else 0, ys, plan.out_w)
        activate(isa, plan.activation, rows * plan.out_w, ys)
        for p in range(rows):
            for q in range(plan.out_w):
                to[p * plan.oh + q * plan.ow] = ys[p * plan.out_w + q]


cdef int depthwise_planes(const fc_isa* isa, PlanePlan* plan, const real* x, const real* w,
                          const real* bias, real* out, int threads) except -1:
    cdef ptrdiff_t lanes, reads, item, items
    cdef size_t item_size = sizeof(real)
    if item_size == 4:
        lanes = isa.f32.lanes
    else:
        lanes = isa.f64.lanes
    reads = plan.stride * ceil_div(plan.out_w, lanes) * lanes + plan.kernel_w - 1
    plan.skip = imax(-plan.left, 0)
    plan.left = imax(plan.left, 0)
    plan.n = imax(imin(plan.width - plan.skip, reads - plan.left), 0)
    plan.pitch = imax(ceil_div(reads, lanes), ceil_div(plan.left, lanes) + ceil_div(plan.n, lanes))
    plan.pitch *= lanes
    plan.pb = (PLANE_BYTES // <ptrdiff_t>item_size // plan.pitch - plan.kernel_h) // plan.stride
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
    plan.x_size = rounded(((plan.pb - 1) * plan.stride + plan.kernel_h) * plan.pitch * item_size)
    plan.scratch = plan.x_size
    if plan.ow != 1:
        plan.scratch += rounded(plan.pb * plan.out_w * item_size)
    threads = <int>imin(threads, imax(items, 1))
    cdef Workspace space = take_workspace(threads * plan.scratch)
    cdef char* scratch = space.aligned()
    with nogil:
        if threads == 1:
            for item in range(items):
                depthwise_block(isa, plan, x, w, bias, out, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                depthwise_block(isa, plan, x, w, bias, out, item,
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
    plan.kernel_h, plan.kernel_w, plan.stride = g.kernel_h, g.kernel_w, <int>g.stride_h
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
    plan.kernel_h, plan.kernel_w, plan.stride = g.kernel_h, g.kernel_w, 1
    plan.top, plan.left = g.kernel_h - 1 - g.top, g.kernel_w - 1 - g.left
    plan.height, plan.width = g.out_h, g.out_w
    plan.out_h, plan.out_w, plan.activation = g.height, g.width, 0
    element_strides(dy.strides, sizeof(real), &plan.xn)
    element_strides(dx.strides, sizeof(real), &plan.on)
    return depthwise_planes(isa_table(isa), &plan, &dy[0, 0, 0, 0], &flipped[0, 0, 0, 0],
                            <const real*>NULL, &dx[0, 0, 0, 0], threads)


def depthwise(tuple geometry, x, weight, bias, out, int activation, int isa, int threads):
    """conv2d with one input channel a group, dilation 1 and stride 1 or 2."""
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
