"""A tiny guest as it recorded itself: read as any machine is, and never believed. The guest controls every byte of it."""

from __future__ import annotations

import gzip
import math
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.trees import TREES
from toolkit.guests.recorded import busy_s, recorded
from toolkit.guests.told import _NAME
from toolkit.runs import begin
from toolkit.sensors.rng import read_rng_state

KMSG = "tree/dev/kmsg"
STAT = "tree/proc/stat"


def files_of(tree: str) -> dict[str, bytes]:
    """A recorded machine, as the files of a guest's result."""
    root = TREES / tree
    return {f"tree/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("tree", sorted(path.name for path in TREES.iterdir() if path.is_dir()))
def test_a_machine_that_was_recorded_reads_as_its_tree_does(tree: str) -> None:
    found = recorded(files_of(tree))
    assert found.state == read_rng_state(TREES / tree)
    said = TREES / tree / "proc/sys/kernel/osrelease"
    assert found.kernel == (said.read_text().strip() if said.exists() else None)
    assert found.boot_id is None or re.fullmatch(r"[0-9a-f-]{36}", found.boot_id)


def test_nothing_said_is_nothing_known() -> None:
    found = recorded({})
    assert (found.boot_id, found.kernel, found.notes_s, found.busy_s) == (None, None, {}, None)
    assert found.state.regime is None
    assert found.state.crng_ready_s is None
    assert found.state.kernel_log == "absent"


def test_notes_are_told_with_their_times_and_the_first_of_each_counts() -> None:
    log = (
        b"6,0,0,-;Linux version 6.1\n12,1,1500000,-;virt-toolkit: user space\n SUBSYSTEM=virt-toolkit: no\n"
        b"6,2,2000000,-;random: crng init done\n12,3,3000000,-;virt-toolkit: user space\n12,4,4250000,-;virt-toolkit: end\n"
    )
    found = recorded({KMSG: log})
    assert found.notes_s == {"user space": 1.5, "end": 4.25}
    assert found.state.crng_ready_s == 2.0
    assert found.state.kernel_log == "complete"


@pytest.mark.parametrize(
    "line",
    [
        "12,1,99,-;he said virt-toolkit: user space",
        "12,1,99,-; virt-toolkit: user space",
        "12,1,99,-;x;virt-toolkit: user space",
        "12,1,9999999999999999,-;virt-toolkit: user space",  # later than any machine has run
        "12,1,-5,-;virt-toolkit: user space",
        "virt-toolkit: user space",
        "12,1,,-;virt-toolkit: user space",
    ],
)
def test_lines_that_look_like_notes_are_none(line: str) -> None:
    assert recorded({KMSG: f"6,0,0,-;Linux version\n{line}\n".encode()}).notes_s == {}


def test_a_program_cannot_say_in_the_kernels_name_that_it_is_ready() -> None:
    log = b"6,0,0,-;Linux version 6.1\n12,1,5,-;random: crng init done\n"
    assert recorded({KMSG: log}).state.crng_ready_s is None


@pytest.mark.parametrize("number", [b"9" * 19, b"9" * 5000, b"-1", "²".encode(), b"1e3", b"0x10", b""])
def test_a_log_with_numbers_that_are_none_is_read_past(number: bytes) -> None:
    for line in (b"%b,1,5,-;", b"6,%b,5,-;", b"6,1,%b,-;"):
        found = recorded({KMSG: b"6,0,0,-;Linux version\n" + line % number + b"random: crng init done\n"})
        assert found.state.crng_ready_s is None
        assert found.state.kernel_log == "complete"


@pytest.mark.parametrize("said", [b"none", b"", b"../../etc", b"0" * 36, b"F" * 8 + b"-0000-0000-0000-" + b"0" * 12, b"\xff\xfe"])
def test_a_boot_id_that_is_none_is_not_taken(said: bytes) -> None:
    assert recorded({"tree/proc/sys/kernel/random/boot_id": said}).boot_id is None


@pytest.mark.parametrize("said", [b"", b"-6.1", b"6.1 <script>", b"6.1/../..", b"6" * 200, b"6.1\n6.2", "6.1\u202e".encode()])
def test_a_kernel_that_is_none_is_not_taken(said: bytes) -> None:
    assert recorded({"tree/proc/sys/kernel/osrelease": said}).kernel is None


@pytest.mark.parametrize(
    ("stat", "wanted"),
    [
        (b"cpu  100 0 50 900 10 0 5 0 0 0\ncpu0 1 1 1\n", 1.55),
        (b"cpu  100 7 50 900 10 3 5 35 9 9", 2.0),
        (b"cpu  %b 0 50 900 10 0 5 0" % (b"9" * 19), None),
        (b"cpu  %b 0 50 900 10 0 5 0" % (b"9" * 5000), None),
        (b"cpu  -100 0 50 900 10 0 5 0", None),
        (b"cpu  nan 0 50 900 10 0 5 0", None),
        (b"cpu  100 0 50 900 10 0 5", None),
        ("cpu  ² 0 50 900 10 0 5 0".encode(), None),
        (b"", None),
    ],
)
def test_processor_time_is_what_was_not_idle_or_it_is_not_known(stat: bytes, wanted: float | None) -> None:
    assert busy_s(stat) == wanted
    assert recorded({STAT: stat}).busy_s == wanted


def test_a_name_that_is_a_file_and_a_folder_says_nothing_and_harms_nothing() -> None:
    avail = "tree/proc/sys/kernel/random/entropy_avail"
    one = {f"{avail}/a": b"1", avail: b"256", f"{KMSG}/a": b"", KMSG: b"6,0,0,-;x\n", "tree/sys/a": b"", "tree/sys": b""}
    for files, log in ((one, "absent"), (dict(reversed(one.items())), "complete")):
        found = recorded(files).state
        assert (found.regime, found.kernel_log) == (None, log)
        # In a folder of that name lies nothing that a kernel says: the number counts, whichever comes first.
        assert found.entropy_avail_bits == 256


def test_a_configuration_that_unpacks_without_end_or_is_damaged_is_bounded() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    damaged = bytearray(gzip.compress(b"CONFIG_RANDOM_TRUST_CPU=y\n" * 100))
    damaged[15:25] = bytes(byte ^ 0xFF for byte in damaged[15:25])
    for packed in (bomb, bytes(damaged), damaged[:30], b"\x1f\x8b", b"none"):
        assert recorded({"tree/proc/config.gz": bytes(packed)}).state.trust_cpu is None


HARMLESS = st.from_regex(_NAME, fullmatch=True).filter(lambda name: len(name) < 256 and not name.startswith("./"))
READ = st.sampled_from(
    [
        "dev/kmsg", "proc/stat", "proc/cpuinfo", "proc/cmdline", "proc/config.gz", "proc/1/comm", "proc/9/comm", "proc/lrng_type",
        "proc/sys/kernel/osrelease", "proc/sys/kernel/random/boot_id", "proc/sys/kernel/random/poolsize",
        "proc/sys/kernel/random/entropy_avail", "proc/sys/kernel/random/urandom_min_reseed_secs",
        "sys/class/misc/hw_random/rng_available", "sys/class/misc/hw_random/rng_current", "sys/class/misc/hw_random/rng_quality",
        "sys/module/rng_core/parameters/current_quality", "sys/bus/virtio/devices/virtio0/device",
        "sys/bus/virtio/devices/virtio0/driver/uevent", "boot/config-6.1", "boot/config-", "proc", "dev", "sys/class",
    ]
)  # fmt: skip
NUMBERS = st.integers(-(10**30), 10**30).map(lambda number: str(number).encode())
LINES = st.lists(
    st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from([b"random: crng init done", b"virt-toolkit: user space", b"\xff", b";"])),
    max_size=4,
).map(lambda rows: b"".join(b"%b,%b,%b,-;%b\n" % row for row in rows))
CONTENT = st.binary(max_size=200) | NUMBERS | LINES | st.binary(max_size=60).map(gzip.compress)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(READ.map("tree/{}".format) | HARMLESS | HARMLESS.map("tree/{}".format), CONTENT, max_size=6))
@example({"tree/" + "a" * 250: b""})
@example({"tree/" + "/".join("a" * 125): b""})
@example({"tree/proc/sys/kernel/random/poolsize": b"9" * 4000})
@example({"tree/proc/sys/kernel/random/entropy_avail": b""})
def test_whatever_a_guest_says_is_read_and_fits_the_tables(files: dict[str, bytes]) -> None:
    before = sorted(path.name for path in Path(tempfile.gettempdir()).glob("virt-toolkit-guest-*"))
    found = recorded(files)
    assert sorted(path.name for path in Path(tempfile.gettempdir()).glob("virt-toolkit-guest-*")) == before
    (row,) = begin("test", seed=1).frame("rng_state", [{**found.state.row(), "boot_id": "one"}]).to_dict("records")
    assert row["boot_id"] == "one"
    for seconds in (*found.notes_s.values(), found.busy_s or 0.0):
        assert math.isfinite(seconds)
        assert seconds >= 0
    assert all(seconds * 1e9 < 2**63 for seconds in found.notes_s.values())
