"""The command ``toolkit lab move``: a guest made for the purpose is moved to another QEMU while it reads its virtio-rng."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands import HERE, JsonOption, StoreOption, answer, begin, command, kept

if TYPE_CHECKING:
    from toolkit.guests.devices import RngLimit, Unlimited

__all__ = ["add_move"]

_NONE = "none"


def add_move(app: typer.Typer) -> None:
    """Give a family the command ``move``."""

    @command(app)
    def move(
        source: Annotated[
            str,
            typer.Option("--from", metavar="LIMIT", help="Its virtio-rng before: so many bytes a period, or none for no limit."),
        ] = "1024/1s",
        destination: Annotated[str, typer.Option("--to", metavar="LIMIT", help="And after.")] = "4096/1s",
        duration: Annotated[
            str | None,
            typer.Option("--for", metavar="TIME", help="How long to read on either side. [default: five periods and a half]"),
        ] = None,
        held: Annotated[
            str | None,
            typer.Option("--held", metavar="TIME", help="How long the host keeps it stopped. [default: no longer than it must]"),
        ] = None,
        kernel: Annotated[
            str, typer.Option("--kernel", metavar="VERSION", help="A version or its beginning, newest or oldest.")
        ] = "newest",
        store: StoreOption = HERE,
        json: JsonOption = False,
    ) -> None:
        """Move a guest made for the purpose to another QEMU while it reads its virtio-rng, and say what it had.

        \b
        Example:  toolkit lab move --from 1024/1s --to 4096/1s
                  toolkit lab move --from none --to 16/1s --held 2s --for 10s
        """
        from toolkit.analysis.moves import parts
        from toolkit.experiments.migration import check_move, move_while_reading
        from toolkit.lab_kernels import find_kernels
        from toolkit.spoken_moves import excess, moved_parts
        from toolkit.terminal import bar, say, show
        from toolkit.units import duration_text, parse_duration_s

        sides = _device(source), _device(destination)
        watch_s = None if duration is None else parse_duration_s(duration)
        held_s = 0.0 if held is None else parse_duration_s(held)
        check_move(*sides, watch_s, watch_s, held_s=held_s)
        (chosen, *_) = find_kernels([kernel])
        settings = {"source": repr(sides[0]), "destination": repr(sides[1]), "watch_s": watch_s, "held_s": held_s}
        opened, begun = begin(store, {**settings, "kernel": chosen.version})
        with bar("booting") as progress:
            found = move_while_reading(
                *(*sides, opened, begun), before_s=watch_s, after_s=watch_s, held_s=held_s, kernel=chosen, progress=progress
            )
        table = parts(found.source_reads, found.moves)

        def people() -> None:
            show(moved_parts(table))
            stood_s = found.moves["stopped_ms"].item() / 1000
            say(f"It stood still for {duration_text(stood_s)}; a guest's own clock may not count that.")
            say(*excess(table))
            if found.moves["kernel_drew"].item() is not False:
                say("Its kernel drew from the same device meanwhile, 64 bytes at a time.")
            say(kept(len(found.source_reads), "reads", store))

        answer(table, json, people)


def _device(text: str) -> Unlimited | RngLimit:
    from toolkit.experiments.boot_plan import parse_rng
    from toolkit.guests.devices import Unlimited

    return Unlimited() if text == _NONE else parse_rng(text, Unlimited().backend) or Unlimited()
