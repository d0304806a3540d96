/* Rows split into the phases of a stride, with zeros beside their pixels.
 *
 *   y[i][f][j] = x[i][first + j * stride + f]     i < rows, f < stride, j < length;
 *                                                 zero where there is no such pixel
 *
 *   x  [rows] x_row apart, of n pixels      y  [rows][stride][phase], and VL - 1 more
 *
 * Vectors are whole and begin before `length`: behind it VL - 1 elements may be overwritten, none where
 * first is 0 and length a whole number of vectors.
 */

/* How many of a phase's places, from position `at` on, come before position p. */
FC_INLINE ptrdiff_t FN(fc_places)(ptrdiff_t p, ptrdiff_t at, ptrdiff_t stride, ptrdiff_t length) {
  const ptrdiff_t n = (p - at + stride - 1) / stride;
  return p <= at ? 0 : n < length ? n : length;
}

FC_INLINE void FN(fc_split_of)(ptrdiff_t rows, ptrdiff_t n, ptrdiff_t first, ptrdiff_t length,
                               const ptrdiff_t stride, const FC_T *x, ptrdiff_t x_row, FC_T *y,
                               ptrdiff_t phase) {
  ptrdiff_t begin[2], end[2]; /* of a phase: the places that have pixels */
  for (ptrdiff_t f = 0; f < stride; ++f) {
    begin[f] = FN(fc_places)(0, first + f, stride, length);
    end[f] = FN(fc_places)(n, first + f, stride, length);
  }
  const vec zero = held((vec){0}); /* GCC would make the stores calls of memset */
  for (ptrdiff_t i = 0; i < rows * stride; ++i, y += phase) {
    const ptrdiff_t f = i % stride, to = end[f];
    const FC_T *const x_i = x + i / stride * x_row + first + f;
    ptrdiff_t j = 0;
    for (; j < begin[f]; j += VL) store(y + j, zero);
    j = begin[f];
    if (stride == 1) {
      for (; to - j >= VL; j += VL) store(y + j, load(x_i + j));
      if (j < to) store(y + j, load_first(x_i + j, (int)(to - j))), j += VL;
    } else {
      for (; to - j > VL; j += VL) store(y + j, evens(load(x_i + 2 * j), load(x_i + 2 * j + VL)));
      if (j < to) {
        vec a, b;
        FN(fc_load_pairs)(x_i + 2 * j, FN(fc_pair_pixels)(to - j), &a, &b);
        store(y + j, evens(a, b)), j += VL;
      }
    }
    for (; j < length; j += VL) store(y + j, zero);
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
