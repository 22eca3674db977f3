"""How long ``import toolkit`` and ``toolkit --help`` take, in a fresh process each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.figures import Figure, compared, in_turn, seconds, within


def figures() -> Iterator[Figure]:
    """Whole processes; the bare interpreter is the peer that shows what Python itself costs here."""

    def took(*words: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL))

    works = [lambda: took("-c", "import toolkit"), lambda: took("-m", "toolkit", "--help"), lambda: took("-c", "pass")]
    rounds = in_turn(works, 11)
    yield within("python -c 'import toolkit'", [row[0] for row in rounds], 0.150)
    yield within("toolkit --help", [row[1] for row in rounds], 0.400)
    yield compared("toolkit --help", "python -c pass", [(row[1], row[2]) for row in rounds])
