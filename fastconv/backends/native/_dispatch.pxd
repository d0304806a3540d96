from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint64_t

from fastconv.backends.native._views cimport View

# The float mode of a thread. A driver hands its own to the threads of its team, item by item:
# each returns to what it was.
cdef extern from "float_mode.h" nogil:
    uint64_t fc_float_mode()
    uint64_t fc_set_float_mode(uint64_t mode)
    uint64_t fc_flush_denormals(bint flush)

# One function-pointer type per kernel and element type, as fastconv.h declares them.
cdef extern from "fastconv.h" nogil:
    enum:
        FC_TILE_M
        FC_TILE_V
        FC_PANEL_M
        FC_PANEL_TURN
        FC_WINOGRAD_STRIP
        FC_DOT_M
        FC_DOT_V
        FC_MAX_LANES

    ctypedef void (*fc_tile_f32)(ptrdiff_t, const float*, ptrdiff_t, const float*, const int32_t*,
                                 const int32_t*, const float*, float*, ptrdiff_t,
                                 const int32_t*) noexcept nogil
    ctypedef void (*fc_panel_f32)(ptrdiff_t, const float*, ptrdiff_t, const float*, const int32_t*,
                                  const int32_t*, const float*, ptrdiff_t, float*,
                                  ptrdiff_t, const char*, ptrdiff_t, ptrdiff_t) noexcept nogil
    ctypedef void (*fc_tile_f64)(ptrdiff_t, const double*, ptrdiff_t, const double*, const int32_t*,
                                 const int32_t*, const double*, double*, ptrdiff_t,
                                 const int32_t*) noexcept nogil
    ctypedef void (*fc_panel_f64)(ptrdiff_t, const double*, ptrdiff_t, const double*, const int32_t*,
                                  const int32_t*, const double*, ptrdiff_t, double*,
                                  ptrdiff_t, const char*, ptrdiff_t, ptrdiff_t) noexcept nogil
    ctypedef void (*fc_dot_f32)(ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t,
                                const float*, ptrdiff_t, const int32_t*, ptrdiff_t,
                                float*) noexcept nogil
    ctypedef void (*fc_dot_f64)(ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t,
                                const double*, ptrdiff_t, const int32_t*, ptrdiff_t,
                                double*) noexcept nogil

    ctypedef struct fc_pool:
        ptrdiff_t height, width, kernel_h, kernel_w, stride_h, stride_w, top, left
        ptrdiff_t dilation_h, dilation_w, out_h, out_w

    ptrdiff_t fc_pool_scratch(const fc_pool*)
    ptrdiff_t fc_soft_pool_scratch(const fc_pool*)

    ctypedef struct fc_windows:
        ptrdiff_t height, width, kernel_h, kernel_w

    ctypedef struct fc_channels:
        ptrdiff_t C, Q, S, step, dilation, left, width, x_row, x_col, w_row, w_tap, y_col

    ctypedef void (*fc_unpool_f32)(const fc_windows*, float, const float*, const float*,
                                   float*) noexcept nogil
    ctypedef void (*fc_unpool_f64)(const fc_windows*, double, const double*, const double*,
                                   double*) noexcept nogil

    ctypedef void (*fc_winograd_weight_f32)(ptrdiff_t, int, const float*, float*, ptrdiff_t,
                                            ptrdiff_t) noexcept nogil
    ctypedef void (*fc_winograd_input_f32)(ptrdiff_t, const float*, const int32_t*, ptrdiff_t,
                                           float*, ptrdiff_t, ptrdiff_t) noexcept nogil
    ctypedef void (*fc_winograd_output_f32)(ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t,
                                            const float*, float*, ptrdiff_t) noexcept nogil

    ctypedef struct fc_kernels_f32:
        int lanes
        int tile_m
        int[9] tile_v
        fc_tile_f32[8][4] tile
        int panel_v
        fc_panel_f32[6][4] panel
        void (*panel_keep)(ptrdiff_t, const float*, ptrdiff_t, const float*, const int32_t*,
                           const int32_t*, const float*, ptrdiff_t, float*, ptrdiff_t,
                           float*) noexcept nogil
        int dot_m
        int[7] dot_v
        fc_dot_f32[6][5] dot
        void (*gather_lanes)(ptrdiff_t, int, const float*, ptrdiff_t, float*,
                             ptrdiff_t) noexcept nogil
        void (*scatter_lanes)(ptrdiff_t, int, const float*, ptrdiff_t, float*,
                              ptrdiff_t) noexcept nogil
        void (*pack)(int, ptrdiff_t, const float*, ptrdiff_t, const int32_t*, float*,
                     ptrdiff_t) noexcept nogil
        void (*depthwise)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                          const float**, const int32_t*, const float*, float, float*,
                          ptrdiff_t) noexcept nogil
        void (*depthwise_3x3)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const float**, ptrdiff_t, ptrdiff_t,
                              const float*, float, float*, ptrdiff_t) noexcept nogil
        void (*depthwise_column)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                 const float**, ptrdiff_t, const float*, ptrdiff_t, float, float*,
                                 ptrdiff_t) noexcept nogil
        void (*depthwise_channels)(const fc_channels*, ptrdiff_t, const float*, const float*,
                                   const float*, float*) noexcept nogil
        void (*depthwise_channels_weight)(const fc_channels*, ptrdiff_t, const float*, const float*,
                                          float*) noexcept nogil
        void (*split_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, const float*,
                           ptrdiff_t, float*, ptrdiff_t) noexcept nogil
        void (*merge_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t,
                           float*) noexcept nogil
        void (*spread_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, const float**, ptrdiff_t,
                            const float*, ptrdiff_t, float*, ptrdiff_t) noexcept nogil
        fc_winograd_weight_f32[2] winograd_weight
        fc_winograd_input_f32[2] winograd_input
        fc_winograd_output_f32[2] winograd_output
        void (*winograd_phases_weight)(ptrdiff_t, const float*, float*, ptrdiff_t, ptrdiff_t,
                                       ptrdiff_t) noexcept nogil
        void (*winograd_phases_input)(ptrdiff_t, const float*, const int32_t*, ptrdiff_t, float*,
                                      ptrdiff_t, ptrdiff_t, ptrdiff_t) noexcept nogil
        fc_winograd_output_f32 winograd_phases_output
        void (*winograd_pairs)(ptrdiff_t, ptrdiff_t, const float**, ptrdiff_t, ptrdiff_t, const float*,
                               float, float*, ptrdiff_t) noexcept nogil
        void (*winograd_rows_weight)(ptrdiff_t, int, const float*, float*, ptrdiff_t) noexcept nogil
        void (*winograd_rows_input)(ptrdiff_t, const float**, float*, ptrdiff_t) noexcept nogil
        void (*winograd_rows_output)(ptrdiff_t, int, const float*, ptrdiff_t, float, float*,
                                     ptrdiff_t) noexcept nogil
        void (*sum_lanes)(ptrdiff_t, const float*, float*) noexcept nogil
        void (*negate)(ptrdiff_t, const float*, float*) noexcept nogil
        void (*relu)(ptrdiff_t, const float*, float*) noexcept nogil
        void (*sigmoid)(ptrdiff_t, const float*, float*) noexcept nogil
        void (*tanh)(ptrdiff_t, const float*, float*) noexcept nogil
        void (*relu_backward)(ptrdiff_t, const float*, const float*, float*) noexcept nogil
        void (*sigmoid_backward)(ptrdiff_t, const float*, const float*, float*) noexcept nogil
        void (*tanh_backward)(ptrdiff_t, const float*, const float*, float*) noexcept nogil
        double (*sum)(ptrdiff_t, const float*) noexcept nogil
        void (*max_pool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, float*,
                         ptrdiff_t, ptrdiff_t, float*) noexcept nogil
        void (*max_pool_at)(const fc_pool*, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, float*,
                            ptrdiff_t, ptrdiff_t, int64_t*, float*) noexcept nogil
        void (*avg_pool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t,
                         const float*, const float*, float, float*, ptrdiff_t, ptrdiff_t,
                         float*) noexcept nogil
        void (*avg_unpool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t,
                           const float*, const float*, float, float*, ptrdiff_t, ptrdiff_t,
                           float*) noexcept nogil
        ptrdiff_t (*max_unpool)(const fc_pool*, const float*, ptrdiff_t, ptrdiff_t, const int64_t*,
                                ptrdiff_t, ptrdiff_t, float*, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*take)(ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, float*) noexcept nogil
        void (*give)(ptrdiff_t, const float*, float*, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*soft_pool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, float,
                          float*, ptrdiff_t, ptrdiff_t, float*) noexcept nogil
        void (*soft_unpool)(const fc_pool*, const float*, ptrdiff_t, ptrdiff_t, const float*, ptrdiff_t,
                            ptrdiff_t, float, float*, ptrdiff_t, ptrdiff_t, float*) noexcept nogil
        void (*avg_pool_lanes)(const fc_windows*, float, const float*, float*) noexcept nogil
        void (*max_pool_lanes)(const fc_windows*, float, const float*, float*) noexcept nogil
        fc_unpool_f32[4] avg_unpool_lanes
        fc_unpool_f32[4] max_unpool_lanes

    ctypedef void (*fc_winograd_weight_f64)(ptrdiff_t, int, const double*, double*, ptrdiff_t,
                                            ptrdiff_t) noexcept nogil
    ctypedef void (*fc_winograd_input_f64)(ptrdiff_t, const double*, const int32_t*, ptrdiff_t,
                                           double*, ptrdiff_t, ptrdiff_t) noexcept nogil
    ctypedef void (*fc_winograd_output_f64)(ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t,
                                            const double*, double*, ptrdiff_t) noexcept nogil

    ctypedef struct fc_kernels_f64:
        int lanes
        int tile_m
        int[9] tile_v
        fc_tile_f64[8][4] tile
        int panel_v
        fc_panel_f64[6][4] panel
        void (*panel_keep)(ptrdiff_t, const double*, ptrdiff_t, const double*, const int32_t*,
                           const int32_t*, const double*, ptrdiff_t, double*, ptrdiff_t,
                           double*) noexcept nogil
        int dot_m
        int[7] dot_v
        fc_dot_f64[6][5] dot
        void (*gather_lanes)(ptrdiff_t, int, const double*, ptrdiff_t, double*,
                             ptrdiff_t) noexcept nogil
        void (*scatter_lanes)(ptrdiff_t, int, const double*, ptrdiff_t, double*,
                              ptrdiff_t) noexcept nogil
        void (*pack)(int, ptrdiff_t, const double*, ptrdiff_t, const int32_t*, double*,
                     ptrdiff_t) noexcept nogil
        void (*depthwise)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                          const double**, const int32_t*, const double*, double, double*,
                          ptrdiff_t) noexcept nogil
        void (*depthwise_3x3)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const double**, ptrdiff_t, ptrdiff_t,
                              const double*, double, double*, ptrdiff_t) noexcept nogil
        void (*depthwise_column)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t,
                                 const double**, ptrdiff_t, const double*, ptrdiff_t, double, double*,
                                 ptrdiff_t) noexcept nogil
        void (*depthwise_channels)(const fc_channels*, ptrdiff_t, const double*, const double*,
                                   const double*, double*) noexcept nogil
        void (*depthwise_channels_weight)(const fc_channels*, ptrdiff_t, const double*, const double*,
                                          double*) noexcept nogil
        void (*split_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, const double*,
                           ptrdiff_t, double*, ptrdiff_t) noexcept nogil
        void (*merge_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t,
                           double*) noexcept nogil
        void (*spread_rows)(ptrdiff_t, ptrdiff_t, ptrdiff_t, ptrdiff_t, const double**, ptrdiff_t,
                            const double*, ptrdiff_t, double*, ptrdiff_t) noexcept nogil
        fc_winograd_weight_f64[2] winograd_weight
        fc_winograd_input_f64[2] winograd_input
        fc_winograd_output_f64[2] winograd_output
        void (*winograd_rows_weight)(ptrdiff_t, int, const double*, double*, ptrdiff_t) noexcept nogil
        void (*winograd_rows_input)(ptrdiff_t, const double**, double*, ptrdiff_t) noexcept nogil
        void (*winograd_rows_output)(ptrdiff_t, int, const double*, ptrdiff_t, double, double*,
                                     ptrdiff_t) noexcept nogil
        void (*sum_lanes)(ptrdiff_t, const double*, double*) noexcept nogil
        void (*negate)(ptrdiff_t, const double*, double*) noexcept nogil
        void (*relu)(ptrdiff_t, const double*, double*) noexcept nogil
        void (*sigmoid)(ptrdiff_t, const double*, double*) noexcept nogil
        void (*tanh)(ptrdiff_t, const double*, double*) noexcept nogil
        void (*relu_backward)(ptrdiff_t, const double*, const double*, double*) noexcept nogil
        void (*sigmoid_backward)(ptrdiff_t, const double*, const double*, double*) noexcept nogil
        void (*tanh_backward)(ptrdiff_t, const double*, const double*, double*) noexcept nogil
        double (*sum)(ptrdiff_t, const double*) noexcept nogil
        void (*max_pool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t, double*,
                         ptrdiff_t, ptrdiff_t, double*) noexcept nogil
        void (*max_pool_at)(const fc_pool*, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t, double*,
                            ptrdiff_t, ptrdiff_t, int64_t*, double*) noexcept nogil
        void (*avg_pool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t,
                         const double*, const double*, double, double*, ptrdiff_t, ptrdiff_t,
                         double*) noexcept nogil
        void (*avg_unpool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t,
                           const double*, const double*, double, double*, ptrdiff_t, ptrdiff_t,
                           double*) noexcept nogil
        ptrdiff_t (*max_unpool)(const fc_pool*, const double*, ptrdiff_t, ptrdiff_t, const int64_t*,
                                ptrdiff_t, ptrdiff_t, double*, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*take)(ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t, double*) noexcept nogil
        void (*give)(ptrdiff_t, const double*, double*, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*soft_pool)(const fc_pool*, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t, double,
                          double*, ptrdiff_t, ptrdiff_t, double*) noexcept nogil
        void (*soft_unpool)(const fc_pool*, const double*, ptrdiff_t, ptrdiff_t, const double*, ptrdiff_t,
                            ptrdiff_t, double, double*, ptrdiff_t, ptrdiff_t, double*) noexcept nogil
        void (*avg_pool_lanes)(const fc_windows*, double, const double*, double*) noexcept nogil
        void (*max_pool_lanes)(const fc_windows*, double, const double*, double*) noexcept nogil
        fc_unpool_f64[4] avg_unpool_lanes
        fc_unpool_f64[4] max_unpool_lanes

    ctypedef struct fc_isa:
        const char* name
        int (*runs)() noexcept nogil
        const fc_kernels_f32* f32
        const fc_kernels_f64* f64
        int (*halves)() noexcept nogil

# The kernels of the ISA with this index in isa_names().
cdef const fc_isa* isa_table(int index) noexcept nogil
# Whether this CPU takes its vectors in halves.
cdef bint is_halved(const fc_isa* isa) noexcept nogil

# A call with all worked out but its arrays; see _calls.pxi.
cdef class Call:
    cdef View x, out                # the arrays that it was made with
    cdef Py_ssize_t weight[4]       # shape; of a packed one, which nothing else shares, 0
    cdef object settings, generation
    cdef tuple arguments
    cdef Call next

    cdef object run(self, const View* x, const View* w, bias, out)
