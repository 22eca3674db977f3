"""What a guest that was moved to another host had from its virtio-rng: before, during the move with its gap, and after.

The rate of either side against that side's limit is :mod:`toolkit.analysis.rates`'s, from the bursts of that side alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from toolkit.analysis.frames import Frame, gather
from toolkit.analysis.rates import rates

__all__ = ["PARTS", "parts"]

#: Of a move, in the order of time.
PARTS = ("before", "during", "after")

_KEY = ["run_id", "host", "guest", "boot_id"]
_TIMES = ["begun_t_ns", "t_ns", "stopped_ms"]
_SIDES = {"before": "source", "after": "destination"}
_LIMIT = ["backend", "max_bytes", "period_ms"]
_FROM_RATES = [
    "bursts", "burst_bytes", "period_s", "configured_bytes_per_second", "bytes_per_second", "low", "high", "ratio", "holds", "why",
]  # fmt: skip
_FOUND = [
    *(f"virtio_rng_{name}" for name in _LIMIT),
    *("reads", "read_bytes", "watched_s", "longest_gap_ms", "gap_ms", "stopped_ms", "first_period_bytes"),
    *_FROM_RATES,
]

Moments = npt.NDArray[np.int64]


def parts(source_reads: Frame, moves: Frame, source: str = "/dev/hwrng") -> pd.DataFrame:
    """What came before, during and after each move.

    Parameters
    ----------
    source_reads : DataFrame of pandas or Dask
        Table ``source_reads``; the bytes of a read arrive at its end.
    moves : DataFrame of pandas or Dask
        Table ``moves``.
    source : str
        The source to look at.

    Returns
    -------
    pandas.DataFrame
        Three rows a move, ``part`` before, during and after: ``run_id``, ``host``, ``guest``, ``boot_id``, ``part``; the limit of
        that part (null during, when it changes); ``reads`` that brought ``read_bytes``; ``watched_s``; ``longest_gap_ms`` between
        two arrivals; ``gap_ms``, from the last byte at the source to the first at the destination, and ``stopped_ms``, how long
        the guest stood still in that, which its own clock may not count: all by the host's time; ``first_period_bytes``, what came
        in the first period at the destination, which need not keep to its limit (of the part after alone). Then ``bursts``,
        ``burst_bytes``, ``period_s``, ``configured_bytes_per_second``, ``bytes_per_second`` with ``low`` and ``high``, ``ratio``,
        ``holds`` and ``why`` as :func:`toolkit.analysis.rates.rates` has them; of the part during, ``bytes_per_second`` is all
        bytes over all time, and ``holds`` is null.

    Raises
    ------
    TableError
        If a column is missing.

    Notes
    -----
    The part during is from the beginning of the move to the first byte at the destination, which itself counts as after.

    Examples
    --------
    >>> reads = pd.DataFrame({
    ...     "run_id": "r", "host": "h", "guest": "g", "boot_id": "b", "source": "/dev/hwrng", "block_bytes": 64, "errno": None,
    ...     "t_ns": [s * 10**9 for s in range(12)], "wait_ns": 10**6, "read_bytes": [16] * 6 + [64] * 6,
    ... })
    >>> move = pd.DataFrame({
    ...     "run_id": "r", "host": "h", "guest": "g", "boot_id": "b", "begun_t_ns": [44 * 10**8], "t_ns": [59 * 10**8],
    ...     "stopped_ms": [300.0], "source_backend": "random", "source_max_bytes": [16], "source_period_ms": [1000],
    ...     "destination_backend": "random", "destination_max_bytes": [64], "destination_period_ms": [1000],
    ... })
    >>> parts(reads, move)[["part", "read_bytes", "bytes_per_second", "holds", "longest_gap_ms"]]
         part  read_bytes  bytes_per_second  holds  longest_gap_ms
    0  before          80         16.000000   True          1000.0
    1  during          16          8.416623   <NA>          1300.0
    2   after         384         64.000000   True          1000.0
    """
    reads = gather(source_reads, [*_KEY, "source", "block_bytes", "t_ns", "read_bytes", "wait_ns", "errno"], "a move")
    reads = reads[reads["source"] == source]
    sides = [f"{side}_{name}" for side in _SIDES.values() for name in _LIMIT]
    rows: list[dict[str, Any]] = []
    for move in gather(moves, [*_KEY, *_TIMES, *sides], "a move").to_dict("records"):
        known = {str(name): value for name, value in move.items()}
        of_move = reads[np.logical_and.reduce([_same(reads[name], known[name]) for name in _KEY])]
        rows += _parts(of_move, known)
    table = pd.DataFrame(rows, columns=[*_KEY, "part", *_FOUND])
    whole = dict.fromkeys(
        ["virtio_rng_max_bytes", "virtio_rng_period_ms", "reads", "read_bytes", "bursts", "first_period_bytes"], "Int64"
    )
    real = dict.fromkeys(
        ["longest_gap_ms", "gap_ms", "stopped_ms", "burst_bytes", "period_s", "configured_bytes_per_second", "bytes_per_second"],
        "float64",
    )
    return table.astype({**whole, **real, "holds": "boolean"})


def _same(column: pd.Series[Any], value: object) -> npt.NDArray[np.bool_]:
    same = column.isna() if pd.isna(value) else column == value  # type: ignore[call-overload]
    return np.asarray(same.fillna(False), dtype=bool)


def _parts(reads: pd.DataFrame, move: dict[str, Any]) -> list[dict[str, Any]]:
    ended = reads["t_ns"].astype("int64") + reads["wait_ns"].astype("Int64").fillna(0).astype("int64")
    reads = reads.assign(ended_ns=ended).sort_values("ended_ns", kind="stable")
    # What had not returned at the end brought nothing, and was never seen to end.
    came = (reads["errno"].isna() & (reads["read_bytes"].astype("Float64") > 0) & reads["wait_ns"].notna()).fillna(False)
    arrival = reads.loc[came.astype(bool), "ended_ns"].to_numpy(dtype=np.int64)
    begun_ns, moved_ns, stopped_ms = int(move["begun_t_ns"]), int(move["t_ns"]), float(move["stopped_ms"])
    later = arrival[arrival >= moved_ns]
    first_after_ns = int(later[0]) if later.size else moved_ns
    edges = {
        "before": (int(reads["t_ns"].min()) if len(reads) else begun_ns, begun_ns),
        "during": (begun_ns, first_after_ns),
        "after": (first_after_ns, int(reads["ended_ns"].max()) if len(reads) else moved_ns),
    }
    found = []
    for part in PARTS:
        begin_ns, end_ns = edges[part]
        # The last of all belongs to the last part.
        within = (reads["ended_ns"] >= begin_ns) & ((reads["ended_ns"] < end_ns) | (part == "after"))
        chosen, good = reads[within], reads[within & came.astype(bool)]
        stood_ms = stopped_ms if part == "during" else 0.0
        watched_s = (end_ns - begin_ns) / 1e9 + stood_ms / 1000
        side = _SIDES.get(part)
        found.append(
            {
                **{name: move[name] for name in _KEY},
                "part": part,
                **{f"virtio_rng_{name}": move[f"{side}_{name}"] if side else None for name in _LIMIT},
                "reads": len(good),
                "read_bytes": int(good["read_bytes"].sum()),
                "watched_s": watched_s,
                **_gaps(arrival, part, (begun_ns, moved_ns), stood_ms),
                "stopped_ms": stood_ms,
                "first_period_bytes": _first_period_bytes(good, move) if part == "after" else None,
                **(_against(chosen, move, side) if side else _while_moved(int(good["read_bytes"].sum()), watched_s)),
            }
        )
    return found


def _first_period_bytes(reads: pd.DataFrame, move: dict[str, Any]) -> int | None:
    period_ms = move["destination_period_ms"]
    if pd.isna(period_ms):
        return None
    return int(reads.loc[reads["ended_ns"] < int(move["t_ns"]) + int(period_ms) * 1_000_000, "read_bytes"].sum())


def _gaps(arrival: Moments, part: str, move: tuple[int, int], stood_ms: float) -> dict[str, float]:
    """Of the gaps that end in a part the longest, and the one in which the guest stood still, which is the move's."""
    begun_ns, moved_ns = move
    gap_ms, ends, begins = np.diff(arrival) / 1e6, arrival[1:], arrival[:-1]
    over = (begins < moved_ns) & (ends >= moved_ns)
    chosen = {"before": ends < begun_ns, "during": over | ((ends >= begun_ns) & (ends < moved_ns)), "after": begins >= moved_ns}[
        part
    ]
    lasted_ms = gap_ms + np.where(over, stood_ms, 0.0)
    across = lasted_ms[over & chosen]
    return {
        "longest_gap_ms": float(lasted_ms[chosen].max()) if chosen.any() else math.nan,
        "gap_ms": float(across[0]) if across.size else math.nan,
    }


def _against(reads: pd.DataFrame, move: dict[str, Any], side: str) -> dict[str, Any]:
    key = {name: [move[name]] for name in _KEY}
    state = pd.DataFrame({**key, **{f"virtio_rng_{name}": [move[f"{side}_{name}"]] for name in _LIMIT}})
    if reads.empty:
        return {"why": "nothing was read"}
    found = rates(reads, state, str(reads["source"].iloc[0]))
    # Reads of several block sizes are several series, and no one of them is the part.
    return {"why": "read in blocks of several sizes"} if len(found) > 1 else {name: found[name].iloc[0] for name in _FROM_RATES}


def _while_moved(read_bytes: int, watched_s: float) -> dict[str, Any]:
    rate = read_bytes / watched_s if watched_s > 0 else math.nan
    return {"bytes_per_second": rate, "why": "the limit changes in it"}
