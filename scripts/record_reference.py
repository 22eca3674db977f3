"""Records data/reference anew on this machine: `make reference`, as root. The commands are kept in the store's table runs.

It takes about ten minutes, and what else runs meanwhile is in the figures. The old store is put back if a command fails.
"""

from __future__ import annotations

import os
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
CHUNKS = 256

SURVEY = ["measure", "--for", "60s", "--budget", "2s", "--size", "256MiB", "--repeat", "7", "--seed", "20090302"]


@contextmanager
def interleaved() -> Iterator[Path]:
    """A file in many pieces: two files grow in turn, each chunk written out before the other's, so that neither can lie in one."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # on a disk, which the default may not be
        files = [
            os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) for name in ("interleaved.img", "other.img")
        ]
        for _ in range(CHUNKS):
            for file in files:
                os.write(file, bytes(CHUNK_BYTES))
                os.fsync(file)
        for file in files:
            os.close(file)
        yield Path(folder, "interleaved.img")


def record() -> None:
    """Survey this machine, and map a file in many pieces."""
    subprocess.run([Path(sys.executable).parent / "toolkit", *SURVEY, "--store", str(STORE)], check=True)
    with interleaved() as file:
        run = runs.begin("scripts/record_reference.py", {"chunk_bytes": CHUNK_BYTES, "chunks": CHUNKS})
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
        record()
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
