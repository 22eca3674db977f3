"""What must not be pooled: two machines, two guests, and a folder beside a scratch file system whose name is the same."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.plots import made
from toolkit import explore, plots
from toolkit.explore import apart
from toolkit.explore.session import Session
from toolkit.plots import style
from toolkit.store import open_store
from toolkit.tables import TABLES

SCRATCH_NS, FOLDER_NS = 1_000_000, 1_000_000_000
WAYS = ("posix_fallocate", "write_4k")


def rows(filesystem: str, host: str, run: str, *, folder: bool) -> pd.DataFrame:
    frame = made.allocations((filesystem,), WAYS, host=host, run=run).assign(allocate_ns=FOLDER_NS if folder else SCRATCH_NS)
    made_by_nobody = folder or filesystem == "tmpfs"
    options = pd.Series([None if made_by_nobody else ""] * len(frame), dtype=frame["mkfs_options"].dtype)
    return TABLES["allocations"].frame({**{name: frame[name] for name in frame}, "mkfs_options": options})


def no_fresh_caches(host: str, run: str) -> pd.DataFrame:
    missing = {"capability": ["allocation on fresh caches"], "available": [False], "detail": ["in a folder"]}
    return TABLES["capabilities"].frame({**made.common(1, host=host, run=run), **missing})


def session_of(path: Path, *allocations: pd.DataFrame, folders: tuple[tuple[str, str], ...] = ()) -> Session:
    store = open_store(path / "store")
    for frame in allocations:
        store.append("allocations", frame)
    for host, run in folders:
        store.append("capabilities", no_fresh_caches(host, run))
    return explore.open(path / "store")


def words(view: explore.View) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", "".join(str(block) for block in view.blocks())))


@pytest.fixture
def two_kinds(tmp_path: Path, displayed: list[object]) -> Session:
    scratch, folder = rows("ext4", "a", "run-1", folder=False), rows("ext4", "a", "run-2", folder=True)
    return session_of(tmp_path, scratch, folder, folders=(("a", "run-2"),))


@pytest.fixture
def two_hosts(tmp_path: Path, displayed: list[object]) -> Session:
    return session_of(tmp_path, rows("ext4", "a", "run-1", folder=False), rows("ext4", "b", "run-2", folder=True))


def test_a_folder_on_ext4_is_not_pooled_with_a_scratch_ext4(two_kinds: Session) -> None:
    said = words(explore.fragmentation.found(two_kinds))
    assert "ext4: posix_fallocate reserves 256 MiB in 1 ms (95 % interval 1 ms to 1 ms, n = 5)" in said
    assert "ext4 (folder): posix_fallocate reserves 256 MiB in 1 s (95 % interval 1 s to 1 s, n = 5)" in said
    assert "ext4 (folder)" in words(explore.overview.found(two_kinds))


def test_two_hosts_are_never_one_interval(two_hosts: Session) -> None:
    said = words(explore.fragmentation.found(two_hosts))
    assert "a: ext4: posix_fallocate reserves 256 MiB in 1 ms (95 % interval 1 ms to 1 ms, n = 5)" in said
    assert "b: ext4 (folder): posix_fallocate reserves 256 MiB in 1 s (95 % interval 1 s to 1 s, n = 5)" in said


def test_figure_and_table_keep_them_apart_too(two_hosts: Session) -> None:
    figure, table = explore.fragmentation.methods(two_hosts).blocks()
    assert set(table["filesystem"]) == {"a: ext4", "b: ext4 (folder)"}
    assert (table["repeats"] == 5).all()
    assert "(b: ext4 (folder))" in plots.alt(figure)
    assert [repr(block) for block in explore.overview.key_figures(two_hosts).blocks()]


def test_a_scratch_tmpfs_stays_tmpfs_and_a_folder_on_tmpfs_does_not(tmp_path: Path, displayed: list[object]) -> None:
    scratch, folder = rows("tmpfs", "a", "run-1", folder=False), rows("tmpfs", "a", "run-2", folder=True)
    named = apart.allocations(session_of(tmp_path, scratch, folder, folders=(("a", "run-2"),)))
    assert named.groupby("run_id")["filesystem"].unique().explode().to_dict() == {"run-1": "tmpfs", "run-2": "tmpfs (folder)"}


def test_2009_stands_beside_one_place_at_a_time(two_kinds: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    view = explore.fragmentation.beside(two_kinds)
    alts = []
    for _, place in view.controls["place"].options:
        view.controls["place"].value = place
        alts.append(plots.alt(view.blocks()[0]))
    assert "today on scratch file systems" in alts[0]
    assert "today 1 ms" in alts[0]
    assert "today in a folder" in alts[1]
    assert "today 1 s" in alts[1]
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    assert [plots.alt(block) for block in explore.fragmentation.beside(two_kinds).blocks()[:2]] == alts


def test_reads_of_two_guests_are_not_pooled(tmp_path: Path, displayed: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "store")
    for guest, rate in (("red", 1024.0), ("blue", 8192.0)):
        reads = made.source_reads(hwrng_bytes_per_second=rate)
        store.append("source_reads", reads.assign(guest=guest, boot_id=guest, run_id=guest))
    session = explore.open(tmp_path / "store")
    said = words(explore.throughput.found(session))
    assert "red on host-a: getrandom gives" in said
    assert "blue on host-a: getrandom gives" in said
    table = explore.throughput.rates(session).blocks()[1]
    assert (table["reads"] == 9).all()
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    alts = [plots.alt(block) for block in explore.throughput.hwrng(session).blocks() if isinstance(block, plots.AltFigure)]
    assert [re.split(r"[ /]", alt)[4] for alt in alts] == ["blue", "red"]


def test_one_machine_and_one_kind_keep_their_plain_names(session: Session) -> None:
    assert set(apart.allocations(session)["filesystem"]) == {"ext3", "ext4", "xfs"}
    assert "/dev/hwrng" in set(apart.source_reads(session)["source"])
    assert [where for where, _ in apart.places(session)] == ["on scratch file systems"]


def test_names_apart_look_apart() -> None:
    names = [f"{host}: {name}{kind}" for host in "ab" for name in made.FILESYSTEMS for kind in ("", " (folder)")]
    seen = style.looks([*made.FILESYSTEMS, *names], style.FILESYSTEM_LOOKS)
    assert len(set(seen.values())) == len(seen)
