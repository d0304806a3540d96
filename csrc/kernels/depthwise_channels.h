/* Convolution of a row of pixels, each channel with its own filter, channels in the lanes.
 *
 *   y[q][c] = bias[c] + sum_{r < R, s < S} w[r][s][c] * x[r][q * step - left + s * dilation][c]
 *                                                                              q < Q, c < C
 *
 *   x     [R] rows x_row apart, of `width` pixels x_col apart, of C channels; pixels beside a row count
 *         as zero and are not read
 *   w     [R] rows w_row apart, of S taps w_tap apart, of C channels or a vector, if that is more
 *   bias  [C], or a vector, or NULL for zeros      y  [Q] pixels y_col apart, of C channels
 *
 * Rows above and below the image are left out by the caller: R is then less than the filter has.  A
 * tile is J pixels by V vectors of channels, J * V accumulators.  Where three taps lie beside each other
 * a pixel is loaded once for all the sums it goes into.  What is no multiple of a tile comes out twice,
 * the same again.
 */

/* the pixels from begin to end meet every tap inside the row */
FC_INLINE void FN(fc_channels_whole)(const fc_channels *g, ptrdiff_t *begin, ptrdiff_t *end) {
  const ptrdiff_t room = g->width + g->left - (g->S - 1) * g->dilation;
  *begin = g->left > 0 ? (g->left + g->step - 1) / g->step : 0;
  *end = room > 0 ? (room - 1) / g->step + 1 : 0;
  if (*end > g->Q) *end = g->Q;
}

/* T taps of a row beside each other, the first at x */
FC_INLINE void FN(fc_channels_taps)(const int J, const int V, const int T, const ptrdiff_t step,
                                    const FC_T *x, ptrdiff_t x_col, const int n, const FC_T *w,
                                    ptrdiff_t w_tap, vec acc[8][2]) {
  vec w_t[3][2];
#pragma GCC unroll 3
  for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) w_t[t][v] = held(load(w + t * w_tap + v * VL));
#pragma GCC unroll 17
  for (int i = 0; i < (J - 1) * step + T; ++i, x += x_col)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      vec x_i = n < VL ? load_n(x, n, (vec){0}) : load(x + v * VL);
      if (T > 1) x_i = held(x_i);
#pragma GCC unroll 3
      for (int t = 0; t < T; ++t)
        if (i >= t && (i - t) % step == 0 && (i - t) / step < J)
          acc[(i - t) / step][v] += w_t[t][v] * x_i;
    }
}

/* the taps from begin to end of J pixels, of n channels; step is a constant where T is not 1 */
FC_INLINE void FN(fc_channels_tile)(const fc_channels *g, const int J, const int V, const int T,
                                    const ptrdiff_t step, ptrdiff_t R, ptrdiff_t begin, ptrdiff_t end,
                                    const FC_T *x, const FC_T *w, const FC_T *bias, FC_T *y,
                                    const int n) {
  vec acc[8][2];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) acc[j][v] = bias ? load(bias + v * VL) : (vec){0};
  for (ptrdiff_t r = 0; r < R; ++r) {
    const FC_T *x_s = x + r * g->x_row, *w_s = w + r * g->w_row + begin * g->w_tap;
    ptrdiff_t s = begin;
    if (T > 1)
#pragma GCC unroll 1
      for (; s <= end - T; s += T, x_s += T * g->x_col, w_s += T * g->w_tap)
        FN(fc_channels_taps)(J, V, T, step, x_s, g->x_col, n, w_s, g->w_tap, acc);
#pragma GCC unroll 1
    for (; s < end; ++s, x_s += g->dilation * g->x_col, w_s += g->w_tap)
      FN(fc_channels_taps)(J, V, 1, 1, x_s, g->step * g->x_col, n, w_s, g->w_tap, acc);
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v)
      if (n < VL)
        store_n(y + j * g->y_col, n, acc[j][v]);
      else
        store(y + j * g->y_col + v * VL, acc[j][v]);
}

/* all channels of J pixels, V vectors at a time while there are as many */
#define FC_CHANNELS(name, J, V, T, step)                                                         \
  FC_KERNEL void FN(name)(const fc_channels *g, ptrdiff_t R, ptrdiff_t begin, ptrdiff_t end,     \
                          const FC_T *x, const FC_T *w, const FC_T *bias, FC_T *y) {             \
    ptrdiff_t c = 0;                                                                             \
    for (; c <= g->C - V * VL; c += V * VL)                                                      \
      FN(fc_channels_tile)(g, J, V, T, step, R, begin, end, x + c, w + c,                        \
                           bias ? bias + c : NULL, y + c, VL);                                   \
    for (; c < g->C; c += VL) {                                                                  \
      const int n = g->C < VL ? (int)g->C : VL;                                                  \
      if (c > g->C - n) c = g->C - n;                                                            \
      if (J > 1 || n == VL)                                                                      \
        FN(fc_channels_tile)(g, J, 1, T, step, R, begin, end, x + c, w + c,                      \
                             bias ? bias + c : NULL, y + c, VL);                                 \
      else                                                                                       \
        FN(fc_channels_tile)(g, J, 1, 1, 1, R, begin, end, x, w, bias, y, n);                    \
    }                                                                                            \
  }
/* V vectors are a cache line: 16 registers hold four pixels' sums of one, and three of its taps */
#if FC_BYTES == 64
#define FC_CHANNELS_J 8
#define FC_CHANNELS_V 1
#else
#define FC_CHANNELS_J 4
#define FC_CHANNELS_V 2
#endif
FC_CHANNELS(fc_channels_1, 1, FC_CHANNELS_V, 1, 1)
FC_CHANNELS(fc_channels_4, 4, FC_CHANNELS_V, 1, 1)
FC_CHANNELS(fc_channels_s1, FC_CHANNELS_J, FC_CHANNELS_V, 3, 1)
FC_CHANNELS(fc_channels_s2, FC_CHANNELS_J, FC_CHANNELS_V, 3, 2)
#undef FC_CHANNELS

FC_KERNEL void FN(fc_depthwise_channels) FC_DEPTHWISE_CHANNELS_ARGS(FC_T) {
  const ptrdiff_t step = g->step, dilation = g->dilation;
  ptrdiff_t whole, after;
  FN(fc_channels_whole)(g, &whole, &after);
  for (ptrdiff_t q = 0; q < g->Q;) {
    const ptrdiff_t at = q * step - g->left;
    const FC_T *const x_q = x + at * g->x_col;
    FC_T *const y_q = y + q * g->y_col;
    const ptrdiff_t rest = after - q;
    if (q < whole || rest < 1 || g->C < VL || rest == 1 || after - whole < 4) {
      /* the taps inside the row, if any */
      const ptrdiff_t begin = at < 0 ? (-at + dilation - 1) / dilation : 0;
      ptrdiff_t end = at < g->width ? (g->width - 1 - at) / dilation + 1 : 0;
      if (end > g->S) end = g->S;
      FN(fc_channels_1)(g, begin < end ? R : 0, begin, end, x_q + begin * dilation * g->x_col, w,
                        bias, y_q);
      ++q;
      continue;
    }
    const int near = dilation == 1 && g->S >= 3 && step <= 2 && after - whole >= FC_CHANNELS_J;
    const int J = near ? FC_CHANNELS_J : 4;
    if (rest < J) { /* overlaps the ones before */
      q = after - J;
      continue;
    }
#define FC_CHANNELS(name) FN(name)(g, R, 0, g->S, x_q, w, bias, y_q)
    if (!near)
      FC_CHANNELS(fc_channels_4);
    else if (step == 1)
      FC_CHANNELS(fc_channels_s1);
    else
      FC_CHANNELS(fc_channels_s2);
#undef FC_CHANNELS
    q += J;
  }
}

/* The gradient with respect to the filters, of a row of pixels.
 *
 *   acc[r][s][i][l] += sum_{q < Q} x[r][q * step - left + s * dilation][c] * dy[q][c]
 *                                                  r < R, s < S, c = min(i * VL, C - VL) + l
 *
 *   x    as above      dy  as y      acc  [R] rows w_row apart, of S taps w_tap apart, of the vectors
 *        that C channels need; the last one begins with channel C - VL where there are as many, and
 *        has zeros behind the channels where there are not
 *
 * A tile is M by T taps of one vector.
 */
FC_INLINE void FN(fc_channels_dot)(const int M, const int T, const fc_channels *g, ptrdiff_t begin,
                                   ptrdiff_t end, const FC_T *x, const FC_T *dy, FC_T *acc,
                                   const int n) {
  const ptrdiff_t tap = g->dilation * g->x_col, step = g->step * g->x_col;
  vec sum[3][3];
#pragma GCC unroll 3
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 3
    for (int t = 0; t < T; ++t) sum[m][t] = load(acc + m * g->w_row + t * g->w_tap);
  x += (begin * g->step - g->left) * g->x_col;
  dy += begin * g->y_col;
  for (ptrdiff_t q = begin; q < end; ++q, x += step, dy += g->y_col) {
    const vec dy_q = n < VL ? load_n(dy, n, (vec){0}) : load(dy);
#pragma GCC unroll 3
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 3
      for (int t = 0; t < T; ++t) {
        const FC_T *const x_t = x + m * g->x_row + t * tap;
        sum[m][t] += dy_q * (n < VL ? load_n(x_t, n, (vec){0}) : load(x_t));
      }
  }
#pragma GCC unroll 3
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 3
    for (int t = 0; t < T; ++t) store(acc + m * g->w_row + t * g->w_tap, sum[m][t]);
}

#define FC_DOT_CHANNELS(name, M, T, n)                                                           \
  FC_KERNEL void FN(name)(const fc_channels *g, ptrdiff_t begin, ptrdiff_t end, const FC_T *x,   \
                          const FC_T *dy, FC_T *acc) {                                           \
    FN(fc_channels_dot)(M, T, g, begin, end, x, dy, acc, n);                                     \
  }
FC_DOT_CHANNELS(fc_channels_dot_9, 3, 3, VL)
FC_DOT_CHANNELS(fc_channels_dot_3, 1, 3, VL)
FC_DOT_CHANNELS(fc_channels_dot_1, 1, 1, VL)
FC_DOT_CHANNELS(fc_channels_dot_n, 1, 1, (int)g->C)
#undef FC_DOT_CHANNELS

FC_KERNEL void FN(fc_depthwise_channels_weight) FC_DEPTHWISE_CHANNELS_WEIGHT_ARGS(FC_T) {
  const ptrdiff_t step = g->step, dilation = g->dilation;
  ptrdiff_t whole, after;
  FN(fc_channels_whole)(g, &whole, &after);
  if (after <= whole || g->C < VL) whole = after = g->Q;
  for (ptrdiff_t i = 0; i * VL < g->C; ++i, acc += VL) {
    const ptrdiff_t c = g->C < VL ? 0 : i * VL > g->C - VL ? g->C - VL : i * VL;
    ptrdiff_t s = 0, r;
#define FC_DOT_CHANNELS(name, from, to)                                                          \
  FN(name)(g, from, to, x + c + r * g->x_row + s * dilation * g->x_col, dy + c,                  \
           acc + r * g->w_row + s * g->w_tap)
    if (whole < after)
      while (s < g->S) {
        const int T = s + 3 <= g->S ? 3 : 1;
        for (r = 0; r < R;)
          if (T == 3 && r + 3 <= R) {
            FC_DOT_CHANNELS(fc_channels_dot_9, whole, after);
            r += 3;
          } else {
            if (T == 3)
              FC_DOT_CHANNELS(fc_channels_dot_3, whole, after);
            else
              FC_DOT_CHANNELS(fc_channels_dot_1, whole, after);
            ++r;
          }
        s += T;
      }
    /* and the pixels that this tap meets, but not every tap */
    for (s = 0; s < g->S; ++s) {
      const ptrdiff_t at = g->left - s * dilation, room = g->width + at;
      const ptrdiff_t low = at > 0 ? (at + step - 1) / step : 0;
      ptrdiff_t high = room > 0 ? (room - 1) / step + 1 : 0;
      if (high > g->Q) high = g->Q;
      for (int side = 0; side < 2; ++side) {
        const ptrdiff_t from = side && low < after ? after : low;
        const ptrdiff_t to = !side && high > whole ? whole : high;
        for (r = 0; from < to && r < R; ++r)
          if (g->C < VL)
            FC_DOT_CHANNELS(fc_channels_dot_n, from, to);
          else
            FC_DOT_CHANNELS(fc_channels_dot_1, from, to);
      }
    }
#undef FC_DOT_CHANNELS
  }
}
