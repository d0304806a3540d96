/* Convolution of one plane with one filter, pixels of a row in the lanes.
 *
 *   y[p][q] = bias + sum_{r < R, s < S} w[r][s] * x[p * stride + r][at[s] + q]     p < P, q < Q
 *
 *   x   [(P - 1) * stride + R] rows x_pitch apart, as `split_rows` makes them: the pixels of a row lie
 *       in phases, so that those of neighbouring outputs are neighbours whatever the stride along the
 *       row.  Behind each at[s] as many are read as Q rounded up to whole vectors.
 *   at  [S] where the pixel of tap s for the first output lies in a row
 *   w   [R][S]
 *   y   [P] rows y_pitch apart, of Q pixels
 *
 * A tile is M rows by V vectors.  An input row is loaded once for all the output rows that it meets:
 * at stride 1 the loads are (M + R - 1) / (M R) of the products.  M * V accumulators, V inputs and one
 * weight have to fit in the registers.
 */
FC_INLINE void FN(fc_depthwise_tile)(const int M, const int V, const ptrdiff_t stride,
                                     const ptrdiff_t R, const ptrdiff_t S, ptrdiff_t q_left,
                                     const FC_T *restrict x, ptrdiff_t x_pitch,
                                     const int32_t *restrict at, const FC_T *restrict w, FC_T bias,
                                     FC_T *restrict y, ptrdiff_t y_pitch) {
  vec acc[7][4];
#pragma GCC unroll 7
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = splat(bias);

#pragma GCC unroll 9
  for (ptrdiff_t i = 0; i < (M - 1) * stride + R; ++i)
    for (ptrdiff_t s = 0; s < S; ++s) {
      const FC_T *x_s = x + i * x_pitch + at[s];
      vec x_v[4];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) x_v[v] = held(load(x_s + v * VL));
#pragma GCC unroll 7
      for (int m = 0; m < M; ++m) {
        const ptrdiff_t r = i - m * stride;
        if (r < 0 || r >= R) continue;
        const vec w_s = splat(w[r * S + s]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[m][v] += w_s * x_v[v];
      }
    }

  const ptrdiff_t last = q_left - (V - 1) * VL; /* pixels of the last vector */
#pragma GCC unroll 7
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V - 1; ++v) store(y + m * y_pitch + v * VL, acc[m][v]);
    if (FC_LIKELY(last >= VL))
      store(y + m * y_pitch + (V - 1) * VL, acc[m][V - 1]);
    else
      store_n(y + m * y_pitch + (V - 1) * VL, (int)last, acc[m][V - 1]);
  }
}

/* M rows, all columns */
FC_INLINE void FN(fc_depthwise_rows)(const int M, const ptrdiff_t stride, const ptrdiff_t R,
                                     const ptrdiff_t S, ptrdiff_t Q, const FC_T *x,
                                     ptrdiff_t x_pitch, const int32_t *at, const FC_T *w, FC_T bias,
                                     FC_T *y, ptrdiff_t y_pitch) {
  ptrdiff_t q = 0;
#define FC_COLUMNS(V)                                                                            \
  FN(fc_depthwise_tile)(M, V, stride, R, S, Q - q, x + q, x_pitch, at, w, bias, y + q, y_pitch)
#if FC_ISA_TILE_M == 8 /* 32 registers */
  for (; Q - q > 3 * VL; q += 4 * VL) FC_COLUMNS(4);
#endif
  for (; Q - q > VL; q += 2 * VL) FC_COLUMNS(2);
  if (q < Q) FC_COLUMNS(1);
#undef FC_COLUMNS
}

FC_INLINE void FN(fc_depthwise_of)(const ptrdiff_t stride, const ptrdiff_t R, const ptrdiff_t S,
                                   ptrdiff_t P, ptrdiff_t Q, const FC_T *x, ptrdiff_t x_pitch,
                                   const int32_t *at, const FC_T *w, FC_T bias, FC_T *y,
                                   ptrdiff_t y_pitch) {
  /* the last rows overlap those before where P is no multiple: they come out the same again */
  if (Q <= VL && P >= 7) {
    for (ptrdiff_t p = 0; p < P; p += 7) {
      if (p > P - 7) p = P - 7;
      FN(fc_depthwise_tile)(7, 1, stride, R, S, Q, x + p * stride * x_pitch, x_pitch, at, w, bias,
                            y + p * y_pitch, y_pitch);
    }
  } else if (P >= 4) {
    for (ptrdiff_t p = 0; p < P; p += 4) {
      if (p > P - 4) p = P - 4;
      FN(fc_depthwise_rows)(4, stride, R, S, Q, x + p * stride * x_pitch, x_pitch, at, w, bias,
                            y + p * y_pitch, y_pitch);
    }
  } else {
    for (ptrdiff_t p = 0; p < P; ++p)
      FN(fc_depthwise_rows)(1, stride, R, S, Q, x + p * stride * x_pitch, x_pitch, at, w, bias,
                            y + p * y_pitch, y_pitch);
  }
}

FC_KERNEL void FN(fc_depthwise_any) FC_DEPTHWISE_ARGS(FC_T) {
  FN(fc_depthwise_of)(stride, kernel_h, kernel_w, P, Q, x, x_pitch, at, w, bias, y, y_pitch);
}

/* the common size with its loops unrolled */
FC_KERNEL void FN(fc_depthwise_3x3) FC_DEPTHWISE_ARGS(FC_T) {
  (void)stride, (void)kernel_h, (void)kernel_w;
  FN(fc_depthwise_of)(1, 3, 3, P, Q, x, x_pitch, at, w, bias, y, y_pitch);
}

FC_KERNEL void FN(fc_depthwise) FC_DEPTHWISE_ARGS(FC_T) {
  if (stride == 1 && kernel_h == 3 && kernel_w == 3)
    FN(fc_depthwise_3x3)(stride, kernel_h, kernel_w, P, Q, x, x_pitch, at, w, bias, y, y_pitch);
  else
    FN(fc_depthwise_any)(stride, kernel_h, kernel_w, P, Q, x, x_pitch, at, w, bias, y, y_pitch);
}

/* Rows with zeros around them, each split into the phases of a stride.
 *
 *   y[above + i][f][lead + j] = x[i][j * stride + f]     i < rows, f < stride, j * stride + f < n
 *   every other element of y is zero
 *
 *   x  [rows] x_row apart, of n pixels      y  [above + rows + below][stride][phase]
 *
 * lead and phase are whole numbers of vectors; phase has room for lead and for the n / stride pixels of
 * a phase, rounded up to whole vectors.
 */
FC_INLINE void FN(fc_zeros)(FC_T *y, FC_T *end) {
  for (; y < end; y += VL) store(y, (vec){0});
}

FC_KERNEL void FN(fc_split_rows) FC_SPLIT_ROWS_ARGS(FC_T) {
  const ptrdiff_t whole = ((n + stride - 1) / stride + VL - 1) / VL * VL;
  FN(fc_zeros)(y, y + above * stride * phase);
  y += above * stride * phase;
  for (ptrdiff_t i = 0; i < rows; ++i, x += x_row, y += stride * phase) {
    for (ptrdiff_t f = 0; f < stride; ++f) {
      FN(fc_zeros)(y + f * phase, y + f * phase + lead);
      FN(fc_zeros)(y + f * phase + lead + whole, y + (f + 1) * phase);
    }
    FC_T *to = y + lead;
    if (stride == 1) {
      ptrdiff_t j = 0;
      for (; j + VL <= n; j += VL) store(to + j, load(x + j));
      if (j < n) store(to + j, load_n(x + j, (int)(n - j), (vec){0}));
    } else if (stride == 2) {
      ptrdiff_t j = 0;
      for (; 2 * (j + VL) <= n; j += VL) {
        const vec a = load(x + 2 * j), b = load(x + 2 * j + VL);
        store(to + j, evens(a, b));
        store(to + phase + j, odds(a, b));
      }
      if (2 * j < n) {
        vec a, b;
        FN(fc_load_pairs)(x + 2 * j, (int)(n - 2 * j), &a, &b);
        store(to + j, evens(a, b));
        store(to + phase + j, odds(a, b));
      }
    } else {
      for (ptrdiff_t f = 0; f < stride; ++f) {
        FC_T *const to_f = to + f * phase;
        for (ptrdiff_t j = 0; j < whole; ++j) to_f[j] = j * stride + f < n ? x[j * stride + f] : 0;
      }
    }
  }
  FN(fc_zeros)(y, y + below * stride * phase);
}

/* A row out of the phases of a stride: what split_rows takes apart.
 *
 *   y[j] = x[(first + j) % stride][(first + j) / stride]     j < n
 *
 *   x  [stride] phases x_pitch apart; of each as many pixels as n needs, rounded up to whole vectors,
 *      may be read
 */
FC_KERNEL void FN(fc_merge_rows) FC_MERGE_ROWS_ARGS(FC_T) {
  ptrdiff_t j = 0, f = first % stride, k = first / stride;
  if (stride == 1) {
    memcpy(y, x + k, (size_t)n * sizeof(FC_T));
    return;
  }
  if (stride == 2) {
    if (f && n > 0) y[j++] = x[x_pitch + k++];
    for (; j < n; j += 2 * VL, k += VL) {
      const vec a = load(x + k), b = load(x + x_pitch + k);
      const int rest = n - j < 2 * VL ? (int)(n - j) : 2 * VL, low = rest < VL ? rest : VL;
      store_n(y + j, low, zip_lo(a, b));
      store_n(y + j + low, rest - low, zip_hi(a, b));
    }
    return;
  }
  for (; j < n; ++j) {
    y[j] = x[f * x_pitch + k];
    if (++f == stride) f = 0, ++k;
  }
}
