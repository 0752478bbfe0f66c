/* weights.c - see weights.h. */
#define _POSIX_C_SOURCE 200809L
#include "weights.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef __wasi__
#include <sys/mman.h>
#endif

const char weights_too_short[] = "too short to be a weights.bin";

static const char *take(int file, size_t nbytes, weights_memory *out) {
#ifdef __wasi__
  void *data = NULL;
  if (posix_memalign(&data, BHPE_ALIGNMENT, nbytes)) return "no memory for";
  for (size_t done = 0; done < nbytes;) {
    ssize_t count = read(file, (char *)data + done, nbytes - done);
    if (count <= 0) {
      free(data);
      return "cannot read";
    }
    done += (size_t)count;
  }
#else
  void *data = mmap(NULL, nbytes, PROT_READ, MAP_PRIVATE, file, 0);
  if (data == MAP_FAILED) return "cannot map";
#endif
  *out = (weights_memory){data, nbytes};
  return NULL;
}

const char *weights_open(const char *path, weights_memory *out) {
  struct stat status;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return "cannot open";
  const char *problem = NULL;
  if (fstat(file, &status) || !S_ISREG(status.st_mode))
    problem = "not a regular file";
  else if (status.st_size < (off_t)sizeof(weights_header))
    problem = weights_too_short;
  else
    problem = take(file, (size_t)status.st_size, out);
  close(file);
  return problem;
}

void weights_close(weights_memory *memory) {
  if (!memory->data) return;
#ifdef __wasi__
  free(memory->data);
#else
  munmap(memory->data, memory->nbytes);
#endif
}
