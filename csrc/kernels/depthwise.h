/* Convolution of one plane with one filter, pixels of a row in the lanes.
 *
 *   y[p][q] = bias + sum_{r < R, s < S} w[r][s] * x[p * stride + r][at[s] + q * step]     p < P, q < Q
 *
 *   x   [(P - 1) * stride + R] pointers to rows, wherever they lie; of each the at[s] + Q * step
 *       pixels are read, with Q rounded up to whole vectors where it is less than two
 *   at  [S] where the pixel of tap s for the first output lies in a row; at[0] + s where step is 2
 *   w   [R][S]
 *   y   [P] rows y_pitch apart, of Q pixels
 *
 * step is 1 or 2.  Where P and Q are no multiples of a tile (depthwise_tile.h) the last ones overlap those
 * before: they come out the same again.  Without stride tiles form chains (depthwise_chain.h).
 *
 * At step 2 pixels are not sorted into even and odd ones but multiplied as they lie, by a pair of taps
 * in turn; in the end neighbouring lanes are added.  The tap left over goes over all pixels, too, and
 * every second sum of it is dropped.
 */

/* the even lanes of `one`, and neighbouring lanes of `two` added up */
FC_INLINE vec FN(fc_depthwise_merge)(const vec one[2], const vec two[2]) {
  return sorted(some_evens(two[0], two[1]) + some_odds(two[0], two[1]) + some_evens(one[0], one[1]));
}

/* a row of it at step 2 */
FC_INLINE void FN(fc_depthwise_pairs)(const int V, const ptrdiff_t R, const ptrdiff_t S,
                                      const FC_T *const *x, ptrdiff_t first, const FC_T *w,
                                      FC_T bias, vec acc[4][4]) {
  vec one[4], two[4]; /* sums of the tap left over, and of pairs */
  /* a tap whose pixels are the first of vectors in memory, where zeros stand before rows staged so */
  const ptrdiff_t alone = S % 2 ? S / 4 * 2 : S;
#pragma GCC unroll 4
  for (int v = 0; v < 2 * V; ++v) one[v] = splat(bias), two[v] = (vec){0};
  for (ptrdiff_t r = 0; r < R; ++r, w += S) {
    const FC_T *const x_r = x[r] + first;
    if (FC_BYTES == 64 && S == 5) {
      /* neighbouring pairs come from vectors that are loaded already, not by way of two cache lines */
      const vec w_0 = held(splat_pair(w)), w_2 = held(splat_pair(w + 2)), w_4 = held(splat(w[4]));
      vec x_v[4], left = load(x_r);
#pragma GCC unroll 4
      for (int v = 0; v < 2 * V; ++v) x_v[v] = held(load(x_r + 2 + v * VL));
#pragma GCC unroll 4
      for (int v = 0; v < 2 * V; ++v) {
        const vec right = v < 2 * V - 1 ? from_lane(2, x_v[v], x_v[v + 1]) : load(x_r + 4 + v * VL);
        two[v] += w_0 * left;
        two[v] += w_2 * x_v[v];
        one[v] += w_4 * right;
        left = v < 2 * V - 1 ? from_lane(VL - 2, x_v[v], x_v[v + 1]) : left;
      }
      continue;
    }
    if (S % 2) {
      const vec w_s = held(splat(w[alone]));
#pragma GCC unroll 4
      for (int v = 0; v < 2 * V; ++v) one[v] += w_s * load(x_r + alone + v * VL);
    }
#pragma GCC unroll 2
    for (ptrdiff_t i = 0; i < S / 2; ++i) {
      const ptrdiff_t s = 2 * i + (2 * i >= alone);
      const vec w_s = held(splat_pair(w + s));
#pragma GCC unroll 4
      for (int v = 0; v < 2 * V; ++v) two[v] += w_s * load(x_r + s + v * VL);
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) acc[0][v] = FN(fc_depthwise_merge)(one + 2 * v, two + 2 * v);
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
  do {                                                                                           \
    vec acc[4][4];                                                                               \
    if (step == 2)                                                                               \
      FN(fc_depthwise_pairs)(V, R, S, x + p * stride, at[0] + 2 * q, w, bias, acc);              \
    else                                                                                         \
      FN(fc_depthwise_tile)(M, V, stride, R, S, x + p * stride, q, at, w, bias, acc);            \
    FN(fc_depthwise_store)(M, V, Q - q, acc, y + p * y_pitch + q, y_pitch);                      \
  } while (0)
    for (; V > 2 && Q - q >= V * VL; q += V * VL) FC_COLUMNS(V);
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

FC_KERNEL void FN(fc_depthwise) FC_DEPTHWISE_ARGS(FC_T) {
  const ptrdiff_t taps = kernel_h / stride; /* the fewest of a phase */
  const ptrdiff_t tap = kernel_w > 1 ? at[1] : 1;
  ptrdiff_t s = 0;
  while (s < kernel_w && at[s] == s * tap) ++s; /* are taps evenly apart? */
#define FC_ROWS(M, V, step, S)                                                                   \
  FN(fc_depthwise_rows)(M, V, stride, step, kernel_h, S, P, Q, x, at, w, bias, y, y_pitch)
  if (step == 2 && kernel_w == 5)
    FC_ROWS(1, 2, 2, 5);
  else if (step == 2)
    FC_ROWS(1, 2, 2, kernel_w);
  else if (taps >= 3 && P >= 4 && stride == 1 && s == kernel_w && Q > VL)
    FN(fc_depthwise_chains)(kernel_h, kernel_w, tap, P, Q, x, at, w, bias, y, y_pitch);
  else if (taps >= 3 && P >= 4)
    FC_ROWS(4, 2, 1, kernel_w);
  else if (taps >= 1 && P >= 2)
    FC_ROWS(2, FC_DEPTHWISE_V, 1, kernel_w);
  else
    FC_ROWS(1, FC_DEPTHWISE_V, 1, kernel_w);
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
