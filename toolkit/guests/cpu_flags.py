"""Whether a domain's processor offers RDRAND and RDSEED to its guest, from its definition and from what libvirt makes of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from toolkit.errors import GuestError
from toolkit.guests.connection import Connection
from toolkit.guests.domain_xml import Definition

__all__ = ["AS_THE_HOST", "CpuFlags", "cpu_flags", "features_offered"]

_FLAGS = ("rdrand", "rdseed")
_OFFERED = {"force": True, "require": True, "optional": None, "disable": False, "forbid": False}
#: Modes in which the guest has the processor that the hypervisor can offer, and no model of its own.
AS_THE_HOST = ("host-model", "host-passthrough", "maximum")


@dataclass(frozen=True)
class CpuFlags:
    """The flags, None where it cannot be told, and what tells it."""

    rdrand: bool | None
    rdseed: bool | None
    detail: str


def cpu_flags(connection: Connection, definition: Definition) -> CpuFlags:
    """What the guest's processor offers.

    A feature that the definition names itself is as it says. Of the rest, libvirt expands the model; a processor that is the
    host's, or QEMU's best, is expanded from what libvirt says that domains of this kind can have.
    """
    if definition.arch not in ("x86_64", "i686"):
        return CpuFlags(None, None, f"not told for {definition.arch}")
    cpu = definition.cpu
    if cpu is None:
        return CpuFlags(None, None, "the definition names no processor")
    said = _features(cpu)
    mode = cpu.get("mode") or "custom"
    try:
        if mode in AS_THE_HOST:
            expanded = features_offered(connection, definition, definition.emulator, definition.machine)
            detail = f"{mode}, as libvirt says that {definition.kind} offers here"
        else:
            model = cpu.findtext("model") or ""
            expanded = _expanded(connection, definition, cpu, definition.emulator, definition.machine)
            detail = f"model {model}, as libvirt expands it"
    except GuestError as error:
        expanded, detail = None, f"libvirt does not expand it: {error.what}"
    rdrand, rdseed = (_offered(flag, said, expanded) for flag in _FLAGS)
    return CpuFlags(rdrand, rdseed, detail)


def _offered(flag: str, said: dict[str, str], expanded: dict[str, str] | None) -> bool | None:
    if flag in said:
        return _OFFERED.get(said[flag])
    return None if expanded is None else _OFFERED.get(expanded.get(flag, "disable"))


def _features(cpu: ET.Element) -> dict[str, str]:
    """Features by name, with their policy; an expansion gives none, and means that they are there."""
    return {each.get("name", ""): each.get("policy", "require") for each in cpu.findall("feature")}


def features_offered(
    connection: Connection, definition: Definition, emulator: str | None = None, machine: str | None = None
) -> dict[str, str]:
    """The features that a host's hypervisor can offer to such a domain, with their policy; by default by its own emulator.

    Raises
    ------
    GuestError
        If libvirt does not tell.
    """
    cpu = _host_model(connection, definition, emulator, machine)
    return _expanded(connection, definition, cpu, emulator, machine)


def _host_model(connection: Connection, definition: Definition, emulator: str | None, machine: str | None) -> ET.Element:
    """The processor that libvirt would make of host-model for such a domain."""
    text = connection.domain_capabilities(emulator, definition.arch, machine, definition.kind)
    found = _parsed(text).find("cpu/mode[@name='host-model']")
    if found is None or found.get("supported") != "yes":
        raise GuestError("libvirt knows no host-model for such domains")
    cpu = ET.Element("cpu", {"mode": "custom", "match": "exact"})
    cpu.extend(each for each in found if each.tag in ("model", "vendor", "feature"))
    return cpu


def _expanded(
    connection: Connection, definition: Definition, cpu: ET.Element, emulator: str | None, machine: str | None
) -> dict[str, str]:
    asked = ET.Element("cpu", {"mode": "custom", "match": "exact"})
    for each in cpu:
        if each.tag == "model":
            model = ET.SubElement(asked, "model")
            model.text = each.text
        elif each.tag == "feature":
            asked.append(each)
    text = ET.tostring(asked, encoding="unicode")
    text = connection.hypervisor_cpu(emulator, definition.arch, machine, definition.kind, text)
    return _features(_parsed(text))


def _parsed(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)  # noqa: S314 - libvirt wrote it
    except ET.ParseError as error:
        raise GuestError(f"what libvirt says cannot be read: {error}") from error
