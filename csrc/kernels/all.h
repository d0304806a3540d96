/* Every kernel for one ISA and both element types.
 *
 * Before the inclusion the ISA's file defines FC_ISA, FC_BYTES, the list of its tiles, FC_TILES(X),
 * FC_PANELS(X) and FC_DOTS(X), which call X(M, V) for each tile that the registers can hold, and
 * FC_ISA_MANY, the sums of a tile from which on its loop is unrolled.
 */
#define FC_T float
#define FC_F64 0
#include "../simd.h"
#include "one.h"
#include "end.h"

#define FC_T double
#define FC_F64 1
#include "../simd.h"
#include "one.h"
#include "end.h"
