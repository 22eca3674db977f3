"""What would become of a domain on the other hosts of a set: by libvirt's comparison of processors, and by what each can offer.

libvirt compares a processor that has a model, unless the definition has it not check (``check='none'``). Such a one, and one that
is the host's, whatever that is, it moves without a word, and the guest has what it finds there at its next start at the latest.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from toolkit.errors import GuestError
from toolkit.guests.audit_facts import Move
from toolkit.guests.connection import Connection, NoAnswerError
from toolkit.guests.cpu_flags import AS_THE_HOST, features_offered
from toolkit.guests.domain_xml import Definition

__all__ = ["move"]

_X86 = ("x86_64", "i686")


def move(definition: Definition, rdrand: bool | None, host: str, there: Connection) -> Move:
    """What would become of a domain on another host.

    Parameters
    ----------
    definition : Definition
        As another host would be given it (``Domain.migratable_xml``).
    rdrand : bool or None
        Whether its guest has RDRAND where it is.
    host, there : str, Connection
        The other host.

    Returns
    -------
    Move
        What libvirt does not tell is None, with its words.

    Raises
    ------
    NoAnswerError
        If the other host does not answer in time.
    """
    if definition.arch not in _X86:
        return Move(host, None, None, f"not told for {definition.arch}")
    cpu = definition.cpu
    mode = "" if cpu is None else cpu.get("mode") or "custom"
    try:
        offered = "rdrand" in features_offered(there, definition)
        if cpu is None or not (mode in AS_THE_HOST or cpu.findtext("model")):
            return Move(host, False, rdrand, "its definition names no processor, and QEMU's default is the same everywhere")
        if mode in AS_THE_HOST:
            given = _policies(cpu).get("rdrand")
            has = False if given in ("disable", "forbid") else offered
            return Move(
                host, given == "require" and not offered, has, f"{mode}: libvirt compares nothing, it has what that host has"
            )
        refusal = there.refuses_cpu(definition.arch, definition.kind, _asked(cpu))
    except NoAnswerError:
        raise  # whoever asks for many domains wants to know that this host hangs
    except GuestError as error:
        return Move(host, None, None, error.what)
    if refusal is None:
        return Move(host, False, rdrand)
    if cpu.get("check") == "none":
        return Move(host, False, offered, f"its definition has libvirt not check; else it would say: {refusal}")
    return Move(host, True, offered, refusal)


def _policies(cpu: ET.Element) -> Mapping[str, str]:
    return {each.get("name", ""): each.get("policy", "require") for each in cpu.findall("feature")}


def _asked(cpu: ET.Element) -> str:
    """The processor alone, as libvirt compares it: no topology, no caches."""
    asked = ET.Element("cpu", {"mode": "custom", "match": cpu.get("match") or "exact"})
    for each in cpu:
        if each.tag == "model":
            ET.SubElement(asked, "model").text = each.text
        elif each.tag in ("vendor", "feature"):
            asked.append(each)
    return ET.tostring(asked, encoding="unicode")
