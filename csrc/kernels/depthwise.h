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
 * step is 1 or 2.  A tile is M rows by V vectors.  A row x is loaded once for all the rows of the tile
 * that it meets; with a stride the rows of x, and those of w, fall into phases that do not meet.
 * M * V accumulators, V inputs and one weight have to fit in the registers.  Where P and Q are no
 * multiples of the tile the last ones overlap those before: they come out the same again.
 *
 * The first and last rows of x meet few rows of a tile, whose sums then wait for each other.  Tiles
 * without stride therefore form a chain: while the last rows of one are added up the first ones of the
 * next begin, so that always M * V sums are in work.
 *
 * At step 2 pixels are not sorted into even and odd ones but multiplied as they lie, by a pair of taps
 * in turn; in the end neighbouring lanes are added.  The tap left over goes over all pixels, too, and
 * every second sum of it is dropped.
 */
#undef FC_DEPTHWISE_V
#if FC_ISA_TILE_M == 8 && !FC_F64 /* 32 registers */
#define FC_DEPTHWISE_V 4
#elif FC_ISA_TILE_M == 6 && !FC_F64 /* 16, and products that are fused */
#define FC_DEPTHWISE_V 3
#else /* and in double, where a smaller wheel is worth more */
#define FC_DEPTHWISE_V 2
#endif

/* the even lanes of `one`, and neighbouring lanes of `two` added up */
FC_INLINE vec FN(fc_depthwise_merge)(const vec one[2], const vec two[2]) {
  return sorted(some_evens(two[0], two[1]) + some_odds(two[0], two[1]) + some_evens(one[0], one[1]));
}

/* whether 3x3 kernels read each pixel once at stride 1, too: worth it where loads cross cache lines */
#define FC_DEPTHWISE_ONCE(stride) ((stride) == 1 && FC_BYTES == 64)

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

/* The same with 3 by 3 taps beside each other, and zeros beside the rows.
 *
 *   y[p][q] = bias + sum_{r, s < 3} w[r][s] * x[p * stride + r][q * stride - left + s]     p < P, q < Q
 *
 *   x  [(P - 1) * stride + 3] pointers to rows; pixels outside [0, width) count as zero; from -left on
 *      max(Q, VL) * stride + 3 - stride pixels are read, whatever they hold beside the row
 *   w  [3][3]      y  [P] rows y_pitch apart, of Q pixels
 *
 * stride is 1 or 2, in both directions.  A tile is some rows by one vector, with all weights in
 * registers.  The order of a sum follows from its column alone.
 *
 * First a tile whose taps each have a load of their own; pixels come from memory as factors, but for those
 * that several rows need.
 */
FC_INLINE void FN(fc_depthwise_3x3_tile)(const int M, const ivec *mask, const FC_T *const *x,
                                         ptrdiff_t at, const vec w[9], vec bias, FC_T *y,
                                         ptrdiff_t y_pitch, int n) {
  vec sum[7];
  __asm__("" : "+r"(at)); /* one index for all addresses */
#pragma GCC unroll 9
  for (int j = 0; j < M + 2; ++j) {
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      const FC_T *const x_i = x[j] + at + i;
      vec v = mask ? load_where(x_i, mask[i]) : load(x_i);
      if (mask || (j >= 1 && j < M + 1)) v = held(v);
#pragma GCC unroll 7
      for (int m = 0; m < M; ++m) {
        const int r = j - m;
        if (r < 0 || r >= 3) continue;
        sum[m] = (r || i ? sum[m] : bias) + v * w[r * 3 + i];
      }
    }
    if (j < 2) continue;
    if (FC_BYTES == 64 && mask)
      store_n(y + (j - 2) * y_pitch, n, sum[j - 2]);
    else
      store(y + (j - 2) * y_pitch, sum[j - 2]);
  }
}

/* The same at stride 2, `at` where tap 1 lies.  A pixel is read once: every second one is the last tap
 * of a column and the first one of the next, so those sums move on by a lane in the end.  `before` has
 * them for the first column in its last lane, and gets them for the vector that follows. */
FC_INLINE void FN(fc_depthwise_3x3_halves)(const int M, const ivec *mask, const FC_T *const *x,
                                           ptrdiff_t at, const vec w[9], vec bias, vec before[2],
                                           FC_T *y, ptrdiff_t y_pitch, int n) {
  vec one[2][2], two[2][2]; /* sums of tap 0, and of pairs */
#pragma GCC unroll 5
  for (int j = 0; j < 2 * M + 1; ++j) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const FC_T *const x_i = x[j] + at + i * VL;
      const vec v = held(mask ? load_where(x_i, mask[i]) : load(x_i));
#pragma GCC unroll 2
      for (int m = 0; m < M; ++m) {
        const int r = j - 2 * m;
        if (r < 0 || r >= 3) continue;
        one[m][i] = (r ? one[m][i] : bias) + v * w[r * 2];
        /* held: which of two products is fused must not be GCC's choice */
        two[m][i] = r ? two[m][i] + v * w[r * 2 + 1] : held(v * w[r * 2 + 1]);
      }
    }
    if (j < 2 || j % 2) continue;
    const int m = j / 2 - 1;
    const vec ones = odds(one[m][0], one[m][1]);
    const vec twos = some_evens(two[m][0], two[m][1]) + some_odds(two[m][0], two[m][1]);
    const vec y_m = sorted(twos) + from_lane(VL - 1, before[m], ones);
    before[m] = ones;
    if (FC_BYTES == 64 && mask)
      store_n(y + m * y_pitch, n, y_m);
    else
      store(y + m * y_pitch, y_m);
  }
}

/* The same at stride 1: `at` where tap 1 lies, and sums by taps that move in the end.  A load
 * that crosses a cache line, as two of three do where each tap has its own, takes two cycles. */
FC_INLINE void FN(fc_depthwise_3x3_once)(const int M, const FC_T *const *x, ptrdiff_t at,
                                         const vec w[9], vec bias, vec sum[3][2]) {
#pragma GCC unroll 4
  for (int j = 0; j < M + 2; ++j) {
    const vec v = held(load(x[j] + at));
#pragma GCC unroll 2
    for (int m = 0; m < M; ++m) {
      const int r = j - m;
      if (r < 0 || r >= 3) continue;
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s)
        sum[s][m] = r        ? sum[s][m] + v * w[r * 3 + s]
                    : s == 1 ? bias + v * w[s]
                             : held(v * w[s]);
    }
  }
}

/* what M rows of a tap beside the vectors add to `start`; nothing where it lies beside the rows */
FC_INLINE void FN(fc_depthwise_3x3_beside)(const int M, const int stride, const FC_T *const *x,
                                           ptrdiff_t at, int is_beside, const FC_T *taps, FC_T start,
                                           vec sums[2]) {
#pragma GCC unroll 2
  for (int m = 0; m < M; ++m) {
    FC_T sum = start;
    if (!is_beside) {
#pragma GCC unroll 3
      for (int r = 0; r < 3; ++r) sum += x[m * stride + r][at] * taps[r * 3];
    }
    sums[m] = splat(sum);
  }
}

FC_INLINE void FN(fc_depthwise_3x3_weights)(const int stride, const FC_T *taps, vec w[9]) {
#pragma GCC unroll 3
  for (int r = 0; r < 3; ++r)
    if (stride == 1) {
#pragma GCC unroll 3
      for (int s = 0; s < 3; ++s) w[r * 3 + s] = held(splat(taps[r * 3 + s]));
    } else {
      w[r * 2] = held(splat(taps[r * 3]));
      w[r * 2 + 1] = held(splat_pair(taps + r * 3 + 1));
    }
}

/* n >= VL columns that read no pixel beside the rows, of P >= M rows, in the order of memory.  But where
 * pixels are read once taps 0 and 2 of the first and last may lie there, and at stride 1 n is a multiple
 * of VL. */
FC_INLINE void FN(fc_depthwise_3x3_inner)(const int M, const int stride, ptrdiff_t P,
                                          const FC_T *const *x, ptrdiff_t at, ptrdiff_t width,
                                          const FC_T *taps, FC_T bias, FC_T *y, ptrdiff_t y_pitch,
                                          ptrdiff_t n) {
  vec w[9];
  FN(fc_depthwise_3x3_weights)(stride, taps, w);
  const vec start = held(splat(bias));
  vec before[2] = {start, start};
  for (ptrdiff_t p = 0; p < P; p += M) {
    if (p > P - M) p = P - M;
    const FC_T *x_p[5];
#pragma GCC unroll 5
    for (int j = 0; j < (M - 1) * stride + 3; ++j) x_p[j] = x[p * stride + j] + at;
    FC_T *const y_p = y + p * y_pitch;
    if (FC_DEPTHWISE_ONCE(stride)) {
      vec sum[3][2], next[3][2] = {{start, start}, {start, start}, {start, start}};
      FN(fc_depthwise_3x3_beside)(M, 1, x_p, -1, at == 0, taps, 0, before);
      FN(fc_depthwise_3x3_once)(M, x_p, 0, w, start, sum);
      for (ptrdiff_t q = 0; q < n; q += VL) {
        if (q < n - VL)
          FN(fc_depthwise_3x3_once)(M, x_p, q + VL, w, start, next);
        else
          FN(fc_depthwise_3x3_beside)(M, 1, x_p, n, at + n == width, taps + 2, 0, next[2]);
#pragma GCC unroll 2
        for (int m = 0; m < M; ++m) {
          store(y_p + m * y_pitch + q,
                sum[1][m] + (from_lane(VL - 1, before[m], sum[0][m]) +
                             from_lane(1, sum[2][m], next[2][m])));
          before[m] = sum[0][m];
#pragma GCC unroll 3
          for (int s = 0; s < 3; ++s) sum[s][m] = next[s][m];
        }
      }
      continue;
    }
    for (ptrdiff_t q = 0; q < n; q += VL) {
      if (q > n - VL) q = n - VL;
      if (stride == 1) {
        FN(fc_depthwise_3x3_tile)(M, NULL, x_p, q, w, start, y_p + q, y_pitch, VL);
        continue;
      }
      if (q == 0 || q == n - VL)
        FN(fc_depthwise_3x3_beside)(M, 2, x_p, 2 * q - 1, at + q == 0, taps, bias, before);
      FN(fc_depthwise_3x3_halves)(M, NULL, x_p, 2 * q, w, start, before, y_p + q, y_pitch, VL);
    }
  }
}

/* one vector of all rows: n pixels of it where there are not as many as lanes */
FC_INLINE void FN(fc_depthwise_3x3_border)(const int stride, const ivec *in, ptrdiff_t P,
                                           const FC_T *const *x, ptrdiff_t at, int is_beside,
                                           const FC_T *taps, FC_T bias, FC_T *y, ptrdiff_t y_pitch,
                                           ptrdiff_t n) {
  const int rows = stride == 1 ? 7 : FC_BYTES == 64 ? 2 : 1; /* of a tile: as registers allow */
  vec w[9];
  ivec mask[3];
  FC_T narrow[7 * VL];
  /* short rows go by way of a buffer where a masked store takes longer */
  const int is_narrow = FC_BYTES < 64 && n < VL, first = n < VL ? (int)n : VL;
  FN(fc_depthwise_3x3_weights)(stride, taps, w);
  const vec start = splat(bias);
  vec before[2] = {start, start};
#pragma GCC unroll 3
  for (int i = 0; i < 4 - stride; ++i) mask[i] = in[i]; /* no store overwrites them */
#define FC_3X3(M)                                                                                \
  do {                                                                                           \
    FC_T *const y_p = is_narrow ? narrow : y + p * y_pitch;                                      \
    const ptrdiff_t pitch = is_narrow ? VL : y_pitch;                                            \
    if (stride == 1) {                                                                           \
      FN(fc_depthwise_3x3_tile)(M, mask, x + p, at, w, start, y_p, pitch, first);                \
    } else {                                                                                     \
      const FC_T *const *const x_p = x + 2 * p;                                                  \
      FN(fc_depthwise_3x3_beside)(M, 2, x_p, at - 1, is_beside, taps, bias, before);             \
      FN(fc_depthwise_3x3_halves)(M, mask, x_p, at, w, start, before, y_p, pitch, first);        \
    }                                                                                            \
    if (is_narrow)                                                                               \
      for (int m = 0; m < M; ++m) {                                                              \
        FC_T *const y_m = y + (p + m) * y_pitch;                                                 \
        /* what lies beyond a row is written over by the next ones */                            \
        if (y_pitch == n && (P - p - m) * n >= VL)                                               \
          store(y_m, load(narrow + m * VL));                                                     \
        else                                                                                     \
          store_n(y_m, (int)n, load(narrow + m * VL));                                           \
      }                                                                                          \
  } while (0)
  ptrdiff_t p = 0;
  if (rows > 1 && P >= rows) {
    const ptrdiff_t end = P % rows > 2 ? P : P / rows * rows; /* the last tile may overlap */
    for (; p < end; p += rows) {
      if (p > P - rows) p = P - rows;
      FC_3X3(rows);
    }
  }
  for (; p < P; ++p) FC_3X3(1);
#undef FC_3X3
}

/* functions, for GCC would load what they share before it knows which is called */
#define FC_COLUMNS(stride)                                                                       \
  FC_KERNEL void FN(fc_inner_3x3_s##stride)(ptrdiff_t P, const FC_T *const *x, ptrdiff_t at,     \
                                            ptrdiff_t width, const FC_T *w, FC_T bias, FC_T *y,  \
                                            ptrdiff_t y_pitch, ptrdiff_t n) {                    \
    if (FC_DEPTHWISE_ONCE(stride) && P == 1)                                                     \
      FN(fc_depthwise_3x3_inner)(1, stride, P, x, at, width, w, bias, y, y_pitch, n);            \
    else                                                                                         \
      FN(fc_depthwise_3x3_inner)(2, stride, P, x, at, width, w, bias, y, y_pitch, n);            \
  }                                                                                              \
  FC_KERNEL __attribute__((nonnull)) void FN(fc_border_3x3_s##stride)(                           \
      const ivec *mask, ptrdiff_t P, const FC_T *const *x, ptrdiff_t at, int is_beside,          \
      const FC_T *w, FC_T bias, FC_T *y, ptrdiff_t y_pitch, ptrdiff_t n) {                       \
    FN(fc_depthwise_3x3_border)(stride, mask, P, x, at, is_beside, w, bias, y, y_pitch, n);      \
  }
FC_COLUMNS(1)
FC_COLUMNS(2)
#undef FC_COLUMNS

FC_KERNEL void FN(fc_depthwise_3x3) FC_DEPTHWISE_3X3_ARGS(FC_T) {
  const ptrdiff_t once = FC_DEPTHWISE_ONCE(stride);
  /* the columns whose vectors read pixels of the rows alone */
  const ptrdiff_t beside = left - (stride == 2 || once);
  ptrdiff_t begin = beside > 0 ? (beside + stride * VL - 1) / (stride * VL) * VL : 0;
  ptrdiff_t end = (width + left - 3 + once + stride) / stride;
  if (end >= Q && Q >= VL && begin > Q - VL && beside <= (Q - VL) * stride) begin = Q - VL;
  end = end >= Q && !once ? Q : begin + ((end < Q ? end : Q) - begin) / VL * VL;
  /* `once` adds up in another order: for a row alone, too */
  const int is_inner = once ? end - begin >= 2 * VL : P > 1 && end - begin >= VL;
  if (is_inner) /* first, so that rows come into the cache in their order */
    (stride == 1 ? FN(fc_inner_3x3_s1) : FN(fc_inner_3x3_s2))(
        P, x, begin * stride - beside, width, w, bias, y + begin, y_pitch, end - begin);
  for (ptrdiff_t q = 0; q < Q; q += VL) {
    if (is_inner && q >= begin && q < end) q = end;
    if (q >= Q) break;
    if (q && q > Q - VL) q = Q - VL;
    const ptrdiff_t at = q * stride - left + (stride == 2);
    ivec mask[3];
    for (int i = 0; i < 4 - stride; ++i) { /* the lanes that lie in the row */
      const ptrdiff_t first = at + (stride == 1 ? i : i * VL), after = width - first;
      mask[i] = (iota() >= (FC_I)(first >= 0 ? 0 : -first < VL ? -first : VL)) &
                (iota() < (FC_I)(after < VL ? after : VL));
    }
    (stride == 1 ? FN(fc_border_3x3_s1) : FN(fc_border_3x3_s2))(
        mask, P, x, at, at < 1 || at > width, w, bias, y + q, y_pitch, Q);
  }
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
