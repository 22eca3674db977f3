"""How long ``import toolkit`` and ``toolkit --help`` take, in a fresh process each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.figures import Figure, against, within


def figures() -> Iterator[Figure]:
    """Whole processes; the bare interpreter is the peer that shows what Python itself costs here."""

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    yield within("python -c 'import toolkit'", lambda: run("-c", "import toolkit"), 0.150, rounds=11)
    yield within("toolkit --help", lambda: run("-m", "toolkit", "--help"), 0.400, rounds=11)
    yield against("toolkit --help", lambda: run("-m", "toolkit", "--help"), "python -c pass", lambda: run("-c", "pass"), rounds=11)
