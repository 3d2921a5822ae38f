/* The program that runs a generated model over a file of inputs, on an emulated board and on the host alike.
 *
 *   inputs.bin    uint32 number of inferences, then for each inference every input, back to back
 *   outputs.bin   for each inference every output, back to back
 *   console       lines "planish: <key> <value>", what the runner reads besides the files
 *
 * All numbers are little endian. main.c (rendered from main.c.j2) knows the model's types, harness.c the loop; the machine
 * is startup.c, semihosting.c and measure.c on a board, host.c on a desktop.
 * What is visible to the linker starts with harness_, so that it meets no name of a model's.
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

/* Guard bytes stand directly before and after each buffer, which is aligned for every vector load of the machine. */
#if defined(__arm__)
#define ALIGNMENT 16
#define GUARD_BYTES 32u
#else
#define ALIGNMENT 64
#define GUARD_BYTES 64u
#endif
#define GUARDED(type, count)                                                                                           \
    struct __attribute__((aligned(ALIGNMENT)))                                                                         \
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
} harness_buffer;

/* The model, from main.c. */
extern const harness_buffer harness_buffers[]; /* the arena, then inputs, then outputs */
extern const size_t harness_inputs;
extern const size_t harness_outputs;
int harness_model_init(void);
int harness_model_run(void);

/* The machine. */
bool harness_open(void);
bool harness_read(void *data, size_t bytes);
bool harness_write(const void *data, size_t bytes);
bool harness_close(void);
void harness_report(const char *key, uint32_t value);
void harness_exit(int status) __attribute__((noreturn)); /* on a board only */

/* Guards that must not even be read; a host build with AddressSanitizer enforces it. */
void harness_forbid(const void *data, size_t bytes);
void harness_allow(const void *data, size_t bytes);

/* Brackets one call of the model: instructions and stack between the two are the model's. */
void harness_measure_begin(void);
void harness_measure_end(void);
bool harness_measured_stack(uint32_t *bytes); /* the deepest so far; false where it is not measured */

#endif
