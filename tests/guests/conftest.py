"""One libvirtd and one booted guest for all tests of this folder: started with the first test that asks, gone with the last one.

Not with the session's: an emulated guest costs half a processor while it does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guests.domains import Daemon, booting_xml, libvirt_daemon, opened, until
from tests.guests.image import debian_image
from toolkit.errors import GuestError
from toolkit.guests.connection import Domain, connect
from toolkit.guests.domain_xml import Definition
from toolkit.guests.qga import GuestAgent
from toolkit.guests.qga_socket import AgentSocket

#: A port beside that of the guest's own qemu-guest-agent, for a second one whose socket libvirt does not hold.
SECOND = "org.virt_toolkit.test.0"


@dataclass(frozen=True)
class Guest:
    """The booted domain: its libvirtd, itself, and its qemu-guest-agent through libvirt."""

    daemon: Daemon
    domain: Domain
    agent: GuestAgent

    @property
    def name(self) -> str:
        return self.domain.name

    @property
    def uri(self) -> str:
        return self.daemon.uri

    def sh(self, script: str) -> str:
        """What a script in the guest says; it must succeed."""
        ran = self.agent.run(["sh", "-c", script])
        assert ran.status == 0, ran.err
        return ran.out.decode().strip()

    @contextlib.contextmanager
    def second_agent(self, *options: str, before: str = "") -> Iterator[GuestAgent]:
        """A second qemu-guest-agent in the guest, over a plain socket; ``before`` is run in a mount namespace of its own."""
        line = (
            f"{before or 'true'} && exec qemu-ga -m virtio-serial -p /dev/virtio-ports/{SECOND} -t /run/second {' '.join(options)}"
        )
        self.sh(f"mkdir -p /run/second; systemd-run --quiet --unit=second --collect unshare -m sh -c '{line}'")
        try:
            (source,) = [port.source for port in Definition(self.domain.xml(live=True)).channels() if port.name == SECOND]
            with AgentSocket(Path(source or "")) as connected:
                agent = GuestAgent(connected, "second", 10.0)
                until(lambda: _pings(agent), "the second qemu-guest-agent", 60)
                yield agent
        finally:
            self.sh("systemctl stop second")


def _pings(agent: GuestAgent) -> bool:
    try:
        agent.call("guest-ping")
    except GuestError:
        return False
    return True


@pytest.fixture(scope="package")
def daemon() -> Iterator[Daemon]:
    with libvirt_daemon() as started:
        yield started


@pytest.fixture(scope="package")
def guest(daemon: Daemon) -> Iterator[Guest]:
    second = f"<channel type='unix'><source mode='bind'/><target type='virtio' name='{SECOND}'/></channel>"
    xml = booting_xml("guest", debian_image(), daemon.folder, second)
    with opened(daemon) as connection:
        connection.defineXML(xml).create()
    with connect(daemon.uri) as connection:
        domain = connection.domain("guest")
        agent = GuestAgent(domain.agent, domain.name, 10.0)
        until(lambda: _pings(agent), "the guest's qemu-guest-agent")
        # A unit that is still to start would run beside the first tests.
        until(lambda: agent.run(["systemctl", "is-system-running"]).out.strip() == b"running", "the guest's start")
        yield Guest(daemon, domain, agent)
