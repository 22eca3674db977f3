"""The commands of ``toolkit lab``: guests made for an experiment. Alone, it boots one and watches it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli_boots import add_boots
from toolkit.cli_fetch import add_fetch
from toolkit.cli_move import add_move
from toolkit.cli_rates import add_rates
from toolkit.commands import HERE, JsonOption, StoreOption, alone, answer, begin, kept
from toolkit.units import parse_bytes, parse_duration_s

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.guests.receiver import Status

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    epilog="Start with: toolkit lab --for 30s",
)
add_boots(app)
add_rates(app)
add_move(app)
add_fetch(app)


@app.callback(invoke_without_command=True)
def _lab(
    context: typer.Context,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long to watch, once it has booted.")] = "30s",
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Between two looks; 1ms or more.")] = "100ms",
    rng: Annotated[bool, typer.Option("--rng/--no-rng", help="Give it a virtio-rng.")] = True,
    rng_bytes: Annotated[
        str | None,
        typer.Option("--rng-bytes", metavar="SIZE", help="The virtio-rng gives this much a period. [default: unlimited]"),
    ] = None,
    rng_period: Annotated[str, typer.Option("--rng-period", metavar="TIME", help="That period.")] = "1s",
    cpu: Annotated[
        str, typer.Option("--cpu", metavar="NAME", help="QEMU's name of its processor: max has RDRAND, qemu64 has none.")
    ] = "max",
    append: Annotated[str, typer.Option("--append", metavar="WORDS", help="More for its kernel's command line.")] = "",
    pair: Annotated[
        bool, typer.Option("--pair", help="Boot two instead: without RDRAND, one with a virtio-rng and one without.")
    ] = False,
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Boot a guest made for the purpose, run the agent in it, and keep its samples beside the host's; then it is gone.

    \b
    Example:  toolkit lab --for 30s
              toolkit lab --cpu qemu64 --append 'random.trust_cpu=off random.trust_bootloader=off' --rng-bytes 4 --rng-period 4s
    """
    if alone(context):
        from toolkit.terminal import guarded

        watch = functools.partial(_watch, duration, every, rng, rng_bytes, rng_period, cpu, append, pair, store, json)
        raise typer.Exit(guarded(watch))


def _watch(
    duration: str,
    every: str,
    rng: bool,
    rng_bytes: str | None,
    rng_period: str,
    cpu: str,
    append: str,
    pair: bool,
    store: Path,
    json: bool,
) -> None:
    """Do what ``toolkit lab`` says when it stands alone."""
    import pandas as pd

    from toolkit import spoken_channels
    from toolkit.errors import UsageError
    from toolkit.experiments import lab as experiment
    from toolkit.experiments.state import rng_state
    from toolkit.guests.lab import LabGuest, RngLimit, Unlimited
    from toolkit.terminal import bar, live, say, show

    limit_bytes = parse_bytes(rng_bytes) if rng_bytes else None
    duration_s, interval_s, period_s = (parse_duration_s(text) for text in (duration, every, rng_period))
    if pair and (limit_bytes is not None or not rng or cpu != "max" or append):
        raise UsageError("a pair of guests is as it is", "Give --pair alone, or the other options without it.")
    if not rng and limit_bytes is not None:
        raise UsageError("a guest without a virtio-rng has no limit of one", "Leave out --no-rng or --rng-bytes.")
    device = RngLimit(max_bytes=limit_bytes, period_ms=round(period_s * 1000)) if limit_bytes else Unlimited() if rng else None
    guests = experiment.pair() if pair else [LabGuest(name="lab", command=["true"], rng=device, cpu=cpu, append=append)]
    for guest in guests:
        guest.check()
    settings = {"duration_s": duration_s, "interval_s": interval_s, "guests": [repr(guest) for guest in guests]}
    opened, begun = begin(store, settings)
    opened.append("rng_state", rng_state(run=begun))
    with contextlib.ExitStack() as shown:
        progress = shown.enter_context(bar("booting"))
        change: Callable[[pd.DataFrame], None] | None = None

        def told(channels: list[Status]) -> None:
            nonlocal change
            if change is None:
                shown.close()  # they have booted
                change = shown.enter_context(live("Watching lab guests. Ctrl-C ends it.", spoken_channels.FORMATS))
            change(spoken_channels.channel_table(channels))

        watched = experiment.watch_lab(guests, duration_s, interval_s, opened, begun, told=told, progress=progress)
    table = spoken_channels.channel_table(watched.channels).assign(
        first_sample_s=pd.array([watched.first_sample_s.get(channel.guest) for channel in watched.channels], dtype="Float64"),
        accelerator=watched.accelerator.name,
    )

    def people() -> None:
        say(f"The guests ran under {watched.accelerator}.")
        show(table.drop(columns=["state", "last seen", "records/s", "accelerator"]))
        say(*spoken_channels.remarks(watched.channels))
        say(kept(int(table["records"].sum()), "records", store))

    answer(table, json, people)
