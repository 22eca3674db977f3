"""What the command line says about guests made for an experiment: boots, rates, readers at once. Tables in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from toolkit.analysis.boots import boots as boots_of
from toolkit.analysis.boots import remedies as remedies_of
from toolkit.analysis.rates import rates as rates_of
from toolkit.analysis.waits import SHARED, waits
from toolkit.analysis.waits import fairness as fairness_of
from toolkit.units import bytes_text, duration_text, rate_text

if TYPE_CHECKING:
    from toolkit.experiments.boot_plan import BootPlan

__all__ = ["boots", "fairness", "planned", "rates", "readers", "remarks", "remedies"]

_QUANTITIES = {
    "crng_ready_s": "ready after boot",
    "longest_wait_s": "longest wait of getrandom",
    "guest_cpu_s": "processor time of the guest",
    "feeder_cpu_s": "of it the feeder's",
    "qemu_cpu_s": "processor time of QEMU",
}


def planned(plan: BootPlan, total: int, left: int) -> str:
    """What is about to be booted."""
    what = f"The plan {plan.name}: {len(plan.cells)} configurations, {plan.boots} boots each"
    if left == total:
        return f"{what}."
    done = f"{total - left} of {total} boots are in the store already"
    return f"{what}; {done}, {left} are to be made." if left else f"{what}; all are in the store already. --anew boots them again."


def boots(rows: pd.DataFrame) -> pd.DataFrame:
    """When guests were ready, and how long early user space waited: a row a configuration."""
    found = boots_of(rows)
    waited = boots_of(rows, quantity="longest_wait_s")
    return pd.DataFrame(
        {
            "configuration": found["cell"],
            "boots": found["boots"],
            "ready": found["ready"],
            "not in time": found["censored"],
            "ready after boot (95 %)": found["median"],
            "longest wait of getrandom (95 %)": waited["median"],
        }
    ).sort_values("configuration", ignore_index=True)


def remedies(rows: pd.DataFrame) -> pd.DataFrame:
    """Each remedy against none: a row a quantity and remedy."""
    found = remedies_of(rows, by=["asked", "remedy"], within=["plan", "kernel", "asked"])
    against = found["differs"].map({True: "yes", False: "no"}).fillna("–")
    return pd.DataFrame(
        {
            "asked": found["asked"],
            "quantity": found["quantity"].map(_QUANTITIES),
            "remedy": found["remedy"],
            "boots": found["boots"],
            "median (95 %)": found["median"],
            "none": found["baseline_median"],
            "differs": against,
        }
    )


def remarks(rows: pd.DataFrame) -> list[str]:
    """What was left out or failed, and why; each reason once."""
    said = []
    for outcome, words in (("left out", "left out"), ("failed", "failed")):
        of_it = rows[rows["outcome"] == outcome]
        for detail, group in of_it.groupby("detail", sort=False):
            cells = ", ".join(sorted(set(group["cell"])))
            said.append(f"{len(group)} boots {words}: {detail} ({cells})")
    accelerators = sorted(rows["accelerator"].dropna().unique())
    if accelerators == ["tcg"]:
        said.append("The guests ran under TCG: their processor is many times slower than a real one, which lengthens every time.")
    return said


def rates(source_reads: pd.DataFrame, rng_state: pd.DataFrame) -> pd.DataFrame:
    """What each device gave, against its limit."""
    found = rates_of(source_reads, rng_state)
    limit = [_limit(row) for row in found.itertuples(index=False)]
    shown = pd.DataFrame(
        {
            "limit": limit,
            "configured": found["configured_bytes_per_second"].map(rate_text, na_action="ignore"),
            "measured": found["bytes_per_second"].map(rate_text, na_action="ignore"),
            "measured/configured": found["ratio"],
            "low": found["ratio_low"],
            "high": found["ratio_high"],
            "bursts": found["bursts"],
            "bytes a burst": found["burst_bytes"],
            "within 5 %": found["holds"],
            "why": found["why"],
        }
    )
    order = found["configured_bytes_per_second"].fillna(float("inf")).argsort()
    return shown.iloc[order].reset_index(drop=True)


def readers(drain_reads: pd.DataFrame) -> pd.DataFrame:
    """Who waited for how long, of readers at once in one guest."""
    found = waits(drain_reads[drain_reads["scenario"] != SHARED])
    return pd.DataFrame(
        {
            "readers at once": found["readers_at_once"],
            "reader": found["reader"],
            "reads": found["reads"],
            "rate": found["bytes_per_second"].map(rate_text, na_action="ignore"),
            "waits (half; 99 %; longest)": found["wait"],
        }
    )


def fairness(drain_reads: pd.DataFrame) -> pd.DataFrame:
    """Whether guests that share a source of the host slow one another, and share it fairly."""
    found = fairness_of(drain_reads)
    return pd.DataFrame(
        {
            "guests at once": found["guests_at_once"],
            "rounds": found["repeats"],
            "all together": found["all_bytes_per_second"].map(rate_text, na_action="ignore"),
            "each": found["each_bytes_per_second"].map(rate_text, na_action="ignore"),
            "smallest share": found["smallest_share"],
            "greatest share": found["greatest_share"],
            "Jain's index (1: equal)": found["jain"],
        }
    )


def _limit(row: object) -> str:
    most, period = getattr(row, "virtio_rng_max_bytes", None), getattr(row, "virtio_rng_period_ms", None)
    if most is None or pd.isna(most) or period is None or pd.isna(period):
        return "none"
    return f"{bytes_text(int(most))} in {duration_text(int(period) / 1000)}"
