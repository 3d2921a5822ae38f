/* Vectors, reset and faults of a bare Cortex-M. */
#include "harness.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CCR 0xE000ED14u
#define CFSR 0xE000ED28u
#define CPACR 0xE000ED88u
#define MPU_CTRL 0xE000ED94u
#define MPU_RBAR 0xE000ED9Cu
#define MPU_RASR 0xE000EDA0u

#define CCR_UNALIGN_TRP (1u << 3)
#define CCR_LOB (1u << 19)
#define CPACR_FPU_MVE (0xFu << 20)
#define MPU_RBAR_REGION(number) ((1u << 4) | (number))
#define MPU_RASR_ENABLED(log2_bytes) ((((log2_bytes) - 1u) << 1) | 1u)
#define MPU_RASR_NORMAL (1u << 17)
#define MPU_RASR_READ_ONLY (6u << 24)
#define MPU_RASR_NO_ACCESS (1u << 28)
#define MPU_CTRL_ENABLED_OVER_DEFAULT 5u

/* From sections.ld. */
extern uint32_t _stack_limit[], _stack_top[], _data_start[], _data_end[], _data_load[], _bss_start[], _bss_end[];

int main(void);
void Reset_Handler(void) __attribute__((noreturn));
void Fault_Handler(void);
void harness_report_fault(const uint32_t *frame) __attribute__((noreturn, used));

/* The model's stack may be what overflowed: faults are reported on a stack of their own. */
uint64_t harness_fault_stack[64] __attribute__((used));

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    _stack_top,    Reset_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, NULL,
    NULL,          NULL,          NULL,          Fault_Handler, Fault_Handler, NULL,          Fault_Handler, Fault_Handler,
};

__attribute__((naked)) void Fault_Handler(void)
{
    __asm volatile(".syntax unified\n"
                   "mov r0, sp\n"
                   "ldr r1, =harness_fault_stack + 512\n"
                   "mov sp, r1\n"
                   "ldr r1, =harness_report_fault\n"
                   "bx r1\n"
                   ".ltorg\n");
}

void harness_report_fault(const uint32_t *frame)
{
    harness_report("cfsr", REGISTER(CFSR));
    if (frame < _stack_limit) {
        harness_report("overflow", 1);
    } else if (frame + 8 <= _stack_top) {
        harness_report("pc", frame[6]); /* r0-r3, r12, lr, pc, xpsr */
    }
    harness_exit(STATUS_FAULT);
}

/* The MPS2 boards ignore what is written below their RAM, and keep code in RAM: make a stack overflow, and a write to
   constants, the faults that they are on a product. (The boards with ARMv8-M cores do fault below their RAM.) */
#if __ARM_ARCH < 8
static void protect_memory(void)
{
    REGISTER(MPU_RBAR) = 0x00000000u | MPU_RBAR_REGION(0u);
    REGISTER(MPU_RASR) = MPU_RASR_READ_ONLY | MPU_RASR_NORMAL | MPU_RASR_ENABLED(22u);
    REGISTER(MPU_RBAR) = 0x1F000000u | MPU_RBAR_REGION(1u);
    REGISTER(MPU_RASR) = MPU_RASR_NO_ACCESS | MPU_RASR_ENABLED(24u);
    REGISTER(MPU_CTRL) = MPU_CTRL_ENABLED_OVER_DEFAULT;
}
#endif

static void set_up_core(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    REGISTER(CPACR) |= CPACR_FPU_MVE;
#endif
#if defined(__ARM_FEATURE_MVE)
    REGISTER(CCR) |= CCR_LOB; /* low-overhead loops */
#endif
#if defined(__ARM_ARCH_6M__)
    REGISTER(CCR) |= CCR_UNALIGN_TRP; /* emulated by an ARMv7-M core, which would forgive what ARMv6-M does not */
#endif
#if __ARM_ARCH < 8
    protect_memory();
#endif
    __asm volatile("dsb\n isb" ::: "memory");
}

void Reset_Handler(void)
{
    set_up_core();
    const uint32_t *load = _data_load;
    for (uint32_t *word = _data_start; word < _data_end; word++) {
        *word = *load++;
    }
    for (uint32_t *word = _bss_start; word < _bss_end; word++) {
        *word = 0;
    }
    harness_exit(main());
}
