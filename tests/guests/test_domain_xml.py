"""What may be added to a running domain, decided from its XML alone."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from toolkit.errors import GuestError, UsageError
from toolkit.guests.domain_xml import UNLIMITED, Definition, RngLimit, controller_xml, port_xml, rng_xml
from toolkit.guests.wire import PORT_NAME


def _domain(machine: str, devices: str, *, acpi: bool = True, arch: str = "x86_64") -> Definition:
    features = "<features><acpi/></features>" if acpi else "<features><apic/></features>"
    os = f"<os><type arch='{arch}' machine='{machine}'>hvm</type></os>"
    return Definition(f"<domain type='qemu'>{os}{features}<devices>{devices}</devices></domain>")


def _pci(bus: int, slot: int = 0) -> str:
    return f"<address type='pci' domain='0x0000' bus='0x{bus:02x}' slot='0x{slot:02x}' function='0x0'/>"


def _root_port(index: int, target: str = "") -> str:
    return (
        f"<controller type='pci' index='{index}' model='pcie-root-port'><target chassis='1' {target}/>{_pci(0, index)}</controller>"
    )


_TWO_PORTS = "<controller type='pci' index='0' model='pcie-root'/>" + _root_port(1) + _root_port(10)
_ON_TEN = f"<interface>{_pci(10)}</interface>"


@pytest.mark.parametrize("machine", ["q35", "pc-q35-7.2", "pc", "pc-i440fx-2.9"])
def test_without_acpi_no_pci_device_comes_or_goes(machine: str) -> None:
    refused = _domain(machine, _TWO_PORTS, acpi=False).refuses_pci()
    assert refused is not None
    assert "ACPI" in refused.what
    assert "--next-boot" in refused.remedy
    assert _domain(machine, _TWO_PORTS, acpi=False).refuses_unplug() is not None
    assert _domain(machine, _TWO_PORTS).refuses_pci() is None


@pytest.mark.parametrize(
    ("machine", "arch"), [("microvm", "x86_64"), ("virt-7.2", "aarch64"), ("s390-ccw-virtio", "s390x"), ("", "x86_64")]
)
def test_a_machine_that_nobody_has_tried_is_refused(machine: str, arch: str) -> None:
    refused = _domain(machine, _TWO_PORTS, arch=arch).refuses_pci()
    assert refused is not None
    assert "not known to be safe" in refused.what


def test_on_q35_each_device_needs_a_root_port_that_is_free() -> None:
    definition = _domain("pc-q35-7.2", _TWO_PORTS + _ON_TEN)
    assert definition.refuses_pci(1) is None
    assert definition.refuses_pci(2) is not None
    full = _domain("pc-q35-7.2", _TWO_PORTS + _ON_TEN + f"<rng>{_pci(1)}</rng>")
    assert full.refuses_pci() is not None
    assert full.refuses_unplug() is None


def test_a_root_port_that_takes_no_hot_plugged_device_is_not_free() -> None:
    assert _domain("q35", _root_port(1, "hotplug='off'")).refuses_pci() is not None
    assert _domain("q35", _root_port(1, "hotplug='on'")).refuses_pci() is None


def test_on_pc_each_device_needs_a_slot_that_is_free() -> None:
    taken = "".join(f"<disk>{_pci(0, slot)}</disk>" for slot in range(3, 31))
    assert _domain("pc", taken).refuses_pci(1) is None
    assert _domain("pc", taken).refuses_pci(2) is not None
    closed = "<controller type='pci' index='0' model='pci-root'><target hotplug='off'/></controller>"
    assert _domain("pc", closed).refuses_pci() is not None


def test_a_port_needs_a_controller_when_there_is_none_or_all_are_full() -> None:
    def ports(controller: int, count: int) -> str:
        address = "<address type='virtio-serial' controller='{}' bus='0' port='{}'/>"
        return "".join(f"<channel type='pty'>{address.format(controller, number)}</channel>" for number in range(1, count + 1))

    controller = "<controller type='virtio-serial' index='{}'/>"
    assert _domain("q35", "").needs_controller()
    assert not _domain("q35", controller.format(0)).needs_controller()
    assert not _domain("q35", controller.format(0) + ports(0, 29)).needs_controller()
    full = _domain("q35", controller.format(0) + ports(0, 30))
    assert full.needs_controller()
    assert full.free_controller_index() == 1
    assert not _domain("q35", controller.format(0) + controller.format(1) + ports(0, 30)).needs_controller()
    assert _domain("q35", "<controller type='virtio-serial' index='0' ports='2'/>" + ports(0, 1)).needs_controller()


@pytest.mark.parametrize(
    ("backend", "source"),
    [
        ("<backend model='random'>/dev/random</backend>", "/dev/random"),
        ("<backend model='egd' type='udp'><source mode='bind' service='1234'/></backend>", "1234"),
        ("<backend model='egd' type='tcp'><source mode='connect' host='h' service='1'/></backend>", "h"),
        ("<backend model='builtin'/>", None),
    ],
)
def test_backends_of_an_rng_are_read(backend: str, source: str | None) -> None:
    (device,) = _domain("q35", f"<rng model='virtio'><rate bytes='7'/>{backend}</rng>").rng_devices()
    assert (device.source, device.max_bytes, device.period_ms) == (source, 7, 1000)
    (unlimited,) = _domain("q35", f"<rng model='virtio'>{backend}</rng>").rng_devices()
    assert unlimited.same_limit(UNLIMITED)
    assert device.same_limit(RngLimit(7))
    assert not device.same_limit(RngLimit(7, 2000))
    assert not device.same_limit(UNLIMITED)


def test_our_port_is_known_by_its_alias_before_its_name() -> None:
    named = f"<channel type='unix'><target type='virtio' name='{PORT_NAME}'/><alias name='channel3'/></channel>"
    port = _domain("q35", named).port()
    assert port is not None
    assert port.alias == "channel3"
    port = _domain("q35", named + port_xml()).port()
    assert port is not None
    assert port.alias == "ua-virt-toolkit-port"
    assert _domain("q35", "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>").port() is None


def test_what_we_add_is_what_we_read() -> None:
    for limit in (UNLIMITED, RngLimit(1024, 4000)):
        (device,) = _domain("q35", rng_xml(limit)).rng_devices()
        assert device.same_limit(limit)
        assert (device.backend, device.source) == ("random", "/dev/urandom")
    assert ET.fromstring(controller_xml(3)).get("index") == "3"


@pytest.mark.parametrize(("max_bytes", "period_ms"), [(0, 1000), (-1, 1000), (1024, 0), (2**31, 1000)])
def test_limits_that_cannot_be_meant_are_refused(max_bytes: int, period_ms: int) -> None:
    with pytest.raises(UsageError):
        RngLimit(max_bytes, period_ms)


def test_what_is_no_xml_is_an_error_of_ours() -> None:
    with pytest.raises(GuestError):
        Definition("<domain>")
