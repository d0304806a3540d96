/* Every kernel of every ISA that this CPU runs, against plain loops: so the ISAs against each other.
 *
 *     cc -I csrc tests/csrc/check.c csrc/[a-z]*.c -lm -o check && ./check [SEED]
 *
 * No Python, so it runs under the sanitizers and on emulated CPUs.  Every buffer is exactly as long
 * as the kernel's contract says and lies against a page that nobody may touch, once behind it and once
 * before it: the first byte read or written beyond ends the program.  Under the address sanitizer
 * everything runs once more with buffers of malloc.  Operands are small integers, so that sums are
 * exact in any order.
 *
 *     ./check overrun read|write before|behind [heap]
 *
 * breaks the contract on purpose, by one element: the program has to die of it.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fastconv.h"
#include "float_mode.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED __has_feature(address_sanitizer)
#else
#define SANITIZED 0
#endif

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

/* where a buffer lies */
enum { ENDS_AT_GUARD, BEGINS_AT_GUARD, HEAP } side = ENDS_AT_GUARD;
static const char *const sides[] = {"before a guard page", "behind a guard page", "on the heap"};

/* Pages between two guard pages; used again for the next buffer of as many. */
typedef struct block {
  struct block *next;
  char *pages;
  size_t bytes;
  void *given; /* NULL: free */
} block;
static block *blocks;

static void *need(void *p) {
  if (p != NULL && p != MAP_FAILED) return p;
  perror("check");
  exit(3);
}

static block *new_block(size_t bytes, size_t page) {
  block *b = need(malloc(sizeof *b));
  char *all = need(mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (mprotect(all + page, bytes, PROT_READ | PROT_WRITE)) need(NULL);
  *b = (block){blocks, all + page, bytes, NULL};
  return blocks = b;
}

/* A buffer, filled with NaN: what a kernel should have written shows. */
static void *room(ptrdiff_t bytes) {
  const size_t n = bytes > 0 ? (size_t)bytes : 0, page = (size_t)sysconf(_SC_PAGESIZE);
  if (side == HEAP) return memset(need(malloc(n ? n : 1)), 0xff, n);
  const size_t whole = n ? (n + page - 1) / page * page : page;
  block *b = blocks;
  while (b && (b->given || b->bytes != whole)) b = b->next;
  if (!b) b = new_block(whole, page);
  b->given = side == ENDS_AT_GUARD ? b->pages + whole - n : b->pages;
  return memset(b->given, 0xff, n);
}

static void leave(void *p) {
  if (side == HEAP) {
    free(p);
    return;
  }
  for (block *b = blocks; b; b = b->next)
    if (b->given == p) {
      b->given = NULL;
      return;
    }
  exit(3);
}
#pragma GCC poison malloc free

static void expect(int good, const char *isa, const char *kernel, const char *what, double got,
                   double wanted) {
  ++checks;
  if (good) return;
  if (++failures <= 20)
    printf("%s %s, %s: got %.17g, expected %.17g\n", isa, kernel, what, got, wanted);
}

/* a length below, at or above a multiple of the vector; at times none at all */
static ptrdiff_t straddling(int lanes) {
  return between(0, 15) ? lanes * between(0, 3) + between(1, lanes) : 0;
}

/* minus n now and then: strides may be negative */
static ptrdiff_t either_way(ptrdiff_t n) { return between(0, 3) ? n : -n; }

/* windows that tile the rows of an image are divided alike, all of them */
static int tiles_rows(const fc_pool *g) {
  return g->kernel_w == g->stride_w && g->top == 0 && g->left == 0 && g->dilation_h == 1 &&
         g->dilation_w == 1;
}

static fc_pool random_pool(void) {
  fc_pool g;
  /* 2x2 side by side, tiles of narrow rows, and long windows have paths of their own */
  const int kind = (int)between(0, 5), halves = kind == 0, tiled = kind == 1, is_long = kind == 2;
  const int plain = halves || tiled || is_long;
  for (;;) {
    g.kernel_h = halves ? 2 : is_long ? between(1, 2) : between(1, 4);
    g.kernel_w = halves ? 2 : is_long ? between(4, 40) : between(1, 4 + 3 * tiled);
    g.stride_h = halves ? 2 : between(1, 4), g.stride_w = halves ? 2 : is_long ? between(3, 45) : between(1, 4);
    if (tiled) g.stride_w = g.kernel_w;
    g.dilation_h = plain ? 1 : between(1, 2), g.dilation_w = plain ? 1 : between(1, 2);
    g.top = plain ? 0 : between(0, g.kernel_h / 2);
    g.left = plain ? 0 : between(0, g.kernel_w / 2);
    g.height = between(1, 12), g.width = tiled ? g.stride_w * between(1, 20) : between(1, 75);
    const ptrdiff_t rows = g.height + g.top + between(0, g.kernel_h / 2) * !plain;
    const ptrdiff_t cols = g.width + g.left + between(0, g.kernel_w / 2) * !plain;
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

/* the mode without what has been raised since (MXCSR's lower bits) */
static uint64_t controls(void) { return fc_float_mode() & ~(uint64_t)0x3f; }

/* Flushing denormals: asked for or not, what comes of it, and everything as before. */
static void check_float_mode(void) {
  const uint64_t before = controls();
  volatile float least = FLT_MIN, half = 0.5f, denormal;
  for (int flush = 0; flush < 2; ++flush) {
    const uint64_t was = fc_flush_denormals(flush), during = controls();
    denormal = least * half; /* volatile: computed here and now */
    fc_set_float_mode(was);
    const uint64_t wanted = flush ? before | FC_FLUSH : before;
    expect(during == wanted, "float mode", "set", "the mode", (double)during, (double)wanted);
    expect((denormal == 0) == (flush && FC_FLUSH), "float mode", "set", "FLT_MIN / 2", denormal, 0);
    expect(controls() == before, "float mode", "restored", "the mode", (double)controls(), (double)before);
    denormal = least * half;
    expect(denormal != 0, "float mode", "restored", "FLT_MIN / 2", denormal, FLT_MIN / 2);
  }
}

/* One element too many, read or written, before or behind a buffer. */
static int overrun(int argc, char **argv) {
  if (argc < 4) return 2;
  const int write = !strcmp(argv[2], "write"), before = !strcmp(argv[3], "before");
  side = argc > 4 ? HEAP : before ? BEGINS_AT_GUARD : ENDS_AT_GUARD;
  float *x = room(8 * sizeof(float)), *y = room(8 * sizeof(float));
  memset(x, 0, 8 * sizeof(float));
  float *const from = write ? x : before ? x - 1 : x + 1, *const to = !write ? y : before ? y - 1 : y + 1;
  for (int i = 0; fc_isas[i]; ++i)
    if (!fc_isas[i + 1]) fc_isas[i]->f32->relu(8, from, to);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "overrun")) return overrun(argc, argv);
  const unsigned long long seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  check_float_mode();
  for (int i = 0; fc_isas[i]; ++i) {
    if (!fc_isas[i]->runs()) {
      printf("%s: not on this CPU\n", fc_isas[i]->name);
      continue;
    }
    for (side = ENDS_AT_GUARD; side <= (SANITIZED ? HEAP : BEGINS_AT_GUARD); ++side) {
      const long before = checks;
      state = seed;
      check_f32(fc_isas[i]->name, fc_isas[i]->f32);
      check_f64(fc_isas[i]->name, fc_isas[i]->f64);
      printf("%s: %ld values, buffers %s\n", fc_isas[i]->name, checks - before, sides[side]);
      fflush(stdout);
    }
  }
  if (failures) printf("%ld of %ld wrong; again with: check %llu\n", failures, checks, seed);
  return failures != 0;
}
