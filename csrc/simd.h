/* The vector vocabulary: every kernel is written once over these verbs.
 *
 * This header is a template.  It is included once per ISA and element type with
 *   FC_T      the element type, float or double
 *   FC_F64    1 for double, 0 for float
 *   FC_BYTES  the vector's size: 16, 32 or 64
 *   FC_ISA    the ISA's name, pasted into every symbol
 * and defines, until kernels/end.h takes them away again:
 *   VL        lanes of a vector
 *   vec       a vector of VL elements; ivec, the integers of the same size (a comparison's result:
 *             -1 or 0 in each lane)
 *   FN(name)  name_<f32|f64>_<isa>
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FC_CAT_(a, b, c, d, e) a##b##c##d##e
#define FC_CAT(a, b, c, d, e) FC_CAT_(a, b, c, d, e)
#if FC_F64
#define FN(name) FC_CAT(name, _f64_, FC_ISA, , )
#define FC_I int64_t
#define FC_EB 8
#else
#define FN(name) FC_CAT(name, _f32_, FC_ISA, , )
#define FC_I int32_t
#define FC_EB 4
#endif

#define VL (FC_BYTES / FC_EB)
#define vec FN(fc_vec)
#define uvec FN(fc_uvec)
#define ivec FN(fc_ivec)

#ifndef FC_INLINE
#define FC_INLINE static inline __attribute__((always_inline, unused))
#define FC_KERNEL static __attribute__((noinline))
/* one whose loop is fast or slow by a twentieth by where it lies: there in every build */
#define FC_ALIGNED static __attribute__((noinline, aligned(64)))
#define FC_LIKELY(x) __builtin_expect(!!(x), 1)
/* eight words from fc_first_lanes + 16 - n: ones in the first n of them */
static const int32_t fc_first_lanes[24] __attribute__((unused)) = {
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
#endif

typedef FC_T vec __attribute__((vector_size(FC_BYTES)));
typedef FC_I ivec __attribute__((vector_size(FC_BYTES)));
/* unaligned and free to alias: what lies in memory */
typedef FC_T uvec __attribute__((vector_size(FC_BYTES), aligned(FC_EB), may_alias));

#define load FN(fc_load)
#define store FN(fc_store)
#define load_n FN(fc_load_n)
#define load_first FN(fc_load_first)
#define store_n FN(fc_store_n)
#define load_where FN(fc_load_where)
#define splat FN(fc_splat)
#define splat_pair FN(fc_splat_pair)
#define held FN(fc_held)
#define isplat FN(fc_isplat)
#define select FN(fc_select)
#define bits FN(fc_bits)
#define from_bits FN(fc_from_bits)
#define zip_lo FN(fc_zip_lo)
#define zip_hi FN(fc_zip_hi)
#define evens FN(fc_evens)
#define odds FN(fc_odds)
#define some_evens FN(fc_some_evens)
#define some_odds FN(fc_some_odds)
#define sorted FN(fc_sorted)
#define turned FN(fc_turned)
#define hsum FN(fc_hsum)
#define transpose FN(fc_transpose)
#define iota FN(fc_iota)
#define larger FN(fc_larger)
#define max_nan FN(fc_max_nan)
#define take_max FN(fc_take_max)
#define if_greater FN(fc_if_greater)
#define if_equal FN(fc_if_equal)
#define load_index FN(fc_load_index)
#define store_index FN(fc_store_index)
#define times_pow2 FN(fc_times_pow2)
#define quotient FN(fc_quotient)

FC_INLINE vec load(const FC_T *p) { return *(const uvec *)p; }
FC_INLINE void store(FC_T *p, vec x) { *(uvec *)p = x; }
/* x - 0 and not x + 0: the latter would turn -0 into 0 and costs an addition */
FC_INLINE vec splat(FC_T x) { return x - (vec){0}; }
/* p[0] p[1] p[0] p[1] ... */
FC_INLINE vec splat_pair(const FC_T *p) {
#if FC_BYTES == 64 && FC_F64
  return (vec)_mm512_broadcast_f32x4(_mm_loadu_ps((const float *)p));
#elif FC_BYTES == 32 && FC_F64
  return (vec)_mm256_broadcast_pd((const __m128d *)p);
#elif FC_F64
  return load(p);
#else
  typedef int64_t pairs __attribute__((vector_size(FC_BYTES)));
  int64_t pair;
  memcpy(&pair, p, sizeof pair);
  return (vec)(pair - (pairs){0});
#endif
}
FC_INLINE ivec isplat(FC_I x) { return x - (ivec){0}; }
/* x, in a register from here on: GCC would load it from memory again at each use */
FC_INLINE vec held(vec x) {
#if FC_BYTES == 64 && defined(FC_AVX512_EMULATED)
#elif FC_BYTES == 64
  __asm__("" : "+v"(x));
#elif FC_BYTES == 32 || defined(__SSE2__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}
FC_INLINE ivec bits(vec x) { return (ivec)x; }
FC_INLINE vec from_bits(ivec x) { return (vec)x; }
/* mask ? a : b, lane by lane */
FC_INLINE vec select(ivec mask, vec a, vec b) {
  return from_bits((mask & bits(a)) | (~mask & bits(b)));
}

/* The first n lanes (0 <= n <= VL) from memory, the others from `rest`; nothing else is read. */
FC_INLINE vec load_n(const FC_T *p, int n, vec rest) {
#if FC_BYTES == 64 && FC_F64
  return (vec)_mm512_mask_loadu_pd((__m512d)rest, (__mmask8)((1u << n) - 1), p);
#elif FC_BYTES == 64
  return (vec)_mm512_mask_loadu_ps((__m512)rest, (__mmask16)((1u << n) - 1), p);
#elif FC_BYTES == 32 && FC_F64
  const __m256i first = _mm256_loadu_si256((const __m256i *)(fc_first_lanes + 16 - 2 * n));
  return (vec)_mm256_blendv_pd((__m256d)rest, _mm256_maskload_pd(p, first), (__m256d)first);
#elif FC_BYTES == 32
  const __m256i first = _mm256_loadu_si256((const __m256i *)(fc_first_lanes + 16 - n));
  return (vec)_mm256_blendv_ps((__m256)rest, _mm256_maskload_ps(p, first), (__m256)first);
#else
  FC_T lane[VL];
  store(lane, rest);
  for (int i = 0; i < n; ++i) lane[i] = p[i];
  return load(lane);
#endif
}

/* The first n lanes from memory, zeros in the others. */
FC_INLINE vec load_first(const FC_T *p, int n) {
#if FC_BYTES == 64 && FC_F64
  return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif FC_BYTES == 64
  return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif FC_BYTES == 32 && FC_F64
  return (vec)_mm256_maskload_pd(
      p, _mm256_loadu_si256((const __m256i *)(fc_first_lanes + 16 - 2 * n)));
#elif FC_BYTES == 32
  return (vec)_mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(fc_first_lanes + 16 - n)));
#else
  return load_n(p, n, (vec){0});
#endif
}

/* Memory where the mask is set, zero elsewhere; all of it may be read. */
FC_INLINE vec load_where(const FC_T *p, ivec mask) {
#if FC_BYTES == 64 && FC_F64
  return (vec)_mm512_maskz_loadu_pd(_mm512_movepi64_mask((__m512i)mask), p);
#elif FC_BYTES == 64
  return (vec)_mm512_maskz_loadu_ps(_mm512_movepi32_mask((__m512i)mask), p);
#else
  return from_bits(bits(load(p)) & mask);
#endif
}

/* Writes the first n lanes (0 <= n <= VL), nothing else. */
FC_INLINE void store_n(FC_T *p, int n, vec x) {
#if FC_BYTES == 64 && FC_F64
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)x);
#elif FC_BYTES == 64
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif FC_BYTES == 32 && FC_F64
  /* two pieces that may overlap: AMD's masked stores take a dozen cycles */
  const __m256d y = (__m256d)x;
  const __m128d low = _mm256_castpd256_pd128(y), high = _mm256_extractf128_pd(y, 1);
  if (n == VL)
    store(p, x);
  else if (n >= 2) {
    _mm_storeu_pd(p, low);
    _mm_storeu_pd(p + n - 2, n == 2 ? low : _mm_shuffle_pd(low, high, 1));
  } else if (n == 1)
    _mm_store_sd(p, low);
#elif FC_BYTES == 32
  const __m128 low = _mm256_castps256_ps128((__m256)x);
  const __m256i last = _mm256_add_epi32(_mm256_set1_epi32(n >= 4 ? n - 4 : n - 2),
                                        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m128 end = _mm256_castps256_ps128(_mm256_permutevar8x32_ps((__m256)x, last));
  if (n >= 4) {
    _mm_storeu_ps(p, low);
    _mm_storeu_ps(p + n - 4, end);
  } else if (n >= 2) {
    _mm_storel_pi((__m64 *)p, low);
    _mm_storel_pi((__m64 *)(p + n - 2), end);
  } else if (n == 1)
    _mm_store_ss(p, low);
#else
  FC_T lane[VL];
  store(lane, x);
  for (int i = 0; i < n; ++i) p[i] = lane[i];
#endif
}

/* zip: a0 b0 a1 b1 ...  of the lower (upper) halves; evens and odds: of the 2 VL lanes of (a, b);
 * from_lane: of (a, b) the VL lanes from lane k on; k is a constant */
#if FC_BYTES / FC_EB == 16
#define FC_ZIP_LO 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FC_ZIP_HI 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FC_EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FC_ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FC_LOG_VL 4
#elif FC_BYTES / FC_EB == 8
#define FC_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define FC_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#define FC_EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define FC_ODDS 1, 3, 5, 7, 9, 11, 13, 15
#define FC_FROM(k) (k), (k) + 1, (k) + 2, (k) + 3, (k) + 4, (k) + 5, (k) + 6, (k) + 7
#define FC_LOG_VL 3
#elif FC_BYTES / FC_EB == 4
#define FC_ZIP_LO 0, 4, 1, 5
#define FC_ZIP_HI 2, 6, 3, 7
#define FC_EVENS 0, 2, 4, 6
#define FC_ODDS 1, 3, 5, 7
#define FC_FROM(k) (k), (k) + 1, (k) + 2, (k) + 3
#define FC_LOG_VL 2
#else
#define FC_ZIP_LO 0, 2
#define FC_ZIP_HI 1, 3
#define FC_EVENS 0, 2
#define FC_ODDS 1, 3
#define FC_FROM(k) (k), (k) + 1
#define FC_LOG_VL 1
#endif

FC_INLINE vec zip_lo(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ZIP_LO); }
FC_INLINE vec zip_hi(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ZIP_HI); }
/* The even lanes, in an order that `sorted` undoes: AVX2 has no shuffle of two whole vectors. */
FC_INLINE vec some_evens(vec a, vec b) {
#if FC_BYTES == 32 && FC_F64
  return (vec)_mm256_unpacklo_pd((__m256d)a, (__m256d)b);
#elif FC_BYTES == 32
  return (vec)_mm256_shuffle_ps((__m256)a, (__m256)b, 0x88);
#else
  return __builtin_shufflevector(a, b, FC_EVENS);
#endif
}
FC_INLINE vec some_odds(vec a, vec b) {
#if FC_BYTES == 32 && FC_F64
  return (vec)_mm256_unpackhi_pd((__m256d)a, (__m256d)b);
#elif FC_BYTES == 32
  return (vec)_mm256_shuffle_ps((__m256)a, (__m256)b, 0xdd);
#else
  return __builtin_shufflevector(a, b, FC_ODDS);
#endif
}
FC_INLINE vec sorted(vec x) {
#if FC_BYTES == 32
  return (vec)_mm256_permute4x64_pd((__m256d)x, 0xd8);
#else
  return x;
#endif
}
FC_INLINE vec evens(vec a, vec b) { return sorted(some_evens(a, b)); }
FC_INLINE vec odds(vec a, vec b) { return sorted(some_odds(a, b)); }
/* GCC has a permutation for it, which takes the units of products */
#if FC_BYTES == 64 && FC_F64
#define from_lane(k, a, b) ((vec)_mm512_alignr_epi64((__m512i)(b), (__m512i)(a), k))
#elif FC_BYTES == 64
#define from_lane(k, a, b) ((vec)_mm512_alignr_epi32((__m512i)(b), (__m512i)(a), k))
#else
#define from_lane(k, a, b) __builtin_shufflevector(a, b, FC_FROM(k))
#endif

/* Rows become columns: VL rounds of a perfect shuffle, log2(VL) deep.  AVX2 has that only within halves
 * of 16 bytes: there they are exchanged once, at the end. */
#if FC_BYTES == 32 && !FC_F64
#define FC_PAIR_LO 0, 1, 8, 9, 4, 5, 12, 13
#define FC_PAIR_HI 2, 3, 10, 11, 6, 7, 14, 15
#define FC_HALF_LO 0, 1, 2, 3, 8, 9, 10, 11
#define FC_HALF_HI 4, 5, 6, 7, 12, 13, 14, 15
FC_INLINE void transpose(vec row[VL]) {
  vec a[VL], b[VL];
#pragma GCC unroll 4
  for (int i = 0; i < VL; i += 2) {
    a[i] = __builtin_shufflevector(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = __builtin_shufflevector(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < VL; i += 4) {
    b[i] = __builtin_shufflevector(a[i], a[i + 2], FC_PAIR_LO);
    b[i + 1] = __builtin_shufflevector(a[i], a[i + 2], FC_PAIR_HI);
    b[i + 2] = __builtin_shufflevector(a[i + 1], a[i + 3], FC_PAIR_LO);
    b[i + 3] = __builtin_shufflevector(a[i + 1], a[i + 3], FC_PAIR_HI);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    row[i] = __builtin_shufflevector(b[i], b[i + 4], FC_HALF_LO);
    row[i + 4] = __builtin_shufflevector(b[i], b[i + 4], FC_HALF_HI);
  }
}
#elif FC_BYTES == 32
FC_INLINE void transpose(vec row[VL]) {
  const vec a = __builtin_shufflevector(row[0], row[1], 0, 4, 2, 6);
  const vec b = __builtin_shufflevector(row[0], row[1], 1, 5, 3, 7);
  const vec c = __builtin_shufflevector(row[2], row[3], 0, 4, 2, 6);
  const vec d = __builtin_shufflevector(row[2], row[3], 1, 5, 3, 7);
  row[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  row[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  row[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  row[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}
#else
FC_INLINE void transpose(vec row[VL]) {
#pragma GCC unroll 4
  for (int round = 0; round < FC_LOG_VL; ++round) {
    vec next[VL];
#pragma GCC unroll 8
    for (int i = 0; i < VL / 2; ++i) {
      next[2 * i] = zip_lo(row[i], row[i + VL / 2]);
      next[2 * i + 1] = zip_hi(row[i], row[i + VL / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < VL; ++i) row[i] = next[i];
  }
}
#endif

/* Sum of the lanes, always in the same order. */
FC_INLINE FC_T hsum(vec x) {
  FC_T sum = 0;
#pragma GCC unroll 16
  for (int i = 0; i < VL; ++i) sum += x[i];
  return sum;
}

FC_INLINE ivec iota(void) {
  ivec x;
#pragma GCC unroll 16
  for (int i = 0; i < VL; ++i) x[i] = i;
  return x;
}
#if FC_BYTES == 64 && !FC_F64
/* lane k + i of x, for lane i; beyond the last one come the first */
FC_INLINE vec turned(vec x, int k) { return (vec)_mm512_permutexvar_ps((__m512i)(iota() + k), (__m512)x); }
#endif

/* a > b ? a : b; b where either is NaN */
FC_INLINE vec larger(vec a, vec b) {
#if FC_BYTES == 64 && FC_F64
  return (vec)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif FC_BYTES == 64
  return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif FC_BYTES == 32 && FC_F64
  return (vec)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif FC_BYTES == 32
  return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__) && FC_F64
  return (vec)_mm_max_pd((__m128d)a, (__m128d)b);
#elif defined(__SSE2__)
  return (vec)_mm_max_ps((__m128)a, (__m128)b);
#else
  return select(a > b, a, b);
#endif
}

/* v > m or v is NaN ? v : m; so NaN, once in m, stays */
FC_INLINE vec max_nan(vec v, vec m) {
#if FC_BYTES == 64 && FC_F64
  const __m512d x = (__m512d)v;
  return (vec)_mm512_mask_max_pd(x, _mm512_cmp_pd_mask(x, x, _CMP_ORD_Q), x, (__m512d)m);
#elif FC_BYTES == 64
  const __m512 x = (__m512)v;
  return (vec)_mm512_mask_max_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x, (__m512)m);
#else
  return from_bits(bits(larger(v, m)) | (v != v)); /* all ones are a NaN */
#endif
}

/* m, where = max_nan(v, m), the place of the winner */
FC_INLINE void take_max(vec v, ivec at, vec *m, ivec *where) {
#if FC_BYTES == 64 && FC_F64
  const __m512d x = (__m512d)v;
  const __mmask8 kept = _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(x, x, _CMP_ORD_Q), x,
                                                (__m512d)*m, _CMP_NGT_UQ);
  *m = (vec)_mm512_mask_blend_pd(kept, x, (__m512d)*m);
  *where = (ivec)_mm512_mask_blend_epi64(kept, (__m512i)at, (__m512i)*where);
#elif FC_BYTES == 64
  const __m512 x = (__m512)v;
  const __mmask16 kept = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x,
                                                 (__m512)*m, _CMP_NGT_UQ);
  *m = (vec)_mm512_mask_blend_ps(kept, x, (__m512)*m);
  *where = (ivec)_mm512_mask_blend_epi32(kept, (__m512i)at, (__m512i)*where);
#else
  const ivec taken = (v > *m) | (v != v);
#if FC_BYTES == 32
  *m = (vec)_mm256_blendv_epi8((__m256i)*m, (__m256i)v, (__m256i)taken);
  *where = (ivec)_mm256_blendv_epi8((__m256i)*where, (__m256i)at, (__m256i)taken);
#else
  *m = select(taken, v, *m);
  *where = (taken & at) | (~taken & *where);
#endif
#endif
}

/* a > b ? x : y */
FC_INLINE vec if_greater(vec a, vec b, vec x, vec y) {
#if FC_BYTES == 64 && FC_F64
  const __mmask8 greater = _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ);
  return (vec)_mm512_mask_blend_pd(greater, (__m512d)y, (__m512d)x);
#elif FC_BYTES == 64
  const __mmask16 greater = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
  return (vec)_mm512_mask_blend_ps(greater, (__m512)y, (__m512)x);
#else
  return select(a > b, x, y);
#endif
}

/* a == b ? x : 0 */
FC_INLINE vec if_equal(ivec a, ivec b, vec x) {
#if FC_BYTES == 64 && FC_F64
  return (vec)_mm512_maskz_mov_pd(_mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b), (__m512d)x);
#elif FC_BYTES == 64
  return (vec)_mm512_maskz_mov_ps(_mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b), (__m512)x);
#else
  return from_bits((a == b) & bits(x));
#endif
}

/* p[i] - base of the first n places (the rest: 0), as integers of the element's size; what does not
 * fit becomes a number that is negative or the largest of all. */
FC_INLINE ivec load_index(const int64_t *p, int n, int64_t base) {
#if FC_BYTES == 64 && FC_F64
  const __mmask8 first = (__mmask8)((1u << n) - 1);
  return (ivec)_mm512_maskz_sub_epi64(first, _mm512_maskz_loadu_epi64(first, p),
                                      _mm512_set1_epi64(base));
#elif FC_BYTES == 64
  const __mmask16 first = (__mmask16)((1u << n) - 1);
  const __m512i start = _mm512_set1_epi64(base);
  const __m512i a = _mm512_maskz_loadu_epi64((__mmask8)first, p);
  const __m512i b = _mm512_maskz_loadu_epi64((__mmask8)(first >> 8), p + 8);
  const __m512i c = _mm512_castsi256_si512(_mm512_cvtsepi64_epi32(_mm512_sub_epi64(a, start)));
  return (ivec)_mm512_maskz_mov_epi32(
      first, _mm512_inserti64x4(c, _mm512_cvtsepi64_epi32(_mm512_sub_epi64(b, start)), 1));
#else
  ivec x = (ivec){0};
  for (int i = 0; i < n; ++i) {
    const int64_t d = p[i] - base;
    x[i] = d < 0 || d > INT32_MAX ? -1 : (FC_I)d;
  }
  return x;
#endif
}

/* p[i] = base + x[i] for the first n */
FC_INLINE void store_index(int64_t *p, int n, ivec x, int64_t base) {
#if FC_BYTES == 64 && FC_F64
  _mm512_mask_storeu_epi64(p, (__mmask8)((1u << n) - 1),
                           _mm512_add_epi64((__m512i)x, _mm512_set1_epi64(base)));
#elif FC_BYTES == 64
  const __mmask16 first = (__mmask16)((1u << n) - 1);
  const __m512i start = _mm512_set1_epi64(base);
  const __m512i a = _mm512_cvtepi32_epi64(_mm512_castsi512_si256((__m512i)x));
  const __m512i b = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)x, 1));
  _mm512_mask_storeu_epi64(p, (__mmask8)first, _mm512_add_epi64(a, start));
  _mm512_mask_storeu_epi64(p + 8, (__mmask8)(first >> 8), _mm512_add_epi64(b, start));
#elif FC_BYTES == 32 && !FC_F64
  if (n == VL) {
    const __m256i start = _mm256_set1_epi64x(base);
    const __m256i a = _mm256_cvtepi32_epi64(_mm256_castsi256_si128((__m256i)x));
    const __m256i b = _mm256_cvtepi32_epi64(_mm256_extracti128_si256((__m256i)x, 1));
    _mm256_storeu_si256((__m256i *)p, _mm256_add_epi64(a, start));
    _mm256_storeu_si256((__m256i *)(p + 4), _mm256_add_epi64(b, start));
  } else {
    for (int i = 0; i < n; ++i) p[i] = base + x[i];
  }
#else
  for (int i = 0; i < n; ++i) p[i] = base + x[i];
#endif
}

/* x * 2**n, rounded once where it is denormal; 0.5 <= x < 2 and -1076 <= n <= 0 (float: -150),
 * n whole and given both as elements and as integers */
FC_INLINE vec times_pow2(vec x, vec n, ivec k) {
#if FC_BYTES == 64 && FC_F64
  (void)k;
  return (vec)_mm512_scalef_pd((__m512d)x, (__m512d)n);
#elif FC_BYTES == 64
  (void)k;
  return (vec)_mm512_scalef_ps((__m512)x, (__m512)n);
#elif FC_F64
  (void)n; /* in two steps: 2**n itself may be denormal */
  return x * from_bits((k + (1023 + 64)) << 52) * splat(0x1p-64);
#else
  (void)n;
  return x * from_bits((k + (127 + 64)) << 23) * splat(0x1p-64f);
#endif
}

/* a / d for 1 <= d <= 2 and |a| <= 1 (or NaN), to half an ulp but for rare cases.  AVX-512's full-width
 * division takes as long as all the rest of a sigmoid; Newton's iteration on the reciprocal does not. */
FC_INLINE vec quotient(vec a, vec d) {
#if FC_BYTES == 64
#if FC_F64
  vec r = (vec)_mm512_rcp14_pd((__m512d)d);
  r += r * (1 - d * r);
#else
  vec r = (vec)_mm512_rcp14_ps((__m512)d);
#endif
  r += r * (1 - d * r);
  const vec q = a * r;
  return q + r * (a - q * d); /* the remainder is exact: fused */
#else
  return a / d;
#endif
}
