/* checksum.c - see checksum.h. Eight bytes a step from eight tables, in both halves at once: a step has to wait for the
 * one before it in its own half only. */
#include "checksum.h"

#include <string.h>

enum { TABLES = 8 };

#define POLYNOMIAL 0xedb88320u /* of CRC-32 as in ISO-HDLC, zip and zlib, its lowest power in the highest bit */

typedef uint32_t crc_tables[TABLES][256];

static void make_tables(crc_tables table) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
    table[0][i] = crc;
  }
  for (int k = 1; k < TABLES; k++)
    for (uint32_t i = 0; i < 256; i++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
}

static uint32_t step(const crc_tables table, uint32_t crc, const unsigned char *bytes) {
  uint32_t low, high;
  memcpy(&low, bytes, sizeof low);
  memcpy(&high, bytes + sizeof low, sizeof high);
  low ^= crc;
  return table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
         table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
}

static uint32_t rest(const crc_tables table, uint32_t crc, const unsigned char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) crc = crc >> 8 ^ table[0][(crc ^ bytes[i]) & 255];
  return ~crc;
}

void checksum_halves(const void *data, size_t nbytes, uint32_t crc32[2]) {
  crc_tables table;
  const unsigned char *bytes = data;
  size_t half = nbytes / (2 * TABLES) * TABLES;
  uint32_t first = ~0u, second = ~0u;
  make_tables(table);
  for (size_t i = 0; i < half; i += TABLES) {
    first = step(table, first, bytes + i);
    second = step(table, second, bytes + half + i);
  }
  crc32[0] = ~first;
  crc32[1] = rest(table, second, bytes + 2 * half, nbytes - 2 * half);
}
