"""Records data/reference anew on this machine: `make reference`, as root. The commands are kept in the store's table runs.

The machine itself takes about five minutes; the guests made for an experiment take more than an hour without KVM, and go on where
they were interrupted. What else runs meanwhile is in the figures. One part can be recorded alone, `make reference PART=machine` (or
lab); the other then stays as it is. The store is replaced at the very end, as a whole.
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

import pandas as pd

import toolkit
from toolkit import runs

ROOT = Path(__file__).resolve().parent.parent
STORE = Path("data/reference")
# What is recorded lies here until all of it is there.
MACHINE = Path("data/.reference-machine")
LAB = Path("data/.reference-lab")
MADE = Path("data/.reference-made")
CHUNK_BYTES = 64 * 1024
CHUNKS = 512
IMAGE_BYTES = 512 * 1024 * 1024
SEED = 20090302

SURVEY = ["measure", "--no-guests", "--for", "60s", "--budget", "2s", "--size", "256MiB", "--repeat", "7", "--seed", str(SEED)]

GUESTS = [
    ["lab", "readiness", "--plan", "reference", "--seed", str(SEED)],
    ["lab", "remedies", "--seed", str(SEED)],
    ["lab", "rates", "--bytes", "16", "--bytes", "1KiB"],
    # By themselves: without KVM a guest reaches a megabyte a second only where the machine has nothing else to do.
    ["lab", "rates", "--bytes", "100KiB", "--no-unlimited"],
    ["lab", "drain", "--seed", str(SEED)],
]
# How the runs of guests begin, in the table runs.
OF_GUESTS = "toolkit lab"


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


def toolkit_command(*words: str, store: Path) -> None:
    """Run a command of the toolkit."""
    subprocess.run([Path(sys.executable).parent / "toolkit", *words, "--store", str(store)], check=True)


def map_image(to: Path) -> None:
    """Map a file in many pieces."""
    with sparse_image() as file:
        run = runs.begin(
            "scripts/record_reference.py", {"image_bytes": IMAGE_BYTES, "chunk_bytes": CHUNK_BYTES, "chunks": CHUNKS}, SEED
        )
        # Without its folder, which is gone when anybody reads this and whose name says nothing.
        found = toolkit.extents(file, run=run).assign(file=file.name)
    store = toolkit.open_store(to, create=False)
    store.append("runs", run.row())
    store.append("extents", found)


def record_machine() -> None:
    """Measure this machine; what an interruption left is of no use."""
    shutil.rmtree(MACHINE, ignore_errors=True)
    toolkit_command(*SURVEY, store=MACHINE)
    map_image(MACHINE)


def record_guests() -> None:
    """Boot the guests; those matrices that were interrupted go on, and what was finished is not measured again."""
    kept = list(toolkit.open_store(LAB).read("runs")["command"]) if LAB.exists() else []
    for words in GUESTS:
        # A run is kept when it is over, but for those of a matrix, which knows itself what is left of it.
        matrix = words[1] in ("readiness", "remedies")
        if matrix or not any(command.startswith(" ".join(["toolkit", *words])) for command in kept):
            toolkit_command(*words, store=LAB)


def made_of(parts: dict[bool, Path]) -> None:
    """Write a new store: of each part (whether it is that of the guests) the rows of its own runs, a file a table."""
    shutil.rmtree(MADE, ignore_errors=True)
    made = toolkit.open_store(MADE)
    tables: dict[str, list[pd.DataFrame]] = {}
    for of_guests, folder in parts.items():
        store = toolkit.open_store(folder, create=False)
        commands = store.read("runs").set_index("run_id")["command"]
        wanted = commands.index[commands.str.startswith(OF_GUESTS) == of_guests]
        for name in store.tables():
            rows = store.read(name)
            tables.setdefault(name, []).append(rows[rows["run_id"].isin(wanted)])
    for name, frames in tables.items():
        made.append(name, pd.concat(frames, ignore_index=True))


def main(part: str) -> None:
    """Record what is asked for, and replace the store."""
    os.chdir(ROOT)
    if part not in ("all", "machine", "lab"):
        sys.exit(f"error: there is no part {part!r} of the reference store. Give machine or lab, or nothing for all.")
    if os.geteuid() != 0:
        sys.exit("error: the reference store holds scratch file systems, which need root: sudo make reference")
    if part != "lab":
        record_machine()
    if part != "machine":
        record_guests()
    made_of({False: STORE if part == "lab" else MACHINE, True: STORE if part == "machine" else LAB})
    shutil.rmtree(STORE)
    MADE.rename(STORE)
    for folder in (MACHINE, LAB):
        shutil.rmtree(folder, ignore_errors=True)
    size = sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file())
    print(f"{STORE}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["all"])
