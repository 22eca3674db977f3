"""What the commands of every family share: how an error becomes an exit status, the options, a run's beginning, the answer.

No command lives here: those are in :mod:`toolkit.cli` and in the ``cli_`` module of their family.
"""

from __future__ import annotations

import functools
import secrets
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.runs import Run
    from toolkit.store import Store

__all__ = [
    "HERE",
    "IfBusyOption",
    "JsonOption",
    "SeedOption",
    "ShownOption",
    "StoreOption",
    "alone",
    "answer",
    "begin",
    "command",
    "fresh",
    "kept",
    "rows_of",
    "words",
]

StoreOption = Annotated[Path, typer.Option("--store", metavar="DIR", readable=False, help="The store: a folder of Parquet files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Seed of the random order (default: a fresh one, stored).")
]
ShownOption = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", readable=False, help="The store. [default: ./store, else the one that comes with the toolkit]"
    ),
]
IfBusyOption = Annotated[
    str,
    typer.Option(
        "--if-busy",
        metavar="WHAT",
        help="While another allocation experiment measures on this machine: wait, or go-on beside it, which is stored.",
    ),
]
#: The store of who names none.
HERE = Path("store")


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of the application, by default named as its function: its errors become an exit status, and none a traceback."""

    def made(function: Callable[..., None]) -> Callable[..., None]:
        @app.command(name, no_args_is_help=False)
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> None:
            from toolkit.terminal import guarded

            raise typer.Exit(guarded(lambda: function(*args, **kwargs)))

        return called

    return made


def alone(context: typer.Context) -> bool:
    """Whether a family alone is meant, and none of its commands; options before one of those would be lost, and are refused."""
    if context.invoked_subcommand is None:
        return True
    for parameter in context.command.params:
        # By its name: typer brings an enumeration of its own along.
        if getattr(context.get_parameter_source(parameter.name or ""), "name", None) == "COMMANDLINE":
            raise typer.BadParameter(f"options of {context.invoked_subcommand} stand after it", param_hint=parameter.opts[0])
    return False


def begin(
    store: Path, settings: dict[str, Any], seed: int | None = None, capabilities: pd.DataFrame | None = None
) -> tuple[Store, Run]:
    """Open the store and begin a run in it: its row, and what this machine can and cannot measure."""
    from toolkit import runs
    from toolkit.doctor import doctor
    from toolkit.store import open_store

    opened = open_store(store)
    begun = runs.begin(words(), settings, seed)
    opened.append("runs", begun.row())
    opened.append("capabilities", begun.frame("capabilities", rows_of(doctor() if capabilities is None else capabilities)))
    return opened, begun


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, a dictionary each."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def answer(frame: pd.DataFrame, json: bool, people: Callable[[], None]) -> None:
    """Give a command's answer: the frame as JSON to machines, else what it says to people."""
    from toolkit.terminal import show_json

    if json:
        show_json(frame)
    else:
        people()


def words() -> str:
    """What the user typed."""
    return shlex.join(["toolkit", *sys.argv[1:]])


def fresh(seed: int | None) -> int:
    """The seed given, else one that nobody chose; either is stored with the run."""
    return secrets.randbelow(2**31) if seed is None else seed


def kept(count: int, what: str, store: Path) -> str:
    """Where rows went, for people."""
    return f"{count:,} {what} are in {store}."
