"""The commands ``toolkit lab readiness`` and ``toolkit lab remedies``: a matrix of boots, from a plan in TOML."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands import HERE, JsonOption, SeedOption, StoreOption, answer, begin, command, fresh, kept

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.experiments.boot_plan import BootPlan
    from toolkit.lab_kernels import GuestKernel
    from toolkit.store import Store

__all__ = ["add_boots"]

_Plan = Annotated[
    str | None,
    typer.Option("--plan", metavar="PLAN", help="A file in TOML, or the name of one that comes with the toolkit, as reference."),
]
_Boots = Annotated[
    int | None, typer.Option("--boots", metavar="N", min=1, max=10_000, help="Boots of each cell, in place of the plan's.")
]
_Anew = Annotated[bool, typer.Option("--anew", help="Begin anew, also where the store has boots of this plan.")]


def add_boots(app: typer.Typer) -> None:
    """Give a family the commands ``readiness`` and ``remedies``."""

    @command(app)
    def readiness(
        plan: _Plan = None,
        boots: _Boots = None,
        anew: _Anew = False,
        seed: SeedOption = None,
        store: StoreOption = HERE,
        json: JsonOption = False,
    ) -> None:
        """Boot guests of each configuration of a plan, in random order, and see when each one's generator is ready.

        Each boot is stored before the next begins. The same command goes on where it was interrupted.

        \b
        Example:  toolkit lab readiness
                  toolkit lab readiness --plan reference --boots 5
                  toolkit lab readiness --plan mine.toml --json
        """
        _measure("readiness", plan, boots, anew, seed, store, json)

    @command(app)
    def remedies(
        plan: _Plan = None,
        boots: _Boots = None,
        anew: _Anew = False,
        seed: SeedOption = None,
        store: StoreOption = HERE,
        json: JsonOption = False,
    ) -> None:
        """Boot a guest that starves with each remedy: virtio-rng, RDRAND, rngd, haveged, jitterentropy-rngd, and none.

        Shows when guests were ready, how long getrandom kept them waiting, and what it cost, against no remedy.

        \b
        Example:  toolkit lab fetch --feeders
                  toolkit lab remedies --boots 5
        """
        _measure("remedies", plan, boots, anew, seed, store, json)


def _measure(purpose: str, named: str | None, boots: int | None, anew: bool, seed: int | None, store: Path, json: bool) -> None:
    from toolkit import spoken_lab
    from toolkit.errors import UnavailableError
    from toolkit.experiments.boot_plan import read_plan
    from toolkit.experiments.matrix import Begun, begun_before, run_matrix
    from toolkit.runs import hostname
    from toolkit.share import plan_file
    from toolkit.store import open_store
    from toolkit.terminal import bar, say, show

    kernels: dict[str, GuestKernel] = {}
    plan = read_plan(plan_file(named or purpose), lambda word: _versions(word, kernels))
    plan = plan if boots is None else replace(plan, boots=boots)
    before = None if anew else begun_before(open_store(store), plan, hostname(), seed)
    chosen = before.seed if before is not None else fresh(seed)
    opened, begun = begin(store, {"plan": asdict(plan), "plan_sha256": plan.sha256}, chosen)
    before = before or Begun(chosen, frozenset(), ())
    left = len(before.left(plan))
    total = len(plan.cells) * plan.boots
    if not json:
        say(spoken_lab.planned(plan, total, left))
    try:
        with bar("booting") as progress:
            made = run_matrix(plan, kernels, opened, begun, begun=before, progress=progress)
    except KeyboardInterrupt:
        if not json:
            say(f"Interrupted. What was booted is in {store}; the same command goes on from there.")
        raise
    rows = _all_of_it(opened, plan, begun.host, [*before.runs, begun.run_id])

    def people() -> None:
        for words, table in spoken_lab.remedies(rows) if purpose == "remedies" else spoken_lab.boots(rows):
            say(words)
            show(table)
        say(*spoken_lab.remarks(rows), kept(len(made), "boots", store))

    answer(rows, json, people)
    if not rows["outcome"].isin(["ready", "censored"]).any():
        raise UnavailableError(f"None of the {len(rows)} boots of this plan was measured: {rows['detail'].iloc[0]}", "")


def _versions(word: str, kernels: dict[str, GuestKernel]) -> list[str]:
    """What a word for a kernel means here; one that means none stands for itself, and its cells are left out and say so."""
    from toolkit.errors import UnavailableError
    from toolkit.lab_kernels import find_kernels

    try:
        found = find_kernels([word])
    except UnavailableError:
        return [word]
    kernels |= {kernel.version: kernel for kernel in found}
    return [kernel.version for kernel in found]


def _all_of_it(store: Store, plan: BootPlan, host: str, runs: list[str]) -> pd.DataFrame:
    """All boots of this matrix, those that were there among them."""
    boots = store.read("boots", host=host)
    of_it = boots[(boots["plan_sha256"] == plan.sha256) & boots["run_id"].isin(runs)]
    # One that failed or could not be had at first, and then was made, is the one that was made; else it is as it was last.
    last = of_it.assign(had=of_it["outcome"].isin(["ready", "censored"])).sort_values(["had", "run_id"], kind="stable")
    return last.drop_duplicates(["cell", "remedy", "repeat"], keep="last").drop(columns="had").sort_index().reset_index(drop=True)
