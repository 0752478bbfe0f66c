/* Calls one kernel in a loop and notes how long every call takes; see timed_kernel.py. */
#define _POSIX_C_SOURCE 200809L
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "model.h"

/* What kernels ask of a runtime: a stack of WORKSPACE bytes, and no threads. */
static _Alignas(64) unsigned char workspace[WORKSPACE];
static uint64_t top;

static void *workspace_alloc(int device, int id, uint64_t bytes, int type, int bits) {
  (void)device, (void)id, (void)type, (void)bits;
  uint64_t start = top, end = start + ((bytes + 63) & ~(uint64_t)63);
  if (end > WORKSPACE) return NULL;
  top = end;
  return workspace + start;
}

static int workspace_free(int device, int id, void *block) {
  (void)device, (void)id;
  top = (uint64_t)((unsigned char *)block - workspace);
  return 0;
}

static int no_threads(void) { return -1; }

void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = workspace_alloc;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = workspace_free;
int (*__TVMBackendParallelLaunch)(void) = no_threads;
int (*__TVMBackendParallelBarrier)(void) = no_threads;
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) { (void)kind, (void)message; }
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind, (void)parts, (void)count;
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* nanoseconds[i] of the i-th of `repeats` calls; the status of the first call that fails, else 0. */
int32_t timed_calls(kernel_function kernel, const kernel_argument *arguments, int32_t count, int32_t repeats,
                    int64_t *nanoseconds) {
  for (int32_t i = 0; i < repeats; i++) {
    kernel_argument result = {0};
    int64_t start = now();
    int status = kernel(NULL, arguments, count, &result);
    nanoseconds[i] = now() - start;
    if (status) return status;
  }
  return 0;
}
