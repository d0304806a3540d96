/* AVX-512 (F, BW, DQ, VL): 32 registers of 64 bytes. */
#include "isa.h"
#if FC_X86
#ifdef FC_AVX512_EMULATED /* to test the kernels without the instructions: tests/csrc/avx512_emulated.h */
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include "avx512_emulated.h"
#elif defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#define FC_ISA avx512
#define FC_BYTES 64
/* 8 x 3: 24 accumulators, 3 inputs and a weight of 32 registers */
#define FC_TILES(X) FC_V4(X, 1) FC_V4(X, 2) FC_V4(X, 3) FC_V4(X, 4) FC_V4(X, 5) FC_V4(X, 6) FC_V3(X, 7) FC_V3(X, 8)
#define FC_ISA_TILE_M 8
#define FC_ISA_TILE_V {0, 4, 4, 4, 4, 4, 4, 3, 3}
/* 6 x 4: 24 accumulators, 4 weights and an input of 32 registers */
#define FC_PANELS(X) FC_PANELS_4(X)
#define FC_ISA_PANEL_V 4
#define FC_DOTS(X) FC_V5(X, 1) FC_V5(X, 2) FC_V5(X, 3) FC_V5(X, 4) FC_V4(X, 5) FC_V4(X, 6)
#define FC_ISA_DOT_M 6
#define FC_ISA_DOT_V {0, 5, 5, 5, 5, 4, 4}
/* sums of the tiles that take four steps a turn: 5 x 4, 7 x 3 and more */
#define FC_ISA_MANY 20
#include "kernels/all.h"

#if defined(__clang__) && !defined(FC_AVX512_EMULATED)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* outside the target region: it runs on CPUs that lack the ISA */
static int runs(void) {
#ifndef FC_AVX512_EMULATED
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return 0;
#endif
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* Zen 4 has units of 32 bytes: CPUID 8000001A, bit 3 of EAX, "FP512"; other makers lack the leaf */
static int halves(void) {
  unsigned a, b, c, d;
  __cpuid(0x80000000, a, b, c, d);
  if (a < 0x8000001A) return 0;
  __cpuid(0x8000001A, a, b, c, d);
  return !(a & 8);
}

const fc_isa fc_isa_avx512 = {"avx512", runs, &fc_table_f32_avx512, &fc_table_f64_avx512, halves};
#endif
