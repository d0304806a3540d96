/* Weights into the order in which a tile or a panel reads them.
 *
 *   y[slot[j]][i] = i < m ? w[i * w_m + j] : 0        j < n with slot[j] >= 0, i < y_pitch
 *
 *   w     [m] rows w_m apart, of n neighbours
 *   slot  [n] rows of y, or negative for a weight that nobody reads
 *   y     rows of y_pitch
 *
 * Nothing may alias.
 */
FC_KERNEL void FN(fc_pack) FC_PACK_ARGS(FC_T) {
  ptrdiff_t first = 0, end = n; /* the residues of a stride read few of a kernel's weights each */
  while (end > 0 && slot[end - 1] < 0) --end;
  while (first < end && slot[first] < 0) ++first;
  for (ptrdiff_t i = 0; i < y_pitch; i += VL) {
    const int width = y_pitch - i < VL ? (int)(y_pitch - i) : VL;
    const int rows = m - i < 0 ? 0 : m - i < VL ? (int)(m - i) : VL;
    for (ptrdiff_t j = first; j < end; j += VL) {
      if (n - j < VL && n >= VL) j = n - VL; /* some twice, all vectors whole */
      const int here = n - j < VL ? (int)(n - j) : VL;
      vec row[VL];
      if (FC_LIKELY(rows == VL && here == VL)) {
#pragma GCC unroll 16
        for (int l = 0; l < VL; ++l) row[l] = load(w + (i + l) * w_m + j);
      } else {
        for (int l = 0; l < VL; ++l)
          row[l] = l < rows ? load_n(w + (i + l) * w_m + j, here, (vec){0}) : (vec){0};
      }
      transpose(row);
      if (FC_LIKELY(width == VL && here == VL)) {
#pragma GCC unroll 16
        for (int c = 0; c < VL; ++c)
          if (slot[j + c] >= 0) store(y + slot[j + c] * y_pitch + i, row[c]);
      } else {
        for (int c = 0; c < here; ++c)
          if (slot[j + c] >= 0) store_n(y + slot[j + c] * y_pitch + i, width, row[c]);
      }
    }
  }
}
