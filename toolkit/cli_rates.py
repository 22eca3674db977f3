"""The commands ``toolkit lab rates`` and ``toolkit lab drain``: what a guest's sources give, and who waits where several draw."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.commands import HERE, JsonOption, SeedOption, StoreOption, answer, begin, command, fresh, kept
from toolkit.units import parse_bytes, parse_duration_s

__all__ = ["add_rates"]

_Kernel = Annotated[str, typer.Option("--kernel", metavar="VERSION", help="A version or its beginning, newest or oldest.")]


def add_rates(app: typer.Typer) -> None:
    """Give a family the commands ``rates`` and ``drain``."""

    @command(app)
    def rates(
        size: Annotated[
            list[str] | None,
            typer.Option("--bytes", metavar="SIZE", help="A limit's bytes; may be repeated. [default: 16, 1KiB, 100KiB]"),
        ] = None,
        period: Annotated[
            list[str] | None, typer.Option("--period", metavar="TIME", help="Its period; may be repeated. [default: 100ms, 1s]")
        ] = None,
        unlimited: Annotated[bool, typer.Option("--unlimited/--no-unlimited", help="One without a limit too.")] = True,
        periods: Annotated[int, typer.Option("--periods", metavar="N", min=3, help="Periods seen at least.")] = 5,
        # QEMU's own generator: it costs least, so that what is measured is the limit.
        backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What feeds it on the host.")] = "builtin",
        kernel: _Kernel = "newest",
        store: StoreOption = HERE,
        json: JsonOption = False,
    ) -> None:
        """Measure what a guest's virtio-rng gives under each limit, all sizes with all periods, against what was configured.

        Each limit has a guest of its own, which reads /dev/hwrng for some periods of that limit: a slow one cannot hang it.

        \b
        Example:  toolkit lab rates
                  toolkit lab rates --bytes 1KiB --bytes 2KiB --period 1s
        """
        from toolkit import spoken_lab
        from toolkit.errors import UnavailableError
        from toolkit.experiments.boot_plan import parse_rng
        from toolkit.experiments.rates import check_rates, measure_rates
        from toolkit.lab_kernels import find_kernels
        from toolkit.terminal import bar, say, show

        sizes = [parse_bytes(text) for text in size or ["16", "1KiB", "100KiB"]]
        periods_s = [parse_duration_s(text) for text in period or ["100ms", "1s"]]
        limits = [f"{count}/{seconds}s" for count in dict.fromkeys(sizes) for seconds in dict.fromkeys(periods_s)]
        words = [*limits, *(["unlimited"] if unlimited else [])]
        devices = [device for word in words if (device := parse_rng(word, backend)) is not None]
        check_rates(devices, periods)
        (chosen, *_) = find_kernels([kernel])
        opened, begun = begin(store, {"limits": words, "backend": backend, "periods": periods, "kernel": chosen.version})
        with bar("measuring rates") as progress:
            reads = measure_rates(devices, opened, begun, periods=periods, kernel=chosen, progress=progress)
        states = opened.read("rng_state", host=begun.host)
        table = spoken_lab.rates(reads, states[states["run_id"] == begun.run_id])

        if reads.empty:
            raise UnavailableError(f"None of the {len(devices)} limits was measured; the warnings say why", "Run: toolkit doctor.")

        def people() -> None:
            show(table)
            say(kept(len(reads), "reads", store))

        answer(table, json, people)

    @command(app)
    def drain(
        reader: Annotated[
            list[str] | None,
            typer.Option(
                "--reader",
                metavar="SOURCE",
                help="A process that reads it; may be repeated. [default: getrandom, /dev/random, /dev/hwrng twice]",
            ),
        ] = None,
        limit: Annotated[
            str, typer.Option("--limit", metavar="LIMIT", help="Of their guest: unlimited, or such as 1KiB/1s.")
        ] = "1KiB/1s",
        guests: Annotated[
            list[int] | None,
            typer.Option(
                "--guests", metavar="N", min=1, help="Guests on one source of the host; may be repeated. [default: 1, 2, 4]"
            ),
        ] = None,
        backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="The source that they share.")] = "/dev/hwrng",
        duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long a round is.")] = "10s",
        repeat: Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Rounds.")] = 3,
        kernel: _Kernel = "newest",
        seed: SeedOption = None,
        store: StoreOption = HERE,
        json: JsonOption = False,
    ) -> None:
        """Let several readers draw at once in one guest, and several guests from one source of the host: who waits how long.

        \b
        Example:  toolkit lab drain
                  toolkit lab drain --reader getrandom --reader /dev/hwrng --limit 16/1s --guests 1 --guests 8
        """
        from toolkit import spoken_lab
        from toolkit.errors import UnavailableError, UsageError
        from toolkit.experiments import drain as experiment
        from toolkit.experiments.boot_plan import parse_rng
        from toolkit.lab_kernels import find_kernels
        from toolkit.terminal import bar, say, show

        readers = reader or ["getrandom", "/dev/random", "/dev/hwrng", "/dev/hwrng"]
        device, shared, watch_s = parse_rng(limit, "/dev/urandom"), parse_rng("unlimited", backend), parse_duration_s(duration)
        if device is None or shared is None:
            raise UsageError("readers of a guest without a virtio-rng have nothing to share", "Give --limit unlimited, or a limit.")
        drains = [
            *experiment.readers_at_once(readers, device, watch_s, repeat),
            *experiment.fairness(list(dict.fromkeys(guests or [1, 2, 4])), shared.backend, watch_s, repeat),
        ]
        for each in drains:
            each.check()
        (chosen, *_) = find_kernels([kernel])
        settings = {"readers": readers, "limit": limit, "guests": guests, "backend": backend, "for_s": watch_s, "repeats": repeat}
        opened, begun = begin(store, {**settings, "kernel": chosen.version}, fresh(seed))
        with bar("drawing") as progress:
            reads = experiment.measure_drain(drains, opened, begun, kernel=chosen, progress=progress)

        if reads.empty:
            raise UnavailableError(f"None of {len(drains)} scenarios was measured; the warnings say why", "Run: toolkit doctor.")

        def people() -> None:
            show(spoken_lab.readers(reads))
            show(spoken_lab.fairness(reads))
            say(kept(len(reads), "reads", store))

        answer(reads, json, people)
