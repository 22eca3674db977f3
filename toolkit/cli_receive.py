"""The commands of ``toolkit guests`` that receive: watch and measure; and agent, which is what is received from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli_guests import app
from toolkit.commands import HERE, JsonOption, StoreOption, answer, begin, command, kept
from toolkit.units import parse_bytes, parse_duration_s

if TYPE_CHECKING:
    from toolkit.guests.receiver import Guest, Receiver, Status

__all__ = ["app"]

_Uri = Annotated[
    str | None,
    typer.Option("--uri", metavar="URI", help="Where libvirt is, such as qemu:///system. [default: libvirt's own default]"),
]
_Sockets = Annotated[
    list[str] | None,
    typer.Option(
        "--socket",
        metavar="NAME=PATH",
        help="A guest without libvirt: what to call it, and its port's unix socket; may be repeated.",
    ),
]


@command(app)
def watch(
    domain: Annotated[
        list[str] | None, typer.Argument(metavar="[DOMAIN]...", help="Domains by name. [default: all that have our port]")
    ] = None,
    socket: _Sockets = None,
    duration: Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long. [default: until Ctrl-C]")] = None,
    via: Annotated[
        str, typer.Option("--via", metavar="WHAT", help="agent: ours; qga: without ours, through qemu-guest-agent, slower.")
    ] = "agent",
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="With --via qga, between two looks; our agent has its own.")
    ] = "1s",
    uri: _Uri = None,
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Receive samples from guests into the store, with a live table, until Ctrl-C.

    \b
    Example:  toolkit guests watch
              toolkit guests watch web1 web2 --for 5m
              toolkit guests watch --via qga web3
              toolkit guests watch --socket mine=/run/mine/port.sock
    """
    from toolkit import spoken_channels
    from toolkit.errors import UsageError
    from toolkit.experiments.receive import receive
    from toolkit.guests.receiver import Receiver
    from toolkit.terminal import live, say, show

    if via not in ("agent", "qga"):
        raise UsageError(f"{via!r} is no way to a guest's samples", "Give --via agent or --via qga.")
    if via == "qga" and (socket or not domain):
        raise UsageError("through qemu-guest-agent only libvirt's domains are reached, by name", "Name them.")
    duration_s = None if duration is None else parse_duration_s(duration)
    interval_s = parse_duration_s(every)
    with _guests(domain, socket, via, interval_s, uri) as guests:
        settings = {"guests": [guest.name for guest in guests], "via": via, "duration_s": duration_s}
        opened, begun = begin(store, settings)
        receiver = Receiver(opened, begun)
        for guest in guests:
            receiver.add(guest)
        words = f"Receiving from {len(guests)} guest{'s' if len(guests) > 1 else ''} into {store}. Ctrl-C ends it."
        said: set[str] = set()
        with live(words, spoken_channels.FORMATS) as change:

            def told(channels: list[Status]) -> None:
                change(spoken_channels.channel_table(channels))
                if not json:
                    _say_new(spoken_channels.remarks(channels), said, say)

            receive(receiver, duration_s, told)
    channels = receiver.status()
    table = spoken_channels.channel_table(channels)

    def people() -> None:
        show(table.drop(columns=["state", "records/s"]), spoken_channels.FORMATS)
        _say_new(spoken_channels.remarks(channels), said, say)
        say(kept(sum(channel.total.records for channel in channels), "records", store))

    answer(table, json, people)


@command(app)
def measure(
    domain: Annotated[str | None, typer.Argument(metavar="[DOMAIN]", help="A domain by name, that has our port.")] = None,
    socket: _Sockets = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="Read this source in the guest; may be repeated.")
    ] = None,
    block: Annotated[str, typer.Option("--block", metavar="SIZE", help="Bytes a read.")] = "64",
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="The most that one source may be read.")] = "1s",
    place: Annotated[
        str | None,
        typer.Option("--place", metavar="WHERE", help="Allocate in this directory of the guest, or disk:ext4 on its scratch disk."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", metavar="NAME", help="An allocation method; may be repeated. [default: all]")
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="Size of a file.")] = "64MiB",
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Repeats of each.")] = 5,
    patience: Annotated[str, typer.Option("--patience", metavar="TIME", help="The most that all of it may take.")] = "10m",
    uri: _Uri = None,
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Have a guest's agent read sources or allocate files, where its configuration allows it; the rows come back over its port.

    \b
    Example:  toolkit guests measure web1 --source /dev/hwrng --source getrandom
              toolkit guests measure web1 --place /var/tmp --method posix_fallocate --method write_4k --size 256MiB
    """
    import pandas as pd

    from toolkit.errors import GuestError, UsageError
    from toolkit.experiments.receive import receive
    from toolkit.guests import wire
    from toolkit.guests.receiver import Receiver
    from toolkit.sensors.allocation import METHODS, check_methods
    from toolkit.terminal import bar, show

    if not source and place is None:
        raise UsageError("nothing is asked of the guest", "Give --source to read one, or --place to allocate files there.")
    block_bytes, size_bytes = parse_bytes(block), parse_bytes(size)
    budget_s, patience_s = parse_duration_s(budget), parse_duration_s(patience)
    asked: list[tuple[str, int, dict[str, Any]]] = [
        (
            name,
            wire.READ_SOURCES,
            {"source": name, "block_bytes": block_bytes, "budget_ns": int(budget_s * 1e9), "most_reads": 10_000},
        )
        for name in source or []
    ]
    if place is not None:
        methods = tuple(method or METHODS)
        check_methods(methods)
        asked += [
            (
                f"{name} at {place}",
                wire.ALLOCATE,
                {"place": place, "method": name, "size_bytes": size_bytes, "repeats": repeat, "position": repeat * number},
            )
            for number, name in enumerate(methods)
        ]
    with _guests([domain] if domain else None, socket, "agent", 1.0, uri) as guests:
        if len(guests) != 1:
            raise UsageError(f"{len(guests)} guests are meant", "Name one.")
        guest = guests[0]
        opened, begun = begin(store, {"guest": guest.name, "asked": [what for what, _, _ in asked]})
        receiver = Receiver(opened, begun)
        receiver.add(guest)
        with bar("measuring in the guest") as progress:
            done = receive(receiver, patience_s, until=lambda: _asked_in_turn(receiver, guest.name, asked, progress))
    if done is None:
        why = "; ".join(channel.why for channel in receiver.status() if channel.why)
        raise GuestError(
            f"{guest.name} did not answer everything within {patience}{f' ({why})' if why else ''}",
            "Look whether its agent runs (toolkit guests list), whether another watch has its port, or give more --patience.",
        )
    table = pd.DataFrame(done)
    answer(table, json, lambda: show(table, most=200))
    refused = [row for row in done if row["why not"]]
    if len(refused) == len(done):
        raise GuestError(
            f"{guest.name} did nothing of it: {refused[0]['why not']}",
            "Its administrator allows it in the agent's configuration: see python3 agent.pyz --help.",
        )


@command(app)
def agent(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", readable=False, help="Where it goes.")] = Path("agent.pyz"),
    unit: Annotated[
        Path | None, typer.Option("--unit", metavar="FILE", readable=False, help="Write a systemd unit for it too.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", readable=False, help="Write an example of its configuration too.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the agent as one file, which any Python from 3.8 on runs in a guest.

    \b
    Example:  toolkit guests agent --out agent.pyz --unit virt-toolkit-agent.service --config virt-toolkit-agent.toml
    """
    from toolkit.guests import leave, package
    from toolkit.terminal import say, show_json

    written = [out]
    out.write_bytes(package.agent_pyz())
    out.chmod(0o755)
    if unit is not None:
        unit.write_text(
            package.unit("/usr/bin/python3", "/opt/virt-toolkit/agent.pyz", "/etc/virt-toolkit-agent.toml" if config else None),
            encoding="utf-8",
        )
        written.append(unit)
    if config is not None:
        config.write_text(leave.EXAMPLE, encoding="utf-8")
        written.append(config)
    if json:
        show_json({"written": [str(path) for path in written]})
        return
    say(f"Written: {', '.join(map(str, written))}.", f"In the guest, as root:  python3 -IS {out.name}")


def _say_new(remarks: Iterator[str], said: set[str], say: Callable[..., None]) -> None:
    """Say what was not said before."""
    for remark in remarks:
        if remark not in said:
            said.add(remark)
            say(remark)


async def _asked_in_turn(
    receiver: Receiver, guest: str, asked: list[tuple[str, int, dict[str, Any]]], progress: Callable[[float, float, str], None]
) -> list[dict[str, Any]]:
    rows = []
    for number, (what, kind, request) in enumerate(asked):
        progress(number, len(asked), what)
        done = await receiver.ask(guest, kind, **request)
        rows.append({"asked": what, "rows": done["records"], "why not": done["words"]})
    return rows


@contextlib.contextmanager
def _guests(
    domains: list[str] | None, sockets: list[str] | None, via: str, interval_s: float, uri: str | None
) -> Iterator[list[Guest]]:
    """The guests that are meant: domains by name, sockets by path, and all that have our port where nothing is said."""
    from toolkit.errors import GuestError, UsageError
    from toolkit.guests.receiver import Guest

    given = []
    for text in sockets or []:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"{text!r} is no guest's name and socket", "Write NAME=PATH.")
        given.append(Guest(name, Path(path)))
    with contextlib.ExitStack() as stack:
        if domains or not sockets:
            from toolkit.guests import meant

            given += stack.enter_context(meant.domains(domains, via, interval_s, uri))
        if not given:
            raise GuestError("no running domain has our port", "Run: toolkit guests attach DOMAIN")
        yield given
