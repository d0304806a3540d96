/* What pooling (pool.h) does with rows: columns of a window joined into one row, and windows along a row.
 * A `kind` is a known constant wherever it is given.
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
