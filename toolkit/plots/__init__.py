"""Tables in, figures out: each with its units, its intervals, its single repeats and its alternative text.

``audits``, ``boots``, ``drain``, ``fragmentation``, ``published``, ``rates``, ``remedies``, ``starvation`` and ``throughput`` draw;
``style`` and ``axes`` say how everything looks; ``intervals`` draws a median with its interval. Nothing here reads a store or shows
a figure: see :mod:`toolkit.explore`.
"""

from __future__ import annotations

from toolkit.plots.audits import audits
from toolkit.plots.boots import boots, boots_curve
from toolkit.plots.drain import drain, fairness
from toolkit.plots.fragmentation import allocation_time, extent_map, pieces
from toolkit.plots.published import beside_2009
from toolkit.plots.rates import bursts, limits
from toolkit.plots.remedies import remedies
from toolkit.plots.starvation import pool, readiness
from toolkit.plots.style import AltFigure, alt, png
from toolkit.plots.throughput import hwrng, rates, waits

__all__ = [
    "AltFigure",
    "allocation_time",
    "alt",
    "audits",
    "beside_2009",
    "boots",
    "boots_curve",
    "bursts",
    "drain",
    "extent_map",
    "fairness",
    "hwrng",
    "limits",
    "pieces",
    "png",
    "pool",
    "rates",
    "readiness",
    "remedies",
    "waits",
]
