"""A connection to libvirt, and a domain on it: every call has a time limit, and every failure is a :class:`GuestError`.

libvirt-python is an optional extra; only this module imports it. What is asked of a domain, and what its XML means, live elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeVar

from toolkit.errors import GuestError, UnavailableError
from toolkit.markup import visible

__all__ = ["Connection", "Domain", "NoAnswerError", "connect", "in_time"]

_T = TypeVar("_T")

#: How long a call may take. A monitor that hangs would hold it for ever, and libvirt waits 30 s for a domain's other work itself.
CALL_LIMIT_S = 40.0
#: How long a call that is under way is waited for when the user interrupts.
_LAST_MOMENT_S = 10.0
#: How long an answer of qemu-guest-agent may take, where nothing else is said.
AGENT_LIMIT_S = 5.0

#: What libvirt puts before an agent's own error (qemuAgentCheckError of src/qemu/qemu_agent.c).
_REFUSED = "unable to execute QEMU agent command "

#: virDomainState of libvirt-domain.h.
_STATES = {0: "no state", 1: "running", 2: "blocked", 3: "paused", 4: "shutting down", 5: "shut off", 6: "crashed", 7: "suspended"}


class NoAnswerError(GuestError):
    """A call did not come back in time: libvirt, or the QEMU behind it, hangs."""


def _binding() -> tuple[ModuleType, ModuleType]:
    """The modules of libvirt-python.

    Raises
    ------
    UnavailableError
        If it is not installed.
    """
    try:
        import libvirt
        import libvirt_qemu
    except ImportError as error:
        raise UnavailableError(
            f"libvirt-python is not there ({error}), and without it no domain can be asked",
            "It is built here: as root run  apt-get install libvirt-dev pkg-config gcc libc6-dev python3-dev  and then  "
            "python -m pip install 'virt-toolkit[libvirt]'  (in a checkout: make test, or scripts/set-up.sh report).",
        ) from error
    libvirt.registerErrorHandler(lambda *_: None, None)  # it would write each error to standard error as well
    return libvirt, libvirt_qemu


def in_time(call: Callable[[], _T], limit_s: float, doing: str) -> _T:
    """Make a call in a thread of its own; after the limit it is left to itself.

    A thread in a call of a C library hears no signal, so the caller's own thread waits here, where Ctrl-C reaches it.

    Raises
    ------
    NoAnswerError
        If it does not come back in time.
    """
    came: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()

    def made() -> None:
        try:
            came.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            came.put((None, error))

    threading.Thread(target=made, name=f"toolkit {doing}"[:60], daemon=True).start()
    try:
        value, error = came.get(timeout=limit_s)
    except queue.Empty:
        raise NoAnswerError(
            f"{doing}: no answer within {limit_s:g} s", "Look whether libvirtd and the domain's QEMU still answer: virsh list."
        ) from None
    except KeyboardInterrupt:
        # What was begun is under way, and whoever undoes it now must find it done: it is given a moment.
        with contextlib.suppress(queue.Empty):
            came.get(timeout=_LAST_MOMENT_S)
        raise
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


class Connection:
    """A connection to libvirt's QEMU driver. Made by :func:`connect`.

    Attributes
    ----------
    uri : str
        As libvirt names it.
    """

    def __init__(self, handle: Any, libvirt: ModuleType, libvirt_qemu: ModuleType, uri: str) -> None:
        self._handle = handle
        self.libvirt = libvirt
        self.libvirt_qemu = libvirt_qemu
        self.uri = uri

    def call(self, doing: str, call: Callable[[], _T], limit_s: float = CALL_LIMIT_S) -> _T:
        """Make a call of libvirt's.

        Raises
        ------
        GuestError
            If libvirt refuses it or does not answer in time; ``__cause__`` is libvirt's own error.
        """
        try:
            return in_time(call, limit_s, doing)
        except self.libvirt.libvirtError as error:
            raise GuestError(f"{doing}: libvirt says: {visible(error.get_error_message() or error, 500)}") from error

    def domains(self) -> list[Domain]:
        """All domains, by name."""
        found = self.call("listing the domains", lambda: self._handle.listAllDomains(0))
        return sorted((Domain(self, each) for each in found), key=lambda domain: domain.name)

    def domain(self, name: str) -> Domain:
        """The domain of exactly that name, else of that UUID.

        Raises
        ------
        GuestError
            If there is none, or it cannot be asked.
        """
        lookups: list[Callable[[], Any]] = [lambda: self._handle.lookupByName(name)]
        with contextlib.suppress(ValueError):
            by_uuid = str(uuid.UUID(name))
            lookups.append(lambda: self._handle.lookupByUUIDString(by_uuid))
        for lookup in lookups:
            try:
                return Domain(self, self.call(f"looking for the domain {visible(name)}", lookup))
            except GuestError as error:
                cause = error.__cause__
                if not isinstance(cause, self.libvirt.libvirtError) or cause.get_error_code() != self.libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        raise GuestError(
            f"there is no domain {visible(name)} at {self.uri}",
            "'toolkit guests list' shows those there are; --uri asks elsewhere.",
        )

    def hypervisor_cpu(self, emulator: str | None, arch: str | None, machine: str | None, kind: str, cpu: str) -> str:
        """A CPU definition with all the features that its model stands for, as XML."""
        flags = self.libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
        asked = lambda: self._handle.baselineHypervisorCPU(emulator, arch, machine, kind, [cpu], flags)  # noqa: E731
        return str(self.call("expanding a CPU model", asked, 10.0))

    def host_name(self) -> str:
        """The name of the machine that libvirt runs on, as it says itself."""
        return str(self.call("asking its host's name", self._handle.getHostname, 10.0))

    def host_uuid(self) -> str:
        """The UUID of the machine that libvirt runs on, by its firmware or a configuration; empty where it does not say."""
        text = str(self.call("asking what its host can do", self._handle.getCapabilities, 10.0))
        found = re.search(r"<uuid>([0-9a-fA-F-]{36})</uuid>", text)
        return "" if found is None else found[1]

    def refuses_cpu(self, arch: str | None, kind: str, cpu: str) -> str | None:
        """Why domains of this kind cannot have this processor here, in libvirt's words; None where they can."""
        flags = self.libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
        asked = lambda: self._handle.compareHypervisorCPU(None, arch, None, kind, cpu, flags)  # noqa: E731
        try:
            found = self.call("comparing processors", asked, 10.0)
        except GuestError as error:
            cause = error.__cause__
            if isinstance(cause, self.libvirt.libvirtError) and cause.get_error_code() == self.libvirt.VIR_ERR_CPU_INCOMPATIBLE:
                return visible(cause.get_error_message() or "the processors do not fit", 300)
            raise
        return None if found > self.libvirt.VIR_CPU_COMPARE_INCOMPATIBLE else "the processors do not fit"

    def domain_capabilities(self, emulator: str | None, arch: str | None, machine: str | None, kind: str) -> str:
        """What libvirt says that domains of this kind can have, as XML."""
        asked = lambda: self._handle.getDomainCapabilities(emulator, arch, machine, kind, 0)  # noqa: E731
        return str(self.call("asking what domains can have", asked, 10.0))


class Domain:
    """A domain of libvirt's. What it is asked is bounded in time; what it says is the guest's owner's word, not ours."""

    def __init__(self, connection: Connection, handle: Any) -> None:
        self.connection = connection
        self._handle = handle
        self.name = str(handle.name())
        self.uuid = str(handle.UUIDString())
        #: libvirt's number of it while it runs; -1 while it does not.
        self.number = int(handle.ID())

    @property
    def shown(self) -> str:
        """Its name, fit for an error or a terminal."""
        return visible(self.name)

    def _call(self, doing: str, call: Callable[[], _T], limit_s: float = CALL_LIMIT_S) -> _T:
        return self.connection.call(f"domain {self.shown}: {doing}", call, limit_s)

    def state(self) -> str:
        """``running``, ``paused``, ``shut off`` …"""
        number = self._call("asking its state", lambda: self._handle.state(0)[0], 10.0)
        return _STATES.get(number, f"state {number}")

    def is_active(self) -> bool:
        """Whether it has a QEMU process."""
        return bool(self._call("asking whether it is active", self._handle.isActive, 10.0))

    def is_persistent(self) -> bool:
        """Whether it has a configuration that outlives a shutdown."""
        return bool(self._call("asking whether it is persistent", self._handle.isPersistent, 10.0))

    def xml(self, *, live: bool) -> str:
        """Its definition: as it runs now, or as it will start the next time."""
        flags = 0 if live else self.connection.libvirt.VIR_DOMAIN_XML_INACTIVE
        return str(self._call("reading its definition", lambda: self._handle.XMLDesc(flags), 10.0))

    def migratable_xml(self) -> str:
        """Its definition as another host would be given it, in which a running guest's processor is as it was made."""
        flags = self.connection.libvirt.VIR_DOMAIN_XML_MIGRATABLE
        return str(self._call("reading its definition for a move", lambda: self._handle.XMLDesc(flags), 10.0))

    def attach(self, device: str, *, live: bool) -> None:
        """Add a device to the running domain, or to its configuration."""
        flags = self._affect(live)
        where = "the running guest" if live else "its configuration"
        self._call(f"adding a device to {where}", lambda: self._handle.attachDeviceFlags(device, flags))

    def detach(self, alias: str, *, live: bool) -> None:
        """Ask for a device to be taken away, by its alias; a running guest may take its time for it."""
        flags = self._affect(live)
        where = "the running guest" if live else "its configuration"
        self._call(f"taking {alias} from {where}", lambda: self._handle.detachDeviceAlias(alias, flags))

    def _affect(self, live: bool) -> int:
        library = self.connection.libvirt
        return int(library.VIR_DOMAIN_AFFECT_LIVE if live else library.VIR_DOMAIN_AFFECT_CONFIG)

    def agent(self, command: Mapping[str, Any], limit_s: float = AGENT_LIMIT_S) -> Mapping[str, Any]:
        """Send a command to its qemu-guest-agent; gives the answer, as a ``Command`` of :mod:`toolkit.guests.qga`.

        Raises
        ------
        GuestError
            If the agent is not there or does not answer in time. libvirt does the guest-sync.
        """
        name = visible(command.get("execute"))
        library = self.connection.libvirt_qemu
        text = json.dumps(command)
        try:
            # libvirt takes whole seconds, and none of them would mean "do not wait".
            answer = self._call(
                f"qemu-guest-agent's {name}",
                lambda: library.qemuAgentCommand(self._handle, text, max(1, round(limit_s)), 0),
                limit_s + 5,
            )
        except GuestError as error:
            said = (
                error.__cause__.get_error_message() if isinstance(error.__cause__, self.connection.libvirt.libvirtError) else None
            )
            if said is None or _REFUSED not in said:
                raise
            return {"error": {"desc": said.split(_REFUSED, 1)[1]}}
        try:
            value = json.loads(answer)
        except (TypeError, ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise GuestError(f"domain {self.shown}: qemu-guest-agent's answer to {name} is no JSON object")
        return value


@contextlib.contextmanager
def connect(uri: str | None = None) -> Iterator[Connection]:
    """Connect to libvirt.

    Parameters
    ----------
    uri : str, optional
        Such as ``qemu:///system``; by default libvirt's own default ($LIBVIRT_DEFAULT_URI, else what it finds).

    Raises
    ------
    UnavailableError
        If libvirt-python is not installed, or what answers is no QEMU.
    GuestError
        If libvirt cannot be reached.
    """
    libvirt, libvirt_qemu = _binding()
    at = visible(uri or "its default address")
    try:
        handle = in_time(lambda: libvirt.open(uri), CALL_LIMIT_S, f"connecting to libvirt at {at}")
    except libvirt.libvirtError as error:
        raise GuestError(
            f"libvirt at {at} cannot be reached: {visible(error.get_error_message() or error, 500)}",
            "Start it (as root: systemctl start libvirtd), name another with --uri qemu:///system or qemu:///session, or join the "
            "group libvirt.",
        ) from error
    connection = Connection(handle, libvirt, libvirt_qemu, visible(uri or "the default address", None))
    try:
        kind = connection.call("asking what it is", handle.getType, 10.0)
        if kind != "QEMU":
            raise UnavailableError(f"libvirt at {at} runs {visible(kind)}, no QEMU", "Name a QEMU: --uri qemu:///system.")
        # Whole: it stands in commands that are to be run.
        connection.uri = visible(connection.call("asking its address", handle.getURI, 10.0), None)
        yield connection
    finally:
        with contextlib.suppress(GuestError):
            connection.call("closing the connection", handle.close, 5.0)
