/* pool.h - a few threads that do the parts of a task at the same time, again and again, with little delay between.
 *
 * Steps of a model take microseconds: a thread with nothing to do looks out for the next task for SPIN_US before it
 * sleeps. A part belongs to the thread of its number, so that data stay in that core's cache from task to task; but a
 * thread that is done takes parts which nobody has begun, so that nobody waits for a thread that still sleeps. */
#ifndef BHPE_POOL_H
#define BHPE_POOL_H

#include <stdint.h>

#include "model.h"

#ifndef BHPE_ONE_THREAD /* set where there are no threads */
#include <pthread.h>
#include <sys/types.h>
#include <stdatomic.h>
#endif

enum { POOL_MOST = 64 }; /* the bits of `unclaimed` */

/* Does `part`, as thread number `thread`. */
typedef void (*pool_task)(void *context, int32_t part, int32_t thread);

#ifdef BHPE_ONE_THREAD

typedef struct {
  int32_t threads;
} pool;

#else

typedef struct pool pool;

typedef struct {
  pool *owner;
  int32_t number;
  uint32_t seen; /* the last generation this thread knows of */
  pthread_t thread;
} pool_worker;

struct pool {
  _Alignas(BHPE_ALIGNMENT) atomic_uint generation; /* one more whenever there is news; all watch this cache line */
  atomic_int sleepers, keep;                       /* workers from number `keep` on end */
  pool_task task;                                  /* written before `unclaimed`, read after a claim */
  void *context;
  int32_t threads, caller_cpu; /* where the caller was when the workers were last kept off that CPU, or -1 */
  _Alignas(BHPE_ALIGNMENT) atomic_ullong unclaimed; /* a bit for each part that nobody has begun */
  atomic_uint pending;                              /* parts that are not done */
  atomic_int waiting;                               /* the caller sleeps until they are */
  pthread_mutex_t mutex;
  pthread_cond_t wake, done;
  pid_t process; /* in which the workers were started */
  pool_worker worker[POOL_MOST]; /* [0] is the caller: unused */
};

#endif

/* One thread: the caller's. Returns 0, or an error number. */
BHPE_HIDDEN int pool_init(pool *p);

/* Have `threads` (1 to POOL_MOST) from now on. Returns 0; or an error number, and there are as many as before. */
BHPE_HIDDEN int pool_resize(pool *p, int32_t threads);

/* How many threads there are: 1 in a fork, which has none of its parent's workers. */
BHPE_HIDDEN int32_t pool_threads(const pool *p);

/* In a fork: forget the parent's workers, and locks that they may have held. Elsewhere nothing. */
BHPE_HIDDEN void pool_after_fork(pool *p);

/* Keep the workers off the CPU that the caller is on, where there are others for them. For the start of a run: a
 * scheduler may wake a worker on the CPU of the thread that woke it, and leave the other one idle for milliseconds. */
BHPE_HIDDEN void pool_place(pool *p);

/* All parts 0 .. threads - 1 of a task; returns when they are done. One thread at a time may call this. */
BHPE_HIDDEN void pool_run(pool *p, pool_task task, void *context);

/* End all threads. */
BHPE_HIDDEN void pool_free(pool *p);

#endif /* BHPE_POOL_H */
