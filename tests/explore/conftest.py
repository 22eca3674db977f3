"""Sessions on small stores, and what a view shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plots import made
from toolkit.explore import session as sessions
from toolkit.store import open_store


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "store"
    open_store(folder)
    return folder


@pytest.fixture(autouse=True)
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOOLKIT_STATIC", raising=False)
    monkeypatch.delenv("TOOLKIT_STORE", raising=False)


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that was displayed, in order."""
    shown: list[object] = []
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: shown.extend(things))
    return shown


@pytest.fixture
def session(made_store: Path, displayed: list[object]) -> sessions.Session:
    return sessions.open(made_store)


@pytest.fixture
def empty(empty_store: Path, displayed: list[object]) -> sessions.Session:
    return sessions.open(empty_store)
