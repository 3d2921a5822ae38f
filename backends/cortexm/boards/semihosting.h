/* Arm semihosting: a breakpoint asks the emulator for a service of the host. */
#ifndef PLANISH_SEMIHOSTING_H
#define PLANISH_SEMIHOSTING_H

#include <stdint.h>

void print(const char *text);
void print_hex(const char *key, uint32_t value);
void leave(int status) __attribute__((noreturn));

#endif
