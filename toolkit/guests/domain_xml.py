"""What a domain's XML says, and what may be added to it while it runs. Text in, decisions out; no libvirt here.

The user alias (``ua-`` and a name, which libvirt keeps as it is) marks a device as ours: only what bears it is ever taken away.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from toolkit.errors import GuestError, UsageError
from toolkit.guests.wire import PORT_NAME

__all__ = [
    "OUR_CONTROLLER",
    "OUR_PORT",
    "OUR_RNG",
    "QGA_NAME",
    "UNLIMITED",
    "Channel",
    "Definition",
    "RngDevice",
    "RngLimit",
    "controller_xml",
    "port_xml",
    "rng_xml",
]

OUR_PORT = "ua-virt-toolkit-port"
OUR_RNG = "ua-virt-toolkit-rng"
OUR_CONTROLLER = "ua-virt-toolkit-serial"

#: The port of qemu-guest-agent.
QGA_NAME = "org.qemu.guest_agent.0"

#: Ports of a virtio-serial controller that libvirt makes where the XML does not say; its port 0 is kept for a console.
_PORTS = 31
#: Slots of the bus of a ``pc``: 0 is the host bridge, 1 the chipset, 2 kept for the display, whether or not the XML shows them.
_SLOTS = range(3, 32)

_NEXT_BOOT = "Use --next-boot: it changes the configuration alone, and the device is there when the domain next starts."


@dataclass(frozen=True)
class RngLimit:
    """A limit of a virtio-rng: at most ``max_bytes`` a period. Without ``max_bytes`` it is unlimited.

    Raises
    ------
    UsageError
        When it is made, if it cannot be meant.
    """

    max_bytes: int | None = None
    period_ms: int = 1000

    def __post_init__(self) -> None:
        if self.max_bytes is not None and not 1 <= self.max_bytes < 2**31:
            raise UsageError(f"{self.max_bytes} bytes a period are no limit", "Give 1 byte or more, or none for an unlimited one.")
        if not 1 <= self.period_ms < 2**31:
            raise UsageError(f"a period of {self.period_ms} ms is none", "Give 1 ms or more.")

    def __str__(self) -> str:
        return "unlimited" if self.max_bytes is None else f"{self.max_bytes} bytes a {self.period_ms} ms"


UNLIMITED = RngLimit()


@dataclass(frozen=True)
class RngDevice:
    """A domain's rng device: its model, its backend and the limit (None: unlimited).

    ``period_said`` is whether the definition names the period; without one libvirt leaves it to QEMU, which takes a second, and
    finds the device only by a definition that names none either.
    """

    model: str | None
    backend: str | None
    source: str | None
    max_bytes: int | None
    period_ms: int | None
    alias: str | None
    period_said: bool = True

    def same_limit(self, limit: RngLimit) -> bool:
        """Whether it has that limit."""
        return self.max_bytes == limit.max_bytes and (limit.max_bytes is None or self.period_ms == limit.period_ms)


@dataclass(frozen=True)
class Channel:
    """A virtio-serial port: the name that the guest sees, whether the guest has it open, and the host's socket."""

    name: str | None
    state: str | None
    source: str | None
    alias: str | None


class Definition:
    """A domain's definition, live or inactive.

    Raises
    ------
    GuestError
        When it is made, if the text is no domain's XML.
    """

    def __init__(self, text: str) -> None:
        try:
            self._root = ET.fromstring(text)  # noqa: S314 - libvirt wrote it; expat limits how far entities grow
        except ET.ParseError as error:
            raise GuestError(f"libvirt's definition of a domain cannot be read: {error}") from error

    @property
    def kind(self) -> str:
        """``kvm``, ``qemu`` (TCG), …"""
        return self._root.get("type", "")

    @property
    def arch(self) -> str | None:
        """The architecture, as libvirt names it."""
        return self._attribute("os/type", "arch")

    @property
    def machine(self) -> str | None:
        """The machine type, such as ``pc-q35-7.2``."""
        return self._attribute("os/type", "machine")

    @property
    def emulator(self) -> str | None:
        """The path of its QEMU."""
        return self._root.findtext("devices/emulator")

    @property
    def acpi(self) -> bool:
        """Whether it has ACPI, by which it learns of PCI devices that come and go."""
        return self._root.find("features/acpi") is not None

    @property
    def cpu(self) -> ET.Element | None:
        """The element ``cpu``, where it has one."""
        return self._root.find("cpu")

    def _attribute(self, path: str, name: str) -> str | None:
        found = self._root.find(path)
        return None if found is None else found.get(name)

    def rng_devices(self) -> list[RngDevice]:
        """Its rng devices."""
        return [
            RngDevice(
                each.get("model"),
                _of(each.find("backend"), "model"),
                _backend_source(each.find("backend")),
                _number(_of(each.find("rate"), "bytes")),
                None if each.find("rate") is None else _number(_of(each.find("rate"), "period") or "1000"),
                _of(each.find("alias"), "name"),
                each.find("rate") is None or _of(each.find("rate"), "period") is not None,
            )
            for each in self._root.findall("devices/rng")
        ]

    def channels(self) -> list[Channel]:
        """Its virtio-serial ports (channels of other kinds left out)."""
        found = []
        for each in self._root.findall("devices/channel"):
            target = each.find("target")
            if target is not None and target.get("type") == "virtio":
                source = _of(each.find("source"), "path")
                found.append(Channel(target.get("name"), target.get("state"), source, _of(each.find("alias"), "name")))
        return found

    def port(self) -> Channel | None:
        """The toolkit's port: the one that ``attach`` made, else one that somebody else gave the same name."""
        named = [each for each in self.channels() if each.name == PORT_NAME or each.alias == OUR_PORT]
        return next((each for each in named if each.alias == OUR_PORT), named[0] if named else None)

    def qga(self) -> Channel | None:
        """The port of qemu-guest-agent."""
        return next((each for each in self.channels() if each.name == QGA_NAME), None)

    def has(self, alias: str) -> bool:
        """Whether a device bears this alias."""
        return any(each.get("name") == alias for each in self._root.iterfind("devices/*/alias"))

    def is_pci(self, alias: str) -> bool:
        """Whether the device of this alias is on a PCI bus."""
        for each in self._root.iterfind("devices/*"):
            if _of(each.find("alias"), "name") == alias:
                return _of(each.find("address"), "type") == "pci"
        return False

    def needs_controller(self) -> bool:
        """Whether a further port needs a further virtio-serial controller, which is a PCI device."""
        used: dict[str, int] = {}
        for each in [*self._root.findall("devices/channel"), *self._root.findall("devices/console")]:
            address = each.find("address")
            if address is not None and address.get("type") == "virtio-serial":
                used[address.get("controller", "0")] = used.get(address.get("controller", "0"), 0) + 1
        controllers = self._root.findall("devices/controller[@type='virtio-serial']")
        # Port 0 is for a console alone; one place fewer is counted, so that we never rely on it.
        return not any(used.get(each.get("index", "0"), 0) < (_number(each.get("ports")) or _PORTS) - 1 for each in controllers)

    def free_controller_index(self) -> int:
        """An index for a further virtio-serial controller."""
        controllers = self._root.findall("devices/controller[@type='virtio-serial']")
        return 1 + max((_number(each.get("index")) or 0 for each in controllers), default=-1)

    def refuses_pci(self, more: int = 1) -> GuestError | None:
        """Why PCI devices cannot be added to the running guest without risk to it; None where they can.

        Parameters
        ----------
        more : int
            How many.

        Returns
        -------
        GuestError or None
            Not raised: the caller knows whose domain it is. Without ACPI, libvirt reports success on q35 and the guest loses its
            disk and its serial ports within a second; QEMU's ``pc`` refuses by itself.
        """
        found = self.refuses_unplug()
        if found is not None:
            return found
        free = self._free_root_ports() if self._is_q35() else self._free_slots()
        if free >= more:
            return None
        lacking = (
            "pcie-root-port that is free and takes hot-plugged devices" if self._is_q35() else "slot of its PCI bus that is free"
        )
        return GuestError(f"it has {free} {lacking}, and {more} would be needed", _NEXT_BOOT)

    def refuses_unplug(self) -> GuestError | None:
        """Why a PCI device can neither come nor go while the guest runs, whatever room there is; None where it can."""
        if not self._is_q35() and not self._is_pc():
            return GuestError(f"its machine type is {self.machine}, of which hot-plugging PCI is not known to be safe", _NEXT_BOOT)
        if not self.acpi:
            return GuestError(
                "it has no ACPI (<features><acpi/></features>), without which a PCI device that comes or goes can take "
                "the guest's disk and serial ports with it",
                _NEXT_BOOT,
            )
        return None

    def _is_q35(self) -> bool:
        return re.fullmatch(r"q35|pc-q35(-.*)?", self.machine or "") is not None

    def _is_pc(self) -> bool:
        return re.fullmatch(r"pc|pc-i440fx(-.*)?", self.machine or "") is not None

    def _free_root_ports(self) -> int:
        used = {_hexadecimal(address.get("bus")) for address in self._pci_addresses()}
        return sum(
            _number(each.get("index")) not in used
            for each in self._root.findall("devices/controller[@type='pci']")
            if each.get("model") == "pcie-root-port" and _of(each.find("target"), "hotplug") != "off"
        )

    def _free_slots(self) -> int:
        roots = [each for each in self._root.findall("devices/controller[@type='pci']") if each.get("model") == "pci-root"]
        if any(_of(each.find("target"), "hotplug") == "off" for each in roots):
            return 0
        used = {_hexadecimal(each.get("slot")) for each in self._pci_addresses() if _hexadecimal(each.get("bus")) == 0}
        return sum(slot not in used for slot in _SLOTS)

    def _pci_addresses(self) -> Iterator[ET.Element]:
        return (each for each in self._root.iterfind("devices/*/address") if each.get("type") == "pci")


def port_xml() -> str:
    """The channel: its socket is where libvirt puts it, bound by QEMU."""
    target = f"<target type='virtio' name={quoteattr(PORT_NAME)}/>"
    return f"<channel type='unix'><source mode='bind'/>{target}<alias name='{OUR_PORT}'/></channel>"


def controller_xml(index: int) -> str:
    """A virtio-serial controller."""
    return f"<controller type='virtio-serial' index='{index:d}'><alias name='{OUR_CONTROLLER}'/></controller>"


def rng_xml(limit: RngLimit) -> str:
    """A virtio-rng fed from the host's /dev/urandom."""
    rate = "" if limit.max_bytes is None else f"<rate bytes='{limit.max_bytes:d}' period='{limit.period_ms:d}'/>"
    return f"<rng model='virtio'>{rate}<backend model='random'>/dev/urandom</backend><alias name='{OUR_RNG}'/></rng>"


def _of(element: ET.Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)


def _backend_source(backend: ET.Element | None) -> str | None:
    """Where a backend takes its bytes: a device's path, or the host and service of an egd."""
    if backend is None:
        return None
    if backend.text and backend.text.strip():
        return backend.text.strip()
    for source in backend.iterfind("source"):
        for name in ("path", "host", "service"):
            if source.get(name):
                return source.get(name)
    return None


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _hexadecimal(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None
