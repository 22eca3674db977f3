"""The figures of 2009: as published, marked where suspect, and never drawn as more than they say."""

from __future__ import annotations

import pandas as pd

from tests.plots import drawn, made
from toolkit import plots, share


def published() -> pd.DataFrame:
    return pd.read_csv(share.data() / "published" / "allocation-2009.csv")


def test_the_file_holds_what_was_published() -> None:
    figures = published().set_index(["filesystem", "method"])
    assert figures.loc["ext4", "approx_s"].to_dict() == {"posix_fallocate": 0, "mmap_memset": 13, "write_4k": 15, "write_8k": 18}
    assert figures.loc["xfs", "approx_s"].to_dict() == {"posix_fallocate": 0, "mmap_memset": 14, "write_4k": 18, "write_8k": 19}
    assert figures.loc["ext4", "fragments"].to_dict() == {"posix_fallocate": 1, "mmap_memset": 38, "write_4k": 29, "write_8k": 20}
    assert set(figures["size_bytes"]) == {2**30}
    assert set(figures[figures["suspect"]].reset_index()["method"]) == {"write_4k", "write_8k"}


def test_its_readme_tells_source_and_caveats() -> None:
    text = (share.data() / "published" / "README.md").read_text()
    for word in ("012274", "suspect", "wrong", "partition", "unmount", "cache", "in a folder"):
        assert word in text


def test_about_zero_is_an_arrow_and_not_a_time() -> None:
    figure = plots.beside_2009(published(), made.allocations().head(0))
    time, pieces = figure.axes[0], figure.axes[1]
    assert sorted(x for x, _ in drawn.points(time, "median")) == [13.0, 15.0, 18.0]
    assert [text.get_gid() for text in time.texts] == ["below"]
    assert sorted(x for x, _ in drawn.points(pieces, "median")) == [1.0, 20.0, 29.0, 38.0]


def test_suspect_figures_are_hollow_and_said_to_be_suspect() -> None:
    figure = plots.beside_2009(published(), made.allocations().head(0))
    hollow = {float(line.get_xdata()[0]) for line in drawn.lines(figure.axes[0], "median") if line.get_markerfacecolor() == "white"}
    assert hollow == {15.0, 18.0}
    assert "suspect" in drawn.texts(figure)
    assert "suspect" in plots.alt(figure)


def test_today_is_the_largest_size_and_says_which() -> None:
    frame = made.allocations(filesystems=("ext4",), sizes=(made.MIB, 64 * made.MIB))
    figure = plots.beside_2009(published(), frame)
    assert "today, 64 MiB" in drawn.texts(figure)
    large = frame[(frame["size_bytes"] == 64 * made.MIB) & (frame["method"] == "write_4k")]
    assert float(large["allocate_ns"].astype(float).median() / 1e9) in [x for x, _ in drawn.points(figure.axes[0], "median")]
