"""No room, and no leave to write, where a store, a report or the output goes: one clear error, and nothing half done."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import media
from tests.faults.commands import STORING, WORDS, called, names, refused, several, words
from tests.needs import require_root, require_tool
from tests.report.books import figure, notebook, small_store
from toolkit import runs
from toolkit.errors import ReportError, StoreError
from toolkit.experiments.survey import Allocations
from toolkit.report.book import write
from toolkit.store import open_store

KIB = 1024


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 2 MiB large."""
    require_root()
    made = tmp_path / "place"
    made.mkdir()
    media.run(require_tool("mount"), "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", str(made))
    try:
        yield made
    finally:
        media.run(require_tool("umount"), str(made))


def read_only(place: Path) -> None:
    media.run(require_tool("mount"), "-o", "remount,ro", str(place))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_command_has_its_words_here() -> None:
    assert sorted(names()) == sorted(WORDS)


@pytest.mark.root
def test_a_store_without_room_is_one_error_for_every_command_and_holds_nothing_in_part(place: Path, tmp_path: Path) -> None:
    store = open_store(place / "store")
    asked = [words(name, "--store", str(place / folder)) for name in STORING for folder in ("store", "new")]
    with media.full(place):
        for done in several(asked, tmp_path):
            refused(done, b"No space left on device")
    assert store.tables() == []
    assert files(place) == ["store/virt-toolkit-store.json"]


@pytest.mark.root
def test_a_store_on_a_read_only_file_system_is_one_error_for_every_command(place: Path, tmp_path: Path) -> None:
    open_store(place / "store")
    read_only(place)
    for done in several([words(name, "--store", str(place / "store")) for name in STORING], tmp_path):
        refused(done, b"Read-only file system")
    assert files(place) == ["store/virt-toolkit-store.json"]


@pytest.mark.root
def test_a_watch_whose_disk_fills_ends_with_the_error_and_keeps_what_was_stored_before(place: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit", "watch", "--for", "1h", "--every", "10ms", "--store", str(place / "store")]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not list(place.glob("store/entropy_samples/**/part-*.parquet")):
            assert child.poll() is None
            assert time.monotonic() < until, "no sample was stored in a minute"
            time.sleep(0.05)
        with media.full(place):
            _, said = child.communicate(timeout=60)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == 1
    assert "Traceback" not in said
    assert re.search("^error: rows of (entropy|system)_samples could not be written", said)
    assert "No space left on device" in said
    assert len(open_store(place / "store").read("entropy_samples")) >= 500
    assert not list((place / "store" / ".writing").iterdir())


@pytest.mark.root
def test_an_experiment_whose_store_fills_is_an_error_and_its_folder_is_gone(place: Path, tmp_path: Path) -> None:
    store, run = open_store(place / "store"), runs.begin("test", seed=1)
    (tmp_path / "there").mkdir()
    plan = Allocations(None, ["write_64k"], [64 * KIB], 3, tmp_path / "there")
    with media.full(place), pytest.raises(StoreError, match="No space left on device"):
        plan.record(store, run)
    assert list((tmp_path / "there").iterdir()) == []
    assert store.tables() == []


@pytest.mark.root
def test_a_report_without_room_leaves_no_page_in_part_and_the_older_ones_whole(place: Path, tmp_path: Path) -> None:
    store = small_store(tmp_path / "store")
    notebook(tmp_path / "notebooks", "01_first", "print('said first')")
    out = place / "reports"
    write(store, out, tmp_path / "notebooks")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    notebook(tmp_path / "notebooks", "01_first", "print('said last')", figure())
    with media.full(place), pytest.raises(ReportError, match="cannot be written: No space left on device") as caught:
        write(store, out, tmp_path / "notebooks")
    assert "--out" in caught.value.remedy
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.root
def test_a_report_that_may_not_be_written_is_told_before_a_notebook_runs(place: Path, tmp_path: Path) -> None:
    (place / "out").mkdir()
    read_only(place)
    small_store(tmp_path / "store")
    done = called("report", "--store", "store", "--out", str(place / "out"), cwd=tmp_path)
    refused(done, b"cannot be written: Read-only file system")
    assert list((place / "out").iterdir()) == []


@pytest.mark.parametrize("asked", [["doctor"], ["doctor", "--json"], ["watch", "--help"], ["--version"]])
def test_an_output_without_room_is_one_error(asked: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "toolkit", *asked]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == b"error: the system refused: No space left on device"
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_standard_streams_that_are_closed_are_not_replaced_by_a_file_of_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit", "watch", "--for", "200ms"]
    program = "import os, sys; [os.close(number) for number in range(3)]; os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", program, *command], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert not open_store(tmp_path / "store", create=False).read("entropy_samples").empty


def test_letters_that_the_output_cannot_encode_are_written_by_their_numbers(tmp_path: Path) -> None:
    done = called("doctor", cwd=tmp_path, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert rb"\u2013" in done.stdout
