"""Figures of starvation: the pool over time with its episodes, what the kernel says of being ready, and readiness by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from toolkit.analysis.evidence import REGIMES, Regimes, boots_of
from toolkit.analysis.readiness import readiness as analysed
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.plots.intervals import dot, intervals, span_words
from toolkit.units import duration_text

__all__ = ["MEANS", "MOST_TARGETS", "Key", "key_of", "pool", "readiness", "regime_of", "target_names", "telling", "unjudged"]

#: More panels than this do not fit on a page; the controls choose which.
MOST_TARGETS = 6
#: Host, guest (empty for the host itself), boot.
Key = tuple[str, str, str]
_TARGET = ["host", "guest", "boot_id"]
#: Columns that the line is drawn from: the least and the most of each, so that no dip is lost however long the series.
_BINS = 800
_STARVED, _YES, _NO = style.VERMILLION, style.SKY, style.VERMILLION
#: What the number means on a kernel of each regime, for the note below the figure.
MEANS = {
    "blocking": "Blocking kernel: starved while entropy_avail is below the floor, or /dev/random is not readable.",
    "estimating": "Estimating kernel: starved only until ready; later dips of entropy_avail are harmless.",
    "draining": "Draining kernel: starved only until ready; a sawtooth of entropy_avail is normal.",
    "latched": "Latched kernel: entropy_avail stays at 256 once ready, whatever happens; ready and readable tell.",
}
_CONSTANT = "On this kernel entropy_avail is a constant:\n256 once ready. It cannot show starvation.\nThe bars below can."


def pool(
    samples: pd.DataFrame, episodes: pd.DataFrame, regimes: str | pd.DataFrame, whole: pd.DataFrame | None = None
) -> style.AltFigure:
    """``entropy_avail`` over time with the starved episodes shaded, and below it whether the generator was ready and readable.

    Parameters
    ----------
    samples : DataFrame
        Table ``entropy_samples``; a panel for each host, guest and boot, at most :data:`MOST_TARGETS`.
    episodes : DataFrame
        What :func:`toolkit.starvation` gives: host, guest, boot_id, start_ns, end_ns, …
    regimes : str or DataFrame
        As :func:`toolkit.starvation` takes them: a regime's name for all boots, or ``rng_state`` rows. A boot of which no regime is
        known, or of which no sample holds evidence, is shown without judgement.
    whole : DataFrame, optional
        Of what ``samples`` are a part: time counts from the first sample of each target there, so that a stretch of time keeps its
        numbers when it is looked at alone.
    """
    if samples.empty:
        return style.says("No sample of the pool in this selection.")
    known = regime_of(samples, regimes)
    why = unjudged(samples, known)
    targets = list(samples.groupby(_TARGET, dropna=False, sort=True))
    began = (samples if whole is None else whole).groupby(_TARGET, dropna=False)["t_ns"].min()
    first_ns = {key_of(key): int(first) for key, first in zip(began.index, began, strict=True)}
    shown = targets[:MOST_TARGETS]
    names = target_names(samples)
    with style.drawing():
        figure, grid = style.new_figure(
            2.5 * len(shown), 2 * len(shown), 1, gridspec_kw={"height_ratios": [3.4, 1.0] * len(shown), "hspace": 0.0}
        )
        for place, (key, part) in enumerate(shown):
            of_target = _of(episodes, key)
            regime = known.get(key_of(key))
            above, below = grid[2 * place][0], grid[2 * place + 1][0]
            above.set_title(_panel_title(names[key_of(key)], regime, key_of(key) in why))
            _panel(above, below, part.sort_values("t_ns"), of_target, first_ns[key_of(key)])
            if regime == "latched":
                box = {"facecolor": "white", "edgecolor": style.GREY, "boxstyle": "round,pad=0.4"}
                above.text(
                    0.5, 0.45, _CONSTANT, transform=above.transAxes, ha="center", va="center", fontsize=9, bbox=box, gid="constant"
                )
        found = {known.get(key_of(key), "unknown") for key, _ in targets}
        title = _title(found, episodes, len(targets), len(why))
        note = "\n".join(MEANS[regime] for regime in MEANS if regime in found)
        if len(shown) < len(targets):
            note += f"\n{len(targets) - len(shown)} more targets are not drawn: choose them with the controls."
        handles = [
            Patch(facecolor=_YES, edgecolor=style.GREY, label="ready / readable"),
            Patch(facecolor="white", edgecolor=_NO, hatch="/////", label="not"),
            Patch(facecolor=_STARVED, alpha=0.25, edgecolor=_STARVED, label="starved"),
        ]
        return style.finish(figure, title, _words(title, shown, names, episodes, known, why), note, handles)


def regime_of(targets: pd.DataFrame, regimes: str | pd.DataFrame) -> dict[Key, str]:
    """The regime of each host, guest and boot, where it is known: a word in a table that is none of them makes none known."""
    if isinstance(regimes, str):
        return {key_of(row): regimes for row in targets[_TARGET].drop_duplicates().itertuples(index=False)}
    rows = regimes[regimes["regime"].isin(REGIMES)].drop_duplicates(_TARGET, keep="last")
    return {key_of(row): str(regime) for row, regime in zip(rows[_TARGET].itertuples(index=False), rows["regime"], strict=True)}


def telling(samples: pd.DataFrame, known: Mapping[Key, str]) -> dict[Key, int]:
    """How many samples of each boot of a known regime hold evidence: saw what tells, on its kernel, whether it starves."""
    regimes = Regimes(of_boot={(host, guest or None, boot): regime for (host, guest, boot), regime in known.items()})
    return {key_of(key): int(held.t_ns.size) for key, held in boots_of(samples, regimes, 0, set())}


def unjudged(samples: pd.DataFrame, known: Mapping[Key, str]) -> dict[Key, str]:
    """The boots of which nothing tells whether they starved, and why: not judged is not unstarved."""
    told = telling(samples, known)
    keys = [key_of(row) for row in samples[_TARGET].drop_duplicates().itertuples(index=False)]
    return {key: _why_not(known.get(key)) for key in keys if key not in told}


def _why_not(regime: str | None) -> str:
    if regime is None:
        return "the regime of its kernel is not known"
    seen = "entropy_avail and whether /dev/random was readable were" if regime == "blocking" else "ready and readable were"
    return f"{seen} never seen"


def target_names(targets: pd.DataFrame) -> dict[Key, str]:
    """A short name for each host, guest and boot: guest on host; the boot's first letters only where a target has several boots."""
    rows = [key_of(row) for row in targets[_TARGET].drop_duplicates().itertuples(index=False)]
    names = {}
    for host, guest, boot in rows:
        name = f"{style.label(guest, 17)} on {style.label(host, 17)}" if guest else style.label(host)
        several = sum(other[:2] == (host, guest) for other in rows) > 1
        names[host, guest, boot] = f"{name}, boot {style.label(boot, 60)[:8]}" if several else name
    return names


def key_of(row: Sequence[Any]) -> Key:
    """Host, guest and boot as a key; the host itself has the empty guest."""
    host, guest, boot = row
    return str(host), "" if pd.isna(guest) else str(guest), str(boot)


def _of(episodes: pd.DataFrame, key: Sequence[Any]) -> pd.DataFrame:
    host, guest, boot = key
    same_guest = episodes["guest"].isna() if pd.isna(guest) else episodes["guest"] == guest
    found: pd.DataFrame = episodes[(episodes["host"] == host) & same_guest & (episodes["boot_id"] == boot)]
    return found


def _panel_title(name: str, regime: str | None, is_unjudged: bool) -> str:
    if regime is None:
        return f"{name} · regime unknown: not judged"
    return f"{name} · {regime} kernel{': not judged' if is_unjudged else ''}"


def _panel(above: Axes, below: Axes, part: pd.DataFrame, episodes: pd.DataFrame, first_ns: int) -> None:
    unit_s, unit = _unit((int(part["t_ns"].iloc[-1]) - first_ns) / 1e9)
    at = (part["t_ns"].to_numpy(dtype="int64") - first_ns) / 1e9 / unit_s
    bits = part["entropy_avail_bits"].astype("float64").to_numpy(dtype="float64", na_value=math.nan)
    above.plot(*thinned(at, bits), color=style.BLUE, linewidth=1.4, drawstyle="steps-post", gid="pool")
    for start_ns, end_ns in zip(episodes["start_ns"], episodes["end_ns"], strict=True):
        start, end = ((int(edge) - first_ns) / 1e9 / unit_s for edge in (start_ns, end_ns))
        above.axvspan(start, end, facecolor=_STARVED, edgecolor=_STARVED, alpha=0.25, linewidth=1.5, gid="episode")
    highest = float(np.nanmax(bits)) if np.isfinite(bits).any() else 256.0
    ticks.bits_ticks(above, "y", highest)
    above.set_ylabel("entropy_avail\n(bits)")
    above.tick_params(labelbottom=False)
    for place, column in enumerate(("crng_ready", "random_readable")):
        _strip(below, at, part[column], place)
    below.set_yticks([0, 1], ["ready", "readable"])
    below.set_ylim(1.6, -0.6)
    below.grid(visible=False)
    width = float(at[-1] - at[0]) or 1.0
    for axes in (above, below):
        axes.set_xlim(float(at[0]) - 0.01 * width, float(at[0]) + 1.01 * width)
    below.set_xlabel(f"time since the first sample, {duration_text(first_ns / 1e9)} after boot ({unit})")


def _unit(span_s: float) -> tuple[float, str]:
    return next(((size, name) for size, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")) if span_s >= 3 * size), (1.0, "s"))


def thinned(at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of a line that a figure can show: of each bin its least and its most, in their order."""
    if len(at) <= 2 * _BINS:
        return at, values
    edges = np.linspace(0, len(at), _BINS + 1).astype(int)
    kept: list[int] = []
    for low, high in pairwise(edges):
        part = values[low:high]
        if np.isfinite(part).any():
            kept += sorted({low + int(np.nanargmin(part)), low + int(np.nanargmax(part))})
        else:  # a gap stays a gap
            kept.append(low)
    return at[kept], values[kept]


def _strip(axes: Axes, at: np.ndarray, truth: pd.Series, place: int) -> None:
    """A row of bars: filled where true, hatched where false, empty where it was not looked at."""
    codes = truth.map({True: 1, False: 0}).astype("float64").fillna(-1).to_numpy()
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    ends = np.r_[at[starts[1:]], at[-1] if len(at) > 1 else at[0] + 1.0]
    for code, face, edge, hatch in ((1, _YES, "none", None), (0, "white", _NO, "/////")):
        bars = [(at[start], max(end - at[start], 0.0)) for start, end in zip(starts, ends, strict=True) if codes[start] == code]
        axes.broken_barh(bars, (place - 0.32, 0.64), facecolors=face, edgecolors=edge, hatch=hatch, linewidth=0.6, gid=truth.name)


def _title(found: set[str], episodes: pd.DataFrame, targets: int, not_judged: int) -> str:
    if not_judged == targets:
        return "Whether the target starved cannot be told" if targets == 1 else "Whether these targets starved cannot be told"
    total_s = float((episodes["end_ns"] - episodes["start_ns"]).sum()) / 1e9 if len(episodes) else 0.0
    verdict = (
        f"starved {len(episodes)} times, {duration_text(total_s)} in all"
        if len(episodes) > 1
        else f"starved once, for {duration_text(total_s)}"
        if len(episodes)
        else "never starved while watched"
    )
    judged = targets - not_judged
    rest = f"; of {not_judged} more it cannot be told" if not_judged else ""
    if found == {"latched"}:
        who = "it" if targets == 1 else f"{judged} target{'s' if judged > 1 else ''}"
        return f"On a latched kernel entropy_avail is a constant and tells nothing. Ready and readable tell: {who} {verdict}{rest}"
    who = "The target" if targets == 1 else f"{judged} target{'s' if judged > 1 else ''}"
    return f"{who} {verdict}{rest}"


def _words(
    title: str,
    shown: Sequence[tuple[Sequence[object], pd.DataFrame]],
    names: Mapping[Key, str],
    episodes: pd.DataFrame,
    known: Mapping[Key, str],
    why: Mapping[Key, str],
) -> str:
    parts = []
    for key, part in shown:
        bits, span_s = part["entropy_avail_bits"], (int(part["t_ns"].max()) - int(part["t_ns"].min())) / 1e9
        held = (
            "was not read"
            if bits.isna().all()
            else f"from {bits.min()} to {bits.max()} bits"
            if bits.nunique() > 1
            else f"always {bits.max()} bits"
        )
        looked = part["crng_ready"].dropna()
        ready = f"ready in {100 * looked.mean():.4g} % of the samples that saw it" if len(looked) else "whether ready was not seen"
        starved = (
            f"whether it starved cannot be told, because {why[key_of(key)]}"
            if key_of(key) in why
            else f"starved episodes: {len(_of(episodes, key))}"
        )
        parts.append(
            f"{names[key_of(key)]} ({known.get(key_of(key), 'regime unknown')}), {len(part)} samples in {duration_text(span_s)}: "
            f"entropy_avail {held}; {ready}; {starved}."
        )
    return f"{title}. {' '.join(parts)}"


def readiness(rng_state: pd.DataFrame, by: Sequence[str] = ("host", "guest")) -> style.AltFigure:
    """When the generator was ready after boot, by group: the median and its interval, each boot as a small point.

    Parameters
    ----------
    rng_state : DataFrame
        Table ``rng_state``.
    by : sequence of str
        Columns that make a group.
    """
    table = analysed(rng_state, by).rename(columns={"crng_ready_s": "median"})
    waiting, unknown = int(table["not_ready"].sum()), int(table["unknown"].sum())
    left_out = f"{waiting} boots were not ready when looked at: later than all others." if waiting else ""
    left_out += f" Of {unknown} boots the kernel log does not tell when." if unknown else ""
    table = table.assign(group=[_group(row) for row in table[list(by)].itertuples(index=False)])
    mostly = table.loc[table["median"].isna() & (table["n"] > 0), "group"]
    if len(mostly):
        left_out += f" Half or more were not ready, so no median is known: {', '.join(style.label(group) for group in mostly)}."
    table = table[table["n"] > 0].sort_values("median")
    known = table[table["median"].notna()]
    if table.empty:
        return style.says(f"When the generator was ready is not known of any boot in this selection. {left_out}".strip())
    boots = rng_state.assign(group=[_group(row) for row in rng_state[list(by)].itertuples(index=False)])
    boots = boots.groupby([*_TARGET, "group"], dropna=False)["crng_ready_s"].min().dropna().reset_index()
    with style.drawing():
        figure, grid = style.new_figure(0.75 + 0.36 * len(table))
        axes = grid[0][0]
        for place, (group, found) in enumerate(zip(table["group"], intervals(table), strict=True)):
            single = boots.loc[boots["group"] == group, "crng_ready_s"]
            axes.plot(single, [place] * len(single), "o", color=style.SKY, markersize=4, linestyle="none", gid="repeat")
            if math.isfinite(found.median):
                dot(axes, found, place, (style.BLUE, "D"))
        ticks.duration_ticks(axes, "x", boots["crng_ready_s"])
        axes.set_yticks(range(len(table)), [style.label(group) for group in table["group"]])
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time from boot to 'crng init done'")
        count = int(table["n"].sum())
        title = _ready_title(known, count)
        note = f"Diamond: median; line: its 95 % interval, from three boots on; small points: single boots. {left_out}"
        words = f"{title}. Time from boot to ready, boots counted {count}: {span_words(known, 'group', duration_text)}. {left_out}"
        return style.finish(figure, title, words, note)


def _ready_title(known: pd.DataFrame, count: int) -> str:
    if known.empty:
        return "Half of the boots or more were not ready when looked at"
    slowest = known.iloc[-1]
    which = f"at the slowest ({style.label(slowest['group'])})" if len(known) > 1 else f"({count} boot{'s' if count > 1 else ''})"
    return f"Ready after {duration_text(float(slowest['median']))} {which}"


def _group(values: Sequence[Any]) -> str:
    return " · ".join(str(value) for value in values if not pd.isna(value)) or "(none)"
