from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.filesystems_made import INLINE, MIB, mounted
from toolkit import runs
from toolkit.errors import UnavailableError, UsageError
from toolkit.experiments.extents import extents, free_extents
from toolkit.scratch import ScratchFilesystem
from toolkit.sensors.extents import file_extents, flag_names
from toolkit.tables import TABLES

pytestmark = pytest.mark.root

_BLOCK = 4096


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ScratchFilesystem]]:
    with mounted(["ext4", "xfs", "btrfs", INLINE, "tmpfs"], 300 * MIB, tmp_path_factory.mktemp("extents")) as filesystems:
        yield filesystems


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs"])
def test_the_table_holds_what_the_kernel_says(made: dict[str, ScratchFilesystem], name: str) -> None:
    path = made[name].point / "file"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100 * _BLOCK)
        for block in range(0, 100, 10):
            os.pwrite(file.fileno(), b"x" * _BLOCK, block * _BLOCK)
    run = runs.begin("test")
    frame = extents(path, run=run)
    assert dict(frame.dtypes.astype(str)) == TABLES["extents"].dtypes
    assert list(frame.columns) == TABLES["extents"].columns
    rows = zip(frame["logical_byte"], frame["physical_byte"], frame["length_bytes"], frame["flags"], strict=True)
    assert list(rows) == [(one.logical, one.physical, one.length, flag_names(one.flags)) for one in file_extents(path)]
    assert len(frame) == 20
    assert set(frame["file"]) == {str(path)}
    assert set(frame["layer"]) == {0}
    assert set(frame["run_id"]) == {run.run_id}
    assert frame["guest"].isna().all()


@pytest.mark.parametrize("name", ["ext4", "btrfs"])
def test_a_file_without_extents_gives_an_empty_table(made: dict[str, ScratchFilesystem], name: str) -> None:
    path = made[name].point / "empty"
    path.touch()
    frame = extents(path)
    assert len(frame) == 0
    assert dict(frame.dtypes.astype(str)) == TABLES["extents"].dtypes


def test_an_extent_among_metadata_has_no_place_where_none_is_said(made: dict[str, ScratchFilesystem]) -> None:
    for name, has_place in (("btrfs", False), (INLINE, True)):
        path = made[name].point / "inline"
        path.write_bytes(b"small")
        frame = extents(path)
        assert len(frame) == 1
        assert "data_inline" in frame["flags"].iloc[0]
        assert frame["physical_byte"].notna().all() == has_place


def test_what_has_no_place_yet_is_null_and_not_zero(made: dict[str, ScratchFilesystem], monkeypatch: pytest.MonkeyPatch) -> None:
    path = made["ext4"].point / "delayed"
    path.write_bytes(bytes(MIB))
    monkeypatch.setattr("toolkit.experiments.extents.file_extents", lambda path, sync: file_extents(path, sync=False))
    frame = extents(path)
    assert "delalloc" in frame["flags"].iloc[-1]
    assert frame["physical_byte"].isna().iloc[-1]


def test_a_name_that_is_no_utf8_is_kept_legible(made: dict[str, ScratchFilesystem]) -> None:
    path = made["ext4"].point / os.fsdecode(b"caf\xe9")
    path.write_bytes(b"x")
    assert extents(path)["file"].iloc[0] == f"{made['ext4'].point}/caf\\xe9"


def test_where_it_cannot_be_said_there_is_a_clear_error(made: dict[str, ScratchFilesystem]) -> None:
    path = made["tmpfs"].point / "file"
    path.write_bytes(b"x")
    with pytest.raises(UnavailableError, match="FIEMAP"):
        extents(path)
    with pytest.raises(UnavailableError, match="GETFSMAP"):
        free_extents(path)
    with pytest.raises(UsageError, match="no such file"):
        free_extents(path.with_name("missing"))


@pytest.mark.parametrize("name", ["ext4", "xfs"])
def test_free_extents_add_up_to_the_free_space(made: dict[str, ScratchFilesystem], name: str) -> None:
    # What is reserved for files that are being written is free on the device still.
    made[name].remount()
    frame = free_extents(made[name].point, ageing="none to speak of")
    assert dict(frame.dtypes.astype(str)) == TABLES["free_extents"].dtypes
    assert set(frame["filesystem"]) == {made[name].made.kernel_type}
    assert set(frame["ageing"]) == {"none to speak of"}
    free = os.statvfs(made[name].point)
    # xfs keeps some of it for itself, and so says less.
    assert frame["length_bytes"].sum() >= free.f_bfree * free.f_frsize
    ends = frame["physical_byte"] + frame["length_bytes"]
    assert (frame["physical_byte"].iloc[1:].to_numpy() > ends.iloc[:-1].to_numpy()).all()
