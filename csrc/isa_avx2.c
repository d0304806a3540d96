/* AVX2 with FMA: 16 registers of 32 bytes. */
#include "isa.h"
#if FC_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define FC_ISA avx2
#define FC_BYTES 32
/* 6 x 2: 12 accumulators, 2 inputs and a weight of 16 registers */
#define FC_TILES(X) FC_V3(X, 1) FC_V3(X, 2) FC_V3(X, 3) FC_V3(X, 4) FC_V2(X, 5) FC_V2(X, 6)
#define FC_ISA_TILE_M 6
#define FC_ISA_TILE_V {0, 3, 3, 3, 3, 2, 2}
/* 6 x 2: 12 accumulators, 2 weights and an input of 16 registers */
#define FC_PANELS(X) FC_PANELS_2(X)
#define FC_ISA_PANEL_V 2
/* 4 x 3: 12 accumulators, 3 factors and one of 16 registers */
#define FC_DOTS(X) FC_V5(X, 1) FC_V5(X, 2) FC_V4(X, 3) FC_V3(X, 4)
#define FC_ISA_DOT_M 4
#define FC_ISA_DOT_V {0, 5, 5, 4, 3}
/* sums of the tiles that take four steps a turn: 5 x 2 and more */
#define FC_ISA_MANY 10
#include "kernels/all.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* outside the target region: it runs on CPUs that lack the ISA */
static int runs(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

const fc_isa fc_isa_avx2 = {"avx2", runs, &fc_table_f32_avx2, &fc_table_f64_avx2, NULL};
#endif
