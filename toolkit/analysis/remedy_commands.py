"""A remedy, and the lines of commands that it may hold: virsh for a domain, and our own. Text alone; nothing here runs them.

A domain whose name a shell or a terminal could misread is called by its UUID.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.guests.audit_facts import Target

__all__ = ["Remedy", "audit_again", "name", "virsh"]

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_UUID = re.compile(r"[0-9a-fA-F-]{32,36}")


@dataclass(frozen=True)
class Remedy:
    """One thing to do.

    Attributes
    ----------
    what : str
        In words: where, and what it brings.
    command : str or None
        The line to run, as it is; None where there is none.
    xml : str or None
        The content of the file that the command names, or what to put into the definition.
    """

    what: str
    command: str | None = None
    xml: str | None = None


def name(target: Target) -> str:
    """What virsh takes for this domain and no other: it tries a number first, then a UUID, then a name."""
    unlike = not target.name.isdigit() and _UUID.fullmatch(target.name) is None
    return target.name if unlike and _PLAIN.fullmatch(target.name) else target.uuid


def virsh(target: Target | None, verb: str, rest: str = "") -> str | None:
    """The line that has virsh do this with the domain; None for a machine that is no domain."""
    if target is None:
        return None
    return f"virsh --connect {shlex.quote(target.uri)} {verb} {name(target)} {rest}".rstrip()


def audit_again(target: Target | None, others: Iterable[str] = ()) -> str | None:
    """The line that audits its host once more, with other hosts of the set."""
    if target is None:
        return None
    uris = dict.fromkeys([target.uri, *(uri for uri in others if uri)])
    return "toolkit guests audit " + " ".join(f"--connect {shlex.quote(uri)}" for uri in uris)
