/* fuzz.c - thousands of damaged weights and requests in one process, which is built with sanitizers.
 *
 *     fuzz weights.bin REQUEST SEED RUNS          prints how many were accepted and refused */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

static uint64_t state;

static uint64_t draw(uint64_t below) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % below;
}

/* A copy of `size` bytes with a few of them changed, cut or followed by noise; aligned as weights must be, or not. */
static unsigned char *damaged(const unsigned char *sound, uint64_t size, uint64_t *length, unsigned char **block) {
  uint64_t more = draw(4) ? 0 : draw(100), offset = draw(8) ? 0 : draw(64), head = draw(2) ? 64 : size;
  *length = draw(4) ? size + more : draw(size + 1);
  *block = aligned_alloc(64, (size + more + 64 + 63) / 64 * 64);
  unsigned char *data = *block + offset;
  for (uint64_t i = 0; i < size + more; i++) data[i] = i < size ? sound[i] : (unsigned char)draw(256);
  for (uint64_t i = draw(6); i; i--) {
    uint64_t at = draw(head < size ? head : size);
    data[at] = draw(3) ? (unsigned char)(data[at] ^ (1u << draw(8))) : (unsigned char)(draw(2) ? 255 : draw(256));
  }
  /* what lies behind the end must not be read: a block of exactly that size shows it */
  unsigned char *exact = offset ? NULL : aligned_alloc(64, *length ? (*length + 63) / 64 * 64 : 64);
  if (exact) {
    memcpy(exact, data, *length);
    free(*block);
    *block = data = exact;
  }
  return data;
}

static int weights_once(const unsigned char *sound, uint64_t size) {
  uint64_t length;
  unsigned char *block, *data = damaged(sound, size, &length, &block), *arena = NULL;
  bhpe_model *model = NULL;
  int status;
  if (draw(2)) {
    status = bhpe_create(data, length, &model);
  } else {
    uint64_t needed = bhpe_memory_bytes(), given = draw(2) ? needed : draw(needed + 100);
    arena = aligned_alloc(64, (given + 127) / 64 * 64);
    status = bhpe_create_in(data, length, arena + draw(4) / 3, given, &model);
  }
  int accepted = status == BHPE_OK;
  if (accepted != (model != NULL) || (!accepted && !*bhpe_last_error())) abort();
  if (model) {
    if (bhpe_run(model) != BHPE_OK) abort();
    bhpe_destroy(model);
  }
  free(arena);
  free(block);
  return accepted;
}

static int request_once(bhpe_model *model, const unsigned char *sound, uint64_t size) {
  uint64_t length;
  unsigned char *block, *data = damaged(sound, size, &length, &block);
  FILE *file = fopen("fuzzed", "wb");
  if (!file || fwrite(data, 1, length, file) != length || fclose(file)) abort();
  free(block);
  return session_run(model, "fuzzed", "answer") == 0;
}

int main(int argc, char **argv) {
  uint64_t size = 0, asked = 0, accepted[2] = {0, 0};
  bhpe_model *model;
  if (argc != 5) return 2;
  unsigned char *weights = session_read_file(argv[1], &size), *request = session_read_file(argv[2], &asked);
  long runs = strtol(argv[4], NULL, 10);
  state = strtoull(argv[3], NULL, 10) * 2654435769u + 1;
  if (!weights || !request || bhpe_create(weights, size, &model) != BHPE_OK) return 1;
  if (!freopen("complaints", "w", stderr)) return 1;
  for (long i = 0; i < runs; i++) accepted[0] += (uint64_t)weights_once(weights, size);
  for (long i = 0; i < runs / 10; i++) accepted[1] += (uint64_t)request_once(model, request, asked);
  printf("%llu %llu\n", (unsigned long long)accepted[0], (unsigned long long)accepted[1]);
  bhpe_destroy(model);
  free(weights);
  free(request);
  return 0;
}
