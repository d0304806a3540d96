/* Register tiles of depthwise.h, whose formula and shapes hold here: M rows by V vectors.  A row x is loaded
 * once for all the rows of the tile that it meets; with a stride the rows of x, and those of w, fall into
 * phases that do not meet.  M * V accumulators, V inputs and one weight have to fit in the registers.
 */
#undef FC_DEPTHWISE_V
#if FC_ISA_TILE_M == 8 && !FC_F64 /* 32 registers */
#define FC_DEPTHWISE_V 4
#elif FC_ISA_TILE_M == 6 && !FC_F64 /* 16, and products that are fused */
#define FC_DEPTHWISE_V 3
#else /* and in double, where a smaller wheel is worth more */
#define FC_DEPTHWISE_V 2
#endif

/* n pixels of M rows, in V vectors */
FC_INLINE void FN(fc_depthwise_store)(const int M, const int V, ptrdiff_t n, vec acc[4][4], FC_T *y,
                                      ptrdiff_t y_pitch) {
  const ptrdiff_t last = n - (V - 1) * VL; /* pixels of the last vector */
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V - 1; ++v) store(y + m * y_pitch + v * VL, acc[m][v]);
    FC_T *const y_last = y + m * y_pitch + (V - 1) * VL;
    if (V > 2 || FC_LIKELY(last >= VL))
      store(y_last, acc[m][V - 1]);
    else
      store_n(y_last, (int)last, acc[m][V - 1]);
  }
}

/* one tap of a row of x, which the rows from m0 to m1 of the tile meet; w is where row 0 meets it */
FC_INLINE void FN(fc_depthwise_tap)(const int m0, const int m1, const int V, const FC_T *x,
                                    const FC_T *w, const ptrdiff_t w_row, vec acc[4][4]) {
  vec x_v[4];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) x_v[v] = m1 - m0 > 1 ? held(load(x + v * VL)) : load(x + v * VL);
#pragma GCC unroll 4
  for (int m = m0; m < m1; ++m) {
    const vec w_s = splat(w[-m * w_row]);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] += w_s * x_v[v];
  }
}

/* all of them */
FC_INLINE void FN(fc_depthwise_row)(const int m0, const int m1, const int V, const ptrdiff_t S,
                                    const FC_T *x, const int32_t *at, const FC_T *w,
                                    const ptrdiff_t w_row, vec acc[4][4]) {
  __asm__("" : "+r"(x), "+r"(w)); /* GCC would add them to each tap's offset */
#pragma GCC unroll 3
  for (ptrdiff_t s = 0; s < S; ++s) FN(fc_depthwise_tap)(m0, m1, V, x + at[s], w + s, w_row, acc);
}

/* M - 1 <= R / stride */
FC_INLINE void FN(fc_depthwise_tile)(const int M, const int V, const ptrdiff_t stride,
                                     const ptrdiff_t R, const ptrdiff_t S, const FC_T *const *x,
                                     ptrdiff_t q, const int32_t *at, const FC_T *w, FC_T bias,
                                     vec acc[4][4]) {
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
  FN(fc_depthwise_row)(m0, m1, V, S, x_f[(j) * stride] + q, at, w_f + (j) * w_row, w_row, acc)
#pragma GCC unroll 3
    for (int j = 0; j < M - 1; ++j) FC_ROW(j, 0, j + 1);
#pragma GCC unroll 2
    for (ptrdiff_t j = M - 1; j < taps; ++j) FC_ROW(j, 0, M);
#pragma GCC unroll 3
    for (int j = 0; j < M - 1; ++j) FC_ROW(taps + j, j + 1, M);
#undef FC_ROW
  }
}
