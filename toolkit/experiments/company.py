"""What an allocation experiment says of others that measured on the same machine at the same time.

How they see one another, and who waits for whom, is :mod:`toolkit.turns`'; here it becomes a row of the table ``capabilities``.
"""

from __future__ import annotations

from typing import Any

from toolkit.scratch import LeftOut
from toolkit.turns import Turn

__all__ = ["UNDISTURBED", "alone", "disturbed"]

#: The capability that another experiment takes away.
UNDISTURBED = "undisturbed allocation"


def disturbed(turn: Turn) -> list[LeftOut]:
    """What is to be said of others until now: nothing, or one thing.

    Examples
    --------
    >>> from toolkit.turns import Neighbour
    >>> disturbed(Turn(None, [Neighbour(42, None)]))[0].detail
    "another allocation experiment (process 42) measured on this machine at the same time: each disturbed the other's figures"
    """
    neighbours = ", ".join(str(each) for each in turn.neighbours())
    if neighbours:
        detail = f"another allocation experiment ({neighbours}) measured on this machine at the same time"
        remedy = "Measure again without one beside it: an experiment waits for another unless it is told to go on."
        return [LeftOut(UNDISTURBED, f"{detail}: each disturbed the other's figures", remedy)]
    if turn.unseen is not None:
        detail = f"whether another experiment measured on this machine at the same time cannot be told: {turn.unseen}"
        return [LeftOut(UNDISTURBED, detail)]
    return []


def alone() -> dict[str, Any]:
    """The row that says that there was nobody else, so that what an older run said no longer stands against this machine."""
    detail = "no other allocation experiment measured on this machine at the same time"
    return {"capability": UNDISTURBED, "available": True, "detail": detail}
