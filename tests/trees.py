"""Where the recorded machines are, and a copy of one that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

TREES = Path(__file__).parent / "data" / "trees"


def copied(name: str, folder: Path) -> Path:
    """A recorded machine, copied into a folder of the test's own."""
    return Path(shutil.copytree(TREES / name, folder / name))
