"""``toolkit report`` from the reference store: nothing comparable, so against the limit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import ROUNDS, Figure, seconds, within

REFERENCE = Path(__file__).parents[2] / "data" / "reference"


def figures() -> Iterator[Figure]:
    """The whole command, notebooks run anew each time."""

    def took() -> float:
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "toolkit", "report", "--store", REFERENCE, "--out", Path(out, "reports")]
            return seconds(lambda: subprocess.run(command, check=True, capture_output=True))

    yield within("toolkit report, reference store", [took() for _ in range(ROUNDS)], 60.0)
