/* executor.h - what create.c, which allocates, and executor.c, which does not, know of each other. */
#ifndef BHPE_EXECUTOR_H
#define BHPE_EXECUTOR_H

#include "weights.h"

typedef struct {
  void (*release)(bhpe_model *model); /* gives the memory back, last of all; NULL for memory of the caller's */
  weights_memory file;                /* of create_from_path */
} model_owner;

BHPE_HIDDEN model_owner *owner_of(bhpe_model *model);

/* The focal length that bhpe_set_focal keeps, in pixels; 0 where it is not known. */
BHPE_HIDDEN double *focal_of(bhpe_model *model);

/* Keeps the sentence for bhpe_last_error; returns `status`. */
BHPE_HIDDEN int32_t fail(bhpe_status status, const char *what, const char *detail);

#endif /* BHPE_EXECUTOR_H */
