/* session.h - one verification session of a model: a request file in, a response file out.
 *
 * Both are little-endian: 8 bytes of magic, then records, the last of kind END. A record is a `record` header and
 * `bytes` bytes of payload, padded with zeros to a multiple of 8.
 *
 * request
 *     INPUT    index                   payload: the input's data
 *     TAP      step, argument          return that argument as it is right after the step
 *     PROBE    step, argument, count   after the step, run it once more on copies of its arguments, of which the `count`
 *                                      OVERRIDE records that follow replace some, and return the copy of `argument`
 *     OVERRIDE argument                payload: data (only after PROBE)
 *     FORCE    step, argument          payload: overwrite that argument after the step (and after taps and probes)
 *     DESCRIBE                         return the description below and run nothing
 *
 * response, in the order of execution
 *     TAP, PROBE    step, argument, index of the record among those of its kind in the request; payload: data
 *     OUTPUT        index              payload: data
 *     DESCRIBE                         payload: text, one line each, fields separated by tabs:
 *                                        input  NAME DTYPE SHAPE STORAGE OFFSET ID        (also `output`)
 *                                        step   SYMBOL KIND LAYER
 *                                        argument ROLE DTYPE SHAPE STORAGE OFFSET ID      of the step above
 *     ERROR                            payload: text
 * A response without END is incomplete. */
#ifndef BHPE_SESSION_H
#define BHPE_SESSION_H

#include "bhpe.h"

#define SESSION_REQUEST_MAGIC "BHPEREQ1"
#define SESSION_RESPONSE_MAGIC "BHPERSP1"

enum session_kind {
  SESSION_END = 0,
  SESSION_INPUT = 1,
  SESSION_TAP = 2,
  SESSION_PROBE = 3,
  SESSION_OVERRIDE = 4,
  SESSION_FORCE = 5,
  SESSION_DESCRIBE = 6,
  SESSION_OUTPUT = 7,
  SESSION_ERROR = 8
};

typedef struct {
  uint32_t kind;
  int32_t step;     /* a step, or the index of an input or output */
  int32_t argument; /* of the step */
  uint32_t count;   /* overrides of a probe in a request, index of a tap or probe in a response */
  uint64_t bytes;   /* of the payload, without padding */
} record;

/* Returns 0, or 1 after an error, which is in the response when that could be written and on stderr. */
int session_run(bhpe_model *model, const char *request_path, const char *response_path);

/* Whole file in 64-byte aligned memory (to be freed), or NULL. */
unsigned char *session_read_file(const char *path, uint64_t *bytes);

#endif /* BHPE_SESSION_H */
