/* Inner products of rows with rows: the gradient with respect to the weight.
 *
 *   acc[m][v][l] += sum_{r < rows} sum_{i = l, l + VL, .. < n}  a[r][m][i] * b[r][at[v] + i']
 *   where vector j of a (i = j VL + l) meets b at i' = j b_step + l
 *
 *   a    rows a_row apart, in each M rows a_pitch apart, of n elements
 *   b    rows b_row apart, in each V rows beginning at at[v]
 *   acc  [M][V][VL], lane by lane: the caller sums the lanes once, at the end
 *
 * What a call sums is added to acc once, so that long sums are sums of shorter ones.
 * Lanes at and beyond n are neither read nor added.  b_step is VL for neighbouring pixels; with images
 * in the lanes it is VL times the stride.  acc may alias nothing.
 */
/* One step: M vectors of a times V vectors of b, whole or their first n lanes. The factor that is the
 * shorter one stays in registers for the time of a step; `held`, because GCC would otherwise load it
 * again for every product where registers are few. */
FC_INLINE void FN(fc_dot_step)(const int M, const int V, const int whole, int n, const FC_T *a,
                               ptrdiff_t a_pitch, const FC_T *const *b, ptrdiff_t b_at,
                               vec (*acc)[FC_DOT_V]) {
#define FC_DOT_A(m) held(whole ? load(a + (m) * a_pitch) : load_first(a + (m) * a_pitch, n))
#define FC_DOT_B(v) held(whole ? load(b[v] + b_at) : load_first(b[v] + b_at, n))
  vec few[FC_DOT_M];
  if (M < V) {
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) few[m] = FC_DOT_A(m);
#pragma GCC unroll 5
    for (int v = 0; v < V; ++v) {
      const vec b_v = FC_DOT_B(v);
#pragma GCC unroll 6
      for (int m = 0; m < M; ++m) acc[m][v] += few[m] * b_v;
    }
  } else {
#pragma GCC unroll 5
    for (int v = 0; v < V; ++v) few[v] = FC_DOT_B(v);
#pragma GCC unroll 6
    for (int m = 0; m < M; ++m) {
      const vec a_m = FC_DOT_A(m);
#pragma GCC unroll 5
      for (int v = 0; v < V; ++v) acc[m][v] += a_m * few[v];
    }
  }
#undef FC_DOT_A
#undef FC_DOT_B
}

FC_INLINE void FN(fc_dot)(const int M, const int V, ptrdiff_t rows, ptrdiff_t n,
                          const FC_T *restrict a, ptrdiff_t a_row, ptrdiff_t a_pitch,
                          const FC_T *restrict b, ptrdiff_t b_row, const int32_t *restrict at,
                          ptrdiff_t b_step, FC_T *restrict acc_out) {
  vec acc[FC_DOT_M][FC_DOT_V];
  const FC_T *b_v[FC_DOT_V];
#pragma GCC unroll 5
  for (int v = 0; v < V; ++v) b_v[v] = b + at[v];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 5
    for (int v = 0; v < V; ++v) acc[m][v] = (vec){0};

  const ptrdiff_t whole = n / VL;
  const int tail = (int)(n % VL);
  /* the rows' ends after all whole vectors: two loops that the CPU foresees */
  if (whole)
    for (ptrdiff_t r = 0; r < rows; ++r) {
      const FC_T *a_r = a + r * a_row;
      ptrdiff_t b_at = r * b_row;
      for (ptrdiff_t j = 0; j < whole; ++j, a_r += VL, b_at += b_step)
        FN(fc_dot_step)(M, V, 1, VL, a_r, a_pitch, b_v, b_at, acc);
    }
  if (tail)
    for (ptrdiff_t r = 0; r < rows; ++r)
      FN(fc_dot_step)(M, V, 0, tail, a + r * a_row + whole * VL, a_pitch, b_v,
                      r * b_row + whole * b_step, acc);

#pragma GCC unroll 6
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 5
    for (int v = 0; v < V; ++v) {
      FC_T *to = acc_out + (m * V + v) * VL;
      store(to, load(to) + acc[m][v]);
    }
}

#define FC_DOT_OF(M, V)                                                                          \
  FC_KERNEL void FC_CAT(FN(fc_dot), _, M, x, V) FC_DOT_ARGS(FC_T) {                              \
    FN(fc_dot)(M, V, rows, n, a, a_row, a_pitch, b, b_row, at, b_step, acc);                     \
  }
#define FC_DOT(M, V) FC_CAT(FN(fc_dot), _, M, x, V)

/* y[i] = sum of the lanes of acc[i], in their order; acc [n][VL], y [n], which may be acc itself. */
FC_KERNEL void FN(fc_sum_lanes) FC_SUM_LANES_ARGS(FC_T) {
  for (ptrdiff_t i = 0; i < n; ++i, acc += VL) {
    FC_T sum = acc[0];
#pragma GCC unroll 1
    for (int l = 1; l < VL; ++l) sum += acc[l];
    y[i] = sum;
  }
}
