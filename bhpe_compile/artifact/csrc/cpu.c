/* cpu.c - see cpu.h. BHPE_NEEDS_<feature> is defined for every feature of the target that can be asked for here; the
 * others of a class of processors come with these. */
#include "cpu.h"

#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };

static int leaf_has(unsigned leaf, int word, unsigned bit) {
  unsigned regs[4] = {0, 0, 0, 0};
  if (!__get_cpuid_count(leaf, 0, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX])) return 0;
  return (int)(regs[word] >> bit & 1);
}

/* Whether the system saves these registers when it switches between programs. */
static int system_saves(unsigned mask) {
  unsigned low, high;
  if (!leaf_has(1, ECX, 27)) return 0; /* OSXSAVE */
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  (void)high;
  return (low & mask) == mask;
}

const char *cpu_problem(void) {
#ifdef BHPE_NEEDS_avx2
  if (!system_saves(0x6)) return "AVX (or the system does not support it)";
  if (!leaf_has(7, EBX, 5)) return "AVX2";
  if (!leaf_has(1, ECX, 12)) return "FMA";
  if (!leaf_has(1, ECX, 29)) return "F16C";
#endif
#ifdef BHPE_NEEDS_avx512f
  if (!system_saves(0xe6) || !leaf_has(7, EBX, 16)) return "AVX-512 (or the system does not support it)";
  if (!leaf_has(7, EBX, 30)) return "AVX512BW";
  if (!leaf_has(7, ECX, 14)) return "AVX512_VPOPCNTDQ";
  if (!leaf_has(7, ECX, 11)) return "AVX512_VNNI";
#endif
  return NULL;
}

#elif defined(__linux__) && (defined(__aarch64__) || defined(__arm__) || defined(__riscv))
#include <sys/auxv.h>

static inline int has(unsigned bit) { return (int)(getauxval(AT_HWCAP) >> bit & 1); }

const char *cpu_problem(void) {
  (void)has; /* a target may need nothing */
#ifdef BHPE_NEEDS_asimd
  if (!has(1)) return "Advanced SIMD";
#endif
#ifdef BHPE_NEEDS_asimdhp
  if (!has(10)) return "half-precision arithmetic (ARMv8.2)";
#endif
#ifdef BHPE_NEEDS_asimddp
  if (!has(20)) return "dot products (ARMv8.2)";
#endif
#ifdef BHPE_NEEDS_neon
  if (!has(12)) return "NEON";
#endif
#ifdef BHPE_NEEDS_vfpv4
  if (!has(16)) return "VFPv4";
#endif
#ifdef BHPE_NEEDS_v
  if (!has('v' - 'a')) return "vectors (V)";
#endif
  return NULL;
}

#else

const char *cpu_problem(void) { return NULL; } /* WebAssembly refuses a module it cannot run */

#endif
