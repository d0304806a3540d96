"""The kernel table: which ISAs this build holds and this CPU runs; and the float mode of a call.

The only extension module that links csrc/; the drivers cimport `isa_table` from here, so all of
them see one table.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_Size, PyTuple_GetItem

from numpy import ndarray

from fastconv import config, registry
from fastconv._arrays import FLOAT32, FLOAT64
from fastconv._threads import from_environment
from fastconv.backends.native._views cimport is_like, look_at, same

cdef extern from "fastconv.h" nogil:
    const fc_isa* const fc_isas[]

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    static int fc_openmp_version(void) { return _OPENMP; }
    static int fc_team_limit(void) { return omp_get_max_threads(); }
    static int fc_processors(void) { return omp_get_num_procs(); }
    #else
    static int fc_openmp_version(void) { return 0; }
    static int fc_team_limit(void) { return 1; }
    static int fc_processors(void) { return 0; }
    #endif
    #ifdef __VERSION__
    static const char *fc_compiler(void) { return __VERSION__; }
    #else
    static const char *fc_compiler(void) { return "unknown"; }
    #endif
    """
    int fc_openmp_version() nogil
    int fc_team_limit() nogil
    int fc_processors() nogil
    const char* fc_compiler() nogil


# what OpenMP starts out with
cdef int UNLIMITED = from_environment() or fc_processors()


cdef const fc_isa* isa_table(int index) noexcept nogil:
    return fc_isas[index]


def call(driver, bint flush, *arguments):
    """driver(*arguments), with denormals as zeros if `flush`; afterwards all is as before."""
    cdef uint64_t before = fc_flush_denormals(flush)
    try:
        return driver(*arguments)
    finally:
        fc_set_float_mode(before)


cdef const fc_isa* find_halved() noexcept:
    cdef int i = 0
    while fc_isas[i] != NULL:
        if fc_isas[i].halves != NULL and fc_isas[i].runs() and fc_isas[i].halves():
            break
        i += 1
    return fc_isas[i]


# asked for once: under a hypervisor the answer takes microseconds
cdef const fc_isa* HALVED = find_halved()


cdef bint is_halved(const fc_isa* isa) noexcept nogil:
    return isa == HALVED


def isa_names():
    """Names of the ISAs compiled into this build, best first."""
    names = []
    cdef int i = 0
    while fc_isas[i] != NULL:
        names.append(fc_isas[i].name.decode())
        i += 1
    return tuple(names)


def available_isas():
    """Names of the ISAs that this CPU can run, best first."""
    return tuple(name for i, name in enumerate(isa_names()) if fc_isas[i].runs())


def tiles(int index):
    """Vectors and tile sizes of the ISA with this index in `isa_names()`, by element type."""
    cdef const fc_kernels_f32* f32 = fc_isas[index].f32
    cdef const fc_kernels_f64* f64 = fc_isas[index].f64
    cdef int halves = 2 if is_halved(fc_isas[index]) else 1
    return {
        "float32": {"lanes": f32.lanes, "path": f32.lanes // halves,
                    "m": f32.tile_m, "v": f32.tile_v[f32.tile_m], "panel_v": f32.panel_v,
                    "dot_m": f32.dot_m, "dot_v": f32.dot_v[f32.dot_m],
                    "pairs": f32.winograd_pairs != NULL},
        "float64": {"lanes": f64.lanes, "path": f64.lanes // halves,
                    "m": f64.tile_m, "v": f64.tile_v[f64.tile_m], "panel_v": f64.panel_v,
                    "dot_m": f64.dot_m, "dot_v": f64.dot_v[f64.dot_m], "pairs": False},
    }


def limited(int threads):
    """`threads`, or fewer where a lower limit is set on OpenMP in the Python thread that asks."""
    cdef int limit = fc_team_limit()
    return limit if limit < UNLIMITED and limit < threads else threads


def openmp_version():
    """The OpenMP version (a date such as 201511) that the drivers were compiled with; 0 without."""
    return fc_openmp_version()


def compiler():
    """Version of the C compiler that built the kernels."""
    return fc_compiler().decode()


# --- calls that come again ------------------------------------------------------------------------

include "_calls.pxi"
