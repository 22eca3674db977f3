"""What a guest's virtio-rng driver makes of answers shorter than its requests, which limits give such answers, and which kernels.

A check that stable kernels got in July 2026 (the fix of CVE-2026-64456) takes what is left of an answer for where it ends. An
answer that is not taken whole at once therefore loses its rest; or the driver waits for an answer that it never asked for, and
nothing comes any more. Behind a limit that is no multiple of the driver's request, nor divides it, answers are taken in parts.
"""

from __future__ import annotations

import re

__all__ = ["LOSES", "REQUEST_BYTES", "STALLS", "behind", "fits", "mislays", "next_fitting"]

#: What the driver asks for at once on x86-64, SMP_CACHE_BYTES (drivers/char/hw_random/virtio-rng.c); so does who reads /dev/hwrng.
REQUEST_BYTES = 64

#: What becomes of a reader that waits.
STALLS, LOSES = "stalls", "loses"

#: The first stable release of each series with the check, by the advisory of CVE-2026-64456; no later release without it is known.
_FIRST = {(5, 10): 261, (5, 15): 212, (6, 1): 178, (6, 6): 145, (6, 12): 96, (6, 18): 39, (7, 1): 4}
_FIRST_SERIES = (7, 2)
#: Debian counts otherwise in these series: up to the first number its kernels have no check, from the second on they have it, by
#: their code and by measurement.
_DEBIAN = {(5, 10): (32, 46), (6, 1): (None, 56)}

_UPSTREAM = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,4})(?![\d.])")
_DEBIAN_ABI = re.compile(r"(\d{1,3})\.(\d{1,3})\.0-(\d{1,4})-(?:[a-z]+-)*amd64$")


def fits(max_bytes: int) -> bool:
    """Whether a limit's bytes are a whole number of requests, or a request a whole number of them: no answer is left unfinished.

    Examples
    --------
    >>> [fits(size) for size in (16, 48, 64, 100, 1024)]
    [True, False, True, False, True]
    """
    return REQUEST_BYTES % max_bytes == 0 if 0 < max_bytes < REQUEST_BYTES else max_bytes % REQUEST_BYTES == 0


def next_fitting(max_bytes: int) -> int:
    """The least limit that is no smaller and fits.

    Examples
    --------
    >>> [next_fitting(size) for size in (3, 48, 64, 100)]
    [4, 64, 64, 128]
    """
    if max_bytes < REQUEST_BYTES:
        return 1 << max(max_bytes - 1, 0).bit_length()
    return -(-max_bytes // REQUEST_BYTES) * REQUEST_BYTES


def behind(max_bytes: int) -> str | None:
    """What becomes of a waiting reader of a driver with the check behind a limit: ``stalls``, ``loses`` or None, nothing.

    Notes
    -----
    The driver's bookkeeping is replayed over answers of at most 64 bytes, the last of a period cut short by the limit. The reader
    draws all that a period has; one that does not reach the limit gets no short answers. docs/lab.md has what was measured.

    Examples
    --------
    >>> [behind(size) for size in (64, 80, 100, 1024)]
    [None, 'loses', 'stalls', None]
    """
    if max_bytes < 1 or fits(max_bytes):
        return None
    # Of a longer limit only the end matters: the requests before it are whole. After 64 periods every state has come again.
    quota = max_bytes if max_bytes < REQUEST_BYTES else REQUEST_BYTES + max_bytes % REQUEST_BYTES
    answers = [REQUEST_BYTES] * (quota // REQUEST_BYTES) + [quota % REQUEST_BYTES]
    taken = left = 0
    wanted = REQUEST_BYTES
    for answer in answers * REQUEST_BYTES:
        taken, left = 0, answer
        while left > taken:
            size = min(wanted, left - taken)  # "left" should be the answer's size here, which is what the check mistakes it for
            taken, left, wanted = taken + size, left - size, wanted - size
            if wanted and left:
                return STALLS
            wanted = wanted or REQUEST_BYTES
    return LOSES


def mislays(kernel: str | None) -> bool | None:
    """Whether a kernel's driver has the check, by its release as ``uname -r`` gives it; None where that does not tell.

    Examples
    --------
    >>> [mislays(name) for name in ("6.12.95+deb12-amd64", "6.12.117+deb13-amd64", "6.1.0-56-amd64", "6.8.0-31-generic")]
    [False, True, True, None]
    """
    debian = _DEBIAN_ABI.match(kernel or "")
    if debian is not None:
        without, having = _DEBIAN.get((int(debian[1]), int(debian[2])), (None, None))
        abi = int(debian[3])
        if having is not None and abi >= having:
            return True
        return False if without is not None and abi <= without else None
    upstream = _UPSTREAM.match(kernel or "")
    if upstream is None:
        return None
    series, patch = (int(upstream[1]), int(upstream[2])), int(upstream[3])
    if series >= _FIRST_SERIES:
        return True
    if patch == 0 and "-" in (kernel or ""):
        return None  # a distribution's own number follows, which says nothing of what it took over
    first = _FIRST.get(series)
    return None if first is None else patch >= first
