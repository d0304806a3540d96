/* The checks for one element type: T, its short name S, its spacing EPS.  See check.c. */
#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define OF(name) CAT(name, S)

/* n small integers */
static T *OF(integers)(ptrdiff_t n) {
  T *x = room(n * (ptrdiff_t)sizeof(T));
  for (ptrdiff_t i = 0; i < n; ++i) x[i] = (T)between(-8, 8);
  return x;
}

static T *OF(copy)(const T *x, ptrdiff_t n) {
  T *y = room(n * (ptrdiff_t)sizeof(T));
  memcpy(y, x, (size_t)n * sizeof(T));
  return y;
}

static void OF(same)(const char *isa, const char *kernel, const T *got, const T *wanted, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; ++i)
    expect(got[i] == wanted[i] || (isnan(got[i]) && isnan(wanted[i])), isa, kernel, "an element",
           (double)got[i], (double)wanted[i]);
}

static void OF(near)(const char *isa, const char *kernel, T got, T wanted, T ulps) {
  const T scale = wanted < 0 ? -wanted : wanted;
  const T off = got < wanted ? wanted - got : got - wanted;
  expect(off <= ulps * EPS * (scale > 1 ? scale : 1), isa, kernel, "an element", (double)got,
         (double)wanted);
}

static void OF(check_tile)(const char *isa, const OF(fc_kernels) * f) {
  for (int m = 1; m <= f->tile_m; ++m)
    for (int v = 1; v <= f->tile_v[m]; ++v)
      for (int bias_given = 0; bias_given < 2; ++bias_given) {
        const int lanes = f->lanes;
        const ptrdiff_t depth = between(0, 9), w_pitch = m + between(0, 3);
        int32_t *off = room(depth * 4), *at = room(v * 4), *to = room(v * 4), reach = 0, farthest = 0;
        for (ptrdiff_t k = 0; k < depth; ++k) {
          off[k] = (int32_t)between(0, 40);
          if (off[k] > reach) reach = off[k];
        }
        for (int i = 0; i < v; ++i) {
          /* beside the one before, or reaching back into it: then with the same numbers */
          const int back = bias_given && i ? (int)between(0, lanes - 1) : 0;
          at[i] = back ? at[i - 1] + lanes - back : (int32_t)between(0, 90);
          to[i] = i ? to[i - 1] + lanes + (back ? -back : (int)between(0, 3)) : 0;
          if (at[i] > farthest) farthest = at[i];
        }
        const ptrdiff_t width = to[v - 1] + lanes;
        const ptrdiff_t y_pitch = width + between(0, 5), n_y = (m - 1) * y_pitch + width;
        T *x = OF(integers)(depth ? reach + farthest + lanes : 0);
        T *w = OF(integers)(depth ? (depth - 1) * w_pitch + m : 0);
        T *bias = OF(integers)(m), *y = OF(integers)(n_y), *wanted = OF(copy)(y, n_y);
        for (int i = 0; i < m; ++i)
          for (int j = 0; j < v * lanes; ++j) {
            T *sum = wanted + i * y_pitch + to[j / lanes] + j % lanes;
            if (bias_given) *sum = bias[i];
            for (ptrdiff_t k = 0; k < depth; ++k)
              *sum += w[k * w_pitch + i] * x[at[j / lanes] + off[k] + j % lanes];
          }
        f->tile[m - 1][v - 1](depth, w, w_pitch, x, off, at, bias_given ? bias : NULL, y, y_pitch,
                               to);
        OF(same)(isa, "tile", y, wanted, n_y);
        leave(off), leave(at), leave(to), leave(x), leave(w), leave(bias), leave(y), leave(wanted);
      }
}

static void OF(check_panel)(const char *isa, const OF(fc_kernels) * f) {
  for (int m = 1; m <= FC_PANEL_M; ++m)
    for (int v = 1; v <= f->panel_v; ++v)
      for (int adds = 0; adds < 2; ++adds) {
        const ptrdiff_t width = v * f->lanes, w_pitch = width + between(0, 3);
        const ptrdiff_t depth = between(0, 1) ? between(0, 9) : between(FC_PANEL_TURN - 3, 150);
        const ptrdiff_t y_pitch = width + between(0, 5), n_y = (m - 1) * y_pitch + width;
        const ptrdiff_t start_pitch = between(0, 1) ? width + between(0, 5) : 0;
        int32_t *off = room(depth * 4), *at = room(m * 4), reach = 0, farthest = 0;
        for (ptrdiff_t k = 0; k < depth; ++k) {
          off[k] = (int32_t)between(0, 40);
          if (off[k] > reach) reach = off[k];
        }
        for (int i = 0; i < m; ++i) {
          at[i] = (int32_t)between(0, 90);
          if (at[i] > farthest) farthest = at[i];
        }
        T *x = OF(integers)(depth ? reach + farthest + 1 : 0);
        T *w = OF(integers)(depth ? (depth - 1) * w_pitch + width : 0);
        T *start = OF(integers)((m - 1) * start_pitch + width), *y = OF(integers)(n_y);
        T *wanted = OF(copy)(y, n_y);
        for (int i = 0; i < m; ++i)
          for (int j = 0; j < width; ++j) {
            T *sum = wanted + i * y_pitch + j;
            if (!adds) *sum = start[i * start_pitch + j];
            for (ptrdiff_t k = 0; k < depth; ++k) *sum += x[at[i] + off[k]] * w[k * w_pitch + j];
          }
        T *again = OF(copy)(y, n_y), *kept = OF(integers)(depth * width);
        f->panel[m - 1][v - 1](depth, w, w_pitch, x, off, at, adds ? y : start,
                               adds ? y_pitch : start_pitch, y, y_pitch, (const char *)w,
                               between(0, 3), between(0, 99));
        OF(same)(isa, "panel", y, wanted, n_y);
        if (f->panel_keep && m == FC_PANEL_M && v == f->panel_v) {
          T *rows = OF(copy)(kept, depth * width);
          for (ptrdiff_t k = 0; k < depth; ++k)
            for (int j = 0; j < width; ++j) rows[k * width + j] = w[k * w_pitch + j];
          f->panel_keep(depth, w, w_pitch, x, off, at, adds ? again : start,
                        adds ? y_pitch : start_pitch, again, y_pitch, kept);
          OF(same)(isa, "panel that keeps", again, wanted, n_y);
          OF(same)(isa, "what a panel keeps", kept, rows, depth * width);
          leave(rows);
        }
        leave(again), leave(kept);
        leave(off), leave(at), leave(x), leave(w), leave(start), leave(y), leave(wanted);
      }
}

static void OF(check_dot)(const char *isa, const OF(fc_kernels) * f) {
  for (int m = 1; m <= f->dot_m; ++m)
    for (int v = 1; v <= f->dot_v[m]; ++v)
      for (int again = 0; again < 3; ++again) {
        const int lanes = f->lanes;
        const ptrdiff_t rows = between(0, 3), n = straddling(lanes), b_step = lanes * between(1, 2);
        const ptrdiff_t a_pitch = n + between(0, 3), a_row = m * a_pitch;
        const ptrdiff_t last = n ? (n - 1) / lanes * b_step + (n - 1) % lanes : -1;
        const ptrdiff_t b_row = last + between(1, 9);
        int32_t *at = room(v * 4), farthest = 0;
        for (int i = 0; i < v; ++i) {
          at[i] = (int32_t)between(0, 30);
          if (at[i] > farthest) farthest = at[i];
        }
        T *a = OF(integers)(rows ? (rows - 1) * a_row + (m - 1) * a_pitch + n : 0);
        T *b = OF(integers)(rows && n ? (rows - 1) * b_row + farthest + last + 1 : 0);
        T *acc = OF(integers)(m * v * lanes), *wanted = OF(copy)(acc, m * v * lanes);
        for (int i = 0; i < m; ++i)
          for (int j = 0; j < v; ++j)
            for (ptrdiff_t r = 0; r < rows; ++r)
              for (ptrdiff_t k = 0; k < n; ++k)
                wanted[(i * v + j) * lanes + k % lanes] +=
                    a[r * a_row + i * a_pitch + k] *
                    b[r * b_row + at[j] + k / lanes * b_step + k % lanes];
        f->dot[m - 1][v - 1](rows, n, a, a_row, a_pitch, b, b_row, at, b_step, acc);
        OF(same)(isa, "dot", acc, wanted, m * v * lanes);
        leave(at), leave(a), leave(b), leave(acc), leave(wanted);
      }
}

static void OF(check_lanes)(const char *isa, const OF(fc_kernels) * f) {
  const int lanes = f->lanes;
  for (int images = 1; images <= lanes; ++images) {
    const ptrdiff_t n = straddling(lanes), pitch = n + between(0, 4);
    const ptrdiff_t spread = n ? (images - 1) * pitch + n : 0;
    const ptrdiff_t apart = lanes + between(0, 3), n_vectors = n ? (n - 1) * apart + lanes : 0;
    T *x = OF(integers)(spread), *y = OF(integers)(n * lanes);
    T *vectors = OF(integers)(n_vectors), *wanted = OF(copy)(vectors, n_vectors);
    for (ptrdiff_t i = 0; i < n; ++i)
      for (int l = 0; l < lanes; ++l) wanted[i * apart + l] = l < images ? x[l * pitch + i] : 0;
    f->gather_lanes(n, images, x, pitch, vectors, apart);
    OF(same)(isa, "gather_lanes", vectors, wanted, n_vectors);
    for (ptrdiff_t i = 0; i < n; ++i) memcpy(y + i * lanes, vectors + i * apart, (size_t)lanes * sizeof(T));
    T *back = OF(integers)(spread), *as_was = OF(copy)(back, spread);
    for (int l = 0; l < images; ++l)
      for (ptrdiff_t i = 0; i < n; ++i) as_was[l * pitch + i] = y[i * lanes + l];
    f->scatter_lanes(n, images, vectors, apart, back, pitch);
    OF(same)(isa, "scatter_lanes", back, as_was, spread);
    leave(vectors);
    T *sums = OF(integers)(n), *sums_wanted = OF(copy)(sums, n);
    for (ptrdiff_t i = 0; i < n; ++i) {
      sums_wanted[i] = 0;
      for (int l = 0; l < lanes; ++l) sums_wanted[i] += y[i * lanes + l];
    }
    f->sum_lanes(n, y, sums);
    OF(same)(isa, "sum_lanes", sums, sums_wanted, n);
    f->sum_lanes(n, y, y);
    OF(same)(isa, "sum_lanes in place", y, sums_wanted, n);
    leave(x), leave(y), leave(wanted), leave(back), leave(as_was), leave(sums), leave(sums_wanted);
  }
}

static void OF(check_pack)(const char *isa, const OF(fc_kernels) * f) {
  for (int m = 1; m <= 2 * f->lanes + 1; ++m) {
    const int neighbours = m % 3 == 0;
    const ptrdiff_t n = neighbours ? 1 : straddling(f->lanes), pitch = m + between(0, 3);
    const ptrdiff_t w_m = neighbours ? 1 : n + between(0, 20);
    int32_t *slot = room(n * 4);
    ptrdiff_t rows = 0;
    for (ptrdiff_t j = 0; j < n; ++j) slot[j] = between(0, 3) ? (int32_t)rows++ : -1;
    for (ptrdiff_t j = 0; j < n; ++j) { /* in any order */
      const ptrdiff_t other = between(0, n - 1);
      const int32_t kept = slot[j];
      slot[j] = slot[other], slot[other] = kept;
    }
    T *w = OF(integers)((m - 1) * w_m + n), *y = OF(integers)(rows * pitch);
    T *wanted = OF(copy)(y, rows * pitch);
    for (ptrdiff_t j = 0; j < n; ++j)
      for (ptrdiff_t i = 0; i < pitch && slot[j] >= 0; ++i)
        wanted[slot[j] * pitch + i] = i < m ? w[i * w_m + j] : 0;
    f->pack(m, n, w, w_m, slot, y, pitch);
    OF(same)(isa, "pack", y, wanted, rows * pitch);
    leave(slot), leave(w), leave(y), leave(wanted);
  }
}

static void OF(check_maps)(const char *isa, const OF(fc_kernels) * f) {
  /* a long sum goes by blocks */
  const ptrdiff_t n = straddling(f->lanes) + (between(0, 3) ? 0 : 64 * f->lanes * between(1, 2));
  T *x = OF(integers)(n), *grad = OF(integers)(n), *y = OF(integers)(n), *out = OF(integers)(n);
  double sum = 0;
  for (ptrdiff_t i = 0; i < n; ++i) sum += (double)(x[i] = x[i] * (T)1.25);
  expect(f->sum(n, x) == sum, isa, "sum", "the sum", f->sum(n, x), sum);
  f->negate(n, x, y);
  for (ptrdiff_t i = 0; i < n; ++i) expect(y[i] == -x[i], isa, "negate", "an element", y[i], -x[i]);
  f->relu(n, x, y), f->relu_backward(n, grad, y, out);
  for (ptrdiff_t i = 0; i < n; ++i) {
    OF(near)(isa, "relu", y[i], x[i] > 0 ? x[i] : 0, 0);
    OF(near)(isa, "relu_backward", out[i], y[i] > 0 ? grad[i] : 0, 0);
  }
  f->sigmoid(n, x, y), f->sigmoid_backward(n, grad, y, out);
  for (ptrdiff_t i = 0; i < n; ++i) {
    OF(near)(isa, "sigmoid", y[i], (T)(1 / (1 + exp(-(double)x[i]))), 2);
    OF(near)(isa, "sigmoid_backward", out[i], grad[i] * (1 - y[i]) * y[i], 8);
  }
  f->tanh(n, x, y), f->tanh_backward(n, grad, y, out);
  for (ptrdiff_t i = 0; i < n; ++i) {
    OF(near)(isa, "tanh", y[i], (T)tanh((double)x[i]), 2);
    OF(near)(isa, "tanh_backward", out[i], grad[i] * (1 - y[i] * y[i]), 16);
  }
  f->relu(n, x, x); /* y may be x */
  for (ptrdiff_t i = 0; i < n; ++i) expect(x[i] >= 0, isa, "relu in place", "an element", x[i], 0);
  leave(x), leave(grad), leave(y), leave(out);
}

/* A plane of any strides: pixel (h, w) at first + h row + w col of `size` elements. */
typedef struct {
  ptrdiff_t row, col, first, size;
} OF(plane);

static OF(plane) OF(any_plane)(ptrdiff_t height, ptrdiff_t width) {
  const ptrdiff_t col = between(0, 1) && width < 20 ? 2 : 1, row = width * col + between(0, 2);
  OF(plane) plane = {either_way(row), either_way(col), 0, (height - 1) * row + (width - 1) * col + 1};
  if (plane.row < 0) plane.first += (height - 1) * row;
  if (plane.col < 0) plane.first += (width - 1) * col;
  return plane;
}

static void OF(check_pools)(const char *isa, const OF(fc_kernels) * f) {
  const fc_pool g = random_pool();
  const OF(plane) image = OF(any_plane)(g.height, g.width);
  const ptrdiff_t x_row = image.row, x_col = image.col, n_x = image.size;
  const ptrdiff_t y_col = between(0, 7) == 0 ? 2 : 1, y_row = g.out_w * y_col + between(0, 2);
  const ptrdiff_t n_y = (g.out_h - 1) * y_row + (g.out_w - 1) * y_col + 1;
  const ptrdiff_t outputs = g.out_h * g.out_w, middle = between(0, g.out_h);
  const ptrdiff_t half = between(0, g.height);
  T *x_all = OF(integers)(n_x), *x = x_all + image.first, *maxima = OF(integers)(n_y), *again = OF(integers)(n_y);
  T *means = OF(integers)(n_y), *row_div = OF(integers)(g.out_h), *col_div = OF(integers)(g.out_w);
  T *scratch = room(fc_pool_scratch(&g) * (ptrdiff_t)sizeof(T));
  T *dx_all = OF(integers)(n_x), *dx_all_wanted = OF(copy)(dx_all, n_x), *unpooled_all = OF(integers)(n_x);
  T *unpooled_all_wanted = OF(copy)(unpooled_all, n_x);
  T *dx = dx_all + image.first, *dx_wanted = dx_all_wanted + image.first;
  T *unpooled = unpooled_all + image.first, *unpooled_wanted = unpooled_all_wanted + image.first;
  int64_t *at = room(outputs * 8);
  if (between(0, 3) == 0) x[between(0, g.height - 1) * x_row + between(0, g.width - 1) * x_col] = (T)NAN;
  for (ptrdiff_t p = 0; p < g.out_h; ++p) row_div[p] = (T)between(1, 3);
  for (ptrdiff_t q = 0; q < g.out_w; ++q) col_div[q] = (T)between(1, 3);
  const T scale = between(0, 1) ? (T)0.25 : 0; /* given where it is the same everywhere */
  if (tiles_rows(&g) || scale != 0) {
    for (ptrdiff_t p = 0; p < g.out_h; ++p) row_div[p] = scale != 0 ? 4 : 3;
    for (ptrdiff_t q = 0; q < g.out_w; ++q) col_div[q] = 1;
  }

  /* in two pieces: rows know nothing of each other */
  f->max_pool(&g, 0, middle, x, x_row, x_col, maxima, y_row, y_col, scratch);
  f->max_pool(&g, middle, g.out_h, x, x_row, x_col, maxima, y_row, y_col, scratch);
  f->max_pool_at(&g, 0, middle, x, x_row, x_col, again, y_row, y_col, at, scratch);
  f->max_pool_at(&g, middle, g.out_h, x, x_row, x_col, again, y_row, y_col, at, scratch);
  const int plain = g.dilation_h == 1 && g.dilation_w == 1;
  if (plain) {
    f->avg_pool(&g, 0, middle, x, x_row, x_col, row_div, col_div, scale, means, y_row, y_col, scratch);
    f->avg_pool(&g, middle, g.out_h, x, x_row, x_col, row_div, col_div, scale, means, y_row, y_col, scratch);
  }
  for (ptrdiff_t p = 0; p < g.out_h; ++p)
    for (ptrdiff_t q = 0; q < g.out_w; ++q) {
      T most = -(T)INFINITY, sum = 0;
      int64_t place = -1;
      for (ptrdiff_t r = 0; r < g.kernel_h; ++r)
        for (ptrdiff_t s = 0; s < g.kernel_w; ++s) {
          const ptrdiff_t h = p * g.stride_h - g.top + r * g.dilation_h;
          const ptrdiff_t w = q * g.stride_w - g.left + s * g.dilation_w;
          if (h < 0 || h >= g.height || w < 0 || w >= g.width) continue;
          const T value = x[h * x_row + w * x_col];
          sum += value;
          if (place < 0 || value > most || isnan(value)) most = value, place = h * g.width + w;
        }
      const ptrdiff_t here = p * y_row + q * y_col;
      OF(same)(isa, "max_pool", maxima + here, &most, 1);
      OF(same)(isa, "max_pool_at", again + here, &most, 1);
      if (place >= 0)
        expect(at[p * g.out_w + q] == place, isa, "max_pool_at", "a place",
               (double)at[p * g.out_w + q], (double)place);
      if (plain && !isnan(sum))
        OF(near)(isa, "avg_pool", means[here], sum / (row_div[p] * col_div[q]), 2);
    }

  /* back */
  T *y = OF(integers)(n_y);
  for (ptrdiff_t h = 0; h < g.height; ++h)
    for (ptrdiff_t w = 0; w < g.width; ++w)
      dx_wanted[h * x_row + w * x_col] = unpooled_wanted[h * x_row + w * x_col] = 0;
  for (ptrdiff_t p = 0; p < g.out_h; ++p)
    for (ptrdiff_t q = 0; q < g.out_w; ++q) {
      const int64_t i = at[p * g.out_w + q];
      unpooled_wanted[i / g.width * x_row + i % g.width * x_col] += y[p * y_row + q * y_col];
      for (ptrdiff_t r = 0; r < g.kernel_h; ++r)
        for (ptrdiff_t s = 0; s < g.kernel_w; ++s) {
          const ptrdiff_t h = p * g.stride_h - g.top + r, w = q * g.stride_w - g.left + s;
          if (h >= 0 && h < g.height && w >= 0 && w < g.width)
            dx_wanted[h * x_row + w * x_col] += y[p * y_row + q * y_col] / (row_div[p] * col_div[q]);
        }
    }
  expect(f->max_unpool(&g, y, y_row, y_col, at, g.out_w, 1, unpooled, x_row, x_col) == -1, isa,
         "max_unpool", "all places are good", 0, -1);
  OF(same)(isa, "max_unpool", unpooled_all, unpooled_all_wanted, n_x);
  if (plain) {
    f->avg_unpool(&g, 0, half, y, y_row, y_col, row_div, col_div, scale, dx, x_row, x_col, scratch);
    f->avg_unpool(&g, half, g.height, y, y_row, y_col, row_div, col_div, scale, dx, x_row, x_col, scratch);
    for (ptrdiff_t i = 0; i < n_x; ++i)
      OF(near)(isa, "avg_unpool", dx_all[i], dx_all_wanted[i], 64);
  }
  const ptrdiff_t wrong = between(0, outputs - 1);
  at[wrong] = between(0, 1) ? -1 : (int64_t)g.height * g.width;
  const ptrdiff_t found = f->max_unpool(&g, y, y_row, y_col, at, g.out_w, 1, unpooled, x_row, x_col);
  expect(found == wrong, isa, "max_unpool", "the first wrong place", (double)found, (double)wrong);
  leave(x_all), leave(maxima), leave(again), leave(means), leave(row_div), leave(col_div), leave(scratch);
  leave(dx_all), leave(dx_all_wanted), leave(unpooled_all), leave(unpooled_all_wanted), leave(at), leave(y);
}

/* Windows side by side, images in the lanes: the activation and the pooling behind a convolution. */
static void OF(check_blocks)(const char *isa, const OF(fc_kernels) * f) {
  const fc_windows g = {between(1, 9), between(1, 9), between(1, 3), between(1, 3)};
  const ptrdiff_t out_h = g.height / g.kernel_h, out_w = g.width / g.kernel_w, lanes = f->lanes;
  const ptrdiff_t n_x = g.height * g.width * lanes, n_y = out_h * out_w * lanes;
  T *x = OF(integers)(n_x), *dy = OF(integers)(n_y), *y = OF(integers)(n_y);
  T *maxima = OF(copy)(y, n_y), *means = OF(copy)(y, n_y), *dx = OF(integers)(n_x);
  T *grad_max = room(n_x * (ptrdiff_t)sizeof(T)), *grad_mean = room(n_x * (ptrdiff_t)sizeof(T));
  const T scale = (T)0.5;
  for (ptrdiff_t i = 0; i < n_x; ++i) grad_max[i] = grad_mean[i] = 0;
  if (between(0, 3) == 0) x[between(0, (int)n_x - 1)] = (T)NAN;
  for (ptrdiff_t i = 0; i < n_y; ++i) {
    const ptrdiff_t lane = i % lanes, p = i / lanes / out_w, q = i / lanes % out_w;
    T most = -(T)INFINITY, sum = 0;
    ptrdiff_t place = -1;
    for (ptrdiff_t r = 0; r < g.kernel_h; ++r)
      for (ptrdiff_t s = 0; s < g.kernel_w; ++s) {
        const ptrdiff_t j = ((p * g.kernel_h + r) * g.width + q * g.kernel_w + s) * lanes + lane;
        sum += x[j];
        grad_mean[j] = dy[i] * scale;
        if (place < 0 || x[j] > most || isnan(x[j])) most = x[j], place = j;
      }
    maxima[i] = most, means[i] = sum * scale, grad_max[place] = dy[i];
  }
  f->max_pool_lanes(&g, scale, x, y), OF(same)(isa, "max_pool_lanes", y, maxima, n_y);
  f->avg_pool_lanes(&g, scale, x, y), OF(same)(isa, "avg_pool_lanes", y, means, n_y);
  for (int activation = 0; activation < 4; ++activation) {
    f->max_unpool_lanes[activation](&g, scale, dy, x, dx);
    for (int of_mean = 0; of_mean < 2; ++of_mean) {
      const T *grad = of_mean ? grad_mean : grad_max;
      for (ptrdiff_t i = 0; i < n_x; ++i) {
        const T slope[] = {1, x[i] > 0, (1 - x[i]) * x[i], 1 - x[i] * x[i]};
        if (!isnan(x[i]))
          OF(near)(isa, of_mean ? "avg_unpool_lanes" : "max_unpool_lanes", dx[i],
                   grad[i] * slope[activation], 0);
      }
      if (!of_mean) f->avg_unpool_lanes[activation](&g, scale, dy, x, dx);
    }
  }
  f->avg_unpool_lanes[0](&g, scale, dy, x, x); /* dx may be x */
  OF(same)(isa, "avg_unpool_lanes in place", x, grad_mean, n_x);
  leave(x), leave(dy), leave(y), leave(maxima), leave(means), leave(dx), leave(grad_max), leave(grad_mean);
}

/* A row of one tap out of an image and back; what lies between its pixels stays. */
static void OF(check_patches)(const char *isa, const OF(fc_kernels) * f) {
  const ptrdiff_t n = straddling(f->lanes), stride = between(1, 3), col = either_way(between(1, 2));
  const ptrdiff_t n_x = n ? (n - 1) * stride * (col < 0 ? -col : col) + 1 : 0;
  const ptrdiff_t first = col < 0 && n ? n_x - 1 : 0;
  T *x = OF(integers)(n_x), *wanted = OF(copy)(x, n_x), *y = OF(integers)(n), *taken = OF(copy)(y, n);
  T *expected = OF(copy)(y, n);
  if (n > 1) x[first + stride * col] = wanted[first + stride * col] = -(T)INFINITY;
  for (ptrdiff_t i = 0; i < n; ++i) expected[i] = x[first + i * stride * col];
  f->take(n, x + first, col, stride, taken);
  OF(same)(isa, "take", taken, expected, n);
  for (ptrdiff_t i = 0; i < n; ++i) wanted[first + i * stride * col] += y[i];
  f->give(n, y, x + first, col, stride);
  OF(same)(isa, "give", x, wanted, n_x);
  leave(x), leave(wanted), leave(y), leave(taken), leave(expected);
}

/* 3 by 3 taps over rows with zeros beside them, between pixels that do not count. */
static void OF(check_depthwise_3x3)(const char *isa, const OF(fc_kernels) * f) {
  const int lanes = f->lanes;
  const ptrdiff_t stride = between(1, 2), P = between(1, 17), left = between(-3, 2);
  const ptrdiff_t Q = lanes * between(0, 3) + between(1, lanes), width = between(1, (int)(Q * stride + 3));
  const ptrdiff_t rows = (P - 1) * stride + 3, y_pitch = Q + between(0, 3), n_y = (P - 1) * y_pitch + Q;
  const ptrdiff_t n = (Q > lanes ? Q : lanes) * stride + 3 - stride;
  T **row = room(rows * (ptrdiff_t)sizeof *row), *w = OF(integers)(9), *y = OF(integers)(n_y);
  T *expected = OF(copy)(y, n_y);
  for (ptrdiff_t i = 0; i < rows; ++i) {
    row[i] = OF(integers)(n);
    for (ptrdiff_t j = 0; j < n; ++j)
      if (j < left || j >= left + width) row[i][j] = (T)NAN;
    row[i] += left;
  }
  for (ptrdiff_t p = 0; p < P; ++p)
    for (ptrdiff_t q = 0; q < Q; ++q) {
      T sum = 3;
      for (ptrdiff_t r = 0; r < 3; ++r)
        for (ptrdiff_t s = 0; s < 3; ++s) {
          const ptrdiff_t at = q * stride - left + s;
          if (at >= 0 && at < width) sum += w[r * 3 + s] * row[p * stride + r][at];
        }
      expected[p * y_pitch + q] = sum;
    }
  f->depthwise_3x3(stride, P, Q, (const T *const *)row, left, width, w, 3, y, y_pitch);
  OF(same)(isa, "depthwise_3x3", y, expected, n_y);
  /* where sums round, a row has the same bits alone as among others */
  for (ptrdiff_t i = 0; i < rows; ++i)
    for (ptrdiff_t j = 0; j < n; ++j) row[i][j - left] /= 3;
  f->depthwise_3x3(stride, P, Q, (const T *const *)row, left, width, w, 3, expected, y_pitch);
  for (ptrdiff_t p = 0; p < P; ++p)
    f->depthwise_3x3(stride, 1, Q, (const T *const *)row + p * stride, left, width, w, 3,
                     y + p * y_pitch, y_pitch);
  OF(same)(isa, "depthwise_3x3, row by row", y, expected, n_y);
  for (ptrdiff_t i = 0; i < rows; ++i) leave(row[i] - left);
  leave(row), leave(w), leave(y), leave(expected);
}

/* 5 by 5 taps over rows with zeros beside them, in pairs; a pair has the same bits alone. */
static void OF(check_winograd_pairs)(const char *isa, const OF(fc_kernels) * f) {
  const int lanes = f->lanes;
  const ptrdiff_t P = between(1, 17), left = between(0, 4), right = between(0, 4);
  const ptrdiff_t least = left + right < 4 ? 5 - left - right : 1;
  const ptrdiff_t many = between(0, 3) ? lanes * between(0, 5) : between(400, 1100);
  const ptrdiff_t width = least + many + between(0, lanes), Q = width + left + right - 4;
  const ptrdiff_t rows = P + 4 + P % 2, y_pitch = Q + between(0, 3), n_y = (P - 1) * y_pitch + Q;
  T **row = room(rows * (ptrdiff_t)sizeof *row), *w = OF(integers)(25), *y = OF(integers)(n_y);
  T *expected = OF(copy)(y, n_y);
  for (ptrdiff_t i = 0; i < rows; ++i) row[i] = OF(integers)(width);
  for (ptrdiff_t p = 0; p < P; ++p)
    for (ptrdiff_t q = 0; q < Q; ++q) {
      T sum = 3;
      for (ptrdiff_t r = 0; r < 5; ++r)
        for (ptrdiff_t s = 0; s < 5; ++s) {
          const ptrdiff_t at = q - left + s;
          if (at >= 0 && at < width) sum += w[r * 5 + s] * row[p + r][at];
        }
      expected[p * y_pitch + q] = sum;
    }
  f->winograd_pairs(P, Q, (const T *const *)row, left, width, w, 3, y, y_pitch);
  OF(same)(isa, "winograd_pairs", y, expected, n_y);
  for (ptrdiff_t i = 0; i < rows; ++i)
    for (ptrdiff_t j = 0; j < width; ++j) row[i][j] /= 3;
  f->winograd_pairs(P, Q, (const T *const *)row, left, width, w, 3, expected, y_pitch);
  for (ptrdiff_t p = 0; p < P; p += 2)
    f->winograd_pairs(P - p < 2 ? 1 : 2, Q, (const T *const *)row + p, left, width, w, 3, y + p * y_pitch,
                      y_pitch);
  OF(same)(isa, "winograd_pairs, pair by pair", y, expected, n_y);
  for (ptrdiff_t i = 0; i < rows; ++i) leave(row[i]);
  leave(row), leave(w), leave(y), leave(expected);
}

/* Rows split into the phases of a stride, from anywhere, with zeros beside them. */
static void OF(check_split_rows)(const char *isa, const OF(fc_kernels) * f) {
  const int lanes = f->lanes;
  const ptrdiff_t rows = between(1, 5), n = straddling(lanes), stride = between(1, 3);
  const ptrdiff_t length = straddling(lanes), phase = length + between(0, lanes + 1);
  const ptrdiff_t first = between(0, 3) ? between(-9, 3) : between(-9 * lanes, (int)n + 2);
  const ptrdiff_t x_row = either_way(n + between(0, 3)), last = x_row < 0 ? (1 - rows) * x_row : 0;
  const ptrdiff_t n_y = rows * stride * phase + lanes;
  T *x = OF(integers)(last + (rows - 1) * (x_row < 0 ? 0 : x_row) + n), *y = OF(integers)(n_y);
  T *wanted = OF(copy)(y, n_y);
  f->split_rows(rows, n, first, length, stride, x + last, x_row, y, phase);
  for (ptrdiff_t i = 0; i < n_y; ++i) {
    const ptrdiff_t row = phase ? i / phase / stride : rows, j = phase ? i % phase : 0;
    const ptrdiff_t at = first + j * stride + (phase ? i / phase % stride : 0);
    if (row < rows && j < length)
      wanted[i] = at >= 0 && at < n ? x[last + row * x_row + at] : 0;
    else if (row == rows || j < length + lanes)
      wanted[i] = y[i]; /* what lies behind a phase may be overwritten */
  }
  OF(same)(isa, "split_rows", y, wanted, n_y);
  leave(x), leave(y), leave(wanted);
}

/* Rows split into the phases of a stride, and one filter over rows at random places. */
static void OF(check_depthwise)(const char *isa, const OF(fc_kernels) * f) {
  const int lanes = f->lanes;
  const ptrdiff_t R = between(0, 1) ? 3 : between(1, 9), S = between(0, 1) ? 3 : between(1, 6);
  const ptrdiff_t stride = between(1, 3), stride_h = between(1, 3), dilation = between(1, 2);
  const ptrdiff_t P = between(1, 17), Q = lanes * between(0, 5) + between(1, lanes);
  const ptrdiff_t rows = (P - 1) * stride_h + R;
  const ptrdiff_t read = Q > 2 * lanes ? Q : (Q + lanes - 1) / lanes * lanes;
  const ptrdiff_t n = read * stride + (S - 1) * dilation + between(0, 2 * lanes);
  const ptrdiff_t length = (n + stride - 1) / stride, whole = (length + lanes - 1) / lanes * lanes;
  const ptrdiff_t phase = whole + between(0, 3), pitch = stride * phase, y_pitch = Q + between(0, 3);
  const ptrdiff_t x_row = between(0, 1) ? n + between(0, 3) : -n;
  const ptrdiff_t last = x_row < 0 ? (rows - 1) * n : 0;
  T *x = OF(integers)((rows - 1) * (x_row < 0 ? n : x_row) + n);
  T *split = OF(integers)(rows * pitch), *wanted = OF(copy)(split, rows * pitch);
  for (ptrdiff_t i = 0; i < rows; ++i)
    for (ptrdiff_t f_ = 0; f_ < stride; ++f_)
      for (ptrdiff_t j = 0; j < whole; ++j) {
        const ptrdiff_t from = j * stride + f_;
        wanted[(i * stride + f_) * phase + j] = from < n ? x[last + i * x_row + from] : 0;
      }
  f->split_rows(rows, n, 0, whole, stride, x + last, x_row, split, phase);
  OF(same)(isa, "split_rows", split, wanted, rows * pitch);

  const ptrdiff_t n_y = (P - 1) * y_pitch + Q;
  T *w = OF(integers)(R * S), *y = OF(integers)(n_y), *expected = OF(copy)(y, n_y);
  for (ptrdiff_t p = 0; p < P; ++p)
    for (ptrdiff_t q = 0; q < Q; ++q) {
      T sum = 3;
      for (ptrdiff_t r = 0; r < R; ++r)
        for (ptrdiff_t s = 0; s < S; ++s)
          sum += w[r * S + s] * x[last + (p * stride_h + r) * x_row + q * stride + s * dilation];
      expected[p * y_pitch + q] = sum;
    }
  /* as they lie, where the kernel takes the stride; else by its phases */
  for (int phases = stride > 2; phases < 2; ++phases) {
    const ptrdiff_t step = phases ? 1 : stride;
    int32_t *at = room(S * 4);
    ptrdiff_t reach = 0;
    for (ptrdiff_t s = 0; s < S; ++s) {
      at[s] = (int32_t)(s * dilation);
      if (phases) at[s] = (int32_t)(s * dilation % stride * phase + s * dilation / stride);
      if (at[s] > reach) reach = at[s];
    }
    /* of each row as much as may be read */
    T **row = room(rows * (ptrdiff_t)sizeof *row);
    for (ptrdiff_t i = 0; i < rows; ++i)
      row[i] = OF(copy)(phases ? split + i * pitch : x + last + i * x_row, reach + read * step);
    if (step == 2 && dilation > 1) /* left to the phases */
      memcpy(y, expected, (size_t)n_y * sizeof *y);
    else
      f->depthwise(stride_h, step, R, S, P, Q, (const T *const *)row, at, w, 3, y, y_pitch);
    OF(same)(isa, "depthwise", y, expected, n_y);
    if (!phases) { /* a column of it, wrong before */
      const ptrdiff_t q = between(0, (int)Q - 1);
      for (ptrdiff_t p = 0; p < P; ++p) y[p * y_pitch + q] = (T)NAN;
      f->depthwise_column(stride_h, dilation, R, S, P, (const T *const *)row, q * stride, w, S, 3, y + q,
                          y_pitch);
      OF(same)(isa, "depthwise_column", y, expected, n_y);
    }
    for (ptrdiff_t i = 0; i < rows; ++i) leave(row[i]);
    leave(at), leave(row);
  }
  leave(x), leave(split), leave(wanted), leave(w), leave(y), leave(expected);
}

/* A row out of its phases. */
static void OF(check_merge)(const char *isa, const OF(fc_kernels) * f) {
  const ptrdiff_t stride = between(1, 4), n = straddling(f->lanes), begin = between(0, 9);
  const ptrdiff_t pitch = ((begin + n) / stride / f->lanes + 3) * f->lanes;
  T *x = OF(integers)(stride * pitch), *y = OF(integers)(n), *wanted = OF(copy)(y, n);
  for (ptrdiff_t j = 0; j < n; ++j) wanted[j] = x[(begin + j) % stride * pitch + (begin + j) / stride];
  f->merge_rows(n, begin, stride, x, pitch, y);
  OF(same)(isa, "merge_rows", y, wanted, n);
  leave(x), leave(y), leave(wanted);
}

/* Rows of the gradient at stride 2, each pixel of which goes to every output that a tap takes it to. */
static void OF(check_spread)(const char *isa, const OF(fc_kernels) * f) {
  const ptrdiff_t R = between(0, 3), S = between(0, 1) ? 3 : between(1, 6), left = between(0, 4);
  const ptrdiff_t P = between(1, 5), n = straddling(f->lanes), y_pitch = n + between(0, 3);
  const ptrdiff_t base = (left + 1) / 2, before = S / 2 - base;
  const ptrdiff_t length = before + base + (n + 2 * f->lanes - 1) / (2 * f->lanes) * f->lanes;
  const ptrdiff_t w_row = either_way(S + between(0, 2)), first = w_row < 0 && R ? (1 - R) * w_row : 0;
  const ptrdiff_t w_size = first + (R ? R - 1 : 0) * (w_row < 0 ? 0 : w_row) + S;
  const ptrdiff_t n_y = (P - 1) * y_pitch + n;
  T **row = room((P + R) * (ptrdiff_t)sizeof *row), *w = OF(integers)(w_size);
  T *y = OF(integers)(n_y), *expected = OF(copy)(y, n_y);
  for (ptrdiff_t i = 0; i < P + R; ++i) row[i] = OF(integers)(length) + before;
  for (ptrdiff_t p = 0; p < P; ++p)
    for (ptrdiff_t j = 0; j < n; ++j) {
      T sum = 0;
      for (ptrdiff_t r = 0; r < R; ++r)
        for (ptrdiff_t s = (j + left) % 2; s < S; s += 2)
          sum += w[first + r * w_row + s] * row[p + r][(j + left - s) / 2];
      expected[p * y_pitch + j] = sum;
    }
  f->spread_rows(R, S, P, n, (const T *const *)row, left, w + first, w_row, y, y_pitch);
  OF(same)(isa, "spread_rows", y, expected, n_y);
  for (ptrdiff_t i = 0; i < P + R; ++i) leave(row[i] - before);
  leave(row), leave(w), leave(y), leave(expected);
}

/* A row of pixels with channels in the lanes, and its gradient with respect to the filters. */
static void OF(check_channels)(const char *isa, const OF(fc_kernels) * f) {
  const ptrdiff_t lanes = f->lanes, C = lanes * between(0, 3) + between(1, f->lanes);
  const ptrdiff_t vectors = (C + lanes - 1) / lanes, held = C < lanes ? lanes : C;
  const ptrdiff_t R = between(0, 4), S = between(0, 1) ? 3 : between(0, 7), Q = between(0, 21);
  const ptrdiff_t width = between(1, 25), pitch = vectors * lanes + between(0, 3);
  const ptrdiff_t taps = R * S;
  fc_channels g = {C, Q, S, between(1, 3), between(1, 2), between(-2, 5), width, 0, 0, 0, 0, 0};
  g.x_col = C + between(0, 2), g.x_row = either_way(width * g.x_col), g.y_col = C + between(0, 3);
  g.w_tap = either_way(pitch), g.w_row = S * g.w_tap;
  const ptrdiff_t row = width * g.x_col, n_x = R ? (R - 1) * row + (width - 1) * g.x_col + C : 0;
  const ptrdiff_t n_y = Q ? (Q - 1) * g.y_col + C : 0;
  const ptrdiff_t n_w = taps ? (taps - 1) * pitch + held : 0;
  const ptrdiff_t n_acc = taps ? (taps - 1) * pitch + vectors * lanes : 0;
  T *x = OF(integers)(n_x), *w = OF(integers)(n_w), *bias = between(0, 1) ? OF(integers)(held) : NULL;
  T *y = OF(integers)(n_y), *expected = OF(copy)(y, n_y), *dy = OF(copy)(y, n_y);
  T *acc = OF(integers)(n_acc), *wanted = OF(copy)(acc, n_acc);
  const T *x_0 = g.x_row < 0 && R ? x + (R - 1) * row : x;
  const ptrdiff_t w_0 = g.w_tap < 0 && taps ? (taps - 1) * pitch : 0;
  for (ptrdiff_t q = 0; q < Q; ++q)
    for (ptrdiff_t c = 0; c < C; ++c) expected[q * g.y_col + c] = bias ? bias[c] : 0;
  for (ptrdiff_t r = 0; r < R; ++r)
    for (ptrdiff_t s = 0; s < S; ++s)
      for (ptrdiff_t q = 0; q < Q; ++q) {
        const ptrdiff_t at = q * g.step - g.left + s * g.dilation;
        if (at < 0 || at >= width) continue;
        for (ptrdiff_t i = 0; i < vectors * lanes; ++i) {
          const ptrdiff_t start = i / lanes * lanes, most = C < lanes ? 0 : C - lanes;
          const ptrdiff_t c = (start < most ? start : most) + i % lanes;
          if (c >= C) continue;
          const T pixel = x_0[r * g.x_row + at * g.x_col + c];
          const ptrdiff_t tap = w_0 + r * g.w_row + s * g.w_tap;
          wanted[tap + i] += pixel * dy[q * g.y_col + c];
          if (i < C)
            expected[q * g.y_col + i] += w[tap + i] * x_0[r * g.x_row + at * g.x_col + i];
        }
      }
  f->depthwise_channels(&g, R, x_0, w + w_0, bias, y);
  OF(same)(isa, "depthwise_channels", y, expected, n_y);
  f->depthwise_channels_weight(&g, R, x_0, dy, acc + w_0);
  OF(same)(isa, "depthwise_channels_weight", acc, wanted, n_acc);
  leave(x), leave(w), leave(y), leave(expected), leave(dy), leave(acc), leave(wanted);
  if (bias) leave(bias);
}

/* Soft pooling of windows that each hold a pixel of the image, at some beta. */
static void OF(check_soft_pools)(const char *isa, const OF(fc_kernels) * f) {
  fc_pool g = random_pool();
  g.dilation_h = g.dilation_w = 1;
  const ptrdiff_t room_h = g.height + g.top - g.kernel_h, room_w = g.width + g.left - g.kernel_w;
  if (room_h < 0 || room_w < 0 || g.top >= g.kernel_h || g.left >= g.kernel_w) return;
  g.out_h = room_h / g.stride_h + 1, g.out_w = room_w / g.stride_w + 1;
  const OF(plane) image = OF(any_plane)(g.height, g.width), out = OF(any_plane)(g.out_h, g.out_w);
  const ptrdiff_t n_x = image.size, n_y = out.size, middle = between(0, g.out_h);
  const T beta = (T)between(-4, 4) / 4;
  T *x_all = OF(integers)(n_x), *dx_all = OF(integers)(n_x), *x = x_all + image.first, *dx = dx_all + image.first;
  T *dy_all = OF(integers)(n_y), *y_all = OF(integers)(n_y), *dy = dy_all + out.first, *y = y_all + out.first;
  T *scratch = room(fc_soft_pool_scratch(&g) * (ptrdiff_t)sizeof(T));
  double *wanted_all = room(n_x * (ptrdiff_t)sizeof(double)), *wanted = wanted_all + image.first;
  T *y_was = OF(copy)(y_all, n_y);
  for (ptrdiff_t i = 0; i < n_x; ++i) wanted_all[i] = (double)dx_all[i]; /* between the pixels */
  for (ptrdiff_t h = 0; h < g.height; ++h)
    for (ptrdiff_t w = 0; w < g.width; ++w) wanted[h * image.row + w * image.col] = 0;
  f->soft_pool(&g, 0, middle, x, image.row, image.col, beta, y, out.row, out.col, scratch);
  f->soft_pool(&g, middle, g.out_h, x, image.row, image.col, beta, y, out.row, out.col, scratch);
  f->soft_unpool(&g, dy, out.row, out.col, x, image.row, image.col, beta, dx, image.row, image.col,
                 scratch);
  for (ptrdiff_t i = 0; i < g.out_h * g.out_w; ++i) {
    const ptrdiff_t here = i / g.out_w * out.row + i % g.out_w * out.col;
    double weighted = 0, total = 0;
    for (int back = 0; back < 2; ++back) {
      for (ptrdiff_t r = 0; r < g.kernel_h; ++r)
        for (ptrdiff_t s = 0; s < g.kernel_w; ++s) {
          const ptrdiff_t h = i / g.out_w * g.stride_h - g.top + r;
          const ptrdiff_t w = i % g.out_w * g.stride_w - g.left + s;
          if (h < 0 || h >= g.height || w < 0 || w >= g.width) continue;
          const ptrdiff_t pixel = h * image.row + w * image.col;
          const double v = (double)x[pixel], e = exp((double)beta * v);
          if (back) {
            const double mean = weighted / total;
            wanted[pixel] += (double)dy[here] * e / total * (1 + (double)beta * (v - mean));
          } else {
            weighted += v * e, total += e;
          }
        }
    }
    /* the terms are as large as 8, their number at most that of the window's pixels */
    y_was[out.first + here] = y[here];
    OF(near)(isa, "soft_pool", y[here] / 8, (T)(weighted / total / 8), (T)(16 + g.kernel_h * g.kernel_w));
  }
  OF(same)(isa, "soft_pool, between its pixels", y_all, y_was, n_y);
  for (ptrdiff_t i = 0; i < n_x; ++i)
    OF(near)(isa, "soft_unpool", dx_all[i] / 64, (T)(wanted_all[i] / 64), (T)(16 * (2 + g.kernel_h * g.kernel_w)));
  leave(x_all), leave(dy_all), leave(y_all), leave(dx_all), leave(scratch), leave(wanted_all), leave(y_was);
}

/* row r of B^T, G or A^T at column c, for n - 1 points p and infinity, m outputs and n + 1 - m taps */
static double OF(winograd_entry)(char matrix, const double *p, int n, int m, int r, int c) {
  if (matrix == 'A') return c == n - 1 ? r == m - 1 : pow(p[c], r);
  double poly[7] = {1}, f = 1; /* the product of x - p[i] over the other points */
  for (int i = 0, degree = 0; i < n - 1; ++i) {
    if (i == r) continue;
    for (int k = ++degree; k > 0; --k) poly[k] = poly[k - 1] - p[i] * poly[k];
    poly[0] *= -p[i];
    if (r < n - 1) f *= p[r] - p[i];
  }
  if (matrix == 'B') return poly[c];
  return r == n - 1 ? c == n - m : pow(p[r], c) / f;
}

/* of F(2, 3) and F(4, 3); down the rows, without the first */
static const double OF(winograd_points)[2][5] = {{0, 1, -1}, {0, 0.75, -0.75, 1.5, -1.5}};

/* (matrix x matrix^T)[i][j] of a square x with `size` rows, pitch apart, its elements step apart */
static double OF(winograd_both)(char matrix, int m, int i, int j, int size, const T *x,
                                const ptrdiff_t *at) {
  const double *p = OF(winograd_points)[m / 2 - 1];
  double sum = 0;
  for (int a = 0; a < size; ++a)
    for (int b = 0; b < size; ++b)
      sum += OF(winograd_entry)(matrix, p, m + 2, m, i, a) *
             OF(winograd_entry)(matrix, p, m + 2, m, j, b) * (double)x[at[a * size + b]];
  return sum;
}

/* F(m, m) down the rows: three transforms by their matrices, of rows with gaps between them */
static void OF(check_winograd_rows)(const char *isa, const OF(fc_kernels) * f) {
  const int m = sizeof(T) == 4 ? 3 : 2, n = 2 * m - 1, rows = (int)between(1, m);
  const double *const p = OF(winograd_points)[m - 2] + 1;
  const ptrdiff_t Q = straddling(f->lanes), S = between(0, 9), pitch = Q + between(0, 5);
  const ptrdiff_t n_v = Q ? (n - 1) * pitch + Q : 0, n_y = Q ? (rows - 1) * pitch + Q : 0;
  const ptrdiff_t u_pitch = S + between(0, 3), n_u = S ? (n - 1) * u_pitch + S : 0;
  T **row = room(n * (ptrdiff_t)sizeof *row), *v = OF(integers)(n_v), *z = OF(copy)(v, n_v);
  T *y = OF(integers)(n_y), *w = OF(integers)(rows * S), *u = OF(integers)(n_u);
  T *v_was = OF(copy)(v, n_v), *y_was = OF(copy)(y, n_y), *u_was = OF(copy)(u, n_u);
  for (int k = 0; k < n; ++k) row[k] = OF(integers)(Q);
  f->winograd_rows_input(Q, (const T *const *)row, v, pitch);
  f->winograd_rows_output(Q, rows, z, pitch, 3, y, pitch);
  f->winograd_rows_weight(S, rows, w, u, u_pitch);
  /* roundings of sums that are at most 8 times 6 (B), 7 (A) and 1 (G) */
  for (int t = 0; t < n; ++t) {
    for (ptrdiff_t q = 0; q < Q; ++q) {
      double sum = 0;
      for (int k = 0; k < n; ++k) sum += OF(winograd_entry)('B', p, n, m, t, k) * (double)row[k][q];
      OF(near)(isa, "winograd_rows_input", v[t * pitch + q], (T)sum, 8 * 8 * 6);
      v[t * pitch + q] = v_was[t * pitch + q];
    }
    for (ptrdiff_t s = 0; s < S; ++s) {
      double sum = 0;
      for (int b = 0; b < rows; ++b) sum += OF(winograd_entry)('G', p, n, m, t, b) * (double)w[b * S + s];
      OF(near)(isa, "winograd_rows_weight", u[t * u_pitch + s], (T)sum, 8 * 8);
      u[t * u_pitch + s] = u_was[t * u_pitch + s];
    }
  }
  for (int a = 0; a < rows; ++a)
    for (ptrdiff_t q = 0; q < Q; ++q) {
      double sum = 3;
      for (int t = 0; t < n; ++t) sum += OF(winograd_entry)('A', p, n, m, a, t) * (double)z[t * pitch + q];
      OF(near)(isa, "winograd_rows_output", y[a * pitch + q], (T)sum, 8 * 8 * 7);
      y[a * pitch + q] = y_was[a * pitch + q];
    }
  OF(same)(isa, "winograd_rows_input, between its rows", v, v_was, n_v);
  OF(same)(isa, "winograd_rows_output, between its rows", y, y_was, n_y);
  OF(same)(isa, "winograd_rows_weight, between its rows", u, u_was, n_u);
  for (int k = 0; k < n; ++k) leave(row[k]);
  leave(row), leave(v), leave(z), leave(y), leave(w), leave(u), leave(v_was), leave(y_was), leave(u_was);
}

static void OF(check_winograd)(const char *isa, const OF(fc_kernels) * f) {
  const int m = sizeof(T) == 4 && between(0, 1) ? 4 : 2, n = m + 2, lanes = f->lanes;
  const int turned = (int)between(0, 1);
  const ptrdiff_t tiles = between(0, 1) ? between(0, 3) : between(1, FC_WINOGRAD_STRIP);
  const ptrdiff_t step = lanes + between(0, 5), pitch = tiles * step + between(0, 5);
  const ptrdiff_t col = lanes + between(0, 3), row = (tiles * m + 2) * col + between(0, 9);
  const ptrdiff_t y_row = tiles * m * lanes + between(0, 5);
  const ptrdiff_t n_v = tiles ? (n * n - 1) * pitch + (tiles - 1) * step + lanes : 0;
  const ptrdiff_t n_y = tiles ? (m - 1) * y_row + tiles * m * lanes : 0;
  int32_t rows[6];
  for (int i = 0; i < n; ++i) rows[i] = (int32_t)((i + 2) % n * row);
  T *x = OF(integers)((n - 1) * row + (tiles * m + 1) * col + lanes);
  T *w = OF(integers)(9 * tiles * lanes), *bias = OF(integers)(lanes);
  T *v = OF(integers)(n_v), *u = OF(integers)(n_v), *y = OF(integers)(n_y);
  T *z = OF(integers)(n_v), *v_wanted = OF(copy)(v, n_v), *u_wanted = OF(copy)(u, n_v);
  T *y_wanted = OF(copy)(y, n_y);
  ptrdiff_t at[36];
  for (ptrdiff_t t = 0; t < tiles; ++t)
    for (int l = 0; l < lanes; ++l) {
      for (int xi = 0; xi < n * n; ++xi) {
        const ptrdiff_t to = xi * pitch + t * step + l;
        for (int a = 0; a < n * n; ++a) at[a] = rows[a / n] + (t * m + a % n) * col + l;
        v_wanted[to] = (T)OF(winograd_both)('B', m, xi / n, xi % n, n, x, at);
        for (int a = 0; a < 9; ++a) at[a] = (9 * t + (turned ? 8 - a : a)) * lanes + l;
        u_wanted[to] = (T)OF(winograd_both)('G', m, xi / n, xi % n, 3, w, at);
      }
      for (int a = 0; a < n * n; ++a) at[a] = a * pitch + t * step + l;
      for (int i = 0; i < m; ++i)
        for (int j = 0; j < m; ++j)
          y_wanted[i * y_row + (t * m + j) * lanes + l] =
              (T)(OF(winograd_both)('A', m, i, j, n, z, at) + (double)bias[l]);
    }
  f->winograd_input[m / 2 - 1](tiles, x, rows, col, v, step, pitch);
  f->winograd_weight[m / 2 - 1](tiles, turned, w, u, step, pitch);
  f->winograd_output[m / 2 - 1](tiles, z, step, pitch, bias, y, y_row);
  if (m == 2) { /* whole numbers and quarters: exact */
    OF(same)(isa, "winograd_input", v, v_wanted, n_v);
    OF(same)(isa, "winograd_weight", u, u_wanted, n_v);
    OF(same)(isa, "winograd_output", y, y_wanted, n_y);
  } else { /* 8 roundings of sums that are at most 8 times 26 (B), 2 (G) and 75 (A) */
    for (ptrdiff_t i = 0; i < n_v; ++i) {
      OF(near)(isa, "winograd_input", v[i], v_wanted[i], 8 * 8 * 26);
      OF(near)(isa, "winograd_weight", u[i], u_wanted[i], 8 * 8 * 2);
    }
    for (ptrdiff_t i = 0; i < n_y; ++i)
      OF(near)(isa, "winograd_output", y[i], y_wanted[i], 8 * 8 * 75);
  }
  leave(x), leave(w), leave(bias), leave(v), leave(u), leave(y), leave(z);
  leave(v_wanted), leave(u_wanted), leave(y_wanted);
}

/* Stride 2: F(4, 2) of four phases, in float. */
static void OF(check_winograd_phases)(const char *isa, const OF(fc_kernels) * f) {
  const double *const p = OF(winograd_points)[1] + 1;
  const int lanes = f->lanes;
  const ptrdiff_t tiles = between(0, 1) ? between(0, 3) : between(1, FC_WINOGRAD_STRIP / 2);
  const ptrdiff_t phase = tiles * lanes + between(0, 5), step = lanes + between(0, 5);
  const ptrdiff_t tile = 4 * phase + between(0, 5), pitch = tiles * tile + between(0, 5);
  const ptrdiff_t col = lanes + between(0, 3), row = (tiles * 8 + 1) * col + between(0, 9);
  const ptrdiff_t u_phase = tiles * step + between(0, 5), u_pitch = 4 * u_phase + between(0, 5);
  const ptrdiff_t y_row = tiles * 4 * lanes + between(0, 5);
  const ptrdiff_t n_v = tiles ? 24 * pitch + (tiles - 1) * tile + 3 * phase + lanes : 0;
  const ptrdiff_t n_u = tiles ? 24 * u_pitch + 3 * u_phase + (tiles - 1) * step + lanes : 0;
  const ptrdiff_t n_y = tiles ? 3 * y_row + tiles * 4 * lanes : 0;
  int32_t rows[9];
  for (int i = 0; i < 9; ++i) rows[i] = (int32_t)((i + 2) % 9 * row);
  T *x = OF(integers)(8 * row + tiles * 8 * col + lanes);
  T *w = OF(integers)(9 * tiles * lanes), *bias = OF(integers)(lanes);
  T *v = OF(integers)(n_v), *u = OF(integers)(n_u), *y = OF(integers)(n_y), *z = OF(copy)(v, n_v);
  T *v_wanted = OF(copy)(v, n_v), *u_wanted = OF(copy)(u, n_u), *y_wanted = OF(copy)(y, n_y);
  for (ptrdiff_t t = 0; t < tiles; ++t)
    for (int l = 0; l < lanes; ++l) {
      for (int part = 0; part < 4; ++part) {
        const int below = part > 1, right = part % 3 == 0; /* the taps: 0 and 2, or 1 */
        for (int xi = 0; xi < 25; ++xi) {
          const int i = xi / 5, j = xi % 5;
          double sum_v = 0, sum_u = 0;
          if ((i == 4 && below) || (j == 4 && right)) continue; /* no such product */
          for (int a = 0; a < 5 - below; ++a)
            for (int b = 0; b < 5 - right; ++b)
              sum_v += OF(winograd_entry)('B', p, 5, 4, i, a) * OF(winograd_entry)('B', p, 5, 4, j, b) *
                       (double)x[rows[2 * a + below] + (8 * t + 2 * b + right) * col + l];
          for (int r = 0; r < 2 - below; ++r)
            for (int s = 0; s < 2 - right; ++s)
              sum_u += OF(winograd_entry)('G', p, 5, 4, i, r) * OF(winograd_entry)('G', p, 5, 4, j, s) *
                       (double)w[(9 * t + (below + 2 * r) * 3 + right + 2 * s) * lanes + l];
          v_wanted[xi * pitch + part * phase + t * tile + l] = (T)sum_v;
          u_wanted[xi * u_pitch + part * u_phase + t * step + l] = (T)sum_u;
        }
      }
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
          double sum = (double)bias[l];
          for (int xi = 0; xi < 25; ++xi)
            sum += OF(winograd_entry)('A', p, 5, 4, i, xi / 5) *
                   OF(winograd_entry)('A', p, 5, 4, j, xi % 5) * (double)z[xi * pitch + t * tile + l];
          y_wanted[i * y_row + (t * 4 + j) * lanes + l] = (T)sum;
        }
    }
  f->winograd_phases_input(tiles, x, rows, col, v, tile, phase, pitch);
  f->winograd_phases_weight(tiles, w, u, step, u_phase, u_pitch);
  f->winograd_phases_output(tiles, z, tile, pitch, bias, y, y_row);
  /* as above; rows of B sum up to 10, of G to 1, of A to 8 */
  for (ptrdiff_t i = 0; i < n_v; ++i) OF(near)(isa, "winograd_phases_input", v[i], v_wanted[i], 8 * 8 * 26);
  for (ptrdiff_t i = 0; i < n_u; ++i) OF(near)(isa, "winograd_phases_weight", u[i], u_wanted[i], 8 * 8 * 2);
  for (ptrdiff_t i = 0; i < n_y; ++i) OF(near)(isa, "winograd_phases_output", y[i], y_wanted[i], 8 * 8 * 75);
  leave(x), leave(w), leave(bias), leave(v), leave(u), leave(y), leave(z);
  leave(v_wanted), leave(u_wanted), leave(y_wanted);
}

static void OF(check)(const char *isa, const OF(fc_kernels) * f) {
  OF(check_tile)(isa, f);
  OF(check_panel)(isa, f);
  OF(check_dot)(isa, f);
  for (int i = 0; i < 8; ++i) {
    OF(check_lanes)(isa, f);
    OF(check_pack)(isa, f);
  }
  for (int i = 0; i < 60; ++i) OF(check_maps)(isa, f);
  for (int i = 0; i < 400; ++i) OF(check_pools)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_blocks)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_split_rows)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_depthwise)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_depthwise_3x3)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_merge)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_spread)(isa, f);
  for (int i = 0; i < 400; ++i) OF(check_channels)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_patches)(isa, f);
  for (int i = 0; i < 200; ++i) OF(check_soft_pools)(isa, f);
  for (int i = 0; i < 100; ++i) OF(check_winograd)(isa, f);
  for (int i = 0; i < 100 && f->winograd_phases_input; ++i) OF(check_winograd_phases)(isa, f);
  for (int i = 0; i < 200 && f->winograd_pairs; ++i) OF(check_winograd_pairs)(isa, f);
  for (int i = 0; i < 100; ++i) OF(check_winograd_rows)(isa, f);
}

#undef CAT_
#undef CAT
#undef OF
