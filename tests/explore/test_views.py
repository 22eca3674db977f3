"""Views: a control that changes draws again, an empty selection says so, a table that is missing says what fills it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import pytest

from tests.plots import made
from toolkit import explore
from toolkit.explore.session import Session
from toolkit.explore.view import View
from toolkit.plots import AltFigure
from toolkit.store import open_store

VIEWS: dict[str, Callable[[Session], View]] = {
    "allocation": explore.fragmentation.methods,
    "layout": explore.fragmentation.layout,
    "beside": explore.fragmentation.beside,
    "found on allocation": explore.fragmentation.found,
    "pool": explore.starvation.pool,
    "readiness": explore.starvation.readiness,
    "state": explore.starvation.state,
    "channels": explore.channels.health,
    "events of channels": explore.channels.events,
    "found on starvation": explore.starvation.found,
    "rates": explore.throughput.rates,
    "waits": explore.throughput.waits,
    "hwrng": explore.throughput.hwrng,
    "found on throughput": explore.throughput.found,
    "measured": explore.overview.measured,
    "not measured": explore.overview.not_measured,
    "found": explore.overview.found,
    "key figures": explore.overview.key_figures,
}


def shown(view: View) -> str:
    return "\n".join(output["data"]["text/html"] for output in view.output.outputs)


def read(view: View) -> str:
    """The words of what is shown."""
    return html.unescape(re.sub(r"<[^>]+>", "", shown(view)))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shows_something_on_a_store_with_everything(name: str, session: Session) -> None:
    view = VIEWS[name](session)
    view.redraw()
    assert view.output.outputs
    # The store has no guests made for an experiment, which what was found says as what was not measured does.
    assert "is not in this store" not in read(view) or name in ("not measured", "found")


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_on_an_empty_store_says_what_is_missing(name: str, empty: Session) -> None:
    view = VIEWS[name](empty)
    view.redraw()
    assert view.output.outputs
    words = read(view)
    if name not in ("beside", "measured"):
        assert re.search(r"not in this store: run (toolkit|make)|in this store yet: run (make report|toolkit lab)", words)


@pytest.mark.parametrize(
    ("name", "control", "value"),
    [
        ("allocation", "filesystems", ("ext4",)),
        ("allocation", "ways", ("write_4k",)),
        ("allocation", "sizes", (4 * made.MIB,)),
        ("allocation", "quantity", "extents"),
        ("pool", "range_s", (1.0, 3.0)),
        ("rates", "sources", ("getrandom",)),
        ("waits", "blocks", (64,)),
        ("key figures", "subject", "rates of the random sources"),
    ],
)
def test_a_change_of_a_control_draws_figure_and_table_again(name: str, control: str, value: object, session: Session) -> None:
    view = VIEWS[name](session)
    view.redraw()
    before = [output["data"]["text/html"] for output in view.output.outputs]
    view.controls[control].value = value
    after = [output["data"]["text/html"] for output in view.output.outputs]
    assert "data:image/png;base64," in before[0]
    assert before[0] != after[0]
    if control != "quantity" and name != "key figures":
        assert _data(before[1]) != _data(after[1])


def _data(text: str) -> str:
    found = re.search(r'"data_json": "(.*?)", "keys', text) or re.search(r'"data_json": "(.*)"', text)
    return found[1] if found else text


def test_another_target_chosen_draws_that_target(tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "store")
    for guest in ("red", "blue"):
        store.append("entropy_samples", made.entropy_samples(guest=guest, boot=guest, count=20))
    store.append("rng_state", made.rng_state(guest=["red"], boot_id=["red"]))
    view = explore.starvation.pool(explore.open(tmp_path / "store"))
    view.redraw()
    assert {"red", "blue"} <= set(re.findall(r"red|blue", shown(view)))
    (chosen,) = [number for name, number in view.controls["chosen"].options if name.startswith("blue")]
    view.controls["chosen"].value = (chosen,)
    assert "red" not in read(view).replace("shared", "")
    assert "not judged" in view.blocks()[0].alt or "regime unknown" in view.blocks()[0].alt


@pytest.mark.parametrize(
    ("name", "control"),
    [("allocation", "filesystems"), ("allocation", "sizes"), ("pool", "chosen"), ("rates", "sources"), ("waits", "blocks")],
)
def test_an_empty_selection_says_so(name: str, control: str, session: Session) -> None:
    view = VIEWS[name](session)
    view.controls[control].value = ()
    assert "Nothing is chosen" in read(view)


def test_a_selection_of_which_nothing_was_measured_says_so(session: Session) -> None:
    view = explore.throughput.rates(session)
    view.controls["sources"].value = ("/dev/hwrng",)
    view.controls["blocks"].value = (65536,)
    assert "Nothing was read in this selection" in read(view)


def test_every_figure_in_a_widget_has_its_alternative_text(session: Session) -> None:
    for make in VIEWS.values():
        view = make(session)
        view.redraw()
        for image in re.findall(r"<img [^>]*>", shown(view)):
            assert len(re.search(r'alt="([^"]*)"', image)[1]) > 40


def test_labels_of_controls_are_whole_and_no_markup(session: Session) -> None:
    for make in (explore.fragmentation.methods, explore.starvation.pool, explore.throughput.rates):
        for control in make(session).controls.values():
            assert control.description
            assert control.style.description_width == "initial"


def test_on_a_page_the_figures_stand_alone(session: Session, displayed: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    displayed.clear()
    explore.fragmentation.methods(session)._ipython_display_()
    figure, table = displayed
    assert isinstance(figure, AltFigure)
    assert {axes.get_title(loc="left") for axes in figure.axes} == {"4 MiB", "16 MiB"}
    assert "new ITable(" in str(table)
    assert not any(isinstance(thing, widgets.Widget) for thing in displayed)
    displayed.clear()
    explore.overview.key_figures(session)._ipython_display_()
    assert [type(thing) for thing in displayed] == [AltFigure] * 3


def test_in_a_notebook_controls_stand_above_the_figure(session: Session, displayed: list[object]) -> None:
    displayed.clear()
    view = explore.fragmentation.methods(session)
    view._ipython_display_()
    [box] = displayed
    assert isinstance(box, widgets.VBox)
    assert box.children == (view.bar, view.output)


def test_the_table_behind_the_figure_holds_the_medians(session: Session) -> None:
    table = explore.fragmentation.methods(session).blocks()[1]
    rows = session.table("allocations")
    one = rows[(rows["filesystem"] == "xfs") & (rows["method"] == "write_8k") & (rows["size_bytes"] == 4 * made.MIB)]
    mine = table[(table["filesystem"] == "xfs") & (table["method"] == "write_8k") & (table["size_bytes"] == 4 * made.MIB)].iloc[0]
    assert mine["allocate_s_median"] == one["allocate_ns"].astype(float).median() / 1e9
    assert mine["extents"] == one["extents"].median()
    assert mine["repeats"] == len(one)


def test_what_failed_has_no_figures_in_the_table(session: Session) -> None:
    table = explore.fragmentation.methods(session).blocks()[1]
    refused = table[(table["filesystem"] == "ext3") & (table["method"] == "fallocate")]
    assert (refused["failed"] == refused["repeats"]).all()
    assert refused[["allocate_s_median", "extents", "discontinuities", "allocated_bytes"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("subject", "table"), [(explore.fragmentation, "allocations"), (explore.throughput, "source_reads")], ids=lambda each: str(each)
)
def test_no_finding_is_said_and_not_left_blank(subject: object, table: str, tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "store")
    if table == "allocations":
        store.append(table, made.allocations(("tmpfs",), ("fallocate",)))
    else:
        reads = made.source_reads(reads=1)
        store.append(table, reads.assign(read_bytes=0))
    session = explore.open(tmp_path / "store")
    for view in (subject.found(session), explore.overview.found(session)):
        view.redraw()
        assert re.search(r"No finding\. (On no file system|No read gave)", read(view))
        assert "<ul></ul>" not in shown(view)


def test_samples_without_evidence_are_not_judged_in_the_table() -> None:
    samples, states = made.entropy_samples(count=5), made.rng_state()
    samples = made.unseen(samples, "crng_ready", "random_readable")
    from toolkit.analysis.starvation import starvation

    table = explore.starvation.summary(samples, starvation(samples, states), states)
    assert pd.isna(table["episodes"].iloc[0])
    assert (table["boot"].iloc[0], table["boot_id"].iloc[0]) == (made.BOOT[:8], made.BOOT)
    assert table.columns[-1] == "boot_id"


def test_what_was_not_judged_is_not_called_unstarved() -> None:
    samples = made.entropy_samples(count=5)
    from toolkit.analysis.starvation import starvation

    every = starvation(samples.head(0), "latched")
    table = explore.starvation.summary(samples, every, made.rng_state().head(0))
    assert pd.isna(table["episodes"].iloc[0])
    assert pd.isna(table["starved_s"].iloc[0])
