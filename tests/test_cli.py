"""The commands, as a user runs them: a process each, in an empty folder."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import toolkit
from tests.needs import require_root, require_tool
from toolkit import cli_lab, cli_receive
from toolkit.cli import app

LAB = ["readiness", "remedies", "rates", "drain", "move", "fetch"]
GUESTS = ["list_domains", "attach", "detach", "audit", "watch", "measure", "agent"]
COMMANDS = ["doctor", "watch", "sources", "allocate", "extents", "measure", "report", "notebooks", "fips"]
#: Whose answer is kept nowhere.
KEEPS_NOTHING = ["fips", "lab fetch"]


def _toolkit(*words: str, cwd: Path, status: int = 0, **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "toolkit", *words], cwd=cwd, capture_output=True, text=True, check=False, **more)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_commands_are_those_of_the_design() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert names == COMMANDS
    assert [group.name for group in app.registered_groups] == ["guests", "lab"]
    assert sorted(command.callback.__name__ for command in cli_receive.app.registered_commands) == sorted(GUESTS)
    assert [command.callback.__name__ for command in cli_lab.app.registered_commands] == LAB


@pytest.mark.parametrize(
    "name", [*COMMANDS, "lab", *(f"lab {name}" for name in LAB), "guests watch", "guests measure", "guests audit"]
)
def test_the_help_of_every_command_has_an_example_and_the_store(name: str, tmp_path: Path) -> None:
    shown = _toolkit(*name.split(), "--help", cwd=tmp_path).stdout
    assert f"toolkit {name}" in shown.split("Example:")[1]
    assert "--json" in shown
    assert ("--store DIR" in shown) is (name not in KEEPS_NOTHING)


def test_no_words_give_the_help_and_the_version_is_told(tmp_path: Path) -> None:
    shown = subprocess.run([sys.executable, "-m", "toolkit"], capture_output=True, text=True, check=False)
    assert "allocate" in shown.stdout + shown.stderr
    assert _toolkit("--version", cwd=tmp_path).stdout.strip() == toolkit.__version__


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["watch", "--for", "soon"],
        ["watch", "--for", "0s"],
        ["sources", "--source", "telepathy"],
        ["extents", "no-such-file"],
        ["sources", "--block", "many"],
        ["allocate", "--method", "telepathy"],
        ["allocate", "--filesystem", "fat12"],
        ["allocate", "--filesystem", "ext4", "--directory", "."],
        ["allocate", "--repeat", "0"],
        ["lab", "move", "--from", "16"],
        ["lab", "move", "--to", "0/1s"],
        ["lab", "move", "--for", "1ms"],
    ],
)
def test_bad_usage_exits_with_2_and_leaves_no_store(words: list[str], tmp_path: Path) -> None:
    done = _toolkit(*words, cwd=tmp_path, status=2)
    assert done.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def test_doctor_gives_rows_to_machines_and_writes_nothing(tmp_path: Path) -> None:
    rows = json.loads(_toolkit("doctor", "--json", cwd=tmp_path).stdout)
    assert {tuple(row) for row in rows} == {("capability", "available", "detail", "remedy")}
    assert any(row["capability"].startswith("ext4") or "ext4" in row["capability"] for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_doctor_keeps_its_answer_where_told_to(tmp_path: Path) -> None:
    rows = json.loads(_toolkit("doctor", "--json", "--store", "kept", cwd=tmp_path).stdout)
    assert len(toolkit.open_store(tmp_path / "kept").read("capabilities")) == len(rows)


def test_watch_keeps_its_samples_its_run_and_the_regime_that_explains_them(tmp_path: Path) -> None:
    rows = json.loads(_toolkit("watch", "--for", "1s", "--every", "50ms", "--json", cwd=tmp_path).stdout)
    store = toolkit.open_store(tmp_path / "store", create=False)
    samples = store.read("entropy_samples")
    assert len(rows) == len(samples) > 5
    (run,) = store.read("runs").to_dict("records")
    assert set(samples["run_id"]) == {run["run_id"]}
    assert run["command"] == "toolkit watch --for 1s --every 50ms --json"
    assert store.read("rng_state")["regime"].notna().all()
    assert not store.read("capabilities").empty
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_ctrl_c_ends_a_watch_early_and_keeps_what_was_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit", "watch", "--for", "1h", "--every", "20ms"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("store/entropy_samples/**/part-*.parquet")):
            assert time.monotonic() < deadline, "no sample was stored in a minute"
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert len(toolkit.open_store(tmp_path / "store").read("entropy_samples")) > 5


def test_sources_says_what_was_read_and_from_where(tmp_path: Path) -> None:
    words = ["sources", "--source", "getrandom", "--source", "/dev/urandom", "--block", "64", "--block", "4KiB", "--budget", "50ms"]
    shown = _toolkit(*words, cwd=tmp_path).stdout
    assert "getrandom" in shown
    reads = toolkit.open_store(tmp_path / "store").read("source_reads")
    assert set(zip(reads["source"], reads["block_bytes"], strict=True)) == {
        (source, block) for source in ("getrandom", "/dev/urandom") for block in (64, 4096)
    }


def test_allocate_in_a_folder_needs_no_root_and_leaves_only_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    words = ["allocate", "--directory", str(folder), "--method", "posix_fallocate", "--method", "write_64k"]
    shown = _toolkit(*words, "--size", "1MiB", "--repeat", "3", "--seed", "5", cwd=tmp_path)
    assert "write_64k" in shown.stdout
    assert "no caches were dropped" in shown.stderr
    assert list(folder.iterdir()) == []
    rows = toolkit.open_store(tmp_path / "store").read("allocations")
    assert len(rows) == 6
    assert toolkit.open_store(tmp_path / "store").read("runs")["seed"].tolist() == [5]


@pytest.mark.root
def test_allocate_on_scratch_file_systems_leaves_nothing_on_the_machine(tmp_path: Path) -> None:
    require_root()
    before = (Path("/proc/mounts").read_text(), subprocess.run(["losetup", "--list"], capture_output=True, check=True).stdout)
    words = [
        "allocate",
        "--filesystem",
        "ext4",
        "--filesystem",
        "tmpfs",
        "--method",
        "fallocate",
        "--size",
        "1MiB",
        "--repeat",
        "1",
    ]
    rows = json.loads(_toolkit(*words, "--json", cwd=tmp_path).stdout)
    assert sorted(row["filesystem"] for row in rows) == ["ext4", "tmpfs"]
    capabilities = toolkit.open_store(tmp_path / "store").read("capabilities").set_index("capability")
    assert capabilities.loc["allocation on fresh caches", "available"]
    after = (Path("/proc/mounts").read_text(), subprocess.run(["losetup", "--list"], capture_output=True, check=True).stdout)
    assert after == before


def test_extents_shows_where_a_file_lies_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"x" * 65536)
    rows = json.loads(_toolkit("extents", "image", "--json", cwd=tmp_path).stdout)
    assert sum(row["length_bytes"] for row in rows) >= 65536
    kept = toolkit.open_store(tmp_path / "store").read("extents")
    assert len(kept) == len(rows)
    assert "discontinuit" in _toolkit("extents", "image", cwd=tmp_path).stdout


def test_extents_of_what_cannot_be_asked_is_an_error_with_its_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = _toolkit("extents", "pipe", cwd=tmp_path, status=2)
    assert "pipe" in done.stderr
    assert not (tmp_path / "store").exists()


def test_the_help_names_the_methods_and_file_systems_that_there_are() -> None:
    from toolkit import cli
    from toolkit.filesystems import FILESYSTEMS
    from toolkit.sensors.allocation import METHODS

    assert cli._FILESYSTEMS.split() == list(FILESYSTEMS)
    assert cli._METHODS.split() == list(METHODS)


def test_a_name_that_is_no_utf_8_is_no_traceback(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xffb")
    (tmp_path / name).write_bytes(b"x" * 4096)
    _toolkit("extents", name, cwd=tmp_path)
    assert toolkit.open_store(tmp_path / "store").runs()["command"].tolist() == ["toolkit extents 'a\\xffb'"]


def test_a_folder_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "letter.txt").write_text("mine")
    done = _toolkit("watch", "--for", "1s", cwd=tmp_path, status=1)
    assert "store" in done.stderr
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["letter.txt"]


@pytest.mark.root
def test_an_ordinary_user_can_measure_in_a_folder_and_is_told_what_is_missed(tmp_path: Path) -> None:
    require_root()
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    # Of root's rights it keeps the one to read, since the environment of the tests may lie in root's home.
    ordinary = [require_tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    ordinary += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search"]
    words = ["measure", "--for", "1s", "--budget", "20ms", "--size", "1MiB", "--repeat", "1", "--no-guests"]
    command = [*ordinary, sys.executable, "-m", "toolkit", *words]
    done = subprocess.run(command, cwd=home, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in [home / "store", *(home / "store").rglob("*")]} == {65534}
    store = toolkit.open_store(home / "store")
    assert len(store.read("allocations")) == 7
    missed = store.read("capabilities").query("not available").set_index("capability")
    assert missed.loc["file system ext4", "remedy"]
    assert "folder" in missed.loc["allocation on fresh caches", "detail"]
    assert [path.name for path in home.iterdir()] == ["store"]
