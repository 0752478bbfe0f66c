/* checksum.h - the checksums of the weights. */
#ifndef BHPE_CHECKSUM_H
#define BHPE_CHECKSUM_H

#include <stddef.h>

#include "model.h"

/* CRC-32 of the first `nbytes / 16 * 8` bytes, and of all others. */
BHPE_HIDDEN void checksum_halves(const void *data, size_t nbytes, uint32_t crc32[2]);

#endif /* BHPE_CHECKSUM_H */
