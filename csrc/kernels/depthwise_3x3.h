/* Convolution of one plane with 3 by 3 taps beside each other, and zeros beside the rows.
 *
 *   y[p][q] = bias + sum_{r, s < 3} w[r][s] * x[p * stride + r][q * stride - left + s]     p < P, q < Q
 *
 *   x  [(P - 1) * stride + 3] pointers to rows; pixels outside [0, width) count as zero; from -left on
 *      max(Q, VL) * stride + 3 - stride pixels are read, whatever they hold beside the row
 *   w  [3][3]      y  [P] rows y_pitch apart, of Q pixels
 *
 * stride is 1 or 2, in both directions.  A tile is some rows by one vector, with all weights in
 * registers.  The order of a sum follows from its column alone.
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

#if FC_DEPTHWISE_ONCE(1)
/* n <= VL columns at stride 1, `at` where tap 1 lies and no pixel beside the vector, with pixels read
 * once: three sums of a pixel do not wait for each other as one of nine products does. */
FC_INLINE void FN(fc_narrow_3x3_tile)(const int M, ivec mask, const FC_T *const *x, ptrdiff_t at,
                                      const vec w[9], vec bias, FC_T *y, ptrdiff_t y_pitch, int n) {
  vec sum[3][7];
#pragma GCC unroll 9
  for (int j = 0; j < M + 2; ++j) {
    const vec v = held(load_where(x[j] + at, mask));
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
    if (j < 2) continue;
    store_n(y + (j - 2) * y_pitch, n,
            sum[1][j - 2] + (from_lane(VL - 1, (vec){0}, sum[0][j - 2]) +
                             from_lane(1, sum[2][j - 2], (vec){0})));
  }
}

FC_KERNEL void FN(fc_narrow_3x3)(ivec mask, ptrdiff_t P, const FC_T *const *x, ptrdiff_t at,
                                 const FC_T *taps, FC_T bias, FC_T *y, ptrdiff_t y_pitch, int n) {
  vec w[9];
  FN(fc_depthwise_3x3_weights)(1, taps, w);
  const vec start = held(splat(bias));
  ptrdiff_t p = 0;
  for (; P - p >= 7; p += 7)
    FN(fc_narrow_3x3_tile)(7, mask, x + p, at, w, start, y + p * y_pitch, y_pitch, n);
  for (; p < P; ++p)
    FN(fc_narrow_3x3_tile)(1, mask, x + p, at, w, start, y + p * y_pitch, y_pitch, n);
}
#endif

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
#if FC_DEPTHWISE_ONCE(1)
    if (stride == 1 && Q <= VL && at < 0 && at + 1 + VL >= width) {
      FN(fc_narrow_3x3)(mask[1], P, x, at + 1, w, bias, y, y_pitch, (int)Q);
      break;
    }
#endif
    (stride == 1 ? FN(fc_border_3x3_s1) : FN(fc_border_3x3_s2))(
        mask, P, x, at, at < 1 || at > width, w, bias, y + q, y_pitch, Q);
  }
}
