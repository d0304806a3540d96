/* Convolution of one plane with one filter, pixels of a row in the lanes.
 *
 *   y[p][q] = bias + sum_{r < R, s < S} w[r][s] * x[p * stride + r][q * stride + s]   p < P, q < Q
 *
 *   x  [(P - 1) * stride + R] rows x_pitch apart, padded: of each the first
 *      stride * Q' + S - 1 pixels may be read, Q' being Q rounded up to whole vectors
 *   w  [R][S]
 *   y  [P] rows y_pitch apart, of Q pixels
 *
 * stride is 1 or 2.  A tile is M rows by V vectors: an input row is loaded once for all the output
 * rows that it meets, so the loads are (M + R - 1) / (M R) of the products at stride 1.  M * V
 * accumulators, V inputs (2 V at stride 2) and one weight have to fit in the registers.
 */
FC_INLINE void FN(fc_depthwise_tile)(const int M, const int V, const int stride, const ptrdiff_t R,
                                     const ptrdiff_t S, ptrdiff_t q_left, const FC_T *restrict x,
                                     ptrdiff_t x_pitch, const FC_T *restrict w, FC_T bias,
                                     FC_T *restrict y, ptrdiff_t y_pitch) {
  vec acc[7][4];
#pragma GCC unroll 7
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = splat(bias);

#pragma GCC unroll 20
  for (ptrdiff_t i = 0; i < (M - 1) * stride + R; ++i) {
    const FC_T *x_i = x + i * x_pitch;
    for (ptrdiff_t s = 0; s < S; s += stride) {
      vec even[4], odd[4];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        even[v] = load(x_i + v * stride * VL + s);
        if (stride == 2) {
          const vec next = load(x_i + v * 2 * VL + VL + s);
          odd[v] = held(odds(even[v], next));
          even[v] = evens(even[v], next);
        }
        even[v] = held(even[v]);
      }
#pragma GCC unroll 7
      for (int m = 0; m < M; ++m) {
        const ptrdiff_t r = i - m * stride;
        if (r < 0 || r >= R) continue;
        const vec w_s = splat(w[r * S + s]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[m][v] += w_s * even[v];
        if (stride == 2 && s + 1 < S) {
          const vec w_next = splat(w[r * S + s + 1]);
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) acc[m][v] += w_next * odd[v];
        }
      }
    }
  }

#pragma GCC unroll 7
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V - 1; ++v) store(y + m * y_pitch + v * VL, acc[m][v]);
    const ptrdiff_t last = q_left - (V - 1) * VL;
    if (FC_LIKELY(last >= VL))
      store(y + m * y_pitch + (V - 1) * VL, acc[m][V - 1]);
    else
      store_n(y + m * y_pitch + (V - 1) * VL, (int)last, acc[m][V - 1]);
  }
}

/* M rows, all columns */
FC_INLINE void FN(fc_depthwise_rows)(const int M, const int stride, const ptrdiff_t R,
                                     const ptrdiff_t S, ptrdiff_t Q, const FC_T *x,
                                     ptrdiff_t x_pitch, const FC_T *w, FC_T bias, FC_T *y,
                                     ptrdiff_t y_pitch) {
  ptrdiff_t q = 0;
#define FC_COLUMNS(V)                                                                            \
  FN(fc_depthwise_tile)(M, V, stride, R, S, Q - q, x + q * stride, x_pitch, w, bias, y + q, y_pitch)
#if FC_ISA_TILE_M == 8 /* 32 registers */
  if (stride == 1)
    for (; Q - q > 3 * VL; q += 4 * VL) FC_COLUMNS(4);
#endif
  for (; Q - q > VL; q += 2 * VL) FC_COLUMNS(2);
  if (q < Q) FC_COLUMNS(1);
#undef FC_COLUMNS
}

FC_INLINE void FN(fc_depthwise_of)(const int stride, const ptrdiff_t R, const ptrdiff_t S,
                                   ptrdiff_t P, ptrdiff_t Q, const FC_T *x, ptrdiff_t x_pitch,
                                   const FC_T *w, FC_T bias, FC_T *y, ptrdiff_t y_pitch) {
  /* the last rows overlap those before where P is no multiple: they come out the same again */
  if (Q <= VL && P >= 7) {
    for (ptrdiff_t p = 0; p < P; p += 7) {
      if (p > P - 7) p = P - 7;
      FN(fc_depthwise_tile)(7, 1, stride, R, S, Q, x + p * stride * x_pitch, x_pitch, w, bias,
                            y + p * y_pitch, y_pitch);
    }
  } else if (P >= 4) {
    for (ptrdiff_t p = 0; p < P; p += 4) {
      if (p > P - 4) p = P - 4;
      FN(fc_depthwise_rows)(4, stride, R, S, Q, x + p * stride * x_pitch, x_pitch, w, bias,
                            y + p * y_pitch, y_pitch);
    }
  } else {
    for (ptrdiff_t p = 0; p < P; ++p)
      FN(fc_depthwise_rows)(1, stride, R, S, Q, x + p * stride * x_pitch, x_pitch, w, bias,
                            y + p * y_pitch, y_pitch);
  }
}

#define FC_DEPTHWISE(NAME, STRIDE, R, S)                                                         \
  FC_KERNEL void FN(fc_depthwise_##NAME) FC_DEPTHWISE_ARGS(FC_T) {                               \
    (void)stride, (void)kernel_h, (void)kernel_w;                                                          \
    FN(fc_depthwise_of)(STRIDE, R, S, P, Q, x, x_pitch, w, bias, y, y_pitch);                    \
  }
FC_DEPTHWISE(any_1, 1, kernel_h, kernel_w)
FC_DEPTHWISE(any_2, 2, kernel_h, kernel_w)
FC_DEPTHWISE(3x3_1, 1, 3, 3)
#undef FC_DEPTHWISE

FC_KERNEL void FN(fc_depthwise) FC_DEPTHWISE_ARGS(FC_T) {
#define FC_DO(NAME) FN(fc_depthwise_##NAME)(stride, kernel_h, kernel_w, P, Q, x, x_pitch, w, bias, y, y_pitch)
  if (stride == 2)
    FC_DO(any_2);
  else if (kernel_h == 3 && kernel_w == 3) /* the common size, with its loops unrolled */
    FC_DO(3x3_1);
  else
    FC_DO(any_1);
#undef FC_DO
}

/* Rows with zeros around them.
 *
 *   y[above + i][j] = left <= j < left + n ? x[i][j - left] : 0      i < rows, j < y_pitch
 *   y[i][j] = 0                         i < above or above + rows <= i < above + rows + below
 *
 *   x  [rows] x_row apart, of n pixels      y  [above + rows + below][y_pitch]
 *
 * y_pitch is a whole number of vectors, and left + n rounded up to whole vectors is at most y_pitch.
 */
FC_KERNEL void FN(fc_pad_rows) FC_PAD_ROWS_ARGS(FC_T) {
  for (FC_T *const end = y + above * y_pitch; y < end; y += VL) store(y, (vec){0});
  for (ptrdiff_t i = 0; i < rows; ++i, x += x_row, y += y_pitch) {
    for (ptrdiff_t j = 0; j < left; j += VL) store(y + j, (vec){0});
    FC_T *to = y + left;
    ptrdiff_t j = 0;
    for (; j + VL <= n; j += VL) store(to + j, load(x + j));
    if (j < n) {
      store(to + j, load_n(x + j, (int)(n - j), (vec){0}));
      j += VL;
    }
    for (; left + j < y_pitch; j += VL) {
      const ptrdiff_t rest = y_pitch - left - j;
      store_n(to + j, rest < VL ? (int)rest : VL, (vec){0});
    }
  }
  for (FC_T *const end = y + below * y_pitch; y < end; y += VL) store(y, (vec){0});
}
