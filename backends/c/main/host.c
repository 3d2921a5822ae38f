/* The machine of the harness on a desktop: plain files. Instructions and stack are not measured here. */
#include "harness.h"

#include <inttypes.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

static FILE *input_file, *output_file;

bool harness_open(void)
{
    input_file = fopen("inputs.bin", "rb");
    output_file = fopen("outputs.bin", "wb");
    return input_file != NULL && output_file != NULL;
}

bool harness_read(void *data, size_t bytes)
{
    return fread(data, 1, bytes, input_file) == bytes;
}

bool harness_write(const void *data, size_t bytes)
{
    return fwrite(data, 1, bytes, output_file) == bytes;
}

bool harness_close(void)
{
    const int input_closed = fclose(input_file);
    const int output_closed = fclose(output_file);
    return input_closed == 0 && output_closed == 0;
}

void harness_report(const char *key, uint32_t value)
{
    fprintf(stderr, "planish: %s 0x%08" PRIx32 "\n", key, value);
}

void harness_forbid(const void *data, size_t bytes)
{
#ifdef WITH_ASAN
    __asan_poison_memory_region(data, bytes);
#else
    (void)data;
    (void)bytes;
#endif
}

void harness_allow(const void *data, size_t bytes)
{
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(data, bytes);
#else
    (void)data;
    (void)bytes;
#endif
}

void harness_measure_begin(void)
{
}

void harness_measure_end(void)
{
}

bool harness_measured_stack(uint32_t *bytes)
{
    *bytes = 0;
    return false;
}
