"""Views of starvation: targets and time range to choose from, the pool over time, readiness, and the state of each generator."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np
import pandas as pd

from toolkit.analysis.evidence import REGIMES
from toolkit.analysis.starvation import starvation
from toolkit.explore import findings
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen
from toolkit.markup import paragraph
from toolkit.plots import starvation as plots
from toolkit.units import duration_text

__all__ = ["episodes", "found", "pool", "readiness", "state", "watched_machines"]

_TARGET = ["host", "guest", "boot_id"]
_SLIDER_STEPS = 200
#: Of a boot's id so many letters stand in front, to know it by; the whole one is the last column.
_BOOT_LETTERS = 8


def episodes(session: Session) -> pd.DataFrame:
    """The starved episodes of the session's samples, each target judged by its own regime."""
    samples, states = session.table("entropy_samples"), session.table("rng_state")
    known = plots.regime_of(samples, states)
    targets = samples[_TARGET].drop_duplicates()
    judged = np.array([plots.key_of(row) in known for row in targets.itertuples(index=False)], dtype=bool)
    told = states[states["regime"].isin(REGIMES)].drop_duplicates(_TARGET, keep="last")
    return starvation(samples.merge(targets[judged], on=_TARGET), told)


def pool(session: Session) -> View:
    """``entropy_avail`` and readiness over time, with controls for the targets and the time range."""
    samples = session.table("entropy_samples")
    missing = session.lacks("entropy_samples")
    if missing is not None:
        return View({}, lambda: [missing])
    every = episodes(session)
    states = session.table("rng_state")
    names = plots.target_names(samples)
    place = {key: number for number, key in enumerate(names)}
    groups = samples.groupby(_TARGET, dropna=False, sort=False)
    numbers = np.array([place[plots.key_of(key)] for key, _ in groups])
    of_row = pd.Series(numbers[groups.ngroup().to_numpy()], index=samples.index)
    first_ns = samples.groupby(of_row)["t_ns"].transform("min")
    since_s = (samples["t_ns"] - first_ns) / 1e9
    longest_s = max(float(since_s.max()), 0.001)
    controls = {
        "chosen": choice(
            "Targets", [(name, number) for number, name in enumerate(names.values())], range(min(len(names), plots.MOST_TARGETS))
        ),
        "range_s": widgets.FloatRangeSlider(
            value=(0.0, longest_s),
            min=0.0,
            max=longest_s,
            step=longest_s / _SLIDER_STEPS,
            description="Time since the first sample (s)",
            readout_format=".3g",
            continuous_update=False,
            style={"description_width": "initial"},
            layout=widgets.Layout(width="36em", max_width="100%"),
        ),
    }

    def draw(chosen: Sequence[int], range_s: tuple[float, float]) -> list[Block]:
        if not chosen:
            return nothing_chosen("Targets")
        rows = samples[of_row.isin(chosen) & since_s.between(range_s[0], range_s[1])]
        if rows.empty:
            return [
                paragraph(
                    f"No sample lies between {duration_text(range_s[0])} and {duration_text(range_s[1])}: choose a longer time."
                )
            ]
        return [plots.pool(rows, _within(every, rows), states, samples), summary(rows, every, states)]

    return View(controls, draw)


def _within(every: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The episodes that the rows touch, cut to what is shown."""
    edges = rows.groupby(_TARGET, dropna=False)["t_ns"].agg(first_ns="min", last_ns="max").reset_index()
    here = every.merge(edges, on=_TARGET)
    here = here.assign(
        start_ns=here[["start_ns", "first_ns"]].max(axis="columns"), end_ns=here[["end_ns", "last_ns"]].min(axis="columns")
    )
    return here.loc[here["start_ns"] <= here["end_ns"], list(every.columns)]


def summary(samples: pd.DataFrame, every: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figure: a row a target.

    Returns
    -------
    DataFrame
        host, guest, boot (the first letters of boot_id), regime, samples, watched_s, lowest_bits, highest_bits, ready_fraction,
        readable_fraction, episodes, starved_s, boot_id. Episodes and starved_s are null where the regime is not known or no sample
        holds evidence: not judged is not unstarved.
    """
    regimes = plots.regime_of(samples, states)
    unjudged = plots.unjudged(samples, regimes)
    within = {plots.key_of(key): part for key, part in _within(every, samples).groupby(_TARGET, dropna=False)}
    rows = []
    for key, part in samples.groupby(_TARGET, dropna=False, sort=True):
        mine = within.get(plots.key_of(key), every.head(0))
        judged = plots.key_of(key) not in unjudged
        rows.append(
            {
                "host": key[0],
                "guest": key[1],
                "boot": str(key[2])[:_BOOT_LETTERS],
                "regime": regimes.get(plots.key_of(key)),
                "samples": len(part),
                "watched_s": (int(part["t_ns"].max()) - int(part["t_ns"].min())) / 1e9,
                "lowest_bits": part["entropy_avail_bits"].min(),
                "highest_bits": part["entropy_avail_bits"].max(),
                "ready_fraction": part["crng_ready"].astype("float64").mean(),
                "readable_fraction": part["random_readable"].astype("float64").mean(),
                "episodes": len(mine) if judged else None,
                "starved_s": float((mine["end_ns"] - mine["start_ns"]).sum()) / 1e9 if judged else None,
                "boot_id": key[2],
            }
        )
    frame = pd.DataFrame(rows)
    return frame.astype({"lowest_bits": "Int64", "highest_bits": "Int64", "episodes": "Int64", "starved_s": "float64"})


def watched_machines(session: Session) -> pd.DataFrame:
    """``rng_state`` of hosts and of guests that somebody has; those booted for rates and readers have views of their own."""
    states = session.table("rng_state")
    return states[~states["boot_id"].isin(session.lab_boots())]


def readiness(session: Session) -> View:
    """When the generator was ready after boot, by target."""
    states = watched_machines(session)
    missing = session.lacks("rng_state")
    if missing is not None:
        return View({}, lambda: [missing])
    columns = [
        "host", "guest", "boot", "regime", "crng_ready", "crng_ready_s", "urandom_warnings", "vm_fork_reseeds", "boot_id",
    ]  # fmt: skip
    return View({}, lambda: [plots.readiness(states), states.assign(boot=states["boot_id"].str[:_BOOT_LETTERS])[columns]])


def state(session: Session) -> View:
    """The state of each generator as a table: what tells on a kernel whose ``entropy_avail`` is a constant."""
    states = watched_machines(session)
    missing = session.lacks("rng_state")
    if missing is not None:
        return View({}, lambda: [missing])
    columns = [
        "host", "guest", "regime", "poolsize_bits", "crng_ready", "crng_ready_s", "hwrng_available", "hwrng_current",
        "hwrng_quality", "virtio_rng_backend", "virtio_rng_max_bytes", "virtio_rng_period_ms", "cpu_rdrand", "cpu_rdseed",
        "trust_cpu", "feeders",
    ]  # fmt: skip
    return View({}, lambda: [states.drop_duplicates(_TARGET, keep="last")[columns]])


def found(session: Session) -> View:
    """The findings on starvation, in sentences."""
    said = findings.starvation(watched_machines(session), session.table("entropy_samples"), episodes(session))
    return View({}, lambda: [findings.shown(said, session.lacks("rng_state"), "entropy_samples")])
