/* Weights into the order in which the tile reads them.
 *
 *   y[k][i] = i < m ? w[i * w_m + off[k]] : 0        k < depth, i < y_pitch
 *
 * Nothing may alias.
 */
FC_KERNEL void FN(fc_pack) FC_PACK_ARGS(FC_T) {
  for (ptrdiff_t k = 0; k < depth; ++k, y += y_pitch) {
    const FC_T *w_k = w + off[k];
    int i = 0;
    for (; i < m; ++i) y[i] = w_k[i * w_m];
    for (; i < y_pitch; ++i) y[i] = 0;
  }
}
