/* Winograd's convolution of 3x3 kernels at stride 2, in tiles of 4 x 4 outputs from 9 x 9 inputs.
 *
 * Rows and columns of a tile's inputs fall into two phases: the first, third, ... meet two taps of the
 * filter, the others one.  So the convolution is the sum of four without stride, phase by phase, whose
 * products of one tile add up: to their sums go as many channels as there are phases.
 *
 *   phase  rows  columns  taps              phase  rows  columns  taps
 *   0      1st   2nd      w[0, 2][1]        2      2nd   1st      w[1][0, 2]
 *   1      1st   1st      w[0, 2][0, 2]     3      2nd   2nd      w[1][1]
 *
 * Each is F(4, 2) with the points of F(4, 3) but 0 (winograd.h): its B^T without the factor x, which
 * divides all rows that remain, and +-p times its G.  A^T is the same.  One tap is two, one of them 0,
 * without a product at infinity.  xi = i * 5 + j counts the products, infinity last: the phases that
 * have one lie beside each other.  81 products make 16 outputs, 144 without.  In float alone: whole
 * numbers do not stay exact, which in double they have to.
 */
#if !FC_F64

/* v = B^T d of 5 inputs */
FC_INLINE void FN(fc_winograd_phase_b)(const vec *d, vec *v) {
  const vec shifted[6] = {(vec){0}, d[0], d[1], d[2], d[3], d[4]};
  vec all[6];
  FN(fc_winograd_b)(4, shifted, all);
#pragma GCC unroll 5
  for (int i = 0; i < 5; ++i) v[i] = all[1 + i];
}

/* u = G g of 2 taps */
FC_INLINE void FN(fc_winograd_phase_g)(const vec *g, vec *u) {
  const fc_winograd_table *t = &fc_winograd[1];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const vec odd = g[0] * (FC_T)(t->scale[1 + i] * t->power[i][1]);
    const vec even = g[1] * (FC_T)(t->scale[1 + i] * t->power[i][2]);
    u[2 * i] = even + odd;
    u[2 * i + 1] = even - odd;
  }
  u[4] = g[1];
}

/* Weights: u[xi * u_pitch + phase * u_phase + i * u_step][l] of channel i < channels, filter l < VL
 *
 *   w  [channels][3][3] vectors
 */
FC_KERNEL void FN(fc_winograd_phases_weight) FC_WINOGRAD_PHASES_WEIGHT_ARGS(FC_T) {
  for (ptrdiff_t part = 0; part < 4 * channels; ++part) {
    const ptrdiff_t phase = part % 4, row = phase > 1, col = phase % 3 == 0; /* 1: of one tap */
    const FC_T *const w_p = w + part / 4 * 9 * VL;
    FC_T *const u_p = u + part / 4 * u_step + phase * u_phase;
    vec down[2][5];
#pragma GCC unroll 2
    for (int s = 0; s < 2; ++s) {
      vec g[2] = {(vec){0}, (vec){0}};
      if (s + col < 2) g[0] = load(w_p + (row * 3 + col + 2 * s) * VL);
      if (s + col < 2 && !row) g[1] = load(w_p + (6 + col + 2 * s) * VL);
      FN(fc_winograd_phase_g)(g, down[s]);
    }
    for (int i = 0; i < 5 - row; ++i) {
      const vec g[2] = {down[0][i], down[1][i]};
      vec across[5];
      FN(fc_winograd_phase_g)(g, across);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) store(u_p + (i * 5 + j) * u_pitch, across[j]);
      if (!col) store(u_p + (i * 5 + 4) * u_pitch, across[4]);
    }
  }
}

/* Inputs: v[xi * v_pitch + phase * v_phase + t * v_tile] of tile t < tiles, VL channels in the lanes
 *
 *   x  [9] rows of tiles * 8 + 1 pixels x_col apart, a vector each; row i begins at x + at[i], and
 *      tile t with its pixel t * 8
 */
FC_KERNEL void FN(fc_winograd_phases_input) FC_WINOGRAD_PHASES_INPUT_ARGS(FC_T) {
  vec down[(4 * FC_WINOGRAD_FEW + 1) * 5];
  for (; tiles > 0; tiles -= FC_WINOGRAD_FEW) {
    const ptrdiff_t few = tiles < FC_WINOGRAD_FEW ? tiles : FC_WINOGRAD_FEW;
    for (ptrdiff_t phase = 0; phase < 4; ++phase) {
      const ptrdiff_t row = phase > 1, col = phase % 3 == 0; /* 1: every other but the first */
      for (ptrdiff_t q = 0; q < few * 4 + 1 - col; ++q) {
        const FC_T *const x_q = x + (2 * q + col) * x_col;
        vec d[5] = {{0}};
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) d[i] = load(x_q + at[2 * i + row]);
        if (!row) d[4] = load(x_q + at[8]);
        FN(fc_winograd_phase_b)(d, down + q * 5);
      }
      FC_T *v_row = v + phase * v_phase;
      for (int i = 0; i < 5 - row; ++i, v_row += 5 * v_pitch) /* as in winograd.h */
        for (ptrdiff_t tile = 0; tile < few; ++tile) {
          vec d[5] = {{0}}, across[5];
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) d[j] = down[(tile * 4 + j) * 5 + i];
          if (!col) d[4] = down[(tile * 4 + 4) * 5 + i];
          FN(fc_winograd_phase_b)(d, across);
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) store(v_row + j * v_pitch + tile * v_tile, across[j]);
          if (!col) store(v_row + 4 * v_pitch + tile * v_tile, across[4]);
        }
    }
    x += few * 8 * x_col;
    v += few * v_tile;
  }
}

FC_KERNEL void FN(fc_winograd_phases_output) FC_WINOGRAD_OUTPUT_ARGS(FC_T) {
  FN(fc_winograd_output)(4, 5, tiles, z, z_tile, z_pitch, bias, y, y_row);
}
#endif
