"""Looking at a store in a notebook: views with controls, tables, and the findings in sentences.

``session`` chooses the store; ``fragmentation``, ``starvation``, ``throughput`` and ``live`` make the views, and of guests made for
an experiment ``boots``, ``rates``, ``waits`` and ``remedies``; ``audits`` shows verdicts. ``findings`` and ``findings_lab`` say in
words what was found; ``view`` binds controls to drawings and ``tables`` shows tables. Figures are :mod:`toolkit.plots`' business.
"""

from __future__ import annotations

from toolkit.explore import (
    audits,
    boots,
    channels,
    findings,
    fragmentation,
    overview,
    rates,
    remedies,
    starvation,
    throughput,
    waits,
)
from toolkit.explore.live import Live
from toolkit.explore.session import Session, open  # noqa: A004
from toolkit.explore.view import View, show, static

__all__ = [
    "Live",
    "Session",
    "View",
    "audits",
    "boots",
    "channels",
    "findings",
    "fragmentation",
    "open",
    "overview",
    "rates",
    "remedies",
    "show",
    "starvation",
    "static",
    "throughput",
    "waits",
]
