"""The state of this machine's random number generator, as a row of ``rng_state``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.runs import Run, begin
from toolkit.sensors.rng import RngState, read_rng_state

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
    return begun.frame("rng_state", [_row(read_rng_state())])


def _row(state: RngState) -> dict[str, object]:
    return {
        "regime": state.regime,
        "poolsize_bits": state.poolsize_bits,
        "crng_ready": state.crng_ready,
        "crng_ready_s": state.crng_ready_s,
        "urandom_warnings": state.urandom_warnings,
        "vm_fork_reseeds": state.vm_fork_reseeds,
        "hwrng_available": _words(state.hwrng_available),
        "hwrng_current": state.hwrng_current,
        "hwrng_quality": state.hwrng_quality,
        "cpu_rdrand": state.cpu_rdrand,
        "cpu_rdseed": state.cpu_rdseed,
        "trust_cpu": state.trust_cpu,
        "feeders": _words(state.feeders),
    }


def _words(names: tuple[str, ...] | None) -> str | None:
    """Names in one column: empty when there is none, null when that is not known."""
    return None if names is None else " ".join(names)
