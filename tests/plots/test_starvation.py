"""The pool over time: the samples as they are, the episodes where they are, and plain words on a latched kernel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.plots import drawn, made
from toolkit import plots
from toolkit.analysis.starvation import starvation
from toolkit.plots.starvation import thinned


def drawn_pool(samples: pd.DataFrame, regime: str) -> plots.AltFigure:
    return plots.pool(samples, starvation(samples, regime), regime)


def test_the_line_is_the_samples() -> None:
    samples = made.entropy_samples("draining", count=50)
    line = drawn.points(drawn_pool(samples, "draining").axes[0], "pool")
    assert [y for _, y in line] == [float(bits) for bits in samples["entropy_avail_bits"]]
    assert [x for x, _ in line] == pytest.approx([0.1 * place for place in range(50)])


def test_episodes_are_shaded_where_they_lie() -> None:
    samples = made.entropy_samples("blocking")
    episodes = starvation(samples, "blocking")
    assert len(episodes) > 1
    figure = drawn_pool(samples, "blocking")
    shaded = [patch for patch in figure.axes[0].patches if patch.get_gid() == "episode"]
    first_ns = int(samples["t_ns"].iloc[0])
    expected = [
        ((start - first_ns) / 1e9, (end - first_ns) / 1e9)
        for start, end in zip(episodes["start_ns"], episodes["end_ns"], strict=True)
    ]
    assert np.array([(patch.get_x(), patch.get_x() + patch.get_width()) for patch in shaded]) == pytest.approx(np.array(expected))
    assert f"starved {len(episodes)} times" in drawn.texts(figure)


def test_a_part_of_the_samples_keeps_its_time_since_the_first_of_all() -> None:
    samples = made.entropy_samples("blocking", count=50)
    part = samples.iloc[20:40]
    figure = plots.pool(part, starvation(part, "blocking"), "blocking", samples)
    assert [x for x, _ in drawn.points(figure.axes[0], "pool")] == pytest.approx([0.1 * place for place in range(20, 40)])
    low, high = figure.axes[0].get_xlim()
    assert 1.9 < low < 2.0
    assert 3.9 < high < 4.0
    assert drawn.points(drawn_pool(part, "blocking").axes[0], "pool")[0][0] == 0.0


def test_a_latched_kernel_is_said_to_tell_nothing_by_its_pool() -> None:
    figure = drawn_pool(made.entropy_samples(), "latched")
    said = drawn.texts(figure).replace("\n", " ")
    assert "On this kernel entropy_avail is a constant" in said
    assert "entropy_avail is a constant" in plots.alt(figure)
    assert "always 256 bits" in plots.alt(figure)


def test_other_kernels_are_not_said_to_be_latched() -> None:
    figure = drawn_pool(made.entropy_samples("blocking"), "blocking")
    assert "constant" not in drawn.texts(figure)


def test_not_ready_is_hatched_as_well_as_coloured() -> None:
    figure = drawn_pool(made.entropy_samples("estimating"), "estimating")
    hatches = {each.get_hatch() for each in figure.axes[1].collections if each.get_gid() == "crng_ready" and len(each.get_paths())}
    assert hatches == {None, "/////"}


def test_what_was_not_looked_at_is_left_empty() -> None:
    samples = made.entropy_samples(count=20)
    samples["random_readable"] = pd.Series([None] * 20, dtype="boolean")
    figure = drawn_pool(samples, "latched")
    assert sum(len(each.get_paths()) for each in figure.axes[1].collections if each.get_gid() == "random_readable") == 0


def test_a_boot_of_unknown_regime_is_not_judged() -> None:
    samples = made.entropy_samples()
    figure = plots.pool(samples, starvation(samples.head(0), "latched"), made.rng_state().head(0))
    assert "not judged" in drawn.texts(figure)
    for said in (drawn.texts(figure), plots.alt(figure)):
        assert "Whether the target starved cannot be told" in said.replace("\n", " ")
        assert "never starved" not in said
    assert "regime of its kernel is not known" in plots.alt(figure)


@pytest.mark.parametrize("regime", ["latched", "estimating"])
def test_a_boot_without_evidence_is_not_judged(regime: str) -> None:
    samples = made.entropy_samples(regime, count=5)
    samples = made.unseen(samples, "crng_ready", "random_readable")
    figure = drawn_pool(samples, regime)
    assert "not judged" in drawn.texts(figure)
    for said in (drawn.texts(figure), plots.alt(figure)):
        assert "Whether the target starved cannot be told" in said.replace("\n", " ")
        assert "never starved" not in said
    assert "starved episodes" not in plots.alt(figure)
    assert "whether ready was not seen" in plots.alt(figure)


def test_of_several_targets_those_not_judged_are_counted() -> None:
    good, blind = (made.entropy_samples(count=5, guest=name, boot=name) for name in ("seen", "blind"))
    blind = made.unseen(blind, "crng_ready", "random_readable")
    figure = drawn_pool(pd.concat([good, blind], ignore_index=True), "latched")
    assert "1 target never starved while watched; of 1 more it cannot be told" in plots.alt(figure)


def test_more_targets_than_fit_are_counted() -> None:
    samples = pd.concat([made.entropy_samples(count=5, guest=f"g{n}", boot=f"b{n}") for n in range(9)], ignore_index=True)
    figure = drawn_pool(samples, "latched")
    assert len(figure.axes) == 2 * 6
    assert "3 more targets are not drawn" in drawn.texts(figure)


def test_thinning_keeps_the_deepest_dip() -> None:
    values = np.full(1_000_000, 256.0)
    values[543_210] = 3.0
    at, kept = thinned(np.arange(1_000_000.0), values)
    assert len(kept) < 3000
    assert kept.min() == 3.0
    assert at[kept.argmin()] == 543_210.0


def test_readiness_draws_each_boot_and_the_median_of_each_group() -> None:
    states = made.rng_state(ready_s=(0.9, 1.1, 1.3, 65.3), guest=["a", "a", "a", "b"])
    figure = plots.readiness(states, by=["guest"])
    [axes] = figure.axes
    assert sorted(x for x, _ in drawn.points(axes, "median")) == [1.1, 65.3]
    assert sorted(x for x, _ in drawn.points(axes, "repeat")) == [0.9, 1.1, 1.3, 65.3]
    assert len(drawn.spans(axes)) == 1
    assert "65.3 s" in plots.alt(figure)


def test_boots_that_were_never_ready_are_counted_and_not_drawn() -> None:
    states = made.rng_state(ready_s=(0.9, 1.0), crng_ready_s=[0.9, None], crng_ready=[True, False])
    figure = plots.readiness(states)
    assert "1 boots were not ready" in drawn.texts(figure).replace("\n", " ")
    assert len(drawn.points(figure.axes[0], "repeat")) == 1
