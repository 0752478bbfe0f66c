/* model.h - what tables.c (written by the compiler) tells executor.c, and how TVM's kernels are called.
 * Internal: not part of an artefact. The kernel interface is that of tvm-ffi 0.1 and DLPack 1, restated. */
#ifndef BHPE_MODEL_H
#define BHPE_MODEL_H

#include "bhpe.h"

#define BHPE_HIDDEN __attribute__((visibility("hidden")))

/* ---- kernels ---- */

enum { BHPE_KERNEL_INT = 1, BHPE_KERNEL_TENSOR = 7 }; /* kTVMFFIInt, kTVMFFIDLTensorPtr */

typedef struct { /* TVMFFIAny */
  int32_t type_index;
  uint32_t zero_padding;
  union {
    int64_t as_int;
    void *as_pointer;
  } value;
} kernel_argument;

typedef struct { /* DLTensor */
  void *data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t type, bits;
  uint16_t lanes;
  const int64_t *shape, *strides;
  uint64_t byte_offset;
} kernel_tensor;

typedef int (*kernel_function)(void *self, const kernel_argument *arguments, int32_t count, kernel_argument *result);

/* ---- tables ---- */

typedef struct {
  uint64_t offset, nbytes;
  uint32_t shape; /* index into `shapes` */
  uint8_t ndim, type, bits, constant;
} tensor_entry;

typedef struct {
  kernel_function function;
  const char *symbol, *kind, *layer;
  uint32_t first, count; /* range of `arguments` */
  uint32_t parallel;     /* 1: behind its tensors the function takes the scalars `part` and `parts` */
} step_entry;

typedef struct {
  uint32_t tensor;
  const char *role;
} argument_entry;

typedef struct {
  const char *name;
  uint32_t tensor;
} port_entry;

typedef struct { /* an input that is a picture: value = (pixel / divisor - mean) / deviation, channel by channel */
  int32_t input, bgr;
  double enlarge;
  float divisor, mean[3], deviation[3];
} picture_entry;

typedef struct { /* an input of three numbers that says where the enlarged box is in the frame */
  int32_t input;
  double centre, size_offset, size_scale;
} box_entry;

typedef struct { /* the output that holds keypoints: [count, stride] floats, x and y in cells of a grid first */
  int32_t output, count, stride;
  double across, down; /* pixels of the first picture in a cell */
  const char *const *name;
} keypoint_entry;

typedef struct {
  uint64_t arena_bytes, workspace_bytes, weights_bytes; /* weights without their header */
  uint8_t id[32];
  const char *id_text;
  uint32_t tensors, steps, arguments, inputs, outputs, pictures, boxes;
  uint32_t most_arguments; /* of one step */
  const tensor_entry *tensor;
  const int64_t *shapes;
  const step_entry *step;
  const argument_entry *argument;
  const port_entry *input, *output;
  const picture_entry *picture;
  const box_entry *box;
  keypoint_entry keypoints; /* count 0: there are none */
} program_tables;

extern BHPE_HIDDEN const program_tables bhpe_program;

/* ---- weights.bin: this header, little-endian, then the payload ---- */

#define BHPE_WEIGHTS_MAGIC "BHPEWTS" /* with its NUL: 8 bytes */
#define BHPE_WEIGHTS_VERSION 2

typedef struct {
  char magic[8];
  uint32_t version, header_bytes;
  uint64_t payload_bytes;
  uint8_t id[32];
  uint32_t crc32[2]; /* of the payload's halves, see checksum.c */
} weights_header;

#endif /* BHPE_MODEL_H */
