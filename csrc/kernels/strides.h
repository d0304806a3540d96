/* Rows split into the phases of a stride, with zeros beside their pixels.
 *
 *   y[i][f][j] = x[i][first + j * stride + f]     i < rows, f < stride, j < length;
 *                                                 zero where there is no such pixel
 *
 *   x  [rows] x_row apart, of n pixels      y  [rows][stride][phase], and VL more
 *
 * Vectors are whole: behind `length` VL elements may be overwritten, none where first is 0 and length
 * a whole number of vectors.
 */
FC_INLINE void FN(fc_split_of)(ptrdiff_t rows, ptrdiff_t n, ptrdiff_t first, ptrdiff_t length,
                               const ptrdiff_t stride, const FC_T *x, ptrdiff_t x_row, FC_T *y,
                               ptrdiff_t phase) {
  const ptrdiff_t stop = first + stride * length;
  ptrdiff_t lead = first < 0 ? -first : 0, pixels = (stop < n ? stop : n) - (first + lead);
  if (pixels <= 0) lead = stride * length, pixels = 0;
  const vec zero = held((vec){0}); /* GCC would make the stores calls of memset */
  const ptrdiff_t tail = pixels % (stride * VL), whole = pixels - tail;
  const ptrdiff_t filled = whole / stride + (tail ? VL : 0); /* of a phase, with the tail's zeros */
  x += first + lead;
  for (ptrdiff_t i = 0; i < rows; ++i, x += x_row, y += stride * phase) {
    /* What a vector spills is zero or written after it: hence zeros first, and tails before the rest
     * where a phase follows. */
    for (ptrdiff_t f = lead || filled < length ? 0 : stride; f < stride; ++f) {
      const ptrdiff_t begin = (lead + stride - 1 - f) / stride;
      FC_T *const y_f = y + f * phase;
      for (ptrdiff_t j = 0; j < begin; j += VL) store(y_f + j, zero);
      for (ptrdiff_t j = begin + filled; j < length; j += VL) store(y_f + j, zero);
    }
    if (stride == 1) {
      for (ptrdiff_t k = 0; k < whole; k += VL) store(y + lead + k, load(x + k));
      if (tail) store(y + lead + whole, load_first(x + whole, (int)tail));
    } else {
      FC_T *const even = y + lead % 2 * phase + lead / 2;
      FC_T *const odd = y + (lead + 1) % 2 * phase + (lead + 1) / 2;
      vec a, b;
      if (tail) {
        FN(fc_load_pairs)(x + whole, (int)tail, &a, &b);
        const vec e = evens(a, b), o = odds(a, b);
        if (lead % 2) store(odd + whole / 2, o);
        store(even + whole / 2, e);
        if (lead % 2 == 0) store(odd + whole / 2, o);
      }
      for (ptrdiff_t k = 0; k < whole; k += 2 * VL) {
        a = load(x + k), b = load(x + k + VL);
        store(even + k / 2, evens(a, b));
        store(odd + k / 2, odds(a, b));
      }
    }
  }
}

FC_KERNEL void FN(fc_split_rows) FC_SPLIT_ROWS_ARGS(FC_T) {
  if (stride == 1)
    FN(fc_split_of)(rows, n, first, length, 1, x, x_row, y, phase);
  else if (stride == 2)
    FN(fc_split_of)(rows, n, first, length, 2, x, x_row, y, phase);
  else
    for (ptrdiff_t i = 0; i < rows; ++i, x += x_row)
      for (ptrdiff_t f = 0; f < stride; ++f, y += phase)
        for (ptrdiff_t j = 0, at = first + f; j < length; ++j, at += stride)
          y[j] = at >= 0 && at < n ? x[at] : 0;
}

/* A row out of the phases of a stride: what split_rows takes apart.
 *
 *   y[j] = x[(first + j) % stride][(first + j) / stride]     j < n
 *
 *   x  [stride] phases x_pitch apart, each with as many pixels as n needs
 */
FC_KERNEL void FN(fc_merge_rows) FC_MERGE_ROWS_ARGS(FC_T) {
  ptrdiff_t f = first % stride, k = first / stride;
  if (stride == 1) {
    memcpy(y, x + k, (size_t)n * sizeof(FC_T));
    return;
  }
  for (ptrdiff_t j = 0; j < n; ++j) {
    y[j] = x[f * x_pitch + k];
    if (++f == stride) f = 0, ++k;
  }
}

/* Rows of the gradient with respect to the input, of a convolution with stride 2 along the row.
 *
 *   y[p][j] = sum of w[r][s] * x[p + r][(j + left - s) / 2] over r < R, s < S, j + left - s even
 *                                                                              p < P, j < n
 *
 *   x  [P + R - 1] pointers to rows; with b = (left + 1) / 2, rounded down, of each the pixels from
 *      b - S / 2, rounded down, to b + n / 2, up to a whole vector, are read
 *   w  [R] rows w_row apart, of S taps      y  [P] rows y_pitch apart, of n pixels
 *
 * A vector of even and one of odd pixels are made at a time; a tap goes into the one or the other.
 */
FC_INLINE void FN(fc_spread_row)(const ptrdiff_t S, const ptrdiff_t R, const FC_T *const *x,
                                 ptrdiff_t left, const FC_T *w, ptrdiff_t w_row, FC_T *restrict y,
                                 ptrdiff_t n) {
  for (ptrdiff_t j = 0; j < n; j += 2 * VL) {
    vec even = {0}, odd = {0}; /* the sums of even taps, and of odd ones */
    for (ptrdiff_t r = 0; r < R; ++r) {
      const FC_T *const x_r = x[r] + j / 2 + left / 2, *const w_r = w + r * w_row;
#pragma GCC unroll 2
      for (ptrdiff_t s = 0; s < S; s += 2) {
        even += splat(w_r[s]) * load(x_r + left % 2 - s / 2);
        if (s + 1 < S) odd += splat(w_r[s + 1]) * load(x_r - s / 2);
      }
    }
    const vec a = left % 2 ? odd : even, b = left % 2 ? even : odd;
    const int rest = n - j < 2 * VL ? (int)(n - j) : 2 * VL, low = rest < VL ? rest : VL;
    if (FC_LIKELY(rest == 2 * VL)) {
      store(y + j, zip_lo(a, b));
      store(y + j + VL, zip_hi(a, b));
    } else {
      store_n(y + j, low, zip_lo(a, b));
      store_n(y + j + low, rest - low, zip_hi(a, b));
    }
  }
}

FC_KERNEL void FN(fc_spread_rows) FC_SPREAD_ROWS_ARGS(FC_T) {
  for (ptrdiff_t p = 0; p < P; ++p, ++x, y += y_pitch)
    if (S == 3)
      FN(fc_spread_row)(3, R, x, left, w, w_row, y, n);
    else
      FN(fc_spread_row)(S, R, x, left, w, w_row, y, n);
}
