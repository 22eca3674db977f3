"""What an audit knows of one domain and its guest, before anybody judges it. Nothing here asks: None is "not known", never "no".

:mod:`toolkit.guests.audit` fills these in from libvirt, the guest and a store; :mod:`toolkit.analysis.verdicts` judges them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from toolkit.guests.domain_xml import RngDevice
from toolkit.guests.short_answers import REQUEST_BYTES
from toolkit.sensors.rng import RngState

__all__ = ["Facts", "Move", "NextStart", "Target", "of_rng_state"]

#: The first kernel whose blocked getrandom gathers jitter itself (try_to_generate_entropy of drivers/char/random.c).
_FIRST_WITH_JITTER = (5, 4)
#: The first kernel with random.trust_cpu (drivers/char/random.c).
_FIRST_TO_TRUST = (4, 19)
_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,3})")
_VIRTIO = "virtio_rng"
#: Of the generator since 5.18, which stable kernels have too; before it, 4096.
_SMALL_POOL_BITS = 256


@dataclass(frozen=True)
class Move:
    """What would become of a guest on another host of the set.

    Attributes
    ----------
    host, uri : str
        The other host, and where its libvirt is.
    fails : bool or None
        Whether libvirt would refuse the move, by its comparison of the processors.
    rdrand : bool or None
        Whether the guest would have RDRAND there.
    detail : str
        libvirt's words, or why it cannot be told.
    """

    host: str
    fails: bool | None = None
    rdrand: bool | None = None
    detail: str = ""
    uri: str = ""


@dataclass(frozen=True)
class Target:
    """A domain, for the commands of a remedy.

    Attributes
    ----------
    uri, name, uuid : str
        Where libvirt is, as the user names it or libvirt does; the domain.
    running, persistent : bool
        Whether it has a process; whether it has a configuration that outlives a shutdown.
    hot_pluggable : bool
        Whether a PCI device can be added to it now without risk (see ``Definition.refuses_pci``), and ``why_not``: why it cannot.
    """

    uri: str
    name: str
    uuid: str
    running: bool = False
    persistent: bool = True
    hot_pluggable: bool = False
    why_not: str = ""


@dataclass(frozen=True)
class NextStart:
    """What a running domain's configuration gives it when it is started the next time; a reboot keeps what it runs with.

    Attributes
    ----------
    devices : tuple of RngDevice
        Its rng devices.
    cpu_rdrand, rdrand_detail : bool or None, str
        Whether its processor offers RDRAND then, and by what; None: as now.
    """

    devices: tuple[RngDevice, ...]
    cpu_rdrand: bool | None = None
    rdrand_detail: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of one guest. Columns of ``rng_state`` mean here what they mean there.

    Attributes
    ----------
    target : Target or None
        The domain; None for a machine that is no domain.
    state : str or None
        libvirt's word for it, ``running`` for a machine that is no domain.
    said_by : str
        By what the guest spoke of itself; empty where it did not, and ``silence`` says why.
    silent_for : str
        What kept its qemu-guest-agent from speaking: ``no port``, ``port configured`` (for its next start), ``disconnected``
        (nothing in the guest has it open), ``refused`` (the agent may not read files) or ``no answer``; empty where not known.
    unreachable, unreachable_remedy, unreachable_uri : str
        Why the host, with all its domains, could not be asked, what to do about it, and where it is; empty where it could.
    boot_id, kernel : str or None
        As the guest says.
    longest_wait_s : float or None
        The longest read of getrandom or /dev/random in this boot that a store has.
    devices : tuple of RngDevice or None
        Its rng devices as the host gave them to it, live where it runs; empty: it has none.
    next_start : NextStart or None
        Its configuration, where that differs from what it runs with.
    loses_virtio_rng : bool
        These are the facts of a next start, and the virtio-rng that it runs with is not there any more.
    rdrand_detail : str
        What ``cpu_rdrand`` was told from.
    moves : tuple of Move
        The other hosts of the set.
    notes : tuple of str
        What could not be asked on the way, in sentences.
    """

    target: Target | None = None
    state: str | None = None
    said_by: str = ""
    silence: str = ""
    silent_for: str = ""
    unreachable: str = ""
    unreachable_remedy: str = ""
    unreachable_uri: str = ""
    boot_id: str | None = None
    kernel: str | None = None
    regime: str | None = None
    regime_evidence: str = ""
    poolsize_bits: int | None = None
    entropy_avail_bits: int | None = None
    crng_ready: bool | None = None
    random_readable: bool | None = None
    crng_ready_s: float | None = None
    urandom_warnings: int | None = None
    kernel_log: str | None = None
    hwrng_available: tuple[str, ...] | None = None
    hwrng_current: str | None = None
    hwrng_quality: int | None = None
    virtio_rng_unbound: int | None = None
    cpu_rdrand: bool | None = None
    rdrand_detail: str = ""
    trust_cpu: bool | None = None
    feeders: tuple[str, ...] | None = None
    longest_wait_s: float | None = None
    devices: tuple[RngDevice, ...] | None = None
    next_start: NextStart | None = None
    loses_virtio_rng: bool = False
    moves: tuple[Move, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool | None:
        """Whether the CRNG is ready now: as asked, else by the log, which says it once, else by the pool where that tells."""
        if self.crng_ready is False:
            return False
        if self.crng_ready or self.crng_ready_s is not None:
            return True
        if self.regime in ("estimating", "draining", "latched") and self.random_readable is not None:
            return self.random_readable
        if self.regime == "latched" and self.entropy_avail_bits is not None and self.poolsize_bits is not None:
            return self.entropy_avail_bits >= self.poolsize_bits
        return None

    @property
    def gathers_jitter(self) -> bool | None:
        """Whether a getrandom that must wait makes this kernel gather jitter itself, which bounds the wait."""
        if self.regime in ("estimating", "draining", "latched"):
            return True
        found = _RELEASE.match(self.kernel or "")
        return None if found is None else (int(found[1]), int(found[2])) >= _FIRST_WITH_JITTER

    @property
    def takes_trust_cpu(self) -> bool | None:
        """Whether its kernel has the parameter random.trust_cpu: since 4.19, and where later code was taken over."""
        if self.regime not in ("blocking", None):
            return True
        found = _RELEASE.match(self.kernel or "")
        return None if found is None else (int(found[1]), int(found[2])) >= _FIRST_TO_TRUST

    @property
    def has_virtio_rng(self) -> bool | None:
        """Whether it has a virtio-rng device, by the host's word or by the guest's."""
        if self.devices or self.virtio_rng_unbound or any(name.startswith(_VIRTIO) for name in self.hwrng_available or ()):
            return True
        return None if self.devices is None else False

    @property
    def driver_bound(self) -> bool | None:
        """Whether the guest has bound a driver to its virtio-rng; None where it has none, or did not say."""
        if not self.has_virtio_rng or self.hwrng_available is None:
            return None
        return any(name.startswith(_VIRTIO) for name in self.hwrng_available)

    @property
    def reads_virtio_rng(self) -> bool:
        """Whether the source in use is a virtio-rng."""
        return (self.hwrng_current or "").startswith(_VIRTIO)

    @property
    def at_next_start(self) -> Facts | None:
        """What will be known of it when it is started the next time; None where that is as it runs now."""
        coming = self.next_start
        if coming is None:
            return None
        # How soon this boot was ready, and whether it is, proves nothing of devices and a processor that it did not have.
        made = replace(self, crng_ready=self.ready or None, crng_ready_s=None, random_readable=None, entropy_avail_bits=None)
        made = replace(made, next_start=None, devices=coming.devices, virtio_rng_unbound=None)
        if coming.cpu_rdrand is not None:
            made = replace(made, cpu_rdrand=coming.cpu_rdrand, rdrand_detail=coming.rdrand_detail)
        if self.devices and not coming.devices:
            others = tuple(name for name in self.hwrng_available or () if not name.startswith(_VIRTIO))
            made = replace(made, loses_virtio_rng=True, hwrng_available=None if self.hwrng_available is None else others)
            return replace(made, hwrng_current=None, hwrng_quality=None) if self.reads_virtio_rng else made
        if coming.devices and not self.devices and self.hwrng_current is None:
            return replace(made, hwrng_available=None)  # whether it has a driver for what comes was not seen
        return made

    @property
    def feeding(self) -> tuple[str, ...] | None:
        """Its feeders, where one feeds; none where none can; None where that is not known."""
        if not self.feeders:
            return self.feeders
        able = {self._feeds(name) for name in self.feeders}
        return self.feeders if True in able else None if None in able else ()

    def _feeds(self, feeder: str) -> bool | None:
        """Whether a feeder makes the generator ready by itself.

        rngd only carries what a hardware source or RDRAND gives. haveged before 1.9.18 fills whole bytes of what lacks to 256 bits,
        and spins for the rest (measured: docs/lab.md); which one runs is not known.
        """
        if feeder == "rngd" and not (self.hwrng_available or self.cpu_rdrand):
            return None if self.hwrng_available is None or self.cpu_rdrand is None else False
        if feeder == "haveged" and (self.poolsize_bits is None or self.poolsize_bits <= _SMALL_POOL_BITS):
            return None
        return True

    @property
    def tightest(self) -> RngDevice | None:
        """The device whose first bytes take longest, of such the slowest; None where none is limited.

        Which of several the guest reads cannot be told.
        """
        limited = [each for each in self.devices or () if each.max_bytes is not None]
        return max(limited, key=lambda each: (first_bytes_s(each) or 0.0, -(bytes_per_s(each) or 0.0)), default=None)


def bytes_per_s(device: RngDevice) -> float | None:
    """What a device gives at the most; None where it is unlimited."""
    return None if device.max_bytes is None else 1000.0 * device.max_bytes / (device.period_ms or 1000)


def first_bytes_s(device: RngDevice) -> float | None:
    """How long what the driver asks for at first takes: the first period's bytes come at once. None where it is unlimited."""
    if device.max_bytes is None:
        return None
    if device.max_bytes < 1:
        return math.inf
    return (-(-REQUEST_BYTES // device.max_bytes) - 1) * (device.period_ms or 1000) / 1000


def of_rng_state(state: RngState, said_by: str, kernel: str | None = None, facts: Facts | None = None) -> Facts:
    """The facts of a machine whose files were read, beside those already known.

    Examples
    --------
    >>> from toolkit.sensors.rng import read_rng_state
    >>> of_rng_state(read_rng_state(), "its own files").said_by
    'its own files'
    """
    return replace(
        facts or Facts(state="running"),
        said_by=said_by,
        kernel=kernel,
        regime=state.regime,
        regime_evidence=state.regime_evidence,
        poolsize_bits=state.poolsize_bits,
        entropy_avail_bits=state.entropy_avail_bits,
        crng_ready=state.crng_ready,
        random_readable=state.random_readable,
        crng_ready_s=state.crng_ready_s,
        urandom_warnings=state.urandom_warnings,
        kernel_log=state.kernel_log,
        hwrng_available=state.hwrng_available,
        hwrng_current=state.hwrng_current,
        hwrng_quality=state.hwrng_quality,
        virtio_rng_unbound=state.virtio_rng_unbound,
        cpu_rdrand=state.cpu_rdrand,
        rdrand_detail="cpuinfo",
        trust_cpu=state.trust_cpu,
        feeders=state.feeders,
    )
