"""Which store is shown, and that it is said."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.plots import made
from toolkit import explore, share
from toolkit.errors import StoreError, UsageError
from toolkit.store import open_store


def test_the_store_given_is_shown(made_store: Path, displayed: list[object]) -> None:
    session = explore.open(made_store)
    assert session.path == made_store
    assert "as given" in session.description()
    assert len(session.table("allocations")) > 0


def test_without_one_the_environment_names_it(made_store: Path, displayed: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_STORE", str(made_store))
    assert explore.open().path == made_store
    assert "TOOLKIT_STORE" in explore.open().description()


@pytest.mark.parametrize(("store", "here"), [("store", "."), ("store", "notebooks")])
def test_then_the_store_here_or_one_folder_up(
    tmp_path: Path, store: str, here: str, displayed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.store(tmp_path / store)
    (tmp_path / here).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / here)
    assert explore.open().path == tmp_path / store


def test_then_the_reference_store_and_that_is_said(
    tmp_path: Path, displayed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = made.store(tmp_path / "reference")
    monkeypatch.setattr(share, "reference_store", lambda: reference)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    session = explore.open()
    assert session.path == reference
    assert "figures of another machine" in session.description()


def test_a_store_of_ones_own_is_not_called_anothers(made_store: Path, displayed: list[object]) -> None:
    assert "another machine" not in explore.open(made_store).description()


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path, displayed: list[object]) -> None:
    with pytest.raises(StoreError):
        explore.open(tmp_path / "nowhere")


def test_an_unknown_host_or_run_is_refused_with_those_there_are(made_store: Path, displayed: list[object]) -> None:
    with pytest.raises(UsageError, match="host-a"):
        explore.open(made_store, host="host-z")
    with pytest.raises(UsageError, match="run-1"):
        explore.open(made_store, run="run-9")


def test_a_host_narrows_every_table(tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "store")
    for host in ("one", "two"):
        store.append("runs", made.runs(host=host, run=f"run-{host}"))
        store.append("entropy_samples", made.entropy_samples(host=host, count=10))
    session = explore.open(tmp_path / "store", host="two")
    assert set(session.table("entropy_samples")["host"]) == {"two"}
    assert "<b>two</b>" in session.description()
    assert "<b>one</b>" not in session.description()


def test_tables_are_read_once(made_store: Path, displayed: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    session = explore.open(made_store)
    session.table("allocations")
    monkeypatch.setattr(type(session.store), "read", lambda *_, **__: pytest.fail("read again"))
    assert isinstance(session.table("allocations"), pd.DataFrame)


def test_a_damaged_file_is_named_where_its_table_is_shown(tmp_path: Path, displayed: list[object]) -> None:
    made.store(tmp_path / "store")
    [file] = (tmp_path / "store" / "allocations").rglob("*.parquet")
    (file.parent / ("part-<b>damaged" + file.name.removeprefix("part-"))).write_bytes(b"PAR1 no more")
    session = explore.open(tmp_path / "store")
    displayed.clear()
    assert len(session.table("allocations")) > 0
    said = "".join(str(each) for each in displayed)
    assert "damaged" in said
    assert "<b>damaged" not in said


def test_the_library_of_the_tables_is_shown_once_and_asks_no_address(made_store: Path, displayed: list[object]) -> None:
    explore.open(made_store)
    assert sum("async function injectModule(" in str(thing) for thing in displayed) == 1


def test_hostile_names_are_text_in_the_description(tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "store")
    store.append("runs", made.runs(host="<script>alert(1)</script>"))
    description = explore.open(tmp_path / "store").description()
    assert "<script>" not in description
    assert "&lt;script&gt;" in description
