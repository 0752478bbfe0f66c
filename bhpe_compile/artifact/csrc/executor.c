/* executor.c - runs the steps of one compiled model over one arena; takes the place of TVM's runtime.
 *
 * One block of memory per model, the caller's or allocated by create:
 *     bhpe_model | kernel_tensor per tensor | kernel_argument per argument | scratch for one step | arena | lane
 * and one lane more for every thread more. Kernels are called with arguments built once; a step with overrides uses the
 * scratch copies instead. A parallel kernel is called once a thread, with the arguments copied into the thread's lane
 * and two scalars behind them that say which part of how many it is. */
#define _POSIX_C_SOURCE 200809L
#include "checksum.h"
#include "cpu.h"
#include "executor.h"
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tables and weights are little-endian"
#endif
_Static_assert(sizeof(weights_header) == BHPE_ALIGNMENT, "the payload must stay aligned");
_Static_assert((int)POOL_MOST == BHPE_MOST_THREADS, "as many as bhpe.h promises");
_Static_assert(sizeof(kernel_argument) == 16, "the ABI of TVM kernels");
_Static_assert(sizeof(kernel_tensor) == (sizeof(void *) == 8 ? 48 : 40), "the ABI of TVM kernels");

#define P (&bhpe_program)
enum { ERROR_BYTES = 256 };

typedef struct { /* what a thread needs to call kernels; arguments and workspace lie behind it */
  kernel_argument *argument;
  unsigned char *workspace;
  uint64_t workspace_top;
  int32_t status; /* of the part of this number, whoever did it */
  char error[ERROR_BYTES];
} lane;

struct bhpe_model {
  kernel_tensor *tensor, *scratch_tensor;
  kernel_argument *argument, *scratch_argument;
  unsigned char *arena;
  lane *lane[POOL_MOST];
  pool pool;
  model_owner owner;
  const unsigned char *weights; /* their payload, behind the header */
  double focal; /* of frames, in pixels; 0: not known */
  int32_t checks;
  atomic_flag running;
};

static _Thread_local char last_error[ERROR_BYTES];
static _Thread_local lane *current; /* of the kernel that runs in this thread: TVM's callbacks carry no context */

/* ---- errors ---- */

static void append(const char *text) {
  size_t used = strlen(last_error), room = sizeof last_error - 1 - used, more = text ? strlen(text) : 0;
  if (more > room) more = room;
  if (more) memcpy(last_error + used, text, more);
  last_error[used + more] = 0;
}

int32_t fail(bhpe_status status, const char *what, const char *detail) {
  last_error[0] = 0;
  append(what);
  if (detail) {
    append(": ");
    append(detail);
  }
  return status;
}

const char *bhpe_last_error(void) { return last_error; }

/* Kernels built with assertions report through these. */
BHPE_HIDDEN void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  fail(BHPE_KERNEL, kind, message);
}

BHPE_HIDDEN void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fail(BHPE_KERNEL, kind, "");
  for (int32_t i = 0; i < count; i++) append(parts[i]);
}

/* ---- what kernels ask of a runtime ---- */

static uint64_t aligned(uint64_t bytes) { return (bytes + BHPE_ALIGNMENT - 1) & ~(uint64_t)(BHPE_ALIGNMENT - 1); }

/* A stack: kernels free in reverse order, and every step starts with it empty. */
static void *workspace_alloc(int device_type, int device_id, uint64_t bytes, int type, int bits) {
  (void)device_type, (void)device_id, (void)type, (void)bits;
  if (bytes > P->workspace_bytes || aligned(bytes) > P->workspace_bytes - current->workspace_top) {
    fail(BHPE_KERNEL, "the workspace is too small", NULL);
    return NULL;
  }
  void *place = current->workspace + current->workspace_top;
  current->workspace_top += aligned(bytes);
  return place;
}

static int workspace_free(int device_type, int device_id, void *place) {
  (void)device_type, (void)device_id;
  current->workspace_top = (uint64_t)((unsigned char *)place - current->workspace);
  return 0;
}

typedef int (*parallel_body)(int task, void *environment, void *closure);

typedef struct { /* TVMParallelGroupEnv */
  void *sync_handle;
  int32_t tasks;
} parallel_environment;

/* Parallel loops of TVM run as one task: only kernels of ours are shared between threads. */
static int parallel_launch(parallel_body body, void *closure, int tasks) {
  parallel_environment environment = {NULL, 1};
  (void)tasks;
  return body(0, &environment, closure);
}

static int parallel_barrier(int task, void *environment) {
  (void)task, (void)environment; /* one task has nobody to wait for */
  return 0;
}

/* Objects from TVM reach the runtime through weak pointer variables of these names; strong ones replace them. */
BHPE_HIDDEN void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = workspace_alloc;
BHPE_HIDDEN int (*__TVMBackendFreeWorkspace)(int, int, void *) = workspace_free;
BHPE_HIDDEN int (*__TVMBackendParallelLaunch)(parallel_body, void *, int) = parallel_launch;
BHPE_HIDDEN int (*__TVMBackendParallelBarrier)(int, void *) = parallel_barrier;

/* ---- create and destroy ---- */

int32_t bhpe_abi_version(void) { return BHPE_ABI_VERSION; }

const char *bhpe_model_id(void) { return P->id_text; }

static const char *weights_problem(const void *weights, uint64_t nbytes) {
  weights_header header;
  if ((uintptr_t)weights % BHPE_ALIGNMENT) return "not 64-byte aligned in memory";
  if (nbytes < sizeof header) return "too short to be a weights.bin";
  memcpy(&header, weights, sizeof header);
  if (memcmp(header.magic, BHPE_WEIGHTS_MAGIC, sizeof header.magic)) return "not a weights.bin";
  if (header.version != BHPE_WEIGHTS_VERSION || header.header_bytes != sizeof header)
    return "of another format version than the library";
  if (memcmp(header.id, P->id, sizeof header.id)) return "of another model than the library";
  if (header.payload_bytes != P->weights_bytes) return "of another size than the library expects";
  if (nbytes != sizeof header + header.payload_bytes) return "truncated or longer than its header says";
  return NULL;
}

static void bind(bhpe_model *model, unsigned char *payload) {
  for (uint32_t i = 0; i < P->tensors; i++) {
    const tensor_entry *entry = &P->tensor[i];
    model->tensor[i] = (kernel_tensor){
        .data = (entry->constant ? payload : model->arena) + entry->offset,
        .device_type = 1, /* kDLCPU */
        .ndim = entry->ndim,
        .type = entry->type,
        .bits = entry->bits,
        .lanes = 1,
        .shape = P->shapes + entry->shape,
    };
  }
  for (uint32_t i = 0; i < P->arguments; i++) {
    model->argument[i].type_index = BHPE_KERNEL_TENSOR;
    model->argument[i].value.as_pointer = &model->tensor[P->argument[i].tensor];
  }
}

static uint64_t lane_bytes(void) {
  return aligned(sizeof(lane)) + aligned((P->most_arguments + 2) * sizeof(kernel_argument)) +
         aligned(P->workspace_bytes);
}

static lane *make_lane(void *memory) {
  lane *one = memory;
  one->argument = (kernel_argument *)((unsigned char *)memory + aligned(sizeof(lane)));
  one->workspace = (unsigned char *)one->argument + aligned((P->most_arguments + 2) * sizeof(kernel_argument));
  return one;
}

/* The parts of a model's memory, one behind the other; returns the bytes of all. */
enum { PARTS = 7 };

static uint64_t measure(uint64_t part[PARTS]) {
  uint64_t total = 0;
  part[0] = aligned(sizeof(bhpe_model));
  part[1] = aligned(P->tensors * sizeof(kernel_tensor));
  part[2] = aligned(P->arguments * sizeof(kernel_argument));
  part[3] = aligned(P->most_arguments * sizeof(kernel_tensor));
  part[4] = aligned(P->most_arguments * sizeof(kernel_argument));
  part[5] = aligned(P->arena_bytes);
  part[6] = lane_bytes();
  for (int i = 0; i < PARTS; i++) total += part[i];
  return total;
}

uint64_t bhpe_memory_bytes(void) {
  uint64_t part[PARTS];
  return measure(part);
}

int32_t bhpe_create_in(const void *weights, uint64_t nbytes, void *memory, uint64_t memory_bytes, bhpe_model **out) {
  if (!out) return fail(BHPE_BAD_ARGUMENT, "bhpe_create: out is NULL", NULL);
  *out = NULL;
  if (!weights || !memory) return fail(BHPE_BAD_ARGUMENT, "bhpe_create: weights or memory is NULL", NULL);
  const char *problem = weights_problem(weights, nbytes);
  if (problem) return fail(BHPE_BAD_WEIGHTS, "weights", problem);
  if ((problem = cpu_problem())) return fail(BHPE_BAD_CPU, "this processor has no", problem);
  uint64_t part[PARTS], total = measure(part);
  if ((uintptr_t)memory % BHPE_ALIGNMENT) return fail(BHPE_BAD_ARGUMENT, "the memory is not 64-byte aligned", NULL);
  if (memory_bytes < total) return fail(BHPE_NO_MEMORY, "the memory is smaller than bhpe_memory_bytes", NULL);
  unsigned char *place[PARTS] = {memory};
  for (int i = 1; i < PARTS; i++) place[i] = place[i - 1] + part[i - 1];
  memset(memory, 0, (size_t)total);

  bhpe_model *model = memory;
  model->tensor = (kernel_tensor *)place[1];
  model->argument = (kernel_argument *)place[2];
  model->scratch_tensor = (kernel_tensor *)place[3];
  model->scratch_argument = (kernel_argument *)place[4];
  model->arena = place[5];
  model->lane[0] = make_lane(place[6]);
  atomic_flag_clear(&model->running);
  if (pool_init(&model->pool)) return fail(BHPE_NO_MEMORY, "bhpe_create: out of memory", NULL);
  model->weights = (const unsigned char *)weights + sizeof(weights_header);
  bind(model, (unsigned char *)(uintptr_t)model->weights); /* kernels only read weights */
  *out = model;
  return BHPE_OK;
}

model_owner *owner_of(bhpe_model *model) { return &model->owner; }

double *focal_of(bhpe_model *model) { return &model->focal; }

void bhpe_destroy(bhpe_model *model) {
  if (!model) return;
  pool_after_fork(&model->pool);
  pool_free(&model->pool);
#ifndef BHPE_ONE_THREAD
  for (int32_t i = 1; i < POOL_MOST; i++) free(model->lane[i]);
#endif
  if (model->owner.release) model->owner.release(model);
}

/* ---- descriptions ---- */

static void describe(const bhpe_model *model, uint32_t tensor, const char *name, bhpe_tensor *out) {
  const tensor_entry *entry = &P->tensor[tensor];
  *out = (bhpe_tensor){
      .name = name,
      .data = model->tensor[tensor].data,
      .shape = P->shapes + entry->shape,
      .nbytes = entry->nbytes,
      .offset = entry->offset,
      .ndim = entry->ndim,
      .type = entry->type,
      .bits = entry->bits,
      .constant = entry->constant,
      .id = (int32_t)tensor,
  };
}

static int32_t get_port(const bhpe_model *model, const port_entry *port, uint32_t count, int32_t index, bhpe_tensor *out) {
  if (!model || !out) return fail(BHPE_BAD_ARGUMENT, "a NULL argument", NULL);
  if (index < 0 || (uint32_t)index >= count) return fail(BHPE_BAD_ARGUMENT, "no input or output of that index", NULL);
  describe(model, port[index].tensor, port[index].name, out);
  return BHPE_OK;
}

int32_t bhpe_input_count(const bhpe_model *model) { return model ? (int32_t)P->inputs : 0; }
int32_t bhpe_output_count(const bhpe_model *model) { return model ? (int32_t)P->outputs : 0; }
int32_t bhpe_step_count(const bhpe_model *model) { return model ? (int32_t)P->steps : 0; }

int32_t bhpe_get_input(const bhpe_model *model, int32_t index, bhpe_tensor *out) {
  return get_port(model, P->input, P->inputs, index, out);
}

int32_t bhpe_get_output(const bhpe_model *model, int32_t index, bhpe_tensor *out) {
  return get_port(model, P->output, P->outputs, index, out);
}

static int32_t check_step(const bhpe_model *model, int32_t step) {
  if (!model) return fail(BHPE_BAD_ARGUMENT, "the model is NULL", NULL);
  if (step < 0 || (uint32_t)step >= P->steps) return fail(BHPE_BAD_ARGUMENT, "no step of that index", NULL);
  return BHPE_OK;
}

int32_t bhpe_get_step(const bhpe_model *model, int32_t step, bhpe_step *out) {
  if (check_step(model, step)) return BHPE_BAD_ARGUMENT;
  if (!out) return fail(BHPE_BAD_ARGUMENT, "bhpe_get_step: out is NULL", NULL);
  const step_entry *entry = &P->step[step];
  *out = (bhpe_step){entry->symbol, entry->kind, entry->layer, (int32_t)entry->count};
  return BHPE_OK;
}

int32_t bhpe_step_argument(const bhpe_model *model, int32_t step, int32_t argument, bhpe_tensor *out) {
  if (check_step(model, step)) return BHPE_BAD_ARGUMENT;
  if (!out) return fail(BHPE_BAD_ARGUMENT, "bhpe_step_argument: out is NULL", NULL);
  const step_entry *entry = &P->step[step];
  if (argument < 0 || (uint32_t)argument >= entry->count)
    return fail(BHPE_BAD_ARGUMENT, "the step has no argument of that index", NULL);
  const argument_entry *found = &P->argument[entry->first + (uint32_t)argument];
  describe(model, found->tensor, found->role, out);
  return BHPE_OK;
}

/* ---- run ---- */

static int32_t call(const step_entry *step, const kernel_argument *arguments, uint32_t count) {
  kernel_argument result = {0};
  current->workspace_top = 0;
  last_error[0] = 0;
  if (step->function(NULL, arguments, (int32_t)count, &result)) {
    if (!last_error[0]) fail(BHPE_KERNEL, "kernel failed", step->symbol);
    return BHPE_KERNEL;
  }
  return BHPE_OK;
}

typedef struct {
  bhpe_model *model;
  const step_entry *step;
  const kernel_argument *arguments;
} shared_step;

static void call_part(void *context, int32_t part, int32_t thread) {
  const shared_step *shared = context;
  uint32_t count = shared->step->count;
  lane *mine = current = shared->model->lane[thread], *result = shared->model->lane[part];
  for (uint32_t i = 0; i < count; i++) mine->argument[i] = shared->arguments[i];
  mine->argument[count] = (kernel_argument){BHPE_KERNEL_INT, 0, {.as_int = part}};
  mine->argument[count + 1] = (kernel_argument){BHPE_KERNEL_INT, 0, {.as_int = shared->model->pool.threads}};
  result->status = call(shared->step, mine->argument, count + 2);
  if (result->status) memcpy(result->error, last_error, sizeof result->error);
}

/* One step on all threads; what the lowest part that failed reports. */
static int32_t run(bhpe_model *model, const step_entry *step, const kernel_argument *arguments) {
  if (!step->parallel) return call(step, arguments, step->count);
  shared_step shared = {model, step, arguments};
  pool_run(&model->pool, call_part, &shared);
  for (int32_t part = 0; part < model->pool.threads; part++) {
    const lane *one = model->lane[part];
    if (!one->status) continue;
    memcpy(last_error, one->error, sizeof last_error);
    return one->status;
  }
  return BHPE_OK;
}

static int32_t enter(bhpe_model *model) {
  if (atomic_flag_test_and_set_explicit(&model->running, memory_order_acquire))
    return fail(BHPE_BUSY, "the model is running in another thread", NULL);
  current = model->lane[0];
  pool_after_fork(&model->pool);
  pool_place(&model->pool);
  return BHPE_OK;
}

static void leave(bhpe_model *model) {
  current = NULL;
  atomic_flag_clear_explicit(&model->running, memory_order_release);
}

/* ---- checks ---- */

/* Whether all `count` floats whose exponent is `exponent` in its bits are finite. */
#define FINITE(type, exponent)                                                             \
  static int finite_##type(const type *value, uint64_t count) {                            \
    int broken = 0;                                                                        \
    for (uint64_t i = 0; i < count; i++) broken |= (value[i] & (exponent)) == (exponent); \
    return !broken;                                                                        \
  }
FINITE(uint16_t, 0x7c00u)
FINITE(uint32_t, 0x7f800000u)
FINITE(uint64_t, 0x7ff0000000000000u)

static int32_t check_outputs(const bhpe_model *model) {
  for (uint32_t i = 0; i < P->outputs; i++) {
    const tensor_entry *entry = &P->tensor[P->output[i].tensor];
    const void *data = model->tensor[P->output[i].tensor].data;
    if (entry->type != BHPE_FLOAT) continue;
    int finite = entry->bits == 32   ? finite_uint32_t(data, entry->nbytes / 4)
                 : entry->bits == 16 ? finite_uint16_t(data, entry->nbytes / 2)
                                     : finite_uint64_t(data, entry->nbytes / 8);
    if (!finite) return fail(BHPE_NOT_FINITE, "NaN or infinity in the output", P->output[i].name);
  }
  return BHPE_OK;
}

static int32_t check_weights(const bhpe_model *model) {
  weights_header header;
  uint32_t crc32[2];
  memcpy(&header, model->weights - sizeof header, sizeof header);
  checksum_halves(model->weights, (size_t)P->weights_bytes, crc32);
  if (memcmp(header.crc32, crc32, sizeof crc32)) return fail(BHPE_BAD_WEIGHTS, "weights", "damaged: their checksum differs");
  return BHPE_OK;
}

int32_t bhpe_set_checks(bhpe_model *model, int32_t checks) {
  if (!model) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_checks: the model is NULL", NULL);
  if (checks & ~(BHPE_CHECK_WEIGHTS | BHPE_CHECK_OUTPUTS))
    return fail(BHPE_BAD_ARGUMENT, "bhpe_set_checks: a check that this library does not know", NULL);
  int32_t rc = enter(model);
  if (rc) return rc;
  if (checks & BHPE_CHECK_WEIGHTS) rc = check_weights(model);
  model->checks = checks;
  leave(model);
  return rc;
}

/* ---- run ---- */

int32_t bhpe_run(bhpe_model *model) {
  if (!model) return fail(BHPE_BAD_ARGUMENT, "bhpe_run: the model is NULL", NULL);
  int32_t rc = enter(model);
  if (rc) return rc;
  for (uint32_t i = 0; i < P->steps && rc == BHPE_OK; i++)
    rc = run(model, &P->step[i], model->argument + P->step[i].first);
  if (rc == BHPE_OK && model->checks & BHPE_CHECK_OUTPUTS) rc = check_outputs(model);
  leave(model);
  return rc;
}

int32_t bhpe_run_step(bhpe_model *model, int32_t step, void *const *overrides) {
  int32_t rc = check_step(model, step);
  if (rc) return rc;
  const step_entry *entry = &P->step[step];
  const kernel_argument *arguments = model->argument + entry->first;
  for (uint32_t i = 0; overrides && i < entry->count; i++)
    if ((uintptr_t)overrides[i] % BHPE_ALIGNMENT)
      return fail(BHPE_BAD_ARGUMENT, "an override is not 64-byte aligned", NULL);
  rc = enter(model);
  if (rc) return rc;
  if (overrides) {
    for (uint32_t i = 0; i < entry->count; i++) {
      kernel_tensor *tensor = &model->scratch_tensor[i];
      *tensor = *(const kernel_tensor *)arguments[i].value.as_pointer;
      if (overrides[i]) tensor->data = overrides[i];
      model->scratch_argument[i] = arguments[i];
      model->scratch_argument[i].value.as_pointer = tensor;
    }
    arguments = model->scratch_argument;
  }
  rc = run(model, entry, arguments);
  leave(model);
  return rc;
}

/* ---- threads ---- */

int32_t bhpe_get_threads(const bhpe_model *model) { return model ? pool_threads(&model->pool) : 0; }

#ifdef BHPE_ONE_THREAD

static int32_t resize(bhpe_model *model, int32_t threads) {
  (void)model;
  return threads == 1 ? BHPE_OK : fail(BHPE_NO_MEMORY, "bhpe_set_threads: this library was built for one thread", NULL);
}

#else

/* Lanes first, then threads; afterwards no lane without a thread stays. */
static int32_t resize(bhpe_model *model, int32_t threads) {
  int32_t rc = BHPE_OK;
  for (int32_t i = model->pool.threads; i < threads && rc == BHPE_OK; i++) {
    void *memory = NULL;
    if (model->lane[i]) continue; /* of a thread that stayed behind in the parent of this fork */
    if (posix_memalign(&memory, BHPE_ALIGNMENT, (size_t)lane_bytes()))
      rc = fail(BHPE_NO_MEMORY, "bhpe_set_threads: out of memory", NULL);
    else
      model->lane[i] = make_lane(memory);
  }
  if (rc == BHPE_OK && pool_resize(&model->pool, threads))
    rc = fail(BHPE_NO_MEMORY, "bhpe_set_threads: the system starts no more threads", NULL);
  for (int32_t i = model->pool.threads; i < POOL_MOST; i++) {
    free(model->lane[i]);
    model->lane[i] = NULL;
  }
  return rc;
}

#endif

int32_t bhpe_set_threads(bhpe_model *model, int32_t threads) {
  if (!model) return fail(BHPE_BAD_ARGUMENT, "bhpe_set_threads: the model is NULL", NULL);
  if (threads < 1 || threads > BHPE_MOST_THREADS)
    return fail(BHPE_BAD_ARGUMENT, "bhpe_set_threads: the number of threads must be from 1 to 64", NULL);
  int32_t rc = enter(model);
  if (rc) return rc;
  rc = resize(model, threads);
  leave(model);
  return rc;
}
