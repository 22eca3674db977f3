from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.needs import require_root
from tests.traces import traces
from toolkit import mounts, runs, scratch
from toolkit.errors import NotMeasuredWarning, ScratchError, UnavailableError, UsageError
from toolkit.experiments import allocation as experiments_allocation
from toolkit.experiments.allocation import allocate, allocate_on, in_directory, on_scratch
from toolkit.experiments.plan import plan
from toolkit.filesystems import FILESYSTEMS, Support
from toolkit.sensors import allocation
from toolkit.sensors.allocation import METHODS
from toolkit.sensors.write_loop import NativeLoop
from toolkit.tables import TABLES

_MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    monkeypatch.setenv("TOOLKIT_SCRATCH", str(made))
    return made.resolve()


def test_the_order_is_the_seeds_and_each_block_holds_everything_once() -> None:
    cells = plan(list(FILESYSTEMS), None, [4096, 8192], 5, seed=3)
    assert cells == plan(list(FILESYSTEMS), None, [4096, 8192], 5, seed=3)
    assert cells != plan(list(FILESYSTEMS), None, [4096, 8192], 5, seed=4)
    block = len(FILESYSTEMS) * len(METHODS) * 2
    orders = set()
    for repeat in range(5):
        part = cells[repeat * block : (repeat + 1) * block]
        assert {cell.repeat for cell in part} == {repeat}
        assert len({cell[:3] for cell in part}) == block
        orders.add(tuple(cell[:3] for cell in part))
    assert len(orders) == 5
    # Interleaved: no file system's measurements stand in a row.
    names = [cell.filesystem for cell in cells[:block]]
    assert sum(before == after for before, after in itertools.pairwise(names)) < block / 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["magic"]}, "no allocation method 'magic'"),
        ({"methods": []}, "there are no methods"),
        ({"methods": "write_4k"}, "methods is one text"),
        ({"size_bytes": 0}, "0 bytes cannot be allocated"),
        ({"size_bytes": []}, "there are no sizes"),
        ({"repeats": 0}, "0 repeats measure nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(root: Path, change: dict[str, object], said: str) -> None:
    arguments = {"methods": ["ftruncate"], "size_bytes": _MIB, "repeats": 1, **change}
    with pytest.raises(UsageError, match=said):
        allocate(root, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=said):
        allocate_on(["tmpfs"], **arguments)  # type: ignore[arg-type]
    assert list(root.iterdir()) == []


def test_in_a_folder_every_method_is_measured_and_nothing_is_left(root: Path) -> None:
    begun = runs.begin("test", seed=5)
    frame = allocate(root, size_bytes=[_MIB, 100_000], repeats=2, run=begun)
    assert dict(frame.dtypes.astype(str)) == TABLES["allocations"].dtypes
    assert list(frame["position"]) == list(range(28))
    assert list(zip(frame["method"], frame["size_bytes"], frame["repeat"], strict=True)) == [
        cell[1:] for cell in plan(["x"], None, [_MIB, 100_000], 2, seed=5)
    ]
    mounted = mounts.mount_of(root)
    assert set(frame["filesystem"]) == {mounted.kernel_type}
    assert set(frame["mount_options"]) == {mounted.options}
    assert frame["mkfs_options"].isna().all()
    assert frame["ageing"].isna().all()
    assert set(frame["run_id"]) == {begun.run_id}
    assert frame["errno"].isna().all()
    assert frame[["allocate_ns", "overhead_ns", "sync_ns"]].notna().all(axis=None)
    assert frame["emulated"].notna().equals(frame["method"] == "posix_fallocate")
    given = frame["method"] != "ftruncate"
    assert (frame["allocated_bytes"][given] >= frame["size_bytes"][given]).all()
    assert (frame["allocated_bytes"][~given] == 0).all()
    assert list(root.iterdir()) == []


def test_a_seed_is_found_and_kept_where_none_is_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[runs.Run] = []

    def begin(command: str, settings: dict[str, object], seed: int | None) -> runs.Run:
        begun.append(runs.begin(command, settings, seed))
        return begun[0]

    monkeypatch.setattr("toolkit.experiments.allocation.begin", begin)
    frame = allocate(root, ["ftruncate", "fallocate", "write_64k"], 4096, 4)
    assert begun[0].seed is not None
    assert json.loads(begun[0].row()["settings_json"].iloc[0])["seed"] == begun[0].seed
    assert list(frame["method"]) == [
        cell.method for cell in plan(["x"], ["ftruncate", "fallocate", "write_64k"], 4096, 4, begun[0].seed)
    ]


def test_the_files_are_private_while_they_are_measured(root: Path) -> None:
    with in_directory(root, ["write_4k"], _MIB, 2, seed=1) as experiment:
        place = next(iter(experiment.places.values()))
        assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
        for _ in experiment.rows():
            assert list(place.folder.iterdir()) == []
    assert traces(root) == []


def test_a_folder_says_what_it_cannot_give(root: Path) -> None:
    with in_directory(root, ["ftruncate"], 4096, 1, seed=1) as experiment:
        assert [left.capability for left in experiment.left_out] == ["allocation on fresh caches"]
        assert "no caches were dropped" in experiment.left_out[0].detail


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        allocate(tmp_path / "missing", ["ftruncate"], 4096, 1)


def test_too_little_space_is_found_before_anything_is_written(root: Path) -> None:
    with pytest.raises(ScratchError, match="are missing"):
        allocate(root, ["ftruncate"], 2**60, 1)
    assert list(root.iterdir()) == []


@pytest.mark.root
def test_each_file_system_is_measured_by_each_method(root: Path) -> None:
    require_root()
    frame = allocate_on(size_bytes=2 * _MIB, repeats=1, seed=9)
    assert len(frame) == len(FILESYSTEMS) * len(METHODS)
    refused = frame[frame["errno"].notna()]
    assert set(refused["errno"]) == {errno.EOPNOTSUPP}
    assert set(zip(refused["filesystem"], refused["method"], strict=True)) == {
        (name, "fallocate") for name in ("ext2", "ext3", "ext4-noextents")
    }
    emulated = frame[frame["emulated"].fillna(False)]
    assert set(emulated["filesystem"]) == {"ext2", "ext3", "ext4-noextents"}
    in_memory = frame["filesystem"] == "tmpfs"
    unseen = in_memory | frame["errno"].notna()  # what a refused file holds is no result
    assert frame["extents"].isna().equals(unseen)
    assert frame["discontinuities"].isna().equals(unseen)
    assert frame["mkfs_options"].isna().equals(in_memory)
    assert set(frame[frame["filesystem"] == "ext4-noextents"]["mkfs_options"]) == {
        "-q -F -b 4096 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 -O ^extent,^64bit"
    }
    assert frame["mount_options"].str.contains("nosuid").all()
    sparse = frame["method"] == "ftruncate"
    assert (frame[sparse & ~in_memory]["extents"] == 0).all()
    assert (frame[~sparse & ~in_memory & frame["errno"].isna()]["extents"] > 0).all()
    assert traces(root) == []


@pytest.mark.root
def test_the_file_system_is_remounted_before_each_measurement(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    seen: list[str] = []
    remount, measure = scratch.ScratchFilesystem.remount, allocation.allocate

    def remounted(made: scratch.ScratchFilesystem) -> None:
        seen.append(f"remount {made.name}")
        remount(made)

    def measured(path: str, method: str, size_bytes: int, dir_fd: int | None = None) -> allocation.Allocation:
        seen.append(f"measure {Path(os.readlink(f'/proc/self/fd/{dir_fd}')).name}")
        return measure(path, method, size_bytes, dir_fd)

    monkeypatch.setattr(scratch.ScratchFilesystem, "remount", remounted)
    monkeypatch.setattr(allocation, "allocate", measured)
    frame = allocate_on(["tmpfs", "ext4"], ["write_64k", "ftruncate"], _MIB, 2)
    expected = [word for name in frame["filesystem"] for word in (f"remount {name}", f"measure {name}")]
    assert seen == expected


@pytest.mark.root
def test_what_was_left_out_is_warned_of_and_the_rest_measured(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    can_make = scratch.can_make
    missing = Support(False, "mkfs.xfs is not installed", "Run as root: apt install xfsprogs")
    monkeypatch.setattr(scratch, "can_make", lambda name: missing if name == "xfs" else can_make(name))
    with pytest.warns(NotMeasuredWarning, match=r"allocation on xfs was not measured: mkfs.xfs is not installed. Run as root: apt"):
        frame = allocate_on(["xfs", "tmpfs"], ["write_64k"], _MIB, 2)
    assert set(frame["filesystem"]) == {"tmpfs"}
    with on_scratch(["xfs", "tmpfs"], ["write_64k"], _MIB, 2, seed=1) as experiment:
        rows = [left.row() for left in experiment.left_out]
        assert len(experiment.cells) == 2
    assert len(runs.begin("test").frame("capabilities", rows)) == 1


@pytest.mark.root
def test_a_file_system_that_runs_full_is_an_errno_and_the_rest_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr("toolkit.experiments.allocation._image_bytes", lambda largest: 64 * _MIB)
    frame = allocate_on(["ext4", "ext3", "tmpfs"], ["write_64k", "mmap_memset", "posix_fallocate"], [_MIB, 80 * _MIB], 2, seed=2)
    assert len(frame) == 36
    assert set(frame[frame["size_bytes"] > _MIB]["errno"]) == {errno.ENOSPC}
    assert frame[frame["size_bytes"] == _MIB]["errno"].isna().all()
    assert frame["errno"].notna().equals(frame["sync_ns"].isna())
    assert traces(root) == []


@pytest.mark.root
def test_a_file_system_that_vanishes_gives_rows_with_errno_and_the_rest_goes_on(root: Path) -> None:
    require_root()
    with on_scratch(["ext4", "tmpfs"], ["write_64k", "mmap_memset"], _MIB, 4, seed=1) as experiment:
        rows = []
        for row in experiment.rows():
            rows.append(row)
            if len(rows) == 6:
                mounts.unmount(experiment.places["ext4"].folder, detach_busy=True)
        assert list(experiment.places["ext4"].folder.iterdir()) == []
    failed = Counter((row["filesystem"], row.get("errno")) for row in rows[6:])
    assert set(failed) == {("ext4", errno.ENODEV), ("tmpfs", None)}
    assert len(rows) == 16
    frame = runs.begin("test").frame("allocations", rows)
    assert frame["allocate_ns"].isna().equals(frame["errno"].notna())
    assert traces(root) == []


@pytest.mark.root
def test_no_descriptor_left_is_an_errno_and_the_rest_goes_on(root: Path) -> None:
    require_root()
    import resource

    with in_directory(root, ["write_64k"], _MIB, 3, seed=1) as experiment:
        measured = experiment.rows()
        rows = [next(measured)]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            rows.append(next(measured))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        rows += measured
    assert [row["errno"] for row in rows] == [None, errno.EMFILE, None]


_EXPERIMENT = """
import sys
from toolkit.experiments.allocation import on_scratch
with on_scratch(["ext4", "tmpfs"], None, 8 << 20, 50, seed=1) as experiment:
    for row in experiment.rows():
        print(row["position"], flush=True)
"""


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after_rows", [1, 5, 12])
def test_an_experiment_cut_short_leaves_nothing(root: Path, number: int, after_rows: int) -> None:
    require_root()
    with subprocess.Popen(
        [sys.executable, "-c", _EXPERIMENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as experiment:
        assert experiment.stdout is not None
        rows = [experiment.stdout.readline() for _ in range(after_rows)]
        experiment.send_signal(number)
    assert rows[-1] == f"{after_rows - 1}\n"
    if number == signal.SIGKILL:
        allocate_on(["tmpfs"], ["ftruncate"], 4096, 1)
    assert traces(root) == []


_AS_NOBODY = """
import os, sys, warnings
from pathlib import Path
from toolkit import runs
from toolkit.errors import UnavailableError
from toolkit.experiments.allocation import allocate, allocate_on
folder = Path(sys.argv[1])
# Whatever is imported on the way is imported now: the interpreter's own files may not be there for everybody.
allocate(folder, ["ftruncate"], 4096, 1)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    allocate_on(["ext4", "tmpfs"], ["ftruncate"], 4096, 1)
except UnavailableError as error:
    print(error)
frame = allocate(folder, ["posix_fallocate", "write_4k", "ftruncate"], 1 << 20, 2)
print(len(frame), frame["errno"].isna().all(), list(folder.iterdir()))
"""


@pytest.mark.root
def test_an_ordinary_user_is_told_and_measures_in_a_folder(root: Path) -> None:
    require_root()
    root.chmod(0o777)
    for parent in list(root.parents)[:4]:  # the folders of the test, of its worker, of this run, and of all runs
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, measured = done.stdout.splitlines()
    assert "an ordinary user may not mount" in told
    assert "--directory DIR" in told
    assert measured == "6 True []"


def test_an_ordinary_user_gets_the_reason_as_an_error(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    refusal = Support(False, "an ordinary user may not mount", "Run as root.")
    for module in ("toolkit.scratch", "toolkit.experiments.allocation"):
        monkeypatch.setattr(f"{module}.can_make", lambda name: refusal)
    with pytest.raises(UnavailableError) as refused:
        allocate_on()
    assert refused.value.what == "No scratch file system can be made here: an ordinary user may not mount"
    assert refused.value.remedy == "Run as root."
    assert list(root.iterdir()) == []


def test_progress_is_told_between_measurements_and_ends_complete(root: Path) -> None:
    told: list[tuple[float, float, str]] = []
    allocate(root, ["ftruncate"], 4096, 3, progress=lambda *now: told.append(now))
    assert [done for done, _, _ in told] == [0, 1, 2, 3]
    assert {total for _, total, _ in told} == {3}
    assert "ftruncate of 4 KiB on " in told[0][2]


@pytest.mark.parametrize(("method", "said"), [("write_4k", True), ("ftruncate", False)])
def test_writes_looped_in_python_are_said(method: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments_allocation, "native_loop", lambda: NativeLoop(None, "no machine code for a z80"))
    with in_directory(tmp_path, [method], 2**20, 1, 1) as experiment:
        details = [left.detail for left in experiment.left_out if left.capability == "writes timed as in C"]
    assert len(details) == said
    assert all("z80" in detail and "overhead_ns" in detail for detail in details)
