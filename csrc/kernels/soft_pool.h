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
 * overflows.  beta has to be finite; a NaN or an infinity in a window makes that window's y NaN.
 * soft_pool computes the rows first <= p < last; soft_unpool all of dx.  Nothing may alias.
 *
 * Windows are unfolded, some hundred at a time, into columns[tap][window]: so vectors are full
 * whatever the length of a row.  A tap outside the image is infinite there, and has no share.
 */

/* e^y for y <= 0 */
FC_INLINE vec FN(fc_exp_of)(vec y) {
  vec n;
  ivec k;
  const vec z = FN(fc_expm1_r)(larger(splat(FC_LEAST), y), &n, &k);
  return times_pow2(1 + z, n, k);
}

/* The part of a row's windows first..last that has tap (r, s) in the image, and its first pixel. */
typedef struct {
  ptrdiff_t from, to, h, w;
} FN(fc_soft_part);

FC_INLINE FN(fc_soft_part) FN(fc_soft_inside)(const fc_pool *g, ptrdiff_t p, ptrdiff_t first,
                                              ptrdiff_t last, ptrdiff_t r, ptrdiff_t s) {
  const ptrdiff_t w = s * g->dilation_w - g->left, stride = g->stride_w;
  FN(fc_soft_part) part = {first, last, p * g->stride_h - g->top + r * g->dilation_h, 0};
  if (part.h < 0 || part.h >= g->height) part.to = first;
  while (part.from < part.to && w + part.from * stride < 0) ++part.from;
  while (part.to > part.from && w + (part.to - 1) * stride >= g->width) --part.to;
  part.w = w + part.from * stride;
  return part;
}

/* columns[tap][i] = what the taps of window + i see, i < n; or (back) dx there grows by it */
FC_KERNEL void FN(fc_soft_columns)(int back, const fc_pool *g, ptrdiff_t window, ptrdiff_t n,
                                   const FC_T *x, FC_T *dx, ptrdiff_t row, ptrdiff_t col,
                                   FC_T outside, FC_T *columns) {
  for (ptrdiff_t r = 0; r < g->kernel_h; ++r)
    for (ptrdiff_t s = 0; s < g->kernel_w; ++s, columns += fc_soft_pool_room(g)) {
      ptrdiff_t p = window / g->out_w, first = window % g->out_w, last;
      for (ptrdiff_t i = 0; i < n; i += last - first, first = 0, ++p) {
        last = n - i < g->out_w - first ? first + n - i : g->out_w;
        const FN(fc_soft_part) part = FN(fc_soft_inside)(g, p, first, last, r, s);
        const ptrdiff_t inside = part.to - part.from, at = part.h * row + part.w * col;
        FC_T *const y = columns + i + (part.from - first);
        if (back) {
          if (inside) FN(fc_give_of)(inside, y, dx + at, col, g->stride_w);
        } else {
          FN(fc_fill)(part.from - first, outside, columns + i);
          if (inside) FN(fc_take_of)(1, inside, x + at, col, g->stride_w, y);
          FN(fc_fill)(last - part.to, outside, y + inside);
        }
      }
    }
}

/* weighted = sum of x_i e_i and total = sum of e_i for VL windows; e_i to `powers` if not NULL.  Of
 * halves no difference overflows. */
FC_INLINE void FN(fc_soft_sums)(const fc_pool *g, const FC_T *x, FC_T beta, FC_T *powers,
                                vec *weighted, vec *total) {
  const ptrdiff_t taps = g->kernel_h * g->kernel_w, room = fc_soft_pool_room(g);
  const FC_T sign = beta < 0 ? -1 : 1, outside = -sign * (FC_T)__builtin_inf();
  vec top = sign * load(x), xe = {0}, e_all = {0};
  for (ptrdiff_t t = 1; t < taps; ++t) top = max_nan(sign * load(x + t * room), top);
  top *= (FC_T)0.5;
  for (ptrdiff_t t = 0; t < taps; ++t) {
    const vec x_t = load(x + t * room);
    const ivec has_share = x_t != splat(outside);
    const vec power = FN(fc_exp_of)(2 * beta * sign * ((FC_T)0.5 * sign * x_t - top));
    const vec e = from_bits(bits(power) & has_share);
    xe += from_bits(bits(x_t) & has_share) * e;
    e_all += e;
    if (powers != NULL) store(powers + t * room, e);
  }
  *weighted = xe, *total = e_all;
}

FC_KERNEL void FN(fc_soft_pool) FC_SOFT_POOL_ARGS(FC_T) {
  const ptrdiff_t room = fc_soft_pool_room(g), stop = last * g->out_w;
  const FC_T outside = beta < 0 ? (FC_T)__builtin_inf() : (FC_T)-__builtin_inf();
  FN(fc_fill)(g->kernel_h * g->kernel_w * room, 0, scratch);
  for (ptrdiff_t start = first * g->out_w; start < stop; start += room) {
    const ptrdiff_t n = stop - start < room ? stop - start : room;
    FN(fc_soft_columns)(0, g, start, n, x, NULL, x_row, x_col, outside, scratch);
    for (ptrdiff_t i = 0; i < n; i += VL) {
      vec weighted, total;
      FN(fc_soft_sums)(g, scratch + i, beta, NULL, &weighted, &total);
      store(scratch + i, weighted / total); /* over the first tap */
    }
    ptrdiff_t p = start / g->out_w, q = start % g->out_w;
    for (ptrdiff_t i = 0; i < n; ++i) {
      y[p * y_row + q * y_col] = scratch[i];
      if (++q == g->out_w) q = 0, ++p;
    }
  }
}

FC_KERNEL void FN(fc_soft_unpool) FC_SOFT_UNPOOL_ARGS(FC_T) {
  const ptrdiff_t taps = g->kernel_h * g->kernel_w, room = fc_soft_pool_room(g);
  const ptrdiff_t stop = g->out_h * g->out_w;
  const FC_T outside = beta < 0 ? (FC_T)__builtin_inf() : (FC_T)-__builtin_inf();
  FC_T *const grads = scratch + taps * room, *const dy_packed = grads + taps * room;
  FN(fc_fill)((2 * taps + 1) * room, 0, scratch);
  for (ptrdiff_t h = 0; h < g->height; ++h)
    for (ptrdiff_t w = 0; w < g->width; ++w) dx[h * dx_row + w * dx_col] = 0;
  for (ptrdiff_t start = 0; start < stop; start += room) {
    const ptrdiff_t n = stop - start < room ? stop - start : room;
    FN(fc_soft_columns)(0, g, start, n, x, NULL, x_row, x_col, outside, scratch);
    ptrdiff_t p = start / g->out_w, q = start % g->out_w;
    for (ptrdiff_t i = 0; i < n; ++i) {
      dy_packed[i] = dy[p * dy_row + q * dy_col];
      if (++q == g->out_w) q = 0, ++p;
    }
    for (ptrdiff_t i = 0; i < n; i += VL) {
      vec weighted, total;
      FN(fc_soft_sums)(g, scratch + i, beta, grads + i, &weighted, &total);
      const vec y = weighted / total, share = load(dy_packed + i) / total;
      for (ptrdiff_t t = i; t < taps * room; t += room)
        store(grads + t, share * load(grads + t) * (1 + beta * (load(scratch + t) - y)));
    }
    FN(fc_soft_columns)(1, g, start, n, NULL, dx, dx_row, dx_col, outside, grads);
  }
}
