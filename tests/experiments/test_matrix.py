"""`toolkit lab readiness` as its user runs it: what is interrupted goes on where it was, past guests that are never ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.needs import require_lab
from tests.traces import traces
from toolkit.analysis.boots import boots as boots_of
from toolkit.cli import app
from toolkit.cli_boots import _all_of_it
from toolkit.experiments.boot_once import boot_once
from toolkit.experiments.boot_plan import Boot, BootPlan, Cell, plan_of
from toolkit.experiments.matrix import begun_before, run_matrix
from toolkit.lab_kernels import find_kernels
from toolkit.runs import Run, begin
from toolkit.store import Store, open_store

PLAN = """
boots = 1
budget = "4s"

[[cells]]
rdrand = "trusted"
asked = "getrandom"

[[cells]]
rdrand = "absent"
rng = "none"
asked = "nothing"

[[cells]]
kernel = "9.9"
"""


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where guests' files are meanwhile: a short path, since sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as made:
        monkeypatch.setenv("TOOLKIT_SCRATCH", made)
        yield Path(made).resolve()


def readiness(folder: Path, *words: str) -> subprocess.Popen[str]:
    plan = folder / "mine.toml"
    plan.write_text(PLAN)
    command = [sys.executable, "-m", "toolkit", "lab", "readiness", "--plan", str(plan), *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(*words: str, status: int = 0) -> str:
    """What a command says, here: it is another process only where it must be."""
    ran = CliRunner().invoke(app, ["lab", "readiness", *words], catch_exceptions=False)
    assert ran.exit_code == status, ran.stderr
    return " ".join(ran.stdout.split())


def stored(folder: Path) -> pd.DataFrame:
    return open_store(folder / "store").read("boots")


@pytest.mark.lab
@pytest.mark.slow
def test_a_matrix_that_is_interrupted_resumes_with_exactly_the_boots_that_are_missing(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_lab()
    with readiness(tmp_path, "--json") as first:
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("store/boots/**/part-*.parquet")):
            assert time.monotonic() < deadline
            assert first.poll() is None, first.stderr and first.stderr.read()
            time.sleep(0.1)
        first.send_signal(signal.SIGINT)
        _, err = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "Traceback" not in err
    assert traces(scratch) == []
    before = stored(tmp_path)
    assert 1 <= len(before) < 3

    monkeypatch.chdir(tmp_path)
    rows = json.loads(answered("--plan", "mine.toml", "--json"))
    assert traces(scratch) == []
    boots = stored(tmp_path)
    assert len(rows) == len(boots) == 3
    assert boots["cell"].nunique() == 3
    assert sorted(boots["position"]) == [0, 1, 2]
    assert set(before["boot_id"]) < set(boots["boot_id"])
    assert boots["boot_id"].nunique() == 3
    runs = open_store(tmp_path / "store").read("runs")
    assert runs["seed"].nunique() == 1
    assert boots["run_id"].nunique() == 2

    booted = boots[boots["outcome"] != "left out"]
    assert (boots.loc[boots["outcome"] == "left out", "kernel"] == "9.9").all()
    ready = booted[booted["rdrand"] == "trusted"]
    assert (ready["outcome"] == "ready").all()
    assert ready["detail"].isna().all()
    assert ready["crng_ready_s"].between(0, 4).all()
    assert (ready["waits"] > 0).all()
    assert not ready["wait_censored"].any()
    never = booted[booted["rdrand"] == "absent"]
    assert (never["outcome"] == "censored").all()
    assert never["crng_ready_s"].isna().all()
    assert never["detail"].str.contains("4").all()
    assert never["waits"].isna().all()
    assert (never["watched_s"] >= 4).all()
    for quantity in ("user_space_s", "guest_cpu_s", "qemu_cpu_s", "watched_s"):
        assert (booted[quantity] > 0).all()
    assert (booted["qemu_cpu_s"] > 0.5 * booted["guest_cpu_s"]).all()
    assert boots["feeder_cpu_s"].isna().all()

    said = answered("--plan", "mine.toml")
    assert "2 of 3 boots are in the store already" in said  # what could not be had is tried again
    assert "0 of 1 > 4 s" in said
    assert len(stored(tmp_path)) == 3


def test_anew_begins_another_matrix_with_a_seed_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan whose cells cannot be had takes no time, and is a matrix all the same."""
    monkeypatch.chdir(tmp_path)
    Path("left.toml").write_text('boots = 2\n[[cells]]\nkernel = "9.9"\nasked = ["nothing", "getrandom"]\n')
    for words, seeds in (([], 1), ([], 1), (["--anew"], 2), (["--seed", "7"], 3)):
        said = answered("--plan", "left.toml", *words, status=1)  # nothing was measured
        runs = open_store("store").read("runs")
        assert runs["seed"].nunique() == seeds
        assert len(stored(tmp_path)) == 4 * seeds
        # A reader is told which cells have what obstacle, and what to do about it.
        assert "4 boots left out: There is no kernel 9.9 here. Run: toolkit lab fetch --kernel" in said
    assert stored(tmp_path)["outcome"].eq("left out").all()


NEWEST = "the newest"


def cell(**more: str) -> Cell:
    values = {"kernel": NEWEST, "rdrand": "absent", "rng": "none", "backend": "", "asked": "nothing", "remedy": "none"}
    return Cell(**{**values, **more})


def plan(*cells: Cell) -> BootPlan:
    return BootPlan("mine", cells, 1, 4.0, 0.0)


def test_a_kernel_a_backend_and_a_feeder_that_are_not_there_are_left_out_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    kernels = {kernel.version: kernel for kernel in find_kernels()} or {}
    (version,) = kernels
    store, run = open_store(tmp_path / "store"), begin("test", seed=3)
    wanted = [cell(kernel="9.9"), cell(kernel=version, remedy="haveged")]
    if not Path("/dev/hwrng").exists():
        wanted.append(cell(kernel=version, rng="unlimited", backend="/dev/hwrng"))
    rows = run_matrix(plan(*wanted), kernels, store, run).set_index("cell")
    assert (rows["outcome"] == "left out").all()
    for column in ("crng_ready_s", "qemu_cpu_s", "watched_s", "waits", "longest_wait_ns", "accelerator"):
        assert rows[column].isna().all()
    assert rows.loc[str(wanted[0]), "detail"] == "There is no kernel 9.9 here. Run: toolkit lab fetch --kernel SUITE"
    assert "toolkit lab fetch --feeders" in rows.loc[str(wanted[1]), "detail"]
    if len(wanted) > 2:
        assert "no /dev/hwrng" in rows.loc[str(wanted[2]), "detail"]
    assert list(tmp_path.iterdir()) == [tmp_path / "store"]


def test_boots_where_there_is_no_qemu_are_rows_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel,) = find_kernels()
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = run_matrix(
        plan(cell(kernel=kernel.version)), {kernel.version: kernel}, open_store(tmp_path / "store"), begin("test", seed=3)
    )
    assert rows["outcome"].tolist() == ["left out"]
    assert "apt-get install qemu-system-x86" in rows["detail"].item()


def test_a_device_that_the_host_has_not_is_left_out_before_anything_is_booted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel,) = find_kernels()
    there = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: there(path) and path != Path("/dev/hwrng"))  # as on a host without one
    made = plan(cell(kernel=kernel.version, rng="unlimited", backend="/dev/hwrng"))
    row = boot_once(Boot(made.cells[0], 0, 0), made, {kernel.version: kernel}, tmp_path)
    assert (row["outcome"], row["virtio_rng_backend"]) == ("left out", "/dev/hwrng")
    assert row["detail"] == "This host has no /dev/hwrng to feed a guest's virtio-rng. Give another backend."
    assert list(tmp_path.iterdir()) == []


def left_out(store: Store, run: Run, of: BootPlan) -> pd.DataFrame:
    """A matrix that boots nothing: none of its kernels is here."""
    store.append("runs", run.row())
    return run_matrix(of, {}, store, run)


def test_what_was_begun_is_told_by_plan_host_and_seed_and_its_boots_by_cell_remedy_and_repeat(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    said = {"cells": [{"rng": ["none", "unlimited"], "remedy": ["none", "virtio-rng", "rdrand"]}], "boots": 2}
    whole = plan_of(said, "whole", lambda word: [word])
    run = begin("test", seed=3)
    assert begun_before(store, whole, run.host) is None
    # Of each of its boots only some are there: as if it was interrupted after them.
    store.append("runs", run.row())
    there = whole.order(3)[:5]
    store.append("boots", run.frame("boots", [{**boot_once(boot, whole, {}), "outcome": "ready"} for boot in there]))
    begun = begun_before(store, whole, run.host)
    assert begun is not None
    assert begun.seed == 3
    assert begun.left(whole) == whole.order(3)[5:]
    assert begun_before(store, whole, "another host") is None
    assert begun_before(store, whole, run.host, seed=4) is None
    other = plan_of({**said, "boots": 3}, "whole", lambda word: [word])
    assert begun_before(store, other, run.host) is None

    made = run_matrix(whole, {}, store, run, begun=begun)
    assert len(made) == 5
    assert sorted(store.read("boots")["position"]) == list(range(10))
    again = begun_before(store, whole, run.host)
    assert again is not None
    # What could not be had is tried again, and said once.
    assert again.left(whole) == whole.order(3)[5:]
    assert len(again.left_out) == 5
    assert run_matrix(whole, {}, store, run, begun=again).empty
    assert len(store.read("boots")) == 10
    newer = begin("test", seed=9)
    left_out(store, newer, whole)
    newest = begun_before(store, whole, run.host)
    assert newest is not None
    assert (newest.seed, newest.runs) == (9, (newer.run_id,))
    assert (begun_before(store, whole, run.host, seed=3) or newest).runs == (run.run_id,)


def test_a_boot_that_failed_is_made_again_and_counts_once(tmp_path: Path) -> None:
    store, run, later = open_store(tmp_path / "store"), begin("test", seed=3), begin("test", seed=3)
    whole = plan_of({"cells": [{"rng": ["none", "unlimited"]}], "boots": 2}, "whole", lambda word: [word])
    for each in (run, later):
        store.append("runs", each.row())
    first, *_ = order = whole.order(3)
    row = {"crng_ready_s": 3.0, "detail": None}

    def append(of: Run, boots: list[Boot], outcome: str) -> None:
        store.append("boots", of.frame("boots", [{**boot_once(boot, whole, {}), **row, "outcome": outcome} for boot in boots]))

    append(run, order[1:], "ready")
    append(run, [first], "failed")
    begun = begun_before(store, whole, run.host)
    assert begun is not None
    assert begun.left(whole) == [first]
    assert begun.left_out == frozenset()
    append(later, [first], "failed")
    rows = _all_of_it(store, whole, run.host, [run.run_id, later.run_id])
    assert sorted(rows["outcome"]) == ["failed", "ready", "ready", "ready"]
    counted = boots_of(store.read("boots"))[["boots", "ready", "failed"]].sum()
    assert counted.tolist() == [4, 3, 1]
    append(later, [first], "ready")
    again = begun_before(store, whole, run.host)
    assert again is not None
    assert again.left(whole) == []
    assert _all_of_it(store, whole, run.host, [run.run_id, later.run_id])["outcome"].tolist() == ["ready"] * 4
    assert boots_of(store.read("boots"))[["boots", "ready", "failed"]].sum().tolist() == [4, 4, 0]
    # Boots of another matrix, that were begun anew, count beside them.
    anew = begin("test", seed=9)
    append(anew, whole.order(9), "ready")
    assert boots_of(store.read("boots"))["boots"].sum() == 8


def test_each_row_is_told_and_stored_before_the_next_and_progress_says_how_many(tmp_path: Path) -> None:
    store, run = open_store(tmp_path / "store"), begin("test", seed=1)
    of = BootPlan("mine", (cell(), cell(asked="urandom")), 2, 4.0, 0.0)
    told: list[int] = []
    seen: list[tuple[float, float]] = []

    def row(frame: pd.DataFrame) -> None:
        assert len(frame) == 1
        told.append(len(store.read("boots")))

    rows = run_matrix(of, {}, store, run, progress=lambda now, all_, _words: seen.append((now, all_)), told=row)
    assert told == [1, 2, 3, 4]
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["readiness", "--boots", "1"], "None of the 6 boots of this plan was measured: There is no"),
        (["rates"], "None of the 7 limits was measured"),
        (["drain"], "None of 7 scenarios was measured"),
    ],
)
def test_a_command_that_measured_nothing_fails_and_says_why(
    words: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PATH", str(tmp_path))  # no QEMU
    ended = CliRunner().invoke(app, ["lab", *words], catch_exceptions=False)
    assert ended.exit_code == 1
    assert what in " ".join(ended.stderr.split())
    assert "apt-get install qemu-system-x86" in ended.stdout + ended.stderr


def test_a_kernel_that_is_not_there_is_said_before_a_guest_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, ["lab", "move", "--kernel", "9.9"], catch_exceptions=False)
    assert ended.exit_code == 1
    assert "There is no kernel 9.9 for lab guests here" in " ".join(ended.stderr.split())
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["readiness", "--plan", "nope"], "one of: readiness, reference, remedies"),
        (["readiness", "--plan", "wrong.toml"], "'prayer' is no remedy"),
        (["remedies", "--boots", "0"], "--boots"),
        (["remedies", "--boots", "10001"], "--boots"),
        (["readiness", "--seed", "one"], "--seed"),
        (["rates", "--bytes", "many"], "is not a size"),
        (["rates", "--bytes", "9" * 400], "whole number of bytes"),
        (["rates", "--period", "1us"], "duration|at least 1 ms"),
        (["rates", "--periods", "2"], "--periods"),
        (["rates", "--periods", "20000"], "for 20000 periods takes 5.56 h"),
        (["rates", "--bytes", "4", "--period", "1d"], "limited to 4 B/86400000 ms for 5 periods takes 468 h"),
        (["rates", "--bytes", "4", "--period", "0.7ms"], "at least 1 ms"),
        (["rates", "--period", "1.4ms"], "whole ms, and 0.0014s is not"),
        (["move", "--from", "16/1.4ms"], "whole ms, and 1.4ms is not"),
        (["move", "--to", "many"], "'many' is no limit of a virtio-rng"),
        (["rates", "--backend", "telepathy"], "is no backend"),
        (["drain", "--reader", "telepathy"], "getrandom, /dev/random, /dev/urandom, /dev/hwrng"),
        (["drain", "--limit", "none"], "Give --limit unlimited"),
        (["drain", "--guests", "17"], "1 to 16 guests"),
        (["drain", "--for", "1ms"], "500ms to an hour"),
        (["drain", "--repeat", "0"], "--repeat"),
        (["drain", *["--reader", "getrandom"] * 65], "1 to 64 readers"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_usage_exits_with_2_and_a_remedy_and_leaves_no_store(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("wrong.toml").write_text('[[cells]]\nremedy = "prayer"\n')
    ended = CliRunner().invoke(app, ["lab", *words], catch_exceptions=False)
    assert ended.exit_code == 2, ended.stderr
    assert any(each in " ".join(ended.stderr.split()) for each in why.split("|")), ended.stderr
    assert os.listdir() == ["wrong.toml"]
