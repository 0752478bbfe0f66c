/* cpu.h - whether the processor has what the kernels use. */
#ifndef BHPE_CPU_H
#define BHPE_CPU_H

#include "model.h"

/* The name of something that is missing, or NULL. */
BHPE_HIDDEN const char *cpu_problem(void);

#endif /* BHPE_CPU_H */
