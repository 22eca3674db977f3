"""Whether what came from guests is whole, as people are told."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from tests.plots import made
from toolkit import explore
from toolkit.store import open_store


def _told(folder: Path, displayed: list[object]) -> str:
    return str(explore.channels.found(explore.open(folder)))


def test_nothing_missing_is_said_with_what_came(tmp_path: Path, displayed: list[object]) -> None:
    open_store(tmp_path / "s").append("channel_health", made.channel_health())
    assert "Nothing is missing: 15 records of 1 guest came" in _told(tmp_path / "s", displayed)


@pytest.mark.parametrize("counts", [{"lost_records": 3}, {"dropped_in_guest": 3}, {"lost_records": 1, "dropped_in_guest": 2}])
def test_what_is_missing_is_counted(tmp_path: Path, displayed: list[object], counts: dict[str, int]) -> None:
    open_store(tmp_path / "s").append("channel_health", made.channel_health(**counts))
    told = _told(tmp_path / "s", displayed)
    assert "Nothing is missing" not in told
    assert "15 records of 1 guest came; 3 are missing" in told


def test_an_anomaly_is_shown_and_hostile_words_in_it_are_inert(tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "s")
    guest, words = "../../x", "<script>alert(1)</script> ran backwards"
    store.append("channel_health", made.channel_health(guest))
    store.append("channel_events", made.channel_events(guest, "anomaly", words))
    told = _told(tmp_path / "s", displayed)
    assert "1 anomaly" in told
    assert "<script" not in told
    assert words in html.unescape(re.sub(r"<[^>]+>", "", told))
