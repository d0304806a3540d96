"""Drivers of everything that works plane by plane or element by element: pooling, activations, sums.

Threads share out planes, or rows of planes where there are few; each output element is computed by
one thread in one way, so the bits do not depend on their number.
"""

from cython.parallel cimport prange, threadid
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc

from numpy import empty, ndarray

from fastconv._arrays import FLOAT32, FLOAT64, LARGE, empty as empty_aligned

from fastconv.backends.native._dispatch cimport (
    FC_MAX_LANES, Call, fc_float_mode, fc_flush_denormals, fc_isa, fc_pool, fc_pool_scratch, fc_set_float_mode,
    fc_soft_pool_scratch, isa_table)
from fastconv.backends.native._views cimport View, is_contiguous, is_like, look_at, overlap

ctypedef fused real:
    float
    double

cdef enum:
    SERIAL_BYTES = 131072   # less traffic than this: starting threads costs more than they save
    CHUNK = 8192            # elements an elementwise task works on: both sides stay in L1
    STRIDED = 512           # elements brought together where they do not lie side by side

KINDS = {"relu": 0, "sigmoid": 1, "tanh": 2}


# One side of a pooling: where an array of planes lies, in elements.
cdef struct Planes:
    ptrdiff_t images, channels, image, channel, row, col


cdef Planes planes_of(const Py_ssize_t* shape, const Py_ssize_t* strides,
                      ptrdiff_t item) noexcept nogil:
    return Planes(shape[0], shape[1], strides[0] // item, strides[1] // item,
                  strides[2] // item, strides[3] // item)


cdef inline ptrdiff_t plane_at(const Planes* p, ptrdiff_t i) noexcept nogil:
    """Offset of plane i, counting channels fastest."""
    return i // p.channels * p.image + i % p.channels * p.channel


cdef fc_pool read_pool(tuple geometry) except *:
    cdef fc_pool g
    cdef ptrdiff_t images, channels
    (images, channels, g.height, g.width, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, g.top,
     g.left, g.dilation_h, g.dilation_w, g.out_h, g.out_w) = geometry
    return g


cdef inline int team(ptrdiff_t bytes, int threads) noexcept nogil:
    return 1 if bytes < SERIAL_BYTES else threads


cdef inline ptrdiff_t row_blocks(ptrdiff_t planes, ptrdiff_t rows, int threads) noexcept nogil:
    """Pieces that each plane is cut into, so that there is work for all."""
    cdef ptrdiff_t pieces
    if threads == 1 or planes >= 4 * threads or planes == 0:
        return 1
    pieces = (4 * threads + planes - 1) // planes
    return pieces if pieces < rows else (rows if rows > 0 else 1)


cdef void* scratch_for(size_t elements, size_t item, int threads) except NULL:
    cdef void* scratch = malloc(threads * elements * item)
    if scratch == NULL:
        raise MemoryError("no memory for the row buffers of a pooling")
    return scratch


# --- maximum and minimum -------------------------------------------------------------------------------------

cdef void negate(const fc_isa* isa, ptrdiff_t rows, ptrdiff_t n, const real* x, ptrdiff_t x_row,
                 ptrdiff_t x_col, real* y, ptrdiff_t y_row, ptrdiff_t y_col) noexcept nogil:
    cdef ptrdiff_t i, j
    if x_row == n and y_row == n and x_col == 1 and y_col == 1:
        rows, n = 1, rows * n
    for i in range(rows):
        if x_col != 1 or y_col != 1:
            for j in range(n):
                y[j * y_col] = -x[j * x_col]
        elif real is float:
            isa.f32.negate(n, x, y)
        else:
            isa.f64.negate(n, x, y)
        x += x_row
        y += y_row


cdef ptrdiff_t minima_rows(const fc_pool* g) noexcept nogil:
    """Rows of the output whose input, negated, stays in L1; one at least."""
    cdef ptrdiff_t room = CHUNK // 2 // g.width - (g.kernel_h - 1) * g.dilation_h - 1
    return room // g.stride_h + 1 if room > 0 else 1


cdef ptrdiff_t extreme_scratch(bint minimum, const fc_pool* g) noexcept nogil:
    """Elements of scratch that extreme_rows needs."""
    if not minimum:
        return fc_pool_scratch(g)
    # the kernels read whole vectors where a plane goes on
    return fc_pool_scratch(g) + FC_MAX_LANES + g.width * (
        (minima_rows(g) - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1)


cdef void minimum_rows(const fc_isa* isa, const fc_pool* g, ptrdiff_t first, ptrdiff_t last,
                       const real* x, const Planes* xp, real* y, const Planes* yp, int64_t* at,
                       real* scratch) noexcept nogil:
    """Rows of a plane: the maxima of what is negated."""
    cdef ptrdiff_t end, h, below
    cdef real* minus = scratch + fc_pool_scratch(g)
    cdef Planes packed = xp[0]
    packed.row, packed.col = g.width, 1
    while first < last:
        end = first + minima_rows(g)
        end = end if end < last else last
        h = first * g.stride_h - g.top
        h = h if h > 0 else 0
        below = (end - 1) * g.stride_h - g.top + (g.kernel_h - 1) * g.dilation_h + 1
        below = below if below < g.height else g.height
        negate(isa, below - h, g.width, x + h * xp.row, xp.row, xp.col, minus, g.width, 1)
        extreme_rows(isa, False, g, first, end, minus - h * g.width, &packed, y, yp, at, scratch)
        negate(isa, end - first, g.out_w, y + first * yp.row, yp.row, yp.col, y + first * yp.row,
               yp.row, yp.col)
        first = end


cdef void extreme_rows(const fc_isa* isa, bint minimum, const fc_pool* g, ptrdiff_t first,
                       ptrdiff_t last, const real* x, const Planes* xp, real* y, const Planes* yp,
                       int64_t* at, real* scratch) noexcept nogil:
    if minimum:
        minimum_rows(isa, g, first, last, x, xp, y, yp, at, scratch)
        return
    if real is float:
        if at == NULL:
            isa.f32.max_pool(g, first, last, x, xp.row, xp.col, y, yp.row, yp.col, scratch)
        else:
            isa.f32.max_pool_at(g, first, last, x, xp.row, xp.col, y, yp.row, yp.col, at, scratch)
    else:
        if at == NULL:
            isa.f64.max_pool(g, first, last, x, xp.row, xp.col, y, yp.row, yp.col, scratch)
        else:
            isa.f64.max_pool_at(g, first, last, x, xp.row, xp.col, y, yp.row, yp.col, at, scratch)


cdef inline bint is_packed(const Planes* p, ptrdiff_t height, ptrdiff_t width) noexcept nogil:
    """Whether planes lie one behind the other; the stride of a single row says nothing."""
    return ((width == 1 or p.col == 1) and (height == 1 or p.row == width)
            and (p.channels == 1 or p.channel == height * width)
            and (p.images == 1 or p.image == p.channels * height * width))


cdef void join_planes(const fc_isa* isa, ptrdiff_t item, fc_pool* g, Planes* xp, Planes* yp) noexcept nogil:
    """Small planes that windows tile, as one: rows of less than a vector, or one window each."""
    cdef ptrdiff_t planes = xp.images * xp.channels
    cdef ptrdiff_t lanes = isa.f32.lanes if item == 4 else isa.f64.lanes
    if (g.top or g.left or g.dilation_h != 1 or g.dilation_w != 1 or g.out_w >= lanes
            or not is_packed(xp, g.height, g.width) or not is_packed(yp, g.out_h, g.out_w)):
        return
    if is_one_window(g) and g.height * g.width >= lanes and g.height * g.width > 2:
        g.width *= g.height
        g.kernel_w = g.stride_w = g.width
        g.height = g.kernel_h = g.stride_h = 1
    elif g.kernel_h > g.stride_h or g.height != g.out_h * g.stride_h:
        return
    g.height *= planes
    g.out_h *= planes
    xp.images = xp.channels = yp.images = yp.channels = 1
    xp.row, yp.row, xp.col, yp.col = g.width, g.out_w, 1, 1


cdef int extreme_of(bint minimum, tuple geometry, const real[:, :, :, :] x,
                    real[:, :, :, :] y, int64_t[:, :, :, ::1] indices, int isa_index,
                    int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g = read_pool(geometry)
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef Planes yp = planes_of(y.shape, y.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, item, pieces, plane, piece, pixels
    cdef const real* x0 = &x[0, 0, 0, 0]
    cdef real* y0 = &y[0, 0, 0, 0]
    cdef int64_t* at = NULL
    if indices is not None:
        at = &indices[0, 0, 0, 0]
    pixels = g.out_h * g.out_w
    threads = team(planes * g.height * g.width * sizeof(real), threads)
    if at == NULL and not minimum:
        join_planes(isa, sizeof(real), &g, &xp, &yp)
        planes = xp.images * xp.channels
    pieces = row_blocks(planes, g.out_h, threads)
    cdef ptrdiff_t each = extreme_scratch(minimum, &g)
    cdef real* scratch = <real*>scratch_for(each, sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for item in prange(planes * pieces, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        plane = item // pieces
        piece = item % pieces
        extreme_rows(isa, minimum, &g, piece * g.out_h // pieces,
                     (piece + 1) * g.out_h // pieces, x0 + plane_at(&xp, plane), &xp,
                     y0 + plane_at(&yp, plane), &yp, at + plane * pixels if at != NULL else NULL,
                     scratch + each * threadid())
        fc_set_float_mode(before)
    free(scratch)
    return 0


cdef ptrdiff_t max_unpool_of(const real[:, :, :, :] y, const int64_t[:, :, :, ::1] indices,
                             real[:, :, :, :] dx, int isa_index, int threads) except -2:
    """-1, or the flat place of the first index out of range."""
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g
    cdef Planes yp = planes_of(y.shape, y.strides, sizeof(real))
    cdef Planes xp = planes_of(dx.shape, dx.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, plane, pixels, wrong
    cdef const real* y0 = &y[0, 0, 0, 0]
    cdef real* dx0 = &dx[0, 0, 0, 0]
    cdef const int64_t* at = &indices[0, 0, 0, 0]
    cdef ptrdiff_t* bad = <ptrdiff_t*>malloc((planes + 1) * sizeof(ptrdiff_t))
    if bad == NULL:
        raise MemoryError("no memory for the check of the indices")
    g.height, g.width, g.out_h, g.out_w = dx.shape[2], dx.shape[3], y.shape[2], y.shape[3]
    g.kernel_h = g.kernel_w = g.stride_h = g.stride_w = g.dilation_h = g.dilation_w = 1
    g.top = g.left = 0
    pixels = g.out_h * g.out_w
    threads = team(planes * g.height * g.width * sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        if real is float:
            bad[plane] = isa.f32.max_unpool(&g, y0 + plane_at(&yp, plane), yp.row, yp.col,
                                            at + plane * pixels, g.out_w, 1,
                                            dx0 + plane_at(&xp, plane), xp.row, xp.col)
        else:
            bad[plane] = isa.f64.max_unpool(&g, y0 + plane_at(&yp, plane), yp.row, yp.col,
                                            at + plane * pixels, g.out_w, 1,
                                            dx0 + plane_at(&xp, plane), xp.row, xp.col)
        fc_set_float_mode(before)
    wrong = -1
    for plane in range(planes):
        if bad[plane] >= 0:
            wrong = plane * pixels + bad[plane]
            break
    free(bad)
    return wrong


# --- average -------------------------------------------------------------------------------------

cdef inline bint is_one_window(const fc_pool* g) noexcept nogil:
    return g.out_h == g.out_w == 1 and g.kernel_h == g.height and g.kernel_w == g.width


cdef inline ptrdiff_t mean_scratch(const fc_pool* g) noexcept nogil:
    """Elements of scratch that average_rows needs."""
    return fc_pool_scratch(g) + (g.height * g.width if is_one_window(g) else 0)


cdef void average_rows(const fc_isa* isa, bint backward, const fc_pool* g, ptrdiff_t first,
                       ptrdiff_t last, const real* x, const Planes* xp, const real* row_div,
                       const real* col_div, real scale, real* y, const Planes* yp,
                       real* scratch) noexcept nogil:
    cdef ptrdiff_t h, w
    cdef Planes packed = xp[0]
    if not backward and is_one_window(g) and (xp.col != 1 or xp.row != g.width):
        # packed, the kernel sums a plane in the order of its pixels: strides change no bits
        for h in range(g.height):
            for w in range(g.width):
                scratch[h * g.width + w] = x[h * xp.row + w * xp.col]
        packed.row, packed.col = g.width, 1
        x = scratch
        scratch += g.height * g.width
    if real is float:
        if backward:
            isa.f32.avg_unpool(g, first, last, x, packed.row, packed.col, row_div, col_div, scale, y,
                               yp.row, yp.col, scratch)
        else:
            isa.f32.avg_pool(g, first, last, x, packed.row, packed.col, row_div, col_div, scale, y,
                             yp.row, yp.col, scratch)
    else:
        if backward:
            isa.f64.avg_unpool(g, first, last, x, packed.row, packed.col, row_div, col_div, scale, y,
                               yp.row, yp.col, scratch)
        else:
            isa.f64.avg_pool(g, first, last, x, packed.row, packed.col, row_div, col_div, scale, y,
                             yp.row, yp.col, scratch)


def _scale(row_counts, col_counts, divisor):
    """1 / divisor where that is one power of two for all windows, else 0."""
    if divisor is None:
        rows, cols = set(row_counts), set(col_counts)
        if len(rows) != 1 or len(cols) != 1:
            return 0.0
        divisor = rows.pop() * cols.pop()
    return 1.0 / divisor if divisor > 0 and divisor & (divisor - 1) == 0 else 0.0


cdef void* divisors(size_t item, const fc_pool* g, row_counts, col_counts, divisor) except NULL:
    """Of g's rows, then of its columns; rows of planes that are joined are divided alike."""
    cdef ptrdiff_t i, n = g.out_h + g.out_w
    cdef void* div = malloc(n * item)
    cdef double count
    if div == NULL:
        raise MemoryError("no memory for the divisors of a pooling")
    for i in range(n):
        if i < g.out_h:
            count = (row_counts[i if i < len(row_counts) else 0] if divisor is None else divisor)
        else:
            count = col_counts[i - g.out_h] if divisor is None else 1
        if item == 4:
            (<float*>div)[i] = <float>count
        else:
            (<double*>div)[i] = count
    return div


cdef int average_of(bint backward, tuple geometry, row_counts, col_counts, divisor,
                    const real[:, :, :, :] x, real[:, :, :, :] y, int isa_index,
                    int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g = read_pool(geometry)
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef Planes yp = planes_of(y.shape, y.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, item, pieces, plane, piece, i
    cdef ptrdiff_t rows = g.height if backward else g.out_h
    cdef const real* x0 = &x[0, 0, 0, 0]
    cdef real* y0 = &y[0, 0, 0, 0]
    cdef real scale = _scale(row_counts, col_counts, divisor)
    threads = team(planes * g.height * g.width * sizeof(real), threads)
    if not backward:
        join_planes(isa, sizeof(real), &g, &xp, &yp)
        planes, rows = xp.images * xp.channels, g.out_h
    cdef real* div = <real*>divisors(sizeof(real), &g, row_counts, col_counts, divisor)
    pieces = row_blocks(planes, rows, threads)
    cdef ptrdiff_t each = mean_scratch(&g)
    cdef real* scratch
    try:
        scratch = <real*>scratch_for(each, sizeof(real), threads)
    except MemoryError:
        free(div)
        raise
    cdef uint64_t mode = fc_float_mode(), before
    for item in prange(planes * pieces, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        plane = item // pieces
        piece = item % pieces
        average_rows(isa, backward, &g, piece * rows // pieces, (piece + 1) * rows // pieces,
                     x0 + plane_at(&xp, plane), &xp, div, div + g.out_h, scale,
                     y0 + plane_at(&yp, plane), &yp, scratch + each * threadid())
        fc_set_float_mode(before)
    free(scratch)
    free(div)
    return 0


# --- poolings that come again --------------------------------------------------------------------

cdef enum:      # kinds of pooling
    MAXIMA = 0
    MINIMA = 1
    MEANS = 2


cdef void pool_planes(const fc_isa* isa, int kind, const fc_pool* g, const real* x,
                      const Planes* xp, const real* div, double scale, real* y, const Planes* yp,
                      real* scratch) noexcept nogil:
    cdef ptrdiff_t plane
    for plane in range(xp.images * xp.channels):
        if kind == MEANS:
            average_rows(isa, False, g, 0, g.out_h, x + plane_at(xp, plane), xp, div,
                         div + g.out_h, <real>scale, y + plane_at(yp, plane), yp, scratch)
        else:
            extreme_rows(isa, kind == MINIMA, g, 0, g.out_h, x + plane_at(xp, plane), xp,
                         y + plane_at(yp, plane), yp, <int64_t*>NULL, scratch)


cdef class Prepared(Call):
    """A pooling on one thread with all worked out but its arrays."""

    cdef const fc_isa* isa
    cdef int kind
    cdef bint flush
    cdef fc_pool g
    cdef Planes xp, yp
    cdef void* div              # divisors of rows, then of columns
    cdef double scale
    cdef tuple shape
    cdef object empty           # what makes a new result
    cdef object dtype

    def __dealloc__(self):
        free(self.div)

    cdef object run(self, const View* x, const View* w, bias, out):
        cdef View out_view
        cdef bint given = out is not None
        cdef void* scratch
        cdef uint64_t before
        if not given:
            out = self.empty(self.shape, self.dtype)
        look_at(out, &out_view)
        if (out_view.readonly or not is_like(&out_view, &self.out)
                or (<size_t>x.first | <size_t>out_view.first) % <size_t>self.x.item
                or (given and overlap(x, &out_view))):
            return None
        scratch = scratch_for(mean_scratch(&self.g) if self.kind == MEANS
                              else extreme_scratch(self.kind == MINIMA, &self.g), self.x.item, 1)
        before = fc_flush_denormals(self.flush)
        with nogil:
            if self.x.item == 4:
                pool_planes(self.isa, self.kind, &self.g, <const float*>x.first, &self.xp,
                            <const float*>self.div, self.scale, <float*>out_view.first, &self.yp,
                            <float*>scratch)
            else:
                pool_planes(self.isa, self.kind, &self.g, <const double*>x.first, &self.xp,
                            <const double*>self.div, self.scale, <double*>out_view.first,
                            &self.yp, <double*>scratch)
        fc_set_float_mode(before)
        free(scratch)
        return out


cdef Planes planes_in(const View* view, bint nhwc) noexcept nogil:
    cdef Py_ssize_t item = view.item
    if nhwc:
        return Planes(view.shape[0], view.shape[3], view.strides[0] // item,
                      view.strides[3] // item, view.strides[1] // item, view.strides[2] // item)
    return planes_of(view.shape, view.strides, item)


def prepare(int kind, tuple geometry, row_counts, col_counts, divisor, x, out, bint nhwc,
            bint flush, int isa_index, int threads):
    """A `Prepared` for such arrays, or None where the call is one for several threads, or empty.

    `kind` is 0 for maxima, 1 for minima, 2 for means.
    """
    cdef Prepared p = Prepared.__new__(Prepared)
    look_at(x, &p.x)
    look_at(out, &p.out)
    if p.x.size == 0:
        return None
    if threads > 1 and team(p.x.size, threads) > 1:
        return None
    p.isa, p.kind, p.flush = isa_table(isa_index), kind, flush
    p.g = read_pool(geometry)
    p.xp, p.yp = planes_in(&p.x, nhwc), planes_in(&p.out, nhwc)
    p.shape, p.dtype = out.shape, out.dtype
    p.empty = empty_aligned if out.nbytes >= LARGE else empty
    if kind != MINIMA:
        join_planes(p.isa, p.x.item, &p.g, &p.xp, &p.yp)
    if kind == MEANS:
        p.scale = _scale(row_counts, col_counts, divisor)
        p.div = divisors(p.x.item, &p.g, row_counts, col_counts, divisor)
    return p


# --- between mean and maximum ---------------------------------------------------------------------

cdef inline void soft_rows(const fc_isa* isa, const fc_pool* g, ptrdiff_t first, ptrdiff_t last,
                           const real* x, const Planes* xp, real beta, real* y, const Planes* yp,
                           real* scratch) noexcept nogil:
    if real is float:
        isa.f32.soft_pool(g, first, last, x, xp.row, xp.col, beta, y, yp.row, yp.col, scratch)
    else:
        isa.f64.soft_pool(g, first, last, x, xp.row, xp.col, beta, y, yp.row, yp.col, scratch)


cdef inline void soft_back(const fc_isa* isa, const fc_pool* g, const real* dy, const Planes* yp,
                           const real* x, const Planes* xp, real beta, real* dx, const Planes* dp,
                           real* scratch) noexcept nogil:
    if real is float:
        isa.f32.soft_unpool(g, dy, yp.row, yp.col, x, xp.row, xp.col, beta, dx, dp.row, dp.col,
                            scratch)
    else:
        isa.f64.soft_unpool(g, dy, yp.row, yp.col, x, xp.row, xp.col, beta, dx, dp.row, dp.col,
                            scratch)


cdef int soft_pool_of(tuple geometry, const real[:, :, :, :] x, double beta, real[:, :, :, :] y,
                      int isa_index, int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g = read_pool(geometry)
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef Planes yp = planes_of(y.shape, y.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, item, pieces, plane, piece
    cdef const real* x0 = &x[0, 0, 0, 0]
    cdef real* y0 = &y[0, 0, 0, 0]
    threads = team(planes * g.height * g.width * sizeof(real), threads)
    pieces = row_blocks(planes, g.out_h, threads)
    cdef ptrdiff_t each = fc_soft_pool_scratch(&g)
    cdef real* scratch = <real*>scratch_for(each, sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for item in prange(planes * pieces, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        plane = item // pieces
        piece = item % pieces
        soft_rows(isa, &g, piece * g.out_h // pieces, (piece + 1) * g.out_h // pieces,
                  x0 + plane_at(&xp, plane), &xp, <real>beta, y0 + plane_at(&yp, plane), &yp,
                  scratch + each * threadid())
        fc_set_float_mode(before)
    free(scratch)
    return 0


cdef int soft_unpool_of(tuple geometry, const real[:, :, :, :] dy, const real[:, :, :, :] x,
                        double beta, real[:, :, :, :] dx, int isa_index, int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g = read_pool(geometry)
    cdef Planes yp = planes_of(dy.shape, dy.strides, sizeof(real))
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef Planes dp = planes_of(dx.shape, dx.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, plane
    cdef const real* dy0 = &dy[0, 0, 0, 0]
    cdef const real* x0 = &x[0, 0, 0, 0]
    cdef real* dx0 = &dx[0, 0, 0, 0]
    threads = team(planes * g.height * g.width * sizeof(real), threads)
    cdef ptrdiff_t each = fc_soft_pool_scratch(&g)
    cdef real* scratch = <real*>scratch_for(each, sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        soft_back(isa, &g, dy0 + plane_at(&yp, plane), &yp, x0 + plane_at(&xp, plane), &xp,
                  <real>beta, dx0 + plane_at(&dp, plane), &dp, scratch + each * threadid())
        fc_set_float_mode(before)
    free(scratch)
    return 0


# --- patches -------------------------------------------------------------------------------------

cdef inline void inside(const fc_pool* g, ptrdiff_t s, ptrdiff_t* first,
                        ptrdiff_t* last) noexcept nogil:
    """The output columns whose tap s lies in the image."""
    cdef ptrdiff_t w = s * g.dilation_w - g.left
    first[0] = (-w + g.stride_w - 1) // g.stride_w if w < 0 else 0
    last[0] = (g.width - 1 - w) // g.stride_w + 1 if w < g.width else 0
    if last[0] > g.out_w:
        last[0] = g.out_w
    if first[0] > last[0]:
        first[0] = last[0]


cdef inline void take(const fc_isa* isa, ptrdiff_t n, const real* x, ptrdiff_t x_col,
                      ptrdiff_t stride, real* y) noexcept nogil:
    if real is float:
        isa.f32.take(n, x, x_col, stride, y)
    else:
        isa.f64.take(n, x, x_col, stride, y)


cdef inline void give(const fc_isa* isa, ptrdiff_t n, const real* y, real* x, ptrdiff_t x_col,
                      ptrdiff_t stride) noexcept nogil:
    if real is float:
        isa.f32.give(n, y, x, x_col, stride)
    else:
        isa.f64.give(n, y, x, x_col, stride)


cdef void unfold_plane(const fc_isa* isa, const fc_pool* g, const real* x, const Planes* xp,
                       real* y, ptrdiff_t y_tap, ptrdiff_t y_pixel) noexcept nogil:
    """y[tap][pixel] = x at that tap of that window, 0 outside."""
    cdef ptrdiff_t r, s, p, q, h, first = 0, last = 0
    cdef const real* x_q
    cdef real* y_p
    for r in range(g.kernel_h):
        for s in range(g.kernel_w):
            for p in range(g.out_h):
                h = p * g.stride_h - g.top + r * g.dilation_h
                y_p = y + (r * g.kernel_w + s) * y_tap + p * g.out_w * y_pixel
                inside(g, s, &first, &last)
                if h < 0 or h >= g.height:
                    first = last = g.out_w
                x_q = x + h * xp.row + (s * g.dilation_w - g.left + first * g.stride_w) * xp.col
                for q in range(first):
                    y_p[q * y_pixel] = 0
                if y_pixel == 1 and last > first:
                    take(isa, last - first, x_q, xp.col, g.stride_w, y_p + first)
                else:
                    for q in range(last - first):
                        y_p[(first + q) * y_pixel] = x_q[q * g.stride_w * xp.col]
                for q in range(last, g.out_w):
                    y_p[q * y_pixel] = 0


cdef void fold_plane(const fc_isa* isa, const fc_pool* g, const real* y, ptrdiff_t y_tap,
                     ptrdiff_t y_pixel, real* x, const Planes* xp) noexcept nogil:
    """x = sums of y[tap][pixel] over the windows and taps that lie on a pixel."""
    cdef ptrdiff_t r, s, p, q, h, first = 0, last = 0
    cdef real* x_q
    cdef const real* y_p
    for h in range(g.height):
        for q in range(g.width):
            x[h * xp.row + q * xp.col] = 0
    for r in range(g.kernel_h):
        for s in range(g.kernel_w):
            inside(g, s, &first, &last)
            if first == last:
                continue
            for p in range(g.out_h):
                h = p * g.stride_h - g.top + r * g.dilation_h
                if h < 0 or h >= g.height:
                    continue
                y_p = y + (r * g.kernel_w + s) * y_tap + (p * g.out_w + first) * y_pixel
                x_q = x + h * xp.row + (s * g.dilation_w - g.left + first * g.stride_w) * xp.col
                if y_pixel == 1:
                    give(isa, last - first, y_p, x_q, xp.col, g.stride_w)
                else:
                    for q in range(last - first):
                        x_q[q * g.stride_w * xp.col] += y_p[q * y_pixel]


cdef fc_pool read_patches(tuple geometry) except *:
    """The windows of a ConvSpec's geometry."""
    cdef fc_pool g
    cdef ptrdiff_t images, channels, filters, groups
    (images, channels, g.height, g.width, filters, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w,
     g.top, g.left, g.dilation_h, g.dilation_w, groups, g.out_h, g.out_w) = geometry
    return g


cdef int unfold_of(tuple geometry, const real[:, :, :, :] x, real[:, :, :] y,
                   int isa_index, int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g = read_patches(geometry)
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, taps = g.kernel_h * g.kernel_w, plane
    cdef ptrdiff_t image = y.strides[0] // <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t tap = y.strides[1] // <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t pixel = y.strides[2] // <ptrdiff_t>sizeof(real)
    cdef const real* x0 = &x[0, 0, 0, 0]
    cdef real* y0 = &y[0, 0, 0]
    threads = team(y.shape[0] * y.shape[1] * y.shape[2] * sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        unfold_plane(isa, &g, x0 + plane_at(&xp, plane), &xp,
                     y0 + plane // xp.channels * image + plane % xp.channels * taps * tap, tap,
                     pixel)
        fc_set_float_mode(before)
    return 0


cdef int fold_of(tuple geometry, const real[:, :, :] y, real[:, :, :, :] x,
                 int isa_index, int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef fc_pool g = read_patches(geometry)
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef ptrdiff_t planes = xp.images * xp.channels, taps = g.kernel_h * g.kernel_w, plane
    cdef ptrdiff_t image = y.strides[0] // <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t tap = y.strides[1] // <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t pixel = y.strides[2] // <ptrdiff_t>sizeof(real)
    cdef real* x0 = &x[0, 0, 0, 0]
    cdef const real* y0 = &y[0, 0, 0]
    threads = team(y.shape[0] * y.shape[1] * y.shape[2] * sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        fold_plane(isa, &g, y0 + plane // xp.channels * image + plane % xp.channels * taps * tap,
                   tap, pixel, x0 + plane_at(&xp, plane), &xp)
        fc_set_float_mode(before)
    return 0


# --- elementwise ---------------------------------------------------------------------------------

cdef inline void map_of(const fc_isa* isa, int kind, ptrdiff_t n, const real* x,
                        real* y) noexcept nogil:
    if real is float:
        if kind == 0:
            isa.f32.relu(n, x, y)
        elif kind == 1:
            isa.f32.sigmoid(n, x, y)
        else:
            isa.f32.tanh(n, x, y)
    else:
        if kind == 0:
            isa.f64.relu(n, x, y)
        elif kind == 1:
            isa.f64.sigmoid(n, x, y)
        else:
            isa.f64.tanh(n, x, y)


cdef inline void map_backward_of(const fc_isa* isa, int kind, ptrdiff_t n, const real* grad,
                                 const real* y, real* out) noexcept nogil:
    if real is float:
        if kind == 0:
            isa.f32.relu_backward(n, grad, y, out)
        elif kind == 1:
            isa.f32.sigmoid_backward(n, grad, y, out)
        else:
            isa.f32.tanh_backward(n, grad, y, out)
    else:
        if kind == 0:
            isa.f64.relu_backward(n, grad, y, out)
        elif kind == 1:
            isa.f64.sigmoid_backward(n, grad, y, out)
        else:
            isa.f64.tanh_backward(n, grad, y, out)


cdef inline void elements(const fc_isa* isa, int kind, ptrdiff_t n, const real* a, ptrdiff_t a_step,
                          const real* b, ptrdiff_t b_step, real* out,
                          ptrdiff_t out_step) noexcept nogil:
    """n elements of out from a, or (b given) from grad a and output b."""
    cdef real together[3 * STRIDED]
    cdef ptrdiff_t i = 0, j, here
    if a_step == 1 and out_step == 1 and (b == NULL or b_step == 1):
        if b == NULL:
            map_of(isa, kind, n, a, out)
        else:
            map_backward_of(isa, kind, n, a, b, out)
        return
    while i < n:
        here = n - i if n - i < STRIDED else STRIDED
        for j in range(here):
            together[j] = a[(i + j) * a_step]
        if b == NULL:
            map_of(isa, kind, here, &together[0], &together[2 * STRIDED])
        else:
            for j in range(here):
                together[STRIDED + j] = b[(i + j) * b_step]
            map_backward_of(isa, kind, here, &together[0], &together[STRIDED],
                            &together[2 * STRIDED])
        for j in range(here):
            out[(i + j) * out_step] = together[2 * STRIDED + j]
        i += STRIDED


cdef int line_of(int kind, const real[:] a, const real[:] b, real[:] out, int isa_index,
                 int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef ptrdiff_t n = out.shape[0], item, start, here
    cdef const real* a0 = &a[0]
    cdef const real* b0 = NULL
    cdef real* out0 = &out[0]
    cdef ptrdiff_t a_step = a.strides[0] // <ptrdiff_t>sizeof(real), b_step = 0
    cdef ptrdiff_t out_step = out.strides[0] // <ptrdiff_t>sizeof(real)
    if b is not None:
        b0 = &b[0]
        b_step = b.strides[0] // <ptrdiff_t>sizeof(real)
    threads = team(n * sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for item in prange((n + CHUNK - 1) // CHUNK, nogil=True, num_threads=threads,
                       schedule="static"):
        before = fc_set_float_mode(mode)
        start = item * CHUNK
        here = n - start if n - start < CHUNK else CHUNK
        elements(isa, kind, here, a0 + start * a_step, a_step,
                 b0 + start * b_step if b0 != NULL else NULL, b_step, out0 + start * out_step,
                 out_step)
        fc_set_float_mode(before)
    return 0


def _lines(int kind, a, b, out, int isa, int threads):
    """Arrays of any shape as lines: whole where they are contiguous, else slice by slice."""
    if out.size == 0:
        return
    if out.ndim == 0:
        a, b, out = a.reshape(1), None if b is None else b.reshape(1), out.reshape(1)
    elif (a.flags.c_contiguous and out.flags.c_contiguous
            and (b is None or b.flags.c_contiguous)):
        a, b, out = a.reshape(-1), None if b is None else b.reshape(-1), out.reshape(-1)
    if out.ndim > 1:
        for i in range(out.shape[0]):
            _lines(kind, a[i], None if b is None else b[i], out[i], isa, threads)
    elif out.itemsize == 4:
        line_of[float](kind, a, b, out, isa, threads)
    else:
        line_of[double](kind, a, b, out, isa, threads)


cdef int channel_sum_of(const real[:, :, :, :] x, real[::1] out, int isa_index,
                        int threads) except -1:
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef Planes xp = planes_of(x.shape, x.strides, sizeof(real))
    cdef ptrdiff_t k, height = x.shape[2], width = x.shape[3]
    cdef const real* x0 = &x[0, 0, 0, 0]
    threads = team(x.shape[0] * x.shape[1] * height * width * sizeof(real), threads)
    cdef uint64_t mode = fc_float_mode(), before
    for k in prange(xp.channels, nogil=True, num_threads=threads, schedule="static"):
        before = fc_set_float_mode(mode)
        out[k] = <real>channel_total(isa, x0 + k * xp.channel, &xp, height, width)
        fc_set_float_mode(before)
    return 0


cdef double channel_total(const fc_isa* isa, const real* x, const Planes* xp, ptrdiff_t height,
                          ptrdiff_t width) noexcept nogil:
    cdef double total = 0, line
    cdef ptrdiff_t n, h, w
    cdef const real* row
    cdef bint packed = xp.col == 1 and xp.row == width
    for n in range(xp.images):
        for h in range(1 if packed else height):
            row = x + n * xp.image + h * xp.row
            if xp.col == 1:
                if real is float:
                    total = total + isa.f32.sum(height * width if packed else width, row)
                else:
                    total = total + isa.f64.sum(height * width if packed else width, row)
            else:
                line = 0
                for w in range(width):
                    line = line + row[w * xp.col]
                total = total + line
    return total


# --- what Python calls ---------------------------------------------------------------------------

def extreme_pool2d(bint minimum, tuple geometry, x, out, indices, int isa, int threads):
    """out = maxima of x, or minima, and (indices not None) where they stood."""
    if out.itemsize == 4:
        extreme_of[float](minimum, geometry, x, out, indices, isa, threads)
    else:
        extreme_of[double](minimum, geometry, x, out, indices, isa, threads)


def max_pool2d_backward(grad, indices, out, int isa, int threads):
    """out = grad brought back to where the maxima stood."""
    cdef ptrdiff_t wrong
    if out.itemsize == 4:
        wrong = max_unpool_of[float](grad, indices, out, isa, threads)
    else:
        wrong = max_unpool_of[double](grad, indices, out, isa, threads)
    if wrong >= 0:
        raise ValueError(
            f"indices: expected values from 0 to {out.shape[2] * out.shape[3] - 1}, "
            f"got {indices.reshape(-1)[wrong]}"
        )


def avg_pool2d(tuple geometry, row_counts, col_counts, divisor, x, out, int isa, int threads):
    """out = means of x."""
    if out.itemsize == 4:
        average_of[float](False, geometry, row_counts, col_counts, divisor, x, out, isa, threads)
    else:
        average_of[double](False, geometry, row_counts, col_counts, divisor, x, out, isa, threads)


def avg_pool2d_backward(tuple geometry, row_counts, col_counts, divisor, grad, out, int isa,
                        int threads):
    """out = grad spread over the windows."""
    if out.itemsize == 4:
        average_of[float](True, geometry, row_counts, col_counts, divisor, grad, out, isa,
                          threads)
    else:
        average_of[double](True, geometry, row_counts, col_counts, divisor, grad, out, isa,
                           threads)


def softmax_pool2d(tuple geometry, x, double beta, out, int isa, int threads):
    """out = means of x, weighted by e^(beta x)."""
    if out.itemsize == 4:
        soft_pool_of[float](geometry, x, beta, out, isa, threads)
    else:
        soft_pool_of[double](geometry, x, beta, out, isa, threads)


def softmax_pool2d_backward(tuple geometry, grad, x, double beta, out, int isa, int threads):
    """out = gradient of softmax_pool2d."""
    if out.itemsize == 4:
        soft_unpool_of[float](geometry, grad, x, beta, out, isa, threads)
    else:
        soft_unpool_of[double](geometry, grad, x, beta, out, isa, threads)


def unfold(tuple geometry, x, out, int isa, int threads):
    """out = the patches of x."""
    if out.itemsize == 4:
        unfold_of[float](geometry, x, out, isa, threads)
    else:
        unfold_of[double](geometry, x, out, isa, threads)


def fold(tuple geometry, patches, out, int isa, int threads):
    """out = the patches added up where they came from."""
    if out.itemsize == 4:
        fold_of[float](geometry, patches, out, isa, threads)
    else:
        fold_of[double](geometry, patches, out, isa, threads)


def activation(str kind, x, out, int isa, int threads):
    """out = kind(x); kind is relu, sigmoid or tanh."""
    _lines(KINDS[kind], x, None, out, isa, threads)


cdef inline bint is_small(const View* view) noexcept nogil:
    """Whether an array is one short line that no threads would share."""
    return (view.axes <= 4 and 0 < view.size < SERIAL_BYTES and is_contiguous(view)
            and <size_t>view.first % <size_t>view.item == 0)


cdef class Activation:
    """One of small plain arrays: half of such a call's time is the way to its driver."""

    cdef int kind
    cdef const fc_isa* isa

    def __cinit__(self, str kind, int isa):
        self.kind, self.isa = KINDS[kind], isa_table(isa)

    def __call__(self, x, out):
        """The result, in `out` or a new array; None, with nothing done, for any other call."""
        cdef View x_view, out_view
        cdef int i
        if type(x) is not ndarray:
            return None
        dtype = x.dtype
        if dtype is not FLOAT32 and dtype is not FLOAT64:
            return None
        look_at(x, &x_view)
        if not is_small(&x_view):
            return None
        y = out
        if out is None:
            y = empty(x.shape, dtype)
        elif type(out) is not ndarray or out.dtype is not dtype:
            return None
        look_at(y, &out_view)
        if out_view.readonly or out_view.axes != x_view.axes or not is_small(&out_view):
            return None
        for i in range(x_view.axes):
            if x_view.shape[i] != out_view.shape[i]:
                return None
        if x_view.first != out_view.first and overlap(&x_view, &out_view):
            return None
        if x_view.item == 4:
            map_of[float](self.isa, self.kind, x_view.size // 4, <float*>x_view.first,
                          <float*>out_view.first)
        else:
            map_of[double](self.isa, self.kind, x_view.size // 8, <double*>x_view.first,
                           <double*>out_view.first)
        return y


def activation_backward(str kind, grad, y, out, int isa, int threads):
    """out = gradient through y = kind(x)."""
    _lines(KINDS[kind], grad, y, out, isa, threads)


def channel_sum(x, out, int isa, int threads):
    """out[k] = sum of x[:, k]."""
    if out.itemsize == 4:
        channel_sum_of[float](x, out, isa, threads)
    else:
        channel_sum_of[double](x, out, isa, threads)
