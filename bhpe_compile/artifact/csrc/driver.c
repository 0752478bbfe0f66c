/* driver.c - a model as a program of its own: no Python, no shared library, nothing installed.
 *
 *     driver weights.bin REQUEST RESPONSE          verification session, see session.h
 *     driver weights.bin --raw FOLDER INPUT...     inputs from raw files, outputs to FOLDER/NAME.bin
 *     driver weights.bin --time RUNS [INPUT...]    microseconds of a run: median, fastest, 90th percentile; inputs from
 *                                                  raw files, zeros where none are named
 *
 * Behind each of them `--threads N`: on N threads instead of one.
 *
 * Exit status: 0, 1 when something failed (a line on stderr says what), 2 for a wrong command line. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

static int fail(const char *what) {
  fprintf(stderr, "driver: %s\n", what);
  return 1;
}

static int set_input(bhpe_model *model, int32_t index, const char *path) {
  bhpe_tensor input;
  uint64_t bytes = 0;
  if (bhpe_get_input(model, index, &input)) return fail(bhpe_last_error());
  unsigned char *data = session_read_file(path, &bytes);
  int good = data && bytes == input.nbytes;
  if (good) memcpy(input.data, data, (size_t)bytes);
  free(data);
  return good ? 0 : fail("an input file cannot be read or has the wrong size");
}

static int write_output(bhpe_model *model, int32_t index, const char *folder) {
  bhpe_tensor output;
  char path[4096];
  if (bhpe_get_output(model, index, &output)) return fail(bhpe_last_error());
  if (snprintf(path, sizeof path, "%s/%s.bin", folder, output.name) >= (int)sizeof path) return fail("path too long");
  FILE *file = fopen(path, "wb");
  int good = file && fwrite(output.data, 1, (size_t)output.nbytes, file) == output.nbytes;
  if (file && fclose(file)) good = 0;
  return good ? 0 : fail("an output file cannot be written");
}

static int set_inputs(bhpe_model *model, char **paths, int count) {
  if (count != bhpe_input_count(model)) return fail("the number of input files is not the model's number of inputs");
  for (int i = 0; i < count; i++)
    if (set_input(model, i, paths[i])) return 1;
  return 0;
}

static int run_raw(bhpe_model *model, const char *folder, char **inputs, int count) {
  if (set_inputs(model, inputs, count)) return 1;
  if (bhpe_run(model)) return fail(bhpe_last_error());
  for (int i = 0; i < bhpe_output_count(model); i++)
    if (write_output(model, i, folder)) return 1;
  return 0;
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int measure(bhpe_model *model, long runs, char **inputs, int count) {
  if (count && set_inputs(model, inputs, count)) return 1;
  if (runs < 1 || runs > 1000000) return fail("RUNS must be from 1 to 1000000");
  double *us = malloc((size_t)runs * sizeof *us);
  int failed = !us || bhpe_run(model); /* the first run warms caches and is not counted */
  for (long i = 0; i < runs && !failed; i++) {
    double start = now_us();
    failed = bhpe_run(model);
    us[i] = now_us() - start;
  }
  if (!failed) {
    qsort(us, (size_t)runs, sizeof *us, compare);
    printf("median %.1f fastest %.1f p90 %.1f\n", us[runs / 2], us[0], us[(runs - 1) * 9 / 10]);
  }
  free(us);
  return failed ? fail(bhpe_last_error()) : 0;
}

/* Takes `--threads N` off the end of the command line; 1 without it, 0 for what is no number. */
static int32_t take_threads(int *argc, char **argv) {
  char *end;
  if (*argc < 3 || strcmp(argv[*argc - 2], "--threads")) return 1;
  long threads = strtol(argv[*argc - 1], &end, 10);
  *argc -= 2;
  return *end || threads < 1 || threads > BHPE_MOST_THREADS ? 0 : (int32_t)threads;
}

int main(int argc, char **argv) {
  bhpe_model *model;
  int32_t threads = take_threads(&argc, argv);
  int raw = argc >= 4 && !strcmp(argv[2], "--raw"), timed = argc >= 4 && !strcmp(argv[2], "--time");
  if (!raw && !timed && argc != 4) {
    fprintf(stderr, "usage: %s WEIGHTS (REQUEST RESPONSE | --raw FOLDER INPUT... | --time RUNS [INPUT...]) [--threads N]\n",
            argv[0]);
    return 2;
  }
  if (bhpe_create_from_path(argv[1], &model)) return fail(bhpe_last_error());
  if (bhpe_set_checks(model, BHPE_CHECK_WEIGHTS | BHPE_CHECK_OUTPUTS) || bhpe_set_threads(model, threads)) {
    bhpe_destroy(model);
    return fail(bhpe_last_error());
  }
  int failed = raw     ? run_raw(model, argv[3], argv + 4, argc - 4)
               : timed ? measure(model, strtol(argv[3], NULL, 10), argv + 4, argc - 4)
                       : session_run(model, argv[2], argv[3]);
  bhpe_destroy(model);
  return failed;
}
