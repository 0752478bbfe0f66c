/* video.c - the whole way from frames to poses, again and again, in memory that does not grow.
 *
 *     ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | video weights.bin WIDTH HEIGHT
 *     video weights.bin WIDTH HEIGHT FRAMES          made-up frames, to measure with
 *
 * One person is followed by its own joints: each frame's joints give the box that the next frame is run on, moved on as
 * it moved before. A person whose joints jump, shrink or grow beyond what one can do in a frame, or who leaves the
 * picture, is lost, and looked for in the whole frame again. A network without joints gets the whole frame every time.
 *
 * Prints the root rotation and the box of every hundredth frame, then the median and the 99th percentile of the time a
 * frame took and the resident memory after a tenth of the frames and after the last: from /proc, and where a system has
 * none, the largest it ever was. */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#define HAS_USAGE 1
#endif

#include "bhpe.h"

enum { MOST = 1000000, SHOW_EVERY = 100, MOST_JOINTS = 1024 };

static const double MARGIN = 1.25;            /* a box is so much larger than the one around the joints */
static const double PLACE = 0.5, SIZE = 0.2;  /* part of place and size that comes from the joints just found */
static const double SPEED = 0.2;              /* the same of its speed */
static const double JUMP = 0.25, GROWTH = 1.5; /* heights it may move, times it may grow in a frame */

typedef struct { /* a person: middle and size of its box, speed of its middle, all in pixels */
  double x, y, w, h, dx, dy;
  int known, lost;
} person;

static int fail(const char *what) {
  fprintf(stderr, "video: %s\n", what);
  return 1;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Resident memory in kB; 0 where a system does not say. */
static long resident_kb(const char **what) {
  long pages = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  *what = "resident memory";
  if (file && fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
  if (file) fclose(file);
  if (resident) return resident * 4;
#ifdef HAS_USAGE
  struct rusage usage;
  *what = "largest resident memory";
  if (!getrusage(RUSAGE_SELF, &usage)) {
#ifdef __APPLE__
    return usage.ru_maxrss / 1024; /* bytes there, kB elsewhere */
#else
    return usage.ru_maxrss;
#endif
  }
#endif
  return 0;
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

static double smaller(double a, double b) { return a < b ? a : b; }
static double larger(double a, double b) { return a > b ? a : b; }

/* Begin anew, in the whole frame. */
static void begin(person *p, long width, long height) {
  *p = (person){(double)width / 2, (double)height / 2, (double)width, (double)height, 0, 0, 0, p->lost};
}

/* Move to where `count` joints xy are; begin anew where no person can be there. */
static void follow(person *p, const double *xy, int count, long width, long height) {
  double left = xy[0], top = xy[1], right = xy[0], bottom = xy[1];
  for (int i = 0; i < count; i++) {
    if (!isfinite(xy[2 * i]) || !isfinite(xy[2 * i + 1])) return;
    left = smaller(left, xy[2 * i]), right = larger(right, xy[2 * i]);
    top = smaller(top, xy[2 * i + 1]), bottom = larger(bottom, xy[2 * i + 1]);
  }
  double x = (left + right) / 2, y = (top + bottom) / 2;
  double w = MARGIN * larger(right - left, 2), h = MARGIN * larger(bottom - top, 2);
  if (!p->known) {
    *p = (person){x, y, w, h, 0, 0, 1, p->lost};
    return;
  }
  int outside = x < 0 || y < 0 || x > (double)width || y > (double)height;
  if (outside || hypot(x - p->x, y - p->y) > JUMP * p->h || h > GROWTH * p->h || p->h > GROWTH * h) {
    p->lost++;
    begin(p, width, height);
    return;
  }
  double was_x = p->x - p->dx, was_y = p->y - p->dy;
  p->x += PLACE * (x - p->x), p->y += PLACE * (y - p->y);
  p->dx += SPEED * (p->x - was_x - p->dx), p->dy += SPEED * (p->y - was_y - p->dy);
  p->x += p->dx, p->y += p->dy;
  p->w += SIZE * (w - p->w), p->h += SIZE * (h - p->h);
}

int main(int argc, char **argv) {
  bhpe_model *model;
  bhpe_tensor root;
  bhpe_frame frame;
  const char *what;
  static double joints[2 * MOST_JOINTS];
  if (argc != 4 && argc != 5) return fail("usage: video weights.bin WIDTH HEIGHT [FRAMES]");
  long width = strtol(argv[2], NULL, 10), height = strtol(argv[3], NULL, 10);
  long made_up = argc == 5 ? strtol(argv[4], NULL, 10) : -1, count = 0, middle = 0, last = 0;
  if (width < 2 || height < 2 || width > 16384 || height > 16384 || made_up > MOST)
    return fail("a number is out of range");
  size_t bytes = 3 * (size_t)width * (size_t)height;
  unsigned char *rgb = calloc(bytes, 1);
  float *ms = malloc(MOST * sizeof *ms);
  if (!rgb || !ms) return fail("out of memory");
  memset(ms, 1, MOST * sizeof *ms); /* pages that come as they are written would look like growth */
  if (bhpe_create_from_path(argv[1], &model)) return fail(bhpe_last_error());
  bhpe_get_output(model, 0, &root);
  int found = bhpe_joint_count(model);
  if (found > MOST_JOINTS) return fail("more joints than there is room for");
  person who = {0};
  begin(&who, width, height); /* a detector's box, in a real program */
  resident_kb(&what);         /* so are the pages of asking */
  while (count < MOST && next_frame(rgb, bytes, made_up, count)) {
    double start = now_ms();
    const double box[4] = {who.x - who.w / 2, who.y - who.h / 2, who.w, who.h};
    if (bhpe_set_frame(model, rgb, (int32_t)width, (int32_t)height, 3 * width, box, &frame) || bhpe_run(model))
      return fail(bhpe_last_error());
    if (found) {
      if (bhpe_joints(model, &frame, joints)) return fail(bhpe_last_error());
      follow(&who, joints, found, width, height);
    }
    ms[count] = (float)(now_ms() - start);
    if (count % SHOW_EVERY == 0) {
      const float *r = root.data;
      printf("frame %ld: %s %.3f %.3f %.3f, box %.0f,%.0f,%.0f,%.0f\n", count, root.name, (double)r[0], (double)r[1],
             (double)r[2], box[0], box[1], box[2], box[3]);
    }
    count++;
    if (count == (made_up > 0 ? made_up / 10 : SHOW_EVERY)) middle = resident_kb(&what);
  }
  last = resident_kb(&what);
  bhpe_destroy(model);
  if (!count) return fail("no frame");
  qsort(ms, (size_t)count, sizeof *ms, compare);
  printf("%ld frames: p50 %.2f ms, p99 %.2f ms; lost %d times\n", count, (double)ms[count / 2],
         (double)ms[count * 99 / 100], who.lost);
  if (last)
    printf("%s: %ld kB early, %ld kB at the end\n", what, middle, last);
  else
    printf("resident memory: this system does not say\n");
  free(ms);
  free(rgb);
  return 0;
}
