/* embedded.c - weights.bin as a part of the library, when BHPE_EMBED is defined. */
#include "weights.h"

#ifdef BHPE_EMBED
_Alignas(BHPE_ALIGNMENT) const unsigned char bhpe_embedded[] = {
#embed "weights.bin"
};
const uint64_t bhpe_embedded_bytes = sizeof bhpe_embedded;
#else
const unsigned char bhpe_embedded[1];
const uint64_t bhpe_embedded_bytes = 0;
#endif
