/* The register tile of products whose second factor has its columns in the lanes.
 *
 *   y[m][v][l] = start[m][v][l] + sum_{k < depth} x[at[m] + off[k]] * w[k][v][l]
 *                                                                          m < M, v < V, l < VL
 *   w      [depth] rows w_pitch apart, of V vectors
 *   x      any buffer in which all at[m] + off[k] may be read
 *   start  [M] rows start_pitch apart, of V vectors: a bias (its pitch 0), or y to add to it
 *   y      [M] rows y_pitch apart, of V vectors
 *   next   what will be read next, anything: tiles of many sums fetch `lines` cache lines every
 *          FC_PANEL_TURN steps, the first ones at next, then next_pitch bytes on.  Many at a time
 *          would be waited for: a core has room for 10 to 20 that are on their way
 *
 * With filters in the lanes w is a panel of filters and the rows m are output pixels, any of a block:
 * `off` holds a tap's place (channel, row, column) and `at` a pixel's.  With pixels in the lanes w is a
 * group of patches, x the weights as they lie.  With taps for rows it is the gradient with respect to
 * the weight.  y may alias nothing but start.  M * V accumulators, V weights and one input have to fit
 * in the registers, and M pointers in those for addresses.
 */
FC_INLINE void FN(fc_panel_step)(const int M, const int V, const int keeps, const FC_T *restrict w,
                                 const FC_T *const *x_m, ptrdiff_t off, FC_T *restrict kept,
                                 vec (*acc)[FC_PANEL_V]) {
  vec w_k[FC_PANEL_V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    w_k[v] = held(load(w + v * VL));
    if (keeps) store(kept + v * VL, w_k[v]);
  }
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    const vec x_k = splat(x_m[m][off]);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] += x_k * w_k[v];
  }
}

FC_INLINE void FN(fc_panel)(const int M, const int V, const int keeps, ptrdiff_t depth,
                            const FC_T *restrict w, ptrdiff_t w_pitch, const FC_T *restrict x,
                            const int32_t *restrict off, const int32_t *restrict at,
                            const FC_T *start, ptrdiff_t start_pitch, FC_T *y, ptrdiff_t y_pitch,
                            const char *next, ptrdiff_t lines, ptrdiff_t next_pitch,
                            FC_T *restrict kept) {
  vec acc[FC_PANEL_M][FC_PANEL_V];
  const FC_T *x_m[FC_PANEL_M];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m, start += start_pitch)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = load(start + v * VL);
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    x_m[m] = x + at[m];
    __asm__("" : "+r"(x_m[m])); /* GCC would add x to each step's offset instead */
  }

  if (M * V < FC_ISA_MANY) {
    for (ptrdiff_t k = 0; k < depth; ++k, w += w_pitch) {
      FN(fc_panel_step)(M, V, keeps, w, x_m, off[k], kept, acc);
      if (keeps) kept += V * VL;
    }
  } else {
    ptrdiff_t here;
    do {
      here = depth;
      if (__builtin_expect(lines > 0, 0)) {
        if (here > FC_PANEL_TURN) here = FC_PANEL_TURN;
        for (ptrdiff_t i = 0; i < lines; ++i) __builtin_prefetch(next + 64 * i, 0, 2);
        next += next_pitch;
      }
      /* two threads of a core share its decoder: what the loop itself executes costs sums */
#pragma GCC unroll 4
      for (ptrdiff_t k = 0; k < here; ++k, w += w_pitch) {
        FN(fc_panel_step)(M, V, keeps, w, x_m, off[k], kept, acc);
        if (keeps) kept += V * VL;
      }
      off += here;
      depth -= here;
    } while (depth > 0);
  }

  __asm__("" : "+r"(y)); /* GCC would work out M addresses above and keep them through the loop */
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m, y += y_pitch)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(y + v * VL, acc[m][v]);
}

#define FC_PANEL_OF(M, V)                                                                        \
  FC_ALIGNED void FC_CAT(FN(fc_panel), _, M, x, V) FC_PANEL_ARGS(FC_T) {                         \
    FN(fc_panel)(M, V, 0, depth, w, w_pitch, x, off, at, start, start_pitch, y, y_pitch, next,   \
                 lines, next_pitch, NULL);                                                       \
  }
#define FC_PANEL(M, V) FC_CAT(FN(fc_panel), _, M, x, V)

#if FC_BYTES == 64
/* The largest tile, which on the way puts the rows of w beside each other for the tiles that follow:
 *
 *   kept[k][v][l] = w[k][v][l]     [depth] rows of V vectors
 *
 * Its products leave time for that; a copy beforehand would be waited for.  Of rows far apart each costs
 * about as much as two lines copied, so that rows of one line or two are better copied.
 */
FC_ALIGNED void FN(fc_panel_keep) FC_PANEL_KEEP_ARGS(FC_T) {
  FN(fc_panel)(FC_PANEL_M, FC_ISA_PANEL_V, 1, depth, w, w_pitch, x, off, at, start, start_pitch, y,
               y_pitch, NULL, 0, 0, kept);
}
#endif
