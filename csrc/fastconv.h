/* The kernel table: all that the Cython drivers see of csrc/.
 *
 * Every kernel is pure: the caller owns memory, padding and threads.  Dimensions, names and the
 * rules for pointers are in README.md; what one kernel computes stands at its head in kernels/.
 * Lengths, pitches and offsets count elements, never bytes.
 */
#ifndef FASTCONV_H
#define FASTCONV_H

#include <stddef.h>
#include <stdint.h>

enum {
  FC_TILE_M = 8, /* rows (output channels) of the largest register tile of any ISA */
  FC_TILE_V = 4, /* vectors (output pixels) of the widest one */
  FC_PANEL_M = 6, /* rows (output pixels) of a panel's tile */
  FC_PANEL_V = 4, /* vectors (output channels) of the widest one */
  FC_PANEL_TURN = 8, /* steps after which it fetches what comes next */
  FC_WINOGRAD_STRIP = 16, /* most tiles that the driver stages for a call */
  FC_WINOGRAD_FEW = 4, /* tiles that a call transforms at a time: what it keeps of them stays in L1 */
  FC_DOT_M = 6,
  FC_DOT_V = 5,
  FC_MAX_LANES = 16, /* elements of the widest vector of any ISA */
  FC_POOL_JOINED = 512, /* elements of narrow rows that a pooling takes along together */
};

/* kernels/tile.h */
#define FC_TILE_ARGS(T)                                                                          \
  (ptrdiff_t depth, const T *w, ptrdiff_t w_pitch, const T *x, const int32_t *off,               \
   const int32_t *at, const T *bias, T *y, ptrdiff_t y_pitch, const int32_t *to)
/* kernels/panel.h */
#define FC_PANEL_ARGS(T)                                                                         \
  (ptrdiff_t depth, const T *w, ptrdiff_t w_pitch, const T *x, const int32_t *off,               \
   const int32_t *at, const T *start, ptrdiff_t start_pitch, T *y, ptrdiff_t y_pitch,             \
   const char *next, ptrdiff_t lines, ptrdiff_t next_pitch)
#define FC_PANEL_KEEP_ARGS(T)                                                                    \
  (ptrdiff_t depth, const T *w, ptrdiff_t w_pitch, const T *x, const int32_t *off,               \
   const int32_t *at, const T *start, ptrdiff_t start_pitch, T *y, ptrdiff_t y_pitch, T *kept)
/* kernels/dot.h */
#define FC_DOT_ARGS(T)                                                                           \
  (ptrdiff_t rows, ptrdiff_t n, const T *a, ptrdiff_t a_row, ptrdiff_t a_pitch, const T *b,      \
   ptrdiff_t b_row, const int32_t *at, ptrdiff_t b_step, T *acc)
/* kernels/lanes.h */
#define FC_GATHER_ARGS(T)                                                                        \
  (ptrdiff_t n, int images, const T *x, ptrdiff_t x_image, T *y, ptrdiff_t y_pitch)
#define FC_SCATTER_ARGS(T) \
  (ptrdiff_t n, int images, const T *x, ptrdiff_t x_pitch, T *y, ptrdiff_t y_image)
/* kernels/pack.h */
#define FC_PACK_ARGS(T)                                                                          \
  (int m, ptrdiff_t n, const T *w, ptrdiff_t w_m, const int32_t *slot, T *y, ptrdiff_t y_pitch)
#define FC_SUM_LANES_ARGS(T) (ptrdiff_t n, const T *acc, T *y)
/* kernels/activation.h */
#define FC_MAP_ARGS(T) (ptrdiff_t n, const T *x, T *y)
#define FC_MAP_BACKWARD_ARGS(T) (ptrdiff_t n, const T *grad, const T *y, T *out)
#define FC_SUM_ARGS(T) (ptrdiff_t n, const T *x)
/* kernels/depthwise.h */
#define FC_DEPTHWISE_ARGS(T)                                                                     \
  (ptrdiff_t stride, ptrdiff_t step, ptrdiff_t kernel_h, ptrdiff_t kernel_w, ptrdiff_t P,        \
   ptrdiff_t Q, const T *const *x, const int32_t *at, const T *w, T bias, T *y, ptrdiff_t y_pitch)
#define FC_DEPTHWISE_COLUMN_ARGS(T)                                                              \
  (ptrdiff_t stride, ptrdiff_t dilation, ptrdiff_t kernel_h, ptrdiff_t kernel_w, ptrdiff_t P,    \
   const T *const *x, ptrdiff_t at, const T *w, ptrdiff_t w_row, T bias, T *y, ptrdiff_t y_pitch)
/* kernels/depthwise_3x3.h */
#define FC_DEPTHWISE_3X3_ARGS(T)                                                                 \
  (ptrdiff_t stride, ptrdiff_t P, ptrdiff_t Q, const T *const *x, ptrdiff_t left,                \
   ptrdiff_t width, const T *w, T bias, T *y, ptrdiff_t y_pitch)
/* kernels/strides.h */
#define FC_SPLIT_ROWS_ARGS(T)                                                                    \
  (ptrdiff_t rows, ptrdiff_t n, ptrdiff_t first, ptrdiff_t length, ptrdiff_t stride, const T *x, \
   ptrdiff_t x_row, T *y, ptrdiff_t phase)
#define FC_MERGE_ROWS_ARGS(T)                                                                    \
  (ptrdiff_t n, ptrdiff_t first, ptrdiff_t stride, const T *x, ptrdiff_t x_pitch, T *y)
#define FC_SPREAD_ROWS_ARGS(T)                                                                   \
  (ptrdiff_t R, ptrdiff_t S, ptrdiff_t P, ptrdiff_t n, const T *const *x, ptrdiff_t left,        \
   const T *w, ptrdiff_t w_row, T *y, ptrdiff_t y_pitch)
/* kernels/depthwise_channels.h */
typedef struct {
  ptrdiff_t C, Q, S, step, dilation, left, width;
  ptrdiff_t x_row, x_col, w_row, w_tap, y_col;
} fc_channels;
#define FC_DEPTHWISE_CHANNELS_ARGS(T)                                                            \
  (const fc_channels *g, ptrdiff_t R, const T *x, const T *w, const T *bias, T *y)
#define FC_DEPTHWISE_CHANNELS_WEIGHT_ARGS(T)                                                     \
  (const fc_channels *g, ptrdiff_t R, const T *x, const T *dy, T *acc)
/* kernels/winograd.h */
#define FC_WINOGRAD_WEIGHT_ARGS(T)                                                               \
  (ptrdiff_t channels, int turned, const T *w, T *u, ptrdiff_t u_step, ptrdiff_t u_pitch)
#define FC_WINOGRAD_INPUT_ARGS(T)                                                                \
  (ptrdiff_t tiles, const T *x, const int32_t *at, ptrdiff_t x_col, T *v, ptrdiff_t v_tile,      \
   ptrdiff_t v_pitch)
#define FC_WINOGRAD_OUTPUT_ARGS(T)                                                               \
  (ptrdiff_t tiles, const T *z, ptrdiff_t z_tile, ptrdiff_t z_pitch, const T *bias, T *y,        \
   ptrdiff_t y_row)
/* kernels/winograd_phases.h */
#define FC_WINOGRAD_PHASES_WEIGHT_ARGS(T)                                                        \
  (ptrdiff_t channels, const T *w, T *u, ptrdiff_t u_step, ptrdiff_t u_phase, ptrdiff_t u_pitch)
#define FC_WINOGRAD_PHASES_INPUT_ARGS(T)                                                         \
  (ptrdiff_t tiles, const T *x, const int32_t *at, ptrdiff_t x_col, T *v, ptrdiff_t v_tile,      \
   ptrdiff_t v_phase, ptrdiff_t v_pitch)
/* kernels/winograd_pairs.h */
#define FC_WINOGRAD_PAIRS_ARGS(T)                                                                \
  (ptrdiff_t P, ptrdiff_t Q, const T *const *x, ptrdiff_t left, ptrdiff_t width, const T *w,     \
   T bias, T *y, ptrdiff_t y_pitch)
/* kernels/winograd_rows.h */
#define FC_WINOGRAD_ROWS_WEIGHT_ARGS(T) \
  (ptrdiff_t S, int rows, const T *w, T *u, ptrdiff_t u_pitch)
#define FC_WINOGRAD_ROWS_INPUT_ARGS(T) \
  (ptrdiff_t n, const T *const *x, T *v, ptrdiff_t v_pitch)
#define FC_WINOGRAD_ROWS_OUTPUT_ARGS(T)                                                          \
  (ptrdiff_t n, int rows, const T *z, ptrdiff_t z_pitch, T bias, T *y, ptrdiff_t y_pitch)
/* kernels/pool.h, pool_at.h, unpool.h */
typedef struct {
  ptrdiff_t height, width, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
  ptrdiff_t out_h, out_w;
} fc_pool;
/* elements of scratch, whatever the kernel and the ISA */
static inline __attribute__((unused)) ptrdiff_t fc_pool_scratch(const fc_pool *g) {
  const ptrdiff_t span = (g->out_w - 1) * g->stride_w + (g->kernel_w - 1) * g->dilation_w + 1;
  return span + g->left + g->width + 3 * g->out_w + g->kernel_w + 5 * FC_MAX_LANES + FC_POOL_JOINED;
}
#define FC_MAX_POOL_ARGS(T)                                                                      \
  (const fc_pool *g, ptrdiff_t first, ptrdiff_t last, const T *x, ptrdiff_t x_row,               \
   ptrdiff_t x_col, T *y, ptrdiff_t y_row, ptrdiff_t y_col, T *scratch)
#define FC_MAX_POOL_AT_ARGS(T)                                                                   \
  (const fc_pool *g, ptrdiff_t first, ptrdiff_t last, const T *x, ptrdiff_t x_row,               \
   ptrdiff_t x_col, T *y, ptrdiff_t y_row, ptrdiff_t y_col, int64_t *at, T *scratch)
#define FC_AVG_POOL_ARGS(T)                                                                      \
  (const fc_pool *g, ptrdiff_t first, ptrdiff_t last, const T *x, ptrdiff_t x_row,               \
   ptrdiff_t x_col, const T *row_div, const T *col_div, T scale, T *y, ptrdiff_t y_row,          \
   ptrdiff_t y_col, T *scratch)
#define FC_AVG_UNPOOL_ARGS(T)                                                                    \
  (const fc_pool *g, ptrdiff_t first, ptrdiff_t last, const T *y, ptrdiff_t y_row,               \
   ptrdiff_t y_col, const T *row_div, const T *col_div, T scale, T *dx, ptrdiff_t dx_row,        \
   ptrdiff_t dx_col, T *scratch)
#define FC_MAX_UNPOOL_ARGS(T)                                                                    \
  (const fc_pool *g, const T *y, ptrdiff_t y_row, ptrdiff_t y_col, const int64_t *at,            \
   ptrdiff_t at_row, ptrdiff_t at_col, T *dx, ptrdiff_t dx_row, ptrdiff_t dx_col)
/* kernels/patches.h */
#define FC_TAKE_ARGS(T)                                                                          \
  (ptrdiff_t n, const T *x, ptrdiff_t x_col, ptrdiff_t stride, T *y)
#define FC_GIVE_ARGS(T)                                                                          \
  (ptrdiff_t n, const T *y, T *x, ptrdiff_t x_col, ptrdiff_t stride)
/* kernels/soft_pool.h: windows unfolded at a time, so that short columns of them stay in L1 */
static inline __attribute__((unused)) ptrdiff_t fc_soft_pool_room(const fc_pool *g) {
  const ptrdiff_t least = FC_MAX_LANES, windows = g->out_h * g->out_w;
  ptrdiff_t room = 2048 / (g->kernel_h * g->kernel_w);
  room = room < windows ? room : windows;
  room = room < 256 ? room : 256;
  return room < 1 ? least : (room + least - 1) / least * least;
}
/* elements of scratch, both ways */
static inline __attribute__((unused)) ptrdiff_t fc_soft_pool_scratch(const fc_pool *g) {
  return (2 * g->kernel_h * g->kernel_w + 1) * fc_soft_pool_room(g);
}
#define FC_SOFT_POOL_ARGS(T)                                                                     \
  (const fc_pool *g, ptrdiff_t first, ptrdiff_t last, const T *x, ptrdiff_t x_row,               \
   ptrdiff_t x_col, T beta, T *y, ptrdiff_t y_row, ptrdiff_t y_col, T *scratch)
#define FC_SOFT_UNPOOL_ARGS(T)                                                                   \
  (const fc_pool *g, const T *dy, ptrdiff_t dy_row, ptrdiff_t dy_col, const T *x,                \
   ptrdiff_t x_row, ptrdiff_t x_col, T beta, T *dx, ptrdiff_t dx_row, ptrdiff_t dx_col,          \
   T *scratch)

/* kernels/block.h */
typedef struct {
  ptrdiff_t height, width, kernel_h, kernel_w;
} fc_windows;
#define FC_POOL_LANES_ARGS(T) (const fc_windows *g, T scale, const T *x, T *y)
#define FC_UNPOOL_LANES_ARGS(T)                                                                  \
  (const fc_windows *g, T scale, const T *dy, const T *x, T *dx)

#define FC_DECLARE(T, S)                                                                         \
  typedef void(*fc_tile_##S) FC_TILE_ARGS(T);                                                    \
  typedef void(*fc_panel_##S) FC_PANEL_ARGS(T);                                                  \
  typedef void(*fc_dot_##S) FC_DOT_ARGS(T);                                                      \
  typedef struct {                                                                               \
    int lanes;                     /* VL: elements of a vector */                                \
    int tile_m;                    /* rows of this ISA's tile, 1..FC_TILE_M */                   \
    int tile_v[FC_TILE_M + 1];     /* vectors of the widest tile with m rows */                  \
    fc_tile_##S tile[FC_TILE_M][FC_TILE_V]; /* [m - 1][v - 1] */                                 \
    int panel_v;                   /* vectors of a panel; a panel's tile has up to FC_PANEL_M rows */\
    fc_panel_##S panel[FC_PANEL_M][FC_PANEL_V]; /* [m - 1][v - 1] */                             \
    void(*panel_keep) FC_PANEL_KEEP_ARGS(T); /* of FC_PANEL_M x panel_v; NULL where it does not pay */\
    int dot_m;                     /* rows of its largest inner-product tile */                  \
    int dot_v[FC_DOT_M + 1];       /* vectors of the widest one with m rows */                   \
    fc_dot_##S dot[FC_DOT_M][FC_DOT_V];     /* [m - 1][v - 1] */                                 \
    void(*gather_lanes) FC_GATHER_ARGS(T);                                                       \
    void(*scatter_lanes) FC_SCATTER_ARGS(T);                                                     \
    void(*pack) FC_PACK_ARGS(T);                                                                 \
    void(*depthwise) FC_DEPTHWISE_ARGS(T);                                                       \
    void(*depthwise_3x3) FC_DEPTHWISE_3X3_ARGS(T);                                               \
    void(*depthwise_column) FC_DEPTHWISE_COLUMN_ARGS(T);                                         \
    void(*depthwise_channels) FC_DEPTHWISE_CHANNELS_ARGS(T);                                     \
    void(*depthwise_channels_weight) FC_DEPTHWISE_CHANNELS_WEIGHT_ARGS(T);                       \
    void(*split_rows) FC_SPLIT_ROWS_ARGS(T);                                                     \
    void(*merge_rows) FC_MERGE_ROWS_ARGS(T);                                                     \
    void(*spread_rows) FC_SPREAD_ROWS_ARGS(T);                                                   \
    /* by tile: F(2, 3), F(4, 3) */                                                              \
    void(*winograd_weight[2]) FC_WINOGRAD_WEIGHT_ARGS(T);                                        \
    void(*winograd_input[2]) FC_WINOGRAD_INPUT_ARGS(T);                                          \
    void(*winograd_output[2]) FC_WINOGRAD_OUTPUT_ARGS(T);                                        \
    void(*winograd_phases_weight) FC_WINOGRAD_PHASES_WEIGHT_ARGS(T);                             \
    void(*winograd_phases_input) FC_WINOGRAD_PHASES_INPUT_ARGS(T);                               \
    void(*winograd_phases_output) FC_WINOGRAD_OUTPUT_ARGS(T);                                    \
    void(*winograd_pairs) FC_WINOGRAD_PAIRS_ARGS(T);                                             \
    void(*winograd_rows_weight) FC_WINOGRAD_ROWS_WEIGHT_ARGS(T);                                 \
    void(*winograd_rows_input) FC_WINOGRAD_ROWS_INPUT_ARGS(T);                                   \
    void(*winograd_rows_output) FC_WINOGRAD_ROWS_OUTPUT_ARGS(T);                                 \
    void(*sum_lanes) FC_SUM_LANES_ARGS(T);                                                       \
    void(*negate) FC_MAP_ARGS(T);                                                                \
    void(*relu) FC_MAP_ARGS(T);                                                                  \
    void(*sigmoid) FC_MAP_ARGS(T);                                                               \
    void(*tanh) FC_MAP_ARGS(T);                                                                  \
    void(*relu_backward) FC_MAP_BACKWARD_ARGS(T);                                                \
    void(*sigmoid_backward) FC_MAP_BACKWARD_ARGS(T);                                             \
    void(*tanh_backward) FC_MAP_BACKWARD_ARGS(T);                                                \
    double(*sum) FC_SUM_ARGS(T);                                                                 \
    void(*max_pool) FC_MAX_POOL_ARGS(T);                                                         \
    void(*max_pool_at) FC_MAX_POOL_AT_ARGS(T);                                                   \
    void(*avg_pool) FC_AVG_POOL_ARGS(T);                                                         \
    void(*avg_unpool) FC_AVG_UNPOOL_ARGS(T);                                                     \
    ptrdiff_t(*max_unpool) FC_MAX_UNPOOL_ARGS(T);                                                \
    void(*take) FC_TAKE_ARGS(T);                                                                 \
    void(*give) FC_GIVE_ARGS(T);                                                                 \
    void(*soft_pool) FC_SOFT_POOL_ARGS(T);                                                       \
    void(*soft_unpool) FC_SOFT_UNPOOL_ARGS(T);                                                   \
    void(*avg_pool_lanes) FC_POOL_LANES_ARGS(T);                                                 \
    void(*max_pool_lanes) FC_POOL_LANES_ARGS(T);                                                 \
    /* by activation: none, ReLU, sigmoid, tanh */                                               \
    void(*avg_unpool_lanes[4]) FC_UNPOOL_LANES_ARGS(T);                                          \
    void(*max_unpool_lanes[4]) FC_UNPOOL_LANES_ARGS(T);                                          \
  } fc_kernels_##S;

FC_DECLARE(float, f32)
FC_DECLARE(double, f64)

typedef struct {
  const char *name;
  int (*runs)(void); /* can this CPU run it? */
  const fc_kernels_f32 *f32;
  const fc_kernels_f64 *f64;
  int (*halves)(void); /* do its vectors go through this CPU in halves? NULL: they do not */
} fc_isa;

/* All ISAs of this build, best first, ended by NULL; the last one runs everywhere. */
extern const fc_isa *const fc_isas[];

#endif
