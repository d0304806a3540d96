/* How the processor rounds, of the thread that asks; in particular whether it flushes denormals.
 *
 * A denormal is a number below the smallest normal one (1.2e-38, or 2.2e-308 in double), kept with
 * fewer digits. Intel's processors take some hundred cycles for a product with one. Flushed, such
 * numbers are zeros, as operands and as results.
 *
 * The mode belongs to a thread.  A driver changes it for the time of a call, hands it to each thread
 * of its team, and leaves every thread as it was.  Where the mode is not known nothing is changed.
 */
#ifndef FC_FLOAT_MODE_H
#define FC_FLOAT_MODE_H

#include <stdint.h>

#define FC_MODE static inline __attribute__((unused))

#if defined(__SSE__)
#include <xmmintrin.h>
enum { FC_FLUSH = 0x8040 }; /* MXCSR: results (FTZ) and operands (DAZ) */
FC_MODE uint64_t fc_float_mode(void) { return _mm_getcsr(); }
FC_MODE void fc_put_float_mode(uint64_t mode) { _mm_setcsr((unsigned)mode); }
#elif defined(__aarch64__)
enum { FC_FLUSH = 1 << 24 }; /* FPCR: both (FZ) */
FC_MODE uint64_t fc_float_mode(void) {
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
FC_MODE void fc_put_float_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode)); }
#else
enum { FC_FLUSH = 0 };
FC_MODE uint64_t fc_float_mode(void) { return 0; }
FC_MODE void fc_put_float_mode(uint64_t mode) { (void)mode; }
#endif

/* Sets this thread's mode; returns the one before, to be set again. */
FC_MODE uint64_t fc_set_float_mode(uint64_t mode) {
  const uint64_t before = fc_float_mode();
  __asm__ volatile("" ::: "memory"); /* arithmetic stays on its side */
  if (mode != before) fc_put_float_mode(mode);
  __asm__ volatile("" ::: "memory");
  return before;
}

/* Has this thread flush denormals, or leaves it as it is; returns the mode before. */
FC_MODE uint64_t fc_flush_denormals(int flush) {
  return fc_set_float_mode(fc_float_mode() | (flush ? FC_FLUSH : 0));
}

#undef FC_MODE
#endif
