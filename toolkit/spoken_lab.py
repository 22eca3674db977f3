"""What the command line says about guests made for an experiment: boots, rates, readers at once. Tables in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from toolkit.analysis.boots import boots as boots_of
from toolkit.analysis.boots import remedies as remedies_of
from toolkit.analysis.configurations import TRANSLATED, asks_words, most_warnings, named, parts, translated
from toolkit.analysis.rates import rates as rates_of
from toolkit.analysis.waits import OWN_PACE, SHARED, waits
from toolkit.analysis.waits import fairness as fairness_of
from toolkit.plots.boots import in_order
from toolkit.units import bytes_text, duration_text, rate_text

if TYPE_CHECKING:
    from toolkit.experiments.boot_plan import BootPlan

__all__ = ["boots", "fairness", "planned", "rates", "readers", "remarks", "remedies"]

_QUANTITIES = {
    "crng_ready_s": "ready after",
    "longest_wait_s": "longest wait",
    "guest_cpu_s": "guest CPU",
    "feeder_cpu_s": "feeder CPU",
    "qemu_cpu_s": "QEMU CPU",
}


def planned(plan: BootPlan, total: int, left: int) -> str:
    """What is about to be booted."""
    what = f"The plan {plan.name}: {len(plan.cells)} configurations, {plan.boots} boots each"
    if left == total:
        return f"{what}."
    done = f"{total - left} of {total} boots are in the store already"
    return f"{what}; {done}, {left} are to be made." if left else f"{what}; all are in the store already. --anew boots them again."


def boots(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """When guests were ready, and how long early user space waited: a table for each kernel and thing asked, with what it is of."""
    said = []
    for words, part in parts(rows):
        shown = named(part)
        by = ["asks", "configuration"]
        found = in_order(boots_of(shown.astype({"asks": "str"}), by))
        waited = boots_of(shown.astype({"asks": "str"}), by, "longest_wait_s").set_index(by)
        for asks in shown["asks"].cat.categories:
            of_it = found[found["asks"] == asks]
            wait = waited.loc[list(of_it[by].itertuples(index=False, name=None))]
            table = pd.DataFrame(
                {
                    "configuration": of_it["configuration"],
                    "ready": [f"{ready} of {begun}" for ready, begun in zip(of_it["ready"], of_it["boots"], strict=True)],
                    "after (95 %)": of_it["median"],
                }
            ).reset_index(drop=True)
            warned = most_warnings(shown, by).loc[list(of_it[by].itertuples(index=False, name=None))]
            if warned.gt(0).any():  # of boots that were left out, nothing is known
                table["urandom too early"] = warned.to_numpy()
            if wait["n"].sum():
                table["longest wait"] = wait["median"].str.replace(r" \(.*", "", regex=True).to_numpy()
            said.append((f"{words[0].upper()}{words[1:]}, {asks}:", table))
    return said


def remedies(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each remedy against none: a table for each kernel and thing asked, a row a quantity and remedy, with what it is of."""
    said = []
    for words, part in parts(rows):
        for asked, of_it in part.groupby("asked", dropna=False, sort=True):
            found = remedies_of(of_it)
            table = pd.DataFrame(
                {
                    "quantity": found["quantity"].map(_QUANTITIES),
                    "remedy": found["remedy"],
                    "boots": found["boots"],
                    "median (95 %)": found["median"],
                    "differs from none": found["differs"].map({True: "yes", False: "no"}).fillna("–"),
                }
            )
            said.append((f"{words[0].upper()}{words[1:]}, {asks_words(asked)}:", table))
    return said


def remarks(rows: pd.DataFrame) -> list[str]:
    """What was left out or failed, and why; each reason once."""
    said = []
    names = named(rows)
    for outcome in ("left out", "failed"):
        of_it = names[names["outcome"] == outcome]
        for detail, group in of_it.groupby("detail", sort=False):
            which = "; ".join(sorted({f"{asks}: {name}" for asks, name in zip(group["asks"], group["configuration"], strict=True)}))
            said.append(f"{'1 boot' if len(group) == 1 else f'{len(group)} boots'} {outcome}: {detail} ({which})")
    return [*said, TRANSLATED] if translated(rows) else said


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
            # One that hardly waits goes at its own pace, which is nobody's rate.
            "rate": found["bytes_per_second"].where(found["waiting_fraction"] >= OWN_PACE).map(rate_text, na_action="ignore"),
            "of its time waiting": found["waiting_fraction"].map(lambda part: f"{100 * part:.3g} %", na_action="ignore"),
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
