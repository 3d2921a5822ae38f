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

static void set_guards(const buffer *b)
{
    fill(b->before, GUARD_BYTES, SEED_BEFORE);
    fill(b->after, GUARD_BYTES, SEED_AFTER);
    forbid(b->before, GUARD_BYTES);
    forbid(b->after, GUARD_BYTES);
}

static bool guards_intact(const buffer *b)
{
    allow(b->before, GUARD_BYTES);
    allow(b->after, GUARD_BYTES);
    const bool intact = filled(b->before, GUARD_BYTES, SEED_BEFORE) && filled(b->after, GUARD_BYTES, SEED_AFTER);
    forbid(b->before, GUARD_BYTES);
    forbid(b->after, GUARD_BYTES);
    return intact;
}

static int check_guards(size_t buffers)
{
    for (size_t i = 0; i < buffers; i++) {
        if (!guards_intact(&model_buffers[i])) {
            return model_buffers[i].broken;
        }
    }
    return STATUS_OK;
}

static int infer(const buffer *inputs, const buffer *outputs)
{
    for (size_t i = 0; i < model_inputs; i++) {
        if (!io_read(inputs[i].data, inputs[i].bytes)) {
            return STATUS_IO;
        }
    }
    /* An output that the model forgets to write must not show the previous inference's value. */
    for (size_t i = 0; i < model_outputs; i++) {
        fill(outputs[i].data, outputs[i].bytes, SEED_JUNK);
    }
    const int code = model_run();
    const int status = check_guards(1 + model_inputs + model_outputs);
    if (status != STATUS_OK) {
        return status;
    }
    if (code != 0) {
        report("code", (uint32_t)code);
        return STATUS_RUN;
    }
    for (size_t i = 0; i < model_outputs; i++) {
        if (!io_write(outputs[i].data, outputs[i].bytes)) {
            return STATUS_IO;
        }
    }
    return STATUS_OK;
}

static int infer_all(void)
{
    uint32_t inferences;
    if (!io_read(&inferences, sizeof inferences)) {
        return STATUS_IO;
    }
    for (uint32_t i = 0; i < inferences; i++) {
        const int status = infer(model_buffers + 1, model_buffers + 1 + model_inputs);
        if (status != STATUS_OK) {
            report("inference", i);
            return status;
        }
    }
    return STATUS_OK;
}

int main(void)
{
    for (size_t i = 0; i < 1 + model_inputs + model_outputs; i++) {
        set_guards(&model_buffers[i]);
    }
    /* Junk in the arena: static storage starts as zeros, a user's buffer need not. */
    fill(model_buffers[0].data, model_buffers[0].bytes, SEED_JUNK);
    if (!io_open()) {
        return STATUS_IO;
    }
    const int code = model_init();
    if (code != 0) {
        report("code", (uint32_t)code);
        return STATUS_INIT;
    }
    const int status = infer_all();
    uint32_t stack;
    if (measured_stack(&stack)) {
        report("stack", stack);
    }
    return io_close() || status != STATUS_OK ? status : STATUS_IO;
}
