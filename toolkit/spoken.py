"""What the command line says, in plain sentences, about what it has just measured. Tables in, text out.

The pages and notebooks say more, in :mod:`toolkit.explore.findings`; here is what fits under a command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from toolkit.units import bytes_text, duration_text, rate_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["allocation_times", "extents_of", "source_rates", "watched"]

_DASH = "–"
_INTERVAL = "95 % interval"
_REGIMES = {
    "blocking": "blocking kernel: entropy_avail below 64 bits, or /dev/random not readable, is starvation",
    "estimating": "estimating kernel: only the time before the generator is ready is starvation; later dips are harmless",
    "draining": "draining kernel: only the time before the generator is ready is starvation; the sawtooth after it is normal",
    "latched": "latched kernel: entropy_avail is a constant once the generator is ready, and says nothing about starvation",
}


def watched(samples: pd.DataFrame, state: pd.DataFrame, interval_s: float) -> list[str]:
    """What a watch saw: how often it looked and how often it could not, the regime, and whether the machine starved.

    Parameters
    ----------
    samples : DataFrame
        ``entropy_samples`` of one watch.
    state : DataFrame
        ``rng_state`` of the same boot.
    interval_s : float
        How often it was to look.
    """
    from toolkit.analysis.starvation import starvation

    if samples.empty:
        return ["No look was made: the watch ended before its first."]
    span_s = (samples["t_ns"].iloc[-1] - samples["t_ns"].iloc[0]) / 1e9
    missed = round(span_s / interval_s) + 1 - len(samples)
    said = [f"{len(samples):,} looks in {duration_text(span_s)}" + (f"; {missed:,} moments were missed" if missed > 0 else "")]
    regime = state["regime"].iloc[0]
    if not isinstance(regime, str):
        return [*said, "Its kernel's files fit no regime that is known, so whether it starved cannot be told."]
    said.append(_REGIMES[regime])
    tells = [*(["entropy_avail_bits"] if regime == "blocking" else ["crng_ready"]), "random_readable"]
    if samples[tells].isna().all(axis=None):
        return [*said, f"No look saw {' or '.join(tells)}, so whether it starved cannot be told."]
    episodes = starvation(samples, regime)
    if episodes.empty:
        return [*said, "It did not starve in this time."]
    starved_s = (episodes["end_ns"] - episodes["start_ns"]).sum() / 1e9
    return [*said, f"It starved {len(episodes)} time(s), {duration_text(starved_s)} in all: toolkit.starvation lists them."]


def source_rates(reads: pd.DataFrame) -> pd.DataFrame:
    """What each source gave at each block size, written out: source, block, rate, 95 % interval, reads, failed."""
    from toolkit.analysis.throughput import throughput

    found = throughput(reads, by=("source", "block_bytes"))
    rates = [_or_dash(rate, rate_text) for rate in found["bytes_per_second"]]
    intervals = [_interval(low, high, rate_text) for low, high in zip(found["low"], found["high"], strict=True)]
    blocks = [bytes_text(size) for size in found["block_bytes"]]
    return found[["source"]].assign(
        block=blocks, rate=rates, **{_INTERVAL: intervals}, reads=found["reads"], failed=found["failed"]
    )


def allocation_times(rows: pd.DataFrame) -> pd.DataFrame:
    """The median time of each way to allocate, written out, by file system and size, the fastest first.

    Returns
    -------
    DataFrame
        filesystem, size, method, median, 95 % interval (a dash below three repeats), pieces (median of discontinuities,
        plus one, of files that have extents),
        repeats, failed.
    """
    import pandas as pd

    from toolkit.analysis.stats import median_interval

    found = []
    for key, group in rows.groupby(["filesystem", "size_bytes", "method"], sort=False):
        filesystem, size, method = cast("tuple[str, int, str]", key)
        done = group[group["errno"].isna()]
        middle = median_interval((done["allocate_ns"].dropna() / 1e9).astype("float64"))
        # A sparse file has no extent, and so no piece either.
        pieces = done.loc[done["extents"] > 0, "discontinuities"].astype("float64").median() + 1
        row = {"filesystem": filesystem, "size": bytes_text(size), "method": method, "seconds": middle.median}
        row |= {"median": _or_dash(middle.median, duration_text), _INTERVAL: _interval(middle.low, middle.high, duration_text)}
        row |= {"pieces": _or_dash(pieces, "{:.0f}".format), "repeats": len(group), "failed": int(group["errno"].notna().sum())}
        found.append(row)
    if not found:
        return pd.DataFrame()
    return pd.DataFrame(found).sort_values(["filesystem", "size", "seconds"], ignore_index=True).drop(columns="seconds")


def _interval(low: float, high: float, write: Callable[[float], str]) -> str:
    return _DASH if math.isnan(low) else f"{write(low)} – {write(high)}"


def _or_dash(value: float, write: Callable[[float], str]) -> str:
    return _DASH if math.isnan(value) else write(value)


def extents_of(frame: pd.DataFrame, discontinuities: int | None) -> str:
    """One sentence about a file's extents."""
    mapped = int(frame["length_bytes"].sum())
    if discontinuities is None:
        pieces = "their places on the device cannot be compared (see flags), so discontinuities are not counted"
    else:
        pieces = f"{discontinuities:,} physical discontinuit{'y' if discontinuities == 1 else 'ies'}"
    return f"{len(frame):,} extent{'' if len(frame) == 1 else 's'}, {bytes_text(mapped)} mapped; {pieces}."
