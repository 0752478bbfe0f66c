/* spawn.c - starts a program beside this library, for a server that can only call functions (TVM's RPC).
 *
 * The file `words` beside the library holds the program and its arguments, each with a zero behind it. The program runs in
 * that folder; what it writes is in `stdout` and `stderr` there. The function returns its exit status, the negative
 * number of the signal that ended it, or 126 where it could not be started. Where the server itself runs under an emulator,
 * the environment's BHPE_RUNNER names the program that runs others: qemu does not do so by itself.
 *
 * The function's form is TVM FFI's, whose values are 16 bytes: a type, 4 bytes of padding, 8 bytes of value. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_WORDS 64
#define NOT_STARTED 126

typedef struct {
  int32_t type; /* 1: an integer */
  uint32_t padding;
  int64_t value;
} tvm_any;

static int redirect(const char *path, int descriptor) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  return file < 0 || dup2(file, descriptor) < 0;
}

static void become(char **words, char *runner) {
  if (redirect("stdout", 1) || redirect("stderr", 2) || chmod(words[1], 0700)) return;
  if (runner) {
    words[0] = runner;
    execv(runner, words);
  } else {
    execv(words[1], words + 1);
  }
}

/* The words of the file in `folder` as an array that ends with NULL; how many, 0 where there are none. */
static size_t read_words(const char *folder, char text[4096], char **words) {
  char path[4096 + 8];
  size_t size = 0, count = 0;
  snprintf(path, sizeof path, "%s/words", folder);
  FILE *file = fopen(path, "rb");
  if (file) {
    size = fread(text, 1, 4095, file);
    fclose(file);
  }
  text[size] = 0;
  for (char *word = text; word < text + size && count < MOST_WORDS; word += strlen(word) + 1) words[count++] = word;
  words[count] = NULL;
  return count;
}

/* The server has threads, so the child may do little more than become the program: no allocation after fork. */
static int64_t spawn(void) {
  Dl_info self;
  char folder[4096], text[4096], *words[1 + MOST_WORDS + 1], *runner = getenv("BHPE_RUNNER");
  if (!dladdr((void *)spawn, &self) || strlen(self.dli_fname) >= sizeof folder) return NOT_STARTED;
  strcpy(folder, self.dli_fname);
  char *slash = strrchr(folder, '/');
  if (!slash) return NOT_STARTED;
  *slash = 0;
  if (!read_words(folder, text, words + 1)) return NOT_STARTED;
  pid_t child = fork();
  if (child < 0) return NOT_STARTED;
  if (child == 0) {
    if (chdir(folder) == 0) become(words, runner);
    _exit(NOT_STARTED);
  }
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return NOT_STARTED;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

__attribute__((visibility("default"))) int __tvm_ffi_bhpe_spawn(void *self, const tvm_any *arguments, int32_t count,
                                                               tvm_any *result) {
  (void)self, (void)arguments, (void)count;
  result->type = 1;
  result->padding = 0;
  result->value = spawn();
  return 0;
}
