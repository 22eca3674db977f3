"""FIPS 140-2's tests of real data: by the real rngtest, on good data, bad data, a slow source and a silent one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import all_feeders
from toolkit.analysis.fips import ANY, CONSISTENT, MORE, TESTS, judge
from toolkit.errors import UnavailableError, UsageError
from toolkit.experiments.fips import BLOCK_BYTES, count_failures


@pytest.fixture(autouse=True)
def rngtest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(all_feeders()))


def test_good_data_is_consistent_with_good_data() -> None:
    told: list[float] = []
    # Of 20,000 blocks of good data about 16 fail; one run in a million is accused.
    found = count_failures("getrandom", 20_000, progress=lambda done, total, words: told.append(done / total))
    assert (found.blocks, found.ended, found.read_bytes) == (20_000, "enough", 4 + 20_000 * BLOCK_BYTES)
    assert set(found.failures) == {ANY, *TESTS}
    assert judge(found.blocks, found.failures).loc[0, "verdict"] == CONSISTENT
    assert told[-1] == 1.0


def test_bad_data_is_told(tmp_path: Path) -> None:
    assert set(count_failures("/dev/zero", 100).failures.values()) == {100}
    # Three ones in a hundred too many.
    draw = random.Random(5)
    biased = bytes(sum((draw.random() < 0.515) << bit for bit in range(8)) for _ in range(50 * BLOCK_BYTES + 4))
    (tmp_path / "biased").write_bytes(biased)
    found = count_failures(str(tmp_path / "biased"), 50)
    judged = judge(found.blocks, found.failures).set_index("test")
    assert judged.loc["monobit", "verdict"] == judged.loc[ANY, "verdict"] == MORE
    assert found.failures["continuous run"] == 0


def test_a_file_that_ends_early_is_tested_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(os.urandom(3 * BLOCK_BYTES + 100))
    found = count_failures(str(tmp_path / "short"), 50)
    assert (found.blocks, found.ended, found.read_bytes) == (3, "end", 3 * BLOCK_BYTES + 100)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A source that gives one block and four bytes, and then nothing more."""
    pipe = tmp_path / "slow"
    os.mkfifo(pipe)
    done = threading.Event()

    def give() -> None:
        with pipe.open("wb") as end:
            end.write(os.urandom(BLOCK_BYTES + 4))
            end.flush()
            done.wait()

    giver = threading.Thread(target=give)
    giver.start()
    yield pipe
    done.set()
    giver.join()


def test_a_source_that_falls_silent_ends_with_the_budget_and_its_block_is_tested(slow: Path) -> None:
    found = count_failures(str(slow), 1000, budget_s=1.5)
    assert (found.blocks, found.ended, found.asked_blocks) == (1, "budget", 1000)


def test_a_source_that_gives_nothing_at_all_tests_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "silent")
    begun = time.monotonic()
    found = count_failures(str(tmp_path / "silent"), 10, budget_s=0.5)
    assert (found.blocks, found.read_bytes, found.ended, found.failures[ANY]) == (0, 0, "budget", 0)
    assert found.seconds < time.monotonic() - begun
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "silent")], capture_output=True, text=True, check=False).stdout
    assert left == ""


def test_what_is_not_there_or_cannot_be_meant_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=r"nothing-here gives nothing: No such file"):
        count_failures(str(tmp_path / "nothing-here"), 10)
    for blocks, budget_s in ((0, 1.0), (10, 0.0), (10**9, 1.0)):
        with pytest.raises(UsageError):
            count_failures("getrandom", blocks, budget_s)
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("toolkit.filesystems._SYSTEM_PROGRAMS", ())
    with pytest.raises(UnavailableError, match=r"no rngtest here.*toolkit lab fetch --feeders"):
        count_failures("getrandom", 10)


def test_the_command_says_the_rate_of_good_data_and_what_was_not_tested(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(os.urandom(2 * BLOCK_BYTES + 4))

    def toolkit(*words: str) -> str:
        command = [sys.executable, "-m", "toolkit", "fips", "--source", "short", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    said = toolkit()
    assert "Only 2 of 1,000 blocks were tested: there was no more." in said
    assert "good_rate" in said
    assert "Too few blocks to tell: of good data about 0.8 in 1,000 fail" in said
    rows = json.loads(toolkit("--json"))
    assert [row["test"] for row in rows] == [ANY, *TESTS]
    assert {(row["source"], row["blocks"], row["asked_blocks"], row["ended"]) for row in rows} == {("short", 2, 1000, "end")}
    assert [path.name for path in tmp_path.iterdir()] == ["short"]


def test_a_source_that_gives_nothing_does_not_take_away_what_the_others_showed(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(os.urandom(2 * BLOCK_BYTES + 4))
    words = [
        sys.executable,
        "-m",
        "toolkit",
        "fips",
        "--json",
        "--source",
        "whole",
        "--source",
        "nothing-here",
        "--source",
        "nor-here",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert {row["source"] for row in json.loads(done.stdout)} == {"whole"}
    assert "nothing-here" in done.stderr
    assert "nor-here" in done.stderr
