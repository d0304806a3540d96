/* Activations, element by element, and their gradients.
 *
 *   relu      y = x > 0 or x is NaN ? x : 0          relu_backward      out = y > 0 ? grad : 0
 *   sigmoid   y = 1 / (1 + e^-x)                     sigmoid_backward   out = grad (1 - y) y
 *   tanh      y = (e^x - e^-x) / (e^x + e^-x)        tanh_backward      out = grad (1 - y y)
 *
 *   x, y, grad, out  [n]; y may be x, out may be grad or y
 *
 * The gradients are taken from the output y.  NaN stays NaN, infinities give the limits, denormal
 * numbers are kept on both sides.  Largest error over all finite x, on every ISA:
 *
 *              float                  double
 *   sigmoid    2.5 ulp                2.5 ulp
 *   tanh       2.5 ulp                2.5 ulp
 *
 * Method: e^y = 2^k e^r with k = round(y / ln 2) and r = y - k ln 2 from ln 2 in two parts (Cody and
 * Waite, Software Manual for the Elementary Functions, 1980, chapter 6).  Only y <= 0 is needed, where
 * nothing overflows: sigmoid(x) is 1 or e^-|x|, divided by 1 + e^-|x|; tanh |x| is -m / (2 + m) with
 * m = e^-2|x| - 1, which does not cancel for small x.
 */
#if FC_F64
#define FC_MANTISSA 52
#define FC_BIAS 1023
#define FC_LN2_HI 0x1.62e42fee00000p-1 /* k times this is exact for |k| < 2^20 */
#define FC_LN2_LO 0x1.a39ef35793c76p-33
#define FC_LOG2E 0x1.71547652b82fep+0
#define FC_LEAST -746.0 /* e^y rounds to 0 from here down */
#else
#define FC_MANTISSA 23
#define FC_BIAS 127
#define FC_LN2_HI 0x1.63p-1f /* exact for |k| < 2^15 */
#define FC_LN2_LO -0x1.bd0106p-13f
#define FC_LOG2E 0x1.715476p+0f
#define FC_LEAST -104.0f
#endif

/* z = e^r - 1, with y = k ln 2 + r, |r| <= ln(2) / 2 and n = k; FC_LEAST <= y <= 0 or y is NaN.
 *
 * e^r - 1 = r + r^2 P(r).  P interpolates (e^r - 1 - r) / r^2 at the Chebyshev nodes of the interval,
 * solved in 200 digits and rounded: relative error of e^r 1.0e-8 (float), 1.7e-17 (double).
 */
FC_INLINE vec FN(fc_expm1_r)(vec y, vec *n, ivec *k) {
  const vec magic = splat((FC_T)((FC_I)3 << (FC_MANTISSA - 1))); /* adding it rounds to whole */
  const vec t = y * FC_LOG2E + magic;
  *n = t - magic;
  *k = bits(t) - bits(magic);
  const vec r = (y - *n * FC_LN2_HI) - *n * FC_LN2_LO;
#if FC_F64
  vec p = splat(0x1.af389ecfc4b9cp-26);
  p = p * r + 0x1.28917c89a43a7p-22;
  p = p * r + 0x1.71de0db2f6b19p-19;
  p = p * r + 0x1.a019b9149a41cp-16;
  p = p * r + 0x1.a01a01a7c2efep-13;
  p = p * r + 0x1.6c16c17889ef1p-10;
  p = p * r + 0x1.11111111109b5p-7;
  p = p * r + 0x1.5555555553d68p-5;
  p = p * r + 0x1.5555555555556p-3;
  p = p * r + 0x1.0000000000001p-1;
#else
  vec p = splat(0x1.6d10fcp-10f);
  p = p * r + 0x1.120b62p-7f;
  p = p * r + 0x1.55551ap-5f;
  p = p * r + 0x1.5554dep-3f;
  p = p * r + 0.5f;
#endif
  return r + r * r * p;
}

FC_INLINE vec FN(fc_negate_of)(vec x) { return -x; }
FC_INLINE vec FN(fc_relu_of)(vec x) { return larger((vec){0}, x); }

FC_INLINE vec FN(fc_sigmoid_of)(vec x) {
  vec n;
  ivec k;
  const vec y = larger(splat(FC_LEAST), from_bits(bits(x) | bits(splat((FC_T)-0.0))));
  const vec z = FN(fc_expm1_r)(y, &n, &k);
  const vec e = times_pow2(1 + z, n, k);
  return quotient(if_greater((vec){0}, x, e, splat(1)), 1 + e);
}

FC_INLINE vec FN(fc_tanh_of)(vec x) {
  vec n;
  ivec k;
  const ivec sign = bits(x) & bits(splat((FC_T)-0.0));
  /* beyond a quarter of FC_LEAST tanh is 1 in every digit */
  const vec y = larger(splat(FC_LEAST / 2), -2 * from_bits(bits(x) ^ sign));
  const vec z = FN(fc_expm1_r)(y, &n, &k);
  const vec scale = from_bits((k + FC_BIAS) << FC_MANTISSA);
  const vec m = scale * z + (scale - 1);
  return from_bits(bits(quotient(0 - m, 2 + m)) | sign);
}

#define FC_MAP(NAME)                                                                             \
  FC_KERNEL void FN(fc_##NAME) FC_MAP_ARGS(FC_T) {                                               \
    ptrdiff_t i = 0;                                                                             \
    for (; i + VL <= n; i += VL) store(y + i, FN(fc_##NAME##_of)(load(x + i)));                  \
    const int rest = (int)(n - i);                                                               \
    if (rest) store_n(y + i, rest, FN(fc_##NAME##_of)(load_n(x + i, rest, (vec){0})));           \
  }
FC_MAP(negate)
FC_MAP(relu)
FC_MAP(sigmoid)
FC_MAP(tanh)

FC_INLINE vec FN(fc_relu_backward_of)(vec grad, vec y) {
  return if_greater(y, (vec){0}, grad, (vec){0});
}
FC_INLINE vec FN(fc_sigmoid_backward_of)(vec grad, vec y) { return grad * ((1 - y) * y); }
FC_INLINE vec FN(fc_tanh_backward_of)(vec grad, vec y) { return grad * (1 - y * y); }

#define FC_MAP_BACKWARD(NAME)                                                                    \
  FC_KERNEL void FN(fc_##NAME##_backward) FC_MAP_BACKWARD_ARGS(FC_T) {                           \
    ptrdiff_t i = 0;                                                                             \
    for (; i + VL <= n; i += VL)                                                                 \
      store(out + i, FN(fc_##NAME##_backward_of)(load(grad + i), load(y + i)));                  \
    const int rest = (int)(n - i);                                                               \
    if (rest)                                                                                    \
      store_n(out + i, rest,                                                                     \
              FN(fc_##NAME##_backward_of)(load_n(grad + i, rest, (vec){0}),                      \
                                          load_n(y + i, rest, (vec){0})));                       \
  }
FC_MAP_BACKWARD(relu)
FC_MAP_BACKWARD(sigmoid)
FC_MAP_BACKWARD(tanh)

/* sum_{i < n} x[i]: lane partial sums over blocks, the blocks' sums added up in double. */
FC_KERNEL double FN(fc_sum) FC_SUM_ARGS(FC_T) {
  enum { BLOCK = 64 * VL };
  double sum = 0;
  for (ptrdiff_t start = 0; start < n; start += BLOCK) {
    const FC_T *x_b = x + start;
    const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
    vec a = {0}, b = {0}, c = {0}, d = {0};
    ptrdiff_t i = 0;
    for (; i + 4 * VL <= length; i += 4 * VL) {
      a += load(x_b + i);
      b += load(x_b + i + VL);
      c += load(x_b + i + 2 * VL);
      d += load(x_b + i + 3 * VL);
    }
    for (; i + VL <= length; i += VL) a += load(x_b + i);
    if (i < length) b += load_n(x_b + i, (int)(length - i), (vec){0});
    sum += hsum((a + b) + (c + d));
  }
  return sum;
}

#undef FC_MAP
#undef FC_MAP_BACKWARD
