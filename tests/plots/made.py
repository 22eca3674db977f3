"""Frames made for the tests of plots, widgets and notebooks: as a measurement leaves them, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.store import open_store
from toolkit.tables import TABLES

MIB = 2**20
BOOT = "7d3f1c52-0000-4000-8000-000000000001"
FILESYSTEMS = ("ext2", "ext3", "ext4", "ext4-noextents", "xfs", "btrfs", "tmpfs")
METHODS = ("posix_fallocate", "fallocate", "mmap_memset", "write_4k", "write_8k", "write_64k", "ftruncate")
EOPNOTSUPP = 95

_NO_FALLOCATE = ("ext2", "ext3", "ext4-noextents")
_FAST_S = {"ext4": 3e-4, "xfs": 6e-4, "btrfs": 1e-4, "tmpfs": 0.072}
_SLOW_S = {"ext2": 0.4, "ext3": 0.43, "ext4": 0.17, "ext4-noextents": 0.39, "xfs": 0.15, "btrfs": 0.27, "tmpfs": 0.09}
_EXTENTS = {"ext2": 68, "ext3": 68, "ext4": 3, "ext4-noextents": 66, "xfs": 1, "btrfs": 2}


def common(rows: int, host: str = "host-a", guest: str | None = None, run: str = "run-1", boot: str = BOOT) -> dict[str, object]:
    return {"run_id": [run] * rows, "host": [host] * rows, "guest": [guest] * rows, "boot_id": [boot] * rows}


def allocations(
    filesystems: tuple[str, ...] = FILESYSTEMS,
    methods: tuple[str, ...] = METHODS,
    sizes: tuple[int, ...] = (256 * MIB,),
    repeats: int = 5,
    host: str = "host-a",
    run: str = "run-1",
) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    rows: list[dict[str, object]] = []
    for size in sizes:
        for filesystem in filesystems:
            for method in methods:
                rows += [_allocation(rng, filesystem, method, size, repeat) for repeat in range(repeats)]
    frame = pd.DataFrame(rows)
    frame["position"] = rng.permutation(len(frame))
    return TABLES["allocations"].frame({**common(len(frame), host=host, run=run), **{name: frame[name] for name in frame}})


def _allocation(rng: np.random.Generator, filesystem: str, method: str, size: int, repeat: int) -> dict[str, object]:
    refused = method == "fallocate" and filesystem in _NO_FALLOCATE
    emulated = method == "posix_fallocate" and filesystem in _NO_FALLOCATE
    fast = method in ("posix_fallocate", "fallocate") and not emulated
    scale = size / (256 * MIB)
    if method == "ftruncate":
        seconds = 1.2e-5
    elif fast:
        seconds = _FAST_S.get(filesystem, 0.4)
    else:
        factor = {"mmap_memset": 1.3, "write_4k": 1.25, "write_8k": 1.1}.get(method, 1.0)
        seconds = _SLOW_S[filesystem] * factor * scale
    extents = None if filesystem == "tmpfs" else 0 if method == "ftruncate" else round(_EXTENTS[filesystem] * (1 if fast else 1.4))
    return {
        "filesystem": filesystem,
        "mkfs_options": "",
        "mount_options": "noatime",
        "ageing": None,
        "method": method,
        "size_bytes": size,
        "repeat": repeat,
        "allocate_ns": None if refused else round(seconds * 1e9 * rng.lognormal(0, 0.12)),
        "overhead_ns": None if refused else 900,
        "sync_ns": None if refused else round(2e7 * rng.lognormal(0, 0.2)),
        "errno": EOPNOTSUPP if refused else None,
        "emulated": emulated,
        "allocated_bytes": None if refused else 0 if method == "ftruncate" else size,
        "extents": None if refused else extents,
        "discontinuities": None if refused or extents is None else max(0, extents // 4),
    }


def extents(pieces: int = 12, file: str = "disk.img") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    length = 8 * MIB
    physical = (
        100 * MIB + np.cumsum(np.where(rng.random(pieces) < 0.3, rng.integers(1, 64, pieces) * MIB, 0)) + np.arange(pieces) * length
    )
    return TABLES["extents"].frame(
        {
            **common(pieces),
            "file": [file] * pieces,
            "layer": [0] * pieces,
            "logical_byte": np.arange(pieces) * length,
            "physical_byte": physical,
            "length_bytes": [length] * pieces,
            "flags": ["unwritten" if place % 4 == 3 else "" for place in range(pieces)],
        }
    )


def rng_state(regime: str = "latched", targets: int = 1, ready_s: tuple[float, ...] = (0.9,), **columns: object) -> pd.DataFrame:
    rows = max(targets, len(ready_s))
    made = {
        "run_id": [f"run-{place}" for place in range(rows)],
        "host": ["host-a"] * rows,
        "guest": [None] * rows,
        "boot_id": [BOOT] * rows if rows == 1 else [f"{BOOT[:-2]}{place:02d}" for place in range(rows)],
        "regime": [regime] * rows,
        "poolsize_bits": [4096 if regime in ("blocking", "estimating") else 256] * rows,
        "crng_ready": [True] * rows,
        "crng_ready_s": list(ready_s) if len(ready_s) == rows else [ready_s[0]] * rows,
        "urandom_warnings": [0] * rows,
        "vm_fork_reseeds": [0] * rows,
        "hwrng_available": ["virtio_rng.0"] * rows,
        "hwrng_current": ["virtio_rng.0"] * rows,
        "hwrng_quality": [1024] * rows,
        "cpu_rdrand": [True] * rows,
        "cpu_rdseed": [True] * rows,
        "trust_cpu": [True] * rows,
        "feeders": [""] * rows,
    }
    return TABLES["rng_state"].frame({**made, **columns})


def entropy_samples(
    regime: str = "latched", count: int = 600, host: str = "host-a", guest: str | None = None, boot: str = BOOT
) -> pd.DataFrame:
    step_ns = 100_000_000
    t_ns = 5_000_000_000 + np.arange(count) * step_ns
    place = np.arange(count)
    ready = np.ones(count, dtype=bool)
    readable = np.ones(count, dtype=bool)
    bits = np.full(count, 256)
    if regime == "blocking":
        bits = (300 + 280 * np.cos(place / 40)).astype(int)
        readable = bits >= 64
    elif regime == "estimating":
        ready = place >= count // 5
        readable = ready
        bits = np.minimum(3800, place * 8)
    elif regime == "draining":
        bits = (place * 4) % 256
    return TABLES["entropy_samples"].frame(
        {
            **common(count, host=host, guest=guest, boot=boot),
            "t_ns": t_ns,
            "utc": pd.Timestamp("2026-01-02T03:04:05Z") + pd.to_timedelta(place * step_ns),
            "entropy_avail_bits": bits,
            "crng_ready": ready,
            "random_readable": readable,
        }
    )


def unseen(samples: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The samples with nulls in some columns."""
    return samples.assign(**{name: pd.Series([None] * len(samples), dtype=samples[name].dtype) for name in columns})


def source_reads(reads: int = 9, hwrng_bytes_per_second: float = 1024.0) -> pd.DataFrame:
    """Software sources at 80 to 530 MB/s; hwrng behind a limit: a burst a second."""
    rng = np.random.default_rng(11)
    rows: list[dict[str, object]] = []
    now = 9_000_000_000
    for source in ("getrandom", "/dev/random", "/dev/urandom"):
        for block in (64, 1024, 4096, 65536):
            rate = 530e6 * block / (block + 360)
            for _ in range(reads):
                wait = round(block / rate * 1e9 * rng.lognormal(0, 0.1))
                rows.append(
                    {"t_ns": now, "source": source, "block_bytes": block, "read_bytes": block, "wait_ns": wait, "errno": None}
                )
                now += wait + 1000
    for block in (64, 1024):
        for _ in range(reads):
            wait = round(block / hwrng_bytes_per_second * 1e9 * rng.lognormal(0, 0.05))
            rows.append(
                {"t_ns": now, "source": "/dev/hwrng", "block_bytes": block, "read_bytes": block, "wait_ns": wait, "errno": None}
            )
            now += wait + 1000
    frame = pd.DataFrame(rows)
    return TABLES["source_reads"].frame({**common(len(frame)), **{name: frame[name] for name in frame}})


def runs(host: str = "host-a", run: str = "run-1") -> pd.DataFrame:
    return TABLES["runs"].frame(
        {
            **common(1, host=host, run=run),
            "started_utc": [pd.Timestamp("2026-01-02T03:04:05Z")],
            "command": ["toolkit report"],
            "settings_json": ["{}"],
            "seed": [1],
            "toolkit_version": ["0.1"],
            "kernel": ["6.18.0"],
            "cpu_model": ["A processor"],
            "cpu_count": [2],
            "memory_bytes": [8 * 2**30],
            "hypervisor": ["kvm"],
        }
    )


def capabilities() -> pd.DataFrame:
    return TABLES["capabilities"].frame(
        {
            **common(3),
            "capability": ["filesystem ext4", "filesystem zfs", "power"],
            "available": [True, False, False],
            "detail": ["mkfs.ext4 and the kernel have it", "the kernel has no zfs", "no RAPL in /sys/class/powercap"],
            "remedy": [None, "install zfs-dkms", None],
        }
    )


def channel_health(guest: str = "web-1", **counts: int) -> pd.DataFrame:
    """Two seconds of a guest's channel, with what is missing of them in the first."""
    names = TABLES["channel_health"].columns[5:-1]
    rows = {name: [counts.get(name, 0), 0] for name in names}
    when = {"t_ns": [10**9, 2 * 10**9], "utc": pd.to_datetime([10**18, 10**18 + 10**9], utc=True)}
    return TABLES["channel_health"].frame({**common(2, guest=guest), **when, **rows, "records": [7, 8]})


def channel_events(guest: str = "web-1", event: str = "connected", detail: str = "agent 0.1.0") -> pd.DataFrame:
    when = {"t_ns": [10**9], "utc": pd.to_datetime([10**18], utc=True)}
    return TABLES["channel_events"].frame({**common(1, guest=guest), **when, "event": [event], "detail": [detail]})


def store(path: Path) -> Path:
    """A small store with a row of everything."""
    made = open_store(path)
    for name, frame in (
        ("runs", runs()),
        ("capabilities", capabilities()),
        ("rng_state", rng_state()),
        ("entropy_samples", entropy_samples(count=100)),
        ("source_reads", source_reads(reads=4)),
        ("allocations", allocations(filesystems=("ext3", "ext4", "xfs"), sizes=(4 * MIB, 16 * MIB), repeats=3)),
        ("extents", extents()),
        ("channel_health", channel_health()),
        ("channel_events", channel_events()),
    ):
        made.append(name, frame)
    return path
