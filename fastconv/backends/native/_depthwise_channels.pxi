# The same where channels are neighbours in memory (NHWC), and each has one filter: channels in the lanes.
#
# Pixels are read and written where they lie (csrc/kernels/depthwise_channels.h), so nothing is staged;
# the filters alone are brought into the same order, tap by tap, which a strided gradient takes its part
# of by steps.  Of fewer channels than lanes (colours) as many neighbouring pixels as there are lanes count
# as one, with the filters as often beside each other, wherever their taps lie inside the row.

cdef struct ChannelPlan:
    ptrdiff_t images, channels, kernel_w
    Axis* row                               # [n_rows] the residues of the stride, one of them forward,
    fc_channels* col                        # [n_cols] each with calls of the kernel for a row
    ptrdiff_t* w_col                        # [n_cols] where its first tap lies,
    ptrdiff_t* out_col                      # and its first output
    ptrdiff_t n_rows, n_cols, pb, n_pb      # output rows of a block, of each residue; blocks
    ptrdiff_t w_pitch, out_w
    ptrdiff_t xn, xc, xh, xw, on, oc, oh, ow
    int activation


cdef inline bint channels_adjoin(ptrdiff_t channels, ptrdiff_t filters, const ptrdiff_t* xs,
                                 const ptrdiff_t* ys) noexcept nogil:
    """Whether channels lie side by side in both arrays, with these strides of N, C, H, W."""
    return channels > 1 and filters == channels and xs[1] == 1 and ys[1] == 1


cdef inline ptrdiff_t lanes_of(const fc_isa* isa, real* _) noexcept nogil:
    if real is float:
        return isa.f32.lanes
    else:
        return isa.f64.lanes


cdef inline void depthwise_channels(const fc_isa* isa, const fc_channels* g, ptrdiff_t rows,
                                    const real* x, const real* w, const real* bias,
                                    real* y) noexcept nogil:
    if real is float:
        isa.f32.depthwise_channels(g, rows, x, w, bias, y)
    else:
        isa.f64.depthwise_channels(g, rows, x, w, bias, y)


cdef inline void depthwise_channels_weight(const fc_isa* isa, const fc_channels* g, ptrdiff_t rows,
                                           const real* x, const real* dy, real* acc) noexcept nogil:
    if real is float:
        isa.f32.depthwise_channels_weight(g, rows, x, dy, acc)
    else:
        isa.f64.depthwise_channels_weight(g, rows, x, dy, acc)


cdef inline ptrdiff_t channels_pitch(ptrdiff_t channels, ptrdiff_t item_size) noexcept nogil:
    """Elements of a tap's channels: an odd number of cache lines, so that taps share no set."""
    return (ceil_div(channels * item_size, CACHE_LINE) | 1) * (CACHE_LINE // item_size)


cdef void set_channels_row(fc_channels* row, const Axis* col, ptrdiff_t channels, ptrdiff_t xw,
                           ptrdiff_t w_tap, ptrdiff_t y_col) noexcept nogil:
    row.C, row.Q, row.S = channels, col.n_out, col.n_taps
    row.step, row.dilation, row.left, row.width = col.step, col.tap_step, -col.start, col.n_in
    row.x_col, row.w_tap, row.y_col = xw, col.w_step * w_tap, col.out_step * y_col


cdef enum:
    PIECES = 4      # of a row whose pixels count in groups: one by one, groups, the last group, one by one


cdef ptrdiff_t cut_row(ChannelPlan* plan, ptrdiff_t group) noexcept nogil:
    """Cut the plan's only row into pieces; none, with nothing done, where no group fits."""
    cdef fc_channels row = plan.col[0]
    cdef ptrdiff_t begin = imax(row.left, 0), n = 0, i, count
    cdef ptrdiff_t end = imin(row.Q, row.width + row.left - (row.S - 1) * row.dilation)
    cdef ptrdiff_t[PIECES] first = [0, begin, end - group, end]
    cdef ptrdiff_t[PIECES] last = [begin, end - (end - begin) % group, end, row.Q]
    if end - begin < group:
        return 0
    for i in range(PIECES):
        if i == 2 and last[1] == end:
            continue
        count = last[i] - first[i]
        if count == 0:
            continue
        plan.col[n], plan.w_col[n] = row, plan.w_col[0]
        plan.out_col[n] = first[i] * row.y_col
        plan.col[n].left, plan.col[n].Q = row.left - first[i], count
        if i == 1 or i == 2:
            plan.col[n].Q, plan.col[n].C = count // group, group * row.C
            plan.col[n].step, plan.col[n].y_col = group, group * row.y_col
        n += 1
    return n


cdef void repeat(ptrdiff_t n, ptrdiff_t times, real* x) noexcept nogil:
    """The first n elements `times` times behind each other."""
    cdef ptrdiff_t i
    for i in range(n, n * times):
        x[i] = x[i - n]


cdef void channels_block(const fc_isa* isa, const ChannelPlan* plan, const real* x, const real* w,
                         const real* bias, real* out, ptrdiff_t item) noexcept nogil:
    """A block of rows of one image, of every residue of the stride."""
    cdef ptrdiff_t image = item // plan.n_pb, p = item % plan.n_pb * plan.pb, end = p + plan.pb
    cdef ptrdiff_t a, b, q, first, taps
    cdef const Axis* row
    cdef fc_channels col
    cdef const real* x_row
    cdef const real* w_row
    cdef real* y
    while p < end:
        for a in range(plan.n_rows):
            row = plan.row + a
            if p >= row.n_out:
                continue
            first = first_tap(row, p)
            taps = end_tap(row, p) - first
            x_row = (x + image * plan.xn
                     + (row.start + p * row.step + first * row.tap_step) * plan.xh)
            w_row = w + (row.w_start + first * row.w_step) * plan.kernel_w * plan.w_pitch
            y = out + image * plan.on + (row.out_start + p * row.out_step) * plan.oh
            for b in range(plan.n_cols):
                col = plan.col[b]
                col.x_row = row.tap_step * plan.xh
                col.w_row = row.w_step * plan.kernel_w * plan.w_pitch
                depthwise_channels(isa, &col, imax(taps, 0), x_row, w_row + plan.w_col[b],
                                   bias, y + plan.out_col[b])
            if plan.activation == 0:
                continue
            if plan.ow == plan.channels:
                activate(isa, plan.activation, plan.out_w * plan.channels, y)
            else:
                for q in range(plan.out_w):
                    activate(isa, plan.activation, plan.channels, y + q * plan.ow)
        p += 1


cdef int channels_of(const fc_isa* isa, const Geometry* g, bint turned, const real* x,
                     const ptrdiff_t* xs, const real* w, const real* bias, real* out,
                     const ptrdiff_t* os, int activation, int threads) except -1:
    """conv2d, or its gradient with respect to the input."""
    cdef ChannelPlan plan
    cdef ptrdiff_t lanes = lanes_of(isa, <real*>NULL), taps = g.kernel_h * g.kernel_w
    cdef ptrdiff_t item_size = sizeof(real), channels = g.channels, items, item, a, b, c, rows
    # pixels that count as one
    cdef ptrdiff_t group = (lanes if channels < lanes and g.stride_w == 1 and xs[3] == channels
                            and os[3] == channels else 1)
    cdef Axis col
    memset(&plan, 0, sizeof(ChannelPlan))
    plan.images, plan.channels, plan.kernel_w = g.images, channels, g.kernel_w
    plan.activation = activation
    memcpy(&plan.xn, xs, 4 * sizeof(ptrdiff_t))
    memcpy(&plan.on, os, 4 * sizeof(ptrdiff_t))
    plan.n_rows = g.stride_h if turned else 1
    plan.n_cols = g.stride_w if turned else 1
    plan.out_w = g.width if turned else g.out_w
    rows = ceil_div(g.height, g.stride_h) if turned else g.out_h
    if 2 * g.images * channels * taps * g.out_h * g.out_w < SERIAL_FLOPS:
        threads = 1
    plan.w_pitch = channels_pitch(group * channels, item_size)
    # filters in the cache serve as many rows as the threads leave
    plan.pb = ceil_div(g.images * rows, 4 * threads) if threads > 1 else rows
    plan.pb = imax(imin(plan.pb, rows), 1)
    plan.n_pb = ceil_div(rows, plan.pb)
    items = g.images * plan.n_pb
    threads = <int>imin(threads, imax(items, 1))
    cdef size_t w_size = rounded(taps * plan.w_pitch * item_size)
    cdef size_t bias_size = rounded(plan.w_pitch * item_size)
    cdef size_t row_size = rounded(plan.n_rows * sizeof(Axis))
    cdef ptrdiff_t most = imax(plan.n_cols, PIECES)
    cdef size_t col_size = rounded(most * sizeof(fc_channels))
    cdef Workspace space = take_workspace(w_size + bias_size + row_size + col_size
                                          + 2 * most * sizeof(ptrdiff_t))
    cdef real* ws = <real*>space.aligned()
    cdef real* bias_s = <real*>(space.aligned() + w_size)
    plan.row = <Axis*>(space.aligned() + w_size + bias_size)
    plan.col = <fc_channels*>(<char*>plan.row + row_size)
    plan.w_col = <ptrdiff_t*>(<char*>plan.col + col_size)
    plan.out_col = plan.w_col + most
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for a in range(plan.n_rows):
            if turned:
                plan.row[a] = input_axis(a, g.height, g.out_h, g.kernel_h, g.stride_h, g.top,
                                         g.dilation_h)
            else:
                plan.row[a] = forward_axis(g.out_h, g.height, g.kernel_h, g.stride_h, g.top,
                                           g.dilation_h)
        for b in range(plan.n_cols):
            if turned:
                col = input_axis(b, g.width, g.out_w, g.kernel_w, g.stride_w, g.left, g.dilation_w)
            else:
                col = forward_axis(g.out_w, g.width, g.kernel_w, g.stride_w, g.left, g.dilation_w)
            set_channels_row(plan.col + b, &col, channels, plan.xw, plan.w_pitch, plan.ow)
            plan.w_col[b] = col.w_start * plan.w_pitch
            plan.out_col[b] = col.out_start * plan.ow
        if group > 1:
            b = cut_row(&plan, group)
            if b > 0:
                plan.n_cols = b
            else:
                group = 1
        for item in range(ceil_div(channels, lanes)):
            c = item * lanes
            gather_apart(isa, taps, <int>imin(lanes, channels - c), w + c * taps, taps, ws + c,
                         plan.w_pitch)
        for a in range(taps):
            repeat(channels, group, ws + a * plan.w_pitch)
        if bias != NULL:
            if channels < lanes:
                memcpy(bias_s, bias, channels * item_size)
                repeat(channels, group, bias_s)
            else:
                bias_s = <real*>bias
        else:
            bias_s = NULL
        if threads == 1:
            for item in range(items):
                channels_block(isa, &plan, x, ws, bias_s, out, item)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                channels_block(isa, &plan, x, ws, bias_s, out, item)
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


# The gradient with respect to the weight: every thread takes channels of its own, so that no sum is
# ever cut.
cdef struct ChannelWeightPlan:
    ptrdiff_t images, channels, taps, parts, lanes
    Axis row
    fc_channels col
    ptrdiff_t xn, xc, xh, xw, yn, yc, yh, yw
    size_t acc_size


cdef void channels_weight_part(const fc_isa* isa, const ChannelWeightPlan* plan, const real* x,
                               const real* dy, real* dw, ptrdiff_t part, real* acc) noexcept nogil:
    """All taps of a range of channels."""
    cdef ptrdiff_t c0 = part * plan.channels // plan.parts, c, i, image, p, first, taps
    cdef ptrdiff_t channels = (part + 1) * plan.channels // plan.parts - c0
    cdef fc_channels col = plan.col
    cdef const Axis* row = &plan.row
    col.C = channels
    memset(acc, 0, plan.acc_size)
    for image in range(plan.images):
        for p in range(row.n_out):
            first = first_tap(row, p)
            taps = imax(end_tap(row, p) - first, 0)
            depthwise_channels_weight(
                isa, &col, taps,
                x + image * plan.xn + c0
                + (row.start + p * row.step + first * row.tap_step) * plan.xh,
                dy + image * plan.yn + c0 + p * plan.yh, acc + first * col.w_row)
    for i in range(ceil_div(channels, plan.lanes)):
        c = imax(imin(i * plan.lanes, channels - plan.lanes), 0)
        scatter_lanes(isa, plan.taps, <int>imin(plan.lanes, channels), acc + i * plan.lanes,
                      col.w_tap, dw + (c0 + c) * plan.taps, plan.taps)


cdef int channels_weight_of(const fc_isa* isa, const Geometry* g, const real* x,
                            const ptrdiff_t* xs, const real* dy, const ptrdiff_t* ys, real* dw,
                            int threads) except -1:
    cdef ChannelWeightPlan plan
    cdef ptrdiff_t lanes = lanes_of(isa, <real*>NULL), item_size = sizeof(real), part
    cdef Axis col
    memset(&plan, 0, sizeof(ChannelWeightPlan))
    plan.images, plan.channels, plan.lanes = g.images, g.channels, lanes
    plan.taps = g.kernel_h * g.kernel_w
    memcpy(&plan.xn, xs, 4 * sizeof(ptrdiff_t))
    memcpy(&plan.yn, ys, 4 * sizeof(ptrdiff_t))
    if 2 * g.images * g.channels * plan.taps * g.out_h * g.out_w < SERIAL_FLOPS:
        threads = 1
    plan.parts = imax(imin(threads, g.channels // lanes), 1)
    threads = <int>plan.parts
    plan.row = forward_axis(g.out_h, g.height, g.kernel_h, g.stride_h, g.top, g.dilation_h)
    col = forward_axis(g.out_w, g.width, g.kernel_w, g.stride_w, g.left, g.dilation_w)
    set_channels_row(&plan.col, &col, 0, plan.xw,
                     channels_pitch(ceil_div(g.channels, plan.parts), item_size), plan.yw)
    plan.col.x_row = plan.row.tap_step * plan.xh
    plan.col.w_row = g.kernel_w * plan.col.w_tap
    plan.acc_size = rounded(plan.taps * plan.col.w_tap * item_size)
    cdef Workspace space = take_workspace(threads * plan.acc_size)
    cdef char* acc = space.aligned()
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        if threads == 1:
            channels_weight_part(isa, &plan, x, dy, dw, 0, <real*>acc)
        else:
            for part in prange(plan.parts, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                channels_weight_part(isa, &plan, x, dy, dw, part, <real*>(acc + part * plan.acc_size))
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0
