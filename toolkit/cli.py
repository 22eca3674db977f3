"""The command line: a thin function a command. What it does lives in the layers; how it speaks, in :mod:`toolkit.terminal`.

Everything heavy is imported inside the command that needs it, so that ``toolkit --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit import cli_audit, cli_lab, cli_receive
from toolkit._version import __version__
from toolkit.cli_fips import add_fips
from toolkit.commands import (
    HERE,
    IfBusyOption,
    JsonOption,
    SeedOption,
    ShownOption,
    StoreOption,
    answer,
    begin,
    command,
    fresh,
    kept,
    words,
)
from toolkit.markup import visible
from toolkit.units import parse_bytes, parse_duration_s

__all__ = ["app", "run"]

#: The parent of all that typer says about an argument that cannot be meant; it has no public name.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="toolkit",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Entropy starvation, throughput and file fragmentation on hosts and guests: measured, kept, analysed, shown.",
    epilog="Start with: toolkit doctor",
)
#: Each adds its commands to one and the same application.
_GUESTS = (cli_audit.app, cli_receive.app)
app.add_typer(_GUESTS[0], name="guests")
app.add_typer(cli_lab.app, name="lab")

#: As the sensors and the table of file systems have them; written out so that --help need not load those. A test compares.
_FILESYSTEMS = "ext2 ext3 ext4 ext4-noextents xfs btrfs tmpfs"
_METHODS = "posix_fallocate fallocate mmap_memset write_4k write_8k write_64k ftruncate"


def run() -> int:
    """Run the command line on the arguments of this process; gives the exit status."""
    try:
        status: int | None = app(standalone_mode=False)
    except _UsageError as error:
        if sys.argv[1:]:  # without any, it is the help
            error.message = visible(error.message, 600)
        error.show()
        return int(error.exit_code)
    except typer.Abort:
        return 1
    return status or 0


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(__version__)  # noqa: T201
        raise typer.Exit


@command(app)
def doctor(
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DIR", readable=False, help="Keep the answer in this store. [default: nowhere]"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what this machine can measure, and how to get the rest; makes nothing, and keeps the answer only where told to.

    \b
    Example:  toolkit doctor
              toolkit doctor --json
    """
    from toolkit.doctor import doctor
    from toolkit.terminal import say, show

    found = doctor()
    if store is not None:
        begin(store, {}, capabilities=found)

    def people() -> None:
        show(found, {"available": lambda there: "yes" if there else "NO"})
        lacking = int((~found["available"].astype(bool)).sum())
        say(f"{len(found) - lacking} of {len(found)} can be measured here." + (" See 'remedy' for the rest." if lacking else ""))

    answer(found, json, people)


@command(app)
def watch(
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long.")] = "60s",
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="How often.")] = "100ms",
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Watch this machine's entropy pool and random number generator; Ctrl-C ends it early and keeps what was seen.

    \b
    Example:  toolkit watch --for 60s --every 100ms
    """
    from toolkit import spoken
    from toolkit.experiments.state import rng_state
    from toolkit.experiments.watch import watch
    from toolkit.terminal import bar, say

    duration_s, interval_s = parse_duration_s(duration), parse_duration_s(every)
    opened, begun = begin(store, {"for_s": duration_s, "every_s": interval_s})
    state = rng_state(run=begun)
    opened.append("rng_state", state)
    with bar("watching") as progress:
        samples = watch(duration_s, interval_s, store=opened, run=begun, progress=progress)
    answer(samples, json, lambda: say(*spoken.watched(samples, state, interval_s), kept(len(samples), "samples", store)))


@command(app)
def sources(
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="getrandom or a device; may be repeated. [default: all]")
    ] = None,
    block: Annotated[
        list[str] | None, typer.Option("--block", metavar="SIZE", help="Bytes a read; may be repeated. [default: 64, 4KiB, 64KiB]")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="The most that one source and size may take.")] = "1s",
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Time reads of getrandom, /dev/random, /dev/urandom and /dev/hwrng; a source that gives nothing never hangs it.

    \b
    Example:  toolkit sources --source /dev/hwrng --source getrandom --block 64 --block 4KiB
    """
    from toolkit import spoken
    from toolkit.experiments.sources import read_sources
    from toolkit.experiments.state import rng_state
    from toolkit.sensors.sources import check_source
    from toolkit.terminal import bar, say, show

    for name in source or []:
        check_source(name)
    blocks = [parse_bytes(text) for text in block] if block else None
    budget_s = parse_duration_s(budget)
    opened, begun = begin(store, {"sources": source, "block_bytes": blocks, "budget_s": budget_s})
    opened.append("rng_state", rng_state(run=begun))
    with bar("reading") as progress:
        reads = read_sources(source or None, blocks, budget_s, run=begun, progress=progress)
    opened.append("source_reads", reads)

    def people() -> None:
        show(spoken.source_rates(reads))
        say(kept(len(reads), "reads", store))

    answer(reads, json, people)


@command(app)
def allocate(
    filesystem: Annotated[
        list[str] | None,
        typer.Option("--filesystem", metavar="NAME", help=f"One of {_FILESYSTEMS}; may be repeated. [default: all]"),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", metavar="NAME", help=f"One of {_METHODS}; may be repeated. [default: all]")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option("--size", metavar="SIZE", help="Size of a file; may be repeated. [default: 256MiB]")
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Repeats of each.")] = 7,
    seed: SeedOption = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="DIR", readable=False, help="An existing folder instead of scratch file systems; needs no root."
        ),
    ] = None,
    if_busy: IfBusyOption = "wait",
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Time the ways to allocate a file, on scratch file systems (needs root) or in a folder.

    \b
    Example:  toolkit allocate --filesystem ext4 --filesystem xfs --size 256MiB --repeat 7
              toolkit allocate --directory /var/tmp --size 64MiB
    """
    from toolkit import spoken
    from toolkit.experiments.survey import Allocations
    from toolkit.terminal import bar, say, show

    sizes = [parse_bytes(text) for text in size or ["256MiB"]]
    plan = Allocations(filesystem, method, sizes, repeat, directory, if_busy)
    opened, begun = begin(store, plan.settings, fresh(seed))
    with bar("allocating") as progress:
        rows = plan.record(opened, begun, progress)

    def people() -> None:
        show(spoken.allocation_times(rows), most=200)
        say(kept(len(rows), "measurements", store) + f" Seed {begun.seed}.")

    answer(rows, json, people)


@command(app)
def extents(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A file.")],
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Show where a file lies on its device, and in how many pieces.

    \b
    Example:  toolkit extents /var/lib/libvirt/images/guest.img
    """
    from toolkit import runs, spoken
    from toolkit.experiments.extents import extents
    from toolkit.sensors.extents import file_extents
    from toolkit.store import open_store
    from toolkit.terminal import say, show

    begun = runs.begin(words(), {"file": file})
    found = extents(file, run=begun)
    mapped = file_extents(file)
    pieces = mapped.discontinuities() if mapped.comparable() else None
    opened = open_store(store)
    opened.append("runs", begun.row())
    opened.append("extents", found)

    def people() -> None:
        show(found[["logical_byte", "physical_byte", "length_bytes", "flags"]], most=20)
        say(f"{file}: {spoken.extents_of(found, pieces)}", kept(len(found), "extents", store))

    answer(found, json, people)


@command(app)
def measure(
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long to watch the pool.")] = "20s",
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="The most that one source and size may take.")] = "500ms",
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="Size of a file to allocate.")] = "64MiB",
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Repeats of each allocation.")] = 5,
    seed: SeedOption = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="DIR",
            readable=False,
            help="Allocate in this folder. [default: scratch file systems as root, else beside the store]",
        ),
    ] = None,
    guests: Annotated[
        str,
        typer.Option("--guests-for", metavar="TIME", help="How long to watch a pair of lab guests, where they can be booted."),
    ] = "15s",
    no_guests: Annotated[bool, typer.Option("--no-guests", help="Boot no lab guests.")] = False,
    if_busy: IfBusyOption = "wait",
    store: StoreOption = HERE,
    json: JsonOption = False,
) -> None:
    """Measure this machine, all of it, in one run: what 'make report' measures. Takes about three minutes.

    \b
    Example:  toolkit measure && toolkit report
    """
    from toolkit.experiments.survey import Survey
    from toolkit.terminal import bar, say

    beside = store.absolute().parent
    watch_s, budget_s, size_bytes = parse_duration_s(duration), parse_duration_s(budget), parse_bytes(size)
    guests_s = None if no_guests else parse_duration_s(guests)
    plan = Survey.of(watch_s, budget_s, size_bytes, repeat, directory, beside, if_busy, guests_s)
    opened, begun = begin(store, plan.settings, fresh(seed))
    with bar("measuring") as progress:
        counts = plan.record(opened, begun, progress)
    answer(
        counts,
        json,
        lambda: say(*(kept(rows, f"rows of {name}", store) for name, rows in zip(counts["table"], counts["rows"], strict=True))),
    )


@command(app)
def report(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", readable=False, help="Where the pages go.")] = Path("reports"),
    host: Annotated[str | None, typer.Option("--host", metavar="NAME", help="Of this host alone.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Of this run alone.")] = None,
    store: ShownOption = None,
    json: JsonOption = False,
) -> None:
    """Write index.html and a page a notebook from what is in the store: self-contained, readable offline.

    \b
    Example:  toolkit report --store store --out reports
    """
    from toolkit.report import report
    from toolkit.share import default_store, is_reference_store
    from toolkit.terminal import bar, say, show_json

    with bar("writing pages") as progress:
        index = report(store, out, host=host, run=run, progress=progress)
    if json:
        show_json({"index": str(index)})
    else:
        said = f"The report is {index}"
        if store is None and is_reference_store(default_store()):
            said += ", of the reference data that come with the toolkit: there is no store here. 'toolkit measure' makes one."
        say(said)


@command(app)
def notebooks(
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser on it.")] = True,
    store: ShownOption = None,
    json: JsonOption = False,
) -> None:
    """Open JupyterLab on the notebooks, with the store in place, until Ctrl-C.

    \b
    Example:  toolkit notebooks --store store
    """
    from toolkit.report.jupyterlab import serve
    from toolkit.terminal import say, show_json

    serve(store, browser=browser, announce=(lambda address: show_json({"address": address})) if json else say)


add_fips(app)
