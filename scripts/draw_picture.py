"""Draws docs/allocation.png, the picture in the README, from the reference store."""

from __future__ import annotations

from pathlib import Path

import toolkit

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Draw it."""
    allocations = toolkit.open_store(ROOT / "data" / "reference", create=False).read("allocations")
    figure = toolkit.plots.allocation_time(allocations)
    target = ROOT / "docs" / "allocation.png"
    figure.savefig(target, dpi=110, bbox_inches="tight", metadata={"Software": None})
    print(f"{target.relative_to(ROOT)}: {figure.alt}")


if __name__ == "__main__":
    main()
