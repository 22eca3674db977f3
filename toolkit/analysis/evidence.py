"""Whether a sample starved, by its regime's own definition. Frames in, the samples of each boot out; what follows is ``episodes``'.

Nothing is guessed: a sample that has no evidence for its regime (nulls) is no sample, and a boot whose regime is not known is left
out by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from toolkit.analysis.episodes import UNSEEN, Flags, Integers, Key, Samples
from toolkit.analysis.frames import Frame, gather
from toolkit.errors import TableError, UsageError

__all__ = ["BOOT", "CAUSES", "REGIMES", "Regimes", "boots_of", "regimes_of", "rows_of_boots"]

REGIMES = ("blocking", "estimating", "draining", "latched")
BOOT = ("host", "guest", "boot_id")

NOT_READY, NOT_READABLE, BELOW_FLOOR = np.uint8(4), np.uint8(2), np.uint8(1)
#: What an episode is put down to: the first of these that any of its samples shows.
CAUSES = ((NOT_READY, "crng_not_ready"), (NOT_READABLE, "random_not_readable"), (BELOW_FLOOR, "pool_below_floor"))
_NO_SAMPLE = np.uint8(128)

_FALSE, _TRUE, _NULL = 0, 1, 2


@dataclass(frozen=True)
class Regimes:
    """Which boot is of which regime: one for all, or one each."""

    of_all: str | None = None
    of_boot: Mapping[Key, str] = field(default_factory=dict)

    def of(self, key: Key) -> str | None:
        """The regime of a boot; None where it is not known."""
        return self.of_all or self.of_boot.get(key)

    @property
    def columns(self) -> list[str]:
        """The columns of samples that must be read to judge these regimes."""
        there = {self.of_all} if self.of_all else set(self.of_boot.values())
        ready = ["crng_ready"] if there - {"blocking"} else []
        return [*BOOT, "t_ns", "entropy_avail_bits", *ready, "random_readable"]


def regimes_of(given: str | Frame) -> Regimes:
    """The regimes as they were given: a name, or ``rng_state`` rows that say which boot has which.

    Raises
    ------
    UsageError
        If a regime is none, or two rows say two regimes of one boot.
    TableError
        If the rows lack a column.
    """
    if isinstance(given, str):
        _check(given)
        return Regimes(of_all=given)
    rows = gather(given, [*BOOT, "regime"], "regimes").dropna(subset="regime")
    of_boot: dict[Key, str] = {}
    for host, guest, boot_id, regime in rows.drop_duplicates().itertuples(index=False):
        _check(regime)
        key = (host, None if pd.isna(guest) else guest, boot_id)
        known = of_boot.setdefault(key, regime)
        if known != regime:
            raise UsageError(
                f"boot {boot_id} of {guest if key[1] else host} is said to be both {known} and {regime}",
                "Leave out the rows that are wrong, or name the regime.",
            )
    return Regimes(of_boot=of_boot)


def _check(regime: object) -> None:
    if regime not in REGIMES:
        raise UsageError(f"{regime!r} is not a regime", f"It is one of: {', '.join(REGIMES)}.")


def boots_of(frame: pd.DataFrame, regimes: Regimes, floor_bits: int, unknown: set[Key]) -> Iterator[tuple[Key, Samples]]:
    """The samples of each boot in a frame, each boot once; boots without any are passed over.

    Parameters
    ----------
    frame : pandas.DataFrame
        The columns of ``entropy_samples`` that the regimes need, in any order.
    regimes : Regimes
        Which boot is of which.
    floor_bits : int
        Below this a ``blocking`` pool starves.
    unknown : set
        The boots whose regime is not known are added to it, and passed over.

    Raises
    ------
    TableError
        If a ``t_ns`` is null or below zero.
    """
    if frame.empty:
        return
    if frame["t_ns"].isna().any():
        raise TableError("t_ns is null in some sample", "Leave that sample out: nothing says when it was.", column="t_ns")
    keys, bounds, order = _boots(frame)
    frame = frame if order is None else frame.take(order)
    t_ns = frame["t_ns"].to_numpy(dtype=np.int64)
    if t_ns.min() < 0:
        raise TableError(
            f"t_ns is {t_ns.min()} in some sample, before the boot began", "It is CLOCK_BOOTTIME in ns.", column="t_ns"
        )
    for key, begin, end in zip(keys, bounds[:-1], bounds[1:], strict=True):
        regime = regimes.of(key)
        if regime is None:
            unknown.add(key)
            continue
        rows = frame.iloc[begin:end]
        bits = _bits(rows)
        evidence = _blocking(rows, bits, floor_bits) if regime == "blocking" else _until_ready(rows)
        samples = Samples(t_ns[begin:end], bits, evidence)
        seen = evidence != _NO_SAMPLE
        if not seen.all():
            samples = Samples(samples.t_ns[seen], bits[seen], evidence[seen])
        if samples.t_ns.size:
            yield key, samples


def rows_of_boots(frame: pd.DataFrame, wanted: Collection[Key]) -> pd.DataFrame:
    """The rows of some boots, their text no longer categorical, so that rows of several partitions can be put together."""
    taken = [np.zeros(0, dtype=np.int64)]
    if len(frame):
        keys, bounds, order = _boots(frame)
        rows = np.arange(len(frame)) if order is None else order
        taken += [rows[begin:end] for key, begin, end in zip(keys, bounds[:-1], bounds[1:], strict=True) if key in wanted]
    return frame.take(np.concatenate(taken)).astype(dict.fromkeys(BOOT, "str"))


def _boots(frame: pd.DataFrame) -> tuple[list[Key], Integers, Integers | None]:
    """The boots, where each begins and ends, and the order to take the rows in first (None: as they are)."""
    codes, labels = zip(*(_codes(frame[name]) for name in BOOT), strict=True)
    changes = np.zeros(len(frame) - 1, dtype=bool)
    for code in codes:
        changes |= code[1:] != code[:-1]
    begins = np.concatenate(([0], np.flatnonzero(changes) + 1))
    lengths = np.diff(begins, append=len(frame))
    found: dict[tuple[int, ...], int] = {}
    number = [found.setdefault(key, len(found)) for key in zip(*(code[begins].tolist() for code in codes), strict=True)]
    order = None
    if len(found) < len(number):
        boot = np.repeat(number, lengths)
        order = np.argsort(boot, kind="stable")
        lengths = np.bincount(boot)
    keys: list[Key] = [tuple(None if i < 0 else label[i] for i, label in zip(key, labels, strict=True)) for key in found]  # type: ignore[misc]
    return keys, np.concatenate(([0], np.cumsum(lengths))), order


def _codes(column: pd.Series[str]) -> tuple[npt.NDArray[np.integer], pd.Index[str]]:
    """Text as numbers, below zero for null: a categorical's own, else found."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    return pd.factorize(column)


def _bits(rows: pd.DataFrame) -> Integers:
    return rows["entropy_avail_bits"].to_numpy(dtype=np.int64, na_value=UNSEEN)


def _three_valued(column: pd.Series[bool]) -> npt.NDArray[np.int8]:
    values: npt.NDArray[np.int8] = column.to_numpy(dtype=np.int8, na_value=_NULL)  # type: ignore[assignment]
    return values


def _blocking(rows: pd.DataFrame, bits: Integers, floor_bits: int) -> Flags:
    """Starved: fewer than ``floor_bits`` in the pool, or /dev/random not readable."""
    readable = _three_valued(rows["random_readable"])
    evidence: Flags = (bits < floor_bits).astype(np.uint8) * BELOW_FLOOR
    evidence |= (readable == _FALSE) * NOT_READABLE
    evidence[(bits == UNSEEN) & (readable == _NULL)] = _NO_SAMPLE
    return evidence


def _until_ready(rows: pd.DataFrame) -> Flags:
    """Starved: the CRNG not ready; where that was not seen, /dev/random not readable, which from 5.6 on means the same."""
    ready = _three_valued(rows["crng_ready"])
    evidence: Flags = (ready == _FALSE).astype(np.uint8) * NOT_READY
    unseen = ready == _NULL
    if unseen.any():
        readable = _three_valued(rows["random_readable"])
        evidence[unseen & (readable == _FALSE)] = NOT_READABLE
        evidence[unseen & (readable == _NULL)] = _NO_SAMPLE
    return evidence
