/* create.c - models in memory from the heap. A program that uses bhpe_create_in alone needs nothing of this file: a
 * static library then asks for no allocator and for no files. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>

#include "executor.h"

static void release(bhpe_model *model) {
  weights_memory file = owner_of(model)->file;
  free(model);
  weights_close(&file);
}

int32_t bhpe_create(const void *weights, uint64_t nbytes, bhpe_model **out) {
  uint64_t bytes = bhpe_memory_bytes();
  void *memory = NULL;
  if (!out) return fail(BHPE_BAD_ARGUMENT, "bhpe_create: out is NULL", NULL);
  *out = NULL;
  if (bytes > SIZE_MAX || posix_memalign(&memory, BHPE_ALIGNMENT, (size_t)bytes))
    return fail(BHPE_NO_MEMORY, "bhpe_create: out of memory", NULL);
  int32_t rc = bhpe_create_in(weights, nbytes, memory, bytes, out);
  if (rc != BHPE_OK)
    free(memory);
  else
    owner_of(*out)->release = release;
  return rc;
}

int32_t bhpe_create_embedded(bhpe_model **out) {
  uint64_t bytes;
  const void *weights = bhpe_embedded_weights(&bytes);
  if (out) *out = NULL;
  if (!weights) return fail(BHPE_BAD_WEIGHTS, "this library holds no weights", NULL);
  return bhpe_create(weights, bytes, out);
}

int32_t bhpe_create_from_path(const char *path, bhpe_model **out) {
  if (out) *out = NULL;
  if (!path || !out) return fail(BHPE_BAD_ARGUMENT, "bhpe_create_from_path: NULL argument", NULL);
  weights_memory file;
  const char *problem = weights_open(path, &file);
  if (problem) return fail(problem == weights_too_short ? BHPE_BAD_WEIGHTS : BHPE_IO, problem, path);
  int32_t rc = bhpe_create(file.data, file.nbytes, out);
  if (rc == BHPE_OK)
    owner_of(*out)->file = file;
  else
    weights_close(&file);
  return rc;
}
