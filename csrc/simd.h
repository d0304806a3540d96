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
#define store_n FN(fc_store_n)
#define splat FN(fc_splat)
#define isplat FN(fc_isplat)
#define select FN(fc_select)
#define bits FN(fc_bits)
#define from_bits FN(fc_from_bits)
#define zip_lo FN(fc_zip_lo)
#define zip_hi FN(fc_zip_hi)
#define evens FN(fc_evens)
#define odds FN(fc_odds)
#define hsum FN(fc_hsum)
#define transpose FN(fc_transpose)

FC_INLINE vec load(const FC_T *p) { return *(const uvec *)p; }
FC_INLINE void store(FC_T *p, vec x) { *(uvec *)p = x; }
/* x - 0 and not x + 0: the latter would turn -0 into 0 and costs an addition */
FC_INLINE vec splat(FC_T x) { return x - (vec){0}; }
FC_INLINE ivec isplat(FC_I x) { return x - (ivec){0}; }
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

/* Writes the first n lanes (0 <= n <= VL), nothing else. */
FC_INLINE void store_n(FC_T *p, int n, vec x) {
#if FC_BYTES == 64 && FC_F64
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)x);
#elif FC_BYTES == 64
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif FC_BYTES == 32 && FC_F64
  _mm256_maskstore_pd(p, _mm256_loadu_si256((const __m256i *)(fc_first_lanes + 16 - 2 * n)),
                      (__m256d)x);
#elif FC_BYTES == 32
  _mm256_maskstore_ps(p, _mm256_loadu_si256((const __m256i *)(fc_first_lanes + 16 - n)),
                      (__m256)x);
#else
  FC_T lane[VL];
  store(lane, x);
  for (int i = 0; i < n; ++i) p[i] = lane[i];
#endif
}

/* zip: a0 b0 a1 b1 ...  of the lower (upper) halves; evens and odds: of the 2 VL lanes of (a, b) */
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
#define FC_LOG_VL 3
#elif FC_BYTES / FC_EB == 4
#define FC_ZIP_LO 0, 4, 1, 5
#define FC_ZIP_HI 2, 6, 3, 7
#define FC_EVENS 0, 2, 4, 6
#define FC_ODDS 1, 3, 5, 7
#define FC_LOG_VL 2
#else
#define FC_ZIP_LO 0, 2
#define FC_ZIP_HI 1, 3
#define FC_EVENS 0, 2
#define FC_ODDS 1, 3
#define FC_LOG_VL 1
#endif

FC_INLINE vec zip_lo(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ZIP_LO); }
FC_INLINE vec zip_hi(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ZIP_HI); }
FC_INLINE vec evens(vec a, vec b) { return __builtin_shufflevector(a, b, FC_EVENS); }
FC_INLINE vec odds(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ODDS); }

/* Rows become columns: VL rounds of a perfect shuffle, log2(VL) deep. */
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

/* Sum of the lanes, always in the same order. */
FC_INLINE FC_T hsum(vec x) {
  FC_T lane[VL], sum = 0;
  store(lane, x);
  for (int i = 0; i < VL; ++i) sum += lane[i];
  return sum;
}
