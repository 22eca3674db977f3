"""The kernel's random number generator: its regime, its state, its sources.

A look at it that costs microseconds is :mod:`toolkit.sensors.look`; reading from the sources, timed, is
:mod:`toolkit.sensors.sources`; the kernel log is :mod:`toolkit.sensors.kernel_log`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

from toolkit.sensors.kernel_log import KernelLog, read_kernel_log, rng_log
from toolkit.sensors.look import Look, PoolSample

__all__ = ["RngState", "feeders_among", "read_rng_state", "regime"]

_RANDOM = "proc/sys/kernel/random"
_HWRNG = "sys/class/misc/hw_random"

# drivers/char/random.c: CRNG_RESEED_INTERVAL in seconds, which urandom_min_reseed_secs shows from 5.18 on; a write to that file is
# swallowed there. It was 300 as long as a reseed drained the pool, and became 60 in the very change that made entropy_avail a
# latch (upstream e85c0fc1d94c, "do not pretend to handle premature next security model"), in the backports as well.
_RESEED_S_DRAINING = 300
_RESEED_S_LATCHED = 60

# POOL_BITS of drivers/char/random.c: 4096 until 5.17, the width of BLAKE2s from 5.18 and in the backports.
_POOL_BITS_ESTIMATED = 4096
_POOL_BITS_HASHED = 256

# VIRTIO_ID_RNG of include/uapi/linux/virtio_ids.h
_VIRTIO_ID_RNG = 4

# TASK_COMM_LEN of include/linux/sched.h is 16 with the closing zero, so jitterentropy-rngd shows as jitterentropy-r.
_COMM_LENGTH = 15
_FEEDERS = ("rngd", "haveged", "jitterentropy-rngd")

# Ten times what a kernel's configuration takes: that of a guest may unpack without end.
_MOST_CONFIGURATION = 4 << 20

# What a column of whole numbers holds, in digits.
_MOST_DIGITS = 18

# A word of the kernel's command line: double quotes keep blanks together, nothing else quotes (next_arg of lib/cmdline.c).
_WORD = re.compile(r'(?:"[^"]*(?:"|$)|[^\s"])+')


@dataclass(frozen=True)
class RngState:
    """A machine's random number generator, as its kernel shows it. None is "cannot be told here".

    Attributes
    ----------
    regime, regime_evidence : str or None, str
        ``blocking``, ``estimating``, ``draining`` or ``latched``, and what that was read from.
    poolsize_bits, entropy_avail_bits : int or None
        As in ``/proc/sys/kernel/random``.
    crng_ready, random_readable : bool or None
        ``getrandom(GRND_NONBLOCK)`` gave a byte; poll on ``/dev/random`` said readable. None for a recorded tree.
    crng_ready_s, urandom_warnings, vm_fork_reseeds, kernel_log
        From the kernel log, and how much of it there was: see :mod:`toolkit.sensors.kernel_log`.
    hwrng_available : tuple of str or None
        Hardware sources with a driver bound; empty when there is none; None without the kernel's hw_random.
    hwrng_current, hwrng_quality : str or None, int or None
        The one in use; bits of entropy credited for 1024 of its bits.
    virtio_rng_unbound : int
        virtio-rng devices that no driver has taken: the machine has a source that nobody reads.
    cpu_rdrand, cpu_rdseed : bool or None
        RDRAND and RDSEED (x86); both from the one feature ``rng``, RNDR and RNDRRS (arm64). None on other processors.
    trust_cpu : bool or None
        Whether the processor's seed is credited.
    feeders : tuple of str or None
        Running user-space feeders that this process can see.
    """

    regime: str | None
    regime_evidence: str
    poolsize_bits: int | None
    entropy_avail_bits: int | None
    crng_ready: bool | None
    random_readable: bool | None
    crng_ready_s: float | None
    urandom_warnings: int | None
    vm_fork_reseeds: int | None
    kernel_log: str
    hwrng_available: tuple[str, ...] | None
    hwrng_current: str | None
    hwrng_quality: int | None
    virtio_rng_unbound: int
    cpu_rdrand: bool | None
    cpu_rdseed: bool | None
    trust_cpu: bool | None
    feeders: tuple[str, ...] | None

    def row(self) -> dict[str, object]:
        """The columns of the table ``rng_state`` that a machine can tell of itself; names are separated by spaces."""
        return {
            "regime": self.regime,
            "poolsize_bits": self.poolsize_bits,
            "crng_ready": self.crng_ready,
            "crng_ready_s": self.crng_ready_s,
            "urandom_warnings": self.urandom_warnings,
            "vm_fork_reseeds": self.vm_fork_reseeds,
            "hwrng_available": _words(self.hwrng_available),
            "hwrng_current": self.hwrng_current,
            "hwrng_quality": self.hwrng_quality,
            "cpu_rdrand": self.cpu_rdrand,
            "cpu_rdseed": self.cpu_rdseed,
            "trust_cpu": self.trust_cpu,
            "feeders": _words(self.feeders),
        }


def read_rng_state(root: Path = Path("/"), log: KernelLog | None = None) -> RngState:
    """All that a machine shows about its random number generator.

    Parameters
    ----------
    root : Path
        Where proc, sys, dev and boot are. getrandom and poll are asked only where that is ``/``.
    log : KernelLog, optional
        The machine's kernel log, where it was had otherwise than from there.

    Examples
    --------
    >>> read_rng_state().regime in ("blocking", "estimating", "draining", "latched", None)
    True
    """
    with Look(root) as look:
        sample = look()
    name, evidence = regime(root, sample)
    log = read_kernel_log(root) if log is None else log
    said = rng_log(log)
    rdrand, rdseed = _cpu_instructions(root)
    return RngState(
        regime=name,
        regime_evidence=evidence,
        poolsize_bits=_number(root / _RANDOM / "poolsize"),
        entropy_avail_bits=sample.entropy_avail_bits,
        crng_ready=sample.crng_ready,
        random_readable=sample.random_readable,
        crng_ready_s=said.crng_ready_s,
        urandom_warnings=said.urandom_warnings,
        # The kernel says so from 5.18 on (vmgenid): an older one that is silent tells nothing.
        vm_fork_reseeds=None if name in ("blocking", "estimating") else said.vm_fork_reseeds,
        kernel_log=log.state,
        hwrng_available=_hwrng_available(root),
        hwrng_current=_hwrng_current(root),
        hwrng_quality=_hwrng_quality(root),
        virtio_rng_unbound=_virtio_rng_unbound(root),
        cpu_rdrand=rdrand,
        cpu_rdseed=rdseed,
        trust_cpu=_trust_cpu(root, name, rdrand),
        feeders=_feeders(root),
    )


def regime(root: Path = Path("/"), sample: PoolSample | None = None) -> tuple[str | None, str]:
    """What the kernel's numbers mean, from the files it offers and not from its version (the new code was backported).

    Parameters
    ----------
    root : Path
        Where proc is.
    sample : PoolSample, optional
        A look at the same machine: a pool below its size while ready cannot be a latch.

    Returns
    -------
    tuple of (str or None, str)
        The regime and the evidence. ``read_wakeup_threshold`` was removed together with the blocking pool (5.6). The pool
        became 256 bits in 5.18. ``draining`` and ``latched`` offer the same files; what tells them apart is the value of
        ``urandom_min_reseed_secs``, 300 and 60. A kernel with another generator (the LRNG patches show ``/proc/lrng_type``), with
        other values, or whose pool contradicts them, gives None.
    """
    folder = root / _RANDOM
    if (root / "proc/lrng_type").exists():
        return None, "/proc/lrng_type: another generator than the kernel's own"
    if (folder / "read_wakeup_threshold").exists():
        return "blocking", "read_wakeup_threshold is offered"
    poolsize = _number(folder / "poolsize")
    if poolsize is None:
        return None, "no /proc/sys/kernel/random/poolsize"
    if poolsize == _POOL_BITS_ESTIMATED:
        return "estimating", "poolsize 4096, no read_wakeup_threshold"
    reseed_s = _number(folder / "urandom_min_reseed_secs")
    evidence = "poolsize {}, urandom_min_reseed_secs {}".format(poolsize, "absent" if reseed_s is None else reseed_s)
    if poolsize != _POOL_BITS_HASHED:
        return None, evidence
    if reseed_s == _RESEED_S_DRAINING:
        return "draining", evidence
    if reseed_s != _RESEED_S_LATCHED:
        return None, evidence
    if sample is not None and sample.crng_ready and sample.entropy_avail_bits is not None and sample.entropy_avail_bits < poolsize:
        return None, f"{evidence}, but entropy_avail is {sample.entropy_avail_bits} while ready"
    return "latched", evidence


def _hwrng_available(root: Path) -> tuple[str, ...] | None:
    """The names in rng_available; newer kernels add ``none``, which selects no source and is not one."""
    text = _text(root / _HWRNG / "rng_available")
    return None if text is None else tuple(name for name in text.split() if name != "none")


def _hwrng_current(root: Path) -> str | None:
    text = _text(root / _HWRNG / "rng_current")
    return None if text is None or text.strip() in ("", "none") else text.strip()


def _hwrng_quality(root: Path) -> int | None:
    if (root / _HWRNG / "rng_quality").exists():
        return _number(root / _HWRNG / "rng_quality")  # ENODEV when no source is in use
    if _hwrng_current(root) is None:
        return None
    return _number(root / "sys/module/rng_core/parameters/current_quality")  # kernels without rng_quality


def _virtio_rng_unbound(root: Path) -> int:
    unbound = 0
    for device in _entries(root / "sys/bus/virtio/devices"):
        kind = (_text(device / "device") or "").strip()
        try:
            is_rng = int(kind, 16) == _VIRTIO_ID_RNG
        except ValueError:
            continue
        unbound += is_rng and not (device / "driver").exists()
    return unbound


def _cpu_instructions(root: Path) -> tuple[bool | None, bool | None]:
    """Features that every processor has: ``flags`` on x86, ``Features`` on arm64 (``rng`` is FEAT_RNG: RNDR and RNDRRS)."""
    x86: set[str] | None = None
    arm64: set[str] | None = None
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            x86 = set(value.split()) if x86 is None else x86 & set(value.split())
        elif key.strip() == "Features":
            arm64 = set(value.split()) if arm64 is None else arm64 & set(value.split())
    if x86 is not None:
        return "rdrand" in x86, "rdseed" in x86
    if arm64 is not None:
        return "rng" in arm64, "rng" in arm64
    return None, None


def _trust_cpu(root: Path, name: str | None, rdrand: bool | None) -> bool | None:
    """``random.trust_cpu`` of the command line, else the kernel's configuration, else what its age implies.

    The option came with 4.19. From 6.2 only the command line has it and it is on by itself, so a ``latched`` kernel whose
    configuration does not know the symbol trusts; a ``blocking`` one that does not know it is older and never did. That is said
    only where the processor can have such an instruction at all.
    """
    given = _parameter(_text(root / "proc/cmdline") or "", "random.trust_cpu")
    if given is not None:
        return given
    configuration = _kernel_configuration(root)
    if configuration is None:
        return None
    if "\nCONFIG_RANDOM_TRUST_CPU=y\n" in configuration:
        return True
    if "\n# CONFIG_RANDOM_TRUST_CPU is not set\n" in configuration:
        return False
    if rdrand is None:
        return None
    return {"latched": True, "blocking": False}.get(name or "")


def _parameter(command_line: str, wanted: str) -> bool | None:
    """The last valid value of a boolean parameter, as the kernel reads it: up to ``--``, by kstrtobool of lib/kstrtox.c."""
    found = None
    for word in _WORD.findall(command_line):
        if word == "--":
            break
        name, _, value = word.replace('"', "").partition("=")
        if name.replace("-", "_") != wanted:
            continue
        if value[:1] in ("y", "Y", "t", "T", "1") or value[:2].lower() == "on":
            found = True
        elif value[:1] in ("n", "N", "f", "F", "0") or value[:2].lower() == "of":
            found = False
    return found


def _kernel_configuration(root: Path) -> str | None:
    """The running kernel's configuration, with a line end before and after; None where neither /proc nor /boot has it."""
    release = (_text(root / "proc/sys/kernel/osrelease") or "").strip()
    named = release and not {"/", "\0"} & set(release)  # a guest's, say, which may be anything
    text = _text(root / "boot" / f"config-{release}") if named else None
    if text is None:
        try:
            with gzip.open(str(root / "proc/config.gz"), "rt", encoding="utf-8", errors="replace") as unpacked:
                text = unpacked.read(_MOST_CONFIGURATION)
        except (OSError, EOFError, zlib.error):
            return None
    return "\n" + text + "\n"


def _feeders(root: Path) -> tuple[str, ...] | None:
    """Feeders among the processes that are shown; None where /proc hides other users' processes (hidepid)."""
    if _text(root / "proc/1/comm") is None:
        return None
    return feeders_among(_text(process / "comm") or "" for process in _entries(root / "proc") if process.name.isdigit())


def feeders_among(names: Iterable[str]) -> tuple[str, ...]:
    """The user-space feeders among the names of processes, as ``/proc/PID/comm`` has them.

    Examples
    --------
    >>> feeders_among(["systemd", "jitterentropy-r"])
    ('jitterentropy-rngd',)
    """
    known = {name[:_COMM_LENGTH]: name for name in _FEEDERS}
    return tuple(sorted({known[name.strip()] for name in names if name.strip() in known}))


def _words(names: tuple[str, ...] | None) -> str | None:
    """Names in one column: empty when there is none, None when that is not known."""
    return None if names is None else " ".join(names)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    try:
        return int(text) if len(text) <= _MOST_DIGITS else None
    except ValueError:
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
