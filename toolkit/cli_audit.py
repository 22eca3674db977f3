"""The command ``toolkit guests audit``: whether the guests of one or many hosts starve, or will, and what to do about it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli_guests import app
from toolkit.commands import HERE, JsonOption, StoreOption, begin, command, kept
from toolkit.errors import StoreError, ToolkitError
from toolkit.markup import visible

__all__ = ["app"]


@command(app)
def audit(
    connect: Annotated[
        list[str] | None,
        typer.Option(
            "--connect",
            "--uri",
            metavar="URI",
            help="Where libvirt is; may be repeated: moves between these hosts are judged too. [default: libvirt's own default]",
        ),
    ] = None,
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Judge every guest: sound, at risk, starving, or cannot tell, with the evidence and what to do. Nothing is changed.

    What a guest does not say itself (through qemu-guest-agent) is taken from what the store received of it in the last minutes.

    \b
    Example:  toolkit guests audit
              toolkit guests audit --connect qemu:///system --connect qemu+ssh://root@other/system
    """
    from toolkit import spoken_audit
    from toolkit.guests.audit import gather
    from toolkit.store import open_store
    from toolkit.terminal import bar, say, show, show_json

    known = open_store(store, create=False) if store.is_dir() else None
    _may_be_written(store)
    with bar("auditing the guests") as progress:
        found = gather(connect or [None], known, progress)
    now = datetime.now(UTC)
    made = spoken_audit.judged(found)
    refused: ToolkitError | OSError | None = None
    try:
        opened, begun = begin(store, {"connect": connect})
        opened.append("audits", begun.frame("audits", [spoken_audit.row(each, now) for each in made]))
    except (ToolkitError, OSError) as error:  # what was found is shown all the same
        refused = error
    if json:
        show_json([spoken_audit.as_json(each, now) for each in made])
    elif made:
        show(spoken_audit.overview(made), most=500)
        say(*spoken_audit.lines(made))
        if refused is None:
            say(kept(len(made), "verdicts", store))
    else:
        say("There is no domain there.")
    if refused is not None:
        raise refused


def _may_be_written(store: Path) -> None:
    """Refuse a store that cannot be written before minutes are spent on asking; nothing is made yet."""
    there = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise StoreError(
            f"the store {visible(store)} cannot be written: {visible(there)} refuses it",
            "Name another with --store, or make it writable.",
        )
