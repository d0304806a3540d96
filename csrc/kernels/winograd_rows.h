/* Winograd's convolution down the rows of a plane, for filters of many taps: F(m, m), m rows from 2m - 1.
 *
 *   y[i m + a][q] = sum_{j < J, b < m, s < S} w[j m + b][s] * x[(i + j) m + a + b][q + s]     a < m
 *
 * For one i and j the sum over b is F(m, m) of rows.  So with the rows of x transformed, those of w, too,
 *
 *   v[t][i] = sum_k B^T[t][k] x[i m + k]     u[t][j][s] = sum_b G[t][b] w[j m + b][s]     t, k < 2m - 1
 *
 * what is left is 2m - 1 convolutions with J rows of taps (depthwise.h) instead of m with J m, and
 *
 *   y[i m + a] = sum_t A^T[a][t] z[t][i]     z[t] = v[t] convolved with u[t]
 *
 * The points are those of winograd.h but for 0: a polynomial less by the factor x.  So row t of B^T is
 * that of F(2m - 2, 3) divided by x, which is the same for rows one place later; G's is multiplied by the
 * point.  m is 3 in float and 2 in double, where the points are +-1, and whole numbers stay exact.
 */
#if FC_F64
#define FC_ROWS_M 2
#else
#define FC_ROWS_M 3
#endif
#define FC_ROWS_POINTS (2 * FC_ROWS_M - 2) /* finite ones: F(FC_ROWS_POINTS, 3) has the table */

/* v[t * v_pitch + q], q < n, of 2m - 1 rows x */
FC_KERNEL void FN(fc_winograd_rows_input) FC_WINOGRAD_ROWS_INPUT_ARGS(FC_T) {
  for (ptrdiff_t q = 0; q < n && n >= VL; q += VL) {
    vec d[FC_ROWS_POINTS + 2] = {{0}}, rows[FC_ROWS_POINTS + 2];
    if (q > n - VL) q = n - VL;
#pragma GCC unroll 5
    for (int k = 0; k <= FC_ROWS_POINTS; ++k) d[k + 1] = load(x[k] + q);
    FN(fc_winograd_b)(FC_ROWS_POINTS, d, rows);
#pragma GCC unroll 5
    for (int t = 0; t <= FC_ROWS_POINTS; ++t) store(v + t * v_pitch + q, rows[t + 1]);
  }
  if (n >= VL) return;
  vec d[FC_ROWS_POINTS + 2] = {{0}}, rows[FC_ROWS_POINTS + 2]; /* in memory */
#pragma GCC unroll 1
  for (int k = 0; k <= FC_ROWS_POINTS; ++k) d[k + 1] = load_first(x[k], (int)n);
  FN(fc_winograd_b)(FC_ROWS_POINTS, d, rows);
#pragma GCC unroll 1
  for (int t = 0; t <= FC_ROWS_POINTS; ++t) store_n(v + t * v_pitch, (int)n, rows[t + 1]);
}

/* y[a * y_pitch + q] of z[t * z_pitch + q] and a bias; q < n, a < rows <= m */
FC_KERNEL void FN(fc_winograd_rows_output) FC_WINOGRAD_ROWS_OUTPUT_ARGS(FC_T) {
  const vec b = splat(bias);
  for (ptrdiff_t q = 0; q < n && n >= VL; q += VL) {
    vec products[FC_ROWS_POINTS + 2] = {{0}}, of[FC_ROWS_M];
    if (q > n - VL) q = n - VL;
#pragma GCC unroll 5
    for (int t = 0; t <= FC_ROWS_POINTS; ++t) products[t + 1] = load(z + t * z_pitch + q);
    FN(fc_winograd_a)(FC_ROWS_POINTS, FC_ROWS_M, products, of);
#pragma GCC unroll 3
    for (int a = 0; a < FC_ROWS_M; ++a)
      if (a < rows) store(y + a * y_pitch + q, of[a] + b);
  }
  if (n >= VL) return;
  vec products[FC_ROWS_POINTS + 2] = {{0}}, of[FC_ROWS_M];
#pragma GCC unroll 1
  for (int t = 0; t <= FC_ROWS_POINTS; ++t) products[t + 1] = load_first(z + t * z_pitch, (int)n);
  FN(fc_winograd_a)(FC_ROWS_POINTS, FC_ROWS_M, products, of);
#pragma GCC unroll 1
  for (int a = 0; a < rows; ++a) store_n(y + a * y_pitch, (int)n, of[a] + b);
}

/* u[t * u_pitch + s], s < S, of the rows w[b * S + s], b < rows <= m; the others are zeros */
FC_KERNEL void FN(fc_winograd_rows_weight) FC_WINOGRAD_ROWS_WEIGHT_ARGS(FC_T) {
  const fc_winograd_table *table = &fc_winograd[FC_ROWS_POINTS / 2 - 1];
  for (ptrdiff_t s = 0; s < S; s += VL) {
    const int here = S - s < VL ? (int)(S - s) : VL;
    vec g[3] = {{0}}, of[FC_ROWS_POINTS + 2];
#pragma GCC unroll 1
    for (int b = 0; b < rows; ++b) g[b] = load_first(w + b * S + s, here);
    FN(fc_winograd_g)(FC_ROWS_POINTS, g, of);
#pragma GCC unroll 4
    for (int t = 0; t < FC_ROWS_POINTS; ++t)
      of[t + 1] *= (FC_T)(t % 2 ? -table->power[t / 2][1] : table->power[t / 2][1]);
    of[FC_ROWS_POINTS + 1] = g[FC_ROWS_M - 1];
#pragma GCC unroll 1
    for (int t = 0; t <= FC_ROWS_POINTS; ++t) store_n(u + t * u_pitch + s, here, of[t + 1]);
  }
}
#undef FC_ROWS_M
#undef FC_ROWS_POINTS
