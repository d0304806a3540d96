/* Winograd's convolution: 3x3, stride 1, in tiles of m x m outputs from n x n inputs, n = m + 2.
 *
 *   Y = A^T [ (G g G^T) .* (B^T d B) ] A       one channel; the products are summed over channels
 *
 * F(m, 3) evaluates polynomials at the points 0, +-p_1, ..., +-p_{m/2} and infinity, in this order
 * (Toom and Cook).  With E(x) = prod_i (x - p_i^2) and q_i = E / (x - p_i^2):
 *
 *   B^T   0     E(x^2)                     G   1 / E(0)
 *         +-p   x (x +- p) q_i(x^2)            (1, +-p, p^2) / 2 p^2 q_i(p^2)
 *         inf   x E(x^2)                       x^2
 *   A^T   row i: 0^i, p^i, (-p)^i, ..., and 1 at infinity for i = m - 1
 *
 * where a row of B^T holds the coefficients of its polynomial.  So +p and -p share an even and an odd
 * part, each computed once.  +-3/4 and +-3/2 rather than 1 and 2: the errors are a quarter, and A and B
 * are exact in binary.  scripts/winograd.py makes the numbers and proves the identity.
 *
 * Lanes are channels or filters, so that nothing is shuffled.  All three kernels work in two passes,
 * along the columns and then along the rows.  xi = i * n + j counts the n x n products.
 */
#ifndef FC_WINOGRAD_TABLES
#define FC_WINOGRAD_TABLES
typedef struct {
  double whole[3];      /* E, from the constant up */
  double without[2][2]; /* q_i */
  double power[2][4];   /* p_i^0, p_i, p_i^2, p_i^3 */
  double scale[3];      /* 1 / E(0), 1 / 2 p_i^2 q_i(p_i^2) */
} fc_winograd_table;
/* F(2, 3) with 0, +-1; F(4, 3) with 0, +-3/4, +-3/2 */
static const fc_winograd_table fc_winograd[2] __attribute__((unused)) = {
    {{-1, 1}, {{1}}, {{1, 1, 1}}, {-1, 1. / 2}},
    {{81. / 64, -45. / 16, 1},
     {{-9. / 4, 1}, {-9. / 16, 1}},
     {{1, 3. / 4, 9. / 16, 27. / 64}, {1, 3. / 2, 9. / 4, 27. / 8}},
     {64. / 81, -128. / 243, 32. / 243}},
};
#endif

/* v = B^T d */
FC_INLINE void FN(fc_winograd_b)(const int m, const vec *d, vec *v) {
  const fc_winograd_table *t = &fc_winograd[m / 2 - 1];
  vec zero = d[0] * (FC_T)t->whole[0], infinity = d[1] * (FC_T)t->whole[0];
#pragma GCC unroll 2
  for (int k = 1; k <= m / 2; ++k) {
    zero += d[2 * k] * (FC_T)t->whole[k];
    infinity += d[2 * k + 1] * (FC_T)t->whole[k];
  }
#pragma GCC unroll 2
  for (int i = 0; i < m / 2; ++i) {
    vec even = d[2] * (FC_T)t->without[i][0], odd = d[1] * (FC_T)t->without[i][0];
#pragma GCC unroll 2
    for (int k = 1; k < m / 2; ++k) {
      even += d[2 * k + 2] * (FC_T)t->without[i][k];
      odd += d[2 * k + 1] * (FC_T)t->without[i][k];
    }
    v[1 + 2 * i] = even + odd * (FC_T)t->power[i][1];
    v[2 + 2 * i] = even - odd * (FC_T)t->power[i][1];
  }
  v[0] = zero;
  v[m + 1] = infinity;
}

/* y = A^T z, the first `outputs` rows of it; the last one takes the product at infinity */
FC_INLINE void FN(fc_winograd_a)(const int m, const int outputs, const vec *z, vec *y) {
  const fc_winograd_table *t = &fc_winograd[m / 2 - 1];
  vec even[2], odd[2];
#pragma GCC unroll 2
  for (int i = 0; i < m / 2; ++i) {
    even[i] = z[1 + 2 * i] + z[2 + 2 * i];
    odd[i] = z[1 + 2 * i] - z[2 + 2 * i];
  }
#pragma GCC unroll 4
  for (int k = 0; k < outputs; ++k) {
    vec sum = (k % 2 ? odd[0] : even[0]) * (FC_T)t->power[0][k];
    if (m == 4) sum += (k % 2 ? odd[1] : even[1]) * (FC_T)t->power[1][k];
    y[k] = k == 0 ? sum + z[0] : k == outputs - 1 ? sum + z[m + 1] : sum;
  }
}

/* u = G g */
FC_INLINE void FN(fc_winograd_g)(const int m, const vec *g, vec *u) {
  const fc_winograd_table *t = &fc_winograd[m / 2 - 1];
  u[0] = g[0] * (FC_T)t->scale[0];
#pragma GCC unroll 2
  for (int i = 0; i < m / 2; ++i) {
    const double scale = t->scale[1 + i];
    const vec even = g[0] * (FC_T)scale + g[2] * (FC_T)(scale * t->power[i][2]);
    u[1 + 2 * i] = even + g[1] * (FC_T)(scale * t->power[i][1]);
    u[2 + 2 * i] = even - g[1] * (FC_T)(scale * t->power[i][1]);
  }
  u[m + 1] = g[2];
}

/* Weights: u[xi * u_pitch + i * u_step][l] = (G g G^T)[xi] of channel i < channels, filter l < VL
 *
 *   w  [channels][3][3] vectors; tap (r, s) of channel i is vector 9 i + 3 r + s, or with `turned`
 *      9 i + 8 - 3 r - s
 */
FC_INLINE void FN(fc_winograd_weight)(const int m, ptrdiff_t channels, int turned,
                                      const FC_T *restrict w, FC_T *restrict u, ptrdiff_t u_step,
                                      ptrdiff_t u_pitch) {
  const ptrdiff_t tap = turned ? -VL : VL;
  if (turned) w += 8 * VL;
  for (; channels > 0; --channels, w += 9 * VL, u += u_step) {
    vec down[3][6];
#pragma GCC unroll 3
    for (int s = 0; s < 3; ++s) {
      const vec g[3] = {load(w + s * tap), load(w + (3 + s) * tap), load(w + (6 + s) * tap)};
      FN(fc_winograd_g)(m, g, down[s]);
    }
    for (int i = 0; i < m + 2; ++i) {
      const vec g[3] = {down[0][i], down[1][i], down[2][i]};
      vec across[6];
      FN(fc_winograd_g)(m, g, across);
#pragma GCC unroll 6
      for (int j = 0; j < m + 2; ++j) store(u + (i * (m + 2) + j) * u_pitch, across[j]);
    }
  }
}

/* Inputs: v[xi * v_pitch + t * v_tile] = (B^T d B)[xi] of tile t < tiles, VL channels in the lanes
 *
 *   x  [n] rows of tiles * m + 2 pixels x_col apart, a vector each; row i begins at x + at[i], and
 *      tile t with its pixel t * m
 */
FC_INLINE void FN(fc_winograd_input)(const int m, ptrdiff_t tiles, const FC_T *restrict x,
                                     const int32_t *restrict at, ptrdiff_t x_col,
                                     FC_T *restrict v, ptrdiff_t v_tile, ptrdiff_t v_pitch) {
  vec down[(4 * FC_WINOGRAD_FEW + 2) * 6];
  for (; tiles > 0; tiles -= FC_WINOGRAD_FEW) {
    const ptrdiff_t few = tiles < FC_WINOGRAD_FEW ? tiles : FC_WINOGRAD_FEW;
    for (ptrdiff_t col = 0; col < few * m + 2; ++col) {
      vec d[6];
#pragma GCC unroll 6
      for (int i = 0; i < m + 2; ++i) d[i] = load(x + at[i] + col * x_col);
      FN(fc_winograd_b)(m, d, down + col * (m + 2));
    }
    /* row by row: stores go to n places at a time, not to n x n, which is more pages than processors
     * keep the translations of */
    FC_T *v_row = v;
    for (int i = 0; i < m + 2; ++i, v_row += (m + 2) * v_pitch)
      for (ptrdiff_t tile = 0; tile < few; ++tile) {
        vec d[6], across[6];
#pragma GCC unroll 6
        for (int j = 0; j < m + 2; ++j) d[j] = down[(tile * m + j) * (m + 2) + i];
        FN(fc_winograd_b)(m, d, across);
#pragma GCC unroll 6
        for (int j = 0; j < m + 2; ++j) store(v_row + j * v_pitch + tile * v_tile, across[j]);
      }
    x += few * m * x_col;
    v += few * v_tile;
  }
}

/* Outputs: y[i * y_row + (t * m + j) * VL] = (A^T z A)[i][j] + bias     i, j < m, t < tiles
 *
 *   n     products of a tile, n x n: m + 2, or with those of the point 0 left out m + 1
 *   z     vectors z[xi * z_pitch + t * z_tile]: the sums of products, VL filters in the lanes
 *   bias  a vector
 */
FC_INLINE void FN(fc_winograd_output)(const int m, const int n, ptrdiff_t tiles,
                                      const FC_T *restrict z,
                                      ptrdiff_t z_tile, ptrdiff_t z_pitch,
                                      const FC_T *restrict bias, FC_T *restrict y,
                                      ptrdiff_t y_row) {
  const vec b = load(bias);
  const int zero = m + 2 - n;
  for (; tiles > 0; --tiles, z += z_tile, y += m * VL) {
    vec down[6][4];
    for (int j = 0; j < n; ++j) {
      vec column[6] = {(vec){0}};
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) column[zero + i] = load(z + (i * n + j) * z_pitch);
      FN(fc_winograd_a)(m, m, column, down[j]);
    }
    for (int i = 0; i < m; ++i) {
      vec row[6] = {(vec){0}}, across[4];
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) row[zero + j] = down[j][i];
      FN(fc_winograd_a)(m, m, row, across);
#pragma GCC unroll 4
      for (int j = 0; j < m; ++j) store(y + i * y_row + j * VL, across[j] + b);
    }
  }
}

#define FC_WINOGRAD_OF(M)                                                                        \
  FC_KERNEL void FC_CAT(FN(fc_winograd_weight), _, M, x, M) FC_WINOGRAD_WEIGHT_ARGS(FC_T) {      \
    FN(fc_winograd_weight)(M, channels, turned, w, u, u_step, u_pitch);                          \
  }                                                                                              \
  FC_KERNEL void FC_CAT(FN(fc_winograd_input), _, M, x, M) FC_WINOGRAD_INPUT_ARGS(FC_T) {        \
    FN(fc_winograd_input)(M, tiles, x, at, x_col, v, v_tile, v_pitch);                           \
  }                                                                                              \
  FC_KERNEL void FC_CAT(FN(fc_winograd_output), _, M, x, M) FC_WINOGRAD_OUTPUT_ARGS(FC_T) {      \
    FN(fc_winograd_output)(M, M + 2, tiles, z, z_tile, z_pitch, bias, y, y_row);                 \
  }
FC_WINOGRAD_OF(2)
#undef FC_WINOGRAD
#if FC_F64 /* with larger tiles whole numbers would not stay exact */
#define FC_WINOGRAD(KERNEL) {FC_CAT(FN(fc_winograd_##KERNEL), _, 2, x, 2)}
#else
FC_WINOGRAD_OF(4)
#define FC_WINOGRAD(KERNEL) \
  {FC_CAT(FN(fc_winograd_##KERNEL), _, 2, x, 2), FC_CAT(FN(fc_winograd_##KERNEL), _, 4, x, 4)}
#endif
