/* Whatever the compiler's target has (SSE2 on x86-64): vectors of 16 bytes, no further demands. */
#include "isa.h"

#define FC_ISA portable
#define FC_BYTES 16
/* 4 x 2: 8 accumulators, 2 inputs, a weight and a product of 16 registers */
#define FC_TILES(X) FC_V3(X, 1) FC_V3(X, 2) FC_V3(X, 3) FC_V2(X, 4)
#define FC_ISA_TILE_M 4
#define FC_ISA_TILE_V {0, 3, 3, 3, 2}
#define FC_PANELS(X) FC_PANELS_2(X)
#define FC_ISA_PANEL_V 2
#define FC_DOTS(X) FC_V4(X, 1) FC_V4(X, 2) FC_V3(X, 3)
#define FC_ISA_DOT_M 3
#define FC_ISA_DOT_V {0, 4, 4, 3}
#if FC_X86 && !defined(__clang__)
/* here it serves CPUs of before 2013: small is worth more than fast */
#pragma GCC optimize("Os", "no-schedule-insns2")
#endif
/* sums of the tiles that take four steps a turn: 4 x 2 and more */
#define FC_ISA_MANY 8
#include "kernels/all.h"

static int runs(void) { return 1; }
const fc_isa fc_isa_portable = {"portable", runs, &fc_table_f32_portable, &fc_table_f64_portable, NULL};
