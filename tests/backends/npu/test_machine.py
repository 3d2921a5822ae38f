"""Machines: those that come along work, and those that cannot work are refused with every reason."""

import re

import pytest

from planish.backends.npu.machine import FOLDER, load_machine, parse_machine
from planish.ir.errors import UsageError

TEXT = (FOLDER / "npu256.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("macs", [32, 64, 128, 256])
def test_machines_that_come_along(macs):
    machine = load_machine(str(macs))
    assert machine.name == f"npu:{macs}"
    assert machine.array.macs == macs
    # The memory of the Ethos-U55 with as many multipliers.
    assert sum(vars(machine.memories).values()) == {32: 16, 64: 16, 128: 24, 256: 48}[macs] * 1024
    assert machine.square_mm > 0
    assert load_machine(f"{macs}@shared-sram").mode == "shared-sram"


def test_a_machine_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace('name = "npu:256"', 'name = "mine"'), encoding="utf-8")
    assert load_machine(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("macs = 256", "macs = 255", "array shape 16x16x1 multiplies 256 pairs per cycle, not the 255"),
        ("acc = 8192", "acc = 32", "needs 64 bytes of sums at once"),
        ("wgt = 18432", "wgt = 128", "needs 256 bytes of weights at once"),
        ("tab = 4096", "tab = 1024", "need 1033 bytes"),
        ("act = 18432", "act = 18431", "must be a multiple of 4"),
        ("efficiency = 0.8", "efficiency = 1.5", "dma.efficiency is 1.5"),
        ("efficiency = 0.8", "efficiency = nan", "dma.efficiency is nan"),
        ("clock_mhz = 500", "clock_mhz = 0", "clock_mhz is 0"),
        ("queue = 16", "queue = 0", "control.queue is 0"),
        ("bytes_per_cycle = 8", "bytes_per_cycle = -8", "external.sram.bytes_per_cycle is -8"),
        ("latency = 32", "latency = -1", "external.sram.latency is -1"),
        ('constants = "flash"', 'constants = "disk"', "'disk', which is no external memory"),
        ('mode = "sram-only"', 'mode = "fast"', "none of modes"),
        ("shapes = [[16, 16, 1], [16, 8, 2], [8, 8, 4]]", "shapes = []", "there is no way to multiply"),
        ("a8w8 = 1, a16w8 = 2", "a16w8 = 2", "has no a8w8"),
        ("external = { sram = 12.5, flash = 160.0 }", "external = { sram = 12.5 }", "energy.external has no flash"),
        ("fill = 8", "fill = -8", "array.fill is -8"),
        ("a8w8 = 1", "a8w8 = 0", "array.precisions.a8w8 is 0"),
        ("mac = 0.3", "mac = -0.3", "energy.mac is -0.3"),
        ("flash = 160.0 }", "flash = inf }", "energy.external.flash is inf"),
    ],
)
def test_a_machine_that_cannot_work(old, new, reason):
    assert old in TEXT
    with pytest.raises(UsageError, match=re.escape(reason)) as caught:
        parse_machine(TEXT.replace(old, new), "here.toml")
    assert caught.value.where == "here.toml"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("macs = 256", "macs = ", "is not TOML"),
        ("macs = 256", "macs = true", "array.macs is True, which is not int"),
        ("macs = 256", 'macs = "many"', "array.macs is 'many', which is not int"),
        ("macs = 256", "maks = 256", "unknown key array.maks; known: macs, shapes"),
        ("macs = 256\n", "", "array.macs is missing"),
        ("[16, 16, 1]", "[16, 16]", "array.shapes[0] is not a table"),
        ("depthwise = [16, 4, 4]", "depthwise = 4", "array.depthwise is not a table"),
        ("shapes = [[16, 16, 1], [16, 8, 2], [8, 8, 4]]", "shapes = 3", "array.shapes is not a list"),
    ],
)
def test_a_malformed_description(old, new, reason):
    assert old in TEXT
    with pytest.raises(UsageError, match=re.escape(reason)):
        parse_machine(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("name", ["512", "nowhere.toml", "256@slow", "/"])
def test_a_machine_that_there_is_not(name):
    with pytest.raises(UsageError) as caught:
        load_machine(name)
    assert caught.value.fix
