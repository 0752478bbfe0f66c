/* embedded.c - weights.bin as a part of the library, when BHPE_EMBED is defined. */
#include <stddef.h>

#include "model.h"

#ifdef BHPE_EMBED
static _Alignas(BHPE_ALIGNMENT) const unsigned char embedded[] = {
#embed "weights.bin"
};
enum { EMBEDDED = sizeof embedded };
#else
static const unsigned char *const embedded = NULL;
enum { EMBEDDED = 0 };
#endif

const void *bhpe_embedded_weights(uint64_t *nbytes) {
  if (nbytes) *nbytes = EMBEDDED;
  return embedded;
}
