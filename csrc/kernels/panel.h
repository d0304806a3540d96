/* The register tile with filters in the lanes, work-horse of wide convolutions.
 *
 *   y[m][v][l] = start + sum_{k < depth} x[at[m] + off[k]] * w[k][v][l]     m < M, v < V, l < VL
 *   start = bias[v][l] where bias is given, else what y held before
 *
 *   w     [depth] rows w_pitch apart, of V vectors: a panel of filters
 *   x     any buffer in which all at[m] + off[k] may be read
 *   y     [M] rows y_pitch apart, of V vectors
 *   bias  [V] vectors, or NULL
 *
 * The rows m are output pixels; `off` holds a tap's place (channel, row, column) and `at` a pixel's, so
 * that a tile may hold any pixels of a block.  With taps and pixels exchanged it is the gradient with
 * respect to the weight.  y may alias nothing.  M * V accumulators, V weights and one input have to fit
 * in the registers, and M pointers in those for addresses.
 */
FC_INLINE void FN(fc_panel)(const int M, const int V, ptrdiff_t depth, const FC_T *restrict w,
                            ptrdiff_t w_pitch, const FC_T *restrict x, const int32_t *restrict off,
                            const int32_t *restrict at, const FC_T *restrict bias,
                            FC_T *restrict y, ptrdiff_t y_pitch) {
  vec acc[FC_PANEL_M][FC_PANEL_V];
  const FC_T *x_m[FC_PANEL_M];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) x_m[m] = x + at[m];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = bias ? load(bias + v * VL) : load(y + m * y_pitch + v * VL);

  for (ptrdiff_t k = 0; k < depth; ++k, w += w_pitch) {
    vec w_k[FC_PANEL_V];
    const ptrdiff_t o = off[k];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w_k[v] = held(load(w + v * VL));
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      const vec x_k = splat(x_m[m][o]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[m][v] += x_k * w_k[v];
    }
  }

#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(y + m * y_pitch + v * VL, acc[m][v]);
}

#define FC_PANEL_OF(M, V)                                                                        \
  FC_KERNEL void FC_CAT(FN(fc_panel), _, M, x, V) FC_PANEL_ARGS(FC_T) {                          \
    FN(fc_panel)(M, V, depth, w, w_pitch, x, off, at, bias, y, y_pitch);                         \
  }
#define FC_PANEL(M, V) FC_CAT(FN(fc_panel), _, M, x, V)
