from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import require_root
from tests.traces import traces
from toolkit.errors import UnavailableError, UsageError
from toolkit.scratch_folder import ScratchFolder, remove_leftovers, scratch_root

_DEAD = "virt-toolkit-00000000000000de"

# Holds a scratch folder in its first argument until it is told to end by its standard input.
_HOLDER = """
import sys
from pathlib import Path
from toolkit.scratch_folder import ScratchFolder
with ScratchFolder(Path(sys.argv[1])) as folder:
    (folder / "content").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made.resolve()


@pytest.fixture
def holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOLDER, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def _mark(beside: Path, /, **changed: object) -> Path:
    """A mark as an owner that is gone would have left it."""
    content = {"mark": "virt-toolkit scratch folder, version 1", "folder": beside.name, "uid": os.geteuid()}
    content |= {"pid": 1, "start_ticks": -1, "boot_id": "another boot"}
    mark = beside.with_name(beside.name + ".owner")
    mark.write_text(json.dumps({**content, **changed}))
    return mark


def _kept(root: Path) -> dict[str, object]:
    """What lies in a folder, with enough of it to see any change."""
    return {str(path): (path.lstat().st_mode, path.lstat().st_ino, path.lstat().st_mtime_ns) for path in root.rglob("*")}


def test_a_scratch_folder_is_private_and_gone_afterwards(root: Path) -> None:
    with ScratchFolder(root) as folder:
        assert folder.parent == root
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "deep").mkdir()
        (folder / "deep/file").write_text("x")
    assert traces(root) == []


def test_the_folder_goes_when_the_body_raises(root: Path) -> None:
    with pytest.raises(IsADirectoryError), ScratchFolder(root) as folder:
        folder.write_text("x")
    assert traces(root) == []


def test_the_folder_goes_when_it_is_dropped_without_being_left(root: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    scratch = ScratchFolder(root)
    scratch.__enter__()
    assert len(traces(root)) == 2
    del scratch
    assert traces(root) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_link_in_the_folder_is_removed_and_not_followed(root: Path) -> None:
    (root / "precious").mkdir()
    (root / "precious/file").write_text("x")
    with ScratchFolder(root) as folder:
        (folder / "link").symlink_to(root / "precious")
    assert (root / "precious/file").read_text() == "x"


def test_a_child_that_outlives_its_owner_does_not_keep_the_lock(root: Path) -> None:
    with ScratchFolder(root) as folder, subprocess.Popen(["sleep", "60"]) as child:
        links = [os.readlink(link) for link in Path(f"/proc/{child.pid}/fd").iterdir()]
        child.kill()
        assert not any(str(folder) in link for link in links)


def test_a_forked_child_removes_nothing_when_it_ends(root: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from toolkit.scratch_folder import ScratchFolder
with ScratchFolder(Path({str(root)!r})) as folder:
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    assert folder.exists()
"""
    # The child leaves through the with block too.
    subprocess.run([sys.executable, "-c", script], check=True)
    assert traces(root) == []


def test_where_no_folder_is_it_says_so(root: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"), ScratchFolder(root / "missing"):
        pass


def test_where_nothing_can_be_made_it_says_so() -> None:
    with pytest.raises(UnavailableError, match="Nothing can be made in"), ScratchFolder(Path("/proc")):
        pass


def test_the_root_is_the_environments_or_var_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_SCRATCH", "/somewhere")
    assert scratch_root() == Path("/somewhere")
    monkeypatch.delenv("TOOLKIT_SCRATCH")
    assert scratch_root() == Path("/var/tmp")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_and_the_folder(root: Path, holder: subprocess.Popen[str], number: int) -> None:
    # The mark, the folder, a file in it, and the process.
    assert len(traces(root)) == 4
    holder.send_signal(number)
    assert holder.wait() in (-number, 128 + number)
    assert traces(root) == []


def test_an_ignored_signal_stays_ignored(root: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ScratchFolder(root):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back(root: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with ScratchFolder(root):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_handler_that_returns_is_called_each_time(root: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with ScratchFolder(root):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_interrupt_does_not_cut_the_removal_short(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import toolkit.scratch_folder as module

    delete = module._delete

    def interrupted(folder: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        delete(folder)

    monkeypatch.setattr(module, "_delete", interrupted)
    with pytest.raises(KeyboardInterrupt), ScratchFolder(root):
        signal.raise_signal(signal.SIGINT)
    assert traces(root) == []


def test_each_interrupt_that_the_body_survives_comes_through(root: Path) -> None:
    with ScratchFolder(root) as folder:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert folder.exists()


def test_an_interrupt_during_removal_comes_after_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import toolkit.scratch_folder as module

    delete = module._delete
    monkeypatch.setattr(module, "_delete", lambda folder: (signal.raise_signal(signal.SIGINT), delete(folder)))
    with pytest.raises(KeyboardInterrupt), ScratchFolder(root):
        pass
    assert traces(root) == []


def test_what_a_killed_owner_left_is_removed_at_the_next_start(root: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert len(traces(root)) == 3
    with ScratchFolder(root) as folder:
        assert sorted(root.iterdir()) == [folder, folder.with_name(folder.name + ".owner")]
    assert traces(root) == []


def test_a_killed_owner_that_nobody_waited_for_is_gone_too(root: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    # A zombie: its process can still be seen.
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert len(remove_leftovers(root)) == 1
    assert traces(root) == []


def test_a_mark_without_its_folder_is_removed(root: Path) -> None:
    _mark(root / _DEAD)
    assert remove_leftovers(root) == [root / _DEAD]
    assert traces(root) == []


def test_a_live_owners_folder_is_left_alone(root: Path, holder: subprocess.Popen[str]) -> None:
    before = _kept(root)
    assert remove_leftovers(root) == []
    with ScratchFolder(root):
        pass
    assert _kept(root) == before


def test_a_lost_lock_alone_does_not_make_an_owner_gone(root: Path) -> None:
    from toolkit.scratch_folder import _boot_id, _start_ticks

    folder = root / _DEAD
    folder.mkdir()
    mark = _mark(folder, pid=os.getpid(), start_ticks=_start_ticks(os.getpid()), boot_id=_boot_id())
    assert remove_leftovers(root) == []
    # The same number, another process: the owner has ended.
    _mark(folder, pid=os.getpid(), start_ticks=0, boot_id=_boot_id())
    assert remove_leftovers(root) == [folder]
    assert not mark.exists()


def _plant_without_mark(folder: Path) -> None:
    folder.mkdir()


def _plant_foreign_mark(folder: Path) -> None:
    folder.mkdir()
    _mark(folder, mark="somebody else's folder")


def _plant_empty_mark(folder: Path) -> None:
    folder.mkdir()
    _mark(folder).write_text("")


def _plant_nonsense(folder: Path) -> None:
    folder.mkdir()
    _mark(folder).write_bytes(b"\xff[1, 2")


def _plant_mark_of_another_folder(folder: Path) -> None:
    folder.mkdir()
    _mark(folder, folder="virt-toolkit-0000000000000001")


def _plant_mark_that_says_another_user(folder: Path) -> None:
    folder.mkdir()
    _mark(folder, uid=12345)


def _plant_link_to_a_folder(folder: Path) -> None:
    precious = folder.with_name("precious")
    precious.mkdir()
    (precious / "file").write_text("x")
    folder.symlink_to(precious)
    _mark(folder)


def _plant_link_to_a_mark(folder: Path) -> None:
    folder.mkdir()
    mark = _mark(folder)
    mark.rename(mark.with_name("elsewhere"))
    mark.symlink_to(mark.with_name("elsewhere"))


def _plant_pipe_as_mark(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder.with_name(folder.name + ".owner"))


def _plant_other_name(folder: Path) -> None:
    other = folder.with_name("virt-toolkit-of-mine")
    other.mkdir()
    _mark(other)


_PLANTS = [plant for name, plant in list(globals().items()) if name.startswith("_plant_")]


@pytest.mark.parametrize("plant", _PLANTS, ids=lambda plant: plant.__name__)
def test_what_only_looks_like_a_leftover_is_not_touched(root: Path, plant: object) -> None:
    plant(root / _DEAD)  # type: ignore[operator]
    before = _kept(root)
    with ScratchFolder(root):
        pass
    assert remove_leftovers(root) == []
    assert _kept(root) == before


@pytest.mark.root
@pytest.mark.parametrize("which", ["mark", "folder"])
def test_another_users_leftover_is_not_touched(root: Path, which: str) -> None:
    require_root()
    folder = root / _DEAD
    folder.mkdir()
    mark = _mark(folder)
    os.chown(mark if which == "mark" else folder, 65534, 65534)
    before = _kept(root)
    assert remove_leftovers(root) == []
    assert _kept(root) == before


def test_a_place_without_unnamed_files_works_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def without_tmpfile(path: object, flags: int, *args: int, **kwargs: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opened(path, flags, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", without_tmpfile)
    with ScratchFolder(root) as folder:
        assert json.loads(folder.with_name(folder.name + ".owner").read_text())["pid"] == os.getpid()
    assert traces(root) == []
