"""Frames of guests made for an experiment: boots, reads behind a limit, readers at once, audits. The same every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.plots import made
from toolkit.store import open_store
from toolkit.tables import TABLES

SECOND = 10**9
PLAN = "reference"
#: Cell, seconds to ready of each boot (None: not within the budget), and what differs of the guest.
CELLS: tuple[tuple[str, Sequence[float | None], dict[str, Any]], ...] = (
    ("6.1 · rdrand trusted", (0.02, 0.03, 0.02, 0.02, 0.03), {"rdrand": "trusted", "remedy": "rdrand"}),
    ("6.1 · virtio-rng unlimited", (5.1, 5.3, 4.9, 5.2, 5.0), {"virtio_rng_backend": "rng-random", "remedy": "virtio-rng"}),
    ("6.1 · no source", (8.6, 8.9, 8.4, 8.8, 8.5), {}),
    (
        "6.1 · virtio-rng 1024 B / 1000 ms",
        (26.4, 26.1, 26.9, None, 27.2),
        {"virtio_rng_backend": "rng-random", "virtio_rng_max_bytes": 1024, "virtio_rng_period_ms": 1000, "remedy": "virtio-rng"},
    ),
    (
        "6.1 · virtio-rng 4 B / 4000 ms",
        (65.3, None, None, 66.0, None),
        {"virtio_rng_backend": "rng-random", "virtio_rng_max_bytes": 4, "virtio_rng_period_ms": 4000, "remedy": "virtio-rng"},
    ),
)
REMEDIES: tuple[tuple[str, Sequence[float | None], dict[str, Any]], ...] = (
    ("none", (61.0, 75.0, None, None, None), {}),
    ("virtio-rng", (5.1, 5.3, 4.9, 5.2, 5.0), {"virtio_rng_backend": "rng-random"}),
    ("haveged", (11.0, 12.1, 11.4, 11.8, 12.6), {"feeder_cpu_s": 1.4}),
    ("jitterentropy-rngd", (13.5, 13.0, 14.2, 13.1, 13.9), {"feeder_cpu_s": 0.6}),
    ("rdrand", (0.02, 0.03, 0.02, 0.02, 0.03), {"rdrand": "trusted"}),
)
_DEVICE: dict[str, Any] = {"virtio_rng_backend": "/dev/urandom"}
_TIGHT: dict[str, Any] = {**_DEVICE, "virtio_rng_max_bytes": 4, "virtio_rng_period_ms": 4000}
_KIB: dict[str, Any] = {**_DEVICE, "virtio_rng_max_bytes": 1024, "virtio_rng_period_ms": 1000}
_QUIET: dict[str, Any] = {"asked": "nothing", "waits": None, "longest_wait_ns": None, "wait_censored": None}
#: What the plan of the reference data boots on its newer kernel: thirteen configurations, with times as they come.
MATRIX: tuple[tuple[str, Sequence[float | None], dict[str, Any]], ...] = (
    ("trusted", (0.11, 0.1, 0.12, 0.11, 0.1), {"rdrand": "trusted"}),
    ("untrusted", (4.3, 4.4, 4.35, 4.1, 4.5), {"rdrand": "untrusted"}),
    ("none, getrandom", (3.3, 3.4, 3.2, 3.5, 3.3), {}),
    ("unlimited, getrandom", (2.0,) * 5, _DEVICE),
    ("1 KiB, getrandom", (2.3, 2.4, 2.2, 2.3, 2.5), _KIB),
    ("4 B, getrandom", (3.3, 3.2, 3.4, 3.6, 3.1), _TIGHT),
    ("none, urandom", (3.9, 4.0, 3.8, 3.9, 4.1), {"asked": "urandom"}),
    ("none, nothing", (None,) * 5, _QUIET),
    ("unlimited, nothing", (2.2, 2.1, 2.3, 2.2, 2.4), {**_DEVICE, **_QUIET}),
    ("1 KiB, nothing", (2.4, 2.5, 2.3, 2.6, 2.4), {**_KIB, **_QUIET}),
    ("4 B, nothing", (66.7, 67.0, 66.2, None, 67.4), {**_TIGHT, **_QUIET}),
    ("hwrng, nothing", (2.27, 2.3, 2.2, 2.25, 2.4), {"virtio_rng_backend": "/dev/hwrng", **_QUIET}),
    ("egd, nothing", (2.6, 2.7, 2.65, 2.6, 2.8), {"virtio_rng_backend": "egd", **_QUIET}),
)


def boots(
    cells: Sequence[tuple[str, Sequence[float | None], dict[str, Any]]] = CELLS,
    plan: str = PLAN,
    budget_s: float = 90.0,
    host: str = "host-a",
) -> pd.DataFrame:
    rows = [_boot(cell, repeat, ready_s, budget_s, more) for cell, ready, more in cells for repeat, ready_s in enumerate(ready)]
    rng = np.random.default_rng(1)
    for row, position in zip(rows, rng.permutation(len(rows)), strict=True):
        row["position"] = int(position)
    columns = sorted({name for row in rows for name in row})
    frame = {name: [row.get(name) for row in rows] for name in columns}
    ids = [f"{plan}-{place:04d}" for place in range(len(rows))]
    return TABLES["boots"].frame(
        {
            **made.common(len(rows), host=host, run=f"run-{plan}"),
            **frame,
            "guest": ids,
            "boot_id": ids,
            "plan": [plan] * len(rows),
            "plan_sha256": ["0" * 64] * len(rows),
        }
    )


def matrix(plan: str = "matrix", kernel: str = "6.1.0-44-amd64", host: str = "host-a") -> pd.DataFrame:
    return boots(MATRIX, plan, host=host).assign(kernel=kernel)


def remedies(plan: str = "remedies", host: str = "host-a") -> pd.DataFrame:
    return boots([(name, ready, {"remedy": name, **more}) for name, ready, more in REMEDIES], plan, host=host)


def _boot(cell: str, repeat: int, ready_s: float | None, budget_s: float, more: dict[str, Any]) -> dict[str, Any]:
    ready = ready_s is not None
    watched_s = 20.0  # of all alike
    busy_s = 3.0 + 0.02 * watched_s + more.get("feeder_cpu_s", 0.0)
    return {
        "cell": cell,
        "repeat": repeat,
        "kernel": "6.1.0-44-amd64",
        "accelerator": "tcg",
        "cpu": "qemu64",
        "rdrand": "absent",
        "remedy": "none",
        "asked": "getrandom",
        "outcome": "ready" if ready else "censored",
        "detail": None if ready else f"not ready {budget_s:g} s after its boot",
        "budget_s": budget_s,
        "user_space_s": 2.5,
        "crng_ready_s": ready_s,
        "waits": 1,
        "longest_wait_ns": round(max((ready_s if ready_s is not None else budget_s) - 2.5, 1e-5) * SECOND),
        "wait_censored": not ready,
        "urandom_warnings": 0,
        "guest_cpu_s": busy_s + 0.01 * repeat,
        "qemu_cpu_s": 1.5 * busy_s + 0.02 * repeat,
        "watched_s": watched_s,
        **more,
    }


def limited_reads(
    max_bytes: int = 1024,
    period_ms: int = 1000,
    block: int = 64,
    periods: int = 8,
    *,
    speed: float = 1.0,
    read_us: float = 30.0,
    jitter: float = 0.0,
    stock: int = 0,
    guest: str = "limited",
    seed: int = 5,
    run: str = "run-rates",
) -> pd.DataFrame:
    """Reads of /dev/hwrng behind a quota of ``max_bytes * speed`` that is filled again each period and carries nothing over.

    A read ends when its last byte came. ``stock`` bytes lie ready before the first; ``jitter`` is the share of a period by which
    the quota comes later than it should.
    """
    rng = np.random.default_rng(seed)
    now = 50 * SECOND
    period_ns, read_ns = round(period_ms * 1e6), round(read_us * 1e3)
    starts = [now + place * period_ns + round(jitter * rng.random() * period_ns) for place in range(periods)]
    quota, place = stock + max_bytes * speed, 0
    rows: list[tuple[int, int]] = []
    while True:
        called, missing = now, block
        while quota < missing and place < periods:
            missing -= int(quota)
            quota -= int(quota)
            place += 1
            if place < periods:
                now = max(now, starts[place])
                quota = quota % 1 + max_bytes * speed
        if place == periods:
            break
        quota -= missing
        now += read_ns + round(0.3 * read_ns * rng.random())
        rows.append((called, now - called))
    return _reads(rows, block, guest, run)


def _reads(rows: Sequence[tuple[int, int]], block: int, guest: str, run: str) -> pd.DataFrame:
    n = len(rows)
    return TABLES["source_reads"].frame(
        {
            **made.common(n, guest=guest, run=run, boot=f"boot-{guest}"),
            "t_ns": [called for called, _ in rows],
            "source": ["/dev/hwrng"] * n,
            "block_bytes": [block] * n,
            "read_bytes": [block] * n,
            "wait_ns": [wait for _, wait in rows],
        }
    )


def steady_reads(block: int = 64, reads: int = 500, read_us: float = 50.0, guest: str = "unlimited") -> pd.DataFrame:
    step = round(read_us * 1e3)
    return _reads([(SECOND + place * step, step) for place in range(reads)], block, guest, "run-rates")


def limits(*of: tuple[str, int | None, int | None], run: str = "run-rates") -> pd.DataFrame:
    """``rng_state`` of guests: name, max_bytes, period_ms."""
    n = len(of)
    return TABLES["rng_state"].frame(
        {
            "run_id": [run] * n,
            "host": ["host-a"] * n,
            "guest": [name for name, _, _ in of],
            "boot_id": [f"boot-{name}" for name, _, _ in of],
            "regime": ["latched"] * n,
            "crng_ready": [True] * n,
            "virtio_rng_backend": ["rng-random"] * n,
            "virtio_rng_max_bytes": [size for _, size, _ in of],
            "virtio_rng_period_ms": [period for _, _, period in of],
        }
    )


def drain_reads(guests: int = 1, readers: int = 3, repeats: int = 3, scenario: str = "readers", skew: float = 0.0) -> pd.DataFrame:
    """Readers of one or several guests; of /dev/hwrng in shares that ``skew`` makes unequal between guests."""
    rng = np.random.default_rng(9)
    sources = ("getrandom", "/dev/random", "/dev/hwrng")
    rows = []
    for repeat in range(repeats):
        for guest in range(guests):
            for reader in range(readers):
                source = sources[reader % 3] if scenario == "readers" else "/dev/hwrng"
                mean_s = 0.2 * guests * (1 + skew * guest) if source == "/dev/hwrng" else 4e-5
                rows += _drained(rng, scenario, repeat, (guest, guests), (reader, readers), source, mean_s)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return TABLES["drain_reads"].frame(columns)


def _drained(
    rng: np.random.Generator,
    scenario: str,
    repeat: int,
    guest: tuple[int, int],
    reader: tuple[int, int],
    source: str,
    mean_s: float,
) -> list[dict[str, Any]]:
    now, end, found = 20 * SECOND, 30 * SECOND, []
    name = f"drain-{guest[1]}-{guest[0]}"
    while now < end:
        wait = round(mean_s * SECOND * rng.lognormal(0, 0.1))
        cut = now + wait > end and source == "/dev/hwrng"
        found.append(
            {
                "run_id": "run-drain",
                "host": "host-a",
                "guest": name,
                "boot_id": f"{name}-{repeat}",
                "t_ns": now,
                "scenario": scenario,
                "source": source,
                "repeat": repeat,
                "block_bytes": 64,
                "reader": f"{source.rsplit('/', 1)[-1]}-{reader[0]}",
                "virtio_rng_backend": "rng-random",
                "guests_at_once": guest[1],
                "readers_at_once": reader[1],
                "read_bytes": None if cut else 64,
                "wait_ns": end - now if cut else wait,
                "wait_censored": cut,
            }
        )
        now += wait + (0 if source == "/dev/hwrng" else 50_000_000)
    return found


def audits() -> pd.DataFrame:
    cases = (
        ("web-1", "sound", "", "ready, virtio_rng.0 bound", None),
        ("db-1", "at risk", "limit_low", "4 bytes per 4000 ms", "virsh edit db-1"),
        ("mail-1", "starving", "no_source", "not ready 300 s after boot", "toolkit guests attach mail-1 --rng"),
        ("old-1", "cannot tell", "no_agent", "the guest did not answer", "install qemu-guest-agent in it"),
    )
    n = len(cases)
    return TABLES["audits"].frame(
        {
            **made.common(n, run="run-audit"),
            "guest": [name for name, *_ in cases],
            "boot_id": [f"boot-{name}" for name, *_ in cases],
            "utc": [pd.Timestamp("2026-01-02T03:04:05Z")] * n,
            "uri": ["qemu:///system"] * n,
            "domain_uuid": [f"uuid-{name}" for name, *_ in cases],
            "verdict": [verdict for _, verdict, *_ in cases],
            "causes": [causes for _, _, causes, *_ in cases],
            "evidence": [evidence for *_, evidence, _ in cases],
            "remedy": [remedy for *_, remedy in cases],
            "regime": ["latched", "latched", "estimating", None],
        }
    )


def store(path: Path) -> Path:
    """The small store of :func:`tests.plots.made.store`, and the tables of made guests with it."""
    made.store(path)
    opened = open_store(path)
    for name, frame in (
        ("boots", boots()),
        ("boots", matrix()),
        ("boots", remedies()),
        ("source_reads", limited_reads()),
        ("source_reads", steady_reads(reads=100)),
        ("rng_state", limits(("limited", 1024, 1000), ("unlimited", None, None))),
        (
            "drain_reads",
            pd.concat([drain_reads(repeats=1), drain_reads(2, 1, scenario="fairness"), drain_reads(4, 1, scenario="fairness")]),
        ),
        ("audits", audits()),
    ):
        opened.append(name, frame)
    return path
