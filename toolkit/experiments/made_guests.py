"""What the experiments with guests made for them have in common: their scripts, their devices, and their rows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import UnavailableError
from toolkit.guests.devices import RngLimit, Unlimited
from toolkit.guests.reader import Reading

__all__ = ["check_backend", "device_row", "read_row", "script_of"]

_ETIMEDOUT = 110


def script_of(path: Path, settings: Mapping[str, str]) -> str:
    """A guest's script with its settings before it.

    Parameters
    ----------
    path : Path
        The script.
    settings : mapping of str to str
        Variables of the shell, whatever is in them.
    """
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()) + path.read_text(encoding="utf-8")


def check_backend(device: Unlimited | RngLimit | None) -> None:
    """Refuse a virtio-rng whose backend is a device that this host has not.

    Raises
    ------
    UnavailableError
        Names the device.
    """
    if device is not None and device.backend.startswith("/") and not Path(device.backend).exists():
        raise UnavailableError(f"This host has no {device.backend} to feed a guest's virtio-rng", "Give another backend.")


def device_row(device: Unlimited | RngLimit | None) -> dict[str, Any]:
    """Columns of a virtio-rng, as its host configured it.

    Examples
    --------
    >>> device_row(RngLimit(max_bytes=16, period_ms=1000))["virtio_rng_max_bytes"]
    16
    """
    limit = device if isinstance(device, RngLimit) else None
    return {
        "virtio_rng_backend": device.backend if device is not None else None,
        "virtio_rng_max_bytes": limit.max_bytes if limit else None,
        "virtio_rng_period_ms": limit.period_ms if limit else None,
    }


def read_row(call: Reading, end_ns: int) -> dict[str, Any]:
    """A read as columns of ``source_reads``; one that still waited at the end has what it had waited by then, and ETIMEDOUT."""
    waiting = call.returned_ns is None
    return {
        "t_ns": call.called_ns,
        "wait_ns": (call.returned_ns or max(end_ns, call.called_ns)) - call.called_ns,
        "read_bytes": call.read_bytes,
        "errno": _ETIMEDOUT if waiting else call.errno,
    }
