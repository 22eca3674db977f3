"""Taking a device of ours out of a running guest without harm to it: whether it can go now, and its going.

A virtio-rng is the delicate one. The kernel's thread that reads it ends by itself when the device dies under a read, and
``hwrng_unregister`` then stops a thread that is no more: a null pointer, and the guest's worker for PCI hot-plugging is dead (seen
with 6.1 in one of ten unplugs right after a plug). The thread is safe to stop while it sleeps between two reads, about a minute.
"""

from __future__ import annotations

import math
import time

from toolkit.errors import GuestError
from toolkit.guests.connection import Domain
from toolkit.guests.domain_xml import OUR_CONTROLLER, OUR_RNG, Definition
from toolkit.guests.qga import GuestAgent

__all__ = ["unplug", "why_not_now"]

#: How long a guest may take to let a device go; a request that it missed is made again.
_LETTING_GO_S = 40.0
_ASK_AGAIN_S = 3.0
_PAUSE_S = 0.1
#: How long the guest's reading of a virtio-rng is waited for; a read lasts as long as the device's limit makes it.
_REST_S = 20.0
_REST_PAUSE_S = 0.5

#: Succeeds when every thread of drivers/char/hw_random/core.c sleeps, and not within a read: a read shows above hwrng_fillfn, while
#: its sleep in drivers/char/random.c shows as a function of that, or not at all where the compiler made it a jump.
_AT_REST = """
for comm in $(grep -lxs hwrng /proc/[0-9]*/comm); do
    task=${comm%comm}
    [ -e $comm ] || continue
    grep -qs ') S ' ${task}stat || exit 1
    head -n 1 ${task}stack 2>/dev/null | grep -qE 'hwrng_fillfn|add_hwgenerator_randomness' || exit 1
done
"""


def why_not_now(domain: Domain, definition: Definition, alias: str) -> str | None:
    """Why a device of ours cannot leave the running guest without risk to it; None where it can.

    Parameters
    ----------
    domain, definition : Domain, Definition
        The running domain, and its live definition.
    alias : str
        The device's alias.
    """
    if alias == OUR_CONTROLLER:
        return "libvirt cannot unplug a virtio-serial controller"
    if not definition.is_pci(alias):
        return None
    refusal = definition.refuses_unplug()
    if refusal is not None:
        return refusal.what
    return _why_not_at_rest(domain) if alias == OUR_RNG else None


def _why_not_at_rest(domain: Domain) -> str | None:
    danger = "a kernel can crash over a virtio-rng that goes while it reads it"
    agent = GuestAgent(domain.agent, domain.name)
    deadline = time.monotonic() + _REST_S
    rested = False
    while True:
        try:
            rests = agent.run(["sh", "-c", _AT_REST]).status == 0
        except GuestError as error:
            return f"{danger}, and whether it does cannot be asked ({error.what})"
        if rests and rested:  # twice: a guest that is just taking the device in has no thread yet
            return None
        rested = rests
        if time.monotonic() > deadline:
            return f"{danger}, and it did so for {_REST_S:g} s"
        time.sleep(_REST_PAUSE_S)


def unplug(domain: Domain, alias: str) -> None:
    """Ask the running guest to let a device of ours go, again and again, until it has.

    Raises
    ------
    GuestError
        If it has not in a long time, or libvirt refuses.
    """
    deadline = time.monotonic() + _LETTING_GO_S
    refused: GuestError | None = None
    asked = -math.inf
    while Definition(domain.xml(live=True)).has(alias):
        now = time.monotonic()
        if now > deadline:
            said = "" if refused is None else f" ({refused.what})"
            raise GuestError(
                f"the guest of domain {domain.shown} has not let go of the device {alias} within {_LETTING_GO_S:g} s{said}",
                "Detach it again when the guest runs and answers; it goes with the domain's next shutdown in any case.",
            )
        if now - asked >= _ASK_AGAIN_S:
            try:
                domain.detach(alias, live=True)
                refused = None
            except GuestError as error:
                refused = error  # that it is at it already, say; what counts is whether the device goes
            asked = time.monotonic()
        else:
            time.sleep(_PAUSE_S)
