/* The ISAs of this build, best first.  Everything that lists or picks an ISA walks this table. */
#include "isa.h"

const fc_isa *const fc_isas[] = {
#if FC_X86
    &fc_isa_avx512,
    &fc_isa_avx2,
#endif
#if FC_NEON
    &fc_isa_neon,
#endif
    &fc_isa_portable,
    NULL,
};
