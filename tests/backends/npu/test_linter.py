"""What each rule of the ISA forbids is found, at its instruction."""

import numpy as np
import pytest

from planish.backends.npu.assembly import assemble
from planish.backends.npu.functional import execute
from planish.backends.npu.linter import Kind, lint, prove
from planish.backends.npu.machine import load_machine
from planish.ir.errors import ModelError

MACHINE = load_machine("256")
VIEWS = """
.arena 256
cfgt.flat view=v0 space=arena dtype=i8 address=0 size=64
cfgt.flat view=v1 space=act dtype=i8 address=0 size=64
cfgt.flat view=v2 space=act dtype=i8 address=64 size=64
cfgt.flat view=v3 space=acc dtype=i32 address=0 size=64
cfgt.flat view=v4 space=arena dtype=i8 address=128 size=64
cfgt.flat view=v5 space=wgt dtype=i8 address=0 size=64
cfgt.flat view=v6 space=tab dtype=i8 address=0 size=256
cfgt.flat view=v7 space=act dtype=u8 address=128 size=64
cfgt.flat view=v8 space=acc dtype=i32 address=256 size=1
cfgt.flat view=v9 space=act dtype=i8 address=32 size=64
cfgc
cfgp.scale params=0 channels=1
cfgp.add a_multiplier=1 b_multiplier=1 bias=0 shift=0
cfgp.clamp
"""


def findings(text):
    return lint(assemble(f"{VIEWS}{text}\nhalt"), MACHINE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ld dst=v0 src=v1", "dst lies in arena, not in act or wgt or acc or tab"),
        ("ld dst=v1 src=v2", "src lies in act, not in arena or const"),
        ("st dst=v4 src=v5", "src lies in wgt, not in act or acc"),
        ("ld dst=v7 src=v0", "dtypes u8 and i8 differ"),
        ("ld dst=v6 src=v0", "sizes [1, 1, 1, 256] and [1, 1, 1, 64] differ"),
        ("mov.copy dst=v9 src=v1", "dst overlaps src"),
        ("mov.fill dst=v1 value=128", "128 is no i8"),
        ("cfgt.axes view=v1 pair=1 size_a=2 stride_a=1 size_b=2 stride_b=1\nmov.fill dst=v1 value=0", "share a place"),
        ("cfgt.axes view=v1 pair=1 size_a=1 stride_a=1 size_b=0 stride_b=1\nmov.fill dst=v1 value=0", "at least 1"),
        ("cfgt.base view=v1 space=act dtype=i16 address=1\nmov.fill dst=v1 value=0", "not multiples"),
        ("cfgt.base view=v1 space=acc dtype=i16 address=0\nmov.fill dst=v1 value=0", "acc holds i32, not i16"),
        ("cfgt.base view=v1 space=act dtype=i32 address=0\nmov.fill dst=v1 value=0", "i32 does not lie in act"),
        ("cfgt.axes view=v1 pair=0 size_a=65535 stride_a=0 size_b=65535 stride_b=0\nred function=max dst=v2 src=v1",
         "are more than"),
        ("cfgc shape=9\npool function=max dst=v1 src=v2", "no array shape 9; it has 3"),
        ("cfgc stride_h=0\npool function=max dst=v1 src=v2", "are at least 1"),
        ("cfgc pad_left=9\npool function=max dst=v1 src=v2", "has no maximum"),
        ("cfgc kernel_h=255 kernel_w=255 dilation_h=255 dilation_w=255\npool function=max dst=v1 src=v2",
         "the windows of the image have more than"),
        ("mm.conv dst=v3 src=v1 weights=v5", "weights have sizes [1, 1, 1, 64], not [64, 1, 1, 64]"),
        ("mm.depthwise dst=v8 src=v1 weights=v5", "dst has 1 channels, src 64"),
        ("mm.depthwise dst=v3 src=v7 weights=v5", "src is u8, not i8 or i16"),
        ("pp dst=v2 src=v7 stages=table table=v6", "not kept within [-128, 127]"),
        ("pp dst=v2 src=v1 stages=table table=v5", "table lies in wgt, not in tab"),
        ("cfgp.scale params=0 channels=3\npp dst=v2 src=v1", "parameters for 3 channels do not fit 64"),
        ("cfgp.scale params=6 channels=1\npp dst=v2 src=v1", "no multiple of 4"),
        ("cfgp.scale params=0 channels=1 lo=9 hi=1\npp dst=v2 src=v1", "clamp [9, 1] is empty"),
        ("ew function=recip dst=v2 a=v1", "a lies in act, not in acc"),
        ("ew function=scale dst=v2 a=v1 b=v7", "b lies in act, not in acc"),
        ("red function=sum dst=v2 src=v1", "dst lies in act, not in acc"),
        ("red function=sum dst=v3 src=v1", "dst has sizes [1, 1, 1, 64], not [1, 1, 1, 1]"),
    ],
)  # fmt: skip
def test_an_illegal_instruction(text, reason):
    found = findings(text)
    assert [f.kind for f in found] == [Kind.ILLEGAL] * len(found)
    assert reason in "\n".join(f.message for f in found)
    # `halt` is the last, and the instruction in question stands before it.
    position = len(assemble(VIEWS + text).instructions) - 1
    assert {f.position for f in found} == {position}


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("ld dst=v1 src=v0\nst dst=v4 src=v1", Kind.RACE, "reads act 0..63 while LD may still write it"),
        ("mov.fill dst=v1 value=0\nld dst=v1 src=v0", Kind.RACE, "writes act 0..63 while PP may still write it"),
        ("ld dst=v1 src=v0\nsync\nst dst=v4 src=v1\nld dst=v1 src=v0", Kind.RACE, "while ST may still read it"),
        ("ld dst=v1 src=v0\nsync\nst dst=v0 src=v1\nld dst=v2 src=v0", Kind.RACE, "reads arena 0..63"),
        ("ld dst=v1 src=v0 wait=1", Kind.DEADLOCK, "waits for semaphore 1, which nothing before it gives"),
        ("sync.mm wait=1\nld dst=v1 src=v0 signal=1", Kind.DEADLOCK, "which nothing before it gives"),
        ("ld dst=v1 src=v0 signal=1", Kind.SEMAPHORE, "given 1 times more than it is taken"),
        ("sync.ld signal=1\nsync.st signal=1\nsync.mm wait=1\nsync.mm wait=1", Kind.SEMAPHORE, "given by two engines"),
        ("sync.ld signal=1\nsync.ld signal=1\nsync.mm wait=1\nsync.pp wait=1", Kind.SEMAPHORE, "taken by two engines"),
        ("sync.ld signal=1\n" * 256 + "sync.mm wait=1\n" * 256, Kind.SEMAPHORE, "may rise above 255"),
        ("st dst=v4 src=v1", Kind.UNWRITTEN, "reads bytes of act 0..63"),
        ("mov.fill dst=v3 value=2147483647\new function=add dst=v3 a=v3 b=v3", Kind.OVERFLOW, "may reach 4294967294"),
        ("mov.fill dst=v3 value=-2147483648\nred function=sum dst=v8 src=v3", Kind.OVERFLOW, "may reach -137438953472"),
        ("ld dst=v1 src=v0\nsync\ncfgp.add a_multiplier=32767 b_multiplier=32767 bias=2147483647 shift=0\n"
         "pp dst=v2 src=v1 residual=v1 stages=add", Kind.OVERFLOW, "the sum with the residual may reach"),
    ],
)  # fmt: skip
def test_a_wrong_program(text, kind, reason):
    found = findings(text)
    assert kind in {f.kind for f in found}
    assert reason in "\n".join(f.message for f in found if f.kind is kind)


def test_legal_programs():
    assert findings("ld dst=v1 src=v0 signal=1\nst dst=v4 src=v1 wait=1") == []
    assert findings("ld dst=v1 src=v0\nsync\nst dst=v4 src=v1") == []
    # A signal may be passed on; what is ordered once is ordered for all that follows.
    chain = "ld dst=v1 src=v0 signal=1\nsync.mm wait=1 signal=2\nsync.pp wait=2 signal=3\nst dst=v4 src=v1 wait=3"
    assert findings(chain) == []
    assert findings("sync.ld signal=1\n" * 255 + "sync.mm wait=1\n" * 255) == []


def test_memory_that_a_region_does_not_have():
    found = lint(assemble(".arena 5000000\nhalt"), MACHINE)
    assert "5000000 bytes do not fit into sram" in found[0].message


def test_a_proof_that_fails_says_where():
    with pytest.raises(ModelError, match="instruction 14 \\(st\\)") as caught:
        prove(assemble(f"{VIEWS}st dst=v4 src=v1\nhalt"), MACHINE)
    assert caught.value.where == MACHINE.name
    with pytest.raises(ModelError, match=r"instruction 0 \(mov.fill\): view v3 was not set"):
        prove(assemble("mov.fill dst=v3 value=0\nhalt"), MACHINE)


def test_even_an_unproven_program_stays_in_its_memories():
    program = assemble("cfgt.flat view=v1 space=act dtype=i8 address=18400 size=64\nmov.fill dst=v1 value=0\nhalt")
    with pytest.raises(ModelError, match=r"bytes 18400\.\.18463 are outside of act, which has 18432"):
        execute(program, MACHINE, np.zeros(0, np.uint8))
