"""Episodes in series of samples: what one partition says, and how what several say is joined. Neither Dask nor regimes.

A partition is summarised once, boot by boot: where its runs of starving samples begin and end, and how long the intervals between
samples are, in bins of powers of two. Bins add up exactly, so the boot's typical interval, and with it what counts as a gap, does
not depend on how the boot was split; nor do the episodes. Runs are cut at shorter intervals than will count as a gap, and the
join puts the pieces together again. Only where that cannot tell (parts of a boot overlap in time, or one part was sampled far more
slowly than the boot as a whole) is the boot named to be summarised again from all its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NONE_NS", "UNSEEN", "Episodes", "Key", "Samples", "Summary", "join", "summarise"]

#: host, guest (None for the host itself), boot_id: what names a boot of a target.
Key = tuple[str, str | None, str]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]

#: Larger than any count of bits: no sample saw the pool.
UNSEEN = int(np.iinfo(np.int64).max)
#: No sample on that side.
NONE_NS = -1

_BINS = 64
#: Intervals are counted so many at a time, so that what is computed of them on the way stays in the processor's cache.
_AT_ONCE = 1 << 13
#: A gap is an interval longer than so many times the upper edge of the median interval's bin.
_GAP_FACTOR = 8
#: Pieces are cut at intervals longer than so many times that edge in their own partition: regular sampling is never cut.
_CUT_FACTOR = 2
_NEVER_NS = 2**62

_OF_PIECE = ("start_ns", "end_ns", "samples", "lowest_bits", "evidence", "before_ns", "after_ns")


@dataclass(frozen=True)
class Samples:
    """Samples of one boot, an entry each: when, the pool (UNSEEN where it was not), and flags that say how it starved (0: not)."""

    t_ns: Integers
    bits: Integers
    evidence: Flags

    def in_time(self) -> Samples:
        """In order of time, those of one moment as one: starved if any of them says so, the pool at its lowest."""
        order = np.argsort(self.t_ns, kind="stable")
        t_ns = self.t_ns[order]
        first = np.flatnonzero(np.concatenate(([True], t_ns[1:] != t_ns[:-1])))
        bits, evidence = self.bits[order], self.evidence[order]
        return Samples(t_ns[first], np.minimum.reduceat(bits, first), np.bitwise_or.reduceat(evidence, first))


@dataclass(frozen=True)
class Summary:
    """What a partition says of its boots.

    Attributes
    ----------
    keys : list of tuple
        Each boot's key, once.
    first_ns, last_ns, samples, cut_ns : arrays, an entry a boot
        Its samples here, and the interval above which its runs were cut.
    intervals : array, boots × 64
        How many intervals between its samples fall in each bin ``[2**k, 2**(k+1))`` ns.
    owner : array, an entry a piece
        The boot of each piece of an episode, as a place in ``keys``.
    pieces : dict of arrays, an entry a piece
        start_ns, end_ns, samples, lowest_bits, evidence; before_ns and after_ns are the times of the boot's samples on either
        side, NONE_NS where the partition has none.
    """

    keys: list[Key]
    first_ns: Integers
    last_ns: Integers
    samples: Integers
    cut_ns: Integers
    intervals: Integers
    owner: Integers
    pieces: dict[str, Integers]


@dataclass(frozen=True)
class Episodes:
    """Episodes joined: ``owner`` is each one's boot in ``keys``; ``again`` are boots to summarise from all their rows at once."""

    keys: list[Key]
    owner: Integers
    columns: dict[str, Integers]
    cut_at_start: npt.NDArray[np.bool_]
    cut_at_end: npt.NDArray[np.bool_]
    again: list[Key]


def summarise(boots: Iterable[tuple[Key, Samples]], max_gap_ns: int | None) -> Summary:
    """Summarise a partition: each boot once, with at least one sample."""
    keys: list[Key] = []
    ends: list[tuple[int, int, int, int]] = []
    intervals: list[Integers] = []
    pieces: list[dict[str, Integers]] = []
    for key, samples in boots:
        steps = np.diff(samples.t_ns)
        if steps.size and steps.min() <= 0:
            samples = samples.in_time()
            steps = np.diff(samples.t_ns)
        counts = _histogram(steps)
        cut_ns = int(_edge_ns(counts[np.newaxis], _CUT_FACTOR)[0]) if max_gap_ns is None else max_gap_ns
        keys.append(key)
        ends.append((int(samples.t_ns[0]), int(samples.t_ns[-1]), samples.t_ns.size, cut_ns))
        intervals.append(counts)
        pieces.append(_pieces(samples, steps, cut_ns))
    first_ns, last_ns, counted, cuts_ns = np.array(ends, dtype=np.int64).reshape(-1, 4).T
    owner = np.repeat(np.arange(len(keys)), [piece["start_ns"].size for piece in pieces])
    merged = {name: _concatenated([piece[name] for piece in pieces]) for name in _OF_PIECE}
    bins = np.array(intervals, dtype=np.int64).reshape(-1, _BINS)
    return Summary(keys, first_ns, last_ns, counted, cuts_ns, bins, owner, merged)


def join(summaries: Sequence[Summary], max_gap_ns: int | None) -> Episodes:
    """Join what the partitions say of each boot; the boots of whom that cannot be told are in ``again``, without episodes."""
    number: dict[Key, int] = {}
    parts = [np.array([number.setdefault(key, len(number)) for key in summary.keys], dtype=np.int64) for summary in summaries]
    keys = list(number)
    boot = _concatenated(parts)
    first_ns, last_ns, cut_ns = (_concatenated([getattr(s, name) for s in summaries]) for name in ("first_ns", "last_ns", "cut_ns"))
    counts = np.concatenate([s.intervals for s in summaries] or [np.zeros((0, _BINS), dtype=np.int64)])
    offsets = np.cumsum([0, *(part.size for part in parts)])

    # the parts of each boot in time
    order = np.lexsort((first_ns, boot))
    same = boot[order[1:]] == boot[order[:-1]]
    between = np.where(same, first_ns[order[1:]] - last_ns[order[:-1]], 1)
    again = np.zeros(len(keys), dtype=bool)
    again[boot[order[1:]][between <= 0]] = True
    total = np.zeros((len(keys), _BINS), dtype=np.int64)
    np.add.at(total, boot, counts)
    across = same & (between > 0)
    np.add.at(total, (boot[order[1:]][across], _bins(between[across])), 1)
    gap_ns = _edge_ns(total, _GAP_FACTOR) if max_gap_ns is None else np.full(len(keys), max_gap_ns)
    again[boot[_may_hide_a_gap(counts, cut_ns, gap_ns[boot])]] = True

    # the pieces of each boot in time, with their neighbours in other parts
    part = _concatenated([summary.owner + offset for summary, offset in zip(summaries, offsets[:-1], strict=True)])
    pieces = {name: _concatenated([summary.pieces[name] for summary in summaries]) for name in _OF_PIECE}
    earlier, later = np.full(boot.size, NONE_NS), np.full(boot.size, NONE_NS)
    earlier[order[1:][same]] = last_ns[order[:-1][same]]
    later[order[:-1][same]] = first_ns[order[1:][same]]
    pieces["before_ns"] = np.where(pieces["before_ns"] == NONE_NS, earlier[part], pieces["before_ns"])
    pieces["after_ns"] = np.where(pieces["after_ns"] == NONE_NS, later[part], pieces["after_ns"])
    told = np.flatnonzero(~again[boot[part]])
    chosen = told[np.lexsort((pieces["start_ns"][told], boot[part][told]))]
    return _joined(keys, boot[part][chosen], {name: pieces[name][chosen] for name in _OF_PIECE}, gap_ns, again)


def _joined(
    keys: list[Key], owner: Integers, pieces: dict[str, Integers], gap_ns: Integers, again: npt.NDArray[np.bool_]
) -> Episodes:
    """Pieces in order of boot and time, those with neither a gap nor another sample between them as one."""
    limit = gap_ns[owner]
    start, end = pieces["start_ns"], pieces["end_ns"]
    before, after = pieces["before_ns"], pieces["after_ns"]
    goes_on = (owner[1:] == owner[:-1]) & (after[:-1] == start[1:]) & (start[1:] - end[:-1] <= limit[1:])
    opens = np.flatnonzero(np.concatenate(([True], ~goes_on)))[: owner.size]
    closes = np.concatenate((opens[1:], [owner.size]))[: opens.size] - 1
    columns = {
        "start_ns": start[opens],
        "end_ns": end[closes],
        "samples": _reduced(np.add, pieces["samples"], opens),
        "lowest_bits": _reduced(np.minimum, pieces["lowest_bits"], opens),
        "evidence": _reduced(np.bitwise_or, pieces["evidence"], opens),
    }
    cut_at_start = (before[opens] == NONE_NS) | (start[opens] - before[opens] > limit[opens])
    cut_at_end = (after[closes] == NONE_NS) | (after[closes] - end[closes] > limit[closes])
    return Episodes(keys, owner[opens], columns, cut_at_start, cut_at_end, [keys[i] for i in np.flatnonzero(again)])


def _pieces(samples: Samples, steps: Integers, cut_ns: int) -> dict[str, Integers]:
    """The runs of starving samples without an interval above the cut."""
    starving = samples.evidence != 0
    if not starving.any():
        return {name: np.zeros(0, dtype=np.int64) for name in _OF_PIECE}
    edges = np.flatnonzero((starving[1:] != starving[:-1]) | (steps > cut_ns)) + 1
    opens, closes = np.concatenate(([0], edges)), np.concatenate((edges, [starving.size]))
    runs = starving[opens]
    opens, closes = opens[runs], closes[runs]
    t_ns = samples.t_ns
    length = closes - opens
    offsets = np.cumsum(length) - length  # where each run begins among the starving samples alone
    return {
        "start_ns": t_ns[opens],
        "end_ns": t_ns[closes - 1],
        "samples": length,
        "lowest_bits": np.minimum.reduceat(samples.bits[starving], offsets),
        "evidence": np.bitwise_or.reduceat(samples.evidence[starving], offsets).astype(np.int64),
        "before_ns": np.where(opens > 0, t_ns[opens - 1], NONE_NS),
        "after_ns": np.where(closes < t_ns.size, t_ns[np.minimum(closes, t_ns.size - 1)], NONE_NS),
    }


def _bins(steps: Integers) -> Integers:
    """The bin of each interval: the exponent of the number as a float, read from its bits, far faster than a logarithm."""
    exponent: Integers = steps.astype(np.float64).view(np.int64)
    exponent >>= 52
    exponent -= 1023
    if steps.size and steps.max() > 2**53:  # months: as a float it may have become the next power of two
        exponent -= (np.int64(1) << np.minimum(exponent, 62)) > steps
    return exponent


def _histogram(steps: Integers) -> Integers:
    counts = np.zeros(_BINS, dtype=np.int64)
    for begin in range(0, steps.size, _AT_ONCE):
        counts += np.bincount(_bins(steps[begin : begin + _AT_ONCE]), minlength=_BINS)
    return counts


def _edge_ns(counts: Integers, factor: int) -> Integers:
    """So many times the upper edge of the bin of each row's (lower) median interval; without any interval, longer than all time."""
    reached = np.cumsum(counts, axis=1)
    total = reached[:, -1:]
    median = (reached >= (total + 1) // 2).argmax(axis=1)
    exponent = np.minimum(median + 1 + factor.bit_length() - 1, 62)
    return np.where(total[:, 0] > 0, np.int64(1) << exponent, _NEVER_NS)


def _may_hide_a_gap(counts: Integers, cut_ns: Integers, gap_ns: Integers) -> Integers:
    """The parts that may hold an interval which is a gap, and at which they were not cut."""
    lower = np.int64(1) << np.arange(_BINS - 1)
    unsure = (lower * 2 > gap_ns[:, np.newaxis]) & (lower <= cut_ns[:, np.newaxis]) & (cut_ns > gap_ns)[:, np.newaxis]
    return np.flatnonzero((unsure & (counts[:, :-1] > 0)).any(axis=1))


def _reduced(operation: np.ufunc, values: Integers, opens: Integers) -> Integers:
    reduced: Integers = operation.reduceat(values, opens) if opens.size else values[:0]
    return reduced


def _concatenated(arrays: Sequence[Integers]) -> Integers:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
