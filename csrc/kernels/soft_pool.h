/* Pooling between the mean and an extreme, of one plane, and back.
 *
 *   soft_pool     y[p][q] = sum_i x_i e^(beta x_i) / sum_i e^(beta x_i), i over the window's pixels
 *                 in the image
 *   soft_unpool   dx[h][w] = sum over the windows (p, q) that hold (h, w) of
 *                 dy[p][q] u (1 + beta (x[h][w] - y[p][q])), u = that pixel's share in the sum
 *
 *   x, dx, y, dy  as in pool.h
 *   scratch       fc_soft_pool_scratch(g) elements
 *
 * The exponents are taken from the window's largest beta x_i, so none is above 0 and nothing
 * overflows.  x and beta have to be finite; a NaN in a window makes that window's y NaN.  soft_pool
 * computes the rows first <= p < last; soft_unpool all of dx.  Nothing may alias.
 */

/* e^y for y <= 0 */
FC_INLINE vec FN(fc_exp_of)(vec y) {
  vec n;
  ivec k;
  const vec z = FN(fc_expm1_r)(larger(splat(FC_LEAST), y), &n, &k);
  return times_pow2(1 + z, n, k);
}

/* One row of windows: their extremes, then the two sums tap by tap. */
typedef struct {
  FC_T *extreme, *weighted, *total, *tap, *grad;
} FN(fc_soft_row);

/* The outputs whose tap s lies in the image. */
FC_INLINE void FN(fc_soft_columns)(const fc_pool *g, ptrdiff_t s, ptrdiff_t *from, ptrdiff_t *to) {
  const ptrdiff_t w = s * g->dilation_w - g->left, stride = g->stride_w;
  *from = w < 0 ? (-w + stride - 1) / stride : 0;
  *to = w < g->width ? (g->width - 1 - w) / stride + 1 : 0;
  if (*to > g->out_w) *to = g->out_w;
  if (*from > *to) *from = *to;
}

/* tap[q] = x at tap s of the windows from..to of a row */
FC_INLINE void FN(fc_soft_tap)(const fc_pool *g, const FC_T *x_r, ptrdiff_t x_col, ptrdiff_t s,
                               ptrdiff_t from, ptrdiff_t to, FC_T *tap) {
  const ptrdiff_t step = g->stride_w * x_col;
  const FC_T *x_q = x_r + (s * g->dilation_w - g->left) * x_col;
  for (ptrdiff_t q = from; q < to; ++q) tap[q] = x_q[q * step];
}

FC_INLINE void FN(fc_soft_sums)(const fc_pool *g, ptrdiff_t p, const FC_T *x, ptrdiff_t x_row,
                                ptrdiff_t x_col, FC_T beta, const FN(fc_soft_row) * b,
                                FC_T *scratch) {
  const ptrdiff_t n = g->out_w;
  ptrdiff_t first, last;
  /* every row of theirs is written to the same place */
  if (beta < 0) {
    FN(fc_min_pool)(g, p, p + 1, x, x_row, x_col, b->extreme, 0, 1, scratch);
  } else {
    FN(fc_max_pool)(g, p, p + 1, x, x_row, x_col, b->extreme, 0, 1, scratch);
  }
  for (ptrdiff_t q = 0; q < n; ++q) b->weighted[q] = b->total[q] = 0;
  FN(fc_rows_inside)(g, p, &first, &last);
  for (ptrdiff_t r = first; r < last; ++r) {
    const FC_T *x_r = x + (p * g->stride_h - g->top + r * g->dilation_h) * x_row;
    for (ptrdiff_t s = 0; s < g->kernel_w; ++s) {
      ptrdiff_t from, to;
      FN(fc_soft_columns)(g, s, &from, &to);
      FN(fc_soft_tap)(g, x_r, x_col, s, from, to, b->tap);
      for (ptrdiff_t q = from; q < to; q += VL) { /* the lanes behind `to` are not kept */
        const int here = to - q < VL ? (int)(to - q) : VL;
        const vec x_q = load(b->tap + q);
        const vec e = FN(fc_exp_of)(beta * (x_q - load(b->extreme + q)));
        store_n(b->weighted + q, here, load(b->weighted + q) + x_q * e);
        store_n(b->total + q, here, load(b->total + q) + e);
      }
    }
  }
}

FC_INLINE FN(fc_soft_row) FN(fc_soft_buffers)(const fc_pool *g, FC_T *scratch) {
  const ptrdiff_t room = g->out_w + VL;
  FC_T *const start = scratch + fc_pool_scratch(g);
  FN(fc_fill)(5 * room, 0, start);
  return (FN(fc_soft_row)){start, start + room, start + 2 * room, start + 3 * room,
                           start + 4 * room};
}

FC_KERNEL void FN(fc_soft_pool) FC_SOFT_POOL_ARGS(FC_T) {
  const FN(fc_soft_row) b = FN(fc_soft_buffers)(g, scratch);
  for (ptrdiff_t p = first; p < last; ++p) {
    FN(fc_soft_sums)(g, p, x, x_row, x_col, beta, &b, scratch);
    for (ptrdiff_t q = 0; q < g->out_w; ++q) y[p * y_row + q * y_col] = b.weighted[q] / b.total[q];
  }
}

FC_KERNEL void FN(fc_soft_unpool) FC_SOFT_UNPOOL_ARGS(FC_T) {
  const FN(fc_soft_row) b = FN(fc_soft_buffers)(g, scratch);
  for (ptrdiff_t h = 0; h < g->height; ++h)
    for (ptrdiff_t w = 0; w < g->width; ++w) dx[h * dx_row + w * dx_col] = 0;
  for (ptrdiff_t p = 0; p < g->out_h; ++p) {
    FN(fc_soft_sums)(g, p, x, x_row, x_col, beta, &b, scratch);
    for (ptrdiff_t q = 0; q < g->out_w; ++q) {
      b.weighted[q] /= b.total[q];                       /* y */
      b.total[q] = dy[p * dy_row + q * dy_col] / b.total[q]; /* dy over the sum */
    }
    ptrdiff_t first, last;
    FN(fc_rows_inside)(g, p, &first, &last);
    for (ptrdiff_t r = first; r < last; ++r) {
      const ptrdiff_t h = p * g->stride_h - g->top + r * g->dilation_h;
      for (ptrdiff_t s = 0; s < g->kernel_w; ++s) {
        ptrdiff_t from, to;
        FN(fc_soft_columns)(g, s, &from, &to);
        FN(fc_soft_tap)(g, x + h * x_row, x_col, s, from, to, b.tap);
        for (ptrdiff_t q = from; q < to; q += VL) {
          const vec x_q = load(b.tap + q);
          const vec e = FN(fc_exp_of)(beta * (x_q - load(b.extreme + q)));
          store(b.grad + q, load(b.total + q) * e * (1 + beta * (x_q - load(b.weighted + q))));
        }
        FC_T *const dx_q = dx + h * dx_row + (s * g->dilation_w - g->left) * dx_col;
        for (ptrdiff_t q = from; q < to; ++q) dx_q[q * g->stride_w * dx_col] += b.grad[q];
      }
    }
  }
}
