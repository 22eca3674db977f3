"""Views of guests made for an experiment: figure, table and sentence of the same numbers, and what fills an empty store."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.plots import made, made_lab
from toolkit import explore
from toolkit.explore import findings_boots, findings_lab, remedies
from toolkit.explore.session import Session
from toolkit.explore.view import View
from toolkit.markup import Fragment
from toolkit.plots import AltFigure, alt
from toolkit.store import open_store

#: Each view, and the command that the sentence names where the store has none of it.
VIEWS: dict[str, tuple[Callable[[Session], View], str]] = {
    "configurations": (explore.boots.configurations, "toolkit lab readiness"),
    "curves": (explore.boots.curves, "toolkit lab readiness"),
    "found on boots": (explore.boots.found, "toolkit lab readiness"),
    "limits": (explore.rates.limits, "toolkit lab rates"),
    "bursts": (explore.rates.bursts, "toolkit lab rates"),
    "found on rates": (explore.rates.found, "toolkit lab rates"),
    "readers": (explore.waits.readers, "toolkit lab drain"),
    "fairness": (explore.waits.fairness, "toolkit lab drain"),
    "found on waits": (explore.waits.found, "toolkit lab drain"),
    "remedies": (explore.remedies.compared, "toolkit lab remedies"),
    "found on remedies": (explore.remedies.found, "toolkit lab remedies"),
    "audits": (explore.audits.verdicts, "toolkit guests audit"),
    "found on audits": (explore.audits.found, "toolkit guests audit"),
}
FIGURES = [name for name in VIEWS if not name.startswith("found")]
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="session")
def lab_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_lab.store(tmp_path_factory.mktemp("lab") / "store")


@pytest.fixture
def lab(lab_store: Path, displayed: list[object]) -> Session:
    return explore.open(lab_store)


def words(said: list[Fragment]) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", "\n".join(said)))


@pytest.mark.parametrize("name", FIGURES)
def test_a_view_shows_the_figure_and_the_table_behind_it(name: str, lab: Session) -> None:
    figure, table, *_ = VIEWS[name][0](lab).blocks()
    assert isinstance(figure, AltFigure)
    assert isinstance(table, pd.DataFrame)
    assert len(table)
    assert len(figure.axes)
    view = VIEWS[name][0](lab)
    view.redraw()
    assert len(view.output.outputs) == 2


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_on_an_empty_store_says_what_fills_it(name: str, empty: Session) -> None:
    view, command = VIEWS[name]
    (said,) = view(empty).blocks()
    assert f"in this store: run <code>{command}</code>" in str(said)


@pytest.mark.parametrize(
    ("name", "control", "value"),
    [
        ("configurations", "part", 1),
        ("configurations", "asks", ("nothing asks",)),
        ("configurations", "quantity", "longest_wait_s"),
        ("curves", "part", 1),
        ("readers", "sources", ("/dev/hwrng",)),
        ("readers", "range_s", (1.0, 3.0)),
        ("fairness", "counts", (2,)),
        ("remedies", "cost", "feeder_cpu_s"),
        ("remedies", "time", "crng_ready_s"),
        ("audits", "chosen", ("sound",)),
    ],
)
def test_a_change_of_a_control_draws_again(name: str, control: str, value: object, lab: Session) -> None:
    view = VIEWS[name][0](lab)
    before = alt(view.blocks()[0])  # type: ignore[arg-type]
    view.controls[control].value = value
    assert alt(view.blocks()[0]) != before  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "control"),
    [("configurations", "asks"), ("limits", "chosen"), ("readers", "sources"), ("fairness", "counts"), ("audits", "chosen")],
)
def test_an_empty_selection_says_so(name: str, control: str, lab: Session) -> None:
    view = VIEWS[name][0](lab)
    view.controls[control].value = ()
    (said,) = view.blocks()
    assert "Nothing is chosen" in str(said)


def test_boots_of_two_plans_hosts_or_kernels_are_never_pooled(tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "store")
    for host, kernel in (("red", "6.1"), ("blue", "6.1"), ("blue", "5.10")):
        store.append("boots", made_lab.matrix(kernel=kernel, host=host))
    view = explore.boots.configurations(explore.open(tmp_path / "store"))
    options = dict(view.controls["part"].options)
    assert list(options) == ["blue, kernel 5.10", "blue, kernel 6.1", "red, kernel 6.1"]
    for place in options.values():
        view.controls["part"].value = place
        _, table = view.blocks()
        assert isinstance(table, pd.DataFrame)
        assert table["boots"].tolist() == [5] * 13


def test_boots_that_compare_remedies_are_shown_with_the_remedies_alone(lab: Session, tmp_path: Path) -> None:
    assert set(explore.boots.apart(lab)["plan"]) == {"reference", "matrix"}
    open_store(tmp_path / "store").append("boots", made_lab.remedies())
    (said,) = explore.boots.configurations(explore.open(tmp_path / "store")).blocks()
    assert "compare remedies" in str(said)


def test_the_table_of_boots_begins_with_short_columns_and_ends_with_the_cell(lab: Session) -> None:
    _, table, *_ = explore.boots.configurations(lab).blocks()
    assert isinstance(table, pd.DataFrame)
    assert list(table)[:6] == ["asked", "configuration", "median", "boots", "ready", "not in time"]
    assert list(table)[-1] == "cell"
    assert table["asked"].tolist() == ["getrandom waits"] * 6 + ["urandom read first, then getrandom"] + ["nothing asks"] * 6
    assert table["configuration"].tolist()[-2:] == ["virtio-rng, 4 B in 4 s", "no source"]
    assert table["configuration"].str.len().max() <= 30


def test_on_a_page_every_plan_and_kernel_is_shown_under_its_name(lab: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    # Of each boot when it was ready and, in a figure and table of their own, how long getrandom waited; curves of the first alone.
    for view, times in ((explore.boots.configurations(lab), 2), (explore.boots.curves(lab), 1)):
        assert view.controls == {}
        blocks = view.blocks()
        assert [type(block) for block in blocks] == [Fragment, *[AltFigure, pd.DataFrame] * times] * 2
        assert [str(block) for block in blocks[:: 1 + 2 * times]] == [
            "<h4>matrix, kernel 6.1.0-44-amd64</h4>",
            "<h4>reference, kernel 6.1.0-44-amd64</h4>",
        ]
    _, ready, _, waited, *_ = explore.boots.configurations(lab).blocks()
    assert "ready after" in alt(ready)  # type: ignore[arg-type]
    assert "the longest wait is" in alt(waited)  # type: ignore[arg-type]


def test_both_halves_of_a_comparison_of_remedies_are_shown(
    tmp_path: Path, displayed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "store")
    for asked in ("getrandom", "nothing"):
        store.append("boots", made_lab.remedies().assign(asked=asked))
    session = explore.open(tmp_path / "store")
    said = words([explore.remedies.found(session).blocks()[0]])
    assert "haveged (kernel 6.1.0-44-amd64, getrandom waits)" in said
    assert "haveged (kernel 6.1.0-44-amd64, nothing asks)" in said
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    blocks = explore.remedies.compared(session).blocks()
    assert [str(block) for block in blocks[::3]] == [
        "<h4>remedies, getrandom waits · 6.1.0-44-amd64</h4>",
        "<h4>remedies, nothing asks · 6.1.0-44-amd64</h4>",
    ]
    assert [alt(block)[:22] for block in blocks[1::3]] == ["Where getrandom waits,", "Where nothing asks, re"]
    assert "waits least with rdrand" in alt(blocks[1])  # type: ignore[arg-type]


def test_the_start_names_what_was_measured_of_guests_and_says_it_in_short(lab: Session, empty: Session) -> None:
    (table,) = explore.overview.measured(lab).blocks()
    rows = table.set_index("table")["rows"]
    assert (rows[["boots", "drain_reads", "audits"]] > 0).all()
    said = words(list(explore.overview.found(lab).blocks()))
    assert "The limit of 1.02 kB/s: it holds within 5 %." in said
    assert "4 guests: 1 starving" in said
    assert "The longest wait of a read of readers at once: " in said
    lacking = words(list(explore.overview.not_measured(empty).blocks()))
    for command in ("readiness", "rates", "drain"):
        assert f"toolkit lab {command}" in lacking


def test_a_plan_that_varies_limits_is_no_comparison_of_remedies(lab: Session) -> None:
    assert set(remedies.planned(lab)["plan"]) == {"remedies"}


def test_a_limit_is_chosen_by_its_words(lab: Session) -> None:
    view = explore.rates.limits(lab)
    assert [value for _, value in view.controls["chosen"].options] == ["1,024 B / 1,000 ms"]


def test_on_a_page_every_plan_of_remedies_is_shown(lab: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    view = explore.remedies.compared(lab)
    assert view.controls == {}
    assert len(view.blocks()) == 2


def test_a_store_with_one_scenario_says_that_the_other_is_not_there(tmp_path: Path, displayed: list[object]) -> None:
    open_store(tmp_path / "store").append("drain_reads", made_lab.drain_reads())
    session = explore.open(tmp_path / "store")
    (said,) = explore.waits.fairness(session).blocks()
    assert "run <code>toolkit lab drain</code>" in str(said)


def test_readers_at_once_are_drawn_apart_from_those_alone_and_stand_beside_them_in_the_table(
    tmp_path: Path, displayed: list[object]
) -> None:
    store = open_store(tmp_path / "store")
    for readers in (1, 3):
        store.append("drain_reads", made_lab.drain_reads(readers=readers, repeats=1))
    view = explore.waits.readers(explore.open(tmp_path / "store"))
    assert [value for _, value in view.controls["group"].options] == [
        "3 at once, rng-random, no limit",
        "1 at once, rng-random, no limit",
    ]
    figure, table = view.blocks()
    assert isinstance(figure, AltFigure)
    assert len(figure.axes) == 3
    assert isinstance(table, pd.DataFrame)
    assert sorted(table["readers_at_once"]) == [1, 3, 3, 3]


def test_guests_of_two_devices_are_never_pooled(tmp_path: Path, displayed: list[object]) -> None:
    store = open_store(tmp_path / "store")
    for backend in ("/dev/hwrng", "/dev/urandom"):
        rows = made_lab.drain_reads(2, 1, scenario="fairness").assign(virtio_rng_backend=backend)
        store.append("drain_reads", rows)
    view = explore.waits.fairness(explore.open(tmp_path / "store"))
    assert [value for _, value in view.controls["device"].options] == ["/dev/hwrng, no limit", "/dev/urandom, no limit"]
    table = view.blocks()[1]
    assert isinstance(table, pd.DataFrame)
    assert table["virtio_rng_backend"].tolist() == ["/dev/hwrng"]
    assert table["repeats"].tolist() == [3]


def test_readiness_is_said_in_a_sentence_for_each_kernel_and_thing_asked() -> None:
    frame = pd.concat([made_lab.matrix(), made_lab.matrix(kernel="5.10")], ignore_index=True)
    said = findings_boots.boots(frame)
    assert len(said) == 6
    assert words(said[-3:]).split("\n") == [
        (
            "Kernel 6.1.0-44-amd64, getrandom waits: ready after 110 ms with RDRAND credited; 2 s with virtio-rng; "
            "2.3 s with virtio-rng, 1 KiB a second; 3.3 s with virtio-rng, 4 B in 4 s; 3.3 s without a source; "
            "4.35 s with RDRAND not credited (5 boots each). The longest wait is from 10 µs with RDRAND "
            "credited to 1.85 s with RDRAND not credited."
        ),
        (
            "Kernel 6.1.0-44-amd64, urandom read first, then getrandom: ready after 3.9 s without a source (5 boots). "
            "The longest wait is 1.4 s without a source."
        ),
        (
            "Kernel 6.1.0-44-amd64, nothing asks: ready after 2.2 s to 2.65 s with virtio-rng (3 backends); "
            "2.4 s with virtio-rng, 1 KiB a second; 67 s with virtio-rng, 4 B in 4 s (1 of 5 boots not in time); "
            "never within 90 s without a source (5 boots each)."
        ),
    ]


def test_reads_of_urandom_that_came_too_early_stand_in_the_table_and_in_the_sentence(lab: Session) -> None:
    frame = made_lab.matrix()
    frame.loc[frame["asked"] == "urandom", "urandom_warnings"] = [20, 19, 20, 20, 20]
    said = words(findings_boots.boots(frame)).split("\n")
    assert "up to 20 reads of /dev/urandom in a boot came too early" in said[1]
    assert "too early" not in said[0] + said[2]
    table = explore.boots.summary(frame)
    assert table.loc[table["asked"].str.startswith("urandom"), "urandom_warnings"].tolist() == [20]


def test_in_short_a_kernel_is_one_sentence_and_guests_without_kvm_are_said_to_be() -> None:
    said = words(findings_boots.boots_in_short(made_lab.matrix())).split("\n")
    assert said[0].startswith(
        "Kernel 6.1.0-44-amd64: a guest without a source in which nothing asks was never ready within 90 s; "
        "with virtio-rng after 2.3 s, with virtio-rng, 1 KiB a second after 2.4 s, with virtio-rng, 4 B in 4 s after 67 s; "
        "a getrandom waited 800 ms without a source, 10 µs with RDRAND credited, "
    )
    assert "ran under TCG" in said[-1]
    assert "TCG" not in words(findings_boots.boots_in_short(made_lab.matrix().assign(accelerator="kvm")))


def test_in_short_remedies_are_told_apart_by_what_they_did() -> None:
    frame = made_lab.remedies()
    worse = made_lab.boots([("rngd", (89.0,) * 5, {"remedy": "rngd"})], "remedies")
    (said,) = words(findings_boots.remedies_in_short(pd.concat([frame, worse], ignore_index=True))).split("\n")
    assert "getrandom waits: the longest wait with none is > 87.5 s" in said
    assert (
        "; helped: rdrand (10 µs), virtio-rng (2.6 s), haveged (9.3 s), jitterentropy-rngd (11 s); not told from none: rngd" in said
    )


def test_the_starvation_page_says_in_short_what_is_there_and_what_is_not(lab: Session, empty: Session, tmp_path: Path) -> None:
    (said,) = explore.overview.guests(lab).blocks()
    assert "a guest without a source in which nothing asks" in str(said)
    assert "Not in this store" not in str(said)
    (lacking,) = explore.overview.guests(empty).blocks()
    text = words([lacking])  # type: ignore[list-item]
    assert text.startswith(
        "Not in this store: readiness by configuration (toolkit lab readiness), remedies (toolkit lab remedies), "
    )
    assert text.endswith("the audit (toolkit guests audit).")


def test_a_stretch_of_time_keeps_its_numbers_when_it_is_looked_at_alone(lab: Session) -> None:
    view = explore.waits.readers(lab)
    view.controls["range_s"].value = (5.0, 8.0)
    figure = view.blocks()[0]
    assert isinstance(figure, AltFigure)
    low, high = figure.axes[0].get_xlim()
    assert 4.0 < low < 5.1
    assert 7.0 < high < 9.0


def test_boots_that_are_missing_are_counted_in_the_sentence() -> None:
    frame = made_lab.boots()
    frame.loc[[0, 1, 2], "outcome"] = ["failed", "left out", "left out"]
    said = words(findings_boots.boots(frame))
    assert "only 2 of 5 boots within 90 s with virtio-rng, 4 B in 4 s (2 to 5 boots each); 1 failed; 2 left out" in said
    assert words(findings_boots.boots(frame.head(3))).endswith(
        "no boot tells when it was ready; 1 failed; 2 left out: not to be had here."
    )


def test_a_remedy_is_said_with_its_size_and_cost() -> None:
    said = words(findings_boots.remedies(made_lab.remedies()))
    # Where getrandom is asked its wait tells: a boot's own 2.5 s are not in it.
    assert (
        "haveged (kernel 6.1.0-44-amd64, getrandom waits): the longest wait is 9.3 s (8.5 s to 10.1 s), without it > 87.5 s" in said
    )
    assert "at least 78.2 s shorter; the guest used 4.82 s" in said
    quiet = words(findings_boots.remedies(made_lab.remedies().assign(asked="nothing")))
    assert "haveged (kernel 6.1.0-44-amd64, nothing asks): ready after 11.8 s (11 s to 12.6 s), without it after > 90 s" in quiet
    assert "at least 78.2 s sooner; the guest used 4.82 s" in quiet
    assert "none (kernel" not in said


def test_a_limit_that_holds_and_one_that_does_not_are_told_apart() -> None:
    reads = pd.concat([made_lab.limited_reads(1000, 1000, 1, 6, guest=name, speed=speed) for name, speed in (("a", 1), ("b", 0.9))])
    states = made_lab.limits(("a", 1000, 1000), ("b", 1000, 1000))
    said = findings_lab.rates(reads, states)
    assert "1 kB/s measured of 1 kB/s configured (100.0 %), in bursts of 1000 B every 1 s: it holds within 5 %." in words(said[:1])
    assert "10.0 % slower than its limit" in words(said[1:])


def test_a_guest_that_draws_just_what_its_limit_gives_shows_no_bursts_and_is_not_said_to() -> None:
    reads = made_lab.limited_reads(100_000, 100, 64, 6, guest="a", speed=2.0, read_us=55.65)
    (said,) = findings_lab.rates(reads, made_lab.limits(("a", 100_000, 100)))
    assert "with no pause between periods: the guest drew no faster than that: it holds within 5 %." in words([said])


def test_guests_that_share_are_said_with_their_index() -> None:
    said = words(findings_lab.fairness(pd.concat([made_lab.drain_reads(n, 1, scenario="fairness") for n in (1, 2)])))
    assert "one guest on rng-random gets" in said
    assert "Jain's index 1.00 (1 is equal), shares in any of 3 repeats 49 % to 51 %" in said


def test_a_verdict_has_a_sign_beside_its_word_and_the_newest_counts() -> None:
    frame = made_lab.audits()
    older = frame.assign(utc=frame["utc"] - pd.Timedelta(days=1), verdict="sound")
    said = words(findings_lab.audits(pd.concat([frame, older])))
    assert said.startswith("✘ starving: mail-1 on host-a: not ready 300 s after boot. toolkit guests attach mail-1 --rng")
    assert said.count("sound") == 1


def test_what_a_guest_wrote_does_nothing() -> None:
    audits, boots = (
        made_lab.audits().assign(evidence=HOSTILE, guest=HOSTILE),
        made_lab.boots().assign(kernel=HOSTILE, virtio_rng_backend=HOSTILE),
    )
    reads = made_lab.drain_reads().assign(reader=HOSTILE)
    for said in (findings_lab.audits(audits), findings_boots.boots(boots), findings_lab.waits(reads)):
        assert "<script>" not in "".join(said)
        assert "&lt;script&gt;" in "".join(said)


def test_a_store_without_guests_of_its_own_has_no_limit_to_show(made_store: Path, displayed: list[object]) -> None:
    (said,) = explore.rates.limits(explore.open(made_store)).blocks()
    assert "toolkit lab rates" in str(said)
    assert made.rng_state()["virtio_rng_max_bytes"].isna().all()
