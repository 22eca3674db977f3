"""What was found, in sentences with numbers: tables in, HTML sentences out, whatever a machine wrote in them made inert.

No figure and no widget here; and no judgement that the numbers in the sentence do not carry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from toolkit.analysis.capabilities import newest
from toolkit.analysis.machines import machines as machines_of
from toolkit.analysis.stats import medians
from toolkit.analysis.throughput import throughput as rates_of
from toolkit.markup import Fragment, bullets, paragraph, sentence
from toolkit.plots.axes import count_text, round_text
from toolkit.plots.fragmentation import error_name, ordered, succeeded
from toolkit.plots.intervals import greatest
from toolkit.plots.starvation import MEANS, key_of, regime_of, target_names, telling, unjudged
from toolkit.plots.style import FILESYSTEM_LOOKS, SOURCE_LOOKS
from toolkit.units import bytes_text, duration_text, rate_text

__all__ = ["fragmentation", "machines", "not_measured", "shown", "starvation", "throughput", "with_interval"]

_WRITES = ("write_4k", "write_8k", "write_64k", "mmap_memset")
_TARGET = ["host", "guest", "boot_id"]
#: Why a table that is there gives no finding.
_NONE = {
    "allocations": "On no file system were both posix_fallocate and a way that writes timed; none refused, none told its pieces.",
    "source_reads": "No read gave a byte in a time that could be measured, and none failed.",
    "entropy_samples": "No state of a generator and no sample of the pool is there.",
}


def shown(said: list[Fragment], lacking: Fragment | None, table: str) -> Fragment:
    """Findings as a list; where there is none, the table that is lacking, else that there is none and why."""
    return bullets(said) if said else lacking or paragraph(sentence("No finding. {}", _NONE[table]))


def with_interval(row: pd.Series, text: Callable[[float], str]) -> str:
    """A median with its 95 % interval; without one where there were too few repeats for it."""
    median, low, high, count = float(row["median"]), float(row["low"]), float(row["high"]), int(row["n"])
    if math.isfinite(low) and math.isfinite(high):
        return f"{text(median)} (95 % interval {text(low)} to {text(high)}, n = {count})"
    return f"{text(median)} (n = {count}, too few for an interval)"


def machines(runs: pd.DataFrame, host: str | None = None, run: str | None = None) -> list[Fragment]:
    """Which machines and runs the tables are of."""
    if runs.empty:
        return [sentence("No run is recorded in this store{}.", " for the host and run chosen" if host or run else "")]
    said = []
    for last in machines_of(runs).sort_values("host", kind="stable").to_dict("records"):
        under = "on bare metal, as far as it says" if pd.isna(last["hypervisor"]) else f"a virtual machine ({last['hypervisor']})"
        memory = "unknown memory" if pd.isna(last["memory_bytes"]) else bytes_text(float(last["memory_bytes"]))
        said.append(
            sentence(
                "<b>{}</b>: {}, {} CPUs, {}, kernel {}, {}; {}, the last on {} by <code>{}</code>.",
                last["host"],
                last["cpu_model"] if pd.notna(last["cpu_model"]) else "processor unknown",
                "?" if pd.isna(last["cpu_count"]) else int(last["cpu_count"]),
                memory,
                last["kernel"],
                under,
                "1 run" if last["machine_runs"] == 1 else f"{last['machine_runs']:,} runs",
                f"{last['started_utc']:%Y-%m-%d %H:%M} UTC",
                last["command"],
            )
        )
    return said


def not_measured(capabilities: pd.DataFrame) -> list[Fragment]:
    """What could not be measured, why, and how to get it: of each target as its newest run found it."""
    last = newest(capabilities)
    missing = last[~last["available"].fillna(False).astype(bool)]
    several = len(last[["host", "guest"]].drop_duplicates()) > 1
    said = []
    columns = ["host", "guest", "capability", "detail", "remedy"]
    for host, guest, capability, detail, remedy in missing.sort_values(columns[:3])[columns].itertuples(index=False):
        where = sentence(" on {}", host if pd.isna(guest) else f"{guest} on {host}") if several else sentence("")
        why = sentence(": {}", detail) if pd.notna(detail) else sentence("")
        how = sentence(" <i>{}</i>", remedy) if pd.notna(remedy) else sentence("")
        said.append(sentence("<b>{}</b>{}{}.{}", capability, where, why, how))
    return said


def fragmentation(allocations: pd.DataFrame) -> list[Fragment]:
    """How long allocating takes and into how many pieces, for the largest size measured on each file system.

    Rows of one file system's name are pooled: :mod:`toolkit.explore.apart` names machines and folders apart.
    """
    timed = succeeded(allocations).dropna(subset=["allocate_ns"])
    timed = _largest(timed).assign(seconds=lambda frame: frame["allocate_ns"].astype("float64") / 1e9)
    table = medians(timed, "seconds", ["filesystem", "method"])
    said = []
    for name in ordered(timed["filesystem"], FILESYSTEM_LOOKS):
        rows = {str(row["method"]): row for _, row in table[table["filesystem"] == name].iterrows()}
        write = next((method for method in _WRITES if method in rows), None)
        emulated = _true(timed[(timed["filesystem"] == name) & (timed["method"] == "posix_fallocate")]["emulated"])
        if "posix_fallocate" in rows and write:
            size = int(timed.loc[timed["filesystem"] == name, "size_bytes"].iloc[0])
            said.append(_asked_or_written(name, size, rows["posix_fallocate"], write, rows[write], emulated))
    return [*said, *_refused(allocations), *_pieces(allocations)]


def _largest(allocations: pd.DataFrame) -> pd.DataFrame:
    """The rows of each file system's largest size."""
    found: pd.DataFrame = allocations[allocations["size_bytes"] == allocations.groupby("filesystem")["size_bytes"].transform("max")]
    return found


def _asked_or_written(name: str, size: int, asked: pd.Series, write: str, written: pd.Series, emulated: bool) -> Fragment:
    factor = float(written["median"]) / float(asked["median"])
    compared = f"{round_text(factor)} times as long" if factor >= 1 else f"{round_text(1 / factor)} times as fast"
    if emulated:
        return sentence(
            "<b>{}</b> cannot preallocate: glibc emulates <code>posix_fallocate</code> by writing to every block: {} for {}; "
            "<code>{}</code> takes {}.",
            name,
            with_interval(asked, duration_text),
            bytes_text(size),
            write,
            with_interval(written, duration_text),
        )
    return sentence(
        "<b>{}</b>: <code>posix_fallocate</code> reserves {} in {}; <code>{}</code> takes {}, {}.",
        name,
        bytes_text(size),
        with_interval(asked, duration_text),
        write,
        with_interval(written, duration_text),
        compared,
    )


def _refused(allocations: pd.DataFrame) -> list[Fragment]:
    failed = allocations[allocations["errno"].notna()]
    said = []
    for method, code in failed[["method", "errno"]].drop_duplicates().itertuples(index=False):
        part = failed[(failed["method"] == method) & (failed["errno"] == code)]
        names = ", ".join(ordered(part["filesystem"], FILESYSTEM_LOOKS))
        why = error_name(int(code))
        said.append(sentence("<code>{}</code> failed on {} with {}: no time, and none is shown.", method, names, why))
    return said


def _pieces(allocations: pd.DataFrame) -> list[Fragment]:
    known = _largest(succeeded(allocations)).dropna(subset=["extents", "discontinuities"])
    if known.empty:
        return []
    most, worst = greatest(known, "extents"), greatest(known, "discontinuities")
    said = [
        sentence(
            "The file with most extents has {} in {} ({} on {}), and {} of their borders are true discontinuities.",
            count_text(int(most["extents"])),
            bytes_text(float(most["size_bytes"])),
            most["method"],
            most["filesystem"],
            count_text(int(most["discontinuities"])),
        )
    ]
    if worst.name != most.name and worst["discontinuities"] != most["discontinuities"]:
        said.append(
            sentence(
                "The file with most discontinuities has {} in {} ({} on {}).",
                count_text(int(worst["discontinuities"])),
                bytes_text(float(worst["size_bytes"])),
                worst["method"],
                worst["filesystem"],
            )
        )
    return said


def throughput(source_reads: pd.DataFrame) -> list[Fragment]:
    """The best rate of each source, what fails, and how the hardware source compares."""
    failed = source_reads[source_reads["errno"].notna()]
    said: list[Fragment] = []
    table = rates_of(source_reads, ["source", "block_bytes"]).rename(columns={"bytes_per_second": "median"})
    table = table[table["median"] > 0]
    for name in ordered(table["source"], SOURCE_LOOKS):
        part = table[table["source"] == name].sort_values("median")
        slow, fast = part.iloc[0], part.iloc[-1]
        less = f", and {rate_text(float(slow['median']))} in reads of {bytes_text(float(slow['block_bytes']))}"
        said.append(
            sentence(
                "<b>{}</b> gives {} in reads of {}{}.",
                name,
                with_interval(fast, rate_text),
                bytes_text(float(fast["block_bytes"])),
                less if len(part) > 1 else "",
            )
        )
    for source, code in failed[["source", "errno"]].drop_duplicates().itertuples(index=False):
        of_it = source_reads[source_reads["source"] == source]
        count = int((of_it["errno"] == code).sum())
        said.append(sentence("<b>{}</b>: {} of {} reads failed with {}.", source, count, len(of_it), error_name(int(code))))
    return said


def starvation(rng_state: pd.DataFrame, samples: pd.DataFrame, episodes: pd.DataFrame) -> list[Fragment]:
    """Of each target: its regime, when it was ready, what feeds it, and whether it starved while it was watched."""
    latest = rng_state.drop_duplicates(_TARGET, keep="last")
    names = target_names(pd.concat([latest[_TARGET], samples[_TARGET]]))
    said = [_state(names[key_of([row[name] for name in _TARGET])], row) for _, row in latest.iterrows()]
    known = regime_of(samples, rng_state)
    told, why = telling(samples, known), unjudged(samples, known)
    starved = {key_of(key): part for key, part in episodes.groupby(_TARGET, dropna=False)}
    for key, part in samples.groupby(_TARGET, dropna=False, sort=True):
        of = key_of(key)
        verdict = (
            f"whether it starved cannot be told, because {why[of]}"
            if of in why
            else _verdict(starved.get(of, episodes.head(0)), told[of], len(part))
        )
        said.append(_watched(names[of], part, verdict))
    return said


def _verdict(episodes: pd.DataFrame, told: int, samples: int) -> str:
    part = "" if told == samples else f" as far as {told:,} of the samples tell"
    if episodes.empty:
        return f"it did not starve{part}"
    total = duration_text(float((episodes["end_ns"] - episodes["start_ns"]).sum()) / 1e9)
    cut = " at least, because an episode is cut by the edge of the data" if (episodes["censored"] != "none").any() else ""
    return f"it starved in {len(episodes)} episodes, {total} in all{cut}{part}"


def _state(name: str, row: pd.Series) -> Fragment:
    ready = (
        f"was ready {duration_text(float(row['crng_ready_s']))} after boot"
        if pd.notna(row["crng_ready_s"])
        else "is ready now; when it became ready its kernel log does not tell"
        if _is(row["crng_ready"])
        else "is not ready"
        if pd.notna(row["crng_ready"])
        else "could not be asked whether it is ready"
    )
    hwrng = (
        "hardware sources unknown"
        if pd.isna(row["hwrng_available"])
        else f"hardware source {row['hwrng_current'] if pd.notna(row['hwrng_current']) else row['hwrng_available']}"
        if row["hwrng_available"]
        else "no hardware source with a driver"
    )
    rdrand = (
        "RDRAND unknown" if pd.isna(row["cpu_rdrand"]) else "RDRAND in the processor" if _is(row["cpu_rdrand"]) else "no RDRAND"
    )
    feeders = (
        "feeders unknown" if pd.isna(row["feeders"]) else f"fed by {row['feeders']}" if row["feeders"] else "no feeder running"
    )
    return sentence(
        "<b>{}</b> {}: {}, {}, {}. {}", name, ready, hwrng, rdrand, feeders, MEANS.get(str(row["regime"]), "Its regime is unknown.")
    )


def _watched(name: str, part: pd.DataFrame, verdict: str) -> Fragment:
    span = duration_text((int(part["t_ns"].max()) - int(part["t_ns"].min())) / 1e9)
    bits = part["entropy_avail_bits"]
    seen = (
        "could not be read"
        if bits.isna().all()
        else f"was {bits.min()} bits all the time"
        if bits.nunique() == 1
        else f"lay between {bits.min()} and {bits.max()} bits"
    )
    return sentence(
        "<b>{}</b> was watched for {} in {} samples: {}; <code>entropy_avail</code> {}.",
        name,
        span,
        f"{len(part):,}",
        verdict,
        seen,
    )


def _is(value: Any) -> bool:
    return not pd.isna(value) and bool(value)


def _true(values: pd.Series) -> bool:
    return bool(values.fillna(False).astype(bool).any())
