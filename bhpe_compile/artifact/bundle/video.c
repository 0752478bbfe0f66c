/* video.c - the whole way from frames to poses, again and again, in memory that does not grow.
 *
 *     ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | video weights.bin WIDTH HEIGHT
 *     video weights.bin WIDTH HEIGHT FRAMES          made-up frames, to measure with
 *
 * Prints the root rotation of every hundredth frame, then the median and the 99th percentile of the time a frame took
 * and the resident memory after a tenth of the frames and after the last. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bhpe.h"

enum { MOST = 1000000, SHOW_EVERY = 100 };

static int fail(const char *what) {
  fprintf(stderr, "video: %s\n", what);
  return 1;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static long resident_kb(void) {
  long pages = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file && fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
  if (file) fclose(file);
  return resident * 4;
}

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* A frame from stdin, or the next of the made-up ones. */
static int next_frame(unsigned char *rgb, size_t bytes, long made_up, long number) {
  if (made_up < 0) return fread(rgb, 1, bytes, stdin) == bytes;
  if (number >= made_up) return 0;
  for (size_t i = 0; i < bytes; i += 97) rgb[i] = (unsigned char)(i * 31 + (size_t)number * 7);
  return 1;
}

int main(int argc, char **argv) {
  bhpe_model *model;
  bhpe_tensor root;
  if (argc != 4 && argc != 5) return fail("usage: video weights.bin WIDTH HEIGHT [FRAMES]");
  long width = strtol(argv[2], NULL, 10), height = strtol(argv[3], NULL, 10);
  long made_up = argc == 5 ? strtol(argv[4], NULL, 10) : -1, count = 0, middle = 0, last = 0;
  if (width < 2 || height < 2 || width > 16384 || height > 16384 || made_up > MOST) return fail("a number is out of range");
  size_t bytes = 3 * (size_t)width * (size_t)height;
  unsigned char *rgb = calloc(bytes, 1);
  float *ms = malloc(MOST * sizeof *ms);
  if (!rgb || !ms) return fail("out of memory");
  memset(ms, 1, MOST * sizeof *ms); /* pages that come as they are written would look like growth */
  if (bhpe_create_from_path(argv[1], &model)) return fail(bhpe_last_error());
  bhpe_get_output(model, 0, &root);
  const double box[4] = {width * 0.1, height * 0.05, width * 0.8, height * 0.9}; /* a detector's, in a real program */
  resident_kb(); /* so are the pages of asking */
  while (count < MOST && next_frame(rgb, bytes, made_up, count)) {
    double start = now_ms();
    if (bhpe_set_frame(model, rgb, (int32_t)width, (int32_t)height, 3 * width, box, NULL) || bhpe_run(model))
      return fail(bhpe_last_error());
    ms[count] = (float)(now_ms() - start);
    if (count % SHOW_EVERY == 0) {
      const float *r = root.data;
      printf("frame %ld: %s %.3f %.3f %.3f\n", count, root.name, (double)r[0], (double)r[1], (double)r[2]);
    }
    count++;
    if (count == (made_up > 0 ? made_up / 10 : SHOW_EVERY)) middle = resident_kb();
  }
  last = resident_kb();
  bhpe_destroy(model);
  if (!count) return fail("no frame");
  qsort(ms, (size_t)count, sizeof *ms, compare);
  printf("%ld frames: p50 %.2f ms, p99 %.2f ms\n", count, (double)ms[count / 2], (double)ms[count * 99 / 100]);
  printf("resident memory: %ld kB early, %ld kB at the end\n", middle, last);
  free(ms);
  free(rgb);
  return 0;
}
