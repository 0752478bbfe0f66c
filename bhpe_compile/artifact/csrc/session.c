/* session.c - see session.h for the protocol. */
#define _POSIX_C_SOURCE 200809L
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  bhpe_model *model;
  const unsigned char *request; /* records, END included */
  FILE *response;
} session;

static uint64_t padded(uint64_t bytes) { return (bytes + 7) & ~(uint64_t)7; }

static const record *at(const unsigned char *place) { return (const record *)(const void *)place; }

static const unsigned char *payload(const record *r) { return (const unsigned char *)(r + 1); }

static const record *next(const record *r) { return at(payload(r) + padded(r->bytes)); }

unsigned char *session_read_file(const char *path, uint64_t *bytes) {
  FILE *file = fopen(path, "rb");
  void *data = NULL;
  long size = -1;
  if (file && !fseek(file, 0, SEEK_END)) size = ftell(file);
  if (size >= 0 && !fseek(file, 0, SEEK_SET) && !posix_memalign(&data, BHPE_ALIGNMENT, (size_t)size + 1) &&
      fread(data, 1, (size_t)size, file) != (size_t)size) {
    free(data);
    data = NULL;
  }
  if (file) fclose(file);
  if (data) *bytes = (uint64_t)size;
  return data;
}

/* ---- response ---- */

static void put(session *s, record head, const void *data) {
  static const char zeros[8];
  fwrite(&head, sizeof head, 1, s->response);
  if (head.bytes) fwrite(data, 1, (size_t)head.bytes, s->response);
  fwrite(zeros, 1, (size_t)(padded(head.bytes) - head.bytes), s->response);
}

static int refuse(session *s, const char *what) {
  fprintf(stderr, "driver: %s\n", what);
  put(s, (record){.kind = SESSION_ERROR, .bytes = strlen(what)}, what);
  return 1;
}

static int refuse_last(session *s) { return refuse(s, bhpe_last_error()); }

static void put_tensor(FILE *text, const char *what, const bhpe_tensor *t) {
  static const char *const types[] = {"int", "uint", "float", "?", "?", "?", "bool"};
  fprintf(text, "%s\t%s\t%s", what, t->name, types[t->type]);
  if (t->type != BHPE_BOOL) fprintf(text, "%d", t->bits);
  for (int32_t i = 0; i < t->ndim; i++) fprintf(text, "%s%" PRId64, i ? "," : "\t", t->shape[i]);
  fprintf(text, "%s\t%s\t%" PRIu64 "\t%d\n", t->ndim ? "" : "\t", t->constant ? "weights" : "arena", t->offset, t->id);
}

static int describe(session *s) {
  char *buffer = NULL;
  size_t bytes = 0;
  bhpe_tensor t;
  bhpe_step step;
  FILE *text = open_memstream(&buffer, &bytes);
  if (!text) return refuse(s, "out of memory");
  for (int32_t i = 0; i < bhpe_input_count(s->model); i++)
    if (!bhpe_get_input(s->model, i, &t)) put_tensor(text, "input", &t);
  for (int32_t i = 0; i < bhpe_output_count(s->model); i++)
    if (!bhpe_get_output(s->model, i, &t)) put_tensor(text, "output", &t);
  for (int32_t i = 0; i < bhpe_step_count(s->model); i++) {
    if (bhpe_get_step(s->model, i, &step)) return refuse_last(s);
    fprintf(text, "step\t%s\t%s\t%s\n", step.symbol, step.kind, step.layer);
    for (int32_t k = 0; k < step.arguments; k++)
      if (!bhpe_step_argument(s->model, i, k, &t)) put_tensor(text, "argument", &t);
  }
  fclose(text);
  put(s, (record){.kind = SESSION_DESCRIBE, .bytes = bytes}, buffer);
  free(buffer);
  return 0;
}

/* ---- request ---- */

/* Every record whole, overrides only after their probe, END last: afterwards `next` is safe. */
static const char *malformed(const unsigned char *data, uint64_t bytes) {
  uint64_t place = strlen(SESSION_REQUEST_MAGIC);
  uint32_t overrides = 0;
  if (bytes < place || memcmp(data, SESSION_REQUEST_MAGIC, (size_t)place)) return "not a request file";
  for (;;) {
    if (bytes - place < sizeof(record)) return "the request is truncated";
    const record *r = at(data + place);
    place += sizeof(record);
    if (r->kind == SESSION_END) return overrides ? "overrides are missing" : NULL;
    if (r->kind > SESSION_DESCRIBE) return "a record of unknown kind";
    if ((r->kind == SESSION_OVERRIDE) != (overrides > 0)) return "overrides are missing or misplaced";
    if (r->bytes > bytes - place || padded(r->bytes) > bytes - place) return "the request is truncated";
    place += padded(r->bytes);
    if (r->kind == SESSION_PROBE) overrides = r->count;
    if (r->kind == SESSION_OVERRIDE) overrides--;
  }
}

static int set_inputs(session *s) {
  bhpe_tensor t;
  for (const record *r = at(s->request); r->kind != SESSION_END; r = next(r)) {
    if (r->kind == SESSION_INPUT) {
      if (bhpe_get_input(s->model, r->step, &t)) return refuse_last(s);
      if (r->bytes != t.nbytes) return refuse(s, "an input has the wrong size");
      memcpy(t.data, payload(r), (size_t)t.nbytes);
    } else if (r->kind == SESSION_TAP || r->kind == SESSION_PROBE || r->kind == SESSION_FORCE) {
      if (bhpe_step_argument(s->model, r->step, r->argument, &t)) return refuse_last(s);
      if (r->kind == SESSION_FORCE && (t.constant || r->bytes != t.nbytes))
        return refuse(s, "a forced argument is constant or has the wrong size");
    }
  }
  return 0;
}

/* Copies of all arguments but the constant ones, so that a probe leaves no trace in the model. */
static int probe(session *s, const record *r, uint32_t index) {
  bhpe_step step;
  bhpe_tensor t;
  int failed = 0;
  if (bhpe_get_step(s->model, r->step, &step)) return refuse_last(s);
  void **copy = calloc((size_t)step.arguments + 1, sizeof *copy);
  if (!copy) return refuse(s, "out of memory");
  for (int32_t k = 0; k < step.arguments && !failed; k++) {
    failed = bhpe_step_argument(s->model, r->step, k, &t);
    if (!failed && !t.constant) {
      failed = posix_memalign(&copy[k], BHPE_ALIGNMENT, (size_t)t.nbytes + 1);
      if (!failed) memcpy(copy[k], t.data, (size_t)t.nbytes);
    }
  }
  const record *o = r;
  for (uint32_t i = 0; i < r->count && !failed; i++) {
    o = next(o);
    failed = bhpe_step_argument(s->model, r->step, o->argument, &t) || o->bytes != t.nbytes ||
             (!copy[o->argument] && posix_memalign(&copy[o->argument], BHPE_ALIGNMENT, (size_t)t.nbytes + 1));
    if (!failed) memcpy(copy[o->argument], payload(o), (size_t)t.nbytes);
  }
  if (failed) {
    refuse(s, "an override names no argument, has the wrong size, or memory is out");
  } else if ((failed = bhpe_run_step(s->model, r->step, copy))) {
    refuse_last(s);
  } else {
    bhpe_step_argument(s->model, r->step, r->argument, &t);
    record head = {.kind = SESSION_PROBE, .step = r->step, .argument = r->argument, .count = index, .bytes = t.nbytes};
    put(s, head, copy[r->argument] ? copy[r->argument] : t.data);
  }
  for (int32_t k = 0; k < step.arguments; k++) free(copy[k]);
  free(copy);
  return failed != 0;
}

static int after_step(session *s, int32_t step) {
  bhpe_tensor t;
  uint32_t taps = 0, probes = 0;
  for (const record *r = at(s->request); r->kind != SESSION_END; r = next(r)) {
    uint32_t index = r->kind == SESSION_TAP ? taps++ : r->kind == SESSION_PROBE ? probes++ : 0;
    if (r->step != step) continue;
    if (r->kind == SESSION_TAP) {
      if (bhpe_step_argument(s->model, step, r->argument, &t)) return refuse_last(s);
      put(s, (record){.kind = SESSION_TAP, .step = step, .argument = r->argument, .count = index, .bytes = t.nbytes},
          t.data);
    } else if (r->kind == SESSION_PROBE && probe(s, r, index)) {
      return 1;
    }
  }
  for (const record *r = at(s->request); r->kind != SESSION_END; r = next(r)) {
    if (r->kind != SESSION_FORCE || r->step != step) continue;
    if (bhpe_step_argument(s->model, step, r->argument, &t)) return refuse_last(s);
    memcpy(t.data, payload(r), (size_t)t.nbytes);
  }
  return 0;
}

static int execute(session *s) {
  bhpe_tensor t;
  for (const record *r = at(s->request); r->kind != SESSION_END; r = next(r))
    if (r->kind == SESSION_DESCRIBE) return describe(s);
  if (set_inputs(s)) return 1;
  for (int32_t step = 0; step < bhpe_step_count(s->model); step++) {
    if (bhpe_run_step(s->model, step, NULL)) return refuse_last(s);
    if (after_step(s, step)) return 1;
  }
  for (int32_t i = 0; i < bhpe_output_count(s->model); i++) {
    if (bhpe_get_output(s->model, i, &t)) return refuse_last(s);
    put(s, (record){.kind = SESSION_OUTPUT, .step = i, .bytes = t.nbytes}, t.data);
  }
  return 0;
}

int session_run(bhpe_model *model, const char *request_path, const char *response_path) {
  session s = {.model = model, .response = fopen(response_path, "wb")};
  uint64_t bytes = 0;
  if (!s.response) {
    perror(response_path);
    return 1;
  }
  fwrite(SESSION_RESPONSE_MAGIC, 1, strlen(SESSION_RESPONSE_MAGIC), s.response);
  unsigned char *data = session_read_file(request_path, &bytes);
  const char *problem = data ? malformed(data, bytes) : "cannot read the request file";
  int failed;
  if (problem) {
    failed = refuse(&s, problem);
  } else {
    s.request = data + strlen(SESSION_REQUEST_MAGIC);
    failed = execute(&s);
  }
  put(&s, (record){.kind = SESSION_END}, NULL);
  free(data);
  if (fclose(s.response)) { /* the disk is full, for example */
    perror(response_path);
    failed = 1;
  }
  return failed;
}
