/* The program that runs a generated model over a file of inputs, on an emulated board and on the host alike.
 *
 *   inputs.bin    uint32 number of inferences, then for each inference every input, back to back
 *   outputs.bin   for each inference every output, back to back
 *   console       lines "planish: <key> <value>", what the runner reads besides the files
 *
 * All numbers are little endian. main.c (rendered from main.c.j2) knows the model's types, harness.c the loop; the machine
 * is startup.c, semihosting.c and measure.c on a board, host.c on a desktop.
 */
#ifndef PLANISH_HARNESS_H
#define PLANISH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Code in this section is never counted as instructions of the model (see insncount.c). */
#if defined(__arm__)
#define NOT_COUNTED __attribute__((section(".text.harness"), noinline))
#else
#define NOT_COUNTED
#endif

/* Guard bytes stand directly before and after each buffer; 16-byte alignment suits every vector load of the cores. */
#define GUARD_BYTES 32u
#define GUARDED(type, count)                                                                                           \
    struct __attribute__((aligned(16)))                                                                                \
    {                                                                                                                  \
        uint8_t before[GUARD_BYTES];                                                                                   \
        type data[count];                                                                                              \
        uint8_t after[GUARD_BYTES];                                                                                    \
    }

/* Exit statuses; harness.py gives them words. */
enum {
    STATUS_OK = 0,
    STATUS_IO = 10,
    STATUS_INIT = 11,
    STATUS_RUN = 12,
    STATUS_INPUT_GUARD = 13,
    STATUS_ARENA_GUARD = 14,
    STATUS_OUTPUT_GUARD = 15,
    STATUS_FAULT = 16,
};

typedef struct {
    uint8_t *data;
    size_t bytes; /* what the model may use, and what is read or written per inference */
    uint8_t *before;
    uint8_t *after;
    int broken; /* the exit status that says that a guard of this buffer was overwritten */
} buffer;

/* The model, from main.c. */
extern const buffer model_buffers[]; /* the arena, then inputs, then outputs */
extern const size_t model_inputs;
extern const size_t model_outputs;
int model_init(void);
int model_run(void);

/* The machine. */
bool io_open(void);
bool io_read(void *data, size_t bytes);
bool io_write(const void *data, size_t bytes);
bool io_close(void);
void report(const char *key, uint32_t value);

/* Guards that must not even be read; a host build with AddressSanitizer enforces it. */
void forbid(const void *data, size_t bytes);
void allow(const void *data, size_t bytes);

/* Brackets one call of the model: instructions and stack between the two are the model's. */
void measure_begin(void);
void measure_end(void);
bool measured_stack(uint32_t *bytes); /* the deepest so far; false where it is not measured */

#endif
