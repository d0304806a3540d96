/* The gradients of pooling: avg_unpool and max_unpool of pool.h. */

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
