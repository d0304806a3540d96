/* The register tile, work-horse of every convolution method.
 *
 *   y[m][to[v] + l] = start + sum_{k < depth} w[k][m] * x[at[v] + off[k] + l]   m < M, v < V, l < VL
 *   start = bias[m] where bias is given, else what y held before
 *
 *   w     [depth][w_pitch]; the first M of each row are used
 *   x     any buffer in which all at[v] + off[k] + (0 .. VL-1) may be read
 *   y     [M] rows y_pitch apart, in which all to[v] + (0 .. VL-1) lie; two vectors may overlap where
 *         bias is given and both get the same numbers
 *   bias  [M] or NULL
 *
 * The lanes l are output pixels of a row, or images; `off` holds a tap's place (channel, row, column)
 * and `at` an output pixel's, whose sum goes to `to`.  With off[k] = k * pitch it is a plain GEMM tile
 * over packed panels.  y may alias nothing.  M * V accumulators, V inputs and one weight have to fit
 * in the registers.
 */
FC_INLINE void FN(fc_tile_step)(const int M, const int V, const FC_T *restrict w,
                                const FC_T *const *x_v, ptrdiff_t off, vec (*acc)[FC_TILE_V]) {
  vec x_k[FC_TILE_V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) x_k[v] = load(x_v[v] + off);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const vec w_m = splat(w[m]);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] += w_m * x_k[v];
  }
}

FC_INLINE void FN(fc_tile)(const int M, const int V, ptrdiff_t depth, const FC_T *restrict w,
                           ptrdiff_t w_pitch, const FC_T *restrict x, const int32_t *restrict off,
                           const int32_t *restrict at, const FC_T *restrict bias,
                           FC_T *restrict y, ptrdiff_t y_pitch, const int32_t *restrict to) {
  vec acc[FC_TILE_M][FC_TILE_V];
  const FC_T *x_v[FC_TILE_V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    x_v[v] = x + at[v];
    __asm__("" : "+r"(x_v[v]));
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = bias ? splat(bias[m]) : load(y + m * y_pitch + to[v]);

  if (M * V < FC_ISA_MANY) {
    for (ptrdiff_t k = 0; k < depth; ++k, w += w_pitch) FN(fc_tile_step)(M, V, w, x_v, off[k], acc);
  } else { /* as in panel.h */
#pragma GCC unroll 4
    for (ptrdiff_t k = 0; k < depth; ++k, w += w_pitch) FN(fc_tile_step)(M, V, w, x_v, off[k], acc);
  }

  __asm__("" : "+r"(y)); /* GCC would work out M * V addresses above and keep them through the loop */
  ptrdiff_t to_v[FC_TILE_V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) to_v[v] = to[v];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m, y += y_pitch)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(y + to_v[v], acc[m][v]);
}

#define FC_TILE_OF(M, V)                                                                         \
  FC_ALIGNED void FC_CAT(FN(fc_tile), _, M, x, V) FC_TILE_ARGS(FC_T) {                           \
    FN(fc_tile)(M, V, depth, w, w_pitch, x, off, at, bias, y, y_pitch, to);                      \
  }
#define FC_TILE(M, V) FC_CAT(FN(fc_tile), _, M, x, V)
