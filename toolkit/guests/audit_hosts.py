"""The hosts of an audit: those that answer, each once, what one keeps for its domains, and whether it still answers.

A libvirt that stops answering while it is asked is found out once, and none of its other domains waits for it.
"""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

from toolkit.errors import GuestError, ToolkitError, UnavailableError
from toolkit.guests.at_once import at_once
from toolkit.guests.audit_facts import Move
from toolkit.guests.connection import Connection, Domain, NoAnswerError, connect
from toolkit.guests.cpu_flags import CpuFlags, cpu_flags
from toolkit.guests.domain_xml import Definition
from toolkit.guests.migration import move
from toolkit.markup import visible

__all__ = ["Host", "connected"]


_T = TypeVar("_T")


class Host:
    """A host that answered, and its domains.

    Attributes
    ----------
    name : str
        Its own name; its URI where another of the set has the same.
    own_name : str or None
        Its own name; None where another machine of the set says the same of itself.
    lost : str
        Why it is not asked any more; empty while it answers.
    missing : tuple of Move
        Hosts of the set that could not be asked.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.domains: tuple[Domain, ...] = tuple(connection.domains())
        self.own_name: str | None = connection.host_name()
        self.name = visible(self.own_name)
        # Where it does not tell, as while it looks at each QEMU for the first time, its name alone must do.
        machine = ""
        with contextlib.suppress(GuestError):
            machine = connection.host_uuid()
        self.machine = (machine, self.name)
        self.lost = ""
        self.missing: tuple[Move, ...] = ()
        self._flags: dict[Hashable, CpuFlags] = {}
        self._moves: dict[Hashable, Move] = {}

    def after(self, error: Exception) -> None:
        """Look, after a call that did not come back, whether the host still answers: a domain's QEMU may hang alone."""
        if isinstance(error, NoAnswerError) and not self.lost:
            try:
                self.connection.host_name()
            except NoAnswerError:
                self.lost = f"its libvirt stopped answering ({error.what})"
            except GuestError:
                return  # it answers

    def cpu_flags(self, definition: Definition) -> CpuFlags:
        """As :func:`toolkit.guests.cpu_flags.cpu_flags`, asked once for all domains of one processor and machine."""
        key = (*_kind(definition), definition.machine, definition.emulator)
        return _once(self._flags, key, lambda: cpu_flags(self.connection, definition), lambda flags: flags.rdrand is not None)

    def move(self, definition: Definition, rdrand: bool | None) -> Move:
        """As :func:`toolkit.guests.migration.move` to this host, asked once for all domains of one processor."""
        asked = lambda: move(definition, rdrand, self.name, self.connection)  # noqa: E731
        return _once(self._moves, (*_kind(definition), rdrand), asked, lambda found: found.fails is not None)


def _kind(definition: Definition) -> tuple[str | None, ...]:
    return definition.kind, definition.arch, None if definition.cpu is None else ET.tostring(definition.cpu, encoding="unicode")


def _once(kept: dict[Hashable, _T], key: Hashable, ask: Callable[[], _T], is_known: Callable[[_T], bool]) -> _T:
    """The answer, kept where it is one; two that ask at the same moment both ask."""
    if key in kept:
        return kept[key]
    answer = ask()
    if is_known(answer):
        kept[key] = answer
    return answer


def connected(uris: list[str | None], stack: contextlib.ExitStack) -> tuple[list[Host], dict[str | None, ToolkitError]]:
    """The hosts that answer, each once, and why the others do not. They are asked at once: one that hangs delays no other."""
    answers = dict(at_once([partial(_opened, uri) for uri in uris]))
    hosts: dict[str, Host] = {}
    failed: dict[str | None, ToolkitError] = {}
    for place, uri in enumerate(uris):
        answer = answers[place]
        if isinstance(answer, (GuestError, UnavailableError)):
            failed[uri] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            left, host = answer
            stack.push(left)
            if not any(_is_one(host, other) for other in hosts.values()):
                hosts.setdefault(host.connection.uri, host)
    _tell_apart(list(hosts.values()))
    missing = tuple(
        Move(visible(uri or "libvirt's default address"), None, None, error.what, visible(uri or "", None))
        for uri, error in failed.items()
    )
    for host in hosts.values():
        host.missing = missing
    return list(hosts.values()), failed


def _is_one(host: Host, other: Host) -> bool:
    """Whether two addresses lead to one libvirt. A machine can have several, so that its domains must be the same as well."""
    ours, theirs = ({(each.uuid, each.name, each.number) for each in one.domains} for one in (host, other))
    return host.machine == other.machine and bool(ours) and ours == theirs


def _tell_apart(hosts: list[Host]) -> None:
    alike = Counter(host.name for host in hosts)
    machines = Counter(name for _, name in {host.machine for host in hosts})
    for host in hosts:
        if machines[host.machine[1]] > 1:
            host.own_name = None
        if alike[host.machine[1]] > 1:
            host.name = host.connection.uri


def _opened(uri: str | None) -> tuple[contextlib.ExitStack, Host]:
    with contextlib.ExitStack() as stack:
        host = Host(stack.enter_context(connect(uri)))
        return stack.pop_all(), host
