"""A hand-written model for the runners: what a code generator would write, with any body."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from planish.backends.c.harness import Buffer, Spec

HEADER = """
#ifndef TINY_H
#define TINY_H
#include <stddef.h>
#include <stdint.h>
#define TINY_ARENA_BYTES {arena_bytes}u
typedef struct {{ int8_t *arena; }} tiny_context;
int tiny_init(tiny_context *context, void *arena, size_t arena_bytes);
int tiny_run(tiny_context *context{parameters});
#endif
"""

SOURCE = """
#include "tiny.h"
#define LAYER static __attribute__((noinline)) void
{layers}
int tiny_init(tiny_context *context, void *arena, size_t arena_bytes)
{{
    context->arena = arena;
    return arena_bytes == TINY_ARENA_BYTES ? 0 : 1;
}}
int tiny_run(tiny_context *context{parameters})
{{
    (void)context;
    {unused}
    {body}
    return 0;
}}
"""

INT8_16 = Buffer("int8_t", 16)
INT32_1 = Buffer("int32_t", 1)
ONE_TO_ONE = Spec("tiny", (INT8_16,), (INT32_1,))


def write_model(
    directory: Path, body: str, layers: str = "", spec: Spec = ONE_TO_ONE, arena_bytes: int = 16
) -> list[Path]:
    """A model whose tiny_run does `body` with x0, x1, ... and y0, y1, ..."""
    inputs = [f", const {buffer.ctype} *x{i}" for i, buffer in enumerate(spec.inputs)]
    outputs = [f", {buffer.ctype} *y{i}" for i, buffer in enumerate(spec.outputs)]
    parameters = "".join(inputs + outputs)
    (directory / "tiny.h").write_text(HEADER.format(arena_bytes=arena_bytes, parameters=parameters))
    source = directory / "tiny.c"
    unused = "".join(f"(void)x{i};" for i in range(len(spec.inputs)))
    source.write_text(SOURCE.format(layers=layers, parameters=parameters, unused=unused, body=body))
    return [source]


# Halves into the arena, then their sum; and a loop of which every instruction is known.
LAYERS = """
LAYER halve(int8_t *y, const int8_t *x)
{
    for (int i = 0; i < 16; i++) {
        y[i] = (int8_t)(x[i] / 2);
    }
}
LAYER sum(int32_t *y, const int8_t *x)
{
    volatile int32_t partial[64];
    for (int i = 0; i < 64; i++) {
        partial[i] = 0;
    }
    for (int i = 0; i < 16; i++) {
        partial[0] = partial[0] + x[i];
    }
    *y = partial[0];
}
#ifdef __arm__
__attribute__((naked)) LAYER spin(void)
{
    __asm__ volatile(".syntax unified\\n movs r0, #100\\n 1: subs r0, r0, #1\\n bne 1b\\n bx lr\\n");
}
#else
LAYER spin(void) {}
#endif
"""
BODY = "halve(context->arena, x0); sum(y0, context->arena); spin();"
INPUTS = np.random.default_rng(0).integers(-128, 128, (5, 4, 4), dtype=np.int8)
HALVED = np.trunc(INPUTS / 2).astype(np.int32)
EXPECTED = HALVED.sum(axis=(1, 2), keepdims=True).reshape(5, 1)
ANY_INPUT = np.zeros((1, 16), np.int8)
