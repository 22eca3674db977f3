"""Feeders for lab guests: programs that gather randomness and credit it to the kernel. Never installed: that starts them.

They are of this machine's own suite, so that its C library goes with them into a guest. rngtest, which feeds nothing, comes in the
package of rngd.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UnavailableError, UsageError
from toolkit.filesystems import Support, find_program
from toolkit.package_cache import PackageSet, fetched_set
from toolkit.packages import Index, Source, fetch, own_source
from toolkit.progress import Progress, silent
from toolkit.shared_libraries import files_of_program

__all__ = ["FEEDERS", "Feeder", "fetch_feeders", "find_feeder", "find_rngtest", "supports_feeders"]

_SET = "feeders"
_REMEDY = "Run: toolkit lab fetch --feeders (it installs nothing)."

#: Which package each comes in, the first that the suite has.
_PACKAGES = (("rng-tools5", "rng-tools-debian"), ("haveged",), ("jitterentropy-rngd",))

#: The feeders, and how each is started to stay in the foreground, as its manual page says. rngd is held to the device: that of
#: rng-tools5 would else take the processor's instructions too, which is another remedy; that of rng-tools-debian would give up
#: when the device is silent for ten seconds. jitterentropy-rngd goes into the background unless it is to talk.
_COMMANDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "rngd": {
        "rng-tools5": ("/usr/sbin/rngd", "-f", "-r", "/dev/hwrng", "-d", "1", "-n", "1"),
        "rng-tools-debian": ("/usr/sbin/rngd", "-f", "-r", "/dev/hwrng", "-T", "0"),
    },
    "haveged": {"haveged": ("/usr/sbin/haveged", "--Foreground", "--verbose=1")},
    "jitterentropy-rngd": {"jitterentropy-rngd": ("/usr/sbin/jitterentropy-rngd", "-v")},
}
FEEDERS = tuple(_COMMANDS)


@dataclass(frozen=True)
class Feeder:
    """A feeder that can be put into a guest.

    Attributes
    ----------
    name : str
        One of ``FEEDERS``, or rngtest.
    package, version : str
        The Debian package that it is from.
    command : tuple of str
        How it is started in a guest, to stay in the foreground; needs root, /dev, /proc and /sys there, and haveged /dev/shm.
    files : dict
        The path of each file in the guest and the file here: the program, its loader and its libraries.
    """

    name: str
    package: str
    version: str
    command: tuple[str, ...]
    files: Mapping[str, Path]


def fetch_feeders(progress: Progress = silent, source: Source | None = None) -> PackageSet:
    """All feeders in the cache; fetched if they are not there yet.

    Raises
    ------
    UnavailableError
        If there is no apt, no network, or a feeder is not in this machine's suite.
    """

    def choose(index: Index) -> list[str]:
        chosen: dict[str, None] = {}
        left = [_first_of(index, names) for names in _PACKAGES]
        while left:
            name = left.pop(0)
            if name not in chosen:
                chosen[name] = None
                left += _libraries(index.fields(name).get("Depends", ""))
        return list(chosen)

    return fetch(_SET, source or own_source(), choose, progress=progress)


def find_feeder(name: str) -> Feeder:
    """A feeder that was fetched, with all files that a guest needs of it.

    Parameters
    ----------
    name : str
        One of ``FEEDERS``: rngd, haveged, jitterentropy-rngd.

    Raises
    ------
    UsageError
        If there is no such feeder.
    UnavailableError
        If it was not fetched, or a library that it needs is not here.

    Examples
    --------
    >>> find_feeder("rngd").command  # doctest: +SKIP
    ('/usr/sbin/rngd', '-f', '-r', '/dev/hwrng', '-d', '1', '-n', '1')
    """
    if name not in _COMMANDS:
        raise UsageError(f"{name!r} is no feeder", f"Give one of: {', '.join(FEEDERS)}.")
    found = _fetched()
    versions = {package.name: package.version for package in found.packages}
    for package, command in _COMMANDS[name].items():
        program = found.folder / command[0].lstrip("/")
        if package in versions and program.is_file():
            files = files_of_program(program, command[0], [found.folder, Path("/")])
            return Feeder(name, package, versions[package], command, files)
    raise UnavailableError(f"{name} is not among the feeders in {found.folder}", "Run: toolkit lab fetch --remove, then --feeders.")


def find_rngtest() -> str:
    """The path of rngtest: the installed one, else the fetched one.

    Raises
    ------
    UnavailableError
        If there is neither.
    """
    if installed := find_program("rngtest"):
        return installed
    found = fetched_set(_SET)
    if found is not None and (program := found.folder / "usr/bin/rngtest").is_file():
        return str(program)
    remedy = "Run: toolkit lab fetch --feeders (it installs nothing), or as root: apt-get install rng-tools5 (it starts a daemon)."
    raise UnavailableError("There is no rngtest here", remedy)


def supports_feeders() -> Support:
    """Whether the feeders were fetched, and which versions."""
    try:
        found = [find_feeder(name) for name in FEEDERS]
    except UnavailableError as error:
        return Support(False, error.what, error.remedy)
    return Support(True, ", ".join(f"{feeder.name} ({feeder.package} {feeder.version})" for feeder in found))


def _fetched() -> PackageSet:
    found = fetched_set(_SET)
    if found is None:
        raise UnavailableError("the feeders (rngd, haveged, jitterentropy-rngd) were not fetched", _REMEDY)
    return found


def _first_of(index: Index, names: tuple[str, ...]) -> str:
    for name in names[:-1]:
        try:
            index.fields(name)
        except UnavailableError:
            continue
        return name
    return names[-1]


def _libraries(depends: str) -> list[str]:
    """The libraries among dependencies; the C library is this machine's, and scripts and services are of no use in a guest."""
    first = [re.split(r"[ (|:]", each.strip(), maxsplit=1)[0] for each in depends.split(",")]
    return [name for name in first if name.startswith("lib") and not name.startswith(("libc6", "libgcc"))]
