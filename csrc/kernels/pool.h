/* Pooling of one plane by a window of R x S (kernel_h x kernel_w), and back.
 *
 *   max_pool      y[p][q] = max_{r,s} x[h][w],  h = p stride_h - top + r dilation_h, w likewise
 *   max_pool_at   the same, and at[p][q] = h * width + w of the winner: the first in the image to
 *                 reach the maximum, the last NaN where there is any
 *   avg_pool      y[p][q] = sum_{r,s} x[h][w] / (row_div[p] * col_div[q])
 *   avg_unpool    dx[h][w] = sum over the windows (p, q) that hold (h, w) of
 *                 y[p][q] / (row_div[p] * col_div[q])
 *   max_unpool    dx[i] = sum of y[p][q] over the (p, q) with at[p][q] = i
 *
 *   x, dx     [height][width], rows x_row and elements x_col apart; pixels outside count as minus
 *             infinity or zero, and are never read
 *   y         [out_h][out_w], rows y_row and elements y_col apart
 *   at        [out_h][out_w] packed
 *   row_div   [out_h], col_div [out_w], each of one value where windows tile the rows; averages know
 *             no dilation.  scale is 1 / (row_div * col_div) where that is the same power of two
 *             everywhere, else 0
 *   scratch   fc_pool_scratch(g) elements
 *
 * Only the rows first <= p < last of y (avg_unpool: of dx) are computed; every row is computed in the
 * same way whatever the range.  Nothing may alias.  NaN wins every maximum.
 *
 * Maxima and sums are separable: down the columns of a window into a row buffer that holds the
 * padding, then along it.  Windows of 2x2 that neither overlap nor leave the image have a path of their
 * own in registers.  Rows of less than a vector that windows tile go along together.
 */

/* The rows of output row p that lie in the image: r = *from .. *to - 1. */
FC_INLINE void FN(fc_rows_inside)(const fc_pool *g, ptrdiff_t p, ptrdiff_t *from, ptrdiff_t *to) {
  const ptrdiff_t h = p * g->stride_h - g->top, step = g->dilation_h;
  ptrdiff_t first = h < 0 ? (-h + step - 1) / step : 0;
  ptrdiff_t last = h < g->height ? (g->height - 1 - h) / step + 1 : 0;
  if (last > g->kernel_h) last = g->kernel_h;
  if (first > last) first = last;
  *from = first, *to = last;
}

/* Columns that the windows of a row span. */
FC_INLINE ptrdiff_t FN(fc_span)(const fc_pool *g) {
  return (g->out_w - 1) * g->stride_w + (g->kernel_w - 1) * g->dilation_w + 1;
}

FC_INLINE void FN(fc_copy)(ptrdiff_t n, const FC_T *x, ptrdiff_t x_col, FC_T *y, ptrdiff_t y_col) {
  if (x_col == 1 && y_col == 1)
    memcpy(y, x, n * sizeof(FC_T));
  else
    for (ptrdiff_t i = 0; i < n; ++i) y[i * y_col] = x[i * x_col];
}

/* Whether windows tile the rows, which are packed and give less than a vector each. */
FC_INLINE int FN(fc_is_narrow)(const fc_pool *g, ptrdiff_t x_row, ptrdiff_t y_row) {
  return g->out_w < VL && y_row == g->out_w && x_row == g->width && g->left == 0 &&
         g->kernel_w == g->stride_w && g->dilation_w == 1 && g->stride_w * g->out_w == g->width &&
         g->top == 0 && (g->out_h - 1) * g->stride_h + (g->kernel_h - 1) * g->dilation_h < g->height &&
         2 * g->width <= FC_POOL_JOINED;
}

/* Their rows, several at a time: side by side in the buffer, along together. */
FC_INLINE void FN(fc_pool_narrow)(const int kind, const fc_pool *g, ptrdiff_t first, ptrdiff_t last,
                                  const FC_T *x, const FC_T *row_div, const FC_T *col_div, FC_T scale,
                                  FC_T *y, FC_T *buffer) {
  const ptrdiff_t taps = g->kernel_h, width = g->width, step = g->dilation_h * width;
  const ptrdiff_t most = FC_POOL_JOINED / width;
  const ptrdiff_t whole = (width + VL - 1) / VL * VL;
  const FC_T *const end = x + g->height * width;
  for (ptrdiff_t p = first; p < last; p += most) {
    const ptrdiff_t rows = last - p < most ? last - p : most;
    const FC_T *x_p = x + p * g->stride_h * width;
    FC_T *to = buffer;
    for (ptrdiff_t i = 0; i < rows; ++i, x_p += g->stride_h * width, to += width) {
      if (FC_LIKELY(end - x_p >= (taps - 1) * step + whole)) {
        for (ptrdiff_t w = 0; w < width; w += VL) { /* what goes too far is written over */
          const FC_T *x_w = x_p + w;
          vec acc = load(x_w);
          for (ptrdiff_t r = 1; r < taps; ++r) acc = FN(fc_join)(kind, load(x_w += step), acc);
          store(to + w, acc);
        }
      } else {
        for (ptrdiff_t w = 0; w < width; ++w) { /* the last row of all, or few */
          FC_T acc = x_p[w];
          for (ptrdiff_t r = 1; r < taps; ++r) acc = FN(fc_join1)(kind, x_p[r * step + w], acc);
          to[w] = acc;
        }
      }
    }
    FN(fc_along)(kind, g, rows * g->out_w, buffer, scale, kind != FC_SUM ? 1 : row_div[p], col_div, 1,
                 y + p * g->out_w);
  }
}

FC_INLINE void FN(fc_pool)(const int kind, const fc_pool *g, ptrdiff_t first, ptrdiff_t last,
                           const FC_T *x, ptrdiff_t x_row, ptrdiff_t x_col, const FC_T *row_div,
                           const FC_T *col_div, FC_T scale, FC_T *y, ptrdiff_t y_row,
                           ptrdiff_t y_col, FC_T *scratch) {
  const int packed = x_col == 1 && y_col == 1;
  if (x_col == 1 && FN(fc_is_whole)(g, x_row)) {
    fc_pool flat = *g;
    flat.kernel_w = flat.stride_w = g->height * g->width;
    if (first < last)
      FN(fc_along)(kind, &flat, 1, x, scale, kind != FC_SUM ? 1 : row_div[0], col_div, 1, y);
    return;
  }
  if (packed && FN(fc_is_narrow)(g, x_row, y_row)) {
    FN(fc_pool_narrow)(kind, g, first, last, x, row_div, col_div, scale, y, scratch);
    return;
  }
  if (packed && FN(fc_is_2x2)(g)) {
    for (ptrdiff_t p = first; p < last; ++p)
      FN(fc_row_2x2)(kind, g->out_w, x + 2 * p * x_row, x_row, scale,
                     kind != FC_SUM ? 1 : row_div[p] * col_div[0], y + p * y_row);
    return;
  }
  const ptrdiff_t span = FN(fc_span)(g), room = span + 2 * VL;
  const FC_T outside = kind == FC_SUM ? 0 : (FC_T)-__builtin_inf();
  const ptrdiff_t inside = g->width < span - g->left ? g->width : span - g->left;
  /* windows of one row that are read where they lie */
  const int in_place = packed && g->kernel_h == 1 && g->top == 0 && g->left == 0 &&
                       span <= g->width && FN(fc_is_long)(g);
  FC_T *const y_packed = scratch + room;
  if (!in_place) FN(fc_fill)(room, outside, scratch);
  for (ptrdiff_t p = first; p < last; ++p) {
    ptrdiff_t from, to;
    FN(fc_rows_inside)(g, p, &from, &to);
    const FC_T *x_p = x + (p * g->stride_h - g->top + from * g->dilation_h) * x_row;
    if (from == to) {
      FN(fc_fill)(inside, outside, scratch + g->left);
    } else if (!in_place) {
      FN(fc_down)(kind, to - from, inside, x_p, g->dilation_h * x_row, x_col, scratch + g->left);
    }
    FC_T *const y_p = y_col == 1 ? y + p * y_row : y_packed;
    FN(fc_along)(kind, g, g->out_w, in_place && from < to ? x_p : scratch, scale,
                 kind != FC_SUM ? 1 : row_div[p], col_div, 0, y_p);
    if (y_col != 1) FN(fc_copy)(g->out_w, y_packed, 1, y + p * y_row, y_col);
  }
}

FC_KERNEL void FN(fc_max_pool) FC_MAX_POOL_ARGS(FC_T) {
  FN(fc_pool)(FC_MAX, g, first, last, x, x_row, x_col, NULL, NULL, 0, y, y_row, y_col, scratch);
}

FC_KERNEL void FN(fc_avg_pool) FC_AVG_POOL_ARGS(FC_T) {
  FN(fc_pool)(FC_SUM, g, first, last, x, x_row, x_col, row_div, col_div, scale, y, y_row, y_col, scratch);
}
