/* Calls one kernel as often as the program has arguments, on zeroed arrays, then exits. Run under an emulator that
   counts: the difference of two runs is one call. Compiled with -DKERNEL=symbol and -DTENSORS=bytes,bytes,... */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int32_t type_index; uint32_t padding; union { void *pointer; int64_t integer; } value; } any;
typedef struct {
  void *data;
  struct { int32_t type, id; } device;
  int32_t ndim;
  struct { uint8_t code, bits; uint16_t lanes; } dtype;
  int64_t *shape, *strides;
  uint64_t offset;
} tensor;

int KERNEL(void *self, const any *arguments, int32_t count, any *result);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  (void)kind, (void)parts, (void)count;
}

static const size_t sizes[] = {TENSORS};
enum { COUNT = sizeof sizes / sizeof *sizes };
static tensor tensors[COUNT];
static any arguments[COUNT + 2]; /* and its share of the work: part 0 of 1 */

int main(int argc, char **argv) {
  (void)argv;
  for (int i = 0; i < COUNT; i++) {
    tensors[i].data = aligned_alloc(64, (sizes[i] + 127) / 64 * 64);
    if (!tensors[i].data) return 1;
    memset(tensors[i].data, 0, sizes[i]);
    tensors[i].device.type = 1;
    arguments[i].type_index = 7; /* DLTensor * */
    arguments[i].value.pointer = &tensors[i];
  }
  for (int i = 0; i < 2; i++) arguments[COUNT + i] = (any){1, 0, {.integer = i}};
  for (int i = 1; i < argc; i++) {
    any result = {0};
    if (KERNEL(0, arguments, COUNT + 2, &result)) return 2;
  }
  return 0;
}
