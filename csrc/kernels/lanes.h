/* Into and out of the layout with VL images in the lanes.
 *
 *   gather:   y[i][l] = l < images ? x[l][i] : 0        i < n
 *   scatter:  y[l][i] = x[i][l]                         l < images, i < n
 *
 * The images' rows of n elements lie x_image (y_image) apart; the lane side has vectors, y_pitch
 * (x_pitch) apart.  Channels serve as well as images.
 * Nothing may alias.
 */
FC_KERNEL void FN(fc_gather_lanes) FC_GATHER_ARGS(FC_T) {
  for (ptrdiff_t i = 0; i < n; i += VL) {
    if (n - i < VL && n >= VL) i = n - VL; /* the tail: some columns twice, all vectors whole */
    const int here = n - i < VL ? (int)(n - i) : VL;
    vec row[VL];
    if (FC_LIKELY(images == VL && here == VL)) {
#pragma GCC unroll 16
      for (int l = 0; l < VL; ++l) row[l] = load(x + l * x_image + i);
    } else {
      for (int l = 0; l < VL; ++l)
        row[l] = l < images ? load_n(x + l * x_image + i, here, (vec){0}) : (vec){0};
    }
    transpose(row);
    if (FC_LIKELY(here == VL)) {
#pragma GCC unroll 16
      for (int c = 0; c < VL; ++c) store(y + (i + c) * y_pitch, row[c]);
    } else {
      for (int c = 0; c < here; ++c) store(y + (i + c) * y_pitch, row[c]);
    }
  }
}

FC_KERNEL void FN(fc_scatter_lanes) FC_SCATTER_ARGS(FC_T) {
  for (ptrdiff_t i = 0; i < n; i += VL) {
    if (n - i < VL && n >= VL) i = n - VL;
    const int here = n - i < VL ? (int)(n - i) : VL;
    vec row[VL];
    if (FC_LIKELY(here == VL)) {
#pragma GCC unroll 16
      for (int c = 0; c < VL; ++c) row[c] = load(x + (i + c) * x_pitch);
    } else {
      for (int c = 0; c < VL; ++c) row[c] = c < here ? load(x + (i + c) * x_pitch) : (vec){0};
    }
    transpose(row);
    if (FC_LIKELY(images == VL && here == VL)) {
#pragma GCC unroll 16
      for (int l = 0; l < VL; ++l) store(y + l * y_image + i, row[l]);
    } else {
      for (int l = 0; l < images; ++l) store_n(y + l * y_image + i, here, row[l]);
    }
  }
}
