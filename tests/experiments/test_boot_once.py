"""Boots of guests, and what each tells: ready by what it was given, costs of one moment, the longest wait of what it asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.needs import require_lab
from tests.traces import traces
from toolkit.experiments.boot_once import boot_once, guest_for
from toolkit.experiments.boot_plan import BootPlan, Cell, plan_of
from toolkit.lab_kernels import find_kernels

#: Long enough for a guest beside another on a busy machine to come to its user space; costs are seen before the budget ends.
WATCH_S, BUDGET_S = 9, 18


def planned(*blocks: Mapping[str, Any], watch_s: float = WATCH_S, budget_s: float = BUDGET_S) -> BootPlan:
    said = {"boots": 1, "budget": f"{budget_s}s", "cells": [dict(block) for block in blocks]}
    if watch_s:
        said["watch"] = f"{watch_s}s"
    return plan_of(said, "mine", lambda word: [kernel.version for kernel in find_kernels([word])])


def booted(plan: BootPlan) -> dict[Cell, dict[str, Any]]:
    """The rows of a plan's boots, two guests at a time; nothing of them is left behind."""
    require_lab()
    kernels = {kernel.version: kernel for kernel in find_kernels()}
    with tempfile.TemporaryDirectory(prefix="boots-") as made, ThreadPoolExecutor(2) as pool:
        root = Path(made).resolve()
        order = plan.order(1)
        rows = list(pool.map(lambda boot: boot_once(boot, plan, kernels, root), order))
        assert traces(root) == []
    return {boot.cell: row for boot, row in zip(order, rows, strict=True)}


@pytest.mark.lab
@pytest.mark.slow
def test_costs_are_seen_at_one_moment_whether_a_guest_is_ready_or_not() -> None:
    rows = booted(planned({"rdrand": ["trusted", "absent"], "asked": "nothing"}))
    found = {cell.rdrand: row for cell, row in rows.items()}
    assert (found["trusted"]["outcome"], found["absent"]["outcome"]) == ("ready", "censored")
    for row in found.values():
        assert WATCH_S <= row["watched_s"] < BUDGET_S  # of one that is never ready too: its boot lasted longer
        assert 0 < row["guest_cpu_s"] <= row["watched_s"]
        assert row["qemu_cpu_s"] > 0.5 * row["guest_cpu_s"]


@pytest.mark.parametrize(("seconds", "whole"), [(4.2, "5"), (4.0, "4"), (0.4, "1")])
def test_a_guest_is_not_given_up_before_its_budget_has_passed(seconds: float, whole: str) -> None:
    (kernel,) = find_kernels()
    plan = planned({"asked": "nothing"}, watch_s=seconds, budget_s=seconds)
    script = guest_for(plan.cells[0], plan, kernel, "a").script.splitlines()
    assert {f"budget_s={whole}", f"watch_s={whole}"} <= set(script)
