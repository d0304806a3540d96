/* What the ISA files share: which ISAs this compiler target can hold, and lists of tiles. */
#ifndef FC_ISA_H
#define FC_ISA_H

#include "fastconv.h"

#if defined(__x86_64__) || defined(__i386__)
#define FC_X86 1
#include <cpuid.h>
#include <immintrin.h>
#else
#define FC_X86 0
#endif
#if defined(__aarch64__)
#define FC_NEON 1
#else
#define FC_NEON 0
#endif

/* all tiles with M rows and up to 2, 3, 4 or 5 vectors */
#define FC_V2(X, M) X(M, 1) X(M, 2)
#define FC_V3(X, M) FC_V2(X, M) X(M, 3)
#define FC_V4(X, M) FC_V3(X, M) X(M, 4)
#define FC_V5(X, M) FC_V4(X, M) X(M, 5)

/* all tiles of a panel with up to 2 or 4 vectors */
#define FC_M6(X, V) X(1, V) X(2, V) X(3, V) X(4, V) X(5, V) X(6, V)
#define FC_PANELS_2(X) FC_M6(X, 1) FC_M6(X, 2)
#define FC_PANELS_4(X) FC_PANELS_2(X) FC_M6(X, 3) FC_M6(X, 4)

extern const fc_isa fc_isa_portable;
#if FC_X86
extern const fc_isa fc_isa_avx2, fc_isa_avx512;
#endif
#if FC_NEON
extern const fc_isa fc_isa_neon;
#endif

#endif
