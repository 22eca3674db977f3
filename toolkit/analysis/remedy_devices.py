"""What to do about a domain's virtio-rng: one added, its limit taken out or exchanged, as XML and the lines that put it there.

A device is offered to a running guest only where hot-plugging is safe; everywhere else to its configuration, for its next start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from toolkit.analysis.boot_sources import stalling, too_tight, unproven_backend
from toolkit.analysis.remedy_commands import Remedy, virsh
from toolkit.guests.audit_facts import Facts, Target
from toolkit.guests.domain_xml import RngDevice
from toolkit.guests.short_answers import REQUEST_BYTES, next_fitting

__all__ = ["UNLIMITED_RNG_XML", "add_rng", "fed_from_urandom", "fitting", "unlimited"]

#: Fed from the host's /dev/urandom, which never blocks; a limit is what makes a virtio-rng slow, so it has none.
UNLIMITED_RNG_XML = "<rng model='virtio'>\n  <backend model='random'>/dev/urandom</backend>\n</rng>\n"
_BACKEND_XML = "<backend model='random'>/dev/urandom</backend>\n"


def add_rng(target: Target | None, *, has_one: bool = False) -> Remedy:
    """A virtio-rng for a guest that has none: at once where that is safe, else for its next start.

    ``has_one``: it runs with one that its configuration lacks, and needs none now.
    """
    if target is None:
        return Remedy("Give it a virtio-rng without a limit, on its host.", None, UNLIMITED_RNG_XML)
    if has_one:
        words, options = "It runs with one; this is for its next start.", "--config"
    elif not target.running:
        words, options = "It is there when it next starts.", "--config"
    elif target.hot_pluggable:
        words, options = "It can come while the guest runs.", "--live --config" if target.persistent else "--live"
    elif target.persistent:
        words = (
            f"For its next start alone: shut it down and start it, a reboot is not enough. While it runs, adding it is not safe: "
            f"{target.why_not or 'that was not asked'}."
        )
        options = "--config"
    else:
        what = "Put a virtio-rng into the definition that it is made from; while it runs, adding it is not safe"
        return Remedy(f"{what}: {target.why_not or 'that was not asked'}.", None, UNLIMITED_RNG_XML)
    return Remedy(
        f"Give it a virtio-rng without a limit (save as rng.xml). {words}",
        virsh(target, "attach-device", f"rng.xml {options}"),
        UNLIMITED_RNG_XML,
    )


def unlimited(facts: Facts) -> Iterator[Remedy]:
    """The tightest limit taken out of its configuration."""
    device, target = too_tight(facts), facts.target
    if target is None or not target.persistent:
        yield Remedy("Take the limit <rate …/> out of the definition that it is made from.", None, UNLIMITED_RNG_XML)
    elif device is None or _device_xml(device) is None:
        yield Remedy("Take the line <rate …/> out of its <rng>; that counts from its next start on.", virsh(target, "edit"))
    else:
        yield from _exchanged(target, device, "without a limit", _unlimited_xml(device))


def fitting(facts: Facts) -> Iterator[Remedy]:
    """The next limit behind which no driver stalls, with the same period: a little more than what was meant, never less."""
    device, target = stalling(facts), facts.target
    if device is None or device.max_bytes is None:
        return
    new_device = replace(device, max_bytes=next_fitting(device.max_bytes))
    what = f"of {new_device.max_bytes} bytes, which {REQUEST_BYTES} divide or are divided by"
    new = _device_xml(new_device)
    if target is None or not target.persistent:
        yield Remedy(f"Give it a limit {what}, in the definition that it is made from.", None, new or _rate_xml(new_device) + "\n")
    elif new is None:
        yield Remedy(
            f"Give its <rng> a limit {what}: this line. It counts from its next start on.",
            virsh(target, "edit"),
            _rate_xml(new_device) + "\n",
        )
    else:
        yield from _exchanged(target, device, f"with a limit {what}", new)


def fed_from_urandom(facts: Facts) -> Iterator[Remedy]:
    """The host's /dev/urandom in place of what may block, run dry or be gone."""
    device, target = unproven_backend(facts), facts.target
    if device is None:
        return
    if target is None or not target.persistent:
        yield Remedy("Feed it from its host's /dev/urandom, in the definition that it is made from.", None, _BACKEND_XML)
    elif _device_xml(device) is None:
        what = "Feed its <rng> from its host's /dev/urandom: this line in place of its <backend>. It counts from its next start on."
        yield Remedy(what, virsh(target, "edit"), _BACKEND_XML)
    else:
        yield from _exchanged(target, device, "fed from its host's /dev/urandom", _unlimited_xml(device), "old")


def _exchanged(target: Target, device: RngDevice, which: str, new: str, old: str = "limited") -> Iterator[Remedy]:
    """Put another device in place of a limited one, in the configuration: libvirt cannot change a limit, and a guest's kernel may
    crash where a virtio-rng that it reads goes away.
    """
    yield Remedy(
        f"Take the {old} virtio-rng out of its configuration (save as {old}.xml) …",
        virsh(target, "detach-device", f"{old}.xml --config"),
        _device_xml(device),
    )
    yield Remedy(
        f"… and put one {which} in its place (save as rng.xml). It counts from its next start on, not from a reboot.",
        virsh(target, "attach-device", "rng.xml --config"),
        new,
    )


def _device_xml(device: RngDevice) -> str | None:
    """The device as libvirt finds it again; None for a backend whose XML says more than is known here."""
    if device.backend == "random" and device.source:
        backend = f"<backend model='random'>{escape(device.source)}</backend>"
    elif device.backend == "builtin":
        backend = "<backend model='builtin'/>"
    else:
        return None
    rate = "" if device.max_bytes is None else f"  {_rate_xml(device)}\n"
    return f"<rng model={_model(device)}>\n{rate}  {backend}\n</rng>\n"


def _unlimited_xml(device: RngDevice) -> str:
    """One in its place: of its model, so that the guest finds it where it was."""
    return UNLIMITED_RNG_XML.replace("'virtio'", _model(device))


def _model(device: RngDevice) -> str:
    return quoteattr(device.model or "virtio").replace('"', "'")


def _rate_xml(device: RngDevice) -> str:
    period = f" period='{device.period_ms or 1000:d}'" if device.period_said else ""
    return f"<rate bytes='{device.max_bytes:d}'{period}/>"
