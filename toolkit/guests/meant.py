"""Which of libvirt's domains to receive from, and how each is reached."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import GuestError
from toolkit.guests.connection import connect
from toolkit.guests.domain_xml import Definition
from toolkit.guests.libvirt import attached, channel_socket, through_qga
from toolkit.guests.receiver import Guest
from toolkit.guests.relay import Relay

__all__ = ["domains"]


@contextlib.contextmanager
def domains(names: Sequence[str] | None, via: str, interval_s: float, uri: str | None) -> Iterator[list[Guest]]:
    """Domains to receive from; given back at the end.

    Parameters
    ----------
    names : sequence of str or None
        Their names; None for all that run and have our port.
    via : str
        ``agent`` or ``qga``.
    interval_s : float
        Between two looks through qemu-guest-agent.
    uri : str or None
        Where libvirt is.

    Raises
    ------
    GuestError
        If one is not there, or cannot be reached.
    """
    if via == "qga":
        with contextlib.ExitStack() as stack:
            guests = []
            for name, said in _known(names or [], uri):
                relay = Relay(partial(through_qga, name, uri), interval_s)
                stack.callback(relay.close)
                guests.append(Guest(name, relay.socket, said))
            yield guests
        return
    found: list[tuple[str, Path]] = attached(uri) if not names else [(name, channel_socket(name, uri)) for name in names]
    paths = dict(found)
    yield [Guest(name, paths[given], said) for (given, _), (name, said) in zip(found, _known(list(paths), uri), strict=True)]


def _known(names: Sequence[str], uri: str | None) -> list[tuple[str, dict[str, Any]]]:
    """Each domain's name, whatever it was called by, and what the host knows of its virtio-rng."""
    known = []
    with connect(uri) as connection:
        for name in names:
            domain = connection.domain(name)
            if not domain.is_active():
                raise GuestError(f"domain {domain.shown} is {domain.state()}", "Start it first.")
            devices = Definition(domain.xml(live=True)).rng_devices()
            said: dict[str, Any] = {}
            if devices:
                first = devices[0]
                said = {
                    "virtio_rng_backend": first.backend,
                    "virtio_rng_max_bytes": first.max_bytes,
                    "virtio_rng_period_ms": first.period_ms if first.max_bytes is not None else None,
                }
            known.append((domain.name, said))
    return known
