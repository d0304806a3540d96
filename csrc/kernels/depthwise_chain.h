/* Tiles of depthwise_tile.h in a chain, without stride.  The first and last rows of x meet few rows of a
 * tile, whose sums then wait for each other.  So while the last rows of one are added up the first ones of
 * the next begin, and always M * V sums are in work; the order of each sum stays as it is.
 */

/* One row of taps of a chain: rows of sums from `split` on meet x, those before it, of the next tile,
 * meet x_next. */
FC_INLINE void FN(fc_depthwise_taps)(const int M, const int V, const int split, const ptrdiff_t S,
                                     const ptrdiff_t tap, const FC_T *x, const FC_T *x_next,
                                     const FC_T *const *w, vec acc[4][4]) {
  __asm__("" : "+r"(x), "+r"(x_next));
#pragma GCC unroll 4 /* as in panel.h */
  for (ptrdiff_t s = 0; s < S; ++s, x += tap, x_next += tap) {
    vec x_v[4];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const int first = m < split ? 0 : split, meet = m < split ? split : M - split;
      if (m == first) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          x_v[v] = load((m < split ? x_next : x) + v * VL);
          if (meet > 1) x_v[v] = held(x_v[v]);
        }
      }
      const vec w_s = splat(w[m][s]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[m][v] += w_s * x_v[v];
    }
  }
}

/* columns from `begin` to Q of P >= M rows, taps `tap` pixels apart; M - 1 <= R */
FC_INLINE void FN(fc_depthwise_chain)(const int M, const int V, const ptrdiff_t R,
                                      const ptrdiff_t S, const ptrdiff_t tap, ptrdiff_t P,
                                      ptrdiff_t begin, ptrdiff_t Q, const FC_T *const *x,
                                      const int32_t *at, const FC_T *w, FC_T bias, FC_T *y,
                                      ptrdiff_t y_pitch) {
  if (S < 1) __builtin_unreachable();
  const vec start = splat(bias);
  const FC_T *const *const x_end = x + P - M;
  vec acc[4][4];
  ptrdiff_t q = begin;
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = start;
#pragma GCC unroll 3
  for (int j = 0; j < M - 1; ++j)
    for (ptrdiff_t s = 0; s < S; ++s)
      FN(fc_depthwise_tap)(0, j + 1, V, x[j] + q + at[s], w + j * S + s, S, acc);
  for (;;) {
    const FC_T *w_m[4];
    FC_T *y_m = y + q;
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) w_m[m] = w + (M - 1 - m) * S;
    for (ptrdiff_t j = M - 1; j < R; ++j) {
      FN(fc_depthwise_taps)(M, V, 0, S, tap, x[j] + q, x[j] + q, w_m, acc);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) w_m[m] += S;
    }

    const FC_T *const *x_next = x;
    ptrdiff_t q_next = q + V * VL;
    if (q_next >= Q) {
      if (x == x_end) break;
      q_next = begin;
      x_next = x_end - x > M ? x + M : x_end;
    } else if (q_next > Q - V * VL) {
      q_next = Q - V * VL;
    }
#pragma GCC unroll 4
    for (int j = 0; j < M; ++j) {
      FN(fc_depthwise_store)(1, V, Q - q, acc + j, y_m, 0);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[j][v] = start;
      if (j == M - 1) break;
      w_m[j] = w;
      FN(fc_depthwise_taps)(M, V, j + 1, S, tap, x[R + j] + q, x_next[j] + q_next, w_m,
                            acc);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) w_m[m] += S;
      y_m += y_pitch;
    }
    y += (x_next - x) * y_pitch;
    x = x_next;
    q = q_next;
  }
#pragma GCC unroll 3
  for (int j = 0; j < M - 1; ++j)
    for (ptrdiff_t s = 0; s < S; ++s)
      FN(fc_depthwise_tap)(j + 1, M, V, x[R + j] + q + at[s], w + (R + j) * S + s, S, acc);
  FN(fc_depthwise_store)(M, V, Q - q, acc, y + q, y_pitch);
}

FC_KERNEL void FN(fc_depthwise_chain_2)(ptrdiff_t R, ptrdiff_t S, ptrdiff_t tap, ptrdiff_t P,
                                        ptrdiff_t begin, ptrdiff_t Q, const FC_T *const *x,
                                        const int32_t *at, const FC_T *w, FC_T bias, FC_T *y,
                                        ptrdiff_t y_pitch) {
  FN(fc_depthwise_chain)(4, 2, R, S, tap, P, begin, Q, x, at, w, bias, y, y_pitch);
}

/* taps that are neighbours go by wide tiles as far as those fit */
FC_KERNEL void FN(fc_depthwise_chains)(ptrdiff_t R, ptrdiff_t S, ptrdiff_t tap, ptrdiff_t P,
                                       ptrdiff_t Q, const FC_T *const *x, const int32_t *at,
                                       const FC_T *w, FC_T bias, FC_T *y, ptrdiff_t y_pitch) {
  const ptrdiff_t V = FC_DEPTHWISE_V;
  ptrdiff_t begin = 0;
  if (V > 2 && tap == 1) {
    ptrdiff_t wide = Q / (V * VL), rest = Q - wide * V * VL;
    if (V == 3 && wide && rest > 0 && rest <= VL) --wide; /* 3 + 1 = 2 + 2 */
    begin = wide * V * VL;
    if (wide)
      FN(fc_depthwise_chain)(4, FC_DEPTHWISE_V, R, S, 1, P, 0, begin, x, at, w, bias, y, y_pitch);
    if (begin >= Q) return;
    if (begin > Q - 2 * VL && wide) begin = Q - 2 * VL;
  }
  FN(fc_depthwise_chain_2)(R, S, tap, P, begin, Q, x, at, w, bias, y, y_pitch);
}
