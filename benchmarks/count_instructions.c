/* count_instructions.c - a qemu plugin: how many instructions the guest executed, by function, on qemu's log at its end.
 * Functions have names where the program has symbols; "?" stands for all others.
 * Debian ships no header; what follows is the part of qemu-plugin.h, API version 1, that is used. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int add, void *counter, uint64_t amount);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
void qemu_plugin_outs(const char *);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

typedef struct function {
  char name[256];
  uint64_t executed;
  struct function *next;
} function;

static function *functions;

static uint64_t *counter(const char *name) {
  for (function *one = functions; one; one = one->next)
    if (!strncmp(one->name, name, sizeof one->name - 1)) return &one->executed;
  function *made = calloc(1, sizeof *made);
  if (!made) abort();
  strncpy(made->name, name, sizeof made->name - 1);
  made->next = functions;
  functions = made;
  return &made->executed;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
  const char *name = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0, counter(name && *name ? name : "?"),
                                           qemu_plugin_tb_n_insns(block));
}

static void finished(plugin_id id, void *data) {
  char line[320];
  (void)id, (void)data;
  for (function *one = functions; one; one = one->next) {
    snprintf(line, sizeof line, "executed %llu %s\n", (unsigned long long)one->executed, one->name);
    qemu_plugin_outs(line);
  }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
