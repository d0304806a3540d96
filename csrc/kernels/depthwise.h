/* Convolution of one plane with one filter, pixels of a row in the lanes.
 *
 *   y[p][q] = bias + sum_{r < R, s < S} w[r][s] * x[p * stride + r][at[s] + q * step]     p < P, q < Q
 *
 *   x   [(P - 1) * stride + R] pointers to rows, wherever they lie; of each the at[s] + Q * step
 *       pixels are read, with Q rounded up to whole vectors where it is less than two
 *   at  [S] where the pixel of tap s for the first output lies in a row
 *   w   [R][S]
 *   y   [P] rows y_pitch apart, of Q pixels
 *
 * step is 1 or 2.  A tile is M rows by V vectors.  A row x is loaded once for all the rows of the tile
 * that it meets; with a stride the rows of x, and those of w, fall into phases that do not meet.
 * M * V accumulators, V inputs and one weight have to fit in the registers.  Where P and Q are no
 * multiples of the tile the last ones overlap those before: they come out the same again.
 */
#if FC_ISA_TILE_M == 8 /* 32 registers */
#define FC_DEPTHWISE_V 4
#elif FC_ISA_TILE_M == 6 /* 16, and products that are fused */
#define FC_DEPTHWISE_V 3
#else
#define FC_DEPTHWISE_V 2
#endif

/* one row of x, which the rows from m0 to m1 of the tile meet; w is where row 0 meets it */
FC_INLINE void FN(fc_depthwise_row)(const int m0, const int m1, const int V, const ptrdiff_t S,
                                    const ptrdiff_t step, const FC_T *x, const int32_t *at,
                                    const FC_T *w, const ptrdiff_t w_row, vec acc[4][4]) {
#pragma GCC unroll 3
  for (ptrdiff_t s = 0; s < S; ++s) {
    const FC_T *x_s = x + at[s];
    vec x_v[4];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      if (step == 1)
        x_v[v] = held(load(x_s + v * VL));
      else
        x_v[v] = some_evens(load(x_s + 2 * v * VL), load(x_s + (2 * v + 1) * VL));
#pragma GCC unroll 4
    for (int m = m0; m < m1; ++m) {
      const vec w_s = splat(w[s - m * w_row]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[m][v] += w_s * x_v[v];
    }
  }
}

/* M - 1 <= R / stride */
FC_INLINE void FN(fc_depthwise_tile)(const int M, const int V, const ptrdiff_t stride,
                                     const ptrdiff_t step, const ptrdiff_t R, const ptrdiff_t S,
                                     const FC_T *const *x, ptrdiff_t q, const int32_t *at,
                                     const FC_T *w, FC_T bias,
                                     FC_T *restrict y, ptrdiff_t y_pitch, ptrdiff_t Q) {
  vec acc[4][4];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = splat(bias);

#pragma GCC unroll 2
  for (ptrdiff_t f = 0; f < stride; ++f) {
    const ptrdiff_t taps = (R - f + stride - 1) / stride, w_row = stride * S;
    const FC_T *const *x_f = x + f;
    const FC_T *w_f = w + f * S;
#define FC_ROW(j, m0, m1)                                                                        \
  FN(fc_depthwise_row)(m0, m1, V, S, step, x_f[(j) * stride] + q * step, at, w_f + (j) * w_row,  \
                       w_row, acc)
#pragma GCC unroll 3
    for (int j = 0; j < M - 1; ++j) FC_ROW(j, 0, j + 1);
#pragma GCC unroll 2
    for (ptrdiff_t j = M - 1; j < taps; ++j) FC_ROW(j, 0, M);
#pragma GCC unroll 3
    for (int j = 0; j < M - 1; ++j) FC_ROW(taps + j, j + 1, M);
#undef FC_ROW
  }

#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      if (step == 2) acc[m][v] = sorted(acc[m][v]);

  const ptrdiff_t last = Q - q - (V - 1) * VL; /* pixels of the last vector */
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V - 1; ++v) store(y + m * y_pitch + q + v * VL, acc[m][v]);
    FC_T *const y_last = y + m * y_pitch + q + (V - 1) * VL;
    if (V > 2 || FC_LIKELY(last >= VL))
      store(y_last, acc[m][V - 1]);
    else
      store_n(y_last, (int)last, acc[m][V - 1]);
  }
}

FC_INLINE void FN(fc_depthwise_rows)(const int M, const int V, const ptrdiff_t stride,
                                     const ptrdiff_t step, const ptrdiff_t R, const ptrdiff_t S,
                                     ptrdiff_t P, ptrdiff_t Q,
                                     const FC_T *const *x, const int32_t *at, const FC_T *w,
                                     FC_T bias, FC_T *y, ptrdiff_t y_pitch) {
  for (ptrdiff_t p = 0; p < P; p += M) {
    if (p > P - M) p = P - M;
    ptrdiff_t q = 0;
#define FC_COLUMNS(V)                                                                            \
  FN(fc_depthwise_tile)(M, V, stride, step, R, S, x + p * stride, q, at, w, bias,                \
                        y + p * y_pitch, y_pitch, Q)
    for (; Q - q >= V * VL; q += V * VL) FC_COLUMNS(V);
    for (; Q - q > VL; q += 2 * VL) {
      if (q > Q - 2 * VL && q) q = Q - 2 * VL;
      FC_COLUMNS(2);
    }
    if (q < Q) {
      if (q) q = Q - VL;
      FC_COLUMNS(1);
    }
#undef FC_COLUMNS
  }
}

/* The same with 3 by 3 taps beside each other, and zeros beside the rows.
 *
 *   y[p][q] = bias + sum_{r, s < 3} w[r][s] * x[p * stride + r][q * stride - left + s]     p < P, q < Q
 *
 *   x  [(P - 1) * stride + 3] pointers to rows; pixels outside [0, width) count as zero; from -left on
 *      max(Q, VL) * stride + 2 pixels are read, whatever they hold beside the row
 *   w  [3][3]      y  [P] rows y_pitch apart, of Q pixels
 *
 * What lies `ahead` elements behind the rows is brought into the cache, if it is memory at all.
 * stride is 1 or 2, in both directions.  A tile is M rows by one vector: nine weights, the sums and a
 * vector of a row, which is loaded once for all the sums it goes into.
 */
FC_INLINE void FN(fc_depthwise_taps)(const ptrdiff_t stride, vec a, vec b, vec c, vec d, vec x_s[3]) {
  x_s[0] = stride == 1 ? a : some_evens(a, b);
  x_s[1] = stride == 1 ? b : some_odds(a, b);
  x_s[2] = stride == 1 ? c : some_evens(c, d);
}

/* the lanes from x[at] on that lie in the row, as a vector to be shuffled like one */
FC_INLINE vec FN(fc_depthwise_inside)(ptrdiff_t at, ptrdiff_t width) {
  const ivec lane = iota();
  const ptrdiff_t begin = at < 0 ? -at : 0, end = width - at;
  return from_bits((lane >= (FC_I)(begin < VL ? begin : VL)) & (lane < (FC_I)(end < VL ? end : VL)));
}

FC_INLINE void FN(fc_depthwise_3x3_tile)(const int M, const int stride, const ivec *mask,
                                         const FC_T *const *x, ptrdiff_t at, ptrdiff_t ahead,
                                         const vec w[9], FC_T bias, FC_T *restrict y,
                                         ptrdiff_t y_pitch, int n) {
  vec acc[7];
#pragma GCC unroll 7
  for (int m = 0; m < M; ++m) acc[m] = splat(bias);
#pragma GCC unroll 15
  for (int j = 0; j < (M - 1) * stride + 3; ++j) {
    const FC_T *const x_j = x[j] + at;
    __builtin_prefetch(x_j + ahead);
    if (stride == 2 && FC_BYTES == 64) __builtin_prefetch(x_j + ahead + VL);
    vec x_s[3];
    if (stride == 2)
      FN(fc_depthwise_taps)(2, load(x_j), load(x_j + VL), load(x_j + 2), load(x_j + 2 + VL), x_s);
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s)
      if (stride == 1)
        x_s[s] = held(mask ? load_where(x_j + s, mask[s]) : load(x_j + s));
      else
        x_s[s] = held(mask ? from_bits(bits(x_s[s]) & mask[s]) : x_s[s]);
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s)
#pragma GCC unroll 7
      for (int m = 0; m < M; ++m)
        if (j >= m * stride && j < m * stride + 3) acc[m] += w[(j - m * stride) * 3 + s] * x_s[s];
    if (j < 2 || (j - 2) % stride) continue;
    const int m = (j - 2) / stride;
    const vec y_m = stride == 2 ? sorted(acc[m]) : acc[m];
    if (FC_BYTES == 64 && mask)
      store_n(y + m * y_pitch, n, y_m);
    else
      store(y + m * y_pitch, y_m);
  }
}

/* one vector of all rows: n pixels of it where there are not as many as lanes */
FC_INLINE void FN(fc_depthwise_3x3_strip)(const int stride, const ivec *mask, ptrdiff_t P,
                                          const FC_T *const *x, ptrdiff_t at, ptrdiff_t ahead,
                                          const FC_T *taps, FC_T bias, FC_T *y, ptrdiff_t y_pitch,
                                          ptrdiff_t n) {
  vec w[9];
  FC_T narrow[7 * VL];
  /* short rows go by way of a buffer where a masked store takes longer */
  const int is_narrow = FC_BYTES < 64 && mask && n < VL, first = n < VL ? (int)n : VL;
#pragma GCC unroll 9
  for (int i = 0; i < 9; ++i) w[i] = held(splat(taps[i]));
#define FC_3X3(M)                                                                                \
  do {                                                                                           \
    FC_T *const y_p = y + p * y_pitch;                                                           \
    FN(fc_depthwise_3x3_tile)(M, stride, mask, x + p * stride, at, ahead, w, bias,               \
                              is_narrow ? narrow : y_p, is_narrow ? VL : y_pitch, first);        \
    if (is_narrow)                                                                               \
      for (int m = 0; m < M; ++m) {                                                              \
        /* what lies beyond a row is written over by the next ones */                            \
        if (y_pitch == n && (P - p - m) * n >= VL)                                               \
          store(y_p + m * n, load(narrow + m * VL));                                             \
        else                                                                                     \
          store_n(y_p + m * y_pitch, (int)n, load(narrow + m * VL));                             \
      }                                                                                          \
  } while (0)
  ptrdiff_t p = 0;
  if (P >= 7) {
    const ptrdiff_t end = P % 7 > 2 ? P : P / 7 * 7; /* the last tile overlaps the one before */
    for (; p < end; p += 7) {
      if (p > P - 7) p = P - 7;
      FC_3X3(7);
    }
  }
  for (; p < P; ++p) FC_3X3(1);
#undef FC_3X3
}

/* functions, for GCC would load what they share before it knows which is called */
#define FC_STRIP(name, stride, mask)                                                             \
  FC_KERNEL void FN(name)(const ivec *in, ptrdiff_t P, const FC_T *const *x, ptrdiff_t at,       \
                          ptrdiff_t ahead, const FC_T *w, FC_T bias, FC_T *y,                    \
                          ptrdiff_t y_pitch, ptrdiff_t n) {                                      \
    (void)in;                                                                                    \
    FN(fc_depthwise_3x3_strip)(stride, mask, P, x, at, ahead, w, bias, y, y_pitch, n);           \
  }
FC_STRIP(fc_strip_3x3, 1, NULL)
FC_STRIP(fc_strip_3x3_border, 1, in)
FC_STRIP(fc_strip_3x3_s2, 2, NULL)
FC_STRIP(fc_strip_3x3_s2_border, 2, in)
#undef FC_STRIP

FC_KERNEL void FN(fc_depthwise_3x3) FC_DEPTHWISE_3X3_ARGS(FC_T) {
  for (ptrdiff_t q = 0; q < Q; q += VL) {
    if (q && q > Q - VL) q = Q - VL;
    const ptrdiff_t at = q * stride - left;
#define FC_STRIP(name, mask) FN(name)(mask, P, x, at, ahead, w, bias, y + q, y_pitch, Q)
    if (Q >= VL && at >= 0 && at + 2 + stride * VL <= width) {
      if (stride == 1)
        FC_STRIP(fc_strip_3x3, NULL);
      else
        FC_STRIP(fc_strip_3x3_s2, NULL);
      continue;
    }
#define FC_INSIDE(i) FN(fc_depthwise_inside)(at + (i), width)
    vec in[3];
    ivec mask[3];
    FN(fc_depthwise_taps)(stride, FC_INSIDE(0), FC_INSIDE(stride == 1 ? 1 : VL), FC_INSIDE(2),
                          FC_INSIDE(2 + VL), in);
#undef FC_INSIDE
    for (int s = 0; s < 3; ++s) mask[s] = bits(in[s]);
    if (stride == 1)
      FC_STRIP(fc_strip_3x3_border, mask);
    else
      FC_STRIP(fc_strip_3x3_s2_border, mask);
#undef FC_STRIP
  }
}

FC_KERNEL void FN(fc_depthwise) FC_DEPTHWISE_ARGS(FC_T) {
  const ptrdiff_t taps = kernel_h / stride; /* the fewest of a phase */
#define FC_ROWS(M, V, step)                                                                      \
  FN(fc_depthwise_rows)(M, V, stride, step, kernel_h, kernel_w, P, Q, x, at, w, bias, y, y_pitch)
  if (step == 2 && taps >= 1 && P >= 2)
    FC_ROWS(2, 2, 2);
  else if (step == 2)
    FC_ROWS(1, 2, 2);
  else if (taps >= 3 && P >= 4)
    FC_ROWS(4, FC_DEPTHWISE_V, 1);
  else if (taps >= 1 && P >= 2)
    FC_ROWS(2, FC_DEPTHWISE_V, 1);
  else
    FC_ROWS(1, FC_DEPTHWISE_V, 1);
#undef FC_ROWS
}

/* One column of it, pixel by pixel: at the border, where some taps lie beside the rows.
 *
 *   y[p] = bias + sum_{r < R, s < S} w[r][s] * x[p * stride + r][at + s * dilation]     p < P
 *
 *   x  as above; of each row the pixels of the taps are read      w  [R] rows w_row apart, of S
 *   y  [P] y_pitch apart
 */
FC_INLINE void FN(fc_depthwise_pixels)(const int M, ptrdiff_t stride, ptrdiff_t dilation,
                                       ptrdiff_t R, ptrdiff_t S, const FC_T *const *x, ptrdiff_t at,
                                       const FC_T *w, ptrdiff_t w_row, FC_T bias, FC_T *y,
                                       ptrdiff_t y_pitch) {
  FC_T sum[8];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) sum[m] = bias;
  for (ptrdiff_t r = 0; r < R; ++r)
    for (ptrdiff_t s = 0; s < S; ++s)
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) sum[m] += w[r * w_row + s] * x[m * stride + r][at + s * dilation];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) y[m * y_pitch] = sum[m];
}

FC_KERNEL void FN(fc_depthwise_column) FC_DEPTHWISE_COLUMN_ARGS(FC_T) {
  /* eight at a time hide the additions' latency; the last overlap those before */
  const int many = P >= 8;
  for (ptrdiff_t p = 0; p < P; p += many ? 8 : 1) {
    if (many && p > P - 8) p = P - 8;
#define FC_PIXELS(M)                                                                             \
  FN(fc_depthwise_pixels)(M, stride, dilation, kernel_h, kernel_w, x + p * stride, at, w, w_row, \
                          bias, y + p * y_pitch, y_pitch)
    if (many)
      FC_PIXELS(8);
    else
      FC_PIXELS(1);
#undef FC_PIXELS
  }
}
