"""A store whose disk is full, fails or goes away, or whose files were damaged: a clear word for each, and the rest is read."""

from __future__ import annotations

import contextlib
import errno
import html
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from tests.needs import require_root, require_tool
from tests.report.books import notebook
from tests.sensors.interpreters import NOBODY
from tests.test_store import DAMAGE, runs, samples
from toolkit.errors import DamagedFileWarning, StoreError
from toolkit.report.book import write
from toolkit.store import Store, layout, open_store, writing
from toolkit.store.layout import MARKER
from toolkit.tables import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


# A file that was damaged


def _say(path: Path, **changes: Any) -> None:
    """What a file says of itself, changed."""
    rows = pq.read_table(path)
    said = json.loads(rows.schema.metadata[writing.METADATA_KEY]) | changes
    pq.write_table(rows.replace_schema_metadata({writing.METADATA_KEY: json.dumps(said).encode()}), path)


SELF = "what it says of itself is damaged"
MORE_DAMAGE = {
    "zeros in the place of its bytes": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "not a whole Parquet file"),
    "older version": (lambda path: _say(path, schema_version=0), "of version 0, and this toolkit knows version 1"),
    "version that is no number": (lambda path: _say(path, schema_version=["1"]), r"of version \['1'\]"),
    "host that is no text": (lambda path: _say(path, host=5), SELF),
    "host that no folder can have": (lambda path: _say(path, host="\udc80"), SELF),
    "name that is no text": (lambda path: _say(path, part=["a"]), SELF),
    "a list of itself": (lambda path: _nest(path), SELF),
    "a folder in its place": (lambda path: (path.unlink(), path.mkdir()), "nothing that a store holds"),
    "a link to nowhere": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "symbolic link"),
}


def _nest(path: Path) -> None:
    deep = b"[" * 100_000
    pq.write_table(pq.read_table(path).replace_schema_metadata({writing.METADATA_KEY: deep}), path)


ALL_DAMAGE: dict[str, tuple[Any, str]] = {**DAMAGE, **MORE_DAMAGE}


@pytest.mark.parametrize("kind", MORE_DAMAGE)
@pytest.mark.parametrize("how", ["read", "scan"])
def test_more_damage_is_named_once_and_the_rest_is_read(store: Store, kind: str, how: str) -> None:
    damage, reason = MORE_DAMAGE[kind]
    store.append("entropy_samples", samples(50, run="whole"))
    (path,) = store.append("entropy_samples", samples(50, run="hurt"))
    damage(path)
    with pytest.warns(DamagedFileWarning, match=reason) as caught:
        found = store.read("entropy_samples") if how == "read" else store.scan("entropy_samples").compute(scheduler="synchronous")
    assert len(caught) == 1
    assert path.name in str(caught[0].message)
    assert found["run_id"].tolist() == ["whole"] * 50


def test_a_report_names_each_damage_on_every_page_and_shows_the_rest(store: Store, tmp_path: Path) -> None:
    store.append("runs", runs("whole", host="whole"))
    store.append("entropy_samples", samples(50, host="whole", run="whole"))
    kept = 50
    for place, (kind, (damage, _)) in enumerate(ALL_DAMAGE.items()):
        values = np.random.default_rng(0).permutation(5_000)
        (path,) = store.append("entropy_samples", samples(5_000, host=f"hurt{place}").assign(entropy_avail_bits=values))
        damage(path)
        kept += 5_000 if kind.startswith(("copy", "other f")) else 0
    store.append("runs", runs("other", host="other"))[0].write_bytes(b"")
    code = "from toolkit import explore\nsession = explore.open(store)\nprint(len(session.table('entropy_samples')))"
    notebook(tmp_path / "notebooks", "01_first", code)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DamagedFileWarning)
        index = write(store, tmp_path / "reports", tmp_path / "notebooks")
    told = [str(each.message) for each in caught]
    for name, page in (("index", index), ("01_first", index.with_name("01_first.html"))):
        text = html.unescape(page.read_text(encoding="utf-8"))
        for kind, (_, reason) in ALL_DAMAGE.items():
            assert re.search(rf"was left out: [^<]*{reason.rpartition('.*')[2]}", text), (name, kind)
        assert re.search(rf">\s*{kept:,}\s*<" if name == "index" else rf">\s*{kept}\s*<", text), name
    first = html.unescape(index.read_text(encoding="utf-8"))
    assert first.count("was left out:") == len(told) == len(set(told)), "each is told once"
    assert "/runs/" in first


def test_each_wrong_byte_of_a_footer_is_found(store: Store) -> None:
    """Without their checksum some would make a filter miss rows without a word, and some would end the process."""
    store.append("entropy_samples", samples(50, run="whole"))
    (path,) = store.append("entropy_samples", samples(50, run="hurt"))
    good = path.read_bytes()
    length = int.from_bytes(good[-8:-4], "little")
    chance = np.random.default_rng(0)
    for place in chance.choice(length, 400, replace=False):
        bad = bytearray(good)
        bad[len(good) - 8 - length + place] ^= chance.integers(1, 256)
        path.write_bytes(bad)
        with pytest.warns(DamagedFileWarning, match=rf"{path.name}.*its footer is not the one that was written"):
            assert set(store.read("entropy_samples", run=["whole", "hurt"])["run_id"]) == {"whole"}
    path.write_bytes(good)
    assert len(store.read("entropy_samples")) == 100


def test_a_file_without_a_checksum_of_its_footer_is_read_as_it_is(store: Store) -> None:
    (path,) = store.append("entropy_samples", samples(run="old"))
    rows = pq.read_table(path)
    pq.write_table(rows, path)
    assert b"vtk-seal" not in path.read_bytes()
    assert len(store.read("entropy_samples")) == 5


@pytest.mark.parametrize("what", ["nothing", "deep", "bytes", "folder", "pipe", "number"])
def test_a_marker_that_is_none_is_refused_with_the_way_to_mend_it(store: Store, what: str) -> None:
    marker = store.path / MARKER
    marker.unlink()
    {
        "nothing": lambda: marker.write_bytes(b""),
        "deep": lambda: marker.write_text("[" * 100_000),
        "bytes": lambda: marker.write_bytes(b"\xff\0\xfe"),
        "folder": marker.mkdir,
        "pipe": lambda: os.mkfifo(marker),
        "number": lambda: marker.write_text("7"),
    }[what]()
    with pytest.raises(StoreError, match="is damaged, so") as refused:
        open_store(store.path)
    assert '"layout_version": 1' in refused.value.remedy


def test_a_writing_folder_that_leads_elsewhere_is_refused_and_nothing_there_is_swept(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "part-mine.parquet.partial").write_text("mine")
    (store.path / ".writing").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"\.writing is not a folder"):
        store.append("entropy_samples", samples())
    assert os.listdir(tmp_path / "elsewhere") == ["part-mine.parquet.partial"]


def test_a_folder_among_the_half_written_files_hinders_no_append(store: Store) -> None:
    (store.path / ".writing" / "x.partial").mkdir(parents=True)
    store.append("entropy_samples", samples())
    assert len(store.read("entropy_samples")) == 5


def test_an_append_that_fails_and_cannot_be_taken_back_says_where_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = Path.unlink
    monkeypatch.setattr(writing, "_sync_folder", lambda folder: fail() if "date=" in folder.name else None)
    monkeypatch.setattr(Path, "unlink", lambda path, **how: fail() if "host=a" in str(path) else real(path, **how))
    with pytest.raises(StoreError, match="Input/output error") as refused:
        store.append("entropy_samples", pd.concat([samples(host="a"), samples(host="b")]))
    monkeypatch.undo()
    (left,) = store.files("entropy_samples")
    assert str(left) in refused.value.what
    assert "host=a" in str(left)


# A clock that was set back


def test_what_was_appended_after_the_clock_was_set_back_is_there_and_before_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        hour_of_day = 12

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime(2026, 1, 1, cls.hour_of_day, tzinfo=UTC)

    monkeypatch.setattr(layout, "datetime", Clock)
    later = samples(5, run="first", begin_s=0)
    sooner = samples(5, run="second", begin_s=5).assign(utc=lambda frame: frame["utc"] - pd.Timedelta("30D"))
    for frame in (later, sooner, samples(5, run="third", begin_s=10)):
        store.append("entropy_samples", frame)
        Clock.hour_of_day -= 1
    names = [path.name for path in store.files("entropy_samples")]
    found = store.read("entropy_samples")
    assert len(set(names)) == 3
    # By the names of their files, which begin with the day of their rows and the clock's time of the append, not as they came.
    assert found["run_id"].drop_duplicates().tolist() == ["second", "third", "first"]
    assert found.sort_values("t_ns")["t_ns"].tolist() == [second * 10**9 for second in range(15)]
    assert set(store.read("entropy_samples", until="2025-12-31")["run_id"]) == {"second"}
    assert set(store.read("entropy_samples", since="2025-12-31")["run_id"]) == {"first", "third"}


# A disk


@contextlib.contextmanager
def _mounted(place: Path, *what: str) -> Iterator[None]:
    require_root()
    mount, umount = require_tool("mount"), require_tool("umount")
    subprocess.run([mount, *what, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run([umount, str(place)], check=False, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> tuple[Path, Path]:
    """A place for a disk, and the image of a small ext4 without a journal, not yet mounted."""
    require_root()
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 2**20)
    command = ["-q", "-F", "-b", "1024", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0", str(image)]
    subprocess.run([require_tool("mkfs.ext4"), *command], check=True)
    return place, image


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**10, 2**10):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
            os.fsync(file.fileno())


def _fill_folder(folder: Path, letters: int, aside: Path) -> None:
    """Fill a folder's one block with entries, so that one more takes another block: then a rename into it may lack room."""
    aside.mkdir()
    fit = 0
    while aside.stat().st_size == 1024:
        (aside / f".{fit:0>{letters - 1}}").touch()
        fit += 1
    for number in range(fit - 2):
        (folder / f".{number:0>{letters - 1}}").touch()
    assert folder.stat().st_size == 1024


def _refused(store: Store, frame: pd.DataFrame) -> StoreError | None:
    try:
        store.append("entropy_samples", frame)
    except StoreError as refused:
        return refused
    return None


@pytest.mark.root
def test_however_little_room_is_left_an_append_is_whole_or_refused_and_leaves_nothing(disk: tuple[Path, Path]) -> None:
    place, image = disk
    outcomes: list[str] = []
    with _mounted(place, "-o", "loop", str(image)):
        store = open_store(place / "store")
        store.append("entropy_samples", samples(run="before"))
        known = store.read("entropy_samples")
        (whole,) = store.files("entropy_samples")
        _fill_folder(whole.parent, len(whole.name), place / "other")
        filler = place / "filler"
        for free, host in itertools.product(range(12), ("h", "new")):
            _fill(filler)
            os.truncate(filler, filler.stat().st_size - free * 1024)
            os.sync()
            refused = _refused(store, samples(run=f"free{free}", host=host))
            if refused is None:
                outcomes.append("there")
                assert len(store.read("entropy_samples", run=f"free{free}")) == 5
                next(path for path in store.files("entropy_samples") if path != whole).unlink()
            else:
                assert "No space left on device" in refused.what
                assert "free some" in refused.remedy
                assert refused.__cause__ is not None
                outcomes.append(traceback.extract_tb(refused.__cause__.__traceback__)[-1].name)
            assert not (store.path / ".writing").exists() or os.listdir(store.path / ".writing") == []
            assert_frame_equal(store.read("entropy_samples"), known)
            filler.unlink()
            shutil.rmtree(store.path / "entropy_samples" / "host=new", ignore_errors=True)
    assert set(outcomes) >= {"mkdir", "rename", "there"}, outcomes
    assert outcomes[0] != "there"


@pytest.mark.root
def test_no_room_for_another_folder_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with _mounted(tmp_path, "-t", "tmpfs", "-o", "size=1m,nr_inodes=12", "tmpfs"):
        store = open_store(tmp_path / "store")
        store.append("entropy_samples", samples())
        there = set(store.path.rglob("*"))
        refusals = 0
        for number in range(12):
            refused = _refused(store, samples(host=f"host{number}"))
            if refused is not None:
                assert "No space left on device" in refused.what
                refusals += 1
        assert refusals > 5
        assert there <= set(store.path.rglob("*"))
        assert os.listdir(store.path / ".writing") == []
        assert len(store.read("entropy_samples")) == 5 * (1 + 12 - refusals)


@pytest.mark.root
def test_a_disk_that_fails_under_a_file_costs_that_file_alone(disk: tuple[Path, Path]) -> None:
    place, image = disk
    with _mounted(place, "-o", "loop", str(image)):
        store = open_store(place / "store")
        store.append("entropy_samples", samples(run="whole"))
        (place / "filler").write_bytes(bytes(16 * 2**20))
        os.sync()
        (hurt,) = store.append("entropy_samples", samples(20_000, run="hurt"))
        subprocess.run([require_tool("mount"), "-o", "remount,ro", str(place)], check=True)
        os.truncate(image, _first_byte(hurt))  # a loop device gives EIO where its image has ended
        held = os.open(hurt, os.O_RDONLY)
        os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(held)
        for read in (lambda: store.read("entropy_samples"), lambda: store.scan("entropy_samples").compute()):
            with pytest.warns(DamagedFileWarning, match=rf"{hurt.name}.*Input/output error") as caught:
                found = read()
            assert len(caught) == 1
            assert found["run_id"].tolist() == ["whole"] * 5


def _first_byte(path: Path) -> int:
    shown = subprocess.run([require_tool("filefrag"), "-v", "-b1", str(path)], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"^ *\d+: +\d+\.\. *\d+: +(\d+)\.\.", shown, re.MULTILINE)[0])


@pytest.mark.root
def test_a_disk_that_fails_while_it_is_written_refuses_the_append(disk: tuple[Path, Path], tmp_path: Path) -> None:
    place, image = disk
    below = tmp_path / "below"
    below.mkdir()
    with _mounted(below, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        sparse = below / "disk.img"
        subprocess.run([require_tool("cp"), "--sparse=always", str(image), str(sparse)], check=True)
        with _mounted(place, "-o", "loop", str(sparse)):
            store = open_store(place / "store")
            store.append("entropy_samples", samples(run="before"))
            _fill(below / "filler")  # from now on the disk cannot take what it has room for
            bits = np.random.default_rng(0).integers(0, 2**60, 100_000)
            with pytest.raises(StoreError, match=r"Input/output error|No space left"):
                store.append("entropy_samples", samples(100_000, run="after").assign(entropy_avail_bits=bits))
            assert os.listdir(store.path / ".writing") == []
            assert set(store.read("entropy_samples")["run_id"]) == {"before"}
            (below / "filler").unlink()


@pytest.mark.root
@pytest.mark.parametrize("inner", [".", "store"], ids=["the disk itself", "a folder of it"])
def test_a_store_whose_disk_went_away_is_no_empty_one_and_nothing_is_put_where_it_was(tmp_path: Path, inner: str) -> None:
    umount = require_tool("umount")
    with _mounted(tmp_path, "-t", "tmpfs", "tmpfs"):
        store = open_store(tmp_path / inner)
        store.append("entropy_samples", samples())
        scanned = store.scan("entropy_samples")
        subprocess.run([umount, "-l", str(tmp_path)], check=True)
        uses: list[Any] = [
            lambda: store.read("entropy_samples"), lambda: store.scan("entropy_samples"), scanned.compute, store.tables, store.runs,
            lambda: store.files("entropy_samples"), lambda: store.append("entropy_samples", samples()),
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(StoreError, match="is not there any more") as refused:
                use()
            assert "still mounted" in refused.value.remedy
        assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_a_store_that_goes_away_while_it_is_read_is_said_to_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    umount = require_tool("umount")
    with _mounted(tmp_path, "-t", "tmpfs", "tmpfs"):
        store = open_store(tmp_path / "store")
        store.append("entropy_samples", samples(host="a"))
        store.append("entropy_samples", samples(host="b"))
        real, looked = pq.read_metadata, []

        def read_metadata(path: Path) -> Any:
            looked.append(path)
            found = real(path)
            subprocess.run([umount, "-l", str(tmp_path)], check=True)
            return found

        monkeypatch.setattr(pq, "read_metadata", read_metadata)
        with pytest.raises(StoreError, match="is not there any more"):
            store.read("entropy_samples")
        assert len(looked) == 1


@pytest.mark.root
def test_a_watch_whose_store_goes_away_ends_with_a_word_and_no_traceback(tmp_path: Path) -> None:
    umount = require_tool("umount")
    with _mounted(tmp_path, "-t", "tmpfs", "tmpfs"):
        command = [sys.executable, "-m", "toolkit", "watch", "--for", "60s", "--every", "10ms", "--store", str(tmp_path / "store")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
            try:
                while watch.poll() is None and not (tmp_path / "store" / "rng_state").is_dir():
                    time.sleep(0.01)
                subprocess.run([umount, "-l", str(tmp_path)], check=True)
                _, said = watch.communicate(timeout=50)
            finally:
                if watch.poll() is None:
                    watch.send_signal(signal.SIGKILL)
        assert watch.returncode == 1
        assert said.startswith("error: the store ")
        assert "is not there any more" in said
        assert "Traceback" not in said
        assert os.listdir(tmp_path) == []


# A process that may not


CLOSED = """
import os, sys, warnings
import toolkit, tests.test_store
from toolkit.errors import StoreError
from toolkit.cli import app
store = toolkit.open_store(sys.argv[1])
store.read("entropy_samples"); store.scan("entropy_samples").compute()  # loads all that the ordinary user may not
os.setgroups([]); os.setresgid(*[int(sys.argv[2])] * 3); os.setresuid(*[int(sys.argv[2])] * 3)
store = toolkit.open_store(sys.argv[1])
for use in (lambda: store.read("entropy_samples"), lambda: store.scan("entropy_samples").compute(scheduler="synchronous")):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = use()
    print(sorted(set(found["run_id"])), sorted(str(each.message).replace(sys.argv[1], "") for each in caught))
for use in (lambda: store.append("entropy_samples", tests.test_store.samples()), lambda: toolkit.open_store(sys.argv[1] + "/new")):
    try:
        use()
    except StoreError as refused:
        print(refused)
"""


@pytest.mark.root
def test_an_ordinary_user_reads_what_he_may_and_is_told_of_each_file_and_folder_that_he_may_not() -> None:
    require_root()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = open_store(Path(folder) / "store")
        made = {run: store.append("entropy_samples", samples(run=run, host=run))[0] for run in ("open", "file", "day", "host")}
        for path in [store.path, *store.path.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        for path in (made["file"], made["day"].parent, made["host"].parent.parent):
            path.chmod(0)
        command = [sys.executable, "-c", CLOSED, str(store.path), str(NOBODY)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        read, scanned, append, new = done.stdout.splitlines()
        paths = sorted(
            str(path).removeprefix(str(store.path)) for path in (made["file"], made["day"].parent, made["host"].parent.parent)
        )
        expected = f"['open'] {[f'{path!r} was left out: this user may not read it' for path in paths]}"
        assert read == scanned == expected
        assert "Permission denied. This user may not write there" in append
        assert "Permission denied. This user may not write there" in new


STARVED = """
import os, resource, sys, warnings
import toolkit
from tests.test_store import samples
from toolkit.errors import StoreError
warnings.simplefilter("error")
store = toolkit.open_store(sys.argv[1])
for number in range(3):
    store.append("entropy_samples", samples(run=f"r{number}", host=f"h{number}"))
store.scan("entropy_samples").compute(); scanned = store.scan("entropy_samples")
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
there = 15
for free in range(12):
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(free):
        os.close(held.pop())
    uses = {"read": lambda: len(store.read("entropy_samples")), "scan": lambda: len(store.scan("entropy_samples").compute()),
            "compute": lambda: len(scanned.compute()), "open": lambda: there if toolkit.open_store(sys.argv[1]) else 0,
            "append": lambda: there + 5 * len(store.append("entropy_samples", samples()))}
    said = {}
    for name, use in uses.items():
        try:
            count = use()
        except StoreError as refused:
            said[name] = "refused" if "Too many open files" in refused.what and "ulimit" in refused.remedy else str(refused)
        else:
            expected = 15 if name == "compute" else there
            said[name] = "done" if count == expected + 5 * (name == "append") else f"{count} rows of {expected}"
            there += 5 * (name == "append")
    for each in held:
        os.close(each)
    print(*said.values())
print(len(store.read("entropy_samples")) == there, os.listdir(sys.argv[1] + "/.writing"))
"""


def test_a_process_without_files_to_open_is_told_so_and_never_given_a_part(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARVED, str(tmp_path / "store")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *rows, last = [line.split() for line in done.stdout.splitlines()]
    assert last == ["True", "[]"]
    assert set().union(*rows) == {"done", "refused"}, done.stdout
    assert rows[0] == ["refused"] * 5
    assert rows[-1] == ["done"] * 5


def test_more_hosts_than_files_may_be_open_are_refused_whole(store: Store) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    frame = pd.concat([samples(1, host=f"h{number}") for number in range(300)], ignore_index=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with pytest.raises(StoreError, match="Too many open files") as refused:
            store.append("entropy_samples", frame)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit" in refused.value.remedy
    assert store.read("entropy_samples").empty
    assert os.listdir(store.path / ".writing") == []
    assert TABLES["entropy_samples"].columns == list(store.read("entropy_samples").columns)
