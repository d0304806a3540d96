# Convolutions with one input channel a group, plane by plane: a filter of its own for each channel
# ("depthwise"), several of them, or many filters on images of one channel.
#
# The kernel reads rows through a table of pointers (csrc/kernels/depthwise.h): rows above and below
# the plane are a row of zeros, the others are read where they lie.  Near the plane's border few columns
# are computed pixel by pixel, more of them from strips staged with their padding; narrow planes, strides
# above 2 along the row and pixels that are not neighbours in memory are staged whole, a block of rows at
# a time.

cdef enum:
    PLANE_BYTES = 24576     # rows of a block: in L1 until every filter has been over them
    STRIPS_FROM = 12        # vectors between the strips: below, the row is staged whole
    COLUMNS_FROM = 3        # the same where the border is computed pixel by pixel,
    COLUMN_TAPS = 32        # which is cheaper up to so many taps of a row


cdef enum:                  # instead of a slot
    IN_PLACE = -1
    BY_COLUMN = -2
    BY_MASK = -3            # in place, all of it, by a kernel of 3 by 3 or 5 by 5 taps


cdef enum:
    PAIRS_ROWS = 256        # most rows of a block that goes in pairs: its last one has nothing fetched ahead
    PAIRS_TAPS = 5


cdef struct Region:
    ptrdiff_t first, columns            # of the output
    ptrdiff_t x_first, x_columns        # of the input
    ptrdiff_t base                      # from there to tap 0 of the first output
    ptrdiff_t slot                      # of its staged rows, if they are


cdef struct PlanePlan:
    ptrdiff_t images, channels, filters     # filters of one channel
    ptrdiff_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w
    ptrdiff_t top, left, height, width, out_h, out_w
    int activation
    bint by_rows, in_pairs                  # Winograd's algorithm down the rows (_winograd_rows.pxi),
                                            # of 5 by 5 taps in pairs of rows (winograd_pairs.h)
    ptrdiff_t turns, step                   # see plan_rows
    ptrdiff_t pb, n_pb                      # output rows of a block, blocks
    ptrdiff_t column_step, phases           # pixels between outputs, phases of a staged row
    ptrdiff_t lead, phase                   # of a phase: zeros before it, all of it
    ptrdiff_t before, reach                 # BY_MASK: what is read before a row, and from it on
    int n_regions, n_staged
    Region region[3]
    ptrdiff_t xn, xc, xh, xw, on, oc, oh, ow
    ptrdiff_t slot                          # elements of a region's staged rows
    size_t shared, rows_size, x_size, scratch


cdef inline void depthwise_rows(const fc_isa* isa, ptrdiff_t stride, ptrdiff_t step,
                                ptrdiff_t kernel_h, ptrdiff_t kernel_w, ptrdiff_t rows, ptrdiff_t columns,
                                const real** x, const int32_t* at, const real* w, real bias,
                                real* y, ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.depthwise(stride, step, kernel_h, kernel_w, rows, columns, x, at, w, bias, y,
                          y_pitch)
    else:
        isa.f64.depthwise(stride, step, kernel_h, kernel_w, rows, columns, x, at, w, bias, y,
                          y_pitch)


cdef inline bint has_pairs(const fc_isa* isa, const real* x) noexcept nogil:
    return real is float and isa.f32.winograd_pairs != NULL


cdef inline void masked_rows(const fc_isa* isa, const PlanePlan* plan, ptrdiff_t rows, const real** x,
                             const real* w, real bias, real* y, ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        if plan.in_pairs:
            isa.f32.winograd_pairs(rows, plan.out_w, x, plan.left, plan.width, w, bias, y, y_pitch)
        else:
            isa.f32.depthwise_3x3(plan.step, rows, plan.out_w, x, plan.left, plan.width, w, bias, y,
                                  y_pitch)
    else:
        isa.f64.depthwise_3x3(plan.step, rows, plan.out_w, x, plan.left, plan.width, w, bias, y, y_pitch)


cdef inline void split_plane(const fc_isa* isa, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride,
                             const real* x, ptrdiff_t x_row, ptrdiff_t x_col, real* y,
                             ptrdiff_t phase) noexcept nogil:
    """split_rows of whole rows, whose pixels are x_col apart: zeros up to a whole vector."""
    cdef ptrdiff_t lanes = isa.f32.lanes if real is float else isa.f64.lanes, i, f, j
    if x_col == 1:
        split_rows(isa, rows, n, 0, ceil_div(n, stride * lanes) * lanes, stride, x, x_row, y, phase)
        return
    for i in range(rows):
        for f in range(stride):
            for j in range(ceil_div(n - f, stride)):
                y[(i * stride + f) * phase + j] = x[i * x_row + (j * stride + f) * x_col]


cdef inline void depthwise_column(const fc_isa* isa, const PlanePlan* plan, ptrdiff_t rows,
                                  const real** x, ptrdiff_t q, const real* w, real bias, real* y,
                                  ptrdiff_t y_pitch) noexcept nogil:
    """One column of the output, of rows that begin at the plane's left edge."""
    cdef ptrdiff_t at = q * plan.stride_w - plan.left, begin, end
    span(at, plan.dilation_w, plan.width, plan.kernel_w, &begin, &end)
    at += begin * plan.dilation_w
    if real is float:
        isa.f32.depthwise_column(plan.step, plan.dilation_w, plan.kernel_h, end - begin, rows, x, at,
                                 w + begin, plan.kernel_w, bias, y, y_pitch)
    else:
        isa.f64.depthwise_column(plan.step, plan.dilation_w, plan.kernel_h, end - begin, rows, x, at,
                                 w + begin, plan.kernel_w, bias, y, y_pitch)


cdef inline void span(ptrdiff_t first, ptrdiff_t step, ptrdiff_t n, ptrdiff_t rows,
                      ptrdiff_t* begin, ptrdiff_t* end) noexcept nogil:
    """The i < rows for which first + i * step lies in [0, n)."""
    begin[0] = imin(ceil_div(imax(-first, 0), step), rows)
    end[0] = imax(imin(floor_div(n - 1 - first, step) + 1, rows), begin[0])


cdef void depthwise_block(const fc_isa* isa, const PlanePlan* plan, const real* x, const int32_t* at,
                          const real* zeros, const real* w, const real* bias,
                          real* out, ptrdiff_t item, char* scratch) noexcept nogil:
    """All filters of one channel over one block of rows."""
    cdef const real** row = <const real**>scratch
    cdef real* xs = <real*>(scratch + plan.rows_size)
    cdef real* ys = <real*>(scratch + plan.rows_size + plan.x_size)
    cdef ptrdiff_t block = item % plan.n_pb, turn, p0, rows, n_rows, begin, end, p, q, i, k, pitch
    cdef ptrdiff_t c, image, first, x_row = plan.dilation_h * plan.xh, taps
    cdef Region region
    cdef int part
    cdef const real* plane
    cdef const real* x_at
    cdef real* strip
    cdef real* to
    cdef real start
    item //= plan.n_pb
    turn = item % plan.turns
    item //= plan.turns
    c = item % plan.channels
    image = item // plan.channels
    # its output rows are turn + (p0 + p) * turns
    p0 = block * plan.pb
    rows = imin(plan.pb, ceil_div(plan.out_h - turn, plan.turns) - p0)
    if rows <= 0:
        return
    p0 = turn + p0 * plan.turns
    n_rows = (rows - 1) * plan.step + plan.kernel_h
    first = p0 * plan.stride_h - plan.top
    span(first, plan.dilation_h, plan.height, n_rows, &begin, &end)
    plane = x + image * plan.xn + c * plan.xc + first * plan.xh
    taps = plan.kernel_h * plan.kernel_w
    for i in range(begin):
        row[i] = zeros
    for i in range(end, n_rows):
        row[i] = zeros
    for part in range(plan.n_regions):
        region = plan.region[part]
        x_at = plane + begin * x_row + region.x_first * plan.xw
        pitch = x_row
        if region.slot >= 0:
            pitch = plan.phases * plan.phase
            strip = xs + region.slot * plan.slot + plan.lead
            split_plane(isa, end - begin, region.x_columns, plan.phases, x_at, x_row, plan.xw,
                        strip, plan.phase)
            x_at = strip
        for i in range(begin, end):
            row[i] = x_at + region.base
            x_at += pitch
        for k in range(c * plan.filters, (c + 1) * plan.filters):
            if plan.ow == 1:
                to = out + image * plan.on + k * plan.oc + p0 * plan.oh + region.first
                pitch = plan.turns * plan.oh
            else:
                to = ys + (k - c * plan.filters) * plan.pb * plan.out_w + region.first
                pitch = plan.out_w
            start = bias[k] if bias != NULL else 0
            if region.slot != BY_COLUMN:
                depthwise_rows(isa, plan.step, plan.column_step, plan.kernel_h, plan.kernel_w, rows,
                               region.columns, row, at, w + k * taps, start, to, pitch)
                continue
            for q in range(region.columns):
                depthwise_column(isa, plan, rows, row, region.first + q, w + k * taps, start, to + q,
                                 pitch)
    if plan.activation == 0 and plan.ow == 1:
        return
    for k in range(plan.filters):
        to = out + image * plan.on + (c * plan.filters + k) * plan.oc + p0 * plan.oh
        if plan.ow != 1:
            activate(isa, plan.activation, rows * plan.out_w, ys)
            for p in range(rows):
                for q in range(plan.out_w):
                    to[p * plan.turns * plan.oh + q * plan.ow] = ys[q]
                ys += plan.out_w
            ys += (plan.pb - rows) * plan.out_w
        elif plan.oh == plan.out_w and plan.turns == 1:
            activate(isa, plan.activation, rows * plan.out_w, to)
        else:
            for p in range(rows):
                activate(isa, plan.activation, plan.out_w, to + p * plan.turns * plan.oh)


cdef void masked_blocks(const fc_isa* isa, const PlanePlan* plan, const real* x, const real* low,
                        const real* high, const real* zeros, const real* w, const real* bias,
                        real* out, ptrdiff_t item, ptrdiff_t end_item, char* scratch) noexcept nogil:
    """The same BY_MASK, in place, for a range of blocks: of small planes what is decided once counts."""
    cdef const real** row = <const real**>scratch
    cdef real* xs = <real*>(scratch + plan.rows_size)
    cdef ptrdiff_t block = item % plan.n_pb, c = item // plan.n_pb % plan.channels
    cdef ptrdiff_t image = item // plan.n_pb // plan.channels
    cdef ptrdiff_t p0, rows, n_rows, first, begin, end, i, k, p, span_low, span_high
    cdef const real* x_at
    cdef real* to
    while item < end_item:
        p0 = block * plan.pb
        rows = imin(plan.pb, plan.out_h - p0)
        n_rows = (rows - 1) * plan.step + plan.kernel_h
        if plan.in_pairs:
            n_rows += rows % 2
        first = p0 * plan.step - plan.top
        begin = imin(imax(-first, 0), n_rows)
        end = imax(imin(plan.height - first, n_rows), begin)
        x_at = x + image * plan.xn + c * plan.xc + first * plan.xh
        for i in range(begin):
            row[i] = zeros
        for i in range(begin, end):
            row[i] = x_at + i * plan.xh
        for i in range(end, n_rows):
            row[i] = zeros
        span_low = imin(begin * plan.xh, (end - 1) * plan.xh) - plan.before
        span_high = imax(begin * plan.xh, (end - 1) * plan.xh) + plan.reach
        if begin < end and (x_at + span_low < low or x_at + span_high > high):
            for i in range(begin, end):     # too near the array's ends
                if row[i] - plan.before < low or row[i] + plan.reach > high:
                    memcpy(xs + i * plan.phase + plan.lead, row[i], plan.width * sizeof(real))
                    row[i] = xs + i * plan.phase + plan.lead
        for k in range(c * plan.filters, (c + 1) * plan.filters):
            to = out + image * plan.on + k * plan.oc + p0 * plan.oh
            masked_rows(isa, plan, rows, row, w + plan.kernel_h * plan.kernel_w * k,
                        bias[k] if bias != NULL else <real>0, to, plan.oh)
            if plan.activation == 0:
                continue
            if plan.oh == plan.out_w:
                activate(isa, plan.activation, rows * plan.out_w, to)
            else:
                for p in range(rows):
                    activate(isa, plan.activation, plan.out_w, to + p * plan.oh)
        item += 1
        block += 1
        if block == plan.n_pb:
            block = 0
            c += 1
            if c == plan.channels:
                c = 0
                image += 1


cdef void plan_columns(PlanePlan* plan, ptrdiff_t lanes, bint whole) noexcept nogil:
    """Which columns are read where they lie, which are staged; all of them, in phases, if `whole`."""
    cdef ptrdiff_t reach = (plan.kernel_w - 1) * plan.dilation_w, stride = plan.stride_w
    cdef ptrdiff_t before, behind, least, end
    cdef int n = 1, i
    cdef bint by_column
    # the kernel takes every second pixel of a row itself, for taps that are neighbours
    plan.column_step = 2 if stride == 2 and plan.dilation_w == 1 and not whole else 1
    plan.phases = stride // plan.column_step
    if (plan.in_pairs
            or not whole and plan.xw == 1 and plan.ow == 1 and plan.kernel_h == 3 and plan.kernel_w == 3
            and plan.dilation_h == 1 and plan.dilation_w == 1 and plan.stride_h == stride
            and stride <= 2):
        plan.region[0] = Region(0, plan.out_w, 0, 0, 0, BY_MASK)
        plan.n_regions, plan.reach = 1, plan.width
        if not plan.in_pairs:   # rows too near the array's ends are staged
            plan.n_staged, plan.before = 1, plan.left
            plan.reach = imax(plan.out_w, lanes) * stride + 3 - stride - plan.left
        plan.lead = ceil_div(imax(plan.before, 0), lanes) * lanes
        plan.phase = plan.lead + ceil_div(imax(plan.width, plan.reach), lanes) * lanes
        return
    # output columns before and behind those that read no padding
    before = ceil_div(imax(plan.left, 0), stride)
    behind = imax(plan.out_w - floor_div(plan.width + plan.left - reach, stride), 0)
    by_column = (before + behind) * plan.kernel_h * plan.kernel_w <= COLUMN_TAPS
    if not by_column:
        before, behind = ceil_div(before, lanes) * lanes, ceil_div(behind, lanes) * lanes
    least = 2 * lanes
    if before + behind:
        least = (COLUMNS_FROM if by_column else STRIPS_FROM) * lanes
    # zeros before a staged row, in whole vectors: stores are then aligned
    plan.lead = ceil_div(ceil_div(imax(plan.left, 0), plan.phases), lanes) * lanes
    if (not whole and plan.xw == 1 and plan.phases == 1
            and before + behind + least <= plan.out_w):
        # first the rows as they lie: strips then find them in the cache
        plan.region[0] = Region(before, plan.out_w - before - behind, before * stride - plan.left,
                                0, 0, IN_PLACE)
        if before:
            plan.region[1] = Region(0, before, 0,
                                    imin(before * stride + reach - plan.left, plan.width),
                                    -plan.left, 0)
            n = 2
        if behind:
            end = (plan.out_w - behind) * stride - plan.left
            plan.region[n] = Region(plan.out_w - behind, behind, end,
                                    imin(behind * stride + reach, plan.width - end), 0, n - 1)
            n += 1
        if by_column:
            for i in range(1, n):
                plan.region[i].x_first, plan.region[i].base, plan.region[i].slot = 0, 0, BY_COLUMN
        plan.n_staged = 0 if by_column else n - 1
        plan.phase = 0 if by_column else imax(before, behind) * stride + reach
    else:
        plan.region[0] = Region(0, plan.out_w, 0, plan.width,
                                -plan.left if plan.phases == 1 else 0, 0)
        plan.n_staged = 1
        # as much as is staged, and as much as is read
        plan.phase = imax(ceil_div(plan.width, plan.phases),
                          floor_div(reach - plan.left, plan.phases)
                          + ceil_div(plan.out_w, lanes) * lanes * plan.column_step)
    plan.n_regions = n
    plan.phase = plan.lead + ceil_div(plan.phase, lanes) * lanes


cdef void plan_rows(PlanePlan* plan, ptrdiff_t item_size, int threads) noexcept nogil:
    """Blocks of rows.

    With a dilation d the output rows that share rows of the input are d / gcd(d, stride) apart: they
    take turns, and within a turn input rows are d apart and the stride is stride / gcd(d, stride).
    """
    cdef ptrdiff_t common = gcd(plan.dilation_h, plan.stride_h), items, rows
    cdef ptrdiff_t pitch = imax(plan.phases * plan.phase, plan.width)
    plan.turns = imin(plan.dilation_h // common, imax(plan.out_h, 1))
    plan.step = plan.stride_h // common
    rows = ceil_div(plan.out_h, plan.turns)
    plan.pb = (PLANE_BYTES // item_size // pitch - plan.kernel_h) // plan.step
    if plan.in_pairs:
        plan.pb = PAIRS_ROWS
    items = plan.images * plan.channels * plan.turns
    if items < 4 * threads:     # enough blocks for the threads
        plan.pb = imin(plan.pb, ceil_div(rows, ceil_div(4 * threads, imax(items, 1))))
    # whole tiles, of eight rows at least
    plan.pb = ceil_div(block_of(rows, imax(plan.pb, 8)), 4) * 4
    plan.n_pb = ceil_div(rows, plan.pb)


cdef void place_taps(const PlanePlan* plan, int32_t* at) noexcept nogil:
    cdef ptrdiff_t s, x, column
    for s in range(plan.kernel_w):
        x = s * plan.dilation_w
        if plan.phases == 1:
            at[s] = <int32_t>x
        else:   # tap s of output q is pixel q * stride + x
            x -= plan.left
            column = floor_div(x, plan.phases)
            at[s] = <int32_t>((x - column * plan.phases) * plan.phase + column)


cdef inline ptrdiff_t plane_flops(const PlanePlan* plan) noexcept nogil:
    return (2 * plan.images * plan.channels * plan.filters * plan.kernel_h * plan.kernel_w
            * plan.out_h * plan.out_w)


cdef int depthwise_planes(const fc_isa* isa, PlanePlan* plan, const real* x, const real* w,
                          const real* bias, real* out, int threads) except -1:
    cdef ptrdiff_t lanes, item, items, n_rows, pitch, parts
    cdef ptrdiff_t item_size = sizeof(real)
    if plan.width == 1:     # the stride of a single column says nothing
        plan.xw = 1
    if plan.out_w == 1:
        plan.ow = 1
    if plan.by_rows and plan.xw == 1 and plan.ow == 1:
        if plan.kernel_h != PAIRS_TAPS or plan.kernel_w != PAIRS_TAPS:
            return winograd_planes(isa, plan, x, w, bias, out, threads)
        # but not the colours of an image, whose taps are not beside each other
        plan.in_pairs = has_pairs(isa, x) and plan.dilation_w == 1 and 0 <= plan.left < PAIRS_TAPS
    if item_size == 4:
        lanes = isa.f32.lanes
    else:
        lanes = isa.f64.lanes
    if plane_flops(plan) < SERIAL_FLOPS:
        threads = 1
    plan_columns(plan, lanes, False)
    plan_rows(plan, item_size, threads)
    items = plan.images * plan.channels * plan.turns * plan.n_pb
    n_rows = (plan.pb - 1) * plan.step + plan.kernel_h
    # a row of zeros serves every region; with a stride taps may lie before it
    pitch = plan.lead + imax(plan.phases * plan.phase, plan.width)
    cdef size_t at_size = rounded(plan.kernel_w * sizeof(int32_t))
    plan.shared = at_size + rounded(pitch * item_size)
    plan.rows_size = rounded(n_rows * sizeof(real*))
    plan.slot = n_rows * plan.phases * plan.phase
    plan.x_size = rounded(plan.n_staged * plan.slot * item_size)
    plan.scratch = plan.rows_size + plan.x_size
    if plan.ow != 1:
        plan.scratch += rounded(plan.filters * plan.pb * plan.out_w * item_size)
    threads = <int>imin(threads, imax(items, 1))
    cdef Workspace space = take_workspace(plan.shared + threads * plan.scratch)
    cdef int32_t* at = <int32_t*>space.aligned()
    cdef real* zeros = <real*>(space.aligned() + at_size)
    cdef char* scratch = space.aligned() + plan.shared
    cdef uint64_t mode = fc_float_mode(), before
    # the memory that x lies in
    cdef const real* low = x
    cdef const real* high = x + 1
    cdef ptrdiff_t[4] span_of = [(plan.images - 1) * plan.xn, (plan.channels - 1) * plan.xc,
                                 (plan.height - 1) * plan.xh, (plan.width - 1) * plan.xw]
    for n_rows in span_of:
        low += imin(n_rows, 0)
        high += imax(n_rows, 0)
    with nogil:
        place_taps(plan, at)
        memset(zeros, 0, pitch * item_size)
        for item in range(threads):     # zeros around staged rows stay
            memset(scratch + item * plan.scratch + plan.rows_size, 0, plan.x_size)
        if plan.region[0].slot == BY_MASK:
            parts = imin(4 * threads, items)
            if threads == 1:
                masked_blocks(isa, plan, x, low, high, zeros + plan.lead, w, bias, out, 0, items, scratch)
            else:
                for item in prange(parts, num_threads=threads, schedule="static"):
                    before = fc_set_float_mode(mode)
                    masked_blocks(isa, plan, x, low, high, zeros + plan.lead, w, bias, out,
                                  item * items // parts, (item + 1) * items // parts,
                                  scratch + plan.scratch * threadid())
                    fc_set_float_mode(before)
        elif threads == 1:
            for item in range(items):
                depthwise_block(isa, plan, x, at, zeros + plan.lead, w, bias, out, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                depthwise_block(isa, plan, x, at, zeros + plan.lead, w, bias, out, item,
                                scratch + plan.scratch * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


cdef PlanePlan plan_planes(const Geometry* g) noexcept nogil:
    cdef PlanePlan plan
    memset(&plan, 0, sizeof(PlanePlan))
    plan.images, plan.channels, plan.filters = g.images, g.channels, g.filters // g.channels
    plan.kernel_h, plan.kernel_w = g.kernel_h, g.kernel_w
    plan.stride_h, plan.stride_w = g.stride_h, g.stride_w
    plan.dilation_h, plan.dilation_w = g.dilation_h, g.dilation_w
    plan.top, plan.left, plan.height, plan.width = g.top, g.left, g.height, g.width
    plan.out_h, plan.out_w = g.out_h, g.out_w
    return plan


cdef bint is_one_filter(const fc_isa* isa, const Geometry* g, const PlanePlan* plan, const real* w,
                        const real* bias) noexcept nogil:
    """Whether one filter goes over few channels that lie side by side, as over an image's colours."""
    cdef ptrdiff_t c, taps = g.kernel_h * g.kernel_w
    if (g.channels >= lanes_of(isa, <real*>NULL) or plan.xw != g.channels or plan.ow != g.channels
            or g.stride_w != 1 or g.kernel_w * g.dilation_w > INT32_MAX // g.channels):
        return False
    for c in range(1, g.channels):
        if memcmp(w, w + c * taps, taps * sizeof(real)) != 0:
            return False
        if bias != NULL and memcmp(bias, bias + c, sizeof(real)) != 0:
            return False
    return True


cdef int depthwise_on(const fc_isa* isa, const Geometry* g, PlanePlan plan, const real* x,
                      const real* w, const real* bias, real* out, int threads) except -1:
    if channels_adjoin(g.channels, g.filters, &plan.xn, &plan.on):
        if not is_one_filter(isa, g, &plan, w, bias):
            return channels_of(isa, g, False, x, &plan.xn, w, bias, out, &plan.on, plan.activation,
                               threads)
        # colours are then columns of one plane, on which the taps lie as many columns apart
        plan.width, plan.out_w = plan.width * g.channels, plan.out_w * g.channels
        plan.left, plan.dilation_w = plan.left * g.channels, plan.dilation_w * g.channels
        plan.channels, plan.xw, plan.ow = 1, 1, 1
    return depthwise_planes(isa, &plan, x, w, bias, out, threads)


cdef int depthwise_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, ::1] w,
                      const real[::1] bias, real[:, :, :, :] out, int activation, bint by_rows,
                      int isa, int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef PlanePlan plan
    cdef const real* first = NULL
    if bias is not None:
        first = &bias[0]
    plan = plan_planes(&g)
    plan.activation, plan.by_rows = activation, by_rows
    element_strides(x.strides, sizeof(real), &plan.xn)
    element_strides(out.strides, sizeof(real), &plan.on)
    return depthwise_on(isa_table(isa), &g, plan, &x[0, 0, 0, 0], &w[0, 0, 0, 0], first,
                        &out[0, 0, 0, 0], threads)


# The gradient with respect to the input, for one filter a channel.  At stride 1 it is a correlation of
# the output's gradient with the filter turned round.  Else input row h = u * stride + a - top meets
# the taps r = a + j * stride of output rows u - j.  A block is a range of u, with all residues a.  At
# stride 2 along the row, too, the kernel makes even and odd columns side by side; beyond, every residue
# b of the columns is a correlation with that part of the filter, and merge_rows puts them together.
cdef struct TurnedPlan:
    PlanePlan x         # of the output's gradient: how it is staged
    ptrdiff_t stride_h, stride_w, top, left, height, width      # of the input
    ptrdiff_t n_u, n_v, taps_h, taps_w                          # taps of residue 0, the most
    bint spread                                                 # by the kernel for stride 2
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


cdef inline void spread_rows(const fc_isa* isa, const TurnedPlan* plan, ptrdiff_t taps,
                             ptrdiff_t rows, const real** x, const real* w, ptrdiff_t w_row, real* y,
                             ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.spread_rows(taps, plan.x.kernel_w, rows, plan.width, x, plan.left, w, w_row, y, y_pitch)
    else:
        isa.f64.spread_rows(taps, plan.x.kernel_w, rows, plan.width, x, plan.left, w, w_row, y, y_pitch)


cdef void turned_block(const fc_isa* isa, TurnedPlan* plan, const real* dy, const int32_t* at,
                       const real* zeros, const real* w, real* dx, ptrdiff_t item,
                       char* scratch) noexcept nogil:
    """One channel's input rows of a block of u."""
    cdef PlanePlan* xp = &plan.x
    cdef const real** row = <const real**>scratch
    cdef real* xs = <real*>(scratch + xp.rows_size)
    cdef real* ys = <real*>(scratch + xp.rows_size + xp.x_size)
    cdef real* line = <real*>(scratch + xp.rows_size + xp.x_size + plan.y_size)
    cdef ptrdiff_t u0 = item % xp.n_pb * xp.pb
    cdef ptrdiff_t c = item // xp.n_pb % xp.channels
    cdef ptrdiff_t image = item // xp.n_pb // xp.channels
    cdef ptrdiff_t rows = imin(xp.pb, plan.n_u - u0), a, b, u, h, q, taps_h, taps_w, size, shift
    cdef ptrdiff_t first = u0 - (plan.taps_h - 1), n_rows = rows + plan.taps_h - 1, i, begin, end
    cdef const real* w_part = w
    cdef real* to
    span(first, 1, xp.height, n_rows, &begin, &end)
    split_plane(isa, end - begin, xp.width, 1,
                dy + image * xp.xn + c * xp.xc + (first + begin) * xp.xh, xp.xh, xp.xw, xs + xp.lead,
                xp.phase)
    shift = xp.lead if plan.spread else xp.lead - (plan.taps_w - 1)
    for i in range(n_rows):
        row[i] = zeros + shift
    for i in range(begin, end):
        row[i] = xs + shift + (i - begin) * xp.phase
    for a in range(plan.stride_h):
        taps_h = residue_taps(xp.kernel_h, a, plan.stride_h)
        if plan.spread:
            # the rows that lie in the plane
            span(u0 * plan.stride_h + a - plan.top, plan.stride_h, plan.height, rows, &begin, &end)
            u = (u0 + begin) * plan.stride_h + a - plan.top
            spread_rows(isa, plan, taps_h, end - begin, row + begin + plan.taps_h - taps_h,
                        w + (c * xp.kernel_h + a + (taps_h - 1) * plan.stride_h) * xp.kernel_w,
                        -plan.stride_h * xp.kernel_w, dx + image * xp.on + c * xp.oc + u * xp.oh,
                        plan.stride_h * xp.oh)
            continue
        for b in range(plan.stride_w):
            taps_w = residue_taps(xp.kernel_w, b, plan.stride_w)
            size = taps_h * taps_w
            to = ys + b * rows * plan.y_pitch
            if size:
                depthwise_rows(isa, 1, 1, taps_h, taps_w, rows, plan.n_v, row + plan.taps_h - taps_h,
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
                merge_row(isa, plan, ys + u * plan.y_pitch, rows * plan.y_pitch, line)
                for q in range(plan.width):
                    to[q * xp.ow] = line[q]


cdef void turn_filters(const Geometry* g, const real* w, real* parts) noexcept nogil:
    """For each residue (a, b) of the stride the filters' taps a, a + stride, ... by b, b + stride,
    ..., the last ones first."""
    cdef ptrdiff_t a, b, c, r, s
    for a in range(g.stride_h):
        for b in range(g.stride_w):
            for c in range(g.channels):
                for r in range(residue_taps(g.kernel_h, a, g.stride_h) - 1, -1, -1):
                    for s in range(residue_taps(g.kernel_w, b, g.stride_w) - 1, -1, -1):
                        parts[0] = w[(c * g.kernel_h + a + r * g.stride_h) * g.kernel_w
                                     + b + s * g.stride_w]
                        parts += 1


cdef int depthwise_input_of(tuple fields, const real[:, :, :, :] dy,
                            const real[:, :, :, ::1] weight, real[:, :, :, :] dx, bint by_rows,
                            int isa_index, int threads) except -1:
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
    xp.dilation_h, xp.dilation_w = g.dilation_h, g.dilation_w
    xp.height, xp.width = g.out_h, g.out_w
    element_strides(dy.strides, sizeof(real), &xp.xn)
    element_strides(dx.strides, sizeof(real), &xp.on)
    if channels_adjoin(g.channels, g.filters, &xp.xn, &xp.on):
        return channels_of(isa, &g, True, &dy[0, 0, 0, 0], &xp.xn, &weight[0, 0, 0, 0],
                           <const real*>NULL, &dx[0, 0, 0, 0], &xp.on, 0, threads)
    cdef Workspace turned = take_workspace(g.channels * g.kernel_h * g.kernel_w * sizeof(real))
    cdef const real* w = &weight[0, 0, 0, 0]
    cdef real* parts = <real*>turned.aligned()
    plan.spread = g.stride_w == 2 and xp.ow == 1
    if not plan.spread:
        turn_filters(&g, w, parts)
        w = parts
    if g.stride_h == 1 and g.stride_w == 1:
        xp.top = (g.kernel_h - 1) * g.dilation_h - g.top
        xp.left = (g.kernel_w - 1) * g.dilation_w - g.left
        xp.out_h, xp.out_w, xp.by_rows = g.height, g.width, by_rows
        depthwise_planes(isa, xp, &dy[0, 0, 0, 0], w, <const real*>NULL, &dx[0, 0, 0, 0],
                         threads)
        give_workspace(turned, threads)
        return 0
    plan.stride_h, plan.stride_w, plan.top, plan.left = g.stride_h, g.stride_w, g.top, g.left
    plan.height, plan.width = g.height, g.width
    plan.taps_h = residue_taps(g.kernel_h, 0, g.stride_h)
    plan.taps_w = residue_taps(g.kernel_w, 0, g.stride_w)
    plan.n_u = (g.height - 1 + g.top) // g.stride_h + 1
    plan.n_v = (g.width - 1 + g.left) // g.stride_w + 1
    plan.y_pitch = ceil_div(plan.n_v, lanes) * lanes + 2 * lanes
    xp.lead = ceil_div(plan.taps_w - 1, lanes) * lanes
    xp.phase = xp.lead + ceil_div(imax(plan.n_v, g.out_w), lanes) * lanes
    if plan.spread:
        xp.phase = xp.lead + ceil_div(imax(ceil_div(g.width, 2 * lanes) * lanes + (g.left + 1) // 2,
                                           g.out_w), lanes) * lanes
    xp.pb = PLANE_BYTES // <ptrdiff_t>sizeof(real) // xp.phase - plan.taps_h
    items = xp.images * xp.channels
    if 2 * items * g.kernel_h * g.kernel_w * g.out_h * g.out_w < SERIAL_FLOPS:
        threads = 1
    if items < 4 * threads:
        xp.pb = imin(xp.pb, ceil_div(plan.n_u, ceil_div(4 * threads, imax(items, 1))))
    xp.pb = ceil_div(block_of(plan.n_u, imax(xp.pb, 8)), 4) * 4
    xp.n_pb = ceil_div(plan.n_u, xp.pb)
    items *= xp.n_pb
    cdef size_t at_size = rounded(plan.taps_w * sizeof(int32_t))
    xp.shared = at_size + rounded(xp.phase * sizeof(real))
    xp.rows_size = rounded((xp.pb + plan.taps_h - 1) * sizeof(real*))
    xp.x_size = rounded((xp.pb + plan.taps_h - 1) * xp.phase * sizeof(real))
    plan.y_size = 0 if plan.spread else rounded(g.stride_w * xp.pb * plan.y_pitch * sizeof(real))
    plan.row_size = rounded(plan.width * sizeof(real)) if xp.ow != 1 else 0
    xp.scratch = xp.rows_size + xp.x_size + plan.y_size + plan.row_size
    threads = <int>imin(threads, imax(items, 1))
    cdef Workspace space = take_workspace(xp.shared + threads * xp.scratch)
    cdef int32_t* at = <int32_t*>space.aligned()
    cdef real* zeros = <real*>(space.aligned() + at_size)
    cdef char* scratch = space.aligned() + xp.shared
    cdef const real* from_dy = &dy[0, 0, 0, 0]
    cdef real* to = &dx[0, 0, 0, 0]
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        for s in range(plan.taps_w):
            at[s] = <int32_t>s
        memset(zeros, 0, xp.phase * sizeof(real))
        for item in range(threads):
            memset(scratch + item * xp.scratch + xp.rows_size, 0, xp.x_size)
        if threads == 1:
            for item in range(items):
                turned_block(isa, &plan, from_dy, at, zeros, w, to, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                turned_block(isa, &plan, from_dy, at, zeros, w, to, item,
                             scratch + xp.scratch * threadid())
                fc_set_float_mode(before)
    give_workspace(turned, threads)
    give_workspace(space, threads)
    return 0


# The gradient with respect to the weight: inner products of rows of the output's gradient, where they
# lie, with rows of the input, staged.  Within a phase of the stride input row k meets tap m by output
# row k - m, so that a `dot` tile of taps by taps loads each row once for all of them.  Where planes are
# few, their blocks are summed in a number of parts that only the shape decides.
cdef enum:
    WEIGHT_PARTS = 16


cdef struct PlaneWeightPlan:
    PlanePlan x
    ptrdiff_t yn, yc, yh, yw
    ptrdiff_t lanes, y_pitch, n_parts
    int dot_m
    int dot_v[7]
    size_t acc_size, y_size, scratch


cdef void plane_weight_block(const fc_isa* isa, const PlaneWeightPlan* plan, const int32_t* at,
                             const real* x, const real* dy, ptrdiff_t y_row, ptrdiff_t rows,
                             real* acc) noexcept nogil:
    """Adds one filter's products over a block of rows to acc, tile by tile."""
    cdef const PlanePlan* xp = &plan.x
    cdef ptrdiff_t pitch = xp.phases * xp.phase, f, taps, m0, m, v0, v, k, low, high, same
    for f in range(imin(xp.step, xp.kernel_h)):
        taps = ceil_div(xp.kernel_h - f, xp.step)
        m0 = 0
        while m0 < taps:
            m = imin(plan.dot_m, taps - m0)
            v0 = 0
            while v0 < xp.kernel_w:
                v = imin(plan.dot_v[m], xp.kernel_w - v0)
                k = 0
                while k < rows + m - 1:
                    low, high = imax(k - rows + 1, 0), imin(m, k + 1)   # taps that row k meets
                    same = rows - m + 1 if high - low == m else 1
                    dot(isa, high - low, v, same, xp.out_w, dy + (k - low) * y_row, y_row, -y_row,
                        x + (f + (m0 + k) * xp.step) * pitch, xp.step * pitch, at + v0,
                        plan.lanes, acc + low * v * plan.lanes)
                    k += same
                acc += m * v * plan.lanes
                v0 += v
            m0 += m


cdef void plane_weight_finish(const fc_isa* isa, const PlaneWeightPlan* plan, real* acc,
                              real* dw) noexcept nogil:
    """The sums of acc's lanes, in their place in the filter."""
    cdef const PlanePlan* xp = &plan.x
    cdef ptrdiff_t f, taps, m0, m, v0, v, i
    sum_lanes(isa, xp.kernel_h * xp.kernel_w, acc, acc)
    for f in range(imin(xp.step, xp.kernel_h)):
        taps = ceil_div(xp.kernel_h - f, xp.step)
        m0 = 0
        while m0 < taps:
            m = imin(plan.dot_m, taps - m0)
            v0 = 0
            while v0 < xp.kernel_w:
                v = imin(plan.dot_v[m], xp.kernel_w - v0)
                for i in range(m):
                    memcpy(dw + (f + (m0 + i) * xp.step) * xp.kernel_w + v0, acc, v * sizeof(real))
                    acc += v
                v0 += v
            m0 += m


cdef void plane_weight_part(const fc_isa* isa, const PlaneWeightPlan* plan, const int32_t* at,
                            const real* x, const real* dy, real* dw, ptrdiff_t item,
                            char* scratch) noexcept nogil:
    """A part of the sums of all filters of one channel."""
    cdef const PlanePlan* xp = &plan.x
    cdef real* acc = <real*>scratch
    cdef real* xs = <real*>(scratch + plan.acc_size)
    cdef real* ys = <real*>(scratch + plan.acc_size + xp.x_size)
    cdef ptrdiff_t c = item // plan.n_parts, part = item % plan.n_parts
    cdef ptrdiff_t blocks = xp.images * xp.turns * xp.n_pb, block, end_block, image, turn, p0
    cdef ptrdiff_t taps = xp.kernel_h * xp.kernel_w, pitch = xp.phases * xp.phase
    cdef ptrdiff_t rows, n_rows, first, begin, end, k, y_row
    cdef const real* a
    block, end_block = part * blocks // plan.n_parts, (part + 1) * blocks // plan.n_parts
    memset(acc, 0, plan.acc_size)
    while block < end_block:
        image = block // xp.n_pb // xp.turns
        turn = block // xp.n_pb % xp.turns
        p0 = block % xp.n_pb * xp.pb
        block += 1
        if xp.n_pb * xp.turns == 1 and block < end_block:   # too short for a processor to fetch ahead
            fc_fetch(<const char*>(x + block * xp.xn + c * xp.xc),
                     imin(xp.height * xp.xh * <ptrdiff_t>sizeof(real), PLANE_BYTES))
            fc_fetch(<const char*>(dy + block * plan.yn + c * xp.filters * plan.yc),
                     imin(xp.out_h * plan.yh * <ptrdiff_t>sizeof(real), PLANE_BYTES))
        rows = imin(xp.pb, ceil_div(xp.out_h - turn, xp.turns) - p0)
        if rows <= 0:
            continue
        p0 = turn + p0 * xp.turns
        n_rows = (rows - 1) * xp.step + xp.kernel_h
        first = p0 * xp.stride_h - xp.top
        span(first, xp.dilation_h, xp.height, n_rows, &begin, &end)
        memset(xs, 0, begin * pitch * sizeof(real))
        memset(xs + end * pitch, 0, (n_rows - end) * pitch * sizeof(real))
        split_plane(isa, end - begin, xp.width, xp.phases,
                    x + image * xp.xn + c * xp.xc + (first + begin * xp.dilation_h) * xp.xh,
                    xp.dilation_h * xp.xh, xp.xw, xs + begin * pitch + xp.lead, xp.phase)
        for k in range(xp.filters):
            a = dy + image * plan.yn + (c * xp.filters + k) * plan.yc + p0 * plan.yh
            y_row = xp.turns * plan.yh
            if plan.yw != 1:
                split_plane(isa, rows, xp.out_w, 1, a, y_row, plan.yw, ys, plan.y_pitch)
                a = ys
                y_row = plan.y_pitch
            plane_weight_block(isa, plan, at, xs + xp.lead + xp.region[0].base, a, y_row, rows,
                               acc + k * taps * plan.lanes)
    for k in range(xp.filters):
        plane_weight_finish(isa, plan, acc + k * taps * plan.lanes,
                            dw + (part * xp.channels + c) * xp.filters * taps + k * taps)


cdef int depthwise_weight_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, :] dy,
                             real[:, :, :, ::1] dw, int isa_index, int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef Geometry g = read_geometry(fields)
    cdef PlaneWeightPlan plan
    cdef PlanePlan* xp = &plan.x
    cdef ptrdiff_t items, item, n_rows, taps, size, i
    plan.x = plan_planes(&g)
    if sizeof(real) == 4:
        plan.lanes, plan.dot_m = isa.f32.lanes, isa.f32.dot_m
        memcpy(plan.dot_v, isa.f32.dot_v, sizeof(plan.dot_v))
    else:
        plan.lanes, plan.dot_m = isa.f64.lanes, isa.f64.dot_m
        memcpy(plan.dot_v, isa.f64.dot_v, sizeof(plan.dot_v))
    element_strides(x.strides, sizeof(real), &xp.xn)
    element_strides(dy.strides, sizeof(real), &plan.yn)
    if channels_adjoin(g.channels, g.filters, &xp.xn, &plan.yn):
        return channels_weight_of(isa, &g, &x[0, 0, 0, 0], &xp.xn, &dy[0, 0, 0, 0], &plan.yn,
                                  &dw[0, 0, 0, 0], threads)
    plan_columns(xp, plan.lanes, True)
    plan_rows(xp, sizeof(real), 0)      # not by the threads: the bits may not depend on them
    taps = g.kernel_h * g.kernel_w
    size = xp.channels * xp.filters * taps
    plan.n_parts = imin(ceil_div(WEIGHT_PARTS, xp.channels), xp.images * xp.turns * xp.n_pb)
    if 2 * xp.images * size * xp.out_h * xp.out_w < SERIAL_FLOPS:
        plan.n_parts = threads = 1
    items = xp.channels * plan.n_parts
    threads = <int>imin(threads, items)
    n_rows = (xp.pb - 1) * xp.step + xp.kernel_h
    plan.y_pitch = ceil_div(xp.out_w, plan.lanes) * plan.lanes
    plan.acc_size = rounded(xp.filters * taps * plan.lanes * sizeof(real))
    xp.x_size = rounded(n_rows * xp.phases * xp.phase * sizeof(real))
    plan.y_size = rounded(xp.pb * plan.y_pitch * sizeof(real)) if plan.yw != 1 else 0
    plan.scratch = plan.acc_size + xp.x_size + plan.y_size
    cdef size_t at_size = rounded(xp.kernel_w * sizeof(int32_t)), sums_size = 0
    if plan.n_parts > 1:
        sums_size = rounded(plan.n_parts * size * sizeof(real))
    cdef Workspace space = take_workspace(at_size + sums_size + threads * plan.scratch)
    cdef int32_t* at = <int32_t*>space.aligned()
    cdef real* to = &dw[0, 0, 0, 0]
    cdef real* sums = <real*>(space.aligned() + at_size) if plan.n_parts > 1 else to
    cdef char* scratch = space.aligned() + at_size + sums_size
    cdef const real* x_at = &x[0, 0, 0, 0]
    cdef const real* dy_at = &dy[0, 0, 0, 0]
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        place_taps(xp, at)
        for item in range(threads):
            memset(scratch + item * plan.scratch + plan.acc_size, 0, xp.x_size)
        if threads == 1:
            for item in range(items):
                plane_weight_part(isa, &plan, at, x_at, dy_at, sums, item, scratch)
        else:
            for item in prange(items, num_threads=threads, schedule="static"):
                before = fc_set_float_mode(mode)
                plane_weight_part(isa, &plan, at, x_at, dy_at, sums, item,
                                  scratch + plan.scratch * threadid())
                fc_set_float_mode(before)
        if plan.n_parts > 1:
            memcpy(to, sums, size * sizeof(real))
            for item in range(1, plan.n_parts):
                for i in range(size):
                    to[i] += sums[item * size + i]
    give_workspace(space, threads)
    return 0


def depthwise(tuple geometry, x, weight, bias, out, int activation, bint by_rows, int isa,
              int threads):
    """conv2d with one input channel a group.

    `by_rows`: by Winograd's algorithm where pixels of a row are neighbours in both arrays; stride 1,
    row dilation 1.
    """
    if out.itemsize == 4:
        depthwise_of[float](geometry, x, weight, bias, out, activation, by_rows, isa, threads)
    else:
        depthwise_of[double](geometry, x, weight, bias, out, activation, by_rows, isa, threads)


def depthwise_input(tuple geometry, grad_output, weight, out, bint by_rows, int isa, int threads):
    """conv2d_input with one filter a channel; where the stride is not 1, dilation 1."""
    if out.itemsize == 4:
        depthwise_input_of[float](geometry, grad_output, weight, out, by_rows, isa, threads)
    else:
        depthwise_input_of[double](geometry, grad_output, weight, out, by_rows, isa, threads)


def depthwise_weight(tuple geometry, x, grad_output, out, int isa, int threads):
    """conv2d_weight with one input channel a group."""
    if out.itemsize == 4:
        depthwise_weight_of[float](geometry, x, grad_output, out, isa, threads)
    else:
        depthwise_weight_of[double](geometry, x, grad_output, out, isa, threads)
