"""Cycles by hand, and by the simulator; where they went; the trace."""

import json

import pytest

from planish.backends.npu.assembly import assemble
from planish.backends.npu.isa import Space
from planish.backends.npu.machine import load_machine
from planish.backends.npu.simulator import time
from planish.backends.npu.timing import conv_steps, product_cycles, transfer_cycles, vector_cycles
from planish.backends.npu.trace import chrome_trace

MACHINE = load_machine("256")
ARRAY = MACHINE.array


def test_products():
    """3x3, 16 to 16 channels, 128 pixels on 16x16x1: 9 steps of 128 cycles, no cycle lost."""
    steps = conv_steps(ARRAY.shapes[0], (3, 3), 16, seamless=True)
    work = product_cycles(MACHINE, ARRAY.shapes[0], 16, 128, steps, 128 * 16 * 144)
    assert (steps, work.useful, work.padding, work.weights, work.fill) == (9, 1152, 0, 0, 8)
    assert work.cycles == 1160


def test_columns_without_gaps_share_steps():
    """3 columns of 3 channels are 9 products of 16; with gaps each column takes a step."""
    assert conv_steps(ARRAY.shapes[0], (3, 3), 3, seamless=True) == 3
    assert conv_steps(ARRAY.shapes[0], (3, 3), 3, seamless=False) == 9


def test_one_pixel_waits_for_its_weights():
    """640 inputs, 128 outputs, one pixel: 8 blocks x 40 steps, each 256 bytes of weights at 32 per cycle."""
    work = product_cycles(MACHINE, ARRAY.shapes[0], 128, 1, 40, 640 * 128)
    assert (work.useful, work.weights) == (320, 8 * 40 * 7)


def test_depthwise():
    """64 channels, 100 pixels, 9 taps on 16x4x4: 4 blocks x 3 steps x 25 groups; 9 of 12 taps are useful."""
    work = product_cycles(MACHINE, ARRAY.depthwise, 64, 100, 3, 64 * 100 * 9)
    assert (work.useful, work.padding) == (225, 75)


def test_transfers():
    """1 KiB in a row: 1024 / (8 * 0.8) cycles; in rows of 16 bytes each takes a burst of 32."""
    assert (transfer_cycles(MACHINE, Space.ARENA, 1, 1024).cycles, MACHINE.region(Space.ARENA).latency) == (160, 32)
    scattered = transfer_cycles(MACHINE, Space.ARENA, 64, 16)
    assert (scattered.useful, scattered.burst, scattered.external_bytes) == (160, 160, 2048)
    assert transfer_cycles(MACHINE.with_mode("shared-sram"), Space.CONST, 1, 1024).cycles == 1280


def test_vectors():
    assert vector_cycles(MACHINE, 1001).cycles == 126 + MACHINE.post.fill


#: Two loads, a product over the second, post-processing, a store. Views: 0 image, 1 weights, 2 sums, 3 parameters.
CHAIN = """
.arena 2048
.data {parameters}
cfgt.flat view=v0 space=act dtype=i8 address=0 size=16
cfgt.flat view=v1 space=wgt dtype=i8 address=0 size=16
cfgt.axes view=v1 pair=0 size_a=16 stride_a=16 size_b=1 stride_b=16
cfgt.flat view=v2 space=acc dtype=i32 address=0 size=16
cfgt.flat view=v3 space=tab dtype=i8 address=0 size=9
cfgt.flat view=v4 space=arena dtype=i8 address=0 size=16
cfgt.flat view=v5 space=const dtype=i8 address=12 size=16
cfgt.axes view=v5 pair=0 size_a=16 stride_a=16 size_b=1 stride_b=16
cfgt.flat view=v6 space=const dtype=i8 address=0 size=9
cfgt.flat view=v7 space=arena dtype=i8 address=1024 size=16
cfgc
cfgp.scale params=0 channels=1
ld dst=v0 src=v4 tag=1
ld dst=v3 src=v6 tag=1
ld dst=v1 src=v5 signal=1 tag=1
mm.conv dst=v2 src=v0 weights=v1 wait=1 signal=2 tag=2
pp dst=v0 src=v2 wait=2 signal=3 tag=3
st dst=v7 src=v0 wait=3 tag=4
halt
"""


def chain():
    block = (0).to_bytes(4, "little") + (1 << 20).to_bytes(4, "little") + bytes(4) + bytes(256)
    return assemble(CHAIN.format(parameters=block.hex()))


def test_a_chain_by_hand():
    """Everything waits for what is before it, so the cycles are the sum."""
    simulation = time(chain(), MACHINE)
    by_tag = {layer.tag: layer for layer in simulation.layers}
    # 13 instructions are read before the first load can start; its latency; then 32, 32 and 256 bytes at 6.4 a cycle.
    assert by_tag[1].classes == {"control": 13, "latency": 32, "load": 5 + 5 + 40}
    assert by_tag[2].classes["compute"] == 1
    assert by_tag[2].classes["weights"] == 7
    assert by_tag[3].cycles == 2 + MACHINE.post.fill
    assert by_tag[4].cycles == 32 + 5
    assert simulation.cycles == sum(layer.cycles for layer in simulation.layers)
    assert by_tag[1].stall == "load"
    assert simulation.macs == 256
    assert simulation.energy > 0


def test_loads_hide_each_others_latency():
    text = "\n".join(f"ld dst=v0 src=v4 tag={n}" for n in range(1, 9))
    views = ("view=v0 space=act", "view=v4 space=arena")
    setup = "\n".join(f"cfgt.flat {view} dtype=i8 address=0 size=1024" for view in views)
    simulation = time(assemble(f".arena 1024\n{setup}\n{text}\nhalt"), MACHINE)
    assert simulation.cycles == 3 + 32 + 8 * 160


def test_the_trace_is_json_and_names_layers():
    simulation = time(chain(), MACHINE)
    trace = json.loads(json.dumps(chrome_trace(simulation, {2: 'conv "1"\n'})))
    rows = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(rows) == len(simulation.spans) == 6
    assert 'conv "1"\n' in {row["name"] for row in rows}
    assert max(row["ts"] + row["dur"] for row in rows) == simulation.cycles == trace["otherData"]["cycles"]


@pytest.mark.parametrize("macs", [32, 64, 128, 256])
def test_every_machine_runs_it(macs):
    machine = load_machine(str(macs))
    assert time(chain(), machine).utilisation <= 1
