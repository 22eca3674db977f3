"""A store of a fleet's samples, for the benchmarks: 200 guests that look ten times a second, and starve now and then."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

from toolkit.store import Store, open_store
from toolkit.store.layout import MARKER

GUESTS = 200
INTERVAL_NS = 100_000_000


def samples(guest: int, rows: int) -> pd.DataFrame:
    """One boot of a guest under the regime ``blocking``: a pool that is drained for a while, twice in a thousand looks."""
    random = np.random.default_rng(guest)
    bits = random.integers(500, 3500, rows)
    for begin in random.integers(0, rows, rows // 500):
        bits[begin : begin + random.integers(1, 40)] = random.integers(0, 64)
    t_ns = 10**9 + INTERVAL_NS * np.arange(rows, dtype=np.int64)
    return pd.DataFrame(
        {
            "run_id": f"run-{guest % 7}",
            "host": "host-1",
            "guest": f"guest-{guest:03}",
            "boot_id": str(uuid.UUID(int=guest + 1)),
            "t_ns": t_ns,
            "utc": pd.to_datetime(t_ns + 1_700_000_000 * 10**9, utc=True),
            "entropy_avail_bits": bits,
            "crng_ready": True,
            "random_readable": bits >= 64,
        }
    )


def made(folder: Path, total: int, guests: int = GUESTS) -> Store:
    """A store of so many samples, a file a guest."""
    store = open_store(folder)
    for guest in range(guests):
        store.append("entropy_samples", samples(guest, total // guests))
    return store


def some(store: Store, folder: Path, every: int) -> Store:
    """A store of the samples of every so-manieth guest of another."""
    for file in sorted(store.files("entropy_samples"))[::every]:
        place = folder / file.relative_to(store.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    shutil.copyfile(store.path / MARKER, folder / MARKER)
    return open_store(folder, create=False)
