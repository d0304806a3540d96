# A convolution, its activation and a pooling as one operation: included by _conv.pyx.
#
# A vector's worth of images goes through all of it while its intermediate results are in the cache,
# with the images in the lanes throughout: no transposing in between, no waste on small planes.  What
# the backward pass needs is the activated output, kept as [group of images][channel][pixel][lane].

from fastconv.backends.native._dispatch cimport fc_windows

# kinds of pooling, as backends/native/__init__.py numbers them; none is an average over one pixel
cdef enum:
    AVERAGE = 0
    MAXIMUM = 1

cdef enum:
    PLANES_BYTES = 2097152      # a group's activated output: it has to stay in the cache
    SUMS_BYTES = 4194304        # lane sums of the whole weight gradient
    PARTS = 8                   # of the images, each with lane sums of its own, whatever the threads


cdef inline void pool_lanes(const fc_isa* isa, int kind, const fc_windows* windows, const real* x,
                            real* y) noexcept nogil:
    cdef double scale = 1.0 / (windows.kernel_h * windows.kernel_w)
    if real is float:
        if kind == MAXIMUM:
            isa.f32.max_pool_lanes(windows, 1, x, y)
        else:
            isa.f32.avg_pool_lanes(windows, <float>scale, x, y)
    else:
        if kind == MAXIMUM:
            isa.f64.max_pool_lanes(windows, 1, x, y)
        else:
            isa.f64.avg_pool_lanes(windows, scale, x, y)


cdef inline void unpool_lanes(const fc_isa* isa, int kind, int activation,
                              const fc_windows* windows, const real* dy, const real* x,
                              real* dx) noexcept nogil:
    cdef double scale = 1.0 / (windows.kernel_h * windows.kernel_w)
    if real is float:
        if kind == MAXIMUM:
            isa.f32.max_unpool_lanes[activation](windows, 1, dy, x, dx)
        else:
            isa.f32.avg_unpool_lanes[activation](windows, <float>scale, dy, x, dx)
    else:
        if kind == MAXIMUM:
            isa.f64.max_unpool_lanes[activation](windows, 1, dy, x, dx)
        else:
            isa.f64.avg_unpool_lanes[activation](windows, scale, dy, x, dx)


cdef inline double sum_of(const fc_isa* isa, ptrdiff_t n, const real* x) noexcept nogil:
    if real is float:
        return isa.f32.sum(n, x)
    else:
        return isa.f64.sum(n, x)


cdef Plan plan_block(const fc_isa* isa, const Geometry* g, const ptrdiff_t* xs,
                     size_t item_size) noexcept nogil:
    """The forward correlation; its output fields are unused."""
    cdef Plan plan
    memset(&plan, 0, sizeof(Plan))
    set_isa(&plan, isa, item_size)
    plan.images, plan.groups = g.images, g.groups
    plan.ci, plan.co = g.channels // g.groups, g.filters // g.groups
    plan.row = forward_axis(g.out_h, g.height, g.kernel_h, g.stride_h, g.top, g.dilation_h)
    plan.col = forward_axis(g.out_w, g.width, g.kernel_w, g.stride_w, g.left, g.dilation_w)
    plan.xn, plan.xc, plan.xh, plan.xw = xs[0], xs[1], xs[2], xs[3]
    plan.w_row = g.kernel_w
    plan.w_plane = g.kernel_h * g.kernel_w
    plan.w_c = g.kernel_h * g.kernel_w
    plan.w_m = plan.ci * plan.w_c
    plan.w_group = plan.co * plan.w_m
    plan.mode = LANES
    cut(&plan, isa, item_size, 1)
    return plan


cdef Plan plan_block_input(const fc_isa* isa, const Geometry* g, const ptrdiff_t* xs,
                           size_t item_size) noexcept nogil:
    """The gradient with respect to the input, from lanes; stride 1."""
    cdef Plan plan
    cdef ptrdiff_t lanes
    memset(&plan, 0, sizeof(Plan))
    set_isa(&plan, isa, item_size)
    lanes = plan.lanes
    plan.images, plan.groups = g.images, g.groups
    plan.ci, plan.co = g.filters // g.groups, g.channels // g.groups
    plan.row = input_axis(0, g.height, g.out_h, g.kernel_h, 1, g.top, g.dilation_h)
    plan.col = input_axis(0, g.width, g.out_w, g.kernel_w, 1, g.left, g.dilation_w)
    plan.xn, plan.xc, plan.xh, plan.xw = 0, g.out_h * g.out_w * lanes, g.out_w * lanes, lanes
    plan.on, plan.oc, plan.oh, plan.ow = xs[0], xs[1], xs[2], xs[3]
    plan.w_row = g.kernel_w
    plan.w_plane = g.kernel_h * g.kernel_w
    plan.w_m = g.kernel_h * g.kernel_w
    plan.w_c = plan.co * plan.w_m
    plan.w_group = plan.ci * plan.w_c
    plan.mode = LANES
    plan.from_lanes = True
    cut(&plan, isa, item_size, 1)
    return plan


cdef void block_group(const fc_isa* isa, const Plan* plan, int activation, int pool,
                      const fc_windows* windows, const real* x, const Tables* tables, real* y,
                      real* out, ptrdiff_t image, char* scratch) noexcept nogil:
    """One group of images: y, activated and in lanes, and the pooled output as an array."""
    cdef real* xs = <real*>scratch
    cdef int32_t* at = <int32_t*>(scratch + plan.x_size)
    cdef real* pooled = <real*>(scratch + plan.x_size + plan.at_size)
    cdef const real* bias = <const real*>tables.bias
    cdef const real* w = <const real*>tables.w
    cdef const real* first_bias
    cdef ptrdiff_t lanes = plan.lanes, cols = plan.col.n_out
    cdef ptrdiff_t plane = plan.row.n_out * cols * lanes
    cdef ptrdiff_t small = (windows.height // windows.kernel_h) * (windows.width // windows.kernel_w)
    cdef ptrdiff_t group, pi, p0, rows, ci, c0, channels, mt, m0, m1, m, k
    cdef int images = <int>imin(lanes, plan.images - image)
    cdef real* y_tile
    for group in range(plan.groups):
        for pi in range(plan.n_pb):
            p0 = pi * plan.pb
            rows = imin(plan.pb, plan.row.n_out - p0)
            for ci in range(plan.n_cb):
                c0 = ci * plan.cb
                channels = imin(plan.cb, plan.ci - c0)
                stage(isa, plan, x, image, images, group, c0, channels, p0, rows, 0, xs)
                block_places(plan, rows, cols, 0, at)
                for mt in range(plan.n_mt):
                    m0 = tile_start(plan, mt)
                    m1 = tile_start(plan, mt + 1)
                    y_tile = y + (group * plan.co + m0) * plane + p0 * cols * lanes
                    first_bias = NULL
                    if ci == 0:
                        first_bias = bias + group * plan.co + m0
                    tile_rows(isa, plan, m1 - m0, plan.tile_v[m1 - m0], p0, rows, cols, c0,
                              channels,
                              w + (group * plan.n_mt + mt) * packed_depth(plan) * plan.tile_m, xs,
                              tables.off if channels == plan.cb else tables.off_last, at,
                              first_bias, y_tile, plane)
                    if ci == plan.n_cb - 1:
                        for m in range(m1 - m0):
                            activate(isa, activation, rows * cols * lanes, y_tile + m * plane)
    for k in range(plan.groups * plan.co):
        pool_lanes(isa, pool, windows, y + k * plane, pooled)
        scatter_lanes(isa, small, images, pooled, lanes,
                      out + (image * plan.groups * plan.co + k) * small,
                      plan.groups * plan.co * small)


cdef int block_forward(const fc_isa* isa, const Geometry* g, const real* x, const ptrdiff_t* xs,
                       const real* w, const real* bias, int activation, int pool,
                       const fc_windows* windows, real* kept, real* out, int threads) except -1:
    """`kept` receives the activated output; NULL where nobody is going to need it."""
    cdef Plan plan = plan_block(isa, g, xs, sizeof(real))
    cdef ptrdiff_t n_groups = ceil_div(g.images, plan.lanes), i
    cdef ptrdiff_t planes = g.filters * g.out_h * g.out_w * plan.lanes
    cdef Tables tables
    cdef size_t shared = tables_size(&plan, sizeof(real))
    cdef size_t own = 0 if kept != NULL else rounded(planes * sizeof(real))
    cdef size_t each = own + plan.x_size + plan.at_size + rounded(
        (windows.height // windows.kernel_h) * (windows.width // windows.kernel_w) * plan.lanes
        * sizeof(real))
    threads = 1 if flops(&plan) < SERIAL_FLOPS else <int>imin(threads, n_groups)
    cdef Workspace space = take_workspace(shared + threads * each)
    cdef char* memory = space.aligned()
    cdef char* scratch = memory + shared
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        fill_tables(isa, &plan, &tables, memory, w, <const char*>NULL, bias)
        for i in prange(n_groups, num_threads=threads, schedule="dynamic",
                        use_threads_if=threads > 1):
            before = fc_set_float_mode(mode)
            block_group(isa, &plan, activation, pool, windows, x, &tables,
                        kept + i * planes if kept != NULL
                        else <real*>(scratch + each * threadid()),
                        out, i * plan.lanes, scratch + each * threadid() + own)
            fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


cdef void block_gradient(const fc_isa* isa, const Geometry* g, ptrdiff_t lanes, int activation,
                         int pool, const fc_windows* windows, const real* kept,
                         const real* grad_output, ptrdiff_t image, real* dz, double* sums,
                         real* pooled) noexcept nogil:
    """dz, the gradient before the activation, of one group of images; and its sum by channel."""
    cdef ptrdiff_t plane = g.out_h * g.out_w * lanes, k, i, l
    cdef ptrdiff_t small = (windows.height // windows.kernel_h) * (windows.width // windows.kernel_w)
    cdef int images = <int>imin(lanes, g.images - image)
    for k in range(g.filters):
        gather_lanes(isa, small, images, grad_output + (image * g.filters + k) * small,
                     g.filters * small, pooled)
        unpool_lanes(isa, pool, activation, windows, pooled, kept + k * plane, dz + k * plane)
        if images < lanes:      # no number times zero may come from images that are not there
            for i in range(g.out_h * g.out_w):
                for l in range(images, lanes):
                    dz[k * plane + i * lanes + l] = 0
        sums[k] = sum_of(isa, plane, dz + k * plane)


cdef void block_part(const fc_isa* isa, const Geometry* g, const Plan* plan, const Tables* tables,
                     ptrdiff_t per_group, const WeightPlan* weights, const real* x,
                     const real* kept, const real* grad_output, int activation, int pool,
                     const fc_windows* windows, real* dx, ptrdiff_t first, ptrdiff_t last,
                     char* acc, double* sums, char* scratch, size_t dz_size,
                     size_t pooled_size) noexcept nogil:
    """The gradients of the groups first..last: dx, the sums of dz, and in `acc` what they add to dw."""
    cdef ptrdiff_t lanes = weights.x.lanes, i, j, item
    cdef ptrdiff_t planes = g.filters * g.out_h * g.out_w * lanes
    cdef real* dz = <real*>scratch
    cdef real* pooled = <real*>(scratch + dz_size)
    cdef char* rest = scratch + dz_size + pooled_size
    memset(acc, 0, weights.n_items * weights.acc_size)
    for i in range(first, last):
        block_gradient(isa, g, lanes, activation, pool, windows, kept + i * planes, grad_output,
                       i * lanes, dz, sums + i * g.filters, pooled)
        for j in range(per_group):
            correlate_block(isa, plan, <const real*>dz, tables, dx, i * per_group + j, rest)
        for item in range(weights.n_items):
            weight_images(isa, weights, x, <const real*>(dz - i * planes), item, i * lanes,
                          imin((i + 1) * lanes, g.images),
                          <real*>(acc + item * weights.acc_size), rest)


cdef int block_backward(const fc_isa* isa, const Geometry* g, const real* x, const ptrdiff_t* xs,
                        const real* w, const real* kept, const real* grad_output, int activation,
                        int pool, const fc_windows* windows, real* dx, const ptrdiff_t* dxs,
                        real* dw, real* db, int threads) except -1:
    """All three gradients; dx and db may be NULL.

    The images are cut into PARTS, that many for any number of threads: a part adds its groups to
    sums of its own, in their order, and the parts' sums are added in theirs.
    """
    cdef Plan plan
    cdef WeightPlan weights
    cdef Tables tables
    cdef ptrdiff_t ys[4]
    cdef ptrdiff_t lanes, planes, n_groups, per_group = 0, parts, part, k, item, i
    cdef size_t shared = 0, each, dz_size, acc_size, sums_size, pooled_size
    cdef double total
    cdef real* acc_of
    cdef real* acc_first
    memset(&tables, 0, sizeof(Tables))
    memset(&plan, 0, sizeof(Plan))
    ys[1] = ys[2] = ys[3] = 0
    # the images of a group lie in its lanes: image i begins i / lanes groups from the first
    ys[0] = g.filters * g.out_h * g.out_w
    plan_weight(&weights, isa, g, xs, ys, LANES, True, sizeof(real), 1)
    lanes = weights.x.lanes
    weights.yc = g.out_h * g.out_w * lanes
    weights.yh = g.out_w * lanes
    weights.yw = lanes
    weights.copy_y = False
    planes = ys[0] * lanes
    n_groups = ceil_div(g.images, lanes)
    if dx != NULL:
        plan = plan_block_input(isa, g, dxs, sizeof(real))
        shared = tables_size(&plan, sizeof(real))
        per_group = plan.groups * plan.n_kb * plan.n_pb * plan.n_qb
    acc_size = weights.n_items * weights.acc_size
    parts = imin(imin(n_groups, PARTS), imax(1, SUMS_BYTES // <ptrdiff_t>acc_size))
    threads = <int>imin(threads, parts)
    if is_serial(g):
        threads = 1
    pooled_size = rounded((windows.height // windows.kernel_h)
                          * (windows.width // windows.kernel_w) * lanes * sizeof(real))
    dz_size = rounded(planes * sizeof(real))
    sums_size = rounded(n_groups * g.filters * sizeof(double))
    each = dz_size + pooled_size + (
        plan.scratch if plan.scratch > weights.x.scratch else weights.x.scratch)
    cdef Workspace space = take_workspace(
        shared + parts * acc_size + sums_size + threads * each)
    cdef char* memory = space.aligned()
    cdef char* acc = memory + shared
    cdef double* sums = <double*>(acc + parts * acc_size)
    cdef char* scratch = acc + parts * acc_size + sums_size
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        if dx != NULL:
            fill_tables(isa, &plan, &tables, memory, w, <const char*>NULL, <const real*>NULL)
        for part in prange(parts, num_threads=threads, schedule="dynamic",
                           use_threads_if=threads > 1):
            before = fc_set_float_mode(mode)
            block_part(isa, g, &plan, &tables, per_group, &weights, x, kept, grad_output,
                       activation, pool, windows, dx, part * n_groups // parts,
                       (part + 1) * n_groups // parts, acc + part * acc_size, sums,
                       scratch + each * threadid(), dz_size, pooled_size)
            fc_set_float_mode(before)
        for item in range(weights.n_items):
            acc_first = <real*>(acc + item * weights.acc_size)
            for part in range(1, parts):
                acc_of = <real*>(acc + part * acc_size + item * weights.acc_size)
                for i in range(<ptrdiff_t>(weights.acc_size // sizeof(real))):
                    acc_first[i] += acc_of[i]
            weight_finish(isa, &weights, item, acc_first, dw)
        if db != NULL:
            for k in range(g.filters):
                total = 0
                for i in range(n_groups):
                    total = total + sums[i * g.filters + k]
                db[k] = <real>total
    give_workspace(space, threads)
    return 0


cdef int block_forward_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, ::1] w,
                          const real[::1] bias, int activation, int pool, fc_windows* windows,
                          real[::1] kept, real[:, :, :, ::1] out, int isa,
                          int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef ptrdiff_t xs[4]
    element_strides(x.strides, sizeof(real), xs)
    windows.height, windows.width = g.out_h, g.out_w
    return block_forward(isa_table(isa), &g, &x[0, 0, 0, 0], xs, &w[0, 0, 0, 0],
                         &bias[0] if bias is not None else <const real*>NULL, activation, pool,
                         windows, &kept[0] if kept is not None else <real*>NULL,
                         &out[0, 0, 0, 0], threads)


cdef int block_backward_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, ::1] w,
                           const real[::1] kept, const real[:, :, :, ::1] grad_output,
                           int activation, int pool, fc_windows* windows, real[:, :, :, :] dx,
                           real[:, :, :, ::1] dw, real[::1] db, int isa, int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef ptrdiff_t xs[4]
    cdef ptrdiff_t dxs[4]
    cdef real* first = NULL
    element_strides(x.strides, sizeof(real), xs)
    if dx is not None:
        first = &dx[0, 0, 0, 0]
        element_strides(dx.strides, sizeof(real), dxs)
    windows.height, windows.width = g.out_h, g.out_w
    return block_backward(isa_table(isa), &g, &x[0, 0, 0, 0], xs, &w[0, 0, 0, 0], &kept[0],
                          &grad_output[0, 0, 0, 0], activation, pool, windows, first, dxs,
                          &dw[0, 0, 0, 0], &db[0] if db is not None else <real*>NULL, threads)


def block_size(tuple geometry, int item_size, int isa):
    """Elements that the activated output takes in lanes; a str: why images do not go in lanes."""
    cdef Geometry g = read_geometry(geometry)
    cdef Plan plan
    memset(&plan, 0, sizeof(Plan))
    set_isa(&plan, isa_table(isa), item_size)
    cdef ptrdiff_t planes = g.filters * g.out_h * g.out_w * plan.lanes
    if g.stride_h != 1 or g.stride_w != 1:
        return "the stride is not 1"
    if not images_fill(plan.lanes, g.images, g.out_w):
        return "pixels fill the vectors better than images"
    if g.out_w * plan.lanes > COLUMN_BLOCK or planes * item_size > PLANES_BYTES:
        return "a group of images does not stay in the cache"
    if (g.filters * (g.channels // g.groups) * g.kernel_h * g.kernel_w * plan.lanes * item_size
            > SUMS_BYTES):
        return "the lane sums of the weight gradient do not stay in the cache"
    return ceil_div(g.images, plan.lanes) * planes


def block(tuple geometry, x, weight, bias, int activation, int pool, int kernel_h, int kernel_w,
          kept, out, int isa, int threads):
    """out = pooling(activation(correlation(x, weight) + bias)); `kept`, if given, for backward."""
    cdef fc_windows windows
    windows.kernel_h, windows.kernel_w = kernel_h, kernel_w
    if out.itemsize == 4:
        block_forward_of[float](geometry, x, weight, bias, activation, pool, &windows, kept, out,
                                isa, threads)
    else:
        block_forward_of[double](geometry, x, weight, bias, activation, pool, &windows, kept, out,
                                 isa, threads)


def block_gradients(tuple geometry, x, weight, kept, grad_output, int activation, int pool,
                    int kernel_h, int kernel_w, dx, dw, db, int isa, int threads):
    """All gradients of `block`; dx and db may be None."""
    cdef fc_windows windows
    windows.kernel_h, windows.kernel_w = kernel_h, kernel_w
    if dw.itemsize == 4:
        block_backward_of[float](geometry, x, weight, kept, grad_output, activation, pool,
                                 &windows, dx, dw, db, isa, threads)
    else:
        block_backward_of[double](geometry, x, weight, kept, grad_output, activation, pool,
                                  &windows, dx, dw, db, isa, threads)
