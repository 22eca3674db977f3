"""What is said to people of guests that were moved."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from toolkit.units import bytes_text, duration_text, rate_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["moved_parts"]


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


def _or_dash(value: float, write: Callable[[float], str]) -> str:
    return "–" if math.isnan(value) else write(value)
