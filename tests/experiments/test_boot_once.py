"""Boots of guests, and what each tells: ready by what it was given, costs of one moment, the longest wait of what it asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import all_feeders, shared_cache
from tests.needs import require_lab
from tests.traces import traces
from toolkit.experiments.boot_once import boot_once, guest_for
from toolkit.experiments.boot_plan import BootPlan, Cell, plan_of
from toolkit.guests.tiny import TinyGuest, boot_tiny
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
    plan = planned({"rdrand": ["trusted", "absent"], "asked": "nothing"})
    for _ in range(3):
        found = {cell.rdrand: row for cell, row in booted(plan).items()}
        # A machine that stands still for long makes guests look late, which is told as it is; then it is no trial of this.
        if all(row["watched_s"] < BUDGET_S for row in found.values()):
            break
    assert (found["trusted"]["outcome"], found["absent"]["outcome"]) == ("ready", "censored")
    for row in found.values():
        assert WATCH_S <= row["watched_s"] < BUDGET_S  # of one that is never ready too: its boot lasted longer
        assert 0 < row["guest_cpu_s"] <= row["watched_s"]
        assert row["qemu_cpu_s"] > 0.5 * row["guest_cpu_s"]


@pytest.fixture(scope="module")
def rows() -> dict[Cell, dict[str, Any]]:
    """Boots that end when each is ready; haveged's, which may never be, has less time."""
    all_feeders()
    backends = ["/dev/urandom", "/dev/random", "builtin", "egd", *(["/dev/hwrng"] if Path("/dev/hwrng").exists() else [])]
    plan = planned(
        {"asked": "nothing", "rng": "1KiB/1s", "backend": backends},
        {"asked": ["getrandom", "urandom"]},
        {"asked": "nothing", "remedy": ["rngd", "jitterentropy-rngd"]},
        watch_s=0,
        budget_s=120,
    )
    spinning = planned({"asked": "nothing", "remedy": "haveged"}, watch_s=0)
    # Side by side: what spins for its budget holds up no other.
    with shared_cache(), ThreadPoolExecutor(2) as pool:
        first, second = pool.map(booted, [spinning, plan])
        return {**first, **second}


@pytest.mark.lab
@pytest.mark.slow
def test_a_guest_in_which_nothing_asks_is_ready_by_a_limited_device_whatever_feeds_it(rows: dict[Cell, dict[str, Any]]) -> None:
    fed = {cell.backend: row for cell, row in rows.items() if cell.rng == "1KiB/1s"}
    assert len(fed) >= 4
    for backend, row in fed.items():
        assert row["outcome"] == "ready", (backend, row["detail"])
        assert row["virtio_rng_backend"] == backend
        assert (row["virtio_rng_max_bytes"], row["virtio_rng_period_ms"]) == (1024, 1000)
        assert "longest_wait_ns" not in row


@pytest.mark.lab
@pytest.mark.slow
def test_what_early_user_space_asks_for_waits_where_there_is_no_source_by_whichever_way(rows: dict[Cell, dict[str, Any]]) -> None:
    """Since Linux 5.18 it is the first read of /dev/urandom that waits, for as long as getrandom does where that is asked first."""
    asked = {cell.asked: row for cell, row in rows.items() if cell.asked != "nothing"}
    for row in asked.values():
        assert row["outcome"] == "ready"
        assert not row["wait_censored"]
        assert row["longest_wait_ns"] > 0.1 * 10**9
    assert (asked["getrandom"]["waits"], asked["urandom"]["waits"]) == (64, 84)


@pytest.mark.lab
@pytest.mark.slow
def test_each_feeder_runs_in_a_guest_in_which_nothing_asks(rows: dict[Cell, dict[str, Any]]) -> None:
    fed = {cell.remedy: row for cell, row in rows.items() if cell.remedy != "none"}
    assert set(fed) == {"rngd", "jitterentropy-rngd", "haveged"}
    for remedy, row in fed.items():
        assert row["feeder_cpu_s"] > 0, remedy
    for remedy in ("rngd", "jitterentropy-rngd"):
        assert fed[remedy]["outcome"] == "ready", fed[remedy]["detail"]
        assert fed[remedy]["detail"] is None
    # It feeds whole bytes, and is spared a pool that lacks a few bits only where what was there were whole bytes too: docs/lab.md.
    if fed["haveged"]["outcome"] != "ready":
        assert fed["haveged"]["outcome"] == "censored"
        assert "the end of what haveged said: " in fed["haveged"]["detail"]
        assert "haveged: ver: 1.9" in fed["haveged"]["detail"]


@pytest.mark.lab
@pytest.mark.slow
def test_a_guest_has_shared_memory_as_haveged_needs_it() -> None:
    require_lab()
    with tempfile.TemporaryDirectory(prefix="boots-") as made:
        spec = TinyGuest(name="a", script="grep ' /dev/shm ' /proc/mounts > /out/mounts", rng=None)
        with boot_tiny([spec], Path(made).resolve()) as (guest,):
            assert b"tmpfs" in guest.result(240.0)["mounts"]


@pytest.mark.parametrize(("seconds", "whole"), [(4.2, "5"), (4.0, "4"), (0.4, "1")])
def test_a_guest_is_not_given_up_before_its_budget_has_passed(seconds: float, whole: str) -> None:
    (kernel,) = find_kernels()
    plan = planned({"asked": "nothing"}, watch_s=seconds, budget_s=seconds)
    script = guest_for(plan.cells[0], plan, kernel, "a").script.splitlines()
    assert {f"budget_s={whole}", f"watch_s={whole}"} <= set(script)
