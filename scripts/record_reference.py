"""Records data/reference anew on this machine: `make reference`, as root. The commands are kept in the store's table runs.

It takes about five minutes, and what else runs meanwhile is in the figures. The old store is put back if a command fails.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import toolkit
from toolkit import runs

ROOT = Path(__file__).resolve().parent.parent
STORE = Path("data/reference")
KEPT = Path("data/.reference-before")
CHUNK_BYTES = 64 * 1024
CHUNKS = 512
IMAGE_BYTES = 512 * 1024 * 1024
SEED = 20090302

SURVEY = ["measure", "--no-guests", "--for", "60s", "--budget", "2s", "--size", "256MiB", "--repeat", "7", "--seed", str(SEED)]


@contextmanager
def sparse_image() -> Iterator[Path]:
    """A sparse disk image as a guest fills it: here and there, each write flushed before the next, so that it falls into pieces."""
    places = random.Random(SEED).sample(range(IMAGE_BYTES // CHUNK_BYTES), CHUNKS)  # noqa: S311 - places, not secrets
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # on a disk, which the default may not be
        path = Path(folder, "sparse.img")
        with path.open("wb") as image:
            image.truncate(IMAGE_BYTES)
            for chunk in places:
                os.pwrite(image.fileno(), bytes(CHUNK_BYTES), chunk * CHUNK_BYTES)
                os.fsync(image.fileno())
        yield path


def survey() -> None:
    """Measure this machine."""
    subprocess.run([Path(sys.executable).parent / "toolkit", *SURVEY, "--store", str(STORE)], check=True)


def map_image() -> None:
    """Map a file in many pieces."""
    with sparse_image() as file:
        run = runs.begin(
            "scripts/record_reference.py", {"image_bytes": IMAGE_BYTES, "chunk_bytes": CHUNK_BYTES, "chunks": CHUNKS}, SEED
        )
        # Without its folder, which is gone when anybody reads this and whose name says nothing.
        found = toolkit.extents(file, run=run).assign(file=file.name)
    store = toolkit.open_store(STORE, create=False)
    store.append("runs", run.row())
    store.append("extents", found)


def main() -> None:
    """Put the old store aside, record, and put it back if that fails."""
    os.chdir(ROOT)
    if os.geteuid() != 0:
        sys.exit("error: the reference store holds scratch file systems, which need root: sudo make reference")
    if STORE.exists():
        STORE.rename(KEPT)
    try:
        survey()
        map_image()
    except BaseException:
        shutil.rmtree(STORE, ignore_errors=True)
        if KEPT.exists():
            KEPT.rename(STORE)
        raise
    if KEPT.exists():
        shutil.rmtree(KEPT)
    size = sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file())
    print(f"{STORE}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
