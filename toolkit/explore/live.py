"""Watching this machine now: a figure that is drawn again every so often, with a button to start and one to stop.

Memory is bounded: only the samples of the window are kept. Nothing is stored; ``toolkit watch`` does that.
"""

from __future__ import annotations

import math
import threading

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.starvation import starvation
from toolkit.errors import ToolkitError, UsageError
from toolkit.experiments.state import rng_state
from toolkit.experiments.watch import watch
from toolkit.explore.starvation import summary
from toolkit.explore.view import Block, View, display, display_html, static
from toolkit.markup import paragraph, sentence
from toolkit.plots.starvation import pool
from toolkit.runs import begin

__all__ = ["Live"]

_MOST_SAMPLES = 100_000


class Live:
    """A live view of this machine's pool and readiness.

    Why a class: the buttons, the thread that watches and the samples of the window belong together until the cell is gone.

    Parameters
    ----------
    interval_s : float
        Time between two looks.
    window_s : float
        How much is shown, and kept.
    redraw_s : float
        Time between two drawings.

    Raises
    ------
    UsageError
        If a time is not above zero, or the window would hold more than 100 000 samples.
    """

    def __init__(self, interval_s: float = 0.1, window_s: float = 60.0, redraw_s: float = 1.0) -> None:
        if not all(math.isfinite(value) and value > 0 for value in (interval_s, window_s, redraw_s)):
            raise UsageError(
                "interval, window and redraw must be above zero", "Write for example Live(interval_s=0.1, window_s=60)."
            )
        if window_s / interval_s > _MOST_SAMPLES:
            raise UsageError(
                f"a window of {window_s:g} s every {interval_s:g} s holds more than {_MOST_SAMPLES:,} samples",
                "Take a longer interval or a shorter window.",
            )
        self.interval_s, self.window_s, self.redraw_s = interval_s, window_s, redraw_s
        self.samples = pd.DataFrame()
        self.start = widgets.Button(description="Start watching", button_style="primary", layout=widgets.Layout(width="auto"))
        self.stop = widgets.Button(description="Stop", disabled=True, layout=widgets.Layout(width="auto"))
        self.start.on_click(lambda _: self.begin())
        self.stop.on_click(lambda _: self.end())
        self._run = begin("toolkit.explore.live")
        self._state = rng_state()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._view = View({}, self._blocks)

    @property
    def output(self) -> widgets.Output:
        """Where it is drawn."""
        return self._view.output

    def begin(self) -> None:
        """Start watching; nothing happens if it is already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopped.clear()
        self.start.disabled, self.stop.disabled = True, False
        self._thread = threading.Thread(target=self._watch, name="toolkit-live", daemon=True)
        self._thread.start()

    def end(self, wait_s: float | None = None) -> None:
        """Stop after the look that is under way; wait for that if a time is given."""
        self._stopped.set()
        if wait_s is not None and self._thread is not None:
            self._thread.join(wait_s)

    def _watch(self) -> None:
        try:
            while not self._stopped.is_set():
                self.add(watch(self.redraw_s, self.interval_s, run=self._run))
        except (ToolkitError, OSError) as error:
            self._view.show([paragraph(sentence("Watching ended: {}", error))])
        finally:
            self.start.disabled, self.stop.disabled = False, True

    def add(self, looks: pd.DataFrame) -> None:
        """Add samples, forget those that left the window, and draw."""
        samples = pd.concat([self.samples, looks], ignore_index=True) if len(self.samples) else looks
        self.samples = samples[samples["t_ns"] >= samples["t_ns"].max() - int(self.window_s * 1e9)]
        self._view.redraw()

    def _blocks(self) -> list[Block]:
        if self.samples.empty:
            return [paragraph("Nothing is watched yet: press Start watching.")]
        keys = ["host", "guest", "boot_id"]
        states = self._state.assign(**{key: self.samples[key].iloc[0] for key in keys}).astype(self._state.dtypes)
        episodes = starvation(self.samples, states)
        return [pool(self.samples, episodes, states), summary(self.samples, episodes, states)]

    def _ipython_display_(self) -> None:
        if static():
            display_html(paragraph("The live view needs a running notebook; a page cannot watch."))
            return
        self._view.redraw()
        display(widgets.VBox([widgets.HBox([self.start, self.stop]), self._view.output]))
