"""The executor on several threads, over kernels written in C: every part once, errors, sleep, and no data race.

Built twice: by zig as it is shipped, and by the host's `cc` with ThreadSanitizer where that has it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bhpe_compile.artifact.link import CSRC, EXECUTOR
from bhpe_compile.artifact.toolchain import zig_cc
from tests.artifact.folders import HOST, on_host
from tests.artifact.programs import some_input

pytestmark = on_host

KERNELS = r"""
#include "model.h"
#include <string.h>
enum { CELLS = 1000 };
unsigned long long failing;                        /* parts of step 2 that fail */
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
void TVMFFIErrorSetRaisedFromCStr(const char *, const char *);

static int *cells(const kernel_argument *a) { return ((kernel_tensor *)a[0].value.as_pointer)->data; }

/* Doubles its share of the cells, by way of the workspace. */
static int twice(void *self, const kernel_argument *a, int32_t count, kernel_argument *result) {
  (void)self, (void)result;
  if (count != 3 || a[1].type_index != 1 || a[2].type_index != 1) return -1;
  int64_t part = a[1].value.as_int, parts = a[2].value.as_int;
  int first = (int)(part * CELLS / parts), end = (int)((part + 1) * CELLS / parts);
  void *little = __TVMBackendAllocWorkspace(1, 0, 1, 0, 8);
  int *space = __TVMBackendAllocWorkspace(1, 0, CELLS * sizeof(int), 0, 32);
  if (!little || !space || (uintptr_t)space % 64 || __TVMBackendAllocWorkspace(1, 0, 1, 0, 8)) return -1;
  for (int i = first; i < end; i++) space[i] = cells(a)[i];
  for (int i = first; i < end; i++) cells(a)[i] += space[i];
  return __TVMBackendFreeWorkspace(1, 0, space) || __TVMBackendFreeWorkspace(1, 0, little);
}

_Thread_local bhpe_model *inside; /* the one that runs in this thread: it refuses everything else */

/* Adds 1 to all cells, backwards; not parallel. */
static int next(void *self, const kernel_argument *a, int32_t count, kernel_argument *result) {
  (void)self, (void)result;
  for (int i = CELLS - 1; i >= 0; i--) cells(a)[i]++;
  if (!inside) return count != 1;
  if (bhpe_run(inside) != BHPE_BUSY || bhpe_run_step(inside, 0, NULL) != BHPE_BUSY) return -1;
  if (bhpe_set_threads(inside, 1) != BHPE_BUSY || !strstr(bhpe_last_error(), "in another thread")) return -1;
  return count != 1;
}

static int fails(void *self, const kernel_argument *a, int32_t count, kernel_argument *result) {
  (void)self, (void)result, (void)count;
  int64_t part = a[1].value.as_int;
  char text[] = "part 00";
  text[5] = (char)('0' + part / 10), text[6] = (char)('0' + part % 10);
  if (!(failing >> part & 1)) return 0;
  TVMFFIErrorSetRaisedFromCStr("error", text);
  return -1;
}

static const tensor_entry tensors[] = {{0, CELLS * 4, 0, 1, 0, 32, 0}};
static const int64_t shapes[] = {CELLS};
static const step_entry steps[] = {
    {twice, "twice", "Twice", "", 0, 1, 1}, {next, "next", "glue", "", 0, 1, 0}, {fails, "fails", "F", "", 0, 1, 1}};
static const argument_entry arguments[] = {{0, "x"}};
static const port_entry ports[] = {{"x", 0}};
const program_tables bhpe_program = {
    .arena_bytes = 4032, .workspace_bytes = 4096, .weights_bytes = 64, .id_text = "", .tensors = 1, .steps = 3,
    .arguments = 1, .inputs = 1, .outputs = 1, .most_arguments = 1, .tensor = tensors, .shapes = shapes,
    .step = steps, .argument = arguments, .input = ports, .output = ports,
};
"""

MAIN = r"""
#define _POSIX_C_SOURCE 200809L
#include "model.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
extern unsigned long long failing;
extern _Thread_local bhpe_model *inside;
static struct { weights_header header; char payload[64]; } weights __attribute__((aligned(64)));

#define CHECK(what) \
  if (!(what)) return printf("line %d, %d threads: %s: %s\n", __LINE__, threads, #what, bhpe_last_error())

static int is_right(bhpe_model *model, int runs) { /* x -> 2x + 1 from 0: 2^runs - 1 */
  bhpe_tensor x;
  bhpe_get_output(model, 0, &x);
  for (int i = 0; i < 1000; i++)
    if (((int *)x.data)[i] != (1 << runs) - 1) return 0;
  memset(x.data, 0, 4000);
  return 1;
}

static int check(int first) {
  static const int numbers[] = {1, 2, 3, 7, 2, 64, 5, 1, 4};
  bhpe_model *model;
  int threads = 0;
  CHECK(!bhpe_create(&weights, sizeof weights, &model));
  inside = model;
  CHECK(!bhpe_run(model));
  CHECK(is_right(model, 1));
  inside = NULL;
  for (int k = 0; k < 9; k++) {
    threads = numbers[(k + first) % 9];
    CHECK(!bhpe_set_threads(model, threads));
    for (int again = 0; again < 20; again++) {
      for (int i = 0; i < 20; i++) CHECK(!bhpe_run(model));
      CHECK(is_right(model, 20));
      CHECK(!*bhpe_last_error());
      struct timespec pause = {0, again % 5 ? 0 : 400000}; /* long enough to fall asleep */
      nanosleep(&pause, NULL);
    }
    if (first) continue; /* `failing` belongs to everybody */
    for (int part = 0; part < threads; part++) {
      char text[] = "error: part 00";
      text[12] = (char)('0' + part / 10), text[13] = (char)('0' + part % 10);
      failing = ~0ULL << part;
      CHECK(bhpe_run_step(model, 2, NULL) == BHPE_KERNEL);
      CHECK(!strcmp(bhpe_last_error(), text));
      failing = 0;
      CHECK(!bhpe_run_step(model, 2, NULL));
    }
  }
  bhpe_destroy(model);
  return 0;
}

static void *other(void *argument) { return check(4) ? argument : NULL; }

int main(void) {
  memcpy(weights.header.magic, BHPE_WEIGHTS_MAGIC, 8);
  weights.header.version = BHPE_WEIGHTS_VERSION;
  weights.header.header_bytes = sizeof weights.header;
  weights.header.payload_bytes = 64;
  if (check(0)) return 1;
  pthread_t thread; /* two models at once */
  void *failed = &thread;
  pthread_create(&thread, NULL, other, &failed);
  int mine = check(3);
  pthread_join(thread, &failed);
  return mine || failed ? 1 : 0;
}
"""

SOURCES = (*(name for name in EXECUTOR if name != "tables.c"), "kernels.c", "main.c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sources."""
    for source in CSRC.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "kernels.c").write_text(KERNELS)
    (tmp_path / "main.c").write_text(MAIN)
    return tmp_path


def run(folder: Path) -> None:
    done = subprocess.run([folder / "main"], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr[-4000:]) == (0, "", "")


def test_as_it_is_shipped(folder: Path) -> None:
    zig_cc([*HOST.zig, "-std=c11", "-O2", "-pthread", *SOURCES, "-o", "main"], folder)
    run(folder)


def test_without_data_races(folder: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler cc on this machine")
    flags = ("-std=c11", "-O1", "-g", "-fsanitize=thread", "-pthread")
    command = ["cc", *flags, *SOURCES, "-lm", "-o", "main"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if "tsan" in done.stderr:
        pytest.skip("cc comes without ThreadSanitizer")
    assert done.returncode == 0, done.stderr
    run(folder)


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not installed")
def test_static_driver_on_threads(arm_artifact: Path, tmp_path: Path) -> None:
    """musl's threads in a static program: the same bits as one thread."""
    (tmp_path / "x.bin").write_bytes(some_input().tobytes())
    outputs = []
    for threads in ("1", "3"):
        (tmp_path / threads).mkdir()
        inputs = ("--raw", tmp_path / threads, tmp_path / "x.bin")
        command = ["qemu-aarch64", arm_artifact / "driver", arm_artifact / "weights.bin", *inputs]
        subprocess.run([*command, "--threads", threads], check=True, timeout=300)
        outputs.append([(tmp_path / threads / name).read_bytes() for name in ("out.bin", "sign.bin")])
    assert outputs[0] == outputs[1]
