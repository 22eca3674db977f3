"""What the commands of the lab print of boots: tables for each kernel and thing asked, narrow enough for a terminal."""

from __future__ import annotations

import pandas as pd

from tests.plots import made_lab
from toolkit import spoken_lab


def test_boots_are_tables_by_kernel_and_what_is_asked_the_quickest_first() -> None:
    said = spoken_lab.boots(made_lab.matrix())
    assert [words for words, _ in said] == [
        "Kernel 6.1.0-44-amd64, getrandom waits:",
        "Kernel 6.1.0-44-amd64, urandom read first, then getrandom:",
        "Kernel 6.1.0-44-amd64, nothing asks:",
    ]
    first, last = said[0][1], said[-1][1]
    assert first["configuration"].tolist()[0] == "RDRAND, credited"
    assert first["longest wait"].tolist()[-1] == "1.85 s"
    assert list(last) == ["configuration", "ready", "after (95 %)"]
    assert last.iloc[-1].tolist() == ["no source", "0 of 5", "> 90 s"]


def test_reads_of_urandom_that_came_too_early_are_told_where_there_were_any() -> None:
    frame = made_lab.matrix()
    frame.loc[frame["asked"] == "urandom", "urandom_warnings"] = [20, 19, 20, 20, 20]
    first, second, _ = (table for _, table in spoken_lab.boots(frame))
    assert "urandom too early" not in first
    assert second["urandom too early"].tolist() == [20]
    unknown = frame.assign(urandom_warnings=pd.array([None] * len(frame), dtype="Int64"))
    assert all("urandom too early" not in table for _, table in spoken_lab.boots(unknown))


def test_the_tables_fit_a_terminal() -> None:
    for _, table in [*spoken_lab.boots(made_lab.matrix()), *spoken_lab.remedies(made_lab.remedies())]:
        widths = [max(len(name), *table[name].astype(str).str.len()) + 3 for name in table]
        assert sum(widths) <= 96


def test_remedies_are_tables_by_what_is_asked_and_never_set_against_the_other_half() -> None:
    waits, quiet = made_lab.remedies(), made_lab.remedies().assign(asked="nothing")
    quiet.loc[quiet["remedy"] == "none", ["outcome", "crng_ready_s"]] = ["ready", 1.0]
    said = dict(spoken_lab.remedies(pd.concat([waits, quiet], ignore_index=True)))
    assert list(said) == ["Kernel 6.1.0-44-amd64, getrandom waits:", "Kernel 6.1.0-44-amd64, nothing asks:"]
    ready = [table[table["quantity"] == "ready after"].set_index("remedy")["median (95 %)"] for table in said.values()]
    assert [each["none"] for each in ready] == ["> 90 s (61 s to > 90 s)", "1 s (1 s to 1 s)"]


def test_what_was_left_out_is_said_with_short_names() -> None:
    frame = made_lab.matrix()
    frame.loc[frame["cell"] == "egd, nothing", ["outcome", "detail"]] = ["left out", "no egd here"]
    assert spoken_lab.remarks(frame)[0] == "5 boots left out: no egd here (nothing asks: virtio-rng from egd)"
