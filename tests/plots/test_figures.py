"""What holds for every figure: no words overlap, an alternative text, nothing left open, and machine text that does nothing."""

from __future__ import annotations

import functools
import struct
import subprocess
import sys
from collections.abc import Callable

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from tests.plots import drawn, made, made_lab
from toolkit import plots
from toolkit.analysis.starvation import starvation
from toolkit.plots import style

HOSTILE = "<script>$\\alpha_1$ \u202egnp.exe\n" + "名前" + "x" * 10_000
PUBLISHED = pd.DataFrame(
    {
        "filesystem": ["ext4", "ext4", "ext4", "xfs"],
        "method": ["posix_fallocate", "mmap_memset", "write_4k", "write_8k"],
        "size_bytes": [2**30] * 4,
        "approx_s": [0, 13, 15, 19],
        "fragments": [1, 38, 29, None],
        "suspect": [False, False, True, True],
    }
)


def pool(samples: pd.DataFrame, regimes: str | pd.DataFrame) -> plots.AltFigure:
    return plots.pool(samples, starvation(samples, regimes), regimes)


def several() -> tuple[pd.DataFrame, pd.DataFrame]:
    regimes = ("latched", "blocking", "estimating", "draining")
    samples = [made.entropy_samples(regime, guest=f"guest-{regime}", boot=regime * 3) for regime in regimes]
    states = [made.rng_state(regime, guest=[f"guest-{regime}"], boot_id=[regime * 3]) for regime in regimes]
    return pd.concat(samples, ignore_index=True), pd.concat(states, ignore_index=True)


def many_cells() -> pd.DataFrame:
    name = "6.12.0-amd64 · rng-random /dev/hwrng limited to {} B / 1000 ms"
    return made_lab.boots([(name.format(n), (5.0 + n, 6.0 + n, None if n % 3 else 9.0 + n), {}) for n in range(24)])


def behind_limits() -> tuple[pd.DataFrame, pd.DataFrame]:
    of = (
        (16, 1000, 1),
        (1024, 1000, 64),
        (2048, 1000, 64),
        (100, 1000, 64),
        (100_000, 100, 64),
        (1_000_000, 1000, 4096),
        (4, 4000, 4),
    )
    guests = [(f"g{place}", *each) for place, each in enumerate(of)]
    reads = [made_lab.limited_reads(size, period, block, 6, guest=name) for name, size, period, block in guests]
    reads[2] = made_lab.limited_reads(2048, 1000, 64, 6, guest="g2", speed=0.5)
    return pd.concat(reads, ignore_index=True), made_lab.limits(*((name, size, period) for name, size, period, _ in guests))


FIGURES: dict[str, Callable[[], plots.AltFigure]] = {
    "time, one size": lambda: plots.allocation_time(made.allocations()),
    "time, two sizes": lambda: plots.allocation_time(made.allocations(sizes=(made.MIB, 256 * made.MIB))),
    "time, five sizes": lambda: plots.allocation_time(made.allocations(sizes=tuple(4**n * made.MIB for n in range(5)))),
    "time, one row": lambda: plots.allocation_time(made.allocations(filesystems=("ext4",), methods=("write_4k",), repeats=1)),
    "time, one file system": lambda: plots.allocation_time(made.allocations(filesystems=("ext4",))),
    "time, two file systems": lambda: plots.allocation_time(made.allocations(filesystems=("ext4", "xfs"))),
    "time, sparse alone": lambda: plots.allocation_time(made.allocations(methods=("ftruncate",))),
    "extents": lambda: plots.pieces(made.allocations(), "extents"),
    "discontinuities": lambda: plots.pieces(made.allocations(sizes=(made.MIB, 256 * made.MIB))),
    "map": lambda: plots.extent_map(made.extents()),
    "map of many": lambda: plots.extent_map(made.extents(30_000)),
    "2009": lambda: plots.beside_2009(PUBLISHED, made.allocations()),
    "2009 alone": lambda: plots.beside_2009(PUBLISHED, made.allocations().head(0)),
    "pool, latched": lambda: pool(made.entropy_samples(), "latched"),
    "pool, several": lambda: pool(*several()),
    "readiness": lambda: plots.readiness(made.rng_state(ready_s=(0.9, 1.1, 1.3, 65.3), guest=["a", "a", "a", "b"])),
    "readiness of one": lambda: plots.readiness(made.rng_state()),
    "rates": lambda: plots.rates(made.source_reads()),
    "waits": lambda: plots.waits(made.source_reads()),
    "hwrng": lambda: plots.hwrng(made.source_reads(), 1024.0),
    "boots": lambda: plots.boots(made_lab.boots()),
    "boots, many": lambda: plots.boots(many_cells()),
    "boots, one": lambda: plots.boots(made_lab.boots().head(1)),
    "longest waits": lambda: plots.boots(made_lab.boots(), quantity="longest_wait_s"),
    "curves": lambda: plots.boots_curve(made_lab.boots()),
    "boots of a matrix": lambda: plots.boots(made_lab.matrix()),
    "curves of a matrix": lambda: plots.boots_curve(made_lab.matrix()),
    "curves of many": lambda: plots.boots_curve(many_cells()),
    "limits": lambda: plots.limits(*behind_limits()),
    "a limit": lambda: plots.limits(made_lab.limited_reads(), made_lab.limits(("limited", 1024, 1000))),
    "bursts": lambda: plots.bursts(*behind_limits()),
    "bursts of one": lambda: plots.bursts(made_lab.limited_reads(), made_lab.limits(("limited", 1024, 1000))),
    "drain": lambda: plots.drain(made_lab.drain_reads(readers=6)),
    "drain, waiting": lambda: plots.drain(made_lab.drain_reads(readers=3, repeats=1).query("wait_censored")),
    "fairness": lambda: plots.fairness(pd.concat([made_lab.drain_reads(n, 1, scenario="fairness") for n in (1, 2, 4)])),
    "remedies": lambda: plots.remedies(made_lab.remedies()),
    "remedies, feeders": lambda: plots.remedies(made_lab.remedies(), cost="feeder_cpu_s"),
    "audits": lambda: plots.audits(made_lab.audits()),
}


@functools.cache
def shown(name: str) -> plots.AltFigure:
    """A figure, drawn up once for all that is asked of it."""
    return FIGURES[name]()


@pytest.mark.parametrize("name", FIGURES)
def test_no_words_lie_on_each_other_or_leave_the_figure(name: str) -> None:
    figure = shown(name)
    assert drawn.overlaps(figure) == []
    assert drawn.outside(figure) == []


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_what_it_shows_with_numbers(name: str) -> None:
    text = plots.alt(shown(name))
    assert any(letter.isdigit() for letter in text)
    assert len(text) > 40
    assert "\n" not in text
    assert "nan" not in text.lower().replace("tenant", "")


@pytest.mark.parametrize("name", FIGURES)
def test_the_picture_is_crisp_and_fits_the_page(name: str) -> None:
    data = plots.png(shown(name))
    width, _height = struct.unpack(">II", data[16:24])
    assert 2 * 600 <= width <= 2 * 760
    assert b"Software" not in data


def test_equal_tables_give_equal_pictures() -> None:
    assert plots.png(plots.rates(made.source_reads())) == plots.png(plots.rates(made.source_reads()))


def test_drawing_leaves_no_figure_open_and_no_setting_changed() -> None:
    before = dict(mpl.rcParams)
    plots.png(FIGURES["time, two sizes"]())
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_figures_need_no_pyplot() -> None:
    program = "import sys, toolkit.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.allocation_time(made.allocations().assign(filesystem=HOSTILE)),
        lambda: plots.pieces(made.allocations().assign(method=HOSTILE), "extents"),
        lambda: plots.extent_map(made.extents(file=HOSTILE)),
        lambda: pool(made.entropy_samples(host=HOSTILE, guest=HOSTILE), "latched"),
        lambda: plots.readiness(made.rng_state(host=[HOSTILE])),
        lambda: plots.rates(made.source_reads().assign(source=HOSTILE)),
        lambda: plots.waits(made.source_reads().assign(source=HOSTILE)),
        lambda: plots.boots(made_lab.boots().assign(remedy=HOSTILE, kernel=HOSTILE, asked=HOSTILE)),
        lambda: plots.boots_curve(made_lab.boots().assign(remedy=HOSTILE, kernel=HOSTILE, asked=HOSTILE)),
        lambda: plots.drain(made_lab.drain_reads(repeats=1).assign(reader=HOSTILE, source=HOSTILE)),
        lambda: plots.audits(made_lab.audits().assign(guest=HOSTILE, evidence=HOSTILE, verdict=HOSTILE)),
    ],
)
def test_machine_text_stays_text_in_a_figure(figure: Callable[[], plots.AltFigure]) -> None:
    made_of_it = figure()
    shown = drawn.words(made_of_it)
    assert not any(text.get_parse_math() for text in shown)
    assert any("$" in text.get_text() or "<script>" in text.get_text() for text in shown)
    assert not any("\u202e" in text.get_text() or "x" * 100 in text.get_text() for text in shown)
    assert "\u202e" not in made_of_it.alt
    assert drawn.outside(made_of_it) == []


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        (lambda: plots.allocation_time(made.allocations().head(0)), "No allocation was timed"),
        (lambda: plots.pieces(made.allocations(filesystems=("tmpfs",))), "No file system in this selection tells"),
        (lambda: plots.extent_map(made.extents().head(0)), "does not say where"),
        (
            lambda: plots.pool(made.entropy_samples().head(0), starvation(made.entropy_samples().head(0), "latched"), "latched"),
            "No sample",
        ),
        (lambda: plots.readiness(made.rng_state(crng_ready_s=[None])), "the kernel log does not tell when"),
        (lambda: plots.rates(made.source_reads().head(0)), "No read"),
        (lambda: plots.waits(made.source_reads().head(0)), "No read"),
        (lambda: plots.hwrng(made.source_reads().head(3)), "was not read"),
        (lambda: plots.boots(made_lab.boots().head(0)), "No boot in this selection tells"),
        (lambda: plots.boots_curve(made_lab.boots().head(0)), "No boot in this selection tells"),
        (lambda: plots.limits(made.source_reads(), made.rng_state()), "No rate behind a known limit"),
        (lambda: plots.bursts(made.source_reads().head(0), made.rng_state()), "No byte of /dev/hwrng"),
        (lambda: plots.drain(made_lab.drain_reads().head(0)), "No read of readers at once"),
        (lambda: plots.fairness(made_lab.drain_reads()), "No guests shared a source"),
        (lambda: plots.remedies(made_lab.remedies().head(0)), "No boot with a remedy"),
        (lambda: plots.audits(made_lab.audits().head(0)), "No guest was audited"),
    ],
)
def test_an_empty_table_gives_a_sentence(figure: Callable[[], plots.AltFigure], sentence: str) -> None:
    empty = figure()
    assert sentence in drawn.texts(empty).replace("\n", " ")
    assert sentence in plots.alt(empty)
    assert plots.png(empty).startswith(b"\x89PNG")


def test_no_line_of_a_title_ends_between_a_number_and_its_unit() -> None:
    with style.drawing():
        figure, _ = style.new_figure(1.0)
        style.finish(figure, "x" * 57 + " takes 2.36 s and 26 000 times as long", "words")
    title = "".join(text.get_text() for text in drawn.words(figure))
    assert "2.36\u00a0s" in title
    assert "26\u00a0000" in title


def test_file_systems_differ_by_marker_as_well_as_by_colour() -> None:
    for looks in (style.FILESYSTEM_LOOKS, style.SOURCE_LOOKS):
        assert len({colour for colour, _ in looks.values()}) == len(looks)
        assert len({marker for _, marker in looks.values()}) == len(looks)


def test_a_figure_shows_itself_with_its_alternative_text(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, str], dict[str, dict[str, str]]]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, metadata: shown.append((data, metadata)))
    figure = plots.rates(made.source_reads())
    figure._ipython_display_()
    [(data, metadata)] = shown
    assert metadata["image/png"]["alt"] == plots.alt(figure) != ""
    assert data["image/png"].startswith("iVBORw0KGgo")
