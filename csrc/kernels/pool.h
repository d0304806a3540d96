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

#ifndef FC_POOL_KINDS
#define FC_POOL_KINDS
/* what a window's elements are joined to; a known constant wherever it is given */
enum { FC_SUM, FC_MAX };
#endif

/* acc and one more value */
FC_INLINE vec FN(fc_join)(const int kind, vec v, vec acc) {
  return kind == FC_SUM ? acc + v : max_nan(v, acc);
}

FC_INLINE FC_T FN(fc_join1)(const int kind, FC_T v, FC_T acc) {
  return kind == FC_SUM ? acc + v : v > acc || v != v ? v : acc;
}

/* VL elements, one out of two */
FC_INLINE vec FN(fc_load_2)(const FC_T *p) { return evens(load(p), load(p + VL)); }

FC_INLINE void FN(fc_fill)(ptrdiff_t n, FC_T value, FC_T *y) {
  for (ptrdiff_t i = 0; i < n; ++i) y[i] = value;
}

FC_INLINE int FN(fc_is_2x2)(const fc_pool *g) {
  return g->kernel_h == 2 && g->kernel_w == 2 && g->stride_h == 2 && g->stride_w == 2 &&
         g->dilation_h == 1 && g->dilation_w == 1 && g->top == 0 && g->left == 0 &&
         2 * g->out_h <= g->height && 2 * g->out_w <= g->width;
}

/* From the element at 2 q on: those at even and odd places of a row, `here` of each. */
FC_INLINE void FN(fc_split)(const FC_T *x, int here, vec *even, vec *odd) {
  vec a, b;
  if (FC_LIKELY(here == VL)) {
    a = load(x), b = load(x + VL);
  } else {
    const int in_a = 2 * here < VL ? 2 * here : VL;
    a = load_n(x, in_a, (vec){0});
    b = load_n(x + in_a, 2 * here - in_a, (vec){0});
  }
  *even = evens(a, b);
  *odd = odds(a, b);
}

/* The opposite: even and odd places of a row, VL of each. */
FC_INLINE void FN(fc_merge)(FC_T *x, vec even, vec odd) {
  store(x, zip_lo(even, odd));
  store(x + VL, zip_hi(even, odd));
}

/* Rows are walked in vectors; the last one overlaps its neighbour where the row is long enough. */
#define FC_ALONG(q, n, here)                                                                     \
  for (ptrdiff_t q = 0, here = 0;                                                                \
       q < (n) && (q = (n) - q < VL && (n) >= VL ? (n) - VL : q,                                 \
                  here = (n) - q < VL ? (n) - q : VL, 1);                                        \
       q += VL)

FC_INLINE void FN(fc_row_2x2)(const int kind, ptrdiff_t n, const FC_T *x, ptrdiff_t x_row,
                              FC_T scale, FC_T divisor, FC_T *y) {
  FC_ALONG(q, n, here) {
    vec e0, o0, e1, o1, acc;
    if (FC_LIKELY(here == VL)) {
      /* rows first: one permutation less */
      const FC_T *x_q = x + 2 * q;
      const vec a = FN(fc_join)(kind, load(x_q + x_row), load(x_q));
      const vec b = FN(fc_join)(kind, load(x_q + x_row + VL), load(x_q + VL));
      acc = FN(fc_join)(kind, odds(a, b), evens(a, b));
    } else {
      FN(fc_split)(x + 2 * q, (int)here, &e0, &o0);
      FN(fc_split)(x + 2 * q + x_row, (int)here, &e1, &o1);
      acc = FN(fc_join)(kind, FN(fc_join)(kind, o1, o0), FN(fc_join)(kind, e1, e0));
    }
    if (kind == FC_SUM) acc = scale != 0 ? acc * scale : acc / divisor;
    if (FC_LIKELY(here == VL)) {
      store(y + q, acc);
    } else {
      store_n(y + q, (int)here, acc);
    }
  }
}

/* y[i] = join_{r < rows} x[r * step + i] */
FC_INLINE void FN(fc_down_of)(const int kind, const int rows, ptrdiff_t n, const FC_T *x,
                              ptrdiff_t step, FC_T *y) {
  FC_ALONG(i, n, here) {
    vec acc;
    const FC_T *x_r = x + i;
    if (FC_LIKELY(here == VL)) {
      acc = load(x_r);
#pragma GCC unroll 3
      for (int r = 1; r < rows; ++r)
        acc = FN(fc_join)(kind, load(x_r += step), acc);
      store(y + i, acc);
    } else {
      acc = load_n(x_r, (int)here, (vec){0});
      for (int r = 1; r < rows; ++r)
        acc = FN(fc_join)(kind, load_n(x_r += step, (int)here, (vec){0}), acc);
      store_n(y + i, (int)here, acc);
    }
  }
}

FC_INLINE void FN(fc_down)(const int kind, ptrdiff_t rows, ptrdiff_t n, const FC_T *x,
                           ptrdiff_t step, ptrdiff_t x_col, FC_T *y) {
  if (x_col != 1) {
    for (ptrdiff_t i = 0; i < n; ++i) y[i] = x[i * x_col];
    for (ptrdiff_t r = 1; r < rows; ++r)
      for (ptrdiff_t i = 0; i < n; ++i)
        y[i] = FN(fc_join1)(kind, x[r * step + i * x_col], y[i]);
  } else if (rows == 3) {
    FN(fc_down_of)(kind, 3, n, x, step, y);
  } else if (rows == 2) {
    FN(fc_down_of)(kind, 2, n, x, step, y);
  } else {
    FN(fc_down_of)(kind, (int)rows, n, x, step, y);
  }
}

/* join_{s < taps} x[i * stride + s * step] for the VL outputs from i = 0 on; stride 1 or 2 */
FC_INLINE vec FN(fc_window)(const int kind, const int stride, ptrdiff_t taps, ptrdiff_t step,
                            const FC_T *x) {
  vec acc = stride == 1 ? load(x) : FN(fc_load_2)(x);
#pragma GCC unroll 3
  for (ptrdiff_t s = 1; s < taps; ++s) {
    x += step;
    acc = FN(fc_join)(kind, stride == 1 ? load(x) : FN(fc_load_2)(x), acc);
  }
  return acc;
}

/* join_{s < taps} x[s] of at least a vector */
FC_INLINE FC_T FN(fc_long_window)(const int kind, ptrdiff_t taps, const FC_T *x) {
  vec acc = load(x);
  ptrdiff_t s = VL;
  for (; s <= taps - VL; s += VL) acc = FN(fc_join)(kind, load(x + s), acc);
  if (s < taps)
    acc = FN(fc_join)(kind, kind == FC_SUM ? load_first(x + s, (int)(taps - s)) : load(x + taps - VL),
                      acc);
  if (kind == FC_MAX) { /* in any order: neighbours, and theirs */
    acc = max_nan(evens(acc, acc), odds(acc, acc));
#pragma GCC unroll 3
    for (int left = VL / 2; left > 1; left /= 2)
      acc = max_nan(some_evens(acc, acc), some_odds(acc, acc));
    return acc[0];
  }
  FC_T all = acc[0];
#pragma GCC unroll 16
  for (int i = 1; i < VL; ++i) all += acc[i];
  return all;
}

FC_INLINE int FN(fc_is_long)(const fc_pool *g) {
  return g->stride_w > 2 && g->dilation_w == 1 && g->kernel_w >= VL;
}

/* One window over all of a packed plane, which then is one row; lanes of a sum are added in their order. */
FC_INLINE int FN(fc_is_whole)(const fc_pool *g, ptrdiff_t x_row) {
  const ptrdiff_t pixels = g->height * g->width;
  return g->out_h == 1 && g->out_w == 1 && g->kernel_h == g->height && g->kernel_w == g->width &&
         g->top == 0 && g->left == 0 && g->dilation_h == 1 && g->dilation_w == 1 &&
         (x_row == g->width || g->height == 1) && pixels >= VL && pixels > 2;
}

/* y[q] = join_{s < taps} row[q * stride + s * step], q < n, divided for averages: by col_div[0] alone
 * where that is said to be the same for all */
FC_INLINE void FN(fc_along_of)(const int kind, const int stride, const ptrdiff_t taps,
                               ptrdiff_t step, ptrdiff_t n, const FC_T *row, FC_T scale,
                               FC_T row_div, const FC_T *col_div, const int same, FC_T *y) {
  FC_ALONG(q, n, here) {
    vec acc = FN(fc_window)(kind, stride, taps, step, row + q * stride);
    if (kind == FC_SUM) {
      if (scale != 0) {
        acc *= scale;
      } else if (same) {
        acc /= row_div * col_div[0];
      } else {
        acc /= row_div * (FC_LIKELY(here == VL) ? load(col_div + q)
                                                : load_n(col_div + q, (int)here, splat(1)));
      }
    }
    if (FC_LIKELY(here == VL)) {
      store(y + q, acc);
    } else {
      store_n(y + q, (int)here, acc);
    }
  }
}

FC_INLINE void FN(fc_along_any)(const int kind, const fc_pool *g, ptrdiff_t n, const FC_T *row,
                                FC_T scale, FC_T row_div, const FC_T *col_div, const int same,
                                FC_T *y) {
  const ptrdiff_t taps = g->kernel_w, step = g->dilation_w, stride = g->stride_w;
  if (stride == 1 && taps == 3) {
    FN(fc_along_of)(kind, 1, 3, step, n, row, scale, row_div, col_div, same, y);
  } else if (stride == 1) {
    FN(fc_along_of)(kind, 1, taps, step, n, row, scale, row_div, col_div, same, y);
  } else if (stride == 2 && taps == 3) {
    FN(fc_along_of)(kind, 2, 3, step, n, row, scale, row_div, col_div, same, y);
  } else if (stride == 2) {
    FN(fc_along_of)(kind, 2, taps, step, n, row, scale, row_div, col_div, same, y);
  } else {
    for (ptrdiff_t q = 0; q < n; ++q) {
      const FC_T *x_q = row + q * stride;
      FC_T acc;
      if (FN(fc_is_long)(g)) {
        acc = FN(fc_long_window)(kind, taps, x_q);
      } else {
        acc = x_q[0];
        for (ptrdiff_t s = 1; s < taps; ++s) acc = FN(fc_join1)(kind, x_q[s * step], acc);
      }
      if (kind == FC_SUM) acc = scale != 0 ? acc * scale : acc / (row_div * col_div[same ? 0 : q]);
      y[q] = acc;
    }
  }
}

/* functions, for they have several callers */
FC_KERNEL void FN(fc_along_max)(const fc_pool *g, ptrdiff_t n, const FC_T *row, FC_T *y) {
  FN(fc_along_any)(FC_MAX, g, n, row, 0, 1, NULL, 1, y);
}
FC_KERNEL void FN(fc_along_sum)(const fc_pool *g, ptrdiff_t n, const FC_T *row, FC_T scale,
                                FC_T row_div, const FC_T *col_div, const int same, FC_T *y) {
  FN(fc_along_any)(FC_SUM, g, n, row, scale, row_div, col_div, same, y);
}
FC_INLINE void FN(fc_along)(const int kind, const fc_pool *g, ptrdiff_t n, const FC_T *row,
                            FC_T scale, FC_T row_div, const FC_T *col_div, const int same, FC_T *y) {
  if (kind == FC_MAX)
    FN(fc_along_max)(g, n, row, y);
  else
    FN(fc_along_sum)(g, n, row, scale, row_div, col_div, same, y);
}

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

/* --- maxima with their places ------------------------------------------------------------------ */

FC_INLINE void FN(fc_row_2x2_at)(ptrdiff_t n, const FC_T *x, ptrdiff_t x_row,
                                 ptrdiff_t width, ptrdiff_t start, FC_T *y, int64_t *at) {
  const ivec below = isplat((FC_I)width);
  FC_ALONG(q, n, here) {
    vec even, odd, m;
    ivec where = (ivec){0};
    FN(fc_split)(x + 2 * q, (int)here, &m, &odd);
    take_max(odd, isplat(1), &m, &where);
    FN(fc_split)(x + 2 * q + x_row, (int)here, &even, &odd);
    take_max(even, below, &m, &where);
    take_max(odd, below + 1, &m, &where);
    if (FC_LIKELY(here == VL)) {
      store(y + q, m);
    } else {
      store_n(y + q, (int)here, m);
    }
    store_index(at + q, (int)here, where + 2 * iota(), start + 2 * q);
  }
}

FC_INLINE void FN(fc_pool_at)(const fc_pool *g, ptrdiff_t first, ptrdiff_t last,
                              const FC_T *x, ptrdiff_t x_row, ptrdiff_t x_col, FC_T *y,
                              ptrdiff_t y_row, ptrdiff_t y_col, int64_t *at, FC_T *scratch) {
  const ptrdiff_t n = g->out_w, width = g->width;
  if (x_col == 1 && first < last && FN(fc_is_whole)(g, x_row)) { /* the maximum, and then its place */
    const FC_T largest = FN(fc_long_window)(FC_MAX, g->height * width, x);
    ptrdiff_t i = 0;
    if (largest == largest)
      while (x[i] != largest) ++i;
    else
      for (i = g->height * width - 1; x[i] == x[i];) --i;
    *y = x[i], *at = i;
    return;
  }
  if (x_col == 1 && y_col == 1 && FN(fc_is_2x2)(g)) {
    for (ptrdiff_t p = first; p < last; ++p)
      FN(fc_row_2x2_at)(n, x + 2 * p * x_row, x_row, width, 2 * p * width, y + p * y_row, at + p * n);
    return;
  }
  /* Rows of the window one after the other, staged with their padding (stride 1 and 2) or one tap at
   * a time; maxima so far and their places relative to the window's corner wait in buffers. */
  const ptrdiff_t span = FN(fc_span)(g), room = span + 2 * VL, padded = n + VL;
  const ptrdiff_t stride = g->stride_w, step = g->dilation_w;
  const ptrdiff_t inside = width < span - g->left ? width : span - g->left;
  FC_T *const row = scratch, *const m = row + room;
  FC_I *const where = (FC_I *)(m + padded), *const col = where + padded;
  FN(fc_fill)(room, (FC_T)-__builtin_inf(), row);
  /* where a row's search starts: its first column in the image */
  for (ptrdiff_t q = 0; q < padded; ++q) {
    const ptrdiff_t w = (q < n ? q : n - 1) * stride - g->left;
    ptrdiff_t to = w < 0 ? w + (-w + step - 1) / step * step : w;
    if (to >= width) to = width - 1; /* no tap at all in the image */
    col[q] = (FC_I)(to - w);
  }
  for (ptrdiff_t p = first; p < last; ++p) {
    ptrdiff_t from, to;
    FN(fc_rows_inside)(g, p, &from, &to);
    const ptrdiff_t h = p * g->stride_h - g->top;
    ptrdiff_t start = h + from * g->dilation_h;
    if (from == to) start = h < 0 ? 0 : g->height - 1;
    const ivec above = isplat((FC_I)((start - h) * width));
    for (ptrdiff_t q = 0; q < n; q += VL) {
      store(m + q, splat((FC_T)-__builtin_inf()));
      store((FC_T *)(where + q), from_bits(above + bits(load((const FC_T *)(col + q)))));
    }
    for (ptrdiff_t r = from; r < to; ++r) {
      const FC_T *x_r = x + (h + r * g->dilation_h) * x_row;
      const FC_I r_at = (FC_I)(r * g->dilation_h * width);
      if (stride <= 2) {
        FN(fc_copy)(inside, x_r, x_col, row + g->left, 1);
        for (ptrdiff_t q = 0; q < n; q += VL) {
          vec m_q = load(m + q);
          ivec where_q = bits(load((const FC_T *)(where + q)));
          const FC_T *x_q = row + q * stride;
          for (ptrdiff_t s = 0; s < g->kernel_w; ++s, x_q += step)
            take_max(stride == 1 ? load(x_q) : FN(fc_load_2)(x_q), isplat(r_at + (FC_I)(s * step)),
                     &m_q, &where_q);
          store(m + q, m_q);
          store((FC_T *)(where + q), from_bits(where_q));
        }
      } else {
        for (ptrdiff_t s = 0; s < g->kernel_w; ++s) {
          const FC_I s_at = r_at + (FC_I)(s * step);
          for (ptrdiff_t q = 0; q < n; ++q) {
            const ptrdiff_t w = q * stride - g->left + s * step;
            if (w < 0 || w >= width) continue;
            const FC_T v = x_r[w * x_col];
            if (v > m[q] || v != v) m[q] = v, where[q] = s_at;
          }
        }
      }
    }
    const int64_t corner = (int64_t)h * width - g->left;
    const ivec steps = iota() * isplat((FC_I)stride);
    FC_ALONG(q, n, here)
      store_index(at + p * n + q, (int)here, bits(load((const FC_T *)(where + q))) + steps,
                  corner + q * stride);
    FN(fc_copy)(n, m, 1, y + p * y_row, y_col);
  }
}

FC_KERNEL void FN(fc_max_pool_at) FC_MAX_POOL_AT_ARGS(FC_T) {
  FN(fc_pool_at)(g, first, last, x, x_row, x_col, y, y_row, y_col, at, scratch);
}

/* --- gradients --------------------------------------------------------------------------------- */

FC_KERNEL void FN(fc_avg_unpool) FC_AVG_UNPOOL_ARGS(FC_T) {
  const ptrdiff_t n = g->out_w, width = g->width;
  if (dx_col == 1 && y_col == 1 && FN(fc_is_2x2)(g)) {
    for (ptrdiff_t h = first, next; h < last; h = next) {
      const ptrdiff_t p = h / 2;
      FC_T *const dx_h = dx + h * dx_row;
      const int both = h % 2 == 0 && h + 1 < last;
      next = h + 1 + both;
      if (p >= g->out_h) {
        next = h + 1;
        memset(dx_h, 0, width * sizeof(FC_T));
        continue;
      }
      const FC_T *y_p = y + p * y_row;
      const FC_T divisor = row_div[p] * col_div[0];
      for (ptrdiff_t q = 0; q < n && n < VL; ++q) {
        const FC_T v = scale != 0 ? y_p[q] * scale : y_p[q] / divisor;
        dx_h[2 * q] = dx_h[2 * q + 1] = v;
        if (both) dx_h[dx_row + 2 * q] = dx_h[dx_row + 2 * q + 1] = v;
      }
      for (ptrdiff_t q = 0; q < n && n >= VL; q += VL) {
        if (q > n - VL) q = n - VL;
        vec v = load(y_p + q);
        v = scale != 0 ? v * scale : v / divisor;
        FN(fc_merge)(dx_h + 2 * q, v, v);
        if (both) FN(fc_merge)(dx_h + dx_row + 2 * q, v, v);
      }
      for (ptrdiff_t w = 2 * n; w < width; ++w) {
        dx_h[w] = 0;
        if (both) dx_h[dx_row + w] = 0;
      }
    }
    return;
  }
  if (dx_col == 1 && FN(fc_is_whole)(g, dx_row)) {
    const FC_T v = 0 + (scale != 0 ? *y * scale : *y / (row_div[0] * col_div[0])); /* no -0, as below */
    FN(fc_fill)((last - first) * width, v, dx + first * width);
    return;
  }
  /* For each row: what all windows over it give, by window column (zero-padded), then by pixel. */
  const ptrdiff_t stride = g->stride_w, taps = g->kernel_w;
  const ptrdiff_t before = (taps - 1) / stride, steps = (g->left + width - 1) / stride + 1;
  const ptrdiff_t columns = before + (n > steps ? n : steps) + VL;
  FC_T *const column = scratch + before, *const pixel = scratch + columns;
  ptrdiff_t old_from = 0, old_to = -1; /* windows that `pixel` was made from */
  FN(fc_fill)(columns, 0, scratch);
  for (ptrdiff_t h = first; h < last; ++h) {
    const ptrdiff_t at = h + g->top;
    ptrdiff_t from = at < g->kernel_h ? 0 : (at - g->kernel_h) / g->stride_h + 1;
    ptrdiff_t to = at / g->stride_h + 1;
    if (to > g->out_h) to = g->out_h;
    if (from > to) from = to;
    if (from != old_from || to != old_to) {
      memset(column, 0, n * sizeof(FC_T));
      for (ptrdiff_t p = from; p < to; ++p) {
        const FC_T *y_p = y + p * y_row;
        const FC_T d = row_div[p];
        ptrdiff_t q = 0;
        for (; y_col == 1 && q <= n - VL; q += VL) {
          const vec v = load(y_p + q);
          store(column + q, load(column + q) + (scale != 0 ? v * scale : v / (d * load(col_div + q))));
        }
        for (; q < n; ++q)
          column[q] += scale != 0 ? y_p[q * y_col] * scale : y_p[q * y_col] / (d * col_div[q]);
      }
      if (stride == 1) {
        for (ptrdiff_t j = 0; j < steps; j += VL) {
          vec acc = load(column + j);
          for (ptrdiff_t s = 1; s < taps; ++s) acc += load(column + j - s);
          store(pixel + j, acc);
        }
      } else if (stride == 2) {
        for (ptrdiff_t j = 0; j < steps; j += VL) {
          vec even = load(column + j), odd = taps > 1 ? even : (vec){0};
          for (ptrdiff_t s = 2; s < taps; s += 2) even += load(column + j - s / 2);
          for (ptrdiff_t s = 3; s < taps; s += 2) odd += load(column + j - s / 2);
          store(pixel + 2 * j, zip_lo(even, odd));
          store(pixel + 2 * j + VL, zip_hi(even, odd));
        }
      } else {
        for (ptrdiff_t w = g->left; w < g->left + width; ++w) {
          FC_T acc = 0;
          for (ptrdiff_t s = w % stride; s < taps; s += stride) acc += column[(w - s) / stride];
          pixel[w] = acc;
        }
      }
      old_from = from, old_to = to;
    }
    FN(fc_copy)(width, pixel + g->left, 1, dx + h * dx_row, dx_col);
  }
}

/* Where all windows are 2x2 beside each other, rows of at least a vector, and every index lies in its
 * own: nothing to add up.  0 if some index does not; dx is then half done. */
FC_INLINE int FN(fc_max_unpool_2x2)(const fc_pool *g, const FC_T *y, ptrdiff_t y_row,
                                    const int64_t *at, ptrdiff_t at_row, FC_T *dx,
                                    ptrdiff_t dx_row) {
  const ptrdiff_t n = g->out_w, width = g->width;
  const ivec below = isplat((FC_I)width), lanes = 2 * iota();
  for (ptrdiff_t p = 0; p < g->out_h; ++p, y += y_row, at += at_row, dx += 2 * dx_row) {
    ivec found = isplat(-1);
    for (ptrdiff_t q = 0; q < n; q += VL) {
      if (q > n - VL) q = n - VL;
      const vec v = load(y + q);
      const ivec to = load_index(at + q, VL, 2 * (p * width + q)) - lanes;
      found &= (to == 0) | (to == 1) | (to == below) | (to == below + 1);
      FN(fc_merge)(dx + 2 * q, if_equal(to, (ivec){0}, v), if_equal(to, isplat(1), v));
      FN(fc_merge)(dx + dx_row + 2 * q, if_equal(to, below, v), if_equal(to, below + 1, v));
    }
    FC_I all = -1;
    for (int i = 0; i < VL; ++i) all &= found[i];
    if (all != -1) return 0;
    for (ptrdiff_t w = 2 * n; w < width; ++w) dx[w] = dx[dx_row + w] = 0;
  }
  if (g->height > 2 * g->out_h) memset(dx, 0, width * sizeof(FC_T));
  return 1;
}

/* Returns -1, or the place p * out_w + q of an index outside 0 .. height * width - 1. */
FC_KERNEL ptrdiff_t FN(fc_max_unpool) FC_MAX_UNPOOL_ARGS(FC_T) {
  const ptrdiff_t n = g->out_w;
  const int64_t pixels = (int64_t)g->height * g->width;
  if (y_col == 1 && at_col == 1 && dx_col == 1 && g->height / 2 == g->out_h &&
      g->width / 2 == n && n >= VL && FN(fc_max_unpool_2x2)(g, y, y_row, at, at_row, dx, dx_row))
    return -1;
  const int packed = dx_col == 1 && dx_row == g->width;
  const ptrdiff_t rows = packed ? 1 : g->height, width = packed ? (ptrdiff_t)pixels : g->width;
  for (ptrdiff_t h = 0; h < rows; ++h)
    if (dx_col == 1)
      memset(dx + h * dx_row, 0, width * sizeof(FC_T));
    else
      for (ptrdiff_t w = 0; w < width; ++w) dx[h * dx_row + w * dx_col] = 0;
  for (ptrdiff_t p = 0; p < g->out_h; ++p)
    for (ptrdiff_t q = 0; q < n; ++q) {
      const int64_t i = at[p * at_row + q * at_col];
      if (i < 0 || i >= pixels) return p * n + q;
      const ptrdiff_t to = packed ? i : i / g->width * dx_row + i % g->width * dx_col;
      dx[to] += y[p * y_row + q * y_col];
    }
  return -1;
}

#undef FC_ALONG
