/* Tiles of 3 by 3 taps beside each other (depthwise_3x3.h): M rows by one vector, with all weights in
 * registers.  x are pointers to the rows of pixels, `at` is the place of the vector in them.
 */

/* whether 3x3 kernels read each pixel once at stride 1, too: worth it where loads cross cache lines */
#define FC_DEPTHWISE_ONCE(stride) ((stride) == 1 && FC_BYTES == 64)

/* A tile whose taps each have a load of their own; pixels come from memory as factors, but for those
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
 * that crosses a cache line, as two of three do where each tap has its own, takes two cycles; and
 * three sums do not wait for each other. */
FC_INLINE void FN(fc_depthwise_3x3_once)(const int M, const ivec *mask, const FC_T *const *x,
                                         ptrdiff_t at, const vec w[9], vec bias, vec (*sum)[7]) {
#pragma GCC unroll 9
  for (int j = 0; j < M + 2; ++j) {
    const vec v = held(mask ? load_where(x[j] + at, *mask) : load(x[j] + at));
#pragma GCC unroll 7
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
