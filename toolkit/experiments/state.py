"""The state of this machine's random number generator, as a row of ``rng_state``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.runs import Run, begin
from toolkit.sensors.rng import read_rng_state

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["rng_state"]


def rng_state(*, run: Run | None = None) -> pd.DataFrame:
    """The state of this machine's random number generator.

    Parameters
    ----------
    run : Run, optional
        The run that it belongs to; without one it begins its own.

    Returns
    -------
    pandas.DataFrame
        One row of ``rng_state``. What this machine does not tell is null: ``crng_ready_s`` and the counts where the kernel log is
        not readable or its start was overwritten, ``regime`` where the kernel's files fit none. The columns ``virtio_rng_*``
        are null: a guest cannot see how its host configured the device.

    Examples
    --------
    >>> state = rng_state()
    >>> len(state), "regime" in state.columns
    (1, True)
    """
    begun = run or begin("toolkit.rng_state()")
    return begun.frame("rng_state", [read_rng_state().row()])
