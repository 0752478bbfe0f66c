/* pool.c - see pool.h.
 *
 * A claim takes a bit out of `unclaimed`: until that part is done the task cannot end, so `task` and `context` stay.
 * Whoever goes to sleep first says so (`sleepers`, `waiting`) and then looks once more at what it waits for; whoever
 * changes that looks afterwards whether someone sleeps. Both are sequentially consistent, so one sees the other. */
#define _GNU_SOURCE /* affinity */
#include "pool.h"

#ifdef BHPE_ONE_THREAD

int pool_init(pool *p) {
  p->threads = 1;
  return 0;
}

void pool_place(pool *p) { (void)p; }

int32_t pool_threads(const pool *p) { return p->threads; }

void pool_after_fork(pool *p) { (void)p; }

void pool_run(pool *p, pool_task task, void *context) {
  (void)p;
  task(context, 0, 0);
}

void pool_free(pool *p) { (void)p; }

#else

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

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

/* Whether `*number` soon is `value` (wanted) or soon is not (not wanted). */
static int soon(atomic_uint *number, unsigned value, int wanted) {
  for (int64_t end = now_us() + SPIN_US;;) {
    for (int look = 0; look < LOOKS_BETWEEN_CLOCKS; look++) {
      if ((atomic_load_explicit(number, memory_order_acquire) == value) == wanted) return 1;
      relax();
    }
    if (now_us() > end) return 0;
  }
}

static int claim(pool *p, int32_t part) {
  unsigned long long bit = 1ULL << part;
  return (atomic_fetch_and(&p->unclaimed, ~bit) & bit) != 0;
}

static void finish(pool *p) {
  if (atomic_fetch_sub(&p->pending, 1) != 1 || !atomic_load(&p->waiting)) return;
  pthread_mutex_lock(&p->mutex);
  pthread_cond_signal(&p->done);
  pthread_mutex_unlock(&p->mutex);
}

/* The part of this number, then any that is left. */
static void do_parts(pool *p, int32_t number) {
  for (unsigned long long left; (left = atomic_load(&p->unclaimed));) {
    int32_t part = left >> number & 1 ? number : __builtin_ctzll(left);
    if (!claim(p, part)) continue;
    p->task(p->context, part, number);
    finish(p);
  }
}

static void wait_for_news(pool *p, uint32_t seen) {
  if (soon(&p->generation, seen, 0)) return;
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
    wait_for_news(p, me->seen);
    me->seen = atomic_load(&p->generation);
    if (me->number >= atomic_load(&p->keep)) return NULL;
    do_parts(p, me->number);
  }
}

static void tell(pool *p) {
  atomic_fetch_add(&p->generation, 1);
  if (!atomic_load(&p->sleepers)) return;
  pthread_mutex_lock(&p->mutex);
  pthread_cond_broadcast(&p->wake);
  pthread_mutex_unlock(&p->mutex);
}

void pool_run(pool *p, pool_task task, void *context) {
  if (p->threads == 1) {
    task(context, 0, 0);
    return;
  }
  p->task = task;
  p->context = context;
  atomic_store(&p->pending, (unsigned)p->threads);
  atomic_store(&p->unclaimed, ~0ULL >> (POOL_MOST - p->threads));
  tell(p);
  do_parts(p, 0);
  if (soon(&p->pending, 0, 1)) return;
  pthread_mutex_lock(&p->mutex);
  atomic_store(&p->waiting, 1);
  while (atomic_load(&p->pending)) pthread_cond_wait(&p->done, &p->mutex);
  atomic_store(&p->waiting, 0);
  pthread_mutex_unlock(&p->mutex);
}

void pool_place(pool *p) {
  cpu_set_t others;
  int cpu = p->threads == 1 ? -1 : sched_getcpu();
  if (cpu < 0 || cpu == p->caller_cpu) return;
  p->caller_cpu = cpu;
  if (pthread_getaffinity_np(pthread_self(), sizeof others, &others)) return; /* what the user allows the caller */
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) < p->threads - 1) return;
  for (int32_t i = 1; i < p->threads; i++) pthread_setaffinity_np(p->worker[i].thread, sizeof others, &others);
}

int pool_init(pool *p) {
  int error;
  p->threads = 1;
  p->caller_cpu = -1;
  if ((error = pthread_mutex_init(&p->mutex, NULL))) return error;
  if (!(error = pthread_cond_init(&p->wake, NULL))) {
    if (!(error = pthread_cond_init(&p->done, NULL))) return 0;
    pthread_cond_destroy(&p->wake);
  }
  pthread_mutex_destroy(&p->mutex);
  return error;
}

static int forked(const pool *p) { return p->threads > 1 && p->process != getpid(); }

int32_t pool_threads(const pool *p) { return forked(p) ? 1 : p->threads; }

void pool_after_fork(pool *p) {
  if (!forked(p)) return;
  atomic_store(&p->sleepers, 0);
  atomic_store(&p->waiting, 0);
  atomic_store(&p->unclaimed, 0);
  atomic_store(&p->pending, 0);
  pool_init(p); /* with no attributes it cannot fail on Linux; nobody else is here to use what was there */
}

static void shrink(pool *p, int32_t threads) {
  if (threads >= p->threads) return;
  atomic_store(&p->keep, threads);
  tell(p);
  while (p->threads > threads) pthread_join(p->worker[--p->threads].thread, NULL);
}

static int start(pool *p, const pthread_attr_t *how) {
  pool_worker *one = &p->worker[p->threads];
  *one = (pool_worker){.owner = p, .number = p->threads, .seen = atomic_load(&p->generation)};
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
  p->caller_cpu = -1; /* new workers have to be placed */
  p->process = getpid();
  if ((error = pthread_attr_init(&how))) return error;
  error = pthread_attr_setstacksize(&how, STACK_BYTES);
  sigfillset(&every); /* signals are for the threads of the program */
  pthread_sigmask(SIG_SETMASK, &every, &old);
  atomic_store(&p->keep, threads);
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

#endif /* BHPE_ONE_THREAD */
