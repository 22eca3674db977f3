"""One boot of a cell of a plan: the guest for it, and what it tells as a row of ``boots``."""

from __future__ import annotations

import math
import shlex
import uuid
from pathlib import Path
from typing import Any

from toolkit.errors import LabError, UnavailableError
from toolkit.experiments.boot_plan import Boot, BootPlan, Cell
from toolkit.experiments.made_guests import check_backend, device_row, script_of
from toolkit.guests.reader import program, readings
from toolkit.guests.recorded import RecordedGuest, busy_s, recorded
from toolkit.guests.tiny import TinyGuest, boot_tiny
from toolkit.lab_feeders import FEEDERS, find_feeder
from toolkit.lab_kernels import GuestKernel
from toolkit.markup import visible

__all__ = ["boot_once", "guest_for"]

_SCRIPT = Path(__file__).with_name("readiness.sh")
_ASK_BYTES, _ASKS, _EARLY_READS = 32, 64, 20
# Of what a feeder said, in letters.
_SHOWN = 300
# From QEMU's start to the guest's first process, on a busy machine without KVM; and its result's way.
_SLACK_S = 120.0
_CPU = {"trusted": "max", "untrusted": "max", "absent": "max,rdrand=off,rdseed=off"}
_NS_PER_S = 10**9
_TICKS_PER_S = 100


def guest_for(cell: Cell, plan: BootPlan, kernel: GuestKernel, name: str) -> TinyGuest:
    """The guest that is booted for a cell.

    Raises
    ------
    UnavailableError
        If what it needs cannot be had here; with the remedy.
    """
    device = cell.device
    check_backend(device)
    feeder, files = feeder_for(cell)
    asked_s = 0.0 if cell.asked == "nothing" else plan.budget_s
    # It counts whole seconds: the next one, so that none is given up before its budget has passed.
    times = {"budget_s": str(math.ceil(plan.budget_s)), "watch_s": str(math.ceil(plan.watch_s))}
    trust = "on" if cell.rdrand == "trusted" else "off"
    return TinyGuest(
        name=name,
        script=script_of(_SCRIPT, {"asked": cell.asked, **times, "feeder": feeder}),
        kernel=kernel,
        rng=device,
        cpu=_CPU[cell.rdrand],
        # Nothing that QEMU hands over at boot counts, else there would be nothing to see.
        append=f"random.trust_cpu={trust} random.trust_bootloader=off",
        files={
            "lab/ask": program("getrandom", _ASK_BYTES, asked_s, _ASKS),
            "lab/early": program("/dev/urandom", _ASK_BYTES, asked_s, _EARLY_READS),
            **files,
        },
    )


def feeder_for(cell: Cell) -> tuple[str, dict[str, bytes]]:
    """The command of a cell's feeder in the guest, and its files; an empty command for none.

    Raises
    ------
    UnavailableError
        If it was not fetched.
    """
    if cell.remedy not in FEEDERS:
        return "", {}
    found = find_feeder(cell.remedy)
    return shlex.join(found.command), {name.lstrip("/"): path.read_bytes() for name, path in found.files.items()}


def boot_once(boot: Boot, plan: BootPlan, kernels: dict[str, GuestKernel], folder: Path | None = None) -> dict[str, Any]:
    """Boot one guest and wait for what it tells; it is gone after.

    A guest that cannot be had here, or that ends too early, is a row that says so: a matrix goes on after it.

    Parameters
    ----------
    boot : Boot
        Which.
    plan : BootPlan
        The plan that it belongs to.
    kernels : dict of str to GuestKernel
        By version.
    folder : Path, optional
        Where its files are meanwhile.

    Returns
    -------
    dict
        Columns of ``boots``, guest and boot_id among them.
    """
    cell = boot.cell
    name = f"boot-{boot.position}"
    row = {**_asked_for(boot, plan), "guest": name, "boot_id": str(uuid.uuid4())}
    if cell.kernel not in kernels:
        missing = UnavailableError(f"There is no kernel {cell.kernel} here", "Run: toolkit lab fetch --kernel SUITE")
        return {**row, "outcome": "left out", "detail": str(missing)}
    try:
        spec = guest_for(cell, plan, kernels[cell.kernel], name)
    except UnavailableError as error:
        return {**row, "outcome": "left out", "detail": str(error)}
    try:
        with boot_tiny([spec], folder) as (guest,):
            row["accelerator"] = guest.accelerator.name
            at_most_s = max(plan.budget_s, plan.watch_s) + _SLACK_S
            guest.hear("costs", at_most_s)
            qemu_cpu_s = guest.cpu_s()
            files = guest.result(at_most_s)
    except UnavailableError as error:
        return {**row, "outcome": "left out", "detail": str(error)}
    except LabError as error:
        return {**row, "outcome": "failed", "detail": str(error)}
    said = recorded(files)
    ready_s = _within(said.state.crng_ready_s, plan.budget_s)
    if ready_s is None and said.state.kernel_log != "complete":
        outcome, detail = "failed", f"its kernel log is {said.state.kernel_log}: whether it was ready is not known"
    elif ready_s is None:
        outcome, detail = "censored", f"not ready within {plan.budget_s:g} s{_said(files, cell)}"
    else:
        outcome, detail = "ready", None
    row |= {
        "outcome": outcome,
        "detail": detail,
        "boot_id": said.boot_id or row["boot_id"],
        "kernel": said.kernel or cell.kernel,
        "regime": said.state.regime,
        "user_space_s": said.notes_s.get("user space"),
        "crng_ready_s": ready_s,
        "urandom_warnings": said.state.urandom_warnings,
        "guest_cpu_s": busy_s(files.get("stat", b"")),
        "feeder_cpu_s": _process_s(files.get("feeder")),
        "qemu_cpu_s": qemu_cpu_s,
        "watched_s": said.notes_s.get("costs"),
        **_waits(files, cell, said),
    }
    if cell.remedy in FEEDERS and row["feeder_cpu_s"] is None:
        row |= {"outcome": "failed", "detail": f"{cell.remedy} did not run to the end in the guest"}
    return row


def _asked_for(boot: Boot, plan: BootPlan) -> dict[str, Any]:
    cell = boot.cell
    return {
        "plan": plan.name,
        "plan_sha256": plan.sha256,
        "cell": str(cell),
        "repeat": boot.repeat,
        "position": boot.position,
        "kernel": cell.kernel,
        "cpu": _CPU[cell.rdrand],
        "rdrand": cell.rdrand,
        **device_row(cell.device),
        "remedy": cell.remedy,
        "asked": cell.asked,
        "budget_s": plan.budget_s,
    }


def _within(seconds: float | None, budget_s: float) -> float | None:
    """A time that came within the budget: one that came while costs were still watched counts as not come."""
    return seconds if seconds is not None and 0 <= seconds <= budget_s else None


def _waits(files: dict[str, bytes], cell: Cell, said: RecordedGuest) -> dict[str, Any]:
    """How long what it asked for kept early user space waiting: the reads of /dev/urandom, if it made any, and then getrandom."""
    if cell.asked == "nothing":
        return {}
    calls = [*readings(files.get("early", b"")), *readings(files.get("asked", b""))]
    end_s = said.notes_s.get("end of the record")
    if not calls or end_s is None:
        return {}
    waited = [(call.returned_ns or max(round(end_s * _NS_PER_S), call.called_ns)) - call.called_ns for call in calls]
    longest = max(range(len(calls)), key=lambda place: waited[place])
    return {"waits": len(calls), "longest_wait_ns": waited[longest], "wait_censored": calls[longest].returned_ns is None}


def _said(files: dict[str, bytes], cell: Cell) -> str:
    """The end of what its feeder said, for people to see why it did not help."""
    words = " ".join(files.get("said", b"").decode(errors="replace").split())
    return f"; the end of what {cell.remedy} said: {visible(words[-_SHOWN:], _SHOWN)}" if words else ""


def _process_s(stat: bytes | None) -> float | None:
    """Processor time of a process, from its /proc/PID/stat (proc(5)): fields 14 and 15."""
    fields = (stat or b"").rpartition(b")")[2].split()[11:13]
    if len(fields) < 2 or not all(field.isdigit() and len(field) < 19 for field in fields):
        return None
    return sum(map(int, fields)) / _TICKS_PER_S
