"""What a guest's administrator allows the agent to do for its host: nothing, unless a configuration file says so.

The file is TOML, of which a part is understood: tables, and keys with text, whole numbers, fractions, booleans and lists of them on
one line. Standard library only, Python 3.8 and later, so that there is no TOML of Python's own to count on.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any, NamedTuple

from toolkit.errors import ToolkitError, UsageError

__all__ = ["EXAMPLE", "Leave", "parse", "read"]

#: A configuration that allows what there is, for people to cut down.
EXAMPLE = """\
# What this guest's agent may do for its host. What is not allowed here is refused.
every_ms = 100                                  # a look at the entropy pool, 1 or more
allow = ["sources", "allocation"]

[sources]
devices = ["getrandom", "/dev/random", "/dev/hwrng"]
budget_s = 10                                   # the most that one source may be read

[allocation]
directories = ["/var/tmp"]                      # files are made in these, and removed
disk = true                                     # and on an empty disk that carries the toolkit's own label
size_mib = 1024                                 # the most that one file may take
files = 100                                     # the most for one request
seconds = 600                                   # the most that one request may take
"""

_ALLOWED = ("sources", "allocation")
_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "": {"every_ms": (int, float), "allow": (list,)},
    "sources": {"devices": (list,), "budget_s": (int, float)},
    "allocation": {"directories": (list,), "disk": (bool,), "size_mib": (int,), "files": (int,), "seconds": (int, float)},
}
_MOST_BYTES = 64 * 1024


class Leave(NamedTuple):
    """What the agent may do. Without a configuration that is to look at the entropy pool and at the machine, and to say so.

    Attributes
    ----------
    every_ms : float or None
        How often to look at the pool; None where it is not said.
    allow : tuple of str
        Of ``sources`` and ``allocation``.
    devices, budget_s
        Sources that may be read, and the most seconds for one.
    directories, disk, size_mib, files, seconds
        Where files may be allocated, whether on a scratch disk, and how big, how many and for how long at most.
    """

    every_ms: float | None = None
    allow: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("getrandom", "/dev/random", "/dev/urandom", "/dev/hwrng")
    budget_s: float = 10.0
    directories: tuple[str, ...] = ()
    disk: bool = False
    size_mib: int = 1024
    files: int = 100
    seconds: float = 600.0


def read(path: str) -> Leave:
    """What a configuration file allows.

    Parameters
    ----------
    path : str
        The file. It must be the user's own or root's, and writable for nobody else: who can write it decides what is allowed.

    Raises
    ------
    ToolkitError
        If it cannot be read or is not private enough.
    UsageError
        If it says what is not understood: a key that is misspelt must not pass for one that was left out.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ToolkitError(f"the configuration {path} is no file", "Give a file.")
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ToolkitError(
                    f"the configuration {path} can be written by others than root and the agent's user",
                    f"Make it root's, and run: chmod go-w {path}",
                )
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ToolkitError(
            f"the configuration {path} cannot be read: {error.strerror}", "Give a file that is there and readable."
        ) from error
    if len(raw) > _MOST_BYTES:
        raise UsageError(f"the configuration {path} has more than {_MOST_BYTES} bytes", "Give a shorter one.")
    return parse(raw.decode("utf-8", "backslashreplace"), path)


def parse(text: str, name: str = "configuration") -> Leave:
    """What a configuration's text allows; see :data:`EXAMPLE`.

    Raises
    ------
    UsageError
        With the line that is not understood.

    Examples
    --------
    >>> parse(EXAMPLE).directories
    ('/var/tmp',)
    >>> parse("").allow
    ()
    """
    said: dict[str, Any] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue

        def refuse(why: str, number: int = number, stripped: str = stripped) -> UsageError:
            return UsageError(f"{name}, line {number}: {why} ({stripped[:80]!r})", "The agent's --help has an example.")

        if stripped.startswith("["):
            section = stripped.partition("#")[0].strip()[1:-1].strip()
            if section not in _KEYS or not section or not stripped.partition("#")[0].strip().endswith("]"):
                raise refuse("there is no such table")
            continue
        key, equals, rest = (part.strip() for part in stripped.partition("="))
        if not equals or key not in _KEYS[section]:
            raise refuse("there is no such key" + (f" in [{section}]" if section else " before the first table"))
        if key in said:
            raise refuse("it is said twice")
        said[key] = _value(rest, _KEYS[section][key], refuse)
    return _checked(Leave(**said), name)


def _value(text: str, kinds: tuple[type, ...], refuse: Any) -> Any:
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise refuse("its value is not understood") from None
    if text[end:].strip() and not text[end:].strip().startswith("#"):
        raise refuse("something stands behind the value")
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise refuse("its value is of another kind")
    if isinstance(value, list):
        if not all(isinstance(one, str) for one in value):
            raise refuse("the list must be one of texts")
        return tuple(value)
    return value


def _checked(leave: Leave, name: str) -> Leave:
    for one in leave.allow:
        if one not in _ALLOWED:
            raise UsageError(f"{name} allows {one!r}, which there is not", "There are: {}.".format(", ".join(_ALLOWED)))
    for path in leave.directories + tuple(device for device in leave.devices if device != "getrandom"):
        if not path.startswith("/"):
            raise UsageError(f"{name} names {path!r}, which is no absolute path", "Write it from / on.")
    limits = (leave.every_ms if leave.every_ms is not None else 1, leave.budget_s, leave.size_mib, leave.files, leave.seconds)
    if not all(0 < limit < 1e9 for limit in limits):
        raise UsageError(f"{name} has a limit that is not above zero", "Give limits above zero.")
    return leave
