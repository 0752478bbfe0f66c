/* bhpe.h - the C interface of a compiled model (model.so and weights.bin).
 *
 *     bhpe_model *model;
 *     bhpe_tensor input, pose;
 *     if (bhpe_create_from_path("weights.bin", &model) != BHPE_OK) return fail(bhpe_last_error());
 *     bhpe_get_input(model, 0, &input);
 *     fill((float *)input.data);                        // or bhpe_set_frame, which knows how
 *     if (bhpe_run(model) != BHPE_OK) return fail(bhpe_last_error());
 *     bhpe_get_output(model, 0, &pose);                 // read pose.data
 *     bhpe_destroy(model);
 *
 * Threads: models are independent of each other; any number may run at the same time. One model is used by one
 * thread at a time; a second bhpe_run meanwhile is refused with BHPE_BUSY. bhpe_set_threads gives a model threads of
 * its own to share its work with; outputs do not depend on their number. Every function that can fail returns
 * BHPE_OK or a negative bhpe_status and leaves a sentence for bhpe_last_error. Memory is allocated by the create
 * functions and bhpe_set_threads only, and not at all with bhpe_create_in. A NULL argument is an error, never a crash;
 * a pointer to anything else than a live model is not detected. Valid C99 and C++.
 */
#ifndef BHPE_H
#define BHPE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BHPE_ABI_VERSION 6
#define BHPE_ALIGNMENT 64 /* bytes; of weights in memory and of every tensor */
#define BHPE_API __attribute__((visibility("default")))

typedef struct bhpe_model bhpe_model;

typedef enum bhpe_status {
  BHPE_OK = 0,
  BHPE_BAD_ARGUMENT = -1, /* NULL, or a number out of range */
  BHPE_BAD_WEIGHTS = -2,  /* not the weights this library was built for, truncated, damaged, or misaligned */
  BHPE_NO_MEMORY = -3,    /* or no more threads */
  BHPE_IO = -4,     /* the file cannot be opened or mapped */
  BHPE_KERNEL = -5, /* a kernel reported an error */
  BHPE_BUSY = -6,   /* the model is running in another thread */
  BHPE_BAD_CPU = -7, /* the processor lacks instructions that the library uses */
  BHPE_NOT_FINITE = -8 /* an output holds NaN or infinity (BHPE_CHECK_OUTPUTS) */
} bhpe_status;

typedef enum bhpe_type { BHPE_INT = 0, BHPE_UINT = 1, BHPE_FLOAT = 2, BHPE_BOOL = 6 } bhpe_type;

/* A dense tensor in row-major order, owned by its model. */
typedef struct bhpe_tensor {
  const char *name;     /* of the input or output; for arguments of a step, their role in it */
  void *data;           /* BHPE_ALIGNMENT-aligned, valid until bhpe_destroy; do not write when `constant` */
  const int64_t *shape; /* ndim extents */
  uint64_t nbytes;
  uint64_t offset;  /* bytes from the start of the arena, or of the weights when `constant` */
  int32_t ndim;
  int32_t type;     /* bhpe_type */
  int32_t bits;     /* of one element: 8, 16, 32, 64 */
  int32_t constant; /* 1: part of the weights */
  int32_t id;       /* the same for every mention of one tensor */
} bhpe_tensor;

/* BHPE_ABI_VERSION of the library; compare it before anything else. */
BHPE_API int32_t bhpe_abi_version(void);

/* 64 lower-case hexadecimal digits that name the model; weights.bin carries the same. */
BHPE_API const char *bhpe_model_id(void);

/* Make a model from the contents of weights.bin in memory: aligned, not copied, must outlive the model. */
BHPE_API int32_t bhpe_create(const void *weights, uint64_t nbytes, bhpe_model **out);

/* Bytes of memory that a model needs besides its weights, and a model in memory of the caller's: BHPE_ALIGNMENT-aligned,
 * at least as many bytes, untouched until bhpe_destroy, which leaves it to the caller. Nothing is allocated then or
 * later, unless bhpe_set_threads is called. */
BHPE_API uint64_t bhpe_memory_bytes(void);
BHPE_API int32_t bhpe_create_in(const void *weights, uint64_t nbytes, void *memory, uint64_t memory_bytes,
                                bhpe_model **out);

/* The weights that are part of a library compiled with `--embed-weights`, and a model with them; NULL, and
 * BHPE_BAD_WEIGHTS, in every other library. */
BHPE_API const void *bhpe_embedded_weights(uint64_t *nbytes);
BHPE_API int32_t bhpe_create_embedded(bhpe_model **out);

/* Make a model from the file, mapped read-only: several processes share its pages. */
BHPE_API int32_t bhpe_create_from_path(const char *path, bhpe_model **out);

/* Release everything; NULL is allowed. The model must not be running. */
BHPE_API void bhpe_destroy(bhpe_model *model);

/* What a model checks besides its arguments: a sum of these flags, 0 at first. Create compares the header of the weights
 * and their size, not their bytes.
 *
 * BHPE_CHECK_WEIGHTS  compares every byte of the weights with the checksums in weights.bin, in this call: BHPE_BAD_WEIGHTS
 *                     where one differs; the model must not be run then. It takes about as long as reading them once.
 * BHPE_CHECK_OUTPUTS  bhpe_run returns BHPE_NOT_FINITE, from now on, where an output holds NaN or infinity; all outputs
 *                     are computed and can be read all the same. */
#define BHPE_CHECK_WEIGHTS 1
#define BHPE_CHECK_OUTPUTS 2
BHPE_API int32_t bhpe_set_checks(bhpe_model *model, int32_t checks);

/* Numbers of inputs and outputs; 0 for NULL. */
BHPE_API int32_t bhpe_input_count(const bhpe_model *model);
BHPE_API int32_t bhpe_output_count(const bhpe_model *model);

/* Describe one of them. Inputs are written before bhpe_run and keep their values; outputs are valid after it. */
BHPE_API int32_t bhpe_get_input(const bhpe_model *model, int32_t index, bhpe_tensor *out);
BHPE_API int32_t bhpe_get_output(const bhpe_model *model, int32_t index, bhpe_tensor *out);

/* Where the network's input lies in a frame: pixel (i, j) of it is (x + i * scale, y + j * scale) of the frame. */
typedef struct bhpe_frame {
  double x, y, scale;
} bhpe_frame;

/* Fill the inputs from a frame of 8-bit RGB, rows `stride` bytes apart, and the box of the person in it: x, y, width,
 * height in pixels, or NULL for the whole frame. The box is cut to the frame (from the centre of its first pixel to that
 * of its last; one outside is BHPE_BAD_ARGUMENT), grows at its shorter side to the input's proportions, is enlarged about
 * its centre by the factor that manifest.json calls `enlarge`, and sampled bilinearly; outside the frame is black. Inputs
 * that are neither a picture nor the place of its box keep their values. `frame`, or NULL, says how to get back from the
 * first picture. Nothing is allocated. */
BHPE_API int32_t bhpe_set_frame(bhpe_model *model, const uint8_t *rgb, int32_t width, int32_t height, int64_t stride,
                                const double *box, bhpe_frame *frame);

/* The same for a frame of four bytes a pixel, as cameras and canvases give it: R, G, B, and one that is not read. */
BHPE_API int32_t bhpe_set_frame_rgba(bhpe_model *model, const uint8_t *rgba, int32_t width, int32_t height,
                                     int64_t stride, const double *box, bhpe_frame *frame);

/* The focal length of the frames to come, in pixels, for networks that are told where the box is in the picture: it is
 * part of what bhpe_set_frame tells them. 0, as at first: not known, and the frame's diagonal stands for it. */
BHPE_API int32_t bhpe_set_focal(bhpe_model *model, double focal);

/* A point in pixels of the network's input -> pixels of the frame. */
BHPE_API void bhpe_to_frame(const bhpe_frame *frame, double *x, double *y);

/* The joints that the network finds: how many (0 for NULL, and for a network without keypoints), the name of one (NULL
 * for an index out of range), and after bhpe_run where they are: x, y of each in pixels of the frame, 2 x
 * bhpe_joint_count doubles, for the `frame` that bhpe_set_frame gave. The output that they are read from, and its grid,
 * stand in manifest.json. */
BHPE_API int32_t bhpe_joint_count(const bhpe_model *model);
BHPE_API const char *bhpe_joint_name(const bhpe_model *model, int32_t index);
BHPE_API int32_t bhpe_joints(const bhpe_model *model, const bhpe_frame *frame, double *xy);

/* Compute with this many threads, 1 to BHPE_MOST_THREADS: the one that calls bhpe_run, and others that the model
 * starts here and ends in bhpe_destroy. 1 at first. Outputs are the same, bit for bit, for every number. More threads
 * than the machine has free cores make a run slower. After an error the number is what it was. A fork has none of the
 * threads: a model computes there with one, as bhpe_get_threads says, until bhpe_set_threads is called. */
#define BHPE_MOST_THREADS 64
BHPE_API int32_t bhpe_set_threads(bhpe_model *model, int32_t threads);

/* The number of threads; 0 for NULL. */
BHPE_API int32_t bhpe_get_threads(const bhpe_model *model);

/* Compute all outputs from all inputs. */
BHPE_API int32_t bhpe_run(bhpe_model *model);

/* What went wrong in the last call of this thread that failed; "" before any did and after a successful run. */
BHPE_API const char *bhpe_last_error(void);

/* ---- verification: the model step by step -----------------------------------------------------------------------
 * bhpe_run executes steps 0, 1, ... in order. Most tensors share memory with others: the arguments of a step hold
 * their values right after it, and its results only until a later step reuses the place. */

typedef struct bhpe_step {
  const char *symbol; /* the kernel's function */
  const char *kind;   /* its class, "glue" for generated code */
  const char *layer;  /* path of the layer it computes, or "" */
  int32_t arguments;
} bhpe_step;

BHPE_API int32_t bhpe_step_count(const bhpe_model *model);
BHPE_API int32_t bhpe_get_step(const bhpe_model *model, int32_t step, bhpe_step *out);
BHPE_API int32_t bhpe_step_argument(const bhpe_model *model, int32_t step, int32_t argument, bhpe_tensor *out);

/* Run one step. overrides: NULL, or one pointer an argument; a pointer that is not NULL takes the place of the
 * argument's data for this call: BHPE_ALIGNMENT-aligned, as many bytes as the argument. */
BHPE_API int32_t bhpe_run_step(bhpe_model *model, int32_t step, void *const *overrides);

#ifdef __cplusplus
}
#endif

#endif /* BHPE_H */
