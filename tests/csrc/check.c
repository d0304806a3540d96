/* Every kernel of every ISA that this CPU runs, against plain loops.
 *
 *     cc -I csrc tests/csrc/check.c csrc/[a-z]*.c -lm -o check && ./check [SEED]
 *
 * No Python, so it runs under the sanitizers and on emulated CPUs.  Every buffer is exactly as long
 * as the kernel's contract says: an address sanitizer sees the first byte read or written beyond.
 * Operands are small integers, so that sums are exact in any order.  `./check overrun` breaks the
 * contract on purpose: a sanitized build has to stop it.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastconv.h"

static unsigned long long state;
static long checks, failures;

/* splitmix64 */
static unsigned long long next(void) {
  unsigned long long z = (state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

/* from low to high, both included */
static ptrdiff_t between(ptrdiff_t low, ptrdiff_t high) {
  return low + (ptrdiff_t)(next() % (unsigned long long)(high - low + 1));
}

static void *room(ptrdiff_t bytes) {
  void *p = malloc(bytes > 0 ? (size_t)bytes : 1);
  if (!p) exit(3);
  return p;
}

static void expect(int good, const char *isa, const char *kernel, const char *what, double got,
                   double wanted) {
  ++checks;
  if (good) return;
  if (++failures <= 20)
    printf("%s %s, %s: got %.17g, expected %.17g\n", isa, kernel, what, got, wanted);
}

/* a length below, at or above a multiple of the vector */
static ptrdiff_t straddling(int lanes) { return lanes * between(0, 3) + between(1, lanes); }

static fc_pool random_pool(void) {
  fc_pool g;
  const int halves = between(0, 3) == 0; /* windows of 2x2 side by side, which have a path of their own */
  for (;;) {
    g.kernel_h = halves ? 2 : between(1, 4), g.kernel_w = halves ? 2 : between(1, 4);
    g.stride_h = halves ? 2 : between(1, 4), g.stride_w = halves ? 2 : between(1, 4);
    g.dilation_h = halves ? 1 : between(1, 2), g.dilation_w = halves ? 1 : between(1, 2);
    g.top = halves ? 0 : between(0, g.kernel_h / 2), g.left = halves ? 0 : between(0, g.kernel_w / 2);
    g.height = between(1, 12), g.width = between(1, 75);
    const ptrdiff_t rows = g.height + g.top + between(0, g.kernel_h / 2) * !halves;
    const ptrdiff_t cols = g.width + g.left + between(0, g.kernel_w / 2) * !halves;
    const ptrdiff_t high = g.dilation_h * (g.kernel_h - 1) + 1, wide = g.dilation_w * (g.kernel_w - 1) + 1;
    if (rows < high || cols < wide) continue;
    g.out_h = (rows - high) / g.stride_h + 1, g.out_w = (cols - wide) / g.stride_w + 1;
    return g;
  }
}

#define T float
#define S f32
#define EPS FLT_EPSILON
#include "check_of.h"
#undef T
#undef S
#undef EPS
#define T double
#define S f64
#define EPS DBL_EPSILON
#include "check_of.h"

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "overrun")) {
    float *x = room(7 * sizeof(float)), *y = room(8 * sizeof(float));
    for (int i = 0; i < 7; ++i) x[i] = 0;
    int last = 0;
    while (fc_isas[last + 1]) ++last;
    fc_isas[last]->f32->relu(8, x, y); /* the contract: 7 */
    return 0;
  }
  const unsigned long long seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  for (int i = 0; fc_isas[i]; ++i) {
    if (!fc_isas[i]->runs()) {
      printf("%s: not on this CPU\n", fc_isas[i]->name);
      continue;
    }
    const long before = checks;
    state = seed;
    check_f32(fc_isas[i]->name, fc_isas[i]->f32);
    check_f64(fc_isas[i]->name, fc_isas[i]->f64);
    printf("%s: %ld values\n", fc_isas[i]->name, checks - before);
  }
  if (failures) printf("%ld of %ld wrong; again with: check %llu\n", failures, checks, seed);
  return failures != 0;
}
