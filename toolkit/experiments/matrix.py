"""A matrix of boots: each cell of a plan several times, in random order, a row after each; what was interrupted is resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.experiments.boot_once import boot_once
from toolkit.experiments.boot_plan import Boot, BootPlan
from toolkit.lab_kernels import GuestKernel
from toolkit.progress import Progress, silent
from toolkit.runs import Run
from toolkit.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Begun", "begun_before", "run_matrix"]


@dataclass(frozen=True)
class Begun:
    """What a store has of a plan already.

    Attributes
    ----------
    seed : int
        Of its order.
    done : frozenset of (str, str, int)
        The cell, the remedy and the repeat of each boot that is there, and told when it was ready: remedies that need no program in
        the guest, such as RDRAND, are not told by a cell's words. One that failed is made again.
    runs : tuple of str
        The runs that made them.
    left_out : frozenset of (str, str, int)
        The same of those that could not be had: they are tried again, since what they lacked may be there now.
    """

    seed: int
    done: frozenset[tuple[str, str, int]]
    runs: tuple[str, ...] = ()
    left_out: frozenset[tuple[str, str, int]] = frozenset()

    def left(self, plan: BootPlan) -> list[Boot]:
        """The boots that are still to be made, in their order."""
        return [boot for boot in plan.order(self.seed) if _key(boot) not in self.done]


def _key(boot: Boot) -> tuple[str, str, int]:
    return str(boot.cell), boot.cell.remedy, boot.repeat


def begun_before(store: Store, plan: BootPlan, host: str, seed: int | None = None) -> Begun | None:
    """The newest matrix of this very plan that this host began; None where there is none.

    Parameters
    ----------
    store : Store
        Where it would be.
    plan : BootPlan
        What it measures; another name, or a plan that another machine made the same, is the same plan.
    host : str
        This machine: boots of another one belong to another matrix.
    seed : int, optional
        Only a matrix of this order.
    """
    if "boots" not in store.tables() or "runs" not in store.tables():
        return None
    boots = store.read("boots", host=host)
    boots = boots[boots["plan_sha256"] == plan.sha256]
    runs = store.read("runs", host=host).dropna(subset="seed").drop_duplicates("run_id").set_index("run_id")
    boots = boots[boots["run_id"].isin(runs.index)]
    if boots.empty:
        return None
    newest = runs.loc[boots["run_id"].unique()].sort_values("started_utc", kind="stable").iloc[-1]
    wanted = int(newest["seed"]) if seed is None else seed
    of_it = boots[boots["run_id"].map(runs["seed"]) == wanted]
    keys = list(zip(of_it["cell"].astype(str), of_it["remedy"].astype(str), of_it["repeat"].astype(int), strict=True))
    outcomes = of_it["outcome"].tolist()
    done = frozenset(key for key, outcome in zip(keys, outcomes, strict=True) if outcome in ("ready", "censored"))
    left_out = frozenset(key for key, outcome in zip(keys, outcomes, strict=True) if outcome == "left out")
    return Begun(wanted, done, tuple(of_it["run_id"].unique()), left_out - done) if keys else None


def run_matrix(
    plan: BootPlan,
    kernels: dict[str, GuestKernel],
    store: Store,
    run: Run,
    *,
    begun: Begun | None = None,
    progress: Progress = silent,
    told: Callable[[pd.DataFrame], None] | None = None,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Boot what a plan asks for and has not been booted yet, one guest at a time; each is stored before the next begins.

    Parameters
    ----------
    plan : BootPlan
        What.
    kernels : dict of str to GuestKernel
        By version.
    store, run : Store, Run
        Where rows go, and the run that they belong to, whose seed is that of the order.
    begun : Begun, optional
        What is there already; without it all are booted.
    progress : Progress
        Told of the boots made, of all.
    told : callable, optional
        Called with the row of ``boots`` after each.
    folder : Path, optional
        Where guests' files are meanwhile.

    Returns
    -------
    DataFrame
        Table ``boots``: those made now.

    Raises
    ------
    StoreError
        If the store cannot be appended to.
    """
    import pandas as pd

    before = begun or Begun(run.seed or 0, frozenset())
    left = before.left(plan)
    total = len(plan.cells) * plan.boots
    frames = [run.frame("boots", [])]
    for count, boot in enumerate(left):
        progress(total - len(left) + count, total, f"boot {total - len(left) + count + 1} of {total}")
        row = run.frame("boots", [boot_once(boot, plan, kernels, folder)])
        if row["outcome"].iloc[0] == "left out" and _key(boot) in before.left_out:
            continue  # the store says so already
        store.append("boots", row)
        frames.append(row)
        if told is not None:
            told(row)
    progress(total, total, "all boots are made")
    return pd.concat(frames, ignore_index=True)
