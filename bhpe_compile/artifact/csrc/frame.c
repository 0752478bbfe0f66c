/* frame.c - a camera's frame and a person's box -> the network's inputs, and points of the network -> the frame.
 *
 *     The box is cut to the frame (from the centre of its first pixel to that of its last), grows to the input's
 *     proportions, is enlarged about its centre and sampled bilinearly; outside the frame is black. The tables say how
 *     much it is enlarged, what becomes of the values, and which inputs are told where the box was.
 *
 * The same arithmetic, operation by operation, as bhpe_compile/runtime/picture.py: compile it without contraction of
 * multiplications and additions, and the input has the same bits. */
#include <math.h>
#include <stddef.h>

#include "executor.h"

#define TO_WHOLE 12582912.0f /* 1.5 * 2^23: a float of this size has no fraction; adding rounds ties to even */

typedef struct { /* two neighbours along an axis */
  int64_t index[2];
  float weight[2];
} taps;

static double larger(double a, double b) { return a > b ? a : b; } /* libm's are calls, and want libm */
static double smaller(double a, double b) { return a < b ? a : b; }

static taps taps_at(double position, int32_t size) { /* a few widths of a frame at most */
  int64_t below = (int64_t)position - (position < (double)(int64_t)position);
  double fraction = position - (double)below;
  taps t;
  for (int i = 0; i < 2; i++) {
    int64_t at = below + i;
    int inside = at >= 0 && at < size;
    t.index[i] = at < 0 ? 0 : at < size ? at : size - 1;
    t.weight[i] = inside ? (float)(i ? fraction : 1 - fraction) : 0.0f;
  }
  return t;
}

typedef struct { /* x, y, width, height of a person's box inside the frame */
  double x, y, w, h;
} box_in_frame;

static const char *inside(int32_t width, int32_t height, const double *box, box_in_frame *out) {
  const double whole[4] = {0, 0, width, height};
  if (!box) box = whole;
  for (int i = 0; i < 4; i++)
    if (!isfinite(box[i])) return "the box is not four finite numbers";
  if (box[2] <= 0 || box[3] <= 0) return "the box has no size";
  double left = larger(0, box[0]), top = larger(0, box[1]);
  double right = smaller(width - 1, box[0] + box[2] - 1), bottom = smaller(height - 1, box[1] + box[3] - 1);
  if (right <= left || bottom <= top) return "the box lies outside the frame";
  *out = (box_in_frame){left, top, right - left, bottom - top};
  return NULL;
}

static bhpe_frame place(const box_in_frame *box, double enlarge, int64_t rows, int64_t columns) {
  bhpe_frame out;
  out.scale = enlarge * larger(box->w / (double)columns, box->h / (double)rows);
  out.x = box->x + box->w / 2 - out.scale * (double)columns / 2;
  out.y = box->y + box->h / 2 - out.scale * (double)rows / 2;
  return out;
}

enum { RGB = 3, RGBA = 4 }; /* bytes of a pixel */
enum { AT_ONCE = 64 };      /* columns that are computed together: their pixels and weights are held on the stack */
enum { LEVELS = 256 };

#ifdef BHPE_NEEDS_avx2 /* bhpe_create has seen to it; everything else is built for any processor of the family */
#define VECTORS __attribute__((target("avx2")))
#else
#define VECTORS
#endif

typedef struct { /* of AT_ONCE columns: where their two neighbours are in a row, in bytes, and how much each counts */
  ptrdiff_t offset[2][AT_ONCE];
  float weight[2][AT_ONCE];
} column_taps;

typedef struct { /* of one row of the frame: both neighbours of AT_ONCE columns, channel by channel */
  int64_t row;   /* -1: none yet */
  uint8_t pixel[2][3][AT_ONCE];
} row_pixels;

static inline void find_columns(const bhpe_frame *frame, int32_t width, int32_t bytes, int64_t first, int64_t count,
                                column_taps *out) {
  for (int64_t k = 0; k < count; k++) {
    taps across = taps_at(frame->x + frame->scale * (double)(first + k), width);
    for (int j = 0; j < 2; j++) {
      out->offset[j][k] = (ptrdiff_t)(across.index[j] * bytes);
      out->weight[j][k] = across.weight[j];
    }
  }
}

static inline void read_row(const uint8_t *row, const column_taps *across, int64_t count, uint8_t out[2][3][AT_ONCE]) {
  for (int j = 0; j < 2; j++)
    for (int64_t k = 0; k < count; k++) {
      const uint8_t *pixel = row + across->offset[j][k];
      for (int c = 0; c < 3; c++) out[j][c][k] = pixel[c];
    }
}

/* Four pixels times their weights, channel by channel: whole levels. */
static inline void add_pixels(const row_pixels *const near[2], const float down[2], const column_taps *across,
                              int64_t count, int32_t level[3][AT_ONCE]) {
  for (int c = 0; c < 3; c++) {
    const uint8_t *a = near[0]->pixel[0][c], *b = near[0]->pixel[1][c];
    const uint8_t *d = near[1]->pixel[0][c], *e = near[1]->pixel[1][c];
    for (int64_t k = 0; k < count; k++) {
      const float left = across->weight[0][k], right = across->weight[1][k];
      float sum = (float)a[k] * (down[0] * left) + (float)b[k] * (down[0] * right);
      sum = sum + (float)d[k] * (down[1] * left);
      sum = sum + (float)e[k] * (down[1] * right);
      sum = sum < 255.0f ? sum : 255.0f; /* four rounded weights may sum to a little more than 1 */
      level[c][k] = (int32_t)((sum + TO_WHOLE) - TO_WHOLE);
    }
  }
}

/* The value of the input that every level of each of its channels becomes. */
static inline void find_values(const picture_entry *picture, float value[3][LEVELS]) {
  for (int c = 0; c < 3; c++)
    for (int32_t k = 0; k < LEVELS; k++)
      value[c][k] = ((float)k / picture->divisor - picture->mean[c]) / picture->deviation[c];
}

VECTORS static void sample(const uint8_t *pixels, int32_t bytes, int32_t width, int32_t height, int64_t stride,
                           const bhpe_frame *frame, const picture_entry *picture, float *out, int64_t rows,
                           int64_t columns) {
  column_taps across;
  row_pixels kept[2]; /* the two rows of the frame that were read last, by the parity of their number */
  float value[3][LEVELS];
  int32_t level[3][AT_ONCE];
  find_values(picture, value);
  for (int64_t first = 0; first < columns; first += AT_ONCE) {
    int64_t count = columns - first < AT_ONCE ? columns - first : AT_ONCE;
    find_columns(frame, width, bytes, first, count, &across);
    kept[0].row = kept[1].row = -1;
    for (int64_t y = 0; y < rows; y++) {
      taps down = taps_at(frame->y + frame->scale * (double)y, height);
      const row_pixels *near[2];
      for (int i = 0; i < 2; i++) {
        row_pixels *held = &kept[down.index[i] & 1];
        if (held->row != down.index[i]) {
          held->row = down.index[i];
          read_row(pixels + held->row * stride, &across, count, held->pixel);
        }
        near[i] = held;
      }
      add_pixels(near, down.weight, &across, count, level);
      for (int c = 0; c < 3; c++) {
        float *at = out + c * rows * columns + y * columns + first;
        const int32_t *from = level[picture->bgr ? 2 - c : c];
        for (int64_t k = 0; k < count; k++) at[k] = value[c][from[k]];
      }
    }
  }
}

static void tell_box(const box_entry *entry, const box_in_frame *box, double size, int32_t width, int32_t height,
                     double focal, float *out) {
  double f = focal > 0 ? focal : sqrt((double)width * width + (double)height * height);
  out[0] = (float)(entry->centre * (box->x + box->w / 2 - (double)width / 2) / f);
  out[1] = (float)(entry->centre * (box->y + box->h / 2 - (double)height / 2) / f);
  out[2] = (float)((size - entry->size_offset * f) / (entry->size_scale * f));
}

static int32_t set_frame(bhpe_model *model, const uint8_t *pixels, int32_t bytes, int32_t width, int32_t height,
                         int64_t stride, const double *box, bhpe_frame *frame) {
  bhpe_tensor input;
  box_in_frame person;
  int32_t rc = bhpe_get_input(model, 0, &input);
  if (rc) return rc;
  if (!pixels) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_frame: the frame is NULL", NULL);
  if (!bhpe_program.pictures) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_frame: the model takes no picture", NULL);
  if (width < 2 || height < 2) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_frame: the frame is too small", NULL);
  if (stride < bytes * (int64_t)width) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_frame: stride is shorter than a row", NULL);
  const char *problem = inside(width, height, box, &person);
  if (problem) return fail(BHPE_BAD_ARGUMENT, problem, NULL);
  double size = 0;
  for (uint32_t i = 0; i < bhpe_program.pictures; i++) {
    const picture_entry *picture = &bhpe_program.picture[i];
    bhpe_get_input(model, picture->input, &input);
    bhpe_frame here = place(&person, picture->enlarge, input.shape[2], input.shape[3]);
    sample(pixels, bytes, width, height, stride, &here, picture, input.data, input.shape[2], input.shape[3]);
    if (i) continue;
    size = here.scale * (double)input.shape[2];
    if (frame) *frame = here;
  }
  for (uint32_t i = 0; i < bhpe_program.boxes; i++) {
    bhpe_get_input(model, bhpe_program.box[i].input, &input);
    tell_box(&bhpe_program.box[i], &person, size, width, height, *focal_of(model), input.data);
  }
  return BHPE_OK;
}

int32_t bhpe_set_frame(bhpe_model *model, const uint8_t *rgb, int32_t width, int32_t height, int64_t stride,
                       const double *box, bhpe_frame *frame) {
  return set_frame(model, rgb, RGB, width, height, stride, box, frame);
}

int32_t bhpe_set_frame_rgba(bhpe_model *model, const uint8_t *rgba, int32_t width, int32_t height, int64_t stride,
                            const double *box, bhpe_frame *frame) {
  return set_frame(model, rgba, RGBA, width, height, stride, box, frame);
}

int32_t bhpe_set_focal(bhpe_model *model, double focal) {
  if (!model) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_focal: the model is NULL", NULL);
  if (!isfinite(focal) || focal < 0) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_focal: not a focal length in pixels", NULL);
  *focal_of(model) = focal;
  return BHPE_OK;
}

void bhpe_to_frame(const bhpe_frame *frame, double *x, double *y) {
  if (!frame || !x || !y) return;
  *x = *x * frame->scale + frame->x;
  *y = *y * frame->scale + frame->y;
}

int32_t bhpe_joint_count(const bhpe_model *model) { return model ? bhpe_program.keypoints.count : 0; }

const char *bhpe_joint_name(const bhpe_model *model, int32_t index) {
  return index >= 0 && index < bhpe_joint_count(model) ? bhpe_program.keypoints.name[index] : NULL;
}

int32_t bhpe_joints(const bhpe_model *model, const bhpe_frame *frame, double *xy) {
  const keypoint_entry *keypoints = &bhpe_program.keypoints;
  bhpe_tensor found;
  if (!model || !frame || !xy) return fail(BHPE_BAD_ARGUMENT, "bhpe_joints: a NULL argument", NULL);
  if (!keypoints->count) return fail(BHPE_BAD_ARGUMENT, "bhpe_joints: the network has no keypoints", NULL);
  int32_t rc = bhpe_get_output(model, keypoints->output, &found);
  if (rc) return rc;
  const float *cell = found.data;
  for (int32_t i = 0; i < keypoints->count; i++, cell += keypoints->stride) {
    xy[2 * i] = (double)cell[0] * keypoints->across;
    xy[2 * i + 1] = (double)cell[1] * keypoints->down;
    bhpe_to_frame(frame, &xy[2 * i], &xy[2 * i + 1]);
  }
  return BHPE_OK;
}
