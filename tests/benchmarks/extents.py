"""Listing a file's extents as a DataFrame, against ``filefrag -v`` with its output thrown away."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import toolkit
from tests.benchmarks.figures import Figure, against

BLOCK_BYTES = 4096


def figures() -> Iterator[Figure]:
    """Files of which every other block is allocated, so that each block is an extent."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for count in (100_000, 1_000_000):
            file = Path(folder, str(count))
            with file.open("wb") as made:
                for number in range(count):
                    os.posix_fallocate(made.fileno(), 2 * number * BLOCK_BYTES, BLOCK_BYTES)
                os.fsync(made.fileno())
            assert len(toolkit.extents(file)) == count

            def filefrag(file: Path = file) -> None:
                subprocess.run(["filefrag", "-v", file], check=True, stdout=subprocess.DEVNULL)

            def ours(file: Path = file) -> None:
                toolkit.extents(file)

            yield against(f"extents of a file of {count:,}, as a DataFrame", ours, "filefrag -v", filefrag, rounds=11, goal=1.0)
            file.unlink()
