/* main.c - a program with the model in it: reads weights.bin and a picture, prints where the joints are in it, and what
 * the network returned.
 *
 *     main weights.bin picture.ppm       binary PPM, 8 bits: `ffmpeg -i photo.jpg picture.ppm` makes one
 *
 * The person fills the picture. Memory is asked for once, here; the model allocates nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "bhpe.h"

static unsigned char *read_all(const char *path, uint64_t *nbytes) {
  FILE *file = fopen(path, "rb");
  unsigned char *data = NULL;
  long size = -1;
  if (file && !fseek(file, 0, SEEK_END) && (size = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET)) {
    size_t room = ((size_t)size / BHPE_ALIGNMENT + 1) * BHPE_ALIGNMENT;
    data = aligned_alloc(BHPE_ALIGNMENT, room);
    if (data && fread(data, 1, (size_t)size, file) != (size_t)size) {
      free(data);
      data = NULL;
    }
  }
  if (file) fclose(file);
  *nbytes = (uint64_t)size;
  return data;
}

/* The pixels of "P6 WIDTH HEIGHT 255 ...", or NULL. */
static const unsigned char *ppm_pixels(const unsigned char *data, uint64_t nbytes, int *width, int *height) {
  char header[64] = {0};
  int most = 0, start = 0;
  for (uint64_t i = 0; i < nbytes && i < sizeof header - 1; i++) header[i] = (char)data[i];
  if (sscanf(header, "P6 %d %d %d%n", width, height, &most, &start) != 3 || most != 255) return NULL;
  if (*width < 1 || *height < 1 || *width > 16384 || *height > 16384) return NULL;
  start++; /* one white space ends the header */
  return nbytes >= (uint64_t)start + 3 * (uint64_t)*width * (uint64_t)*height ? data + start : NULL;
}

static int fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  return 1;
}

int main(int argc, char **argv) {
  uint64_t weights_bytes, picture_bytes, memory_bytes = bhpe_memory_bytes();
  bhpe_model *model;
  bhpe_frame frame;
  bhpe_tensor tensor;
  int width, height;
  if (argc != 3) return fail("usage: main weights.bin picture.ppm");
  unsigned char *weights = read_all(argv[1], &weights_bytes), *picture = read_all(argv[2], &picture_bytes);
  void *memory = aligned_alloc(BHPE_ALIGNMENT, (size_t)memory_bytes);
  if (!weights || !picture || !memory) return fail("a file cannot be read, or memory is out");
  if (bhpe_create_in(weights, weights_bytes, memory, memory_bytes, &model)) return fail(bhpe_last_error());
  const unsigned char *rgb = ppm_pixels(picture, picture_bytes, &width, &height);
  if (!rgb) return fail("the picture is no binary PPM of 8 bits");
  if (bhpe_set_frame(model, rgb, width, height, 3 * (int64_t)width, NULL, &frame) || bhpe_run(model))
    return fail(bhpe_last_error());
  int32_t joints = bhpe_joint_count(model);
  double *xy = malloc((size_t)(joints + 1) * 2 * sizeof *xy);
  if (!xy || (joints && bhpe_joints(model, &frame, xy))) return fail(xy ? bhpe_last_error() : "out of memory");
  for (int32_t i = 0; i < joints; i++) printf("joint %s: %.1f %.1f\n", bhpe_joint_name(model, i), xy[2 * i], xy[2 * i + 1]);
  for (int32_t i = 0; i < bhpe_output_count(model); i++) {
    bhpe_get_output(model, i, &tensor);
    printf("%s:", tensor.name);
    for (uint64_t k = 0; k < tensor.nbytes / sizeof(float); k++) printf(" %g", ((const float *)tensor.data)[k]);
    printf("\n");
  }
  bhpe_destroy(model);
  free(xy);
  free(memory);
  free(picture);
  free(weights);
  return 0;
}
