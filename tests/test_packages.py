"""Packages fetched without being installed: from an archive made for the test, and one from this machine's own mirror."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.archives import made_archive
from tests.needs import need, require_tool
from toolkit.errors import UnavailableError, UsageError
from toolkit.package_cache import cache_folder, fetched, fetched_set, make_set, remove_fetched
from toolkit.packages import Index, Source, fetch, own_source
from toolkit.programs import run_limited


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require_tool("apt-get")
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return made_archive(tmp_path, {"one": {"usr/bin/one": b"first"}, "two": {"usr/share/two": b"second"}})


def both(index: Index) -> list[str]:
    return ["one", "two"]


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != "lock")


def test_packages_are_unpacked_together_and_said_with_their_versions(source: Source, cache: Path) -> None:
    told: list[str] = []
    found = fetch("set", source, both, progress=lambda done, total, words: told.append(words))
    assert [(each.name, each.version) for each in found.packages] == [("one", "1.0"), ("two", "1.0")]
    assert ((found.folder / "usr/bin/one").read_bytes(), (found.folder / "usr/share/two").read_bytes()) == (b"first", b"second")
    assert (found.files, found.bytes) == (2, 11)
    assert found == fetched_set("set") == fetched()[0]
    assert left(cache) == ["set"]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert any("unpacking two" in words for words in told)


def test_what_is_there_is_given_again_without_asking_the_archive(source: Source, tmp_path: Path) -> None:
    first = fetch("set", source, both)
    (tmp_path / "archive").rename(tmp_path / "gone")
    assert fetch("set", source, both) == first


def test_a_set_that_was_damaged_is_not_there_and_is_fetched_anew(source: Source) -> None:
    found = fetch("set", source, both)
    (found.folder / "usr/bin/one").write_bytes(b"less")
    assert fetched() == []
    assert fetched_set("set") is None
    assert (fetch("set", source, both).folder / "usr/bin/one").read_bytes() == b"first"


def test_a_package_that_is_not_what_the_index_says_is_refused_and_nothing_is_left(
    source: Source, cache: Path, tmp_path: Path
) -> None:
    file = tmp_path / "archive/two_1.0_all.deb"
    content = bytearray(file.read_bytes())
    content[-600:-594] = b"edited"
    file.write_bytes(content)
    with pytest.raises(UnavailableError, match="Hash Sum mismatch"):
        fetch("set", source, both)
    assert left(cache) == []


def test_an_archive_without_a_signature_is_refused_unless_it_is_ones_own(source: Source, cache: Path) -> None:
    with pytest.raises(UnavailableError, match=r"Release|not signed"):
        fetch("set", Source(source.uri, source.suite, components=()), both)
    assert left(cache) == []


def test_a_package_that_is_not_there_is_named_and_so_is_the_suite(source: Source, cache: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no package three in \./"):
        fetch("set", source, lambda index: ["one", "three"])
    with pytest.raises(UsageError, match="no name of a package"):
        fetch("set", source, lambda index: ["--help"])
    assert left(cache) == []


def test_what_the_end_of_a_set_refuses_leaves_nothing(source: Source, cache: Path) -> None:
    def refuse(tree: Path) -> None:
        assert (tree / "usr/bin/one").exists()
        raise UnavailableError("not this one")

    with pytest.raises(UnavailableError, match="not this one"):
        fetch("set", source, both, refuse)
    assert left(cache) == []


def test_without_a_network_it_says_so_with_a_remedy(cache: Path) -> None:
    # Nobody listens at the port for tcpmux.
    nowhere = Source("http://127.0.0.1:1/debian", "bookworm")
    with pytest.raises(UnavailableError, match=r"cannot be listed.*apt-get update"):
        fetch("set", nowhere, both)
    assert left(cache) == []


def test_without_apt_it_says_where_packages_can_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Source) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("toolkit.filesystems._SYSTEM_PROGRAMS", ())
    for ask in (own_source, lambda: fetch("set", source, both)):
        with pytest.raises(UnavailableError, match=r"no apt-get here.*Debian"):
            ask()


def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"sh has not ended within 2 s"):
        run_limited(["sh", "-c", "sleep 1000 & echo $! > child; wait"], tmp_path, 2)
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 10
    # It may go while its file is read, and that is its end too.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
            assert time.monotonic() < until
            time.sleep(0.02)


_FETCH = """
import sys
from pathlib import Path
from toolkit.packages import Source, fetch
from toolkit.programs import run_limited
def finish(tree):
    print("finishing", flush=True)
    run_limited(["sleep", sys.argv[2]], tree.parent, 100)
found = fetch("set", Source(sys.argv[1], "./", components=(), trusted=True), lambda index: ["one"], finish)
print(found.folder.stat().st_ino, flush=True)
"""


def _started(source: Source, seconds: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _FETCH, source.uri, seconds], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_one_who_is_killed_leaves_no_set_and_the_next_removes_what_was_begun(
    number: signal.Signals, source: Source, cache: Path
) -> None:
    with _started(source, "1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "finishing\n"
        process.send_signal(number)
    assert fetched() == []
    fetch("other", source, lambda index: ["two"])
    assert left(cache) == ["other"]


def test_of_two_at_once_one_fetches_and_the_other_is_given_the_same(source: Source, cache: Path) -> None:
    with _started(source, "0.5") as first, _started(source, "0.5") as second:
        said = [first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]]
    assert sorted(text.count("finishing") for text in said) == [0, 1]
    assert len({text.split()[-1] for text in said}) == 1
    assert left(cache) == ["set"]


def test_whoever_waits_too_long_for_another_is_told(source: Source) -> None:
    with _started(source, "1000") as process:
        assert process.stdout is not None
        process.stdout.readline()
        told: list[str] = []
        with pytest.raises(UnavailableError, match="another process has been fetching"):
            make_set("set", "./", lambda work, tree: [], lambda done, total, words: told.append(words), patience_s=0.3)
        process.kill()
    assert "waiting" in told[0]


def test_only_what_was_fetched_is_removed(source: Source, cache: Path) -> None:
    fetch("set", source, both)
    (cache / "letters").mkdir()
    assert remove_fetched() == ["set"]
    assert left(cache) == ["letters"]
    assert remove_fetched() == []


def test_a_cache_in_which_others_may_write_is_not_believed(source: Source, cache: Path) -> None:
    fetch("set", source, both)
    cache.chmod(0o777)
    with pytest.raises(UnavailableError, match="others may write"):
        fetched()
    cache.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(cache, 65534, 65534)
        with pytest.raises(UnavailableError, match="belongs to another user"):
            fetch("set", source, both)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TOOLKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "virt-toolkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    assert cache_folder() == tmp_path / "ada/.cache/virt-toolkit"
    assert fetched() == []
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_cannot_be_one_is_bad_usage() -> None:
    for suite in ("", "../x", "a b", "-o", "bullseye\ndeb http://elsewhere x main"):
        with pytest.raises(UsageError, match="no name of a suite"):
            own_source(suite)


def _own_source() -> Source:
    try:
        return own_source()
    except UnavailableError as error:
        need(False, str(error))
        raise


def test_a_package_of_this_machines_own_suite_comes_and_its_apt_is_left_alone() -> None:
    source = _own_source()
    watched = [Path("/var/lib/apt/lists"), Path("/var/cache/apt"), Path("/var/cache/apt/archives")]
    before = [path.stat().st_mtime_ns for path in watched if path.is_dir()]
    try:
        found = fetch("hostname", source, lambda index: ["hostname"])
    except UnavailableError as error:
        need("network" not in error.remedy, str(error))
        raise
    assert [path.stat().st_mtime_ns for path in watched if path.is_dir()] == before
    assert any(path.name == "hostname" and os.access(path, os.X_OK) for path in found.folder.rglob("bin/hostname"))
    with pytest.raises(UnavailableError, match=r"no-such-suite.*such as bullseye"):
        fetch("none", own_source("no-such-suite"), both)


def test_the_command_shows_what_there_is_and_removes_it(source: Source, cache: Path) -> None:
    def toolkit(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "toolkit", "lab", "fetch", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done

    assert "Nothing was fetched" in toolkit().stdout
    fetch("set", source, both)
    rows = json.loads(toolkit("--json").stdout)
    assert [(row["set"], row["package"], row["version"], row["set_bytes"]) for row in rows] == [
        ("set", "one", "1.0", 11),
        ("set", "two", "1.0", 11),
    ]
    assert rows[0]["download_bytes"] > 0
    assert toolkit("--kernel", "a b", status=2).stdout == ""
    assert "set" in toolkit("--remove").stdout
    assert fetched() == []
    assert "toolkit lab fetch" in toolkit("--help").stdout.split("Example:")[1]
