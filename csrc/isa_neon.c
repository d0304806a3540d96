/* NEON (every AArch64): 32 registers of 16 bytes. */
#include "isa.h"
#if FC_NEON
#ifndef __clang__
/* GCC would load the broadcast elements of a whole step first, and spill accumulators for them */
#pragma GCC optimize("no-schedule-insns")
#endif

#define FC_ISA neon
#define FC_BYTES 16
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

static int runs(void) { return 1; }
const fc_isa fc_isa_neon = {"neon", runs, &fc_table_f32_neon, &fc_table_f64_neon, NULL};
#endif
