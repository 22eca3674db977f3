"""The folders that come with the package are found, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit import share
from toolkit.errors import UnavailableError


def test_the_store_named_by_the_environment_comes_first(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert share.default_store({"TOOLKIT_STORE": "/srv/measured"}, tmp_path) == Path("/srv/measured")


def test_a_store_in_the_working_directory_comes_before_the_reference(tmp_path: Path) -> None:
    assert share.default_store({}, tmp_path) == share.reference_store()
    (tmp_path / "store").mkdir()
    assert share.default_store({}, tmp_path) == tmp_path / "store"


def test_a_wheel_carries_the_folders_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried = tmp_path / "toolkit" / "_share" / "notebooks"
    carried.mkdir(parents=True)
    (carried / "00_start_here.ipynb").write_text("{}")
    monkeypatch.setattr(share, "_PACKAGE", tmp_path / "toolkit")
    assert share.notebooks() == carried


def test_a_folder_that_merely_has_the_name_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = tmp_path / "data"
    stranger.mkdir()
    (stranger / "README.md").write_text("somebody's")
    monkeypatch.setattr(share, "_PACKAGE", tmp_path / "toolkit")
    with pytest.raises(UnavailableError, match="no folder of data"):
        share.data()
