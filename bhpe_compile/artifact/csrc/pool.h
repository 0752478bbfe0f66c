/* pool.h - a few threads that run one function at the same time, again and again, with little delay between.
 *
 * Steps of a model take microseconds: a thread with nothing to do looks out for the next task for SPIN_US before it
 * sleeps. One thread uses a pool at a time; it runs part 0 itself. */
#ifndef BHPE_POOL_H
#define BHPE_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "model.h"

enum { POOL_MOST = 64 };

typedef void (*pool_task)(void *context, int32_t part);

typedef struct pool pool;

typedef struct {
  pool *owner;
  int32_t part;
  uint32_t seen; /* the last generation this thread knows of */
  pthread_t thread;
} pool_worker;

struct pool {
  _Alignas(BHPE_ALIGNMENT) atomic_uint generation; /* one more for every task; in a cache line that all watch */
  atomic_int sleepers;
  pool_task task; /* written before `generation` */
  void *context;
  int32_t threads, keep; /* workers from part `keep` on end */
  _Alignas(BHPE_ALIGNMENT) atomic_int pending; /* workers that are not done with it */
  atomic_int waiting;                          /* the caller sleeps until they are */
  pthread_mutex_t mutex;
  pthread_cond_t wake, done;
  pool_worker worker[POOL_MOST]; /* [0] is the caller: unused */
};

/* One thread: the caller's. Returns 0, or an error number. */
BHPE_HIDDEN int pool_init(pool *p);

/* Have `threads` (1 to POOL_MOST) from now on. Returns 0; or an error number, and nothing has changed. */
BHPE_HIDDEN int pool_resize(pool *p, int32_t threads);

/* task(context, part) for part 0 .. threads - 1, each in its own thread; returns when all are done. */
BHPE_HIDDEN void pool_run(pool *p, pool_task task, void *context);

/* End all threads. */
BHPE_HIDDEN void pool_free(pool *p);

#endif /* BHPE_POOL_H */
