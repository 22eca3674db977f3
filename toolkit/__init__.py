"""Entropy starvation, throughput and file fragmentation on hosts and guests: measured, kept, analysed, shown.

The public names below are loaded on first use, so that ``import toolkit`` costs next to nothing and a guest that carries only
the sensors can import the package without pandas.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from toolkit._version import __version__ as __version__

if TYPE_CHECKING:
    from toolkit import explore as explore
    from toolkit import plots as plots
    from toolkit.analysis.boots import boots as boots
    from toolkit.analysis.boots import remedies as remedies
    from toolkit.analysis.compare import compare as compare
    from toolkit.analysis.fragmentation import fragmentation as fragmentation
    from toolkit.analysis.layers import compose as compose
    from toolkit.analysis.rates import rates as rates
    from toolkit.analysis.readiness import readiness as readiness
    from toolkit.analysis.starvation import starvation as starvation
    from toolkit.analysis.throughput import throughput as throughput
    from toolkit.analysis.waits import fairness as fairness
    from toolkit.analysis.waits import waits as waits
    from toolkit.doctor import doctor as doctor
    from toolkit.experiments.allocation import allocate as allocate
    from toolkit.experiments.allocation import allocate_on as allocate_on
    from toolkit.experiments.extents import extents as extents
    from toolkit.experiments.sources import read_sources as read_sources
    from toolkit.experiments.state import rng_state as rng_state
    from toolkit.experiments.watch import watch as watch
    from toolkit.report import report as report
    from toolkit.store import Store as Store
    from toolkit.store import open_store as open_store

_FUNCTIONS = {
    "Store": "toolkit.store",
    "allocate": "toolkit.experiments.allocation",
    "allocate_on": "toolkit.experiments.allocation",
    "boots": "toolkit.analysis.boots",
    "compare": "toolkit.analysis.compare",
    "compose": "toolkit.analysis.layers",
    "doctor": "toolkit.doctor",
    "extents": "toolkit.experiments.extents",
    "fairness": "toolkit.analysis.waits",
    "fragmentation": "toolkit.analysis.fragmentation",
    "open_store": "toolkit.store",
    "rates": "toolkit.analysis.rates",
    "read_sources": "toolkit.experiments.sources",
    "readiness": "toolkit.analysis.readiness",
    "remedies": "toolkit.analysis.boots",
    "report": "toolkit.report",
    "rng_state": "toolkit.experiments.state",
    "starvation": "toolkit.analysis.starvation",
    "throughput": "toolkit.analysis.throughput",
    "waits": "toolkit.analysis.waits",
    "watch": "toolkit.experiments.watch",
}
_PACKAGES = ("explore", "plots")

__all__ = ["__version__", *sorted(_FUNCTIONS), *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        value = getattr(importlib.import_module(_FUNCTIONS[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"toolkit.{name}")
    else:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


class _Toolkit(types.ModuleType):
    """Keeps a public function from being hidden by the module of the same name.

    ``toolkit.doctor`` and ``toolkit.report`` are both a function that people call and a module that it lives in. The import system
    binds a submodule to its parent's attribute whenever it is first imported, from wherever; this class refuses that one binding,
    so that the name always means the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _FUNCTIONS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Toolkit
