/* weights.h - the file of weights in memory: mapped where there is a system that can, read where there is not. */
#ifndef BHPE_WEIGHTS_H
#define BHPE_WEIGHTS_H

#include <stddef.h>

#include "model.h"

typedef struct {
  void *data; /* BHPE_ALIGNMENT-aligned, read only */
  size_t nbytes;
} weights_memory;

extern BHPE_HIDDEN const char weights_too_short[];

/* NULL, or what was wrong (`weights_too_short` for what cannot be weights); then nothing is held. */
BHPE_HIDDEN const char *weights_open(const char *path, weights_memory *out);

/* Release it; one without data is allowed. */
BHPE_HIDDEN void weights_close(weights_memory *memory);

#endif /* BHPE_WEIGHTS_H */
