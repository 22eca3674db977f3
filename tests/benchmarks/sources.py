"""Reading sources block by block, against ``dd`` with the same block size."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import toolkit
from tests.benchmarks.figures import Figure, compared, in_turn

READS = 10_000


def figures() -> Iterator[Figure]:
    """The waits of all reads, as ``toolkit.throughput`` takes them, and the time dd says it took: it writes to /dev/null too."""
    for source in ("/dev/urandom", "/dev/random"):
        for block_bytes in (64, 4096, 65536):

            def ours(source: str = source, block_bytes: int = block_bytes) -> float:
                reads = toolkit.read_sources([source], [block_bytes], budget_s=10.0)
                assert len(reads) == READS
                assert (reads["read_bytes"] == block_bytes).all()
                return float(reads["wait_ns"].sum()) / 1e9

            def dd(source: str = source, block_bytes: int = block_bytes) -> float:
                words = ["dd", f"if={source}", "of=/dev/null", f"bs={block_bytes}", f"count={READS}"]
                said = subprocess.run(words, check=True, capture_output=True, text=True, env={"LC_ALL": "C"}).stderr
                found = re.search(r"copied, ([\d.e-]+) s", said)
                assert found
                return float(found[1])

            yield compared(f"{READS:,} reads of {source}, {block_bytes} bytes each", "dd", in_turn([ours, dd]), goal=1.05)
