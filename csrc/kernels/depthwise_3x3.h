/* Convolution of one plane with 3 by 3 taps beside each other, and zeros beside the rows.
 *
 *   y[p][q] = bias + sum_{r, s < 3} w[r][s] * x[p * stride + r][q * stride - left + s]     p < P, q < Q
 *
 *   x  [(P - 1) * stride + 3] pointers to rows; pixels outside [0, width) count as zero; from -left on
 *      max(Q, VL) * stride + 3 - stride pixels are read, whatever they hold beside the row
 *   w  [3][3]      y  [P] rows y_pitch apart, of Q pixels
 *
 * stride is 1 or 2, in both directions.  Tiles are those of depthwise_3x3_tile.h; the order of a sum
 * follows from its column, Q, left and width alone.
 */

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
      vec sum[3][7], next[3][7] = {{start, start}, {start, start}, {start, start}};
      FN(fc_depthwise_3x3_beside)(M, 1, x_p, -1, at == 0, taps, 0, before);
      FN(fc_depthwise_3x3_once)(M, NULL, x_p, 0, w, start, sum);
      for (ptrdiff_t q = 0; q < n; q += VL) {
        if (q < n - VL)
          FN(fc_depthwise_3x3_once)(M, NULL, x_p, q + VL, w, start, next);
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
/* M rows of n <= VL columns, no pixel beside whose vector lies in the rows */
FC_INLINE void FN(fc_depthwise_3x3_narrow)(const int M, ivec mask, const FC_T *const *x, ptrdiff_t at,
                                           const vec w[9], vec bias, FC_T *y, ptrdiff_t y_pitch,
                                           int n) {
  vec sum[3][7];
  FN(fc_depthwise_3x3_once)(M, &mask, x, at, w, bias, sum);
#pragma GCC unroll 7
  for (int m = 0; m < M; ++m)
    store_n(y + m * y_pitch, n,
            sum[1][m] + (from_lane(VL - 1, (vec){0}, sum[0][m]) + from_lane(1, sum[2][m], (vec){0})));
}

FC_KERNEL void FN(fc_narrow_3x3)(ivec mask, ptrdiff_t P, const FC_T *const *x, ptrdiff_t at,
                                 const FC_T *taps, FC_T bias, FC_T *y, ptrdiff_t y_pitch, int n) {
  vec w[9];
  FN(fc_depthwise_3x3_weights)(1, taps, w);
  const vec start = held(splat(bias));
  ptrdiff_t p = 0;
  for (; P - p >= 7; p += 7)
    FN(fc_depthwise_3x3_narrow)(7, mask, x + p, at, w, start, y + p * y_pitch, y_pitch, n);
  for (; p < P; ++p)
    FN(fc_depthwise_3x3_narrow)(1, mask, x + p, at, w, start, y + p * y_pitch, y_pitch, n);
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
