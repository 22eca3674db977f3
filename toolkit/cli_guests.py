"""The commands of ``toolkit guests``: a thin function a command. What they do lives in :mod:`toolkit.guests`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands import JsonOption, command
from toolkit.units import parse_bytes, parse_duration_s

if TYPE_CHECKING:
    from toolkit.guests.attachment import Attachment
    from toolkit.guests.domain_xml import RngLimit

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Guests: find them, attach the channel to them, sample them from inside.",
    epilog="Start with: toolkit guests list",
)

_Uri = Annotated[
    str | None,
    typer.Option("--uri", metavar="URI", help="Where libvirt is, such as qemu:///system. [default: libvirt's own default]"),
]
_Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain's exact name, or its UUID.")]


@app.callback()
def _guests() -> None:
    """Keep the commands' names: an application with a single command would hide its name."""


@command(app, "list")
def list_domains(uri: _Uri = None, json: JsonOption = False) -> None:
    """Show the libvirt domains of this machine, and whether and how each can be sampled.

    \b
    Example:  toolkit guests list
              toolkit guests list --uri qemu:///system --json
    """
    from dataclasses import asdict

    from toolkit import spoken_guests
    from toolkit.guests.libvirt import domains
    from toolkit.terminal import say, show, show_json

    rows = domains(uri)
    if json:
        show_json([asdict(row) for row in rows])
    elif rows:
        show(spoken_guests.domain_table(rows), most=500)
        say(*spoken_guests.reasons(rows))
    else:
        say("There is no domain there.")


@command(app)
def attach(
    domain: _Domain,
    rng: Annotated[bool, typer.Option("--rng", help="Add a virtio-rng too, fed from the host's /dev/urandom.")] = False,
    rng_bytes: Annotated[
        str | None,
        typer.Option("--rng-bytes", metavar="SIZE", help="The virtio-rng gives this much a period. [default: unlimited]"),
    ] = None,
    rng_period: Annotated[str | None, typer.Option("--rng-period", metavar="TIME", help="That period. [default: 1s]")] = None,
    next_boot: Annotated[bool, typer.Option("--next-boot", help="Change the domain's configuration alone.")] = False,
    agent_config: Annotated[
        Path | None,
        typer.Option(
            "--agent-config", metavar="FILE", readable=False, help="What the agent may do. [default: tell its samples alone]"
        ),
    ] = None,
    uri: _Uri = None,
    json: JsonOption = False,
) -> None:
    """Give a domain our port, and its guest our agent; twice is no error. What could harm a running guest is refused.

    \b
    Example:  toolkit guests attach web1
              toolkit guests attach web1 --rng --rng-bytes 1024 --rng-period 1s
    """
    from toolkit.guests.libvirt import attach

    limit = _limit(rng, rng_bytes, rng_period)
    config = None if agent_config is None else _configuration(agent_config)
    _tell(attach(domain, rng=limit, next_boot=next_boot, agent_config=config, uri=uri), json)


@command(app)
def detach(domain: _Domain, uri: _Uri = None, json: JsonOption = False) -> None:
    """Take our agent, our port and our virtio-rng away from a domain; twice is no error. Nothing else is touched.

    \b
    Example:  toolkit guests detach web1
    """
    from toolkit.guests.libvirt import detach

    _tell(detach(domain, uri=uri), json)


def _limit(rng: bool, rng_bytes: str | None, rng_period: str | None) -> RngLimit | None:
    from toolkit.errors import UsageError
    from toolkit.guests.domain_xml import RngLimit

    if not rng:
        if rng_bytes is not None or rng_period is not None:
            raise UsageError("--rng-bytes and --rng-period are of a virtio-rng, and none is asked for", "Add --rng.")
        return None
    if rng_bytes is None and rng_period is not None:
        raise UsageError("--rng-period is the period of a limit, and none is given", "Add --rng-bytes.")
    period_ms = round(1000 * parse_duration_s(rng_period or "1s"))
    return RngLimit(None if rng_bytes is None else parse_bytes(rng_bytes), period_ms)


def _configuration(path: Path) -> bytes:
    """A configuration for the agent, read as the agent will: a mistake is found before anything is changed."""
    from toolkit.errors import UsageError
    from toolkit.guests import leave

    try:
        content = path.read_bytes()
        leave.parse(content.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise UsageError(f"the configuration {path} is no UTF-8", "Write it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"the configuration {path} cannot be read: {error.strerror}", "Give a file that is there.") from error
    return content


def _tell(done: Attachment, json: bool) -> None:
    from dataclasses import asdict

    from toolkit import spoken_guests
    from toolkit.terminal import say, show_json

    if json:
        show_json(asdict(done))
    else:
        say(*spoken_guests.attachment(done))
