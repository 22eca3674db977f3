"""Experiments that are ended at random moments: nothing is left of them, and nothing is touched that is not theirs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.look_alikes import clear_up, loop_devices, planted
from tests.faults.victims import BY_COMMAND, DONE, KINDS, MIB
from tests.needs import require_root, require_tool
from tests.traces import traces
from toolkit import mounts
from toolkit.errors import BusyWarning, NotMeasuredWarning
from toolkit.experiments.allocation import allocate_on

COUNT = 300

# What the phases of an experiment's life belong to.
_SET_UP = {"turn", "sweep", "mark", "image", "mkfs", "fill", "attach", "mount"}
_MEASURING = {"unmount", "drop caches", "allocate", "allocate in a child", "sync", "extents"}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder for scratch folders; whatever a test that failed left mounted there goes.

    In memory: on a disk, the images of three hundred experiments are thirty gigabytes to write.
    """
    require_root()
    memory = tmp_path.resolve() / "memory"
    memory.mkdir()
    mounts.mount("tmpfs", memory, "tmpfs", ["size=4g"])
    try:
        made = memory / "root"
        made.mkdir()
        yield made
        clear_up(made)
    finally:
        mounts.unmount(memory)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_hundred_ends_leave_nothing_and_touch_nothing_of_others(root: Path) -> None:
    seed = int(os.environ.get("TOOLKIT_TEST_SEED") or secrets.randbelow(2**31))
    print(f"TOOLKIT_TEST_SEED={seed}")
    store, temporary = root.with_name("store"), root.with_name("temporary")
    temporary.mkdir()
    token = secrets.token_hex(8)
    with planted(root) as others:
        before, devices = others.state(), _not_of_tests()
        lives = _lives(root, store, seed, temporary, token)
        assert _with_token(token) == []
        assert others.state() == before
        assert [line for line in devices if line not in _not_of_tests()] == []
    assert list(temporary.iterdir()) == []
    _nothing_went_wrong(lives)
    _all_of_life_was_struck([life for life in lives if life["phase"] not in (None, DONE)])


def _lives(root: Path, store: Path, seed: int, temporary: Path, token: str) -> list[dict[str, Any]]:
    """Let them live and die in a network namespace of their own, so that nobody else's experiment waits for them."""
    known = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    environment = {**os.environ, **known, "TMPDIR": str(temporary), "TOOLKIT_TEST_TOKEN": token}
    words = [sys.executable, "-m", "tests.faults.victims", str(root), str(store), str(seed), str(COUNT)]
    done = subprocess.run(
        [require_tool("unshare"), "--net", *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _with_token(token: str) -> list[str]:
    """The processes that descend from the victims; a mkfs that outlived one may need a moment."""
    deadline = time.monotonic() + 10
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if token.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _not_of_tests() -> list[str]:
    """Mounts and loop devices of the machine, but for what other tests and toolkits on it may end meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines() + [
        json.dumps(device) for device in loop_devices()
    ]
    return [line for line in lines if not any(word in line for word in ("pytest-", "virt-toolkit", "/tmp/", "/dev/loop"))]


def _nothing_went_wrong(lives: list[dict[str, Any]]) -> None:
    assert [life for life in lives if life["left"] or not _ended_as_it_should(life)] == []
    # Nothing held a removal up, and nothing went wrong where nobody would hear of it.
    bad = ("Scratch files are left", "ResourceWarning")
    assert [life for life in lives if any(word in life["said"] for word in bad) or _ignored(life["said"])] == []


def _ignored(said: str) -> list[str]:
    """The exceptions that Python could only print; not its own answer to a signal that comes while it ends, or twice."""
    named = re.findall(r"^Exception ignored .*\n(?:(?:Traceback|[ ]).*\n)*(\S.*)?", said, re.MULTILINE)
    return [name for name in named if not name.startswith("KeyboardInterrupt")]


def _all_of_life_was_struck(struck: list[dict[str, Any]]) -> None:
    """Making, measuring, removing, and the end of an earlier one's leavings; by each signal, and of each kind."""
    assert len(struck) == COUNT
    phases = Counter(life["phase"] for life in struck)
    print(dict(phases.most_common()), Counter(life["signal"] for life in struck))
    assert len(phases) >= 12, phases
    assert sum(phases[phase] for phase in _SET_UP) >= COUNT // 20, phases
    assert sum(phases[phase] for phase in _MEASURING) >= COUNT // 20, phases
    assert sum(count for phase, count in phases.items() if phase.startswith("remove")) >= COUNT // 60, phases
    assert {life["kind"] for life in struck} == set(KINDS)
    assert min(Counter(life["signal"] for life in struck).values()) >= COUNT // 5


def _ended_as_it_should(life: dict[str, Any]) -> bool:
    """By its signal; or in good order, if that came too late or never."""
    if life["phase"] in (None, DONE) and life["status"] == 0:
        return True
    if life["signal"] is None:
        return False
    number = signal.Signals[life["signal"]]
    by_signal = {-number} if number == signal.SIGKILL else {-number, 128 + number}
    # The command says "interrupted" and ends with 1.
    return life["status"] in by_signal | ({1} if life["kind"] == BY_COMMAND and number != signal.SIGKILL else set())


_ENDLESS = """
import select, sys
from toolkit.experiments import allocation
allocation._image_bytes = lambda largest: 64 << 20
with allocation.on_scratch(["ext4", "tmpfs"], ["mmap_memset", "write_64k"], 1 << 20, 10**6, seed=1, if_busy="go-on") as experiment:
    print(next(iter(experiment.places.values())).folder.parent.name, flush=True)
    for row in experiment.rows():
        print(row["errno"], flush=True)
        if select.select([sys.stdin], [], [], 0)[0]:
            break
"""


@contextlib.contextmanager
def _endless() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An experiment that measures until its standard input ends, and the name of its folder; it has measured ten files."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            assert [process.stdout.readline() for _ in range(10)] == ["None\n"] * 10
            yield process, name
        finally:
            process.kill()


@pytest.mark.root
def test_a_start_that_sweeps_leaves_a_living_experiment_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_SCRATCH", str(root))
    with _endless() as (living, name):
        assert living.stdin is not None
        assert living.stdout is not None
        with _endless() as (killed, left):
            killed.kill()
        assert {path.name for path in root.iterdir()} == {name, f"{name}.owner", left, f"{left}.owner"}

        def of_the_living() -> list[object]:
            devices = [(device["name"], device["back-file"]) for device in loop_devices() if name in str(device["back-file"])]
            files = [(path.name, path.stat().st_ino) for path in (root / f"{name}.owner", root / name, root / name / "ext4.image")]
            return [devices, files]

        before = of_the_living()
        assert len(before[0]) == 1  # type: ignore[arg-type]
        with pytest.warns(NotMeasuredWarning, match=f"process {living.pid}"), pytest.warns(BusyWarning):
            swept = allocate_on(["ext4", "tmpfs"], ["mmap_memset", "write_64k"], MIB, 2, if_busy="go-on")
        assert swept["errno"].isna().all()
        assert {path.name for path in root.iterdir()} == {name, f"{name}.owner"}
        assert of_the_living() == before
        living.stdin.close()
        rows = living.stdout.read().splitlines()
        assert len(rows) > 1
        assert set(rows) == {"None"}
        assert living.wait() == 0
    assert traces(root) == []
