"""What the figures of allocation draw is what the table holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.plots import drawn, made
from toolkit import plots
from toolkit.analysis.stats import median_interval


def seconds(frame: pd.DataFrame, filesystem: str, method: str) -> pd.Series:
    chosen = frame[(frame["filesystem"] == filesystem) & (frame["method"] == method)]
    return chosen["allocate_ns"].astype("float64") / 1e9


def test_each_mark_stands_at_its_median_with_its_interval_and_its_repeats() -> None:
    frame = made.allocations(filesystems=("ext4", "xfs"), methods=("posix_fallocate", "write_4k"))
    figure = plots.allocation_time(frame)
    [axes] = figure.axes
    expected = [median_interval(seconds(frame, name, way)) for way in ("posix_fallocate", "write_4k") for name in ("ext4", "xfs")]
    marks = drawn.points(axes, "median")
    assert sorted(x for x, _ in marks) == pytest.approx(sorted(each.median for each in expected))
    assert np.array(sorted(drawn.spans(axes))) == pytest.approx(np.array(sorted((each.low, each.high) for each in expected)))
    assert sorted(x for x, _ in drawn.points(axes, "repeat")) == pytest.approx(sorted(frame["allocate_ns"].astype(float) / 1e9))
    assert len({y for _, y in marks}) == len(marks)
    assert axes.get_xscale() == "log"


def test_two_repeats_get_no_interval() -> None:
    figure = plots.allocation_time(made.allocations(repeats=2))
    assert drawn.spans(figure.axes[0]) == []


def test_the_axis_says_its_decades_in_plain_words() -> None:
    figure = plots.allocation_time(made.allocations())
    shown = drawn.texts(figure).split("\n")
    assert {"100 µs", "1 ms", "10 ms", "100 ms"} <= set(shown)
    assert not any("10^" in text or "mathdefault" in text for text in shown)


def test_a_refusal_is_named_and_is_neither_a_time_nor_no_pieces() -> None:
    frame = made.allocations(filesystems=("ext3", "ext4"), methods=("fallocate",))
    frame.loc[frame["filesystem"] == "ext3", ["extents", "discontinuities"]] = 0
    frame.loc[frame["filesystem"] == "ext3", "allocate_ns"] = 5
    figure = plots.allocation_time(frame)
    assert "ext3 refused: EOPNOTSUPP" in drawn.texts(figure)
    assert len(drawn.points(figure.axes[0], "median")) == 1
    assert len(drawn.points(plots.pieces(frame, "extents").axes[0], "median")) == 1


def test_emulation_is_hollow_and_explained() -> None:
    figure = plots.allocation_time(made.allocations(filesystems=("ext3", "ext4"), methods=("posix_fallocate",)))
    faces = {line.get_markerfacecolor() for line in drawn.lines(figure.axes[0], "median")}
    assert "white" in faces
    assert len(faces) == 2
    assert "emulated" in drawn.texts(figure)


def test_sizes_get_a_panel_each() -> None:
    figure = plots.allocation_time(made.allocations(sizes=(made.MIB, 4 * made.MIB, 16 * made.MIB)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["1 MiB", "4 MiB", "16 MiB"]


def test_no_pieces_at_all_is_drawn_at_zero() -> None:
    frame = made.allocations(filesystems=("ext4",), methods=("ftruncate", "write_4k"))
    figure = plots.pieces(frame, "extents")
    assert min(x for x, _ in drawn.points(figure.axes[0], "median")) == 0.0


def test_the_title_gives_the_fastest_and_the_slowest_way() -> None:
    frame = made.allocations()
    title = drawn.texts(plots.allocation_time(frame)).replace("\n", " ")
    assert "fallocate on btrfs" in title
    assert "on ext3" in title
    assert "ftruncate on" not in title


def test_the_map_draws_every_extent_and_counts_the_jumps() -> None:
    frame = made.extents(12)
    figure = plots.extent_map(frame)
    from_first = frame["physical_byte"].astype(float) - frame["physical_byte"].min()
    assert sorted(drawn.points(figure.axes[0], "extent")) == sorted(
        zip(frame["logical_byte"].astype(float), from_first, strict=True)
    )
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert len(set(ticks)) == len(ticks)
    following = frame["physical_byte"].to_numpy()[:-1] + frame["length_bytes"].to_numpy()[:-1]
    jumps = int(np.count_nonzero(frame["physical_byte"].to_numpy()[1:] != following))
    assert f"12 extents, {jumps} discontinuities" in drawn.texts(figure)


def test_a_map_of_very_many_extents_draws_no_more_than_can_be_seen() -> None:
    figure = plots.extent_map(made.extents(100_000))
    assert 1000 < len(drawn.points(figure.axes[0], "extent")) < 100_000
    assert "100,000 extents" in drawn.texts(figure)


def test_extents_whose_place_is_not_known_are_left_out() -> None:
    frame = made.extents(4)
    frame.loc[1, "physical_byte"] = None
    assert len(drawn.points(plots.extent_map(frame).axes[0], "extent")) == 3


def test_a_hole_that_the_disk_skips_too_is_no_discontinuity() -> None:
    frame = made.extents(3).assign(logical_byte=[0, 2 * made.MIB, 4 * made.MIB], length_bytes=made.MIB)
    dense = frame.assign(physical_byte=[8 * made.MIB, 9 * made.MIB, 10 * made.MIB])
    alike = frame.assign(physical_byte=[8 * made.MIB, 10 * made.MIB, 12 * made.MIB])
    apart = frame.assign(physical_byte=[8 * made.MIB, 30 * made.MIB, 32 * made.MIB])
    for table, count in ((dense, 0), (alike, 0), (apart, 1)):
        assert f"3 extents, {count} discontinuities" in drawn.texts(plots.extent_map(table))
