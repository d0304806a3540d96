/* Pooling and its gradient with images in the lanes, between a convolution and the next layer.
 *
 *   avg_pool_lanes   y[p][q] = scale * sum of x's window (p, q)
 *   max_pool_lanes   y[p][q] = maximum of x's window (p, q); NaN wins
 *   unpool           dx = the pooling's gradient dy, times the activation's at its output x:
 *                    average  scale * dy[p][q] in all of the window (p, q)
 *                    maximum  dy[p][q] where the maximum stood: the first in row-major order
 *
 *   x, dx  [height][width][VL]    y, dy  [height / kernel_h][width / kernel_w][VL]
 *
 * Windows do not overlap; a window of one pixel with scale 1 is no pooling at all.  Pixels behind the
 * last whole window get a gradient of zero.  dx may be x.
 */
FC_KERNEL void FN(fc_avg_pool_lanes) FC_POOL_LANES_ARGS(FC_T) {
  const ptrdiff_t row = g->width * VL;
  for (ptrdiff_t p = 0; p < g->height / g->kernel_h; ++p, x += g->kernel_h * row) {
    const FC_T *window = x;
    for (ptrdiff_t q = 0; q < g->width / g->kernel_w; ++q, window += g->kernel_w * VL, y += VL) {
      vec sum = {0};
      for (ptrdiff_t r = 0; r < g->kernel_h; ++r)
        for (ptrdiff_t s = 0; s < g->kernel_w; ++s) sum += load(window + r * row + s * VL);
      store(y, sum * scale);
    }
  }
}

FC_KERNEL void FN(fc_max_pool_lanes) FC_POOL_LANES_ARGS(FC_T) {
  const ptrdiff_t row = g->width * VL;
  (void)scale;
  for (ptrdiff_t p = 0; p < g->height / g->kernel_h; ++p, x += g->kernel_h * row) {
    const FC_T *window = x;
    for (ptrdiff_t q = 0; q < g->width / g->kernel_w; ++q, window += g->kernel_w * VL, y += VL) {
      vec most = splat((FC_T)-__builtin_inf());
      for (ptrdiff_t r = 0; r < g->kernel_h; ++r)
        for (ptrdiff_t s = 0; s < g->kernel_w; ++s)
          most = max_nan(load(window + r * row + s * VL), most);
      store(y, most);
    }
  }
}

FC_INLINE vec FN(fc_identity_backward_of)(vec grad, vec y) {
  (void)y;
  return grad;
}

#define FC_UNPOOL(NAME)                                                                          \
  FC_KERNEL void FN(fc_avg_unpool_##NAME) FC_UNPOOL_LANES_ARGS(FC_T) {                           \
    const ptrdiff_t row = g->width * VL, kw = g->kernel_w;                                       \
    const ptrdiff_t out_h = g->height / g->kernel_h, out_w = g->width / kw;                      \
    for (ptrdiff_t i = 0; i < g->height; ++i, x += row, dx += row) {                             \
      const FC_T *dy_i = dy + i / g->kernel_h * out_w * VL;                                      \
      ptrdiff_t j = 0;                                                                           \
      if (i < out_h * g->kernel_h)                                                               \
        for (ptrdiff_t q = 0; q < out_w; ++q) {                                                  \
          const vec grad = load(dy_i + q * VL) * scale;                                          \
          for (ptrdiff_t s = 0; s < kw; ++s, ++j)                                                \
            store(dx + j * VL, FN(fc_##NAME##_backward_of)(grad, load(x + j * VL)));             \
        }                                                                                        \
      for (; j < g->width; ++j) store(dx + j * VL, (vec){0});                                    \
    }                                                                                            \
  }                                                                                              \
  FC_KERNEL void FN(fc_max_unpool_##NAME) FC_UNPOOL_LANES_ARGS(FC_T) {                           \
    const ptrdiff_t row = g->width * VL, kh = g->kernel_h, kw = g->kernel_w;                     \
    const ptrdiff_t out_h = g->height / kh, out_w = g->width / kw;                               \
    (void)scale;                                                                                 \
    for (ptrdiff_t p = 0; p < out_h; ++p, x += kh * row, dx += kh * row) {                       \
      for (ptrdiff_t q = 0; q < out_w; ++q, dy += VL) {                                          \
        const ptrdiff_t first = q * kw * VL;                                                     \
        vec most = splat((FC_T)-__builtin_inf());                                                       \
        ivec where = {0};                                                                        \
        for (ptrdiff_t r = 0; r < kh; ++r)                                                       \
          for (ptrdiff_t s = 0; s < kw; ++s)                                                     \
            take_max(load(x + first + r * row + s * VL), isplat((FC_I)(r * kw + s)), &most,      \
                     &where);                                                                    \
        for (ptrdiff_t r = 0; r < kh; ++r)                                                       \
          for (ptrdiff_t s = 0; s < kw; ++s) {                                                   \
            const ptrdiff_t at = first + r * row + s * VL;                                       \
            const vec grad = if_equal(where, isplat((FC_I)(r * kw + s)), load(dy));              \
            store(dx + at, FN(fc_##NAME##_backward_of)(grad, load(x + at)));                     \
          }                                                                                      \
      }                                                                                          \
      for (ptrdiff_t r = 0; r < kh; ++r)                                                         \
        for (ptrdiff_t j = out_w * kw; j < g->width; ++j)                                        \
          store(dx + r * row + j * VL, (vec){0});                                                \
    }                                                                                            \
    for (ptrdiff_t j = 0; j < (g->height - out_h * kh) * g->width; ++j)                          \
      store(dx + j * VL, (vec){0});                                                              \
  }
FC_UNPOOL(identity)
FC_UNPOOL(relu)
FC_UNPOOL(sigmoid)
FC_UNPOOL(tanh)
#undef FC_UNPOOL
