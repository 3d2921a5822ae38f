/* QEMU plugin: exact counts of executed instructions, per region of interest and per address.
 *
 * Arguments (addresses in hexadecimal):
 *   begin=<address> end=<address>    a region runs from executing the first to executing the second
 *   skip_from=<address> skip_to=<address>    code that is never counted: the harness
 *   out=<file>
 * Output, one line each:
 *   R <region> <instructions>        for every region, in order
 *   P <address> <count>              for every address executed in region 0
 *
 * Only executions of translation blocks are counted; an address was executed as often as the blocks that contain it. That
 * is exact because a block is left early only by an exception, of which a model has none. A predicated instruction in an
 * IT block counts whether its condition holds or not.
 */
#include "qplug.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_API_VERSION
#define PLUGIN_API_VERSION 1
#endif

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = PLUGIN_API_VERSION;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

typedef struct block {
    uint64_t executions;
    uint64_t executions_at_begin;
    size_t instructions;
    uint32_t *addresses;
    struct block *next;
} block;

typedef struct {
    uint32_t address;
    uint64_t count;
} entry;

static block *blocks;
static uint64_t begin_address, end_address, skip_from, skip_to;
static FILE *out;
static unsigned int region;

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (memory == NULL) {
        fprintf(stderr, "insncount: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

static uint64_t executions_in_region(const block *b)
{
    return b->executions - b->executions_at_begin;
}

static int by_address(const void *left, const void *right)
{
    const uint32_t a = ((const entry *)left)->address, b = ((const entry *)right)->address;
    return (a > b) - (a < b);
}

/* An address may be in several blocks: one for each way to jump into the same code. */
static void write_profile(size_t size)
{
    entry *entries = allocate(size + 1, sizeof *entries);
    size_t n = 0;
    for (const block *b = blocks; b != NULL; b = b->next) {
        for (size_t i = 0; i < b->instructions && executions_in_region(b) > 0; i++) {
            entries[n++] = (entry){b->addresses[i], executions_in_region(b)};
        }
    }
    qsort(entries, n, sizeof *entries, by_address);
    for (size_t i = 0; i < n;) {
        const uint32_t address = entries[i].address;
        uint64_t count = 0;
        for (; i < n && entries[i].address == address; i++) {
            count += entries[i].count;
        }
        fprintf(out, "P %" PRIx32 " %" PRIu64 "\n", address, count);
    }
    free(entries);
}

static void on_block(unsigned int cpu, void *data)
{
    (void)cpu;
    ((block *)data)->executions++;
}

static void on_begin(unsigned int cpu, void *data)
{
    (void)cpu;
    (void)data;
    for (block *b = blocks; b != NULL; b = b->next) {
        b->executions_at_begin = b->executions;
    }
}

static void on_end(unsigned int cpu, void *data)
{
    (void)cpu;
    (void)data;
    uint64_t total = 0;
    size_t addresses = 0;
    for (const block *b = blocks; b != NULL; b = b->next) {
        total += executions_in_region(b) * b->instructions;
        addresses += b->instructions;
    }
    fprintf(out, "R %u %" PRIu64 "\n", region, total);
    if (region++ == 0) {
        write_profile(addresses);
    }
    fflush(out);
}

static void watch_markers(struct qemu_plugin_tb *translated)
{
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(translated); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(translated, i);
        const uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (address == begin_address) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_begin, 0, NULL);
        }
        if (address == end_address) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_end, 0, NULL);
        }
    }
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *translated)
{
    (void)id;
    const uint64_t start = qemu_plugin_tb_vaddr(translated);
    watch_markers(translated);
    if (start >= skip_from && start < skip_to) {
        return;
    }
    block *b = allocate(1, sizeof *b);
    b->instructions = qemu_plugin_tb_n_insns(translated);
    b->addresses = allocate(b->instructions, sizeof *b->addresses);
    for (size_t i = 0; i < b->instructions; i++) {
        b->addresses[i] = (uint32_t)qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(translated, i));
    }
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_cb(translated, on_block, 0, b);
}

static bool read_address(const char *argument, const char *key, uint64_t *address)
{
    const size_t length = strlen(key);
    if (strncmp(argument, key, length) != 0 || argument[length] != '=') {
        return false;
    }
    *address = strtoull(argument + length + 1, NULL, 16);
    return true;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        } else if (!read_address(argv[i], "begin", &begin_address) && !read_address(argv[i], "end", &end_address) &&
                   !read_address(argv[i], "skip_from", &skip_from) && !read_address(argv[i], "skip_to", &skip_to)) {
            fprintf(stderr, "insncount: unknown argument %s\n", argv[i]);
            return -1;
        }
    }
    if (out == NULL) {
        fprintf(stderr, "insncount: out=<file> is missing or cannot be written\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
    return 0;
}
