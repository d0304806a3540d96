"""Convolution drivers: blocking, packing and threads over the kernels of csrc/.

Three computations share one geometry.  Along each axis an output position p and a tap t meet at the
input position ``start + p * step + t * tap_step`` (`Axis`).  The forward pass is one such
correlation; the gradient with respect to the input is one for each residue of the output position
modulo the stride, with the taps that reach that residue (`input_axis`), or each tap adds its products
to the places that it reaches (`_panels_input.pxi`).

A block of the input is brought into a small scratch buffer, and a register tile reads it through
an offset table. There are four forms of it, by what is in the lanes of a vector:

ROWS     output pixels of a padded row     "direct", few filters; "pointwise", where the plane is one
                                           long row, few channels
LANES    images                            "direct", many small planes
PATCHES  output pixels, whose patches are  "im2col"; "pointwise", many pixels
         columns of k values (_patches.pxi)
PANELS   filters (_panels.pxi)             "direct" and "pointwise", many filters

Work is split over output tiles alone, never over a sum, so the bits do not depend on the number
of threads.  The scratch of a thread is bounded, whatever the size of the image.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport INT32_MAX, int32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastconv.backends.native._dispatch cimport (
    Call, FC_PANEL_M, FC_PANEL_TURN, FC_WINOGRAD_STRIP, fc_channels, fc_float_mode,
    fc_flush_denormals, fc_isa, fc_set_float_mode, is_halved, isa_table,
)
from fastconv.backends.native._views cimport View, is_contiguous, is_like, look_at, overlap

cdef extern from *:
    """
    #include <string.h>
    /* memcpy, which takes longer to begin than the rows of small planes take to copy */
    static inline void fc_copy_row(void *to, const void *from, size_t n) {
      char *y = (char *)to;
      const char *x = (const char *)from;
      if (n < 16 || n > 512) {
        memcpy(y, x, n);
        return;
      }
      for (size_t i = 0; i < n - 16; i += 16) memcpy(y + i, x + i, 16);
      memcpy(y + n - 16, x + n - 16, 16);
    }
    """
    void fc_copy_row(void* to, const void* from_, size_t n) nogil

cdef extern from *:
    """
    #include <stdint.h>
    #include <unistd.h>
    /* bytes of a core's second-level cache, within what processors have; 512 KiB if unknown */
    static inline ptrdiff_t fc_second_level(void) {
      long size = 0;
    #ifdef _SC_LEVEL2_CACHE_SIZE
      size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    #endif
      if (size <= 0) size = 1 << 19;
      return size < 1 << 18 ? 1 << 18 : size > 1 << 21 ? 1 << 21 : size;
    }
    /* the same of the first-level cache; 32 KiB if unknown */
    static inline ptrdiff_t fc_first_level(void) {
      long size = 0;
    #ifdef _SC_LEVEL1_DCACHE_SIZE
      size = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    #endif
      if (size <= 0) size = 1 << 15;
      return size < 1 << 14 ? 1 << 14 : size > 1 << 16 ? 1 << 16 : size;
    }
    /* all lines of a small plane; none where it lies backwards */
    static inline void fc_fetch(const char *p, ptrdiff_t bytes) {
      for (const char *end = p + bytes; p < end; p += 64) __builtin_prefetch(p, 0, 2);
    }
    """
    ptrdiff_t fc_first_level() nogil
    ptrdiff_t fc_second_level() nogil
    void fc_fetch(const char*, ptrdiff_t) nogil

ctypedef fused real:
    float
    double

# the forms, as backends/native/_costs.py numbers them
cdef enum:
    ROWS = 0
    LANES = 1
    PATCHES = 2
    PANELS = 3


# Blocks are sized for caches that every machine of the last decade has: weights and inputs of a tile
# in 32 KiB, a staged block in 256 KiB.
cdef enum:
    DEPTH_BLOCK = 256       # taps times channels summed in registers before y is touched again
    STAGE_BYTES = 262144    # staged input of one block
    Y_BYTES = 262144        # results of one block
    RUN_BYTES = 16384       # a tile's rows of grad_output, in the gradient of the weight
    L1_BYTES = 16384        # results that an activation gets before the tiles go on
    LAST_PLACE = 0x40000000 # largest that a table of places holds
    ALIGNED_VECTORS = 8     # vectors of a row for which one more is worth their alignment
    STREAMS = 32            # places that processors fetch ahead of
    COLUMN_BLOCK = 512      # widest piece of a row
    PATCH_BLOCK = 256       # output pixels of a block of patches, in the gradient of the weight
    KEEP_BYTES = 8388608    # scratch a thread may leave behind for the next call
    CACHE_LINE = 64
    NEAR_BYTES = 1048576    # weights that the near caches may keep
    MOST_LINES = 32         # of weights in a turn of a panel, where few tiles use many of them
    CLASSES = 16            # most groups of columns with taps of their own

cdef ptrdiff_t SERIAL_FLOPS = 1000000   # below: starting threads costs more than they save


# --- workspace -----------------------------------------------------------------------------------

cdef class Workspace:
    """Memory for one call, kept for the next one where it is small: a fresh page costs 1 us."""

    cdef char* memory
    cdef size_t size
    cdef Workspace next     # of those that are kept

    def __dealloc__(self):
        free(self.memory)

    cdef char* aligned(self) noexcept:
        return self.memory + (-<size_t>self.memory) % CACHE_LINE


# A stack. Calls of any thread push and pop under the GIL, which nothing lets go in between.
cdef Workspace _kept = None
cdef int _n_kept = 0


cdef Workspace take_workspace(size_t size):
    global _kept, _n_kept
    cdef Workspace space = _kept
    if space is None:
        space = Workspace.__new__(Workspace)
    else:
        _kept, space.next = space.next, None
        _n_kept -= 1
    grow_workspace(space, size)
    return space


cdef int grow_workspace(Workspace space, size_t size) except -1:
    if space.size >= size:
        return 0
    free(space.memory)
    space.size = 0
    space.memory = <char*>malloc(size + CACHE_LINE)
    if space.memory == NULL:
        raise MemoryError(f"no memory for a workspace of {size} bytes")
    # what lies between and behind staged rows is multiplied, never kept: let it be numbers
    memset(space.memory, 0, size + CACHE_LINE)
    space.size = size
    return 0


cdef void give_workspace(Workspace space, int threads):
    global _kept, _n_kept
    if space.size <= <size_t>KEEP_BYTES * threads and _n_kept < 4:
        space.next, _kept = _kept, space
        _n_kept += 1


cdef inline size_t rounded(size_t size) noexcept nogil:
    return (size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE


cdef inline ptrdiff_t imin(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return a if a < b else b


cdef inline ptrdiff_t imax(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return a if a > b else b


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    """Division rounded towards minus infinity; C's rounds towards zero.  b > 0."""
    return a // b if a >= 0 else -((-a + b - 1) // b)


cdef inline ptrdiff_t gcd(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


# --- kernels by element type ---------------------------------------------------------------------

cdef inline void tile(const fc_isa* isa, ptrdiff_t m, ptrdiff_t v, ptrdiff_t depth, const real* w,
                      ptrdiff_t w_pitch, const real* x, const int32_t* off, const int32_t* at,
                      const real* bias, real* y, ptrdiff_t y_pitch,
                      const int32_t* to) noexcept nogil:
    if real is float:
        isa.f32.tile[m - 1][v - 1](depth, w, w_pitch, x, off, at, bias, y, y_pitch, to)
    else:
        isa.f64.tile[m - 1][v - 1](depth, w, w_pitch, x, off, at, bias, y, y_pitch, to)


cdef struct Fetch:      # what panels' tiles fetch meanwhile
    const char* next
    ptrdiff_t lines, pitch      # of each of their turns, and from one turn to the next
    ptrdiff_t turns             # that are left


cdef inline Fetch fetch_rows(const char* first, ptrdiff_t bytes, ptrdiff_t pitch,
                             ptrdiff_t n) noexcept nogil:
    """n rows of so many bytes, one in each turn, from where a line begins: what lies before came with
    its neighbours."""
    return Fetch(first + CACHE_LINE - 1, ceil_div(bytes, CACHE_LINE), pitch, n)


cdef inline void fetched(Fetch* fetch, ptrdiff_t depth) noexcept nogil:
    """A tile of such depth is done."""
    cdef ptrdiff_t turns = ceil_div(depth, FC_PANEL_TURN)
    fetch.next += turns * fetch.pitch
    fetch.turns -= turns


cdef inline Fetch fetch_bytes(const char* first, ptrdiff_t bytes, ptrdiff_t turns) noexcept nogil:
    """So many bytes in as many turns."""
    cdef ptrdiff_t pitch = ceil_div(bytes, imax(turns, 1))
    return Fetch(first, imin(ceil_div(pitch, CACHE_LINE), MOST_LINES), pitch, turns)


cdef inline void panel(const fc_isa* isa, ptrdiff_t m, ptrdiff_t v, ptrdiff_t depth, const real* w,
                       ptrdiff_t w_pitch, const real* x, const int32_t* off, const int32_t* at,
                       const real* start, ptrdiff_t start_pitch, real* y, ptrdiff_t y_pitch,
                       const Fetch* fetch) noexcept nogil:
    """A tile, and what it fetches meanwhile."""
    cdef const char* next = fetch.next
    cdef ptrdiff_t lines = fetch.lines if fetch.turns > 0 else 0, next_pitch = fetch.pitch
    if real is float:
        isa.f32.panel[m - 1][v - 1](depth, w, w_pitch, x, off, at, start, start_pitch, y, y_pitch,
                                    next, lines, next_pitch)
    else:
        isa.f64.panel[m - 1][v - 1](depth, w, w_pitch, x, off, at, start, start_pitch, y, y_pitch,
                                    next, lines, next_pitch)


cdef inline void panel_keep(const fc_isa* isa, ptrdiff_t depth, const real* w, ptrdiff_t w_pitch,
                            const real* x, const int32_t* off, const int32_t* at,
                            const real* start, ptrdiff_t start_pitch, real* y, ptrdiff_t y_pitch,
                            real* kept) noexcept nogil:
    if real is float:
        isa.f32.panel_keep(depth, w, w_pitch, x, off, at, start, start_pitch, y, y_pitch, kept)
    else:
        isa.f64.panel_keep(depth, w, w_pitch, x, off, at, start, start_pitch, y, y_pitch, kept)


cdef inline void dot(const fc_isa* isa, ptrdiff_t m, ptrdiff_t v, ptrdiff_t rows, ptrdiff_t n,
                     const real* a, ptrdiff_t a_row, ptrdiff_t a_pitch, const real* b,
                     ptrdiff_t b_row, const int32_t* at, ptrdiff_t b_step,
                     real* acc) noexcept nogil:
    if real is float:
        isa.f32.dot[m - 1][v - 1](rows, n, a, a_row, a_pitch, b, b_row, at, b_step, acc)
    else:
        isa.f64.dot[m - 1][v - 1](rows, n, a, a_row, a_pitch, b, b_row, at, b_step, acc)


cdef inline void split_rows(const fc_isa* isa, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t first,
                            ptrdiff_t length, ptrdiff_t stride, const real* x, ptrdiff_t x_row,
                            real* y, ptrdiff_t phase) noexcept nogil:
    if real is float:
        isa.f32.split_rows(rows, n, first, length, stride, x, x_row, y, phase)
    else:
        isa.f64.split_rows(rows, n, first, length, stride, x, x_row, y, phase)


cdef inline void gather_lanes(const fc_isa* isa, ptrdiff_t n, int images, const real* x,
                              ptrdiff_t x_image, real* y) noexcept nogil:
    if real is float:
        isa.f32.gather_lanes(n, images, x, x_image, y, isa.f32.lanes)
    else:
        isa.f64.gather_lanes(n, images, x, x_image, y, isa.f64.lanes)


cdef inline void scatter_lanes(const fc_isa* isa, ptrdiff_t n, int images, const real* x,
                               ptrdiff_t x_pitch, real* y, ptrdiff_t y_image) noexcept nogil:
    if real is float:
        isa.f32.scatter_lanes(n, images, x, x_pitch, y, y_image)
    else:
        isa.f64.scatter_lanes(n, images, x, x_pitch, y, y_image)


cdef inline void pack(const fc_isa* isa, int m, ptrdiff_t n, const real* w, ptrdiff_t w_m,
                      const int32_t* slot, real* y, ptrdiff_t y_pitch) noexcept nogil:
    if real is float:
        isa.f32.pack(m, n, w, w_m, slot, y, y_pitch)
    else:
        isa.f64.pack(m, n, w, w_m, slot, y, y_pitch)


cdef inline void sum_lanes(const fc_isa* isa, ptrdiff_t n, const real* acc,
                           real* y) noexcept nogil:
    if real is float:
        isa.f32.sum_lanes(n, acc, y)
    else:
        isa.f64.sum_lanes(n, acc, y)


cdef inline void activate(const fc_isa* isa, int activation, ptrdiff_t n, real* y) noexcept nogil:
    """0 none, 1 relu, 2 sigmoid, 3 tanh: `ACTIVATIONS` in backends/native/__init__.py."""
    if real is float:
        if activation == 1:
            isa.f32.relu(n, y, y)
        elif activation == 2:
            isa.f32.sigmoid(n, y, y)
        elif activation == 3:
            isa.f32.tanh(n, y, y)
    else:
        if activation == 1:
            isa.f64.relu(n, y, y)
        elif activation == 2:
            isa.f64.sigmoid(n, y, y)
        elif activation == 3:
            isa.f64.tanh(n, y, y)


# --- geometry ------------------------------------------------------------------------------------

cdef struct Geometry:
    ptrdiff_t images, channels, height, width
    ptrdiff_t filters, kernel_h, kernel_w
    ptrdiff_t stride_h, stride_w, top, left, dilation_h, dilation_w
    ptrdiff_t groups, out_h, out_w


cdef Geometry read_geometry(tuple fields) except *:
    cdef Geometry g
    cdef ptrdiff_t* to = &g.images      # the fields in their order, all of one type
    cdef Py_ssize_t i
    for i in range(sizeof(Geometry) // sizeof(ptrdiff_t)):
        to[i] = fields[i]
    return g


cdef inline bint is_serial(const Geometry* g) noexcept nogil:
    """Whether a convolution is too small for threads."""
    return (2 * g.images * g.filters * (g.channels // g.groups) * g.kernel_h * g.kernel_w * g.out_h
            * g.out_w < SERIAL_FLOPS)


cdef struct Axis:
    ptrdiff_t n_out, n_in           # lengths of the output and of the input
    ptrdiff_t start, step, tap_step # input position = start + p * step + t * tap_step
    ptrdiff_t n_taps
    ptrdiff_t w_start, w_step       # kernel index of tap t = w_start + t * w_step
    ptrdiff_t out_start, out_step   # where output p lies in the array


cdef Axis forward_axis(ptrdiff_t n_out, ptrdiff_t n_in, ptrdiff_t taps, ptrdiff_t stride,
                       ptrdiff_t pad, ptrdiff_t dilation) noexcept nogil:
    return Axis(n_out, n_in, -pad, stride, dilation, taps, 0, 1, 0, 1)


cdef Axis input_axis(ptrdiff_t residue, ptrdiff_t n_x, ptrdiff_t n_y, ptrdiff_t taps,
                     ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t dilation) noexcept nogil:
    """The gradient at the input positions x with (x + pad) % stride == residue.

    Forward, x = p * stride - pad + r * dilation.  With x + pad = u * stride + residue the taps that
    reach x are those with r * dilation % stride == residue, and p = u - (r * dilation) // stride.
    Such r are r_first + j * (stride / g), g = gcd(dilation, stride); they are taken from the last
    one down, so that p rises with the tap.
    """
    cdef ptrdiff_t g = gcd(dilation, stride)
    cdef ptrdiff_t u = ceil_div(imax(pad - residue, 0), stride)
    cdef ptrdiff_t x = u * stride + residue - pad
    cdef ptrdiff_t count = ceil_div(n_x - x, stride) if x < n_x else 0
    cdef ptrdiff_t r = 0, last, n_taps
    while r < taps and r < stride and r * dilation % stride != residue:
        r += 1
    if r == taps or r == stride:
        return Axis(count, n_y, 0, 1, 1, 0, 0, 1, x, stride)
    n_taps = (taps - 1 - r) // (stride // g) + 1
    last = r + (n_taps - 1) * (stride // g)
    return Axis(count, n_y, u - (last * dilation - residue) // stride, 1, dilation // g, n_taps,
                last, -(stride // g), x, stride)


cdef inline ptrdiff_t first_tap(const Axis* axis, ptrdiff_t p) noexcept nogil:
    """First tap of output p that lies inside the input (or n_taps)."""
    cdef ptrdiff_t at = axis.start + p * axis.step
    return imin(ceil_div(-at, axis.tap_step), axis.n_taps) if at < 0 else 0


cdef inline ptrdiff_t end_tap(const Axis* axis, ptrdiff_t p) noexcept nogil:
    """One past the last tap of output p that lies inside the input."""
    cdef ptrdiff_t room = axis.n_in - 1 - axis.start - p * axis.step
    if room >= (axis.n_taps - 1) * axis.tap_step:       # most: a division takes longer
        return axis.n_taps
    return imin(room // axis.tap_step + 1, axis.n_taps) if room >= 0 else 0


# --- staging: a block of the input into scratch --------------------------------------------------

# How one axis of a staged block is laid out: either the span from the first to the last position
# that the block needs, as n_pieces phases (position modulo step, so that neighbouring outputs are
# neighbours in memory), or, where taps lie far apart, one piece for each tap.
cdef struct Side:
    bint by_tap
    bint phases
    ptrdiff_t n_pieces, length   # positions of one piece


cdef Side side_of(const Axis* axis, ptrdiff_t block, bint phases) noexcept nogil:
    cdef Side side
    cdef ptrdiff_t reach = (axis.n_taps - 1) * axis.tap_step
    if axis.n_taps == 0:
        return Side(False, False, 0, 0)
    if phases:
        side = Side(False, True, axis.step, block + reach // axis.step)
    else:
        side = Side(False, False, 1, (block - 1) * axis.step + reach + 1)
    if side.n_pieces * side.length > axis.n_taps * block:
        side = Side(True, phases, axis.n_taps, block)
    return side


cdef inline void take(const fc_isa* isa, ptrdiff_t n, const real* x, ptrdiff_t x_col,
                      ptrdiff_t stride, real* y) noexcept nogil:
    if real is float:
        isa.f32.take(n, x, x_col, stride, y)
    else:
        isa.f64.take(n, x, x_col, stride, y)


cdef inline void stage_run(const fc_isa* isa, const real* row, ptrdiff_t pitch, ptrdiff_t n_in,
                           ptrdiff_t first, ptrdiff_t step, ptrdiff_t length,
                           real* to) noexcept nogil:
    """to[j] = row[(first + j * step) * pitch], zero outside [0, n_in)."""
    cdef ptrdiff_t begin, end, j
    if step == 1:       # a division takes as long as a row of a small plane
        begin = imin(-first, length) if first < 0 else 0
        end = imin(n_in - first, length)
    else:
        begin = imin(ceil_div(-first, step), length) if first < 0 else 0
        end = imin((n_in - 1 - first) // step + 1, length) if first < n_in else 0
    end = imax(end, begin)
    for j in range(begin):
        to[j] = 0
    if step * pitch == 1:
        fc_copy_row(to + begin, row + first + begin, (end - begin) * sizeof(real))
    else:
        take(isa, end - begin, row + (first + begin * step) * pitch, pitch, step, to + begin)
    for j in range(end, length):
        to[j] = 0


cdef inline void stage_run_lanes(const fc_isa* isa, ptrdiff_t lanes, int images, const real* row,
                                 ptrdiff_t x_image, ptrdiff_t pitch, ptrdiff_t n_in,
                                 ptrdiff_t first, ptrdiff_t step, ptrdiff_t length,
                                 real* to) noexcept nogil:
    """stage_run for VL images at once: to[j][l] of image l."""
    cdef ptrdiff_t begin = imin(ceil_div(-first, step), length) if first < 0 else 0
    cdef ptrdiff_t end = imin((n_in - 1 - first) // step + 1, length) if first < n_in else 0
    cdef ptrdiff_t j, i
    end = imax(end, begin)
    memset(to, 0, begin * lanes * sizeof(real))
    if step * pitch == 1:
        gather_lanes(isa, end - begin, images, row + first + begin, x_image, to + begin * lanes)
    else:
        row += first * pitch
        step *= pitch
        for j in range(begin, end):
            for i in range(images):
                to[j * lanes + i] = row[i * x_image + j * step]
            for i in range(images, lanes):
                to[j * lanes + i] = 0
    memset(to + end * lanes, 0, (length - end) * lanes * sizeof(real))


# Neighbouring output columns that are computed together, with the column taps that any of them needs.
# With images in the lanes a tap in the padding is thus left out, which pixels in the lanes cannot do.
cdef struct Columns:
    ptrdiff_t begin, end    # columns
    ptrdiff_t t0, t1        # column taps
    ptrdiff_t before        # column taps of the earlier groups, all together


cdef inline void stage_run_of_lanes(ptrdiff_t lanes, const real* row, ptrdiff_t n_in,
                                    ptrdiff_t first, ptrdiff_t step, ptrdiff_t length,
                                    real* to) noexcept nogil:
    """stage_run of a row that has the images in its lanes already."""
    cdef ptrdiff_t begin = imin(ceil_div(-first, step), length) if first < 0 else 0
    cdef ptrdiff_t end = imin((n_in - 1 - first) // step + 1, length) if first < n_in else 0
    cdef ptrdiff_t j
    end = imax(end, begin)
    memset(to, 0, begin * lanes * sizeof(real))
    if step == 1:
        memcpy(to + begin * lanes, row + (first + begin) * lanes,
               (end - begin) * lanes * sizeof(real))
    else:
        for j in range(begin, end):
            memcpy(to + j * lanes, row + (first + j * step) * lanes, lanes * sizeof(real))
    memset(to + end * lanes, 0, (length - end) * lanes * sizeof(real))


# One correlation: sizes, strides of the arrays (in elements), and how it is cut into blocks.
cdef struct Plan:
    int mode, lanes, tile_m, activation
    bint from_lanes                     # the input has the images in its lanes
    const int* tile_v                   # vectors of the widest register tile, by its rows
    bint direct                         # tiles write into the output, see `goes_direct`
    bint in_place                       # and read the input: planes in one long row, taps of one
    ptrdiff_t images, groups, ci, co    # ci, co: channels of one group
    Axis row, col
    ptrdiff_t xn, xc, xh, xw            # input
    ptrdiff_t on, oc, oh, ow            # output
    ptrdiff_t w_group, w_m, w_c, w_row  # weight; columns are neighbours
    ptrdiff_t w_plane                   # weights of one filter and channel
    ptrdiff_t taps, depth               # row taps * column taps; taps * ci
    ptrdiff_t cb, n_cb                  # channels of a block
    ptrdiff_t n_mt, mt_block, n_kb      # register tiles of the output channels, and blocks of them
    ptrdiff_t group_v, filters, near    # PATCHES: vectors of a group of pixels; filters of a block,
                                        # and those of them whose weights stay in L2
    ptrdiff_t rest                      # pixels of a filter that wait in scratch
    ptrdiff_t steps                     # of the sums of a group of pixels, at a time
    bint keeps                          # a group's first tile brings its patches together
    bint turned                         # weights are brought into [filter][tap][channel]
    ptrdiff_t pb, n_pb, qb, n_qb        # rows (PATCHES: pixels) and columns of a block
    Side row_side, col_side
    ptrdiff_t piece, pixel, staged_row, chan # pitches: piece of columns, output pixel, row, channel
    ptrdiff_t tap_row, out_row          # pitches of a row tap and of an output row
    ptrdiff_t n_vec                     # vectors of a block's results, at most
    size_t x_size, y_size, at_size, scratch
    int n_classes
    Columns classes[CLASSES]
    ptrdiff_t class_taps                # column taps of all groups, together


cdef inline ptrdiff_t vectors(const Plan* plan, ptrdiff_t cols) noexcept nogil:
    """Vectors of one row of `cols` output pixels."""
    return cols if plan.mode == LANES else ceil_div(cols, plan.lanes)


cdef inline bint is_long_row(const Plan* plan) noexcept nogil:
    """Whether a 1x1 kernel leaves planes that are one long row as they are."""
    return (plan.taps == 1 and plan.row.n_out == 1 and plan.row.n_in == 1 and plan.xw == 1
            and plan.row.start == 0 and plan.col.step == 1 and plan.col.start == 0 and plan.col.n_out == plan.col.n_in)


cdef inline bint stays_near(const Plan* plan, size_t item_size) noexcept nogil:
    """Whether planes read side by side come from the caches.

    The same pixel's places in different planes must share no more than a few cache sets; and an image
    has to stay in the second level, unless processors can follow its planes and fetch ahead.
    """
    cdef ptrdiff_t pitch = imax(plan.xc, -plan.xc) * <ptrdiff_t>item_size
    return pitch % 2048 != 0 and (plan.ci <= STREAMS or plan.ci * pitch <= fc_second_level() // 2)


cdef inline bint goes_direct(const Plan* plan, ptrdiff_t cols) noexcept nogil:
    """Whether the tiles of a block write into the output, without a stay in scratch.

    A row's last vector then overlaps the one before: both hold the same numbers there.
    """
    return plan.direct and cols >= plan.lanes


cdef inline ptrdiff_t tap_col(const Plan* plan, ptrdiff_t t) noexcept nogil:
    """Place of column tap t in a staged row, in pieces of `piece`."""
    cdef ptrdiff_t reach = t * plan.col.tap_step
    if plan.col_side.by_tap:
        return t * plan.piece
    if plan.mode == ROWS:
        return reach % plan.col.step * plan.piece + reach // plan.col.step
    return reach * plan.lanes


cdef inline bint piece_is_used(const Plan* plan, ptrdiff_t piece) noexcept nogil:
    """False for a phase that no tap falls on."""
    if plan.col_side.by_tap or not plan.col_side.phases or plan.col.step == 1:
        return True
    return piece % gcd(plan.col.tap_step, plan.col.step) == 0


cdef void lay_out(Plan* plan) noexcept nogil:
    """Pitches of a staged block of pb rows, qb columns and cb channels."""
    cdef ptrdiff_t unit = plan.lanes if plan.mode == LANES else 1
    cdef ptrdiff_t rows, line
    plan.row_side = side_of(&plan.row, plan.pb, False)
    plan.col_side = side_of(&plan.col, plan.qb, plan.mode == ROWS)
    plan.piece = plan.col_side.length * unit
    if plan.col_side.by_tap:
        plan.pixel = unit
    else:
        plan.pixel = unit * plan.col.step if plan.mode == LANES else 1
    plan.staged_row = plan.col_side.n_pieces * plan.piece
    rows = plan.row_side.n_pieces * plan.row_side.length
    if plan.row_side.by_tap:
        plan.tap_row = plan.pb * plan.staged_row
        plan.out_row = plan.staged_row
    else:
        plan.tap_row = plan.row.tap_step * plan.staged_row
        plan.out_row = plan.row.step * plan.staged_row
    # an odd number of cache lines: channels do not meet in the same cache set
    line = CACHE_LINE // 4
    plan.chan = (ceil_div(rows * plan.staged_row, line) | 1) * line


cdef void stage(const fc_isa* isa, const Plan* plan, const real* x, ptrdiff_t image, int images,
                ptrdiff_t group, ptrdiff_t c0, ptrdiff_t channels, ptrdiff_t p0, ptrdiff_t rows,
                ptrdiff_t q0, real* to) noexcept nogil:
    """ROWS and LANES: the padded block of `channels` from c0 that output rows from p0 need."""
    cdef const Axis* row = &plan.row
    cdef const Axis* col = &plan.col
    cdef bint by_tap = plan.row_side.by_tap
    cdef ptrdiff_t origin_h, origin_w = col.start + q0 * col.step
    cdef ptrdiff_t c, t, begin, end, n_rows = rows, row_step = row.step
    cdef const real* plane
    cdef real* to_rows
    if not by_tap:
        n_rows = (rows - 1) * row.step + (row.n_taps - 1) * row.tap_step + 1
        row_step = 1
    for c in range(channels):
        plane = x + image * plan.xn + (group * plan.ci + c0 + c) * plan.xc
        for t in range(row.n_taps if by_tap else 1):
            to_rows = to + c * plan.chan + t * plan.pb * plan.staged_row
            origin_h = row.start + p0 * row.step + t * row.tap_step
            span(origin_h, row_step, row.n_in, n_rows, &begin, &end)
            memset(to_rows, 0, begin * plan.staged_row * sizeof(real))
            stage_rows(isa, plan, images, plane + (origin_h + begin * row_step) * plan.xh,
                       row_step * plan.xh, end - begin, origin_w,
                       to_rows + begin * plan.staged_row)
            memset(to_rows + end * plan.staged_row, 0,
                   (n_rows - end) * plan.staged_row * sizeof(real))


cdef inline void stage_rows(const fc_isa* isa, const Plan* plan, int images, const real* x,
                            ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t origin_w,
                            real* to) noexcept nogil:
    """Rows of one channel, x_row apart, with the padding beside them."""
    cdef const Axis* col = &plan.col
    cdef ptrdiff_t i, piece, first, step, length = plan.col_side.length
    if (plan.mode == ROWS and plan.xw == 1 and not plan.col_side.by_tap
            and piece_is_used(plan, 1)):
        split_rows(isa, rows, col.n_in, origin_w, length, col.step, x, x_row, to, plan.piece)
        return
    for i in range(rows):
        for piece in range(plan.col_side.n_pieces):
            if not piece_is_used(plan, piece):
                continue
            first = origin_w + piece * (col.tap_step if plan.col_side.by_tap else 1)
            step = col.step if plan.col_side.by_tap or plan.col_side.phases else 1
            if plan.from_lanes:
                stage_run_of_lanes(plan.lanes, x, col.n_in, first, step, length,
                                   to + piece * plan.piece)
            elif plan.mode == LANES:
                stage_run_lanes(isa, plan.lanes, images, x, plan.xn, plan.xw, col.n_in, first, step,
                                length, to + piece * plan.piece)
            else:
                stage_run(isa, x, plan.xw, col.n_in, first, step, length, to + piece * plan.piece)
        x += x_row
        to += plan.staged_row


# --- correlation ---------------------------------------------------------------------------------

cdef inline ptrdiff_t tile_start(const Plan* plan, ptrdiff_t mt) noexcept nogil:
    """First output channel of register tile mt: tiles of nearly equal height."""
    return mt * plan.co // plan.n_mt


cdef void block_offsets(const Plan* plan, ptrdiff_t channels, int32_t* off) noexcept nogil:
    """Offset table of a staged block: k over (class, row tap, channel, column tap)."""
    cdef ptrdiff_t tr, c, tc, k = 0
    cdef int i
    if plan.mode == PATCHES:
        patch_offsets(plan, channels, off)
        return
    for i in range(plan.n_classes):
        for tr in range(plan.row.n_taps):
            for c in range(channels):
                for tc in range(plan.classes[i].t0, plan.classes[i].t1):
                    off[k] = <int32_t>(c * plan.chan + tr * plan.tap_row + tap_col(plan, tc))
                    k += 1


cdef void pack_slots(const Plan* plan, const Columns* part, ptrdiff_t channels,
                     int32_t* slot) noexcept nogil:
    """Where the weights of a block of channels go: k over (row tap, channel, column tap).

    For one channel where those of the sum do not lie beside each other.
    """
    cdef ptrdiff_t n = channels if plan.w_c == plan.w_plane else 1
    cdef ptrdiff_t n_taps = part.t1 - part.t0, tr, c, tc
    for c in range(n * plan.w_plane):
        slot[c] = -1
    for tr in range(plan.row.n_taps):
        for c in range(n):
            for tc in range(part.t0, part.t1):
                slot[c * plan.w_plane + (plan.row.w_start + tr * plan.row.w_step) * plan.w_row
                     + plan.col.w_start + tc * plan.col.w_step] = <int32_t>(
                    (tr * channels + c) * n_taps + tc - part.t0)


cdef void pack_block(const fc_isa* isa, const Plan* plan, const Columns* part, int m,
                     ptrdiff_t channels, const real* w, const int32_t* slot, real* to,
                     ptrdiff_t pitch) noexcept nogil:
    """Weights of m filters and a block of channels; w is the first of them."""
    cdef ptrdiff_t c
    if part.t1 == part.t0 or plan.row.n_taps == 0:
        return
    if plan.w_plane == 1 and plan.w_m == 1:     # neighbours already
        for c in range(channels):
            fc_copy_row(to + c * pitch, w + c * plan.w_c, m * sizeof(real))
            memset(to + c * pitch + m, 0, (pitch - m) * sizeof(real))
        return
    if plan.w_c == plan.w_plane:
        pack(isa, m, channels * plan.w_plane, w, plan.w_m, slot, to, pitch)
        return
    for c in range(channels):
        pack(isa, m, plan.w_plane, w + c * plan.w_c, plan.w_m, slot,
             to + c * (part.t1 - part.t0) * pitch, pitch)


cdef inline ptrdiff_t place_of(const Plan* plan, ptrdiff_t image, ptrdiff_t k, ptrdiff_t p,
                               ptrdiff_t q) noexcept nogil:
    """Where output (p, q) of channel k lies in the array."""
    return (image * plan.on + k * plan.oc
            + (plan.row.out_start + p * plan.row.out_step) * plan.oh
            + (plan.col.out_start + q * plan.col.out_step) * plan.ow)


cdef void emit(const fc_isa* isa, const Plan* plan, ptrdiff_t image, int images, ptrdiff_t k,
               ptrdiff_t p0, ptrdiff_t rows, ptrdiff_t q0, ptrdiff_t cols, const real* y,
               real* run, real* out) noexcept nogil:
    """Results of output channel k from scratch into the array."""
    cdef ptrdiff_t p, j, l, per_row = vectors(plan, cols) * plan.lanes
    cdef ptrdiff_t oh = plan.oh * plan.row.out_step, ow = plan.ow * plan.col.out_step
    cdef real* to
    cdef real* to_row
    to = out + place_of(plan, image, k, p0, q0)
    if plan.mode == LANES:
        if ow == 1 and oh == cols:
            scatter_lanes(isa, rows * cols, images, y, plan.lanes, to, plan.on)
            return
        for p in range(rows):
            if ow == 1:
                scatter_lanes(isa, cols, images, y + p * per_row, plan.lanes, to + p * oh, plan.on)
            else:
                scatter_lanes(isa, cols, images, y + p * per_row, plan.lanes, run, cols)
                for l in range(images):
                    for j in range(cols):
                        to[l * plan.on + p * oh + j * ow] = run[l * cols + j]
        return
    for p in range(rows):
        to_row = to + p * oh
        if ow == 1:
            fc_copy_row(to_row, y + p * per_row, cols * sizeof(real))
        else:
            for j in range(cols):
                to_row[j * ow] = y[p * per_row + j]


cdef void tile_run(const fc_isa* isa, const Plan* plan, ptrdiff_t m, ptrdiff_t v_most,
                   ptrdiff_t begin, ptrdiff_t end, ptrdiff_t depth, const real* w, const real* x,
                   const int32_t* off, const int32_t* at, const real* bias, real* y,
                   ptrdiff_t y_pitch) noexcept nogil:
    """One register tile's height over the vectors from `begin` to `end`."""
    cdef ptrdiff_t n = end - begin, count = ceil_div(n, v_most), each, rest, v
    if n == 0:
        return
    each, rest = n // count, n % count
    while begin < end:
        v = each
        if rest > 0:
            v += 1
            rest -= 1
        tile(isa, m, v, depth, w, plan.tile_m, x, off, at + begin, bias, y, y_pitch,
             at + plan.n_vec + begin)
        begin += v


cdef void tile_rows(const fc_isa* isa, const Plan* plan, ptrdiff_t m, ptrdiff_t v_most,
                    ptrdiff_t p0, ptrdiff_t rows, ptrdiff_t per_row, ptrdiff_t c0,
                    ptrdiff_t channels, const real* w, const real* x, const int32_t* off,
                    const int32_t* at, const real* bias, real* y,
                    ptrdiff_t y_pitch) noexcept nogil:
    """One register tile's height over a whole block.

    Rows whose taps meet the same part of the input go together; taps in the padding are left out,
    which is a sub-range of k, as the row tap is k's slowest index.
    """
    cdef ptrdiff_t p = 0, end, t0, t1, r, n_taps, per_tap
    cdef const Columns* part
    cdef const real* w_part
    cdef const int32_t* off_part
    cdef int i
    while p < rows:
        t0 = first_tap(&plan.row, p0 + p)
        t1 = imax(end_tap(&plan.row, p0 + p), t0)
        end = p + 1
        while (end < rows and first_tap(&plan.row, p0 + end) == t0
               and imax(end_tap(&plan.row, p0 + end), t0) == t1):
            end += 1
        for i in range(plan.n_classes):
            part = &plan.classes[i]
            n_taps = part.t1 - part.t0
            per_tap = channels * n_taps
            w_part = w + plan.tile_m * (plan.row.n_taps * (plan.ci * part.before + c0 * n_taps)
                                        + t0 * per_tap)
            off_part = off + plan.row.n_taps * channels * part.before + t0 * per_tap
            if plan.n_classes == 1:
                tile_run(isa, plan, m, v_most, p * per_row, end * per_row, (t1 - t0) * per_tap,
                         w_part, x, off_part, at, bias, y, y_pitch)
                continue
            for r in range(p, end):
                tile_run(isa, plan, m, v_most, r * per_row + part.begin, r * per_row + part.end,
                         (t1 - t0) * per_tap, w_part, x, off_part, at, bias, y, y_pitch)
        p = end


cdef inline ptrdiff_t lead_of(const Plan* plan, ptrdiff_t cols, const real* y) noexcept nogil:
    """How many pixels of each row from y on come before the first that a vector may begin at.

    A store that is not aligned goes to two cache lines. 0 where it is, where rows or planes differ in
    that, or where rows are so short that a further vector would cost more.
    """
    cdef ptrdiff_t size = plan.lanes * <ptrdiff_t>sizeof(real)
    if (cols < ALIGNED_VECTORS * plan.lanes or plan.oc * <ptrdiff_t>sizeof(real) % size
            or plan.oh * plan.row.out_step * <ptrdiff_t>sizeof(real) % size
            and plan.row.n_out > 1):
        return 0
    return (size - <ptrdiff_t>(<size_t>y % <size_t>size)) % size // <ptrdiff_t>sizeof(real)


cdef inline ptrdiff_t led_vectors(const Plan* plan, ptrdiff_t cols, ptrdiff_t lead) noexcept nogil:
    """Vectors of a row of which one begins at `lead` pixels."""
    return vectors(plan, cols - lead) + (1 if lead else 0)


cdef void block_places(const Plan* plan, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t lead,
                       int32_t* at) noexcept nogil:
    """Where each vector of output pixels begins in a staged block, and where its sums go."""
    cdef ptrdiff_t lanes = plan.lanes, step = plan.pixel if plan.mode == LANES else lanes
    cdef ptrdiff_t p, j, per_row = led_vectors(plan, cols, lead), back = lanes - lead if lead else 0
    cdef ptrdiff_t out_row = plan.out_row if plan.taps else 0, to_row = per_row * lanes
    cdef ptrdiff_t place = 0, goal = 0
    cdef int32_t* to = at + plan.n_vec
    cdef bint direct = goes_direct(plan, cols)
    if plan.taps == 0:      # nothing is read
        step = 0
    if direct:
        to_row = plan.oh * plan.row.out_step
    for p in range(rows):
        for j in range(per_row):
            at[j] = <int32_t>(place + j * step)
            to[j] = <int32_t>(goal + j * lanes)
        if back:            # all but the first
            for j in range(1, per_row):
                at[j] = <int32_t>(at[j] - back)
                to[j] = <int32_t>(to[j] - back)
        if direct:          # the last vector ends with the row
            j = cols - lanes
            at[per_row - 1] = <int32_t>(place + (j if plan.taps else 0))
            to[per_row - 1] = <int32_t>(goal + j)
        place += out_row
        goal += to_row
        at += per_row
        to += per_row


cdef void direct_rows(const fc_isa* isa, const Plan* plan, ptrdiff_t m, ptrdiff_t p0,
                      ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t per_row, const real* w,
                      const real* x, const int32_t* off, const int32_t* at, const real* bias,
                      real* y) noexcept nogil:
    """One register tile's height over a whole block, into the output; y is its first element."""
    cdef ptrdiff_t pitch = plan.oh * plan.row.out_step
    cdef ptrdiff_t p = 0, i, j, here, few = rows
    if plan.activation:     # finds the sums in L1
        few = imax(1, L1_BYTES // <ptrdiff_t>(m * cols * sizeof(real)))
    while p < rows:
        here = imin(few, rows - p)
        tile_rows(isa, plan, m, plan.tile_v[m], p0 + p, here, per_row, 0, plan.ci, w, x, off,
                  at + p * per_row, bias, y, plan.oc)
        for i in range(m if plan.activation else 0):
            if pitch == cols:
                activate(isa, plan.activation, here * cols, y + i * plan.oc + p * pitch)
                continue
            for j in range(p, p + here):
                activate(isa, plan.activation, cols, y + i * plan.oc + j * pitch)
        p += here


cdef void correlate_block(const fc_isa* isa, const Plan* plan, const real* x,
                          const Tables* tables, real* out, ptrdiff_t item,
                          char* scratch) noexcept nogil:
    """One block of outputs: stage, tiles, epilogue."""
    if plan.mode == PATCHES:
        patches_block(isa, plan, x, tables, out, item, scratch)
        return
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + plan.x_size)
    cdef int32_t* at = <int32_t*>(scratch + plan.x_size + plan.y_size)
    cdef real* run = <real*>(scratch + plan.x_size + plan.y_size + plan.at_size)
    cdef ptrdiff_t qi = item % plan.n_qb
    cdef ptrdiff_t pi = item // plan.n_qb % plan.n_pb
    cdef ptrdiff_t ki = item // (plan.n_qb * plan.n_pb) % plan.n_kb
    cdef ptrdiff_t group = item // (plan.n_qb * plan.n_pb * plan.n_kb) % plan.groups
    cdef ptrdiff_t image = item // (plan.n_qb * plan.n_pb * plan.n_kb * plan.groups)
    cdef int images = 1
    cdef ptrdiff_t p0 = pi * plan.pb, q0 = qi * plan.qb, rows, cols, per_row, y_pitch
    cdef ptrdiff_t mt, mt0 = ki * plan.mt_block, mt1 = imin(mt0 + plan.mt_block, plan.n_mt)
    cdef ptrdiff_t ci, c0, channels, m0, m1, m, k0 = tile_start(plan, mt0), lead = 0
    cdef const real* bias = <const real*>tables.bias
    cdef const real* w = <const real*>tables.w
    cdef const real* w_tile
    cdef const real* first_bias
    cdef const real* from_x = xs
    cdef const int32_t* off_block
    cdef real* y
    if plan.mode == LANES:
        image *= plan.lanes
        images = <int>imin(plan.lanes, plan.images - image)
    rows = imin(plan.pb, plan.row.n_out - p0)
    cols = imin(plan.qb, plan.col.n_out - q0)
    per_row = vectors(plan, cols)
    y_pitch = rows * per_row * plan.lanes

    for ci in range(plan.n_cb):
        c0 = ci * plan.cb
        channels = imin(plan.cb, plan.ci - c0)
        off_block = tables.off if channels == plan.cb else tables.off_last
        if plan.in_place:
            from_x = x + image * plan.xn + (group * plan.ci + c0) * plan.xc + q0
        elif plan.taps:
            stage(isa, plan, x, image, images, group, c0, channels, p0, rows, q0, xs)
        if goes_direct(plan, cols):
            lead = lead_of(plan, cols, out + place_of(plan, image, group * plan.co, p0, q0))
        block_places(plan, rows, cols, lead, at)
        for mt in range(mt0, mt1):
            m0 = tile_start(plan, mt)
            m1 = tile_start(plan, mt + 1)
            w_tile = w + (group * plan.n_mt + mt) * packed_depth(plan) * plan.tile_m
            first_bias = NULL
            if ci == 0:
                first_bias = bias + group * plan.co + m0
            if goes_direct(plan, cols):
                y = out + place_of(plan, image, group * plan.co + m0, p0, q0)
                direct_rows(isa, plan, m1 - m0, p0, rows, cols, led_vectors(plan, cols, lead),
                            w_tile, from_x, off_block, at, first_bias, y)
                continue
            # results of earlier channel blocks wait in scratch; with one block a tile's are enough
            y = ys if plan.n_cb == 1 else ys + (m0 - k0) * y_pitch
            tile_rows(isa, plan, m1 - m0, plan.tile_v[m1 - m0], p0, rows, per_row, c0, channels,
                      w_tile, xs, off_block, at, first_bias, y, y_pitch)
            if ci == plan.n_cb - 1:
                activate(isa, plan.activation, (m1 - m0) * y_pitch, y)
                for m in range(m1 - m0):
                    emit(isa, plan, image, images, group * plan.co + m0 + m, p0, rows, q0, cols,
                         y + m * y_pitch, run, out)


cdef ptrdiff_t block_of(ptrdiff_t n, ptrdiff_t most) noexcept nogil:
    """Blocks of nearly equal size, none above `most`."""
    most = imax(most, 1)
    return ceil_div(n, ceil_div(n, most)) if n > 0 else 1


cdef inline ptrdiff_t packed_depth(const Plan* plan) noexcept nogil:
    """Rows of the packed weights of one register tile."""
    return plan.ci * plan.row.n_taps * plan.class_taps


cdef void classify_columns(Plan* plan) noexcept nogil:
    """Groups of columns by the taps they need; one group where lanes hold pixels."""
    cdef Columns part
    cdef ptrdiff_t q = 0, first, end
    cdef bint alone
    plan.n_classes = 0
    plan.class_taps = 0
    while plan.mode == LANES and plan.n_qb == 1 and q < plan.col.n_out:
        if plan.n_classes == CLASSES:
            plan.n_classes = 0
            break
        part = Columns(q, q + 1, first_tap(&plan.col, q), end_tap(&plan.col, q), plan.class_taps)
        part.t1 = imax(part.t0, part.t1)
        q += 1
        while q < plan.col.n_out:
            first, end = first_tap(&plan.col, q), end_tap(&plan.col, q)
            alone = part.end - part.begin == 1      # one column leaves a register tile half empty
            if not alone and (first != part.t0 or end != part.t1):
                break
            part.t0 = imin(part.t0, first)
            part.t1 = imax(part.t1, end)
            q += 1
            part.end = q
        plan.class_taps += part.t1 - part.t0
        plan.classes[plan.n_classes] = part
        plan.n_classes += 1
    if plan.n_classes == 0:
        plan.n_classes = 1
        plan.class_taps = plan.col.n_taps
        plan.classes[0] = Columns(0, plan.col.n_out, 0, plan.col.n_taps, 0)


cdef void cut(Plan* plan, const fc_isa* isa, size_t item_size, int threads) noexcept nogil:
    """Chooses the blocks and sizes the scratch."""
    cdef ptrdiff_t lanes = plan.lanes, per_row, x_rows, unit, wanted
    plan.taps = plan.row.n_taps * plan.col.n_taps
    plan.depth = plan.taps * plan.ci
    plan.cb = block_of(plan.ci, DEPTH_BLOCK // imax(plan.taps, 1))
    plan.n_cb = ceil_div(plan.ci, plan.cb)
    plan.n_mt = ceil_div(plan.co, plan.tile_m)
    plan.mt_block = plan.n_mt
    if plan.mode == PATCHES:
        cut_patches(plan, isa, item_size, threads)
        return
    unit = lanes if plan.mode == LANES else 1
    plan.qb = block_of(plan.col.n_out, COLUMN_BLOCK // unit)
    if plan.mode == ROWS and plan.qb < plan.col.n_out:
        plan.qb = ceil_div(plan.qb, lanes) * lanes
    plan.n_qb = ceil_div(plan.col.n_out, plan.qb)
    # as many rows as fit, at least one; and enough blocks for the threads
    plan.pb = 1
    lay_out(plan)
    per_row = vectors(plan, plan.qb) * lanes
    x_rows = STAGE_BYTES // <ptrdiff_t>(item_size * imax(plan.cb * plan.staged_row, 1))
    if plan.row_side.by_tap:
        x_rows //= imax(plan.row.n_taps, 1)
    else:
        x_rows = (x_rows - (plan.row.n_taps - 1) * plan.row.tap_step) // plan.row.step
    plan.pb = imin(x_rows, Y_BYTES // <ptrdiff_t>(
        item_size * per_row * (plan.tile_m if plan.n_cb == 1 else imin(plan.co, 64))))
    if threads > 1:
        wanted = ceil_div(4 * threads, imax(1, plan.n_qb * plan.groups * (
            ceil_div(plan.images, lanes) if plan.mode == LANES else plan.images)))
        plan.pb = imin(plan.pb, ceil_div(plan.row.n_out, wanted))
    plan.pb = block_of(plan.row.n_out, plan.pb)
    plan.n_pb = ceil_div(plan.row.n_out, plan.pb)
    lay_out(plan)
    plan.n_vec = plan.pb * vectors(plan, plan.qb)
    if plan.mode == ROWS:
        plan.n_vec += plan.pb       # see `lead_of`
    plan.direct = (plan.mode == ROWS and plan.n_cb == 1 and plan.ow == 1
                   and plan.col.out_step == 1
                   and plan.pb * plan.row.out_step * imax(plan.oh, -plan.oh) <= LAST_PLACE)
    # a vector at the end of the last row reads up to one vector beyond it
    plan.x_size = plan.cb * plan.chan + 2 * lanes
    plan.in_place = (goes_direct(plan, plan.col.n_out - (plan.n_qb - 1) * plan.qb)
                     and is_long_row(plan)
                     and plan.cb * imax(plan.xc, -plan.xc) <= LAST_PLACE
                     and stays_near(plan, item_size))
    if plan.in_place:
        plan.chan, plan.x_size = plan.xc, 0
    plan.piece = plan.col_side.length * unit
    if plan.n_cb > 1:
        plan.mt_block = block_of(plan.n_mt, Y_BYTES // <ptrdiff_t>(
            item_size * plan.n_vec * lanes * plan.tile_m))
    plan.n_kb = ceil_div(plan.n_mt, plan.mt_block)
    classify_columns(plan)
    plan.x_size = rounded(plan.x_size * item_size)
    plan.y_size = rounded(plan.n_vec * lanes * item_size
                          * (plan.tile_m if plan.n_cb == 1 else plan.mt_block * plan.tile_m))
    if goes_direct(plan, plan.col.n_out - (plan.n_qb - 1) * plan.qb):   # so does every block
        plan.y_size = 0
    plan.at_size = rounded(2 * plan.n_vec * sizeof(int32_t))
    plan.scratch = (plan.x_size + plan.y_size + plan.at_size
                    + rounded(imax(plan.n_vec, plan.qb) * lanes * item_size))


# What all blocks of a plan read: bias, packed weights, offset tables.
cdef struct Tables:
    const char* bias
    const char* w                       # in the order of the tiles, or of the panels
    bint as_given                       # w is as the caller gave it: each block packs what it needs
    int32_t* off
    int32_t* off_last                   # of a last, smaller block of channels
    int32_t* slot                       # of panels: where weights go, unless they are packed
    int32_t* slot_last


cdef inline size_t off_size(const Plan* plan) noexcept nogil:
    return rounded(plan.cb * plan.row.n_taps * plan.class_taps * sizeof(int32_t))


cdef inline size_t slot_size(const Plan* plan) noexcept nogil:
    return rounded(plan.cb * plan.w_plane * sizeof(int32_t))


cdef inline size_t offsets_size(const Plan* plan) noexcept nogil:
    """Bytes of the tables that depend on the plan alone."""
    return 2 * off_size(plan)


cdef void fill_offsets(const Plan* plan, Tables* tables, char* memory) noexcept nogil:
    tables.off = <int32_t*>memory
    tables.off_last = <int32_t*>(memory + off_size(plan))
    block_offsets(plan, plan.cb, tables.off)
    block_offsets(plan, plan.ci - (plan.n_cb - 1) * plan.cb, tables.off_last)


cdef inline size_t bias_size(const Plan* plan, size_t item_size) noexcept nogil:
    return rounded(plan.groups * plan.co * bias_width(plan) * item_size)


cdef inline ptrdiff_t bias_width(const Plan* plan) noexcept nogil:
    """How often a filter's bias stands in the table."""
    return plan.group_v * plan.lanes if plan.mode == PATCHES else 1


cdef inline size_t weight_size(const Plan* plan, size_t item_size) noexcept nogil:
    return rounded(plan.groups * plan.n_mt * packed_depth(plan) * plan.tile_m * item_size)


cdef inline size_t operands_size(const Plan* plan, size_t item_size, bint packed) noexcept nogil:
    """Bytes of bias and weights; of the bias alone where the weights are packed already."""
    if plan.mode == PATCHES:
        return bias_size(plan, item_size) + (
            turned_size(plan, item_size) + TURNED_SLOTS * sizeof(int32_t) if plan.turned else 0)
    return bias_size(plan, item_size) + (
        0 if packed else weight_size(plan, item_size) + slot_size(plan))


cdef void pack_tiles(const fc_isa* isa, const Plan* plan, const real* w, int32_t* slot,
                     real* to) noexcept nogil:
    """Weights in the order in which the tiles read them; slot has room for a block of channels."""
    cdef ptrdiff_t g, mt, m0, ci, c0, channels, n_taps
    cdef const Columns* part
    cdef int i
    for i in range(plan.n_classes):
        part = &plan.classes[i]
        n_taps = part.t1 - part.t0
        for ci in range(plan.n_cb):
            c0 = ci * plan.cb
            channels = imin(plan.cb, plan.ci - c0)
            pack_slots(plan, part, channels, slot)
            for mt in range(plan.groups * plan.n_mt):
                g = mt // plan.n_mt
                m0 = tile_start(plan, mt % plan.n_mt)
                pack_block(isa, plan, part, <int>(tile_start(plan, mt % plan.n_mt + 1) - m0),
                           channels, w + g * plan.w_group + m0 * plan.w_m + c0 * plan.w_c, slot,
                           to + plan.tile_m * (
                               mt * packed_depth(plan)
                               + plan.row.n_taps * (plan.ci * part.before + c0 * n_taps)),
                           plan.tile_m)


cdef void fill_operands(const fc_isa* isa, const Plan* plan, Tables* tables, char* memory,
                        const real* w, const char* packed, const real* bias) noexcept nogil:
    cdef ptrdiff_t k, i, wide = bias_width(plan)
    cdef real* start = <real*>memory
    for k in range(plan.groups * plan.co):
        for i in range(wide):
            start[k * wide + i] = bias[k] if bias != NULL else 0
    tables.bias = memory
    tables.w = packed
    memory += bias_size(plan, sizeof(real))
    if plan.mode == PATCHES:
        tables.w = <const char*>w
        if plan.turned:
            tables.w = memory
            turn_weight(isa, plan, w, <int32_t*>(memory + turned_size(plan, sizeof(real))),
                        <real*>memory)
    elif packed == NULL:
        tables.w = memory
        pack_tiles(isa, plan, w, <int32_t*>(memory + weight_size(plan, sizeof(real))),
                   <real*>memory)


cdef inline size_t tables_size(const Plan* plan, size_t item_size) noexcept nogil:
    """Bytes that `fill_tables` fills for weights that are not packed."""
    return offsets_size(plan) + operands_size(plan, item_size, False)


cdef void fill_tables(const fc_isa* isa, const Plan* plan, Tables* tables, char* memory,
                      const real* w, const char* packed, const real* bias) noexcept nogil:
    fill_offsets(plan, tables, memory)
    fill_operands(isa, plan, tables, memory + offsets_size(plan), w, packed, bias)


cdef inline ptrdiff_t blocks(const Plan* plan) noexcept nogil:
    return plan.groups * plan.n_kb * plan.n_pb * plan.n_qb * (
        ceil_div(plan.images, plan.lanes) if plan.mode == LANES else plan.images)


cdef int run_plan(const fc_isa* isa, Plan* plan, const real* x, const real* w, const char* packed,
                  const real* bias, real* out, int threads) except -1:
    """Packs the weights unless they are packed already, then runs the blocks on the threads."""
    cdef ptrdiff_t n_items = blocks(plan), item
    cdef Tables tables
    cdef size_t shared = (offsets_size(plan)
                          + operands_size(plan, sizeof(real), packed != NULL))
    cdef size_t each = plan.scratch
    cdef Workspace space = take_workspace(shared + threads * each)
    cdef char* memory = space.aligned()
    cdef char* scratch = memory + shared
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        fill_tables(isa, plan, &tables, memory, w, packed, bias)
        if threads == 1:
            for item in range(n_items):
                correlate_block(isa, plan, x, &tables, out, item, scratch)
        else:
            # neighbours for one thread: blocks of rows are shorter than a page, and two threads on one page of
            # each filter's plane took up to three times as long
            for item in prange(n_items, num_threads=threads, schedule="dynamic",
                               chunksize=imax(1, n_items // (4 * threads))):
                before = fc_set_float_mode(mode)
                correlate_block(isa, plan, x, &tables, out, item, scratch + each * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


cdef inline ptrdiff_t flops(const Plan* plan) noexcept nogil:
    return (2 * plan.images * plan.groups * plan.co * plan.depth * plan.row.n_out
            * plan.col.n_out)


cdef bint images_fill(ptrdiff_t lanes, ptrdiff_t images, ptrdiff_t cols) noexcept nogil:
    """Whether images leave fewer lanes empty than the pixels of a row.

    Bringing images into the lanes and back costs about a tenth of the arithmetic of a small layer.
    """
    cdef double by_image, by_pixel
    by_image = 0.9 * images / (ceil_div(images, lanes) * lanes) if images else 0
    by_pixel = <double>cols / (ceil_div(cols, lanes) * lanes) if cols else 0
    return by_image > by_pixel


cdef void set_isa(Plan* plan, const fc_isa* isa, size_t item_size) noexcept nogil:
    if item_size == 4:
        plan.lanes = isa.f32.lanes
        plan.tile_m, plan.tile_v = isa.f32.tile_m, isa.f32.tile_v
    else:
        plan.lanes = isa.f64.lanes
        plan.tile_m, plan.tile_v = isa.f64.tile_m, isa.f64.tile_v


cdef int correlate(const fc_isa* isa, const Geometry* g, const real* x, const ptrdiff_t* xs,
                   const real* w, const char* packed, const real* bias, real* out,
                   const ptrdiff_t* os, int activation, int form, int threads) except -1:
    cdef Plan plan = forward_plan(isa, g, sizeof(real))
    plan.activation = activation
    set_strides(&plan, xs, os)
    flatten_planes(&plan)
    return run_correlation(isa, &plan, x, w, packed, bias, out, form, threads)


cdef Plan forward_plan(const fc_isa* isa, const Geometry* g, size_t item_size) noexcept nogil:
    """Axes, channels and the weight's strides; those of the arrays are still to be set."""
    cdef Plan plan
    memset(&plan, 0, sizeof(Plan))
    set_isa(&plan, isa, item_size)
    plan.images, plan.groups = g.images, g.groups
    plan.ci, plan.co = g.channels // g.groups, g.filters // g.groups
    plan.row = forward_axis(g.out_h, g.height, g.kernel_h, g.stride_h, g.top, g.dilation_h)
    plan.col = forward_axis(g.out_w, g.width, g.kernel_w, g.stride_w, g.left, g.dilation_w)
    plan.w_row = g.kernel_w
    plan.w_plane = g.kernel_h * g.kernel_w
    plan.w_c = g.kernel_h * g.kernel_w
    plan.w_m = plan.ci * plan.w_c
    plan.w_group = plan.co * plan.w_m
    return plan


cdef int run_correlation(const fc_isa* isa, Plan* plan, const real* x, const real* w,
                         const char* packed, const real* bias, real* out, int form,
                         int threads) except -1:
    """In this form; axes, strides and channels stand in the plan."""
    cdef PanelPlan panels
    if plan.row.n_out <= 0 or plan.col.n_out <= 0 or plan.images == 0:
        return 0
    plan.depth = plan.ci * plan.row.n_taps * plan.col.n_taps
    if flops(plan) < SERIAL_FLOPS:
        threads = 1
    if form == PANELS:
        memset(&panels, 0, sizeof(PanelPlan))
        panels.x = plan[0]
        plan_panels(&panels, isa, sizeof(real), threads)
        return run_panels(isa, &panels, x, w, packed, bias, out, threads)
    plan.mode = form
    cut(plan, isa, sizeof(real), threads)
    if form == LANES:
        packed = NULL       # its order depends on the plane, too
    return run_plan(isa, plan, x, w, packed, bias, out, threads)


cdef Plan input_plan(const fc_isa* isa, const Geometry* g, const ptrdiff_t* ys,
                     const ptrdiff_t* xs, size_t item_size) noexcept nogil:
    """The forward pass's axes; channels and strides of the gradient with respect to the input."""
    cdef Plan plan = forward_plan(isa, g, item_size)
    plan.ci, plan.co = plan.co, plan.ci
    plan.w_c, plan.w_m = plan.w_m, plan.w_c
    set_strides(&plan, ys, xs)
    return plan


cdef int correlate_input(const fc_isa* isa, const Geometry* g, const real* dy, const ptrdiff_t* ys,
                         const real* w, real* dx, const ptrdiff_t* xs, int form,
                         int threads) except -1:
    """Gradient with respect to the input: a correlation of dy for each residue of the stride."""
    cdef Plan plan
    cdef SpreadPlan spread
    cdef ptrdiff_t a, b
    if form == PANELS and g.images > 0:
        if is_serial(g):
            threads = 1
        memset(&spread, 0, sizeof(SpreadPlan))
        spread.panels.x = input_plan(isa, g, ys, xs, sizeof(real))
        flatten_planes(&spread.panels.x)
        if is_spread(&spread.panels.x) and plan_spread(&spread, isa, sizeof(real), threads):
            return spread_input(isa, &spread, dy, w, dx, threads)
    for a in range(g.stride_h):
        for b in range(g.stride_w):
            plan = input_plan(isa, g, ys, xs, sizeof(real))
            plan.row = input_axis(a, g.height, g.out_h, g.kernel_h, g.stride_h, g.top,
                                  g.dilation_h)
            plan.col = input_axis(b, g.width, g.out_w, g.kernel_w, g.stride_w, g.left,
                                  g.dilation_w)
            if plan.row.n_out <= 0 or plan.col.n_out <= 0:
                continue
            if plan.row.n_taps == 0 or plan.col.n_taps == 0:  # no tap reaches
                clear(&plan, dx)
                continue
            flatten_planes(&plan)
            run_correlation(isa, &plan, dy, w, <const char*>NULL, <const real*>NULL, dx, form,
                            threads)
    return 0


cdef void clear(const Plan* plan, real* out) noexcept nogil:
    """Zeros for all outputs."""
    cdef ptrdiff_t image, k, p, q, step = plan.col.out_step * plan.ow
    cdef real* row
    for image in range(plan.images):
        for k in range(plan.groups * plan.co):
            for p in range(plan.row.n_out):
                row = out + place_of(plan, image, k, p, 0)
                for q in range(plan.col.n_out):
                    row[q * step] = 0


cdef void set_strides(Plan* plan, const ptrdiff_t* xs, const ptrdiff_t* os) noexcept nogil:
    plan.xn, plan.xc, plan.xh, plan.xw = xs[0], xs[1], xs[2], xs[3]
    plan.on, plan.oc, plan.oh, plan.ow = os[0], os[1], os[2], os[3]


cdef void flatten_planes(Plan* plan) noexcept nogil:
    """A 1x1 kernel that leaves the plane as it is sees one long row."""
    if (plan.row.n_taps == 1 and plan.col.n_taps == 1 and plan.row.step == 1 and plan.col.step == 1
            and plan.row.start == 0 and plan.col.start == 0
            and plan.row.out_step == 1 and plan.col.out_step == 1
            and plan.row.n_out == plan.row.n_in and plan.col.n_out == plan.col.n_in
            and plan.xh == plan.col.n_in * plan.xw and plan.oh == plan.col.n_in * plan.ow):
        plan.col.n_out = plan.col.n_in = plan.row.n_out * plan.col.n_out
        plan.row.n_out = plan.row.n_in = 1


# --- gradient with respect to the weight ---------------------------------------------------------

cdef struct WeightPlan:
    Plan x                              # how the input is staged; its output fields are unused
    int dot_m
    int dot_v[7]                        # widest tile by its rows
    ptrdiff_t yn, yc, yh, yw            # grad_output
    ptrdiff_t kb, n_kb, wc, n_wc        # filters and channels of one item
    ptrdiff_t n_items
    ptrdiff_t run                       # rows that a tile takes at a time
    ptrdiff_t w_rest                    # C/groups * R * S
    bint copy_y                         # grad_output has to be brought into scratch
    size_t acc_size, y_size


cdef struct WeightItem:
    ptrdiff_t group, k0, filters, c0, channels, n_b     # n_b: rows of the second factor
    ptrdiff_t m_tiles, v_tiles


cdef WeightItem weight_item(const WeightPlan* plan, ptrdiff_t item) noexcept nogil:
    """The block of filters and channels that an item makes."""
    cdef WeightItem part
    part.group = item // (plan.n_wc * plan.n_kb)
    part.c0 = item % plan.n_wc * plan.wc
    part.channels = imin(plan.wc, plan.x.ci - part.c0)
    part.k0 = item // plan.n_wc % plan.n_kb * plan.kb
    part.filters = imin(plan.kb, plan.x.co - part.k0)
    part.n_b = part.channels * plan.x.taps
    part.m_tiles = ceil_div(part.filters, plan.dot_m)
    # all tiles as wide as the tallest allows
    part.v_tiles = ceil_div(part.n_b, plan.dot_v[ceil_div(part.filters, part.m_tiles)])
    return part


cdef void weight_images(const fc_isa* isa, const WeightPlan* plan, const real* x, const real* dy,
                        ptrdiff_t item, ptrdiff_t image, ptrdiff_t end, real* acc,
                        char* scratch) noexcept nogil:
    """Adds what the images from `image` to `end` contribute, all their pixels, to an item's acc."""
    cdef const Plan* xp = &plan.x
    cdef WeightItem part = weight_item(plan, item)
    cdef ptrdiff_t lanes = xp.lanes, group = part.group
    cdef ptrdiff_t c0 = part.c0, channels = part.channels, k0 = part.k0, filters = part.filters
    cdef ptrdiff_t n_b = part.n_b, m_tiles = part.m_tiles, v_tiles = part.v_tiles
    cdef real* xs = <real*>scratch
    cdef real* ys = <real*>(scratch + xp.x_size)
    cdef int32_t* at = <int32_t*>(scratch + xp.x_size + plan.y_size)
    cdef ptrdiff_t p0, q0, rows, cols, c, k, tr, tc, i, j, mt, vt, m0, m1, v0, v1
    cdef ptrdiff_t a_row, a_pitch, b_row, b_step, n, r, runs, i_run
    cdef const real* a
    cdef const real* dy_k
    cdef real* acc_tile
    cdef int images = 1
    # staged rows that are the input's: transposed together, for rows may be shorter than a vector
    cdef bint whole_rows = (xp.mode == LANES and not xp.from_lanes and not xp.row_side.by_tap
                            and not xp.col_side.by_tap and xp.n_qb == 1 and xp.col.start == 0
                            and xp.col_side.length == xp.col.n_in and xp.xw == 1
                            and xp.xh == xp.col.n_in)

    j = 0
    for c in range(channels):
        for tr in range(xp.row.n_taps):
            for tc in range(xp.col.n_taps):
                if xp.mode == PATCHES:
                    at[j] = <int32_t>(j * xp.piece)
                else:
                    at[j] = <int32_t>(c * xp.chan + tr * xp.tap_row + tap_col(xp, tc))
                j += 1

    while image < end:
        if xp.mode == LANES:
            images = <int>imin(lanes, end - image)
        for i in range(xp.n_pb * xp.n_qb):
            p0 = i // xp.n_qb * xp.pb
            q0 = i % xp.n_qb * xp.qb
            if xp.mode == PATCHES:
                rows = 1
                cols = imin(xp.pb, xp.row.n_out * xp.col.n_out - p0)
                for c in range(channels):
                    for tr in range(xp.row.n_taps):
                        for tc in range(xp.col.n_taps):
                            patch_run(isa, xp, x + image * xp.xn + (group * xp.ci + c0 + c) * xp.xc,
                                      tr, tc, p0, cols,
                                      xs + ((c * xp.row.n_taps + tr) * xp.col.n_taps + tc)
                                      * xp.piece)
                a_row = b_row = 0
                b_step = lanes
            else:
                rows = imin(xp.pb, xp.row.n_out - p0)
                cols = imin(xp.qb, xp.col.n_out - q0)
                r = xp.row.start + p0 * xp.row.step
                n = (rows - 1) * xp.row.step + (xp.row.n_taps - 1) * xp.row.tap_step + 1
                if whole_rows and r >= 0 and r + n <= xp.row.n_in:
                    for c in range(channels):
                        gather_lanes(isa, n * xp.col.n_in, images,
                                     x + image * xp.xn + (group * xp.ci + c0 + c) * xp.xc
                                     + r * xp.xh, xp.xn, xs + c * xp.chan)
                else:
                    stage(isa, xp, x, image, images, group, c0, channels, p0, rows, q0, xs)
                b_row = xp.out_row
                b_step = xp.pixel if xp.mode == LANES else lanes
            n = cols * lanes if xp.mode == LANES else cols

            # grad_output's rows: where they lie if they can be read there, else beside each other
            dy_k = dy + image * plan.yn + (group * xp.co + k0) * plan.yc
            if xp.mode != PATCHES:
                dy_k += p0 * plan.yh + q0 * plan.yw
            if not plan.copy_y:
                a = dy_k + p0 if xp.mode == PATCHES else dy_k
                a_row = plan.yh
                a_pitch = plan.yc
            else:
                a = ys
                a_row = n
                a_pitch = rows * n
                for k in range(filters):
                    if xp.mode == PATCHES:
                        for j in range(cols):
                            ys[k * n + j] = dy_k[k * plan.yc + (p0 + j) // xp.col.n_out * plan.yh
                                                 + (p0 + j) % xp.col.n_out * plan.yw]
                    elif xp.mode == LANES and plan.yw == 1 and plan.yh == cols:
                        gather_lanes(isa, rows * cols, images, dy_k + k * plan.yc, plan.yn,
                                     ys + k * a_pitch)
                    else:
                        for r in range(rows):
                            if xp.mode == LANES:
                                stage_run_lanes(isa, lanes, images,
                                                dy_k + k * plan.yc + r * plan.yh, plan.yn,
                                                plan.yw, cols, 0, 1, cols,
                                                ys + k * a_pitch + r * n)
                            else:
                                stage_run(isa, dy_k + k * plan.yc + r * plan.yh, plan.yw, cols, 0, 1,
                                          cols, ys + k * a_pitch + r * n)
            # a tile's rows of grad_output stay in the nearest cache while all taps meet them
            runs = ceil_div(rows, plan.run)
            for mt in range(m_tiles):
                m0 = mt * filters // m_tiles
                m1 = (mt + 1) * filters // m_tiles
                for i_run in range(runs):
                    r = i_run * rows // runs
                    acc_tile = acc + m0 * n_b * lanes
                    for vt in range(v_tiles):
                        v0 = vt * n_b // v_tiles
                        v1 = (vt + 1) * n_b // v_tiles
                        dot(isa, m1 - m0, v1 - v0, (i_run + 1) * rows // runs - r, n,
                            a + m0 * a_pitch + r * a_row, a_row, a_pitch, xs + r * b_row, b_row,
                            at + v0, b_step, acc_tile)
                        acc_tile += (m1 - m0) * (v1 - v0) * lanes
        image += lanes if xp.mode == LANES else 1


cdef void weight_finish(const fc_isa* isa, const WeightPlan* plan, ptrdiff_t item, real* acc,
                        real* dw) noexcept nogil:
    """The sums of acc's lanes, in their place in dw."""
    cdef WeightItem part = weight_item(plan, item)
    cdef ptrdiff_t mt, vt, m0, m1, v0, v1, k
    cdef real* to = dw + (part.group * plan.x.co + part.k0) * plan.w_rest + part.c0 * plan.x.taps
    sum_lanes(isa, part.filters * part.n_b, acc, acc)
    for mt in range(part.m_tiles):
        m0 = mt * part.filters // part.m_tiles
        m1 = (mt + 1) * part.filters // part.m_tiles
        for vt in range(part.v_tiles):
            v0 = vt * part.n_b // part.v_tiles
            v1 = (vt + 1) * part.n_b // part.v_tiles
            for k in range(m0, m1):
                memcpy(to + k * plan.w_rest + v0, acc, (v1 - v0) * sizeof(real))
                acc += v1 - v0


cdef void weight_block(const fc_isa* isa, const WeightPlan* plan, const real* x, const real* dy,
                       real* dw, ptrdiff_t item, char* scratch) noexcept nogil:
    """dw of a block of filters and channels: all images, all pixels."""
    cdef real* acc = <real*>scratch
    memset(acc, 0, plan.acc_size)
    weight_images(isa, plan, x, dy, item, 0, plan.x.images, acc, scratch + plan.acc_size)
    weight_finish(isa, plan, item, acc, dw)


cdef void plan_weight(WeightPlan* plan, const fc_isa* isa, const Geometry* g, const ptrdiff_t* xs,
                      const ptrdiff_t* ys, int form, bint in_lanes, size_t item_size,
                      int threads) noexcept nogil:
    """Sizes, how the sum is cut, and the scratch of a thread; in_lanes: dy has images there."""
    cdef Plan* xp = &plan.x
    cdef ptrdiff_t most, acc_each, flat, unit
    memset(plan, 0, sizeof(WeightPlan))
    set_isa(xp, isa, item_size)
    if item_size == 4:
        plan.dot_m = isa.f32.dot_m
        memcpy(plan.dot_v, isa.f32.dot_v, sizeof(plan.dot_v))
    else:
        plan.dot_m = isa.f64.dot_m
        memcpy(plan.dot_v, isa.f64.dot_v, sizeof(plan.dot_v))
    xp.images, xp.groups = g.images, g.groups
    xp.ci, xp.co = g.channels // g.groups, g.filters // g.groups
    xp.row = forward_axis(g.out_h, g.height, g.kernel_h, g.stride_h, g.top, g.dilation_h)
    xp.col = forward_axis(g.out_w, g.width, g.kernel_w, g.stride_w, g.left, g.dilation_w)
    set_strides(xp, xs, ys)
    xp.taps = xp.row.n_taps * xp.col.n_taps
    xp.depth = plan.w_rest = xp.ci * xp.taps
    if not in_lanes:
        flatten_planes(xp)
    xp.mode = form
    if (form == ROWS and plan.dot_m == 4 and xp.col.n_out % xp.lanes
            and xp.col.n_out < 8 * xp.lanes):
        # 16 registers: the largest tile has none for the mask of the rows' ends, of which short
        # rows have many
        plan.dot_m, plan.dot_v[3] = 3, 3
    plan.yn, plan.yc, plan.yh, plan.yw = xp.on, xp.oc, xp.oh, xp.ow
    unit = xp.lanes if xp.mode == LANES else 1

    # filters and channels of an item: their lane sums have to stay in the cache
    acc_each = xp.taps * xp.lanes * <ptrdiff_t>item_size
    plan.kb = block_of(xp.co, 32)
    plan.wc = block_of(xp.ci, imin(imax(1, Y_BYTES // (acc_each * plan.kb)),
                                   imax(1, 4 * DEPTH_BLOCK // xp.taps)))
    if threads > 1 and xp.groups * ceil_div(xp.co, plan.kb) * ceil_div(xp.ci, plan.wc) < threads:
        if xp.ci >= threads:
            plan.wc = ceil_div(xp.ci, threads)
        else:
            plan.kb = ceil_div(xp.co, threads)
    plan.n_kb = ceil_div(xp.co, plan.kb)
    plan.n_wc = ceil_div(xp.ci, plan.wc)
    plan.n_items = xp.groups * plan.n_kb * plan.n_wc
    plan.acc_size = rounded(acc_each * plan.kb * plan.wc)

    # How pixels are cut decides the order of the sums, so it may not depend on kb or wc, which
    # depend on the threads.
    flat = xp.row.n_out * xp.col.n_out
    if xp.mode == PATCHES:
        xp.pb = ceil_div(block_of(flat, PATCH_BLOCK), xp.lanes) * xp.lanes
        xp.n_pb, xp.n_qb, xp.qb = ceil_div(flat, xp.pb), 1, xp.col.n_out
        xp.piece = xp.pb
        xp.x_size = plan.wc * xp.taps * xp.piece
        plan.copy_y = not (plan.yw == 1 and plan.yh == xp.col.n_out)
        plan.y_size = plan.kb * xp.pb
        plan.run = 1
    else:
        most = COLUMN_BLOCK // unit
        xp.qb = block_of(xp.col.n_out, most)
        if xp.mode == ROWS and xp.qb < xp.col.n_out:
            xp.qb = ceil_div(xp.qb, xp.lanes) * xp.lanes
        xp.n_qb = ceil_div(xp.col.n_out, xp.qb)
        xp.pb = block_of(xp.row.n_out, STAGE_BYTES // 2 // <ptrdiff_t>(
            item_size * imin(xp.co, 32) * xp.qb * unit))
        xp.n_pb = ceil_div(xp.row.n_out, xp.pb)
        lay_out(xp)
        xp.x_size = plan.wc * xp.chan + 2 * xp.lanes
        plan.copy_y = xp.mode == LANES or plan.yw != 1
        plan.y_size = plan.kb * xp.pb * xp.qb * unit
        plan.run = imax(1, RUN_BYTES // <ptrdiff_t>(item_size * plan.dot_m * xp.qb * unit))
    xp.x_size = rounded(xp.x_size * item_size)
    plan.y_size = rounded(plan.y_size * item_size) if plan.copy_y else 0
    xp.scratch = xp.x_size + plan.y_size + rounded(plan.wc * xp.taps * sizeof(int32_t))


cdef int weight_gradient(const fc_isa* isa, const Geometry* g, const real* x, const ptrdiff_t* xs,
                         const real* dy, const ptrdiff_t* ys, real* dw, int form,
                         int threads) except -1:
    cdef WeightPlan plan
    cdef Plan forward
    cdef ptrdiff_t item
    cdef size_t each
    if is_serial(g):
        threads = 1
    if form == PANELS:
        forward = forward_plan(isa, g, sizeof(real))
        set_strides(&forward, xs, ys)
        flatten_planes(&forward)
        return panel_weight_gradient(isa, &forward, x, dy, dw, threads)
    plan_weight(&plan, isa, g, xs, ys, form, False, sizeof(real), threads)
    threads = <int>imin(threads, imax(plan.n_items, 1))
    each = plan.acc_size + plan.x.scratch
    cdef Workspace space = take_workspace(threads * each)
    cdef char* scratch = space.aligned()
    cdef uint64_t mode = fc_float_mode(), before
    with nogil:
        if threads == 1:
            for item in range(plan.n_items):
                weight_block(isa, &plan, x, dy, dw, item, scratch)
        else:
            for item in prange(plan.n_items, num_threads=threads, schedule="dynamic"):
                before = fc_set_float_mode(mode)
                weight_block(isa, &plan, x, dy, dw, item, scratch + each * threadid())
                fc_set_float_mode(before)
    give_workspace(space, threads)
    return 0


# --- what Python calls ---------------------------------------------------------------------------

cdef void element_strides(const Py_ssize_t* strides, ptrdiff_t item_size,
                          ptrdiff_t* out) noexcept nogil:
    cdef int i
    for i in range(4):
        out[i] = strides[i] // item_size


cdef int conv2d_of(tuple fields, const real[:, :, :, :] x, const real[:, :, :, ::1] w,
                   Packed packed, const real[::1] bias, real[:, :, :, :] out, int activation,
                   int form, int isa, int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef ptrdiff_t xs[4]
    cdef ptrdiff_t os[4]
    cdef const real* first = NULL
    if bias is not None:
        first = &bias[0]
    element_strides(x.strides, sizeof(real), xs)
    element_strides(out.strides, sizeof(real), os)
    return correlate(isa_table(isa), &g, &x[0, 0, 0, 0], xs, &w[0, 0, 0, 0],
                     packed.memory.aligned() if packed is not None else <const char*>NULL, first,
                     &out[0, 0, 0, 0], os, activation, form, threads)


cdef int conv2d_input_of(tuple fields, const real[:, :, :, :] dy,
                         const real[:, :, :, ::1] w, real[:, :, :, :] dx, int form, int isa,
                         int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef ptrdiff_t ys[4]
    cdef ptrdiff_t xs[4]
    element_strides(dy.strides, sizeof(real), ys)
    element_strides(dx.strides, sizeof(real), xs)
    return correlate_input(isa_table(isa), &g, &dy[0, 0, 0, 0], ys, &w[0, 0, 0, 0],
                           &dx[0, 0, 0, 0], xs, form, threads)


cdef int conv2d_weight_of(tuple fields, const real[:, :, :, :] x,
                          const real[:, :, :, :] dy, real[:, :, :, ::1] dw, int form, int isa,
                          int threads) except -1:
    cdef Geometry g = read_geometry(fields)
    cdef ptrdiff_t xs[4]
    cdef ptrdiff_t ys[4]
    element_strides(x.strides, sizeof(real), xs)
    element_strides(dy.strides, sizeof(real), ys)
    return weight_gradient(isa_table(isa), &g, &x[0, 0, 0, 0], xs, &dy[0, 0, 0, 0], ys,
                           &dw[0, 0, 0, 0], form, threads)


cdef class Packed:
    """Weights as the kernels of one ISA read them in one form."""

    cdef Workspace memory
    cdef readonly size_t nbytes
    cdef readonly int form      # of them; of no use to winograd


cdef Packed packed_of(tuple fields, const real[:, :, :, ::1] w, int form, int isa_index):
    cdef const fc_isa* isa = isa_table(isa_index)
    cdef Geometry g = read_geometry(fields)
    cdef PanelPlan panels
    cdef Packed packed = Packed.__new__(Packed)
    memset(&panels, 0, sizeof(PanelPlan))
    packed.form = form
    panels.x = forward_plan(isa, &g, sizeof(real))
    if form == PANELS:
        plan_panels(&panels, isa, sizeof(real), 1)
        packed.nbytes = panel_weight_size(&panels, sizeof(real))
    else:
        panels.x.mode = form
        cut(&panels.x, isa, sizeof(real), 1)
        packed.nbytes = weight_size(&panels.x, sizeof(real))
    cdef Workspace table = take_workspace(panel_offsets_size(&panels, False))
    cdef Tables tables
    packed.memory = Workspace.__new__(Workspace)
    grow_workspace(packed.memory, packed.nbytes)
    if form == PANELS:
        fill_panel_offsets(&panels, &tables, table.aligned(), False)
        pack_panels(isa, &panels, &w[0, 0, 0, 0], &tables, <real*>packed.memory.aligned())
    else:
        pack_tiles(isa, &panels.x, &w[0, 0, 0, 0], <int32_t*>table.aligned(),
                   <real*>packed.memory.aligned())
    give_workspace(table, 1)
    return packed


def pack_weight(tuple geometry, weight, int form, int isa):
    """Weights packed for any size of the input, in a form other than LANES."""
    if weight.itemsize == 4:
        return packed_of[float](geometry, weight, form, isa)
    return packed_of[double](geometry, weight, form, isa)


def conv2d(tuple geometry, x, weight, Packed packed, bias, out, int activation, int form, int isa,
           int threads):
    """out = activation(correlation(x, weight) + bias), in blocks of this form."""
    if out.itemsize == 4:
        conv2d_of[float](geometry, x, weight, packed, bias, out, activation, form, isa, threads)
    else:
        conv2d_of[double](geometry, x, weight, packed, bias, out, activation, form, isa, threads)


def conv2d_input(tuple geometry, grad_output, weight, out, int form, int isa, int threads):
    """out = gradient with respect to the input."""
    if out.itemsize == 4:
        conv2d_input_of[float](geometry, grad_output, weight, out, form, isa, threads)
    else:
        conv2d_input_of[double](geometry, grad_output, weight, out, form, isa, threads)


def conv2d_weight(tuple geometry, x, grad_output, out, int form, int isa, int threads):
    """out = gradient with respect to the weight."""
    if out.itemsize == 4:
        conv2d_weight_of[float](geometry, x, grad_output, out, form, isa, threads)
    else:
        conv2d_weight_of[double](geometry, x, grad_output, out, form, isa, threads)


# --- patches as columns ---------------------------------------------------------------------------

include "_patches.pxi"


# --- filters in the lanes -------------------------------------------------------------------------

include "_panels.pxi"
include "_panels_input.pxi"
include "_panels_weight.pxi"


# --- convolution, activation and pooling as one ---------------------------------------------------

include "_block.pxi"


# --- one input channel a group --------------------------------------------------------------------

include "_depthwise_channels.pxi"
include "_depthwise.pxi"
include "_winograd_rows.pxi"


# --- 3x3 kernels by Winograd's algorithm -----------------------------------------------------------

include "_winograd.pxi"


# --- calls that come again ------------------------------------------------------------------------

include "_prepared.pxi"


# --- for the costs --------------------------------------------------------------------------------

def bounds():
    """By which the drivers choose blocks and ways: what the costs count with, too."""
    return {
        "SPREAD_BYTES": SPREAD_BYTES, "SPREAD_PIXELS": SPREAD_PIXELS, "SPREAD_DEPTH": SPREAD_DEPTH,
        "V_BYTES": V_BYTES, "VZ_BYTES": VZ_BYTES, "V_MOST_BYTES": V_MOST_BYTES,
        "FEW_TILES": FEW_TILES, "U_BYTES": U_BYTES, "PRODUCT_DEPTH": PRODUCT_DEPTH,
        "PRODUCT_BYTES": PRODUCT_BYTES, "PANEL_ROWS": FC_PANEL_M, "ROWS_TILE": ROWS_TILE,
        "ROWS_BLOCK": ROWS_BLOCK, "ROWS_FLOAT": ROWS_FLOAT, "ROWS_DOUBLE": ROWS_DOUBLE,
    }
