"""``make bench``: every figure, one table printed and written as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import platform
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tests.benchmarks as benchmarks
from tests.benchmarks.figures import Figure


def collect(only: str) -> list[Figure]:
    """The figures of every module here that has any, in the modules' order."""
    found: list[Figure] = []
    for module in pkgutil.iter_modules(benchmarks.__path__):
        loaded = None if module.name.startswith("__") else importlib.import_module(f"tests.benchmarks.{module.name}")
        if loaded is not None and hasattr(loaded, "figures") and only in module.name:
            print(f"measuring {module.name.replace('_', ' ')} …", flush=True)
            for figure in loaded.figures():
                print(f"  {figure.what} against {figure.peer_name}: {figure.result:.3g}", flush=True)
                found.append(figure)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure the toolkit against its peers.", epilog="Example: make bench")
    parser.add_argument("--out", type=Path, default=Path("reports/bench.json"))
    parser.add_argument("--only", default="", help="only the benchmarks whose name contains this")
    asked = parser.parse_args()
    found = collect(asked.only)
    table = Table("figure", "against", "ours", "peer", "result", "least – greatest", "fastest", "goal", "met")
    for each in found:
        unit = f" {each.unit}" if each.by == "difference" else ""
        result, spread = f"{each.result:.3g}{unit}", f"{each.low:.3g} – {each.high:.3g}{unit}"
        goal = "–" if each.goal is None else f"≤ {each.goal:g}{unit}"
        met = {None: "–", True: "yes", False: "NO"}[each.met]
        row = (each.what, each.peer_name, f"{each.ours:.4g} {each.unit}", f"{each.peer:.4g} {each.unit}", result)
        table.add_row(*row, spread, f"{each.fastest:.3g}{unit}", goal, met)
    Console(width=190).print(table)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    machine = {"kernel": platform.release(), "python": platform.python_version(), "machine": platform.machine()}
    asked.out.write_text(json.dumps({"machine": machine, "figures": [each.record() for each in found]}, indent=1) + "\n")
    print(f"written to {asked.out}")


if __name__ == "__main__":
    main()
