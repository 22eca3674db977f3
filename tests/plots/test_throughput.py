"""The figures of the sources draw what the analysis found, and count what failed."""

from __future__ import annotations

import pytest

from tests.plots import drawn, made
from toolkit import plots
from toolkit.analysis.throughput import throughput


def test_rates_stand_at_the_medians_of_the_analysis() -> None:
    reads = made.source_reads()
    [axes] = plots.rates(reads).axes
    expected = throughput(reads, ["source", "block_bytes"])["bytes_per_second"]
    assert sorted(y for _, y in drawn.points(axes, "median")) == pytest.approx(sorted(expected))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_block_sizes_are_said_as_sizes_and_rates_as_rates() -> None:
    said = drawn.texts(plots.rates(made.source_reads())).split("\n")
    assert {"64 B", "1 KiB", "64 KiB"} <= set(said)
    assert any(text.endswith("MB/s") for text in said)


def test_failed_reads_are_counted_and_have_no_rate() -> None:
    reads = made.source_reads()
    broken = reads["source"] == "/dev/hwrng"
    reads.loc[broken, "errno"] = 19
    reads.loc[broken, "read_bytes"] = None
    figure = plots.rates(reads)
    assert f"/dev/hwrng: {int(broken.sum())} reads failed with ENODEV." in drawn.texts(figure).replace("\n", " ")
    assert len(drawn.lines(figure.axes[0], "median")) == 3


def test_waits_rise_from_nothing_to_all_reads() -> None:
    reads = made.source_reads()
    figure = plots.waits(reads)
    for axes in figure.axes:
        for line in drawn.lines(axes, "ecdf"):
            assert (line.get_ydata()[0], line.get_ydata()[-1]) == (0.0, 1.0)
    hwrng = reads[(reads["source"] == "/dev/hwrng") & (reads["block_bytes"] == 64)]["wait_ns"].astype(float) / 1e9
    assert max(drawn.lines(figure.axes[0], "ecdf")[-1].get_xdata()) == pytest.approx(hwrng.max())


def test_hwrng_adds_up_bytes_over_the_time_spent_reading() -> None:
    reads = made.source_reads()
    figure = plots.hwrng(reads, 1024.0)
    of_it = reads[reads["source"] == "/dev/hwrng"]
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in drawn.lines(figure.axes[0], "given")]
    for (block, part), end in zip(of_it.groupby("block_bytes"), ends, strict=True):
        assert end == pytest.approx((part["wait_ns"].sum() / 1e9, part["read_bytes"].sum())), block
    rate = of_it["read_bytes"].sum() / of_it["wait_ns"].sum() * 1e9
    assert f"{rate / 1000:.3g} kB/s" in plots.alt(figure)
    assert [line.get_gid() for line in figure.axes[0].lines if line.get_gid() == "limit"] == ["limit"]


def test_a_source_that_gives_nothing_is_named_with_its_error() -> None:
    reads = made.source_reads()
    reads = reads[reads["source"] == "/dev/hwrng"].assign(errno=11, read_bytes=None).astype(reads.dtypes)
    assert "failed with EAGAIN" in plots.alt(plots.hwrng(reads))
