/* Maxima with their places: max_pool_at of pool.h. */

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
#undef FC_ALONG
