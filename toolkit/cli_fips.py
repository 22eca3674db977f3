"""The command ``toolkit fips``: the statistical tests of FIPS 140-2, with the failures that good data shows beside those found."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.commands import JsonOption, answer, command
from toolkit.errors import UnavailableError
from toolkit.units import parse_duration_s

__all__ = ["add_fips"]


def add_fips(app: typer.Typer) -> None:
    """Give an application the command ``fips``."""

    @command(app)
    def fips(
        source: Annotated[
            list[str] | None,
            typer.Option("--source", metavar="NAME", help="getrandom, a device or a file; may be repeated. [default: getrandom]"),
        ] = None,
        blocks: Annotated[int, typer.Option("--blocks", metavar="N", min=1, help="Blocks of 2,500 bytes.")] = 1000,
        budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="The most that reading one source may take.")] = "30s",
        json: JsonOption = False,
    ) -> None:
        """Count how many blocks of a random source fail FIPS 140-2's tests (rngtest), beside how many of good data do.

        A source that is slow ends with its budget, and what it gave by then is tested. These tests find a source that broke; that
        one passes says little. A source that gives nothing is an error, and what the others showed is told all the same.

        \b
        Example:  toolkit fips --source /dev/hwrng --source getrandom
                  toolkit fips --source recorded.bin --blocks 5000
        """
        import pandas as pd

        from toolkit.analysis.fips import judge, meaning
        from toolkit.experiments.fips import BLOCK_BYTES, Counted, count_failures
        from toolkit.terminal import bar, say, show
        from toolkit.units import bytes_text, duration_text

        budget_s = parse_duration_s(budget)
        counted: list[Counted] = []
        refused: list[UnavailableError] = []
        for name in source or ["getrandom"]:
            try:
                with bar("testing") as progress:
                    counted.append(count_failures(name, blocks, budget_s, progress))
            except UnavailableError as error:
                refused.append(error)
        if not counted:
            raise _all_of(refused)
        judged = [judge(each.blocks, each.failures) for each in counted]

        def why(each: Counted) -> str:
            if each.ended == "enough":
                return ""
            reasons = {"budget": f"the {duration_text(budget_s)} were up", "end": "there was no more"}
            return f" Only {each.blocks:,} of {each.asked_blocks:,} blocks were tested: {reasons.get(each.ended, each.ended)}."

        def people() -> None:
            rate = {name: lambda share: f"{1000 * share:.3g}" for name in ("rate", "low", "high", "good_rate")}
            for each, table in zip(counted, judged, strict=True):
                took = f"{bytes_text(each.read_bytes)} in {duration_text(each.seconds)}"
                say(f"{each.source}: {each.blocks:,} blocks of {BLOCK_BYTES:,} bytes ({took}); rates per 1,000 blocks.{why(each)}")
                show(table.drop(columns=["blocks", "chance"]), rate)
                say(*meaning(table))

        told = [
            table.assign(
                source=each.source,
                asked_blocks=each.asked_blocks,
                read_bytes=each.read_bytes,
                seconds=each.seconds,
                ended=each.ended,
            )
            for each, table in zip(counted, judged, strict=True)
        ]
        answer(pd.concat(told, ignore_index=True), json, people)
        if refused:
            raise _all_of(refused)


def _all_of(refused: list[UnavailableError]) -> UnavailableError:
    """One error for all sources that gave nothing."""
    remedies = dict.fromkeys(error.remedy for error in refused if error.remedy)
    return UnavailableError("; ".join(dict.fromkeys(error.what for error in refused)), " ".join(remedies))
