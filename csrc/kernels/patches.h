/* One tap of neighbouring windows: every `stride`-th pixel of an image's row, from there and back.
 *
 *   take   y[i] = x[i stride x_col]       i < n
 *   give   x[i stride x_col] += y[i]      i < n
 *
 *   x      [(n - 1) stride + 1] pixels, x_col elements apart: where that is 1 those between are read,
 *          and written by give as they were
 *   y      [n] packed
 */

/* At stride 2: how many pixels the next vector of `rest` windows spans; nothing lies behind the last. */
FC_INLINE int FN(fc_pair_pixels)(ptrdiff_t rest) { return rest > VL ? 2 * VL : 2 * (int)rest - 1; }

FC_INLINE void FN(fc_load_pairs)(const FC_T *x, int pixels, vec *a, vec *b) {
  const int in_a = pixels < VL ? pixels : VL;
  *a = load_first(x, in_a);
  *b = load_first(x + in_a, pixels - in_a);
}

/* x, or (finite) NaN for an infinity */
FC_INLINE vec FN(fc_taken)(const int finite, vec x) { return finite ? x + (x - x) : x; }
FC_INLINE FC_T FN(fc_taken1)(const int finite, FC_T x) { return finite ? x + (x - x) : x; }

FC_INLINE void FN(fc_take_of)(const int finite, ptrdiff_t n, const FC_T *x, ptrdiff_t x_col,
                              ptrdiff_t stride, FC_T *y) {
  if (!finite && x_col == 1 && stride == 1) {
    memcpy(y, x, (size_t)n * sizeof(FC_T));
  } else if (x_col == 1 && stride == 1) {
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) store(y + i, FN(fc_taken)(finite, load(x + i)));
    const int rest = (int)(n - i);
    if (rest) store_n(y + i, rest, FN(fc_taken)(finite, load_n(x + i, rest, (vec){0})));
  } else if (x_col == 1 && stride == 2) {
    for (ptrdiff_t i = 0; n - i > VL; i += VL)
      store(y + i, FN(fc_taken)(finite, evens(load(x + 2 * i), load(x + 2 * i + VL))));
    if (n > VL) { /* a whole vector again, from the pixel before its first: nothing lies behind */
      const FC_T *const last = x + 2 * (n - VL) - 1;
      store(y + n - VL, FN(fc_taken)(finite, odds(load(last), load(last + VL))));
    } else if (n > 0) {
      vec a, b;
      FN(fc_load_pairs)(x, FN(fc_pair_pixels)(n), &a, &b);
      store_n(y, (int)n, FN(fc_taken)(finite, evens(a, b)));
    }
  } else {
    for (ptrdiff_t i = 0; i < n; ++i) y[i] = FN(fc_taken1)(finite, x[i * stride * x_col]);
  }
}

FC_INLINE void FN(fc_give_of)(ptrdiff_t n, const FC_T *y, FC_T *x, ptrdiff_t x_col,
                              ptrdiff_t stride) {
  if (x_col == 1 && stride == 1) {
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) store(x + i, load(x + i) + load(y + i));
    const int rest = (int)(n - i);
    if (rest)
      store_n(x + i, rest, load_n(x + i, rest, (vec){0}) + load_n(y + i, rest, (vec){0}));
  } else if (x_col == 1 && stride == 2) {
    for (ptrdiff_t i = 0; i < n; i += VL) {
      const int pixels = FN(fc_pair_pixels)(n - i), in_a = pixels < VL ? pixels : VL;
      const vec y_i = load_n(y + i, n - i < VL ? (int)(n - i) : VL, (vec){0});
      vec a, b;
      FN(fc_load_pairs)(x + 2 * i, pixels, &a, &b);
      store_n(x + 2 * i, in_a, a + zip_lo(y_i, (vec){0}));
      store_n(x + 2 * i + in_a, pixels - in_a, b + zip_hi(y_i, (vec){0}));
    }
  } else {
    for (ptrdiff_t i = 0; i < n; ++i) x[i * stride * x_col] += y[i];
  }
}

FC_KERNEL void FN(fc_take) FC_TAKE_ARGS(FC_T) { FN(fc_take_of)(0, n, x, x_col, stride, y); }
FC_KERNEL void FN(fc_give) FC_GIVE_ARGS(FC_T) { FN(fc_give_of)(n, y, x, x_col, stride); }
