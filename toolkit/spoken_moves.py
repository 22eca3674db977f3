"""What is said to people of guests that were moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from toolkit.units import bytes_text, duration_text, rate_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["excess", "moved_parts"]

# What a driver had asked for already comes on top.
_MORE = 1.2


def moved_parts(parts: pd.DataFrame) -> pd.DataFrame:
    """The parts of moves, written out: part, limit, rate, bytes, longest gap, verdict."""
    holds = {True: "holds its limit", False: "does not hold it"}
    return parts[["part"]].assign(
        limit=[_or_dash(each, rate_text) for each in parts["configured_bytes_per_second"]],
        rate=[_or_dash(each, rate_text) for each in parts["bytes_per_second"]],
        bytes=[bytes_text(each) for each in parts["read_bytes"]],
        **{"longest gap": [_or_dash(each / 1000, duration_text) for each in parts["longest_gap_ms"]]},
        verdict=[
            holds.get(held, "cannot be told") if isinstance(why, float) else str(why)
            for held, why in zip(parts["holds"], parts["why"], strict=True)
        ],
    )


def excess(parts: pd.DataFrame) -> list[str]:
    """A sentence for each move after which a period gave more than the destination's limit."""
    after = parts[(parts["part"] == "after") & (parts["first_period_bytes"] > _MORE * parts["virtio_rng_max_bytes"]).fillna(False)]
    return [
        f"The first period at the destination gave {bytes_text(came)}, and not {bytes_text(limit)}: some QEMUs let a guest that "
        "goes on after a stop have more than its limit, until that period ends."
        for came, limit in zip(after["first_period_bytes"], after["virtio_rng_max_bytes"], strict=True)
    ]


def _or_dash(value: float, write: Callable[[float], str]) -> str:
    return "–" if math.isnan(value) else write(value)
