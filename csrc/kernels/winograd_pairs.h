/* Convolution of one plane with a filter of 5 by 5 taps by Winograd's F(2, 2) down the rows, whose points
 * are 0, 1 and infinity: rows of outputs in pairs, rows of taps in even and odd ones.
 *
 *   y[p][q] = bias + sum_{r, s < 5} w[r][s] * x[p + r][q - left + s]     p < P, q < Q
 *
 *   x  [P + 4 + P % 2] pointers to rows; pixels outside [0, width) count as zero and are not read
 *   w  [5][5]      y  [P] rows y_pitch apart, of Q pixels      0 <= left <= 4
 *
 * With e_j and o_j rows 2j and 2j + 1 of x, counted from the pair, and g_j those of w, which are 0 from
 * g_5 on, three convolutions have 3 + 3 + 2 rows of taps instead of 5 + 5:
 *
 *   both = sum_{j < 3} (g_2j + g_2j+1) * o_j          y[0] = both + sum_{j < 3} g_2j * (e_j - o_j)
 *                                                     y[1] = both - sum_{j < 2} g_2j+1 * (o_j - e_j+1)
 *
 * Each goes over some columns on its own, for its taps then fill the registers.  A pixel is read once: its
 * products with five taps are sums of five outputs, which move to their lanes in the end.  A row's place
 * in its pair has to be its place in the plane; the bits depend on nothing else.  By rounding, or where
 * pixels are infinite, an even row depends on the sixth row of its pair, too.
 *
 * That pays where vectors move and sums are added beside the units of products, and these are the
 * bottleneck: with vectors of 64 bytes that go through in halves.
 */
#if FC_BYTES == 64 && !FC_F64
#define FC_PAIRS_COLUMNS 512 /* of `both`, which stays in L1 with the rows */

enum { FC_PAIRS_BOTH, FC_PAIRS_EVEN, FC_PAIRS_ODD };

/* some pairs of rows, and columns */
typedef struct {
  ptrdiff_t pairs, P;     /* rows that are left: what is ahead ends with them */
  ptrdiff_t begin, end;   /* columns; those before `begin` have been made */
  ptrdiff_t width;        /* pixels of a row */
  ptrdiff_t known;        /* of the pixels that column 0 meets those in the row, but for the last */
  ptrdiff_t first;        /* columns before the vectors, which begin with a pixel where a cache line does */
  const FC_T *const *x;
  FC_T *y, *both;
  ptrdiff_t y_pitch, both_pitch;
} fc_pairs;

/* n pixels and zeros, k lanes back */
FC_INLINE vec FN(fc_pairs_load)(const FC_T *x, int n, int k) {
  return n < VL ? turned(load_first(x, n), k) : load(x);
}

/* VL columns of which x[.][at], ... are the last pixels; `before` has the sums by taps of the VL columns
 * before, and gets these */
FC_INLINE vec FN(fc_pairs_sums)(const int part, const int R, const FC_T *const *x,
                                const FC_T *const *minus, ptrdiff_t at, int n, int k, const vec w[15],
                                vec start, vec before[4]) {
  vec sum[5];
#pragma GCC unroll 3
  for (int j = 0; j < R; ++j) {
    vec v = FN(fc_pairs_load)(x[j] + at, n, k);
    if (part != FC_PAIRS_BOTH) v -= FN(fc_pairs_load)(minus[j] + at, n, k);
    v = held(v);
#pragma GCC unroll 5
    for (int s = 0; s < 5; ++s)
      sum[s] = j                                 ? sum[s] + v * w[5 * j + s]
               : s == 4 && part == FC_PAIRS_BOTH ? start + v * w[s]
                                                 : held(v * w[s]);
  }
  const vec all = ((sum[4] + from_lane(VL - 1, before[3], sum[3])) + from_lane(VL - 2, before[2], sum[2])) +
                  (from_lane(VL - 3, before[1], sum[1]) + from_lane(VL - 4, before[0], sum[0]));
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) before[s] = sum[s];
  return all;
}

/* the first n lanes of all of them, or of what they and `both` make */
FC_INLINE void FN(fc_pairs_store)(const int part, ptrdiff_t n, vec all, const FC_T *both, FC_T *y) {
  if (part != FC_PAIRS_BOTH) all = part == FC_PAIRS_ODD ? load(both) - all : load(both) + all;
  if (part == FC_PAIRS_BOTH || n >= VL)
    store(y, all);
  else
    store_n(y, (int)n, all);
}

/* one of the three convolutions */
FC_INLINE void FN(fc_pairs_part)(const int part, const int R, const fc_pairs *g, const FC_T *taps,
                                 FC_T bias, vec before[4]) {
  const ptrdiff_t begin = g->begin, end = g->end, pitch = g->y_pitch, known = g->known;
  const ptrdiff_t first = g->first, is_odd = part == FC_PAIRS_ODD, pixels = g->width - known;
  const ptrdiff_t whole = pixels < end ? pixels : end; /* as far as vectors are */
  const vec start = splat(bias);
  vec w[15], sums[4];
#pragma GCC unroll 3
  for (int j = 0; j < R; ++j)
#pragma GCC unroll 5
    for (int s = 0; s < 5; ++s) {
      const FC_T *const tap = taps + (2 * j + is_odd) * 5 + s;
      w[5 * j + s] = held(splat(part == FC_PAIRS_BOTH && j < 2 ? tap[0] + tap[5] : tap[0]));
    }
#define FC_SUMS(at, n, k) FN(fc_pairs_sums)(part, R, x, minus, at, n, k, w, start, sums)
#define FC_STORE(q, n, all) FN(fc_pairs_store)(part, n, all, both + (q), y + (q))
  for (ptrdiff_t i = 0; i < g->pairs && 2 * i + is_odd < g->P; ++i) {
    const ptrdiff_t next = 2 * i + is_odd + 2 < g->P ? 2 : 0; /* rows to the next pair */
    const FC_T *const *const row = g->x + 2 * i, *const x_next = row[4 + next + is_odd];
    const FC_T *x[3], *minus[3];
#pragma GCC unroll 3
    for (int j = 0; j < R; ++j) {
      x[j] = row[2 * j + (part != FC_PAIRS_EVEN)];
      minus[j] = row[2 * j + 1 + is_odd];
    }
    FC_T *const both = g->both + i * g->both_pitch - begin;
    FC_T *const y = part == FC_PAIRS_BOTH ? both : g->y + (2 * i + is_odd) * pitch;
    FC_T *const y_next = y + next * pitch;
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) sums[s] = begin ? before[s] : (vec){0};
    for (ptrdiff_t q = begin ? begin : first - VL; q < end; q += VL) {
      for (; q >= 0 && q + VL <= whole; q += VL) {
        const vec all = FC_SUMS(q + known, VL, 0);
        if (part != FC_PAIRS_EVEN) __builtin_prefetch(x_next + q, 0, 2);
        if (part != FC_PAIRS_BOTH) __builtin_prefetch(y_next + q, 1, 2);
        FC_STORE(q, VL, all);
      }
      if (q >= end) break;
      /* at first the columns before `first`, in the last lanes; at last zeros behind the row */
      const ptrdiff_t at = q < 0 ? 0 : q + known;
      ptrdiff_t n = q < 0 ? known + first : VL;
      if (n > g->width - at) n = g->width - at;
      const vec all = FC_SUMS(n > 0 ? at : 0, n > 0 ? (int)n : 0, q < 0 ? (int)(known + first) : 0);
      if (q >= 0)
        FC_STORE(q, end - q, all);
      else if (first) /* what the other lanes hold is written over */
        FC_STORE(0, VL, turned(all, (int)(VL - first)));
    }
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) before[s] = sums[s];
  }
#undef FC_SUMS
#undef FC_STORE
}

/* functions, so that each has the registers to itself */
#define FC_PAIRS_PART(name, part, R)                                                             \
  FC_KERNEL void FN(name)(const fc_pairs *g, const FC_T *w, FC_T bias, vec *before) {            \
    FN(fc_pairs_part)(part, R, g, w, bias, before);                                              \
  }
FC_PAIRS_PART(fc_pairs_both, FC_PAIRS_BOTH, 3)
FC_PAIRS_PART(fc_pairs_even, FC_PAIRS_EVEN, 3)
FC_PAIRS_PART(fc_pairs_odd, FC_PAIRS_ODD, 2)
#undef FC_PAIRS_PART

FC_KERNEL void FN(fc_winograd_pairs) FC_WINOGRAD_PAIRS_ARGS(FC_T) {
  FC_T both[FC_PAIRS_COLUMNS + VL] __attribute__((aligned(FC_BYTES)));
  const ptrdiff_t known = 4 - left, both_pitch = (Q + VL - 1) / VL * VL;
  const ptrdiff_t pairs = both_pitch < FC_PAIRS_COLUMNS ? FC_PAIRS_COLUMNS / both_pitch : 1;
  /* so that a row's loads cross no cache lines, and the others' neither if they are whole lines apart */
  ptrdiff_t first = -((intptr_t)(x[2] + known) / FC_EB) & (VL - 1);
  if (first > VL - 4 || Q < 2 * VL || pairs > 1) first = 0;
  for (ptrdiff_t p = 0; p < P; p += 2 * pairs) {
    vec before[3][4];
    for (ptrdiff_t begin = 0, end; begin < Q; begin = end) {
      end = (begin ? begin : first) + FC_PAIRS_COLUMNS;
      if (end > Q) end = Q;
      const fc_pairs g = {pairs, P - p, begin, end, width, known, first, x + p, y + p * y_pitch,
                          both + (begin ? 0 : -first & (VL - 1)), y_pitch, both_pitch};
      FN(fc_pairs_both)(&g, w, bias, before[0]);
      FN(fc_pairs_even)(&g, w, bias, before[1]);
      FN(fc_pairs_odd)(&g, w, bias, before[2]);
    }
  }
}
#undef FC_PAIRS_COLUMNS
#endif
