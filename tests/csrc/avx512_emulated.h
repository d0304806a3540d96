/* AVX-512 as far as csrc/simd.h uses it, lane by lane: the kernels with vectors of 64 bytes, on CPUs
 * that have AVX2 and FMA alone.  For tests: cc -DFC_AVX512_EMULATED -I tests/csrc ...
 *
 * Each function does what Intel's manual says of its instruction.  A lane whose mask is clear is neither
 * read nor written, so that guard pages and sanitizers see what a CPU would touch.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EMULATED static inline __attribute__((unused))

EMULATED int emulated_compare(double a, double b, int predicate) {
  switch (predicate) {
    case _CMP_ORD_Q: return a == a && b == b;
    case _CMP_GT_OQ: return a > b;
    case _CMP_NGT_UQ: return !(a > b);
    default: __builtin_trap();
  }
}

/* for vectors V of N elements T, and integers I of their size: the suffixes, the masks */
#define EMULATED_OF(ps, epi32, V, T, I, N, M)                                                    \
  typedef I emulated_##epi32 __attribute__((vector_size(64)));                                   \
  EMULATED V emulated_mask_loadu_##ps(V rest, M k, const void *p) {                              \
    for (int i = 0; i < N; ++i) {                                                                \
      T element;                                                                                 \
      if (!(k >> i & 1)) continue;                                                               \
      memcpy(&element, (const char *)p + i * sizeof element, sizeof element);                    \
      rest[i] = element;                                                                         \
    }                                                                                            \
    return rest;                                                                                 \
  }                                                                                              \
  EMULATED V emulated_maskz_loadu_##ps(M k, const void *p) {                                     \
    return emulated_mask_loadu_##ps((V){0}, k, p);                                               \
  }                                                                                              \
  EMULATED void emulated_mask_storeu_##ps(void *p, M k, V x) {                                   \
    for (int i = 0; i < N; ++i) {                                                                \
      const T element = x[i];                                                                    \
      if (k >> i & 1) memcpy((char *)p + i * sizeof element, &element, sizeof element);          \
    }                                                                                            \
  }                                                                                              \
  EMULATED V emulated_mask_blend_##ps(M k, V a, V b) {                                           \
    for (int i = 0; i < N; ++i)                                                                  \
      if (k >> i & 1) a[i] = b[i];                                                               \
    return a;                                                                                    \
  }                                                                                              \
  EMULATED V emulated_maskz_mov_##ps(M k, V a) {                                                 \
    return emulated_mask_blend_##ps(k, (V){0}, a);                                               \
  }                                                                                              \
  EMULATED V emulated_max_##ps(V a, V b) {                                                       \
    for (int i = 0; i < N; ++i) b[i] = a[i] > b[i] ? a[i] : b[i];                                \
    return b;                                                                                    \
  }                                                                                              \
  EMULATED V emulated_mask_max_##ps(V rest, M k, V a, V b) {                                     \
    return emulated_mask_blend_##ps(k, rest, emulated_max_##ps(a, b));                           \
  }                                                                                              \
  EMULATED M emulated_mask_cmp_##ps(M k, V a, V b, int predicate) {                              \
    M result = 0;                                                                                \
    for (int i = 0; i < N; ++i)                                                                  \
      result |= (M)((k >> i & 1) && emulated_compare(a[i], b[i], predicate)) << i;               \
    return result;                                                                               \
  }                                                                                              \
  EMULATED V emulated_scalef_##ps(V a, V b) {                                                    \
    for (int i = 0; i < N; ++i) a[i] = (T)ldexp(a[i], (int)floor(b[i]));                         \
    return a;                                                                                    \
  }                                                                                              \
  /* 14 bits of the quotient, no more */                                                         \
  EMULATED V emulated_rcp14_##ps(V a) {                                                          \
    for (int i = 0; i < N; ++i) {                                                                \
      int exponent = 0;                                                                          \
      const double fraction = frexp(1 / (double)a[i], &exponent);                                \
      a[i] = (T)ldexp(nearbyint(ldexp(fraction, 14)), exponent - 14);                            \
    }                                                                                            \
    return a;                                                                                    \
  }                                                                                              \
  EMULATED __m512i emulated_mask_blend_##epi32(M k, __m512i a, __m512i b) {                      \
    return (__m512i)emulated_mask_blend_##ps(k, (V)a, (V)b);                                     \
  }                                                                                              \
  EMULATED M emulated_cmpeq_##epi32(__m512i a, __m512i b) {                                      \
    const emulated_##epi32 equal = (emulated_##epi32)a == (emulated_##epi32)b;                   \
    M result = 0;                                                                                \
    for (int i = 0; i < N; ++i) result |= (M)(equal[i] & 1) << i;                                \
    return result;                                                                               \
  }                                                                                              \
  EMULATED __m512i emulated_alignr_##epi32(__m512i high, __m512i low, int k) {                   \
    emulated_##epi32 lanes;                                                                      \
    for (int i = 0; i < N; ++i)                                                                  \
      lanes[i] = i + k < N ? ((emulated_##epi32)low)[i + k] : ((emulated_##epi32)high)[i + k - N]; \
    return (__m512i)lanes;                                                                       \
  }                                                                                              \
  EMULATED M emulated_signs_##epi32(__m512i a) {                                                 \
    M result = 0;                                                                                \
    for (int i = 0; i < N; ++i) result |= (M)(((emulated_##epi32)a)[i] < 0) << i;                \
    return result;                                                                               \
  }
EMULATED_OF(ps, epi32, __m512, float, int32_t, 16, __mmask16)
EMULATED_OF(pd, epi64, __m512d, double, int64_t, 8, __mmask8)
#undef EMULATED_OF

EMULATED __m512 emulated_permutexvar_ps(__m512i at, __m512 x) {
  __m512 lanes;
  for (int i = 0; i < 16; ++i) lanes[i] = x[((emulated_epi32)at)[i] & 15];
  return lanes;
}

EMULATED __m256i emulated_half(__m512i x, int i) {
  __m256i half;
  memcpy(&half, (const char *)&x + i * sizeof half, sizeof half);
  return half;
}

EMULATED __m512i emulated_put_half(__m512i x, __m256i half, int i) {
  memcpy((char *)&x + i * sizeof half, &half, sizeof half);
  return x;
}

/* to 32 bits, the nearest that there is */
EMULATED __m256i emulated_narrow(__m512i x) {
  int32_t narrow[8];
  for (int i = 0; i < 8; ++i)
    narrow[i] = (int32_t)(x[i] < INT32_MIN ? INT32_MIN : x[i] > INT32_MAX ? INT32_MAX : x[i]);
  return _mm256_loadu_si256((const __m256i *)narrow);
}

EMULATED __m512i emulated_widen(__m256i x) {
  int32_t narrow[8];
  __m512i wide;
  _mm256_storeu_si256((__m256i *)narrow, x);
  for (int i = 0; i < 8; ++i) wide[i] = narrow[i];
  return wide;
}

EMULATED __m512 emulated_repeat(__m128 x) {
  __m512 all;
  for (int i = 0; i < 16; ++i) all[i] = x[i % 4];
  return all;
}

#define _mm512_mask_loadu_ps emulated_mask_loadu_ps
#define _mm512_mask_loadu_pd emulated_mask_loadu_pd
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_maskz_loadu_pd emulated_maskz_loadu_pd
#define _mm512_maskz_loadu_epi64(k, p) ((__m512i)emulated_maskz_loadu_pd(k, p))
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_storeu_pd emulated_mask_storeu_pd
#define _mm512_mask_storeu_epi64(p, k, x) emulated_mask_storeu_pd(p, k, (__m512d)(x))
#define _mm512_mask_blend_ps emulated_mask_blend_ps
#define _mm512_mask_blend_pd emulated_mask_blend_pd
#define _mm512_mask_blend_epi32 emulated_mask_blend_epi32
#define _mm512_mask_blend_epi64 emulated_mask_blend_epi64
#define _mm512_maskz_mov_ps emulated_maskz_mov_ps
#define _mm512_maskz_mov_pd emulated_maskz_mov_pd
#define _mm512_maskz_mov_epi32(k, x) ((__m512i)emulated_maskz_mov_ps(k, (__m512)(x)))
#define _mm512_max_ps emulated_max_ps
#define _mm512_max_pd emulated_max_pd
#define _mm512_mask_max_ps emulated_mask_max_ps
#define _mm512_mask_max_pd emulated_mask_max_pd
#define _mm512_mask_cmp_ps_mask emulated_mask_cmp_ps
#define _mm512_mask_cmp_pd_mask emulated_mask_cmp_pd
#define _mm512_cmp_ps_mask(a, b, predicate) emulated_mask_cmp_ps(0xffff, a, b, predicate)
#define _mm512_cmp_pd_mask(a, b, predicate) emulated_mask_cmp_pd(0xff, a, b, predicate)
#define _mm512_scalef_ps emulated_scalef_ps
#define _mm512_scalef_pd emulated_scalef_pd
#define _mm512_rcp14_ps emulated_rcp14_ps
#define _mm512_rcp14_pd emulated_rcp14_pd
#define _mm512_cmpeq_epi32_mask emulated_cmpeq_epi32
#define _mm512_cmpeq_epi64_mask emulated_cmpeq_epi64
#define _mm512_alignr_epi32 emulated_alignr_epi32
#define _mm512_alignr_epi64 emulated_alignr_epi64
#define _mm512_permutexvar_ps emulated_permutexvar_ps
#define _mm512_movepi32_mask emulated_signs_epi32
#define _mm512_movepi64_mask emulated_signs_epi64
#define _mm512_set1_epi64(x) ((__m512i){0} + (long long)(x))
#define _mm512_add_epi64(a, b) ((a) + (b))
#define _mm512_sub_epi64(a, b) ((a) - (b))
#define _mm512_maskz_sub_epi64(k, a, b) ((__m512i)emulated_maskz_mov_pd(k, (__m512d)((a) - (b))))
#define _mm512_cvtsepi64_epi32 emulated_narrow
#define _mm512_cvtepi32_epi64 emulated_widen
#define _mm512_castsi256_si512(x) emulated_put_half((__m512i){0}, x, 0)
#define _mm512_castsi512_si256(x) emulated_half(x, 0)
#define _mm512_inserti64x4 emulated_put_half
#define _mm512_extracti64x4_epi64 emulated_half
#define _mm512_broadcast_f32x4 emulated_repeat
