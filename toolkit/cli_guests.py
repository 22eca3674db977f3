"""The commands of ``toolkit guests``: a thin function a command. What they do lives in :mod:`toolkit.guests`."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Guests: find them, attach the channel to them, sample them from inside.",
    epilog="Start with: toolkit guests list",
)


@app.callback()
def _guests() -> None:
    """Keep the commands' names: an application with a single command would hide its name."""
