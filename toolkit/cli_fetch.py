"""The command ``toolkit lab fetch``: kernels and feeders for lab guests, into the cache. It installs nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.commands import JsonOption, answer, command

__all__ = ["add_fetch"]


def add_fetch(app: typer.Typer) -> None:
    """Give a family the command ``fetch``."""

    @command(app)
    def fetch(
        kernel: Annotated[
            list[str] | None,
            typer.Option(
                "--kernel",
                metavar="SUITE",
                help="The kernel of a suite, such as bullseye, or PACKAGE/SUITE; may be repeated.",
            ),
        ] = None,
        feeders: Annotated[bool, typer.Option("--feeders", help="rngd, rngtest, haveged and jitterentropy-rngd.")] = False,
        remove: Annotated[bool, typer.Option("--remove", help="First remove all that was fetched before.")] = False,
        json: JsonOption = False,
    ) -> None:
        """Fetch other suites' kernels and the feeders for lab guests; alone, show what was fetched. Nothing is installed.

        They are downloaded and verified by apt from this machine's own mirror, and unpacked in $TOOLKIT_CACHE, else in
        virt-toolkit in the user's cache folder. What is there already is kept as it is; --remove is the way to newer versions.

        \b
        Example:  toolkit lab fetch --kernel bullseye --kernel trixie --feeders
                  toolkit lab fetch --remove
        """
        import pandas as pd

        from toolkit.lab_feeders import fetch_feeders
        from toolkit.lab_kernels import fetch_kernel
        from toolkit.package_cache import PackageSet, cache_folder, fetched, remove_fetched
        from toolkit.terminal import bar, say, show
        from toolkit.units import bytes_text

        removed = remove_fetched() if remove else []
        wanted = [*(kernel or []), *(["feeders"] if feeders else [])]
        got: list[PackageSet] = []
        for number, name in enumerate(wanted, 1):
            with bar(f"fetching {name} ({number} of {len(wanted)})") as progress:
                got.append(fetch_feeders(progress) if feeders and number == len(wanted) else fetch_kernel(name, progress))
        rows = [
            (each.name, each.suite, package.name, package.version, package.download_bytes, each.bytes, str(each.folder))
            for each in (got if wanted else fetched())
            for package in each.packages
        ]
        columns = ["set", "suite", "package", "version", "download_bytes", "set_bytes", "folder"]
        table = pd.DataFrame(rows, columns=columns)

        def people() -> None:
            if removed:
                say(f"Removed from {cache_folder()}: {', '.join(removed)}.")
            if len(table):
                show(table.drop(columns="folder"), {"download_bytes": bytes_text, "set_bytes": bytes_text})
                say(f"They are in {cache_folder()}.")
            elif not removed:
                say(f"Nothing was fetched into {cache_folder()} yet. Start with: toolkit lab fetch --kernel bullseye --feeders")

        answer(table, json, people)
