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
    # Vela's Ethos_U55_High_End_Embedded: 4 GB/s of SRAM, 0.5 GB/s of flash.
    rates = {name: region.bytes_per_cycle * machine.clock_mhz / 1000 for name, region in machine.external.items()}
    assert rates == {"sram": 4.0, "flash": 0.5}
    assert machine.dma.efficiency == 0.8
    assert all(shape.macs == macs for shape in (*machine.array.shapes, machine.array.depthwise))
    assert machine.host.core == "cortex-m55"
    for name, size in vars(machine.memories).items():
        assert machine.energy.local[name] == pytest.approx(1.25 * max(1, size / 8192) ** 0.5, rel=0.02)
    for origin in (f"Ethos-U55-{macs} in Vela 5.2.0", "Horowitz, ISSCC 2014", "assumption", "Corstone-300"):
        assert origin in machine.source
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
        ("macs = 256", "macs = 0", "array.macs is 0"),
        ("[16, 16, 1]", "[-16, -16, 1]", "array shape -16x-16x1.k is -16"),
        ("[16, 16, 1]", "[0, 16, 1]", "array shape 0x16x1.k is 0"),
        ("depthwise = [16, 4, 4]", "depthwise = [16, 4, 2]", "array shape 16x4x2 multiplies 128 pairs"),
        ("width = 8", "width = 0", "post.width is 0"),
        ("act = 18432", "act = 0", "memories.act is 0"),
        ("act = 18432", "act = -4", "memories.act is -4"),
        ("act = 18432", "act = 33554432", "at most 16 MiB"),
        ("bytes = 4194304", "bytes = 0", "external.sram.bytes is 0"),
        ("bytes = 4194304", "bytes = 99999999999999999999999", "external.sram.bytes is 99999999999999999999999"),
        ("burst = 32", "burst = 0", "external.sram.burst is 0"),
        ("bytes_per_cycle = 8", "bytes_per_cycle = nan", "external.sram.bytes_per_cycle is nan"),
        ("clock_mhz = 500\nmode", "clock_mhz = -500\nmode", "clock_mhz is -500"),
        ("clock_mhz = 500\nmode", "clock_mhz = inf\nmode", "clock_mhz is inf"),
        ("channels = 4", "channels = 0", "dma.channels is 0"),
        ("efficiency = 0.8", "efficiency = 0", "dma.efficiency is 0"),
        ("dispatch = 1", "dispatch = 0", "control.dispatch is 0"),
        ('core = "cortex-m55"', 'core = "z80"', "host.core is 'z80', which is none of cortex-m0"),
        ("cycles_per_instruction = 1.0", "cycles_per_instruction = 0", "host.cycles_per_instruction is 0"),
        ("a16w8 = 2", "a4w4 = 2", "array.precisions has 'a4w4'; operands are a8w8 or a16w8"),
        ("flash = 160.0 }", "flash = 160.0, disk = 1.0 }", "energy.external has 'disk', which is no memory"),
        ("tab = 1.25 }", "tab = 1.25, cache = 1.0 }", "energy.local has 'cache', which is no memory"),
        (", tab = 1.25 }", " }", "energy.local has no tab"),
        ("local_byte = 6.0", "local_byte = -6.0", "area.local_byte is -6.0"),
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
        ("macs = 256", "macs = 256.0", "array.macs is 256.0, which is not int"),
        ("[16, 16, 1]", '[16, "16", 1]', "array.shapes[0].c is '16', which is not int"),
        ('name = "npu:256"', "name = 256", "name is 256, which is not str"),
        ("act = 18432", "act = [18432]", "memories.act is [18432], which is not int"),
        ("[control]", "[controll]", "unknown key controll"),
        ("[host] ", "[[host]] ", "host is not a table"),
        ("latency = 32", "latency = 32\nlatency = 33", "is not TOML"),
        ("macs = 256", f"macs = {'9' * 5000}", "is not TOML"),
        ("macs = 256", f"macs = {'[' * 9000}{']' * 9000}", "nested too deeply"),
        (TEXT, "", "name is missing"),
        (TEXT, "\x00", "is not TOML"),
    ],
)
def test_a_malformed_description(old, new, reason):
    assert old in TEXT
    with pytest.raises(UsageError, match=re.escape(reason)):
        parse_machine(TEXT.replace(old, new, 1))


def test_a_file_that_is_no_machine(tmp_path):
    path = tmp_path / "mine.toml"
    for content, reason in ((b"\xff\xfe\x00", "is not TOML"), (b"#" * (1 << 17), "larger than 65536 bytes")):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=reason) as caught:
            load_machine(str(path))
        assert caught.value.where == str(path)


@pytest.mark.parametrize("name", ["512", "nowhere.toml", "256@slow", "/", "", "@", ".", "256.toml", "-64"])
def test_a_machine_that_there_is_not(name):
    with pytest.raises(UsageError) as caught:
        load_machine(name)
    assert caught.value.fix
