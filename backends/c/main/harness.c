/* The loop over inferences, and the guards around the model's buffers. */
#include "harness.h"

static void fill(uint8_t *data, size_t bytes, uint8_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(seed + i);
    }
}

static bool filled(const uint8_t *data, size_t bytes, uint8_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != (uint8_t)(seed + i)) {
            return false;
        }
    }
    return true;
}

/* Before and after differ, so that a copy of one over the other is seen. */
enum { SEED_BEFORE = 0xA5, SEED_AFTER = 0x5A, SEED_JUNK = 0xDB };

static void set_guards(const harness_buffer *b)
{
    fill(b->before, GUARD_BYTES, SEED_BEFORE);
    fill(b->after, GUARD_BYTES, SEED_AFTER);
    harness_forbid(b->before, GUARD_BYTES);
    harness_forbid(b->after, GUARD_BYTES);
}

static bool guards_intact(const harness_buffer *b)
{
    harness_allow(b->before, GUARD_BYTES);
    harness_allow(b->after, GUARD_BYTES);
    const bool intact = filled(b->before, GUARD_BYTES, SEED_BEFORE) && filled(b->after, GUARD_BYTES, SEED_AFTER);
    harness_forbid(b->before, GUARD_BYTES);
    harness_forbid(b->after, GUARD_BYTES);
    return intact;
}

static int check_guards(size_t buffers)
{
    for (size_t i = 0; i < buffers; i++) {
        if (!guards_intact(&harness_buffers[i])) {
            return harness_buffers[i].broken;
        }
    }
    return STATUS_OK;
}

static int infer(const harness_buffer *inputs, const harness_buffer *outputs)
{
    for (size_t i = 0; i < harness_inputs; i++) {
        if (!harness_read(inputs[i].data, inputs[i].bytes)) {
            return STATUS_IO;
        }
    }
    /* An output that the model forgets to write must not show the previous inference's value. */
    for (size_t i = 0; i < harness_outputs; i++) {
        fill(outputs[i].data, outputs[i].bytes, SEED_JUNK);
    }
    const int code = harness_model_run();
    const int status = check_guards(1 + harness_inputs + harness_outputs);
    if (status != STATUS_OK) {
        return status;
    }
    if (code != 0) {
        harness_report("code", (uint32_t)code);
        return STATUS_RUN;
    }
    for (size_t i = 0; i < harness_outputs; i++) {
        if (!harness_write(outputs[i].data, outputs[i].bytes)) {
            return STATUS_IO;
        }
    }
    return STATUS_OK;
}

static int infer_all(void)
{
    uint32_t inferences;
    if (!harness_read(&inferences, sizeof inferences)) {
        return STATUS_IO;
    }
    for (uint32_t i = 0; i < inferences; i++) {
        const int status = infer(harness_buffers + 1, harness_buffers + 1 + harness_inputs);
        if (status != STATUS_OK) {
            harness_report("inference", i);
            return status;
        }
    }
    return STATUS_OK;
}

int main(void)
{
    for (size_t i = 0; i < 1 + harness_inputs + harness_outputs; i++) {
        set_guards(&harness_buffers[i]);
    }
    /* Junk in the arena: static storage starts as zeros, a user's buffer need not. */
    fill(harness_buffers[0].data, harness_buffers[0].bytes, SEED_JUNK);
    if (!harness_open()) {
        return STATUS_IO;
    }
    const int code = harness_model_init();
    if (code != 0) {
        harness_report("code", (uint32_t)code);
        return STATUS_INIT;
    }
    const int status = infer_all();
    uint32_t stack;
    if (harness_measured_stack(&stack)) {
        harness_report("stack", stack);
    }
    return harness_close() || status != STATUS_OK ? status : STATUS_IO;
}
