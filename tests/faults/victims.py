"""Allocation experiments that are ended at random moments, two at a time. Run as a process of its own, as root.

``python -m tests.faults.victims ROOT STORE SEED COUNT`` forks each experiment from itself, warm, so that it begins within a
millisecond; the experiment then leaves through the interpreter's own end, as any program does. How long each kind of experiment
lives, and of which parts, is measured first, so that the moments lie in all of its life, set-up and removal too. Half of them are
random in time. The other half are random among its phases, however short: where a machine has much in its caches, to drop them is
three quarters of the time, and hardly a moment would fall on anything else. After an end by SIGINT or SIGTERM it looks at once for
what was left. Ends with one clean start. Prints a line of JSON an experiment.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import mmap
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import toolkit.__main__
from toolkit import cli, doctor, mounts, scratch, scratch_folder, signals, spoken, terminal, turns
from toolkit.experiments import allocation, survey
from toolkit.experiments.allocation import allocate_on
from toolkit.sensors import allocation as sensor
from toolkit.sensors import one_file
from toolkit.store import Store

MIB = 1024 * 1024
# What the command imports when it is called: here before anything is forked.
WARM = (cli, doctor, spoken, terminal, survey)

AT_ONCE = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)

#: What is measured in an experiment: file systems and methods. Those that need large images come less often.
BY_COMMAND = "by command"
KINDS: dict[str, tuple[list[str], list[str], int]] = {
    "ext4, tmpfs": (["ext4", "tmpfs"], ["mmap_memset", "posix_fallocate"], 12),
    "ext3": (["ext3"], ["write_64k", "mmap_memset"], 6),
    "ext2, ext4-noextents": (["ext2", "ext4-noextents"], ["mmap_memset", "ftruncate"], 4),
    "tmpfs": (["tmpfs"], ["mmap_memset", "write_4k"], 4),
    "xfs": (["xfs"], ["fallocate", "mmap_memset"], 1),
    "btrfs": (["btrfs"], ["mmap_memset", "write_8k"], 1),
    BY_COMMAND: (["ext4", "ext2"], ["mmap_memset", "write_64k"], 2),
}

# A moment may also come after the end: beside another, an experiment may take longer than was measured.
_LATEST = 1.05
# A part is struck as it begins, or up to so long after.
_AFTER_S = 0.004


@dataclass
class Life:
    """One experiment: how it was to end, and how it did."""

    kind: str
    number: int | None = None
    #: The moment; or the part that it follows, and by how much.
    due: float = float("inf")
    part: int | None = None
    after_s: float = 0.0
    group: bool = False
    #: A second signal, so long after the first.
    again_s: float | None = None
    pid: int = 0
    begun: float = 0.0
    lasted_s: float = 0.0
    #: The phases that it went through, one after the other, if it came to its end.
    parts: list[str] = field(default_factory=list)
    phase: str | None = None
    #: When the first signal was sent for certain.
    struck: float | None = None
    status: int = 0
    left: list[str] = field(default_factory=list)
    said: str = ""

    def row(self) -> dict[str, Any]:
        """For the test."""
        named = None if self.number is None else signal.Signals(self.number).name
        return {
            "kind": self.kind, "signal": named, "phase": self.phase, "status": self.status, "left": self.left, "said": self.said,
            "twice": self.again_s is not None, "group": self.group, "lasted_s": round(self.lasted_s, 4),
        }  # fmt: skip


# The phase that a victim is in: a text in memory that it shares with us.
_PHASE_BYTES = 64
FORKED, DONE = "forked", "done"


class Phases:
    """Where each victim is, seen from outside: the innermost of the functions below that it is in."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PHASE_BYTES * AT_ONCE)
        self._stack: list[str] = []
        self.lane = 0
        #: In the victim: the phases that it has gone through, and the place in them at which it is to say so.
        self._parts: list[str] = []
        self._part: int | None = None
        #: One a lane: counts up when the victim there has come to its part.
        self.come = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(AT_ONCE)]

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Have a function say when it is entered and left."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._stack.append(phase)
            self._write()
            try:
                return original(*args, **kwargs)
            finally:
                self._stack.pop()
                self._write()

        setattr(owner, name, watched)

    def begin(self, lane: int, part: int | None) -> None:
        """In the victim."""
        self.lane, self._part = lane, part
        self._write()

    def end(self, out: Path) -> None:
        """In the victim: what it was to do is done, and its answer written. Its phases go to a file."""
        done = time.monotonic()
        out.write_text(json.dumps(self._parts))
        self._say(f"{DONE} {done}")

    def of(self, lane: int) -> tuple[str, float]:
        """The phase of the victim in a lane; and when it was done, or now."""
        phase = self._memory[lane * _PHASE_BYTES : (lane + 1) * _PHASE_BYTES].rstrip(b"\0").decode()
        done, _, moment = phase.partition(" ")
        return (DONE, float(moment)) if done == DONE else (phase, time.monotonic())

    def clear(self, lane: int) -> None:
        """Before a victim begins."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.come[lane])
        self._memory[lane * _PHASE_BYTES : (lane + 1) * _PHASE_BYTES] = FORKED.encode().ljust(_PHASE_BYTES, b"\0")

    def _write(self) -> None:
        phase = self._stack[-1] if self._stack else "between"
        for whole in ("sweep", "remove"):
            if whole in self._stack[:-1]:
                phase = f"{whole}: {phase}"
                break
        self._say(phase)
        if len(self._parts) == self._part:
            os.eventfd_write(self.come[self.lane], 1)
        self._parts.append(phase)

    def _say(self, phase: str) -> None:
        self._memory[self.lane * _PHASE_BYTES : (self.lane + 1) * _PHASE_BYTES] = phase.encode().ljust(_PHASE_BYTES, b"\0")


def watch_all(phases: Phases) -> None:
    """Name the parts of an experiment's life."""
    phases.watch(scratch_folder, "remove_leftovers", "sweep")
    phases.watch(scratch_folder, "_marked", "mark")
    phases.watch(scratch, "write_image", "image")
    phases.watch(scratch, "_mkfs", "mkfs")
    phases.watch(scratch, "fill_again", "fill")
    phases.watch(mounts, "attach", "attach")
    phases.watch(mounts, "mount", "mount")
    phases.watch(mounts, "unmount", "unmount")
    phases.watch(mounts, "drop_caches", "drop caches")
    phases.watch(mounts, "sync_filesystem", "sync")
    phases.watch(sensor, "allocate", "allocate")
    phases.watch(sensor, "_in_child", "allocate in a child")
    phases.watch(one_file, "_fragments", "extents")
    phases.watch(scratch_folder, "_remove_all", "remove")
    phases.watch(scratch_folder, "_detach_below", "detach")
    phases.watch(scratch_folder, "_delete", "delete")
    phases.watch(turns, "_went_on", "turn")
    phases.watch(Store, "append", "store")


def experiment(kind: str, seed: int, store: Path) -> None:
    """In the victim: one experiment by the public function, or by the command. Writes the numbers of its rows' errors."""
    filesystems, methods, _ = KINDS[kind]
    if kind != BY_COMMAND:
        frame = allocate_on(filesystems, methods, MIB, 1, seed, if_busy="go-on")
        with signals.held_back():  # pandas may drop what answers a signal, and this is the test's own
            answer = frame[["errno"]]
        terminal.show_json(answer)
        return
    words = f"allocate --size 1MiB --repeat 1 --seed {seed} --if-busy go-on --json --store".split()
    words.append(str(store))
    for name, values in (("--filesystem", filesystems), ("--method", methods)):
        words += [word for value in values for word in (name, value)]
    sys.argv = ["toolkit", *words]
    toolkit.__main__.main()


@dataclass
class Arena:
    """Where they live and die."""

    root: Path
    store: Path
    out: Path
    phases: Phases
    #: What lay in the root before: nobody's of ours.
    planted: frozenset[str]

    def fork(self, lane: int, life: Life, seed: int) -> None:
        """Begin a life. In the child this does not return."""
        self.phases.clear(lane)
        sys.stdout.flush()
        life.begun = time.monotonic()
        life.pid = os.fork()
        if life.pid:
            return
        os.setsid()
        for fd, name, flags in ((0, os.devnull, os.O_RDONLY), (1, f"{lane}.out", _FRESH), (2, f"{lane}.err", _FRESH)):
            os.dup2(os.open(self.out / name, flags, 0o600), fd)
        self.phases.begin(lane, life.part)
        try:
            experiment(life.kind, seed, self.store)
        except SystemExit as end:
            if end.code:
                raise
        sys.stdout.flush()
        self.phases.end(self.out / f"{lane}.parts")
        sys.exit(0)

    def strike(self, lane: int, life: Life) -> None:
        """The moment has come."""
        assert life.number is not None
        phase, _ = self.phases.of(lane)
        if phase == FORKED:
            # Python forgets the signals that come while it forks, which no program that begins in the common way does.
            life.due = time.monotonic() + 0.001
            return
        life.phase = life.phase or phase
        (os.killpg if life.group else os.kill)(life.pid, life.number)
        life.struck = life.struck or time.monotonic()
        life.due = float("inf") if life.again_s is None else time.monotonic() + life.again_s
        life.again_s = None

    def ended(self, lane: int, life: Life, status: int) -> None:
        """Look at what is there now that it has ended."""
        phase, ended = self.phases.of(lane)
        life.lasted_s = ended - life.begun
        if phase == DONE:
            if life.struck is not None and ended <= life.struck:
                life.phase = DONE  # it came to its end after we looked which phase it was in, and before the signal came
            life.parts = json.loads((self.out / f"{lane}.parts").read_text())
        life.status = os.waitstatus_to_exitcode(status)
        life.said = (self.out / f"{lane}.err").read_text(errors="replace")
        if life.status != -signal.SIGKILL:
            life.left = self.left_by(life.pid)
        if life.status == 0:
            answer = (self.out / f"{lane}.out").read_text()
            rows = json.loads(answer) if answer else [{"errno": "that is missing, as are all rows"}]
            life.left += [f"a row with errno {row['errno']}" for row in rows if row["errno"] is not None]

    def left_by(self, pid: int) -> list[str]:
        """What a process left that has ended: its marks, its children, and whatever has no mark at all."""
        found = [f"process: {line}" for line in in_session(pid)]
        things = [thing for thing in things_below(self.root) if thing[1] not in self.planted]
        pids = {mark.stem: _pid_of(mark) for mark in self.root.glob("*.owner") if mark.name not in self.planted}
        found += [f"mark: {name}" for name, owner in pids.items() if owner == pid]
        # A mark comes before everything and goes after it: what is still there had one when it was looked for.
        still = set(things_below(self.root))
        return found + [f"{kind}: {name}" for kind, name in things if name not in pids and (kind, name) in still]


_FRESH = os.O_CREAT | os.O_TRUNC | os.O_WRONLY


def _pid_of(mark: Path) -> int | None:
    try:
        found: int = json.loads(mark.read_text())["pid"]
    except (FileNotFoundError, ValueError):
        return None
    return found


def things_below(root: Path) -> list[tuple[str, str]]:
    """Folders, mounts and loop devices below a folder, each with the first part of its path there."""
    found = [("folder", path.name) for path in root.iterdir() if path.suffix != ".owner"]
    prefix = f"{root}/"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        point = line.split(" ")[4]
        if point.startswith(prefix):
            found.append(("mount", point.removeprefix(prefix).split("/")[0]))
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            path = backing.read_text(errors="surrogateescape").rstrip("\n")
            if path.startswith(prefix):
                found.append(("loop device", path.removeprefix(prefix).split("/")[0]))
    return found


def in_session(session: int) -> list[str]:
    """The processes of a session, zombies left out."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (process / "stat").read_text(errors="surrogateescape").rpartition(")")
            state, _parent, _group, its_session = rest.split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(f"{name}) {state}")
    return found


def live(arena: Arena, lives: Iterator[tuple[Life, int]]) -> Iterator[Life]:
    """Run lives, some at a time; each is given when it has ended."""
    running: dict[int, tuple[int, Life]] = {}
    free = list(range(AT_ONCE))
    poll = select.poll()
    for come in arena.phases.come:
        poll.register(come, select.POLLIN)
    more = True
    while running or more:
        while free and more:
            life, seed = next(lives, (None, 0))
            if life is None:
                more = False
                break
            lane = free.pop()
            arena.fork(lane, life, seed)
            life.due += life.begun
            fd = os.pidfd_open(life.pid)
            poll.register(fd, select.POLLIN)
            running[fd] = lane, life
        due = min((life.due for _, life in running.values()), default=0.0)
        wait_ms = min(max(due - time.monotonic(), 0.0), 60.0) * 1000
        ready = {fd for fd, _ in poll.poll(wait_ms)}
        for lane, life in running.values():
            if arena.phases.come[lane] in ready:
                os.eventfd_read(arena.phases.come[lane])
                life.due = time.monotonic() + life.after_s
        for fd in ready.intersection(running):
            lane, life = running.pop(fd)
            poll.unregister(fd)
            os.close(fd)
            _, status = os.waitpid(life.pid, 0)
            arena.ended(lane, life, status)
            free.append(lane)
            yield life
        for lane, life in running.values():
            if time.monotonic() >= life.due:
                arena.strike(lane, life)


def lives_to_end(rng: random.Random, whole: dict[str, Life], count: int) -> Iterator[tuple[Life, int]]:
    """So many lives, each of a random kind, with a random end at a random moment; ``whole`` are lives that were left alone."""
    kinds = list(KINDS)
    weights = [KINDS[kind][2] for kind in kinds]
    for position in range(count):
        (kind,) = rng.choices(kinds, weights)
        number = SIGNALS[position % len(SIGNALS)]
        life = Life(kind, number, group=number == signal.SIGINT and rng.random() < 0.5)
        if rng.random() < 0.5:
            life.due = rng.uniform(0.0, whole[kind].lasted_s * _LATEST)
        else:
            parts = whole[kind].parts
            phase = rng.choice(sorted(set(parts)))
            life.part = rng.choice([place for place, each in enumerate(parts) if each == phase])
            life.after_s = rng.choice([0.0, rng.uniform(0.0, _AFTER_S)])
        if number != signal.SIGKILL and rng.random() < 0.25:
            life.again_s = rng.uniform(0.0, 0.03)
        yield life, rng.randrange(2**31)


def main() -> None:
    """See the module."""
    root, store = Path(sys.argv[1]), Path(sys.argv[2])
    seed, count = int(sys.argv[3]), int(sys.argv[4])
    os.environ["TOOLKIT_SCRATCH"] = str(root)
    # Small images: there are many.
    allocation._image_bytes = lambda largest: 64 * MIB
    phases = Phases()
    watch_all(phases)
    out = store.with_name("out")
    out.mkdir()
    arena = Arena(root, store, out, phases, frozenset(path.name for path in root.iterdir()))
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: what is forked from here would not be sound"

    def say(life: Life) -> None:
        sys.stdout.write(json.dumps(life.row()) + "\n")
        sys.stdout.flush()

    # What was imported has not to be gone through, and so copied, as each of them ends.
    gc.freeze()
    whole: dict[str, Life] = {}
    for life in live(arena, ((Life(kind), 1) for kind in KINDS for _ in range(AT_ONCE))):
        say(life)
        whole[life.kind] = max(life, whole.get(life.kind, life), key=lambda one: one.lasted_s)
    rng = random.Random(seed)
    missing = count
    while missing:
        # Those that were done before their moment came do not count.
        lives = lives_to_end(rng, whole, missing)
        for life in live(arena, lives):
            missing -= life.phase not in (None, DONE)
            say(life)
    for life in live(arena, iter([(Life(BY_COMMAND), 1)])):
        say(life)


if __name__ == "__main__":
    main()
