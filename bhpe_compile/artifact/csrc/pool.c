/* pool.c - see pool.h.
 *
 * A task is published by writing it and then counting `generation` up; workers watch that number, do their part and
 * count `pending` down. Whoever falls asleep first says so (`sleepers`, `waiting`), then looks once more; whoever
 * changes the number looks afterwards whether someone sleeps. Both are sequentially consistent, so one sees the other. */
#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#include <signal.h>
#include <time.h>

#define SPIN_US 100
#define LOOKS_BETWEEN_CLOCKS 32
#define STACK_BYTES (1u << 20) /* RoiAlign keeps rows on the stack; musl's default is 128 KiB */

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield" ::: "memory");
#endif
}

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Whether `*number` stopped being `old` soon. */
static int changes_soon(atomic_uint *number, unsigned old) {
  for (int64_t end = now_us() + SPIN_US;;) {
    for (int look = 0; look < LOOKS_BETWEEN_CLOCKS; look++) {
      if (atomic_load_explicit(number, memory_order_acquire) != old) return 1;
      relax();
    }
    if (now_us() > end) return 0;
  }
}

/* Whether all workers were done soon. */
static int done_soon(pool *p) {
  for (int64_t end = now_us() + SPIN_US;;) {
    for (int look = 0; look < LOOKS_BETWEEN_CLOCKS; look++) {
      if (!atomic_load_explicit(&p->pending, memory_order_acquire)) return 1;
      relax();
    }
    if (now_us() > end) return 0;
  }
}

static void next_task(pool *p, uint32_t seen) {
  if (changes_soon(&p->generation, seen)) return;
  pthread_mutex_lock(&p->mutex);
  atomic_fetch_add(&p->sleepers, 1);
  while (atomic_load(&p->generation) == seen) pthread_cond_wait(&p->wake, &p->mutex);
  atomic_fetch_sub(&p->sleepers, 1);
  pthread_mutex_unlock(&p->mutex);
}

static void *work(void *argument) {
  pool_worker *me = argument;
  pool *p = me->owner;
  for (;;) {
    next_task(p, me->seen);
    me->seen++;
    int ends = me->part >= p->keep;
    if (p->task) p->task(p->context, me->part);
    if (atomic_fetch_sub(&p->pending, 1) == 1 && atomic_load(&p->waiting)) {
      pthread_mutex_lock(&p->mutex);
      pthread_cond_signal(&p->done);
      pthread_mutex_unlock(&p->mutex);
    }
    if (ends) return NULL;
  }
}

static void publish(pool *p, pool_task task, void *context) {
  p->task = task;
  p->context = context;
  atomic_store(&p->pending, p->threads - 1);
  atomic_fetch_add(&p->generation, 1);
  if (!atomic_load(&p->sleepers)) return;
  pthread_mutex_lock(&p->mutex);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->mutex);
}

static void wait_until_done(pool *p) {
  if (done_soon(p)) return;
  pthread_mutex_lock(&p->mutex);
  atomic_store(&p->waiting, 1);
  while (atomic_load(&p->pending)) pthread_cond_wait(&p->done, &p->mutex);
  atomic_store(&p->waiting, 0);
  pthread_mutex_unlock(&p->mutex);
}

void pool_run(pool *p, pool_task task, void *context) {
  if (p->threads == 1) {
    task(context, 0);
    return;
  }
  publish(p, task, context);
  task(context, 0);
  wait_until_done(p);
}

int pool_init(pool *p) {
  int error;
  p->threads = p->keep = 1;
  if ((error = pthread_mutex_init(&p->mutex, NULL))) return error;
  if (!(error = pthread_cond_init(&p->wake, NULL))) {
    if (!(error = pthread_cond_init(&p->done, NULL))) return 0;
    pthread_cond_destroy(&p->wake);
  }
  pthread_mutex_destroy(&p->mutex);
  return error;
}

static void shrink(pool *p, int32_t threads) {
  if (threads >= p->threads) return;
  p->keep = threads;
  publish(p, NULL, NULL);
  wait_until_done(p);
  for (int32_t part = threads; part < p->threads; part++) pthread_join(p->worker[part].thread, NULL);
  p->threads = threads;
}

static int start(pool *p, const pthread_attr_t *how) {
  pool_worker *one = &p->worker[p->threads];
  one->owner = p;
  one->part = p->threads;
  one->seen = atomic_load(&p->generation);
  int error = pthread_create(&one->thread, how, work, one);
  if (!error) p->threads++;
  return error;
}

int pool_resize(pool *p, int32_t threads) {
  int32_t before = p->threads;
  pthread_attr_t how;
  sigset_t every, old;
  int error;
  shrink(p, threads);
  if (threads == p->threads) return 0;
  if ((error = pthread_attr_init(&how))) return error;
  error = pthread_attr_setstacksize(&how, STACK_BYTES);
  sigfillset(&every); /* signals are for the threads of the program */
  pthread_sigmask(SIG_SETMASK, &every, &old);
  p->keep = POOL_MOST;
  while (!error && p->threads < threads) error = start(p, &how);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&how);
  if (error) shrink(p, before);
  return error;
}

void pool_free(pool *p) {
  shrink(p, 1);
  pthread_cond_destroy(&p->done);
  pthread_cond_destroy(&p->wake);
  pthread_mutex_destroy(&p->mutex);
}
