"""The order of an allocation experiment: seeded, random, the same for the same arguments everywhere.

What is measured is ``file system × method × size × repeat``, in blocks: a block is one repeat of all the others, and is shuffled by
itself. Whatever drifts during the experiment (the disk's own caches, a neighbour's load) thus falls on all alike, and an experiment
that is cut short has measured all of them about equally often.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from toolkit.errors import UsageError
from toolkit.sensors import allocation

__all__ = ["Cell", "plan", "several"]


class Cell(NamedTuple):
    """One measurement that is to be made."""

    filesystem: str
    method: str
    size_bytes: int
    repeat: int


def plan(
    filesystems: Sequence[str],
    methods: Sequence[str] | None,
    size_bytes: int | Sequence[int],
    repeats: int,
    seed: int,
) -> list[Cell]:
    """All measurements in their random order: the same for the same arguments, everywhere.

    Raises
    ------
    UsageError
        If a method, size or number of repeats cannot be meant.

    Examples
    --------
    >>> [cell.method for cell in plan(["xfs"], ["fallocate", "ftruncate", "write_4k"], 4096, 1, seed=7)]
    ['write_4k', 'fallocate', 'ftruncate']
    """
    chosen = several(allocation.METHODS if methods is None else methods, "methods")
    allocation.check_methods(tuple(chosen))
    given = size_bytes if isinstance(size_bytes, Sequence) else [size_bytes]
    sizes = several(given, "sizes")
    for size in sizes:
        if size < 1:
            raise UsageError(f"{size} bytes cannot be allocated", "Give a size above zero.")
    if repeats < 1:
        raise UsageError(f"{repeats} repeats measure nothing", "Give at least one.")
    order = random.Random(seed)  # noqa: S311 - an order, not a secret
    cells = []
    for repeat in range(repeats):
        block = [Cell(name, method, size, repeat) for name in filesystems for method in chosen for size in sizes]
        order.shuffle(block)
        cells += block
    return cells


def several(values: Iterable[Any], what: str) -> list[Any]:
    """The values, each once; refuses one text where a list is meant, and nothing at all."""
    if isinstance(values, str):
        raise UsageError(f"{what} is one text, {values!r}", f"Give a list of {what}.")
    unique = list(dict.fromkeys(values))
    if not unique:
        raise UsageError(f"there are no {what}", f"Name {what}, or leave them out for all.")
    return unique
