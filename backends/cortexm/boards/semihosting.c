/* Files and console of the harness on a board (Arm IHI 0069, "Semihosting for AArch32 and AArch64"). */
#include "harness.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    OPEN_READ = 1,  /* "rb" */
    OPEN_WRITE = 5, /* "wb" */
    STOPPED_APPLICATION_EXIT = 0x20026,
};

static uint32_t input_file, output_file;

static uint32_t ask(uint32_t operation, const void *arguments)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = arguments;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print(const char *text)
{
    ask(SYS_WRITE0, text);
}

void harness_report(const char *key, uint32_t value)
{
    char text[9];
    for (int i = 0; i < 8; i++) {
        text[i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15u];
    }
    text[8] = '\0';
    print("planish: ");
    print(key);
    print(" 0x");
    print(text);
    print("\n");
}

void harness_exit(int status)
{
    const uint32_t arguments[2] = {STOPPED_APPLICATION_EXIT, (uint32_t)status};
    ask(SYS_EXIT_EXTENDED, arguments);
    for (;;) {
    }
}

static bool open_file(const char *name, uint32_t length, uint32_t mode, uint32_t *file)
{
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    *file = ask(SYS_OPEN, arguments);
    return *file != UINT32_MAX;
}

/* The names are relative: the emulator is started in the folder that holds the files. */
bool harness_open(void)
{
    static const char input_name[] = "inputs.bin", output_name[] = "outputs.bin";
    return open_file(input_name, sizeof input_name - 1, OPEN_READ, &input_file) &&
           open_file(output_name, sizeof output_name - 1, OPEN_WRITE, &output_file);
}

/* SYS_READ and SYS_WRITE return how many bytes they did NOT transfer. */
bool harness_read(void *data, size_t bytes)
{
    const uint32_t arguments[3] = {input_file, (uint32_t)data, bytes};
    return ask(SYS_READ, arguments) == 0;
}

bool harness_write(const void *data, size_t bytes)
{
    const uint32_t arguments[3] = {output_file, (uint32_t)data, bytes};
    return ask(SYS_WRITE, arguments) == 0;
}

bool harness_close(void)
{
    const uint32_t input_closed = ask(SYS_CLOSE, &input_file);
    const uint32_t output_closed = ask(SYS_CLOSE, &output_file);
    return input_closed == 0 && output_closed == 0;
}

void harness_forbid(const void *data, size_t bytes)
{
    (void)data;
    (void)bytes;
}

void harness_allow(const void *data, size_t bytes)
{
    (void)data;
    (void)bytes;
}
