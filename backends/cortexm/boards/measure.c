/* Region markers and the stack's high-water mark.
 *
 * The profiler opens a region where harness_measure_begin starts and closes it where harness_measure_end starts. Both, and
 * the function that calls them, lie in .text.harness, which it leaves out: what remains is the model's, to the instruction.
 *
 * Both are written in assembly, for ARMv6-M and up, because they must not use the stack themselves: sp is here what the
 * model finds when it is called, and all below it is free to be painted.
 */
#include "harness.h"

uint32_t harness_deepest_stack __attribute__((used)); /* bytes */

/* Paint from _stack_limit (the lowest word of the stack, see sections.ld) up to sp. */
__attribute__((naked)) NOT_COUNTED void harness_measure_begin(void)
{
    __asm volatile(".syntax unified\n"
                   "    ldr r0, =_stack_limit\n"
                   "    ldr r1, =0xC0DEFACE\n"
                   "    mov r2, sp\n"
                   "1:  cmp r0, r2\n"
                   "    bhs 2f\n"
                   "    stmia r0!, {r1}\n"
                   "    b 1b\n"
                   "2:  bx lr\n"
                   "    .ltorg\n");
}

/* Look for the lowest word that lost its paint. */
__attribute__((naked)) NOT_COUNTED void harness_measure_end(void)
{
    __asm volatile(".syntax unified\n"
                   "    ldr r0, =_stack_limit\n"
                   "    ldr r1, =0xC0DEFACE\n"
                   "    mov r2, sp\n"
                   "1:  cmp r0, r2\n"
                   "    bhs 2f\n"
                   "    ldr r3, [r0]\n"
                   "    cmp r3, r1\n"
                   "    bne 2f\n"
                   "    adds r0, r0, #4\n"
                   "    b 1b\n"
                   "2:  subs r2, r2, r0\n"
                   "    ldr r1, =harness_deepest_stack\n"
                   "    ldr r0, [r1]\n"
                   "    cmp r2, r0\n"
                   "    bls 3f\n"
                   "    str r2, [r1]\n"
                   "3:  bx lr\n"
                   "    .ltorg\n");
}

bool harness_measured_stack(uint32_t *bytes)
{
    *bytes = harness_deepest_stack;
    return true;
}
