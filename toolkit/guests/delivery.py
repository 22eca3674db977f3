"""The agent's way into a guest and out again, through qemu-guest-agent: its archive, a unit that a reboot forgets, its start.

Where that way is closed, the lines to run in the guest by hand.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from dataclasses import dataclass

from toolkit.errors import GuestError
from toolkit.guests.package import agent_pyz, unit
from toolkit.guests.qga import GuestAgent, RefusedError
from toolkit.markup import visible

__all__ = ["Delivery", "by_hand", "by_hand_away", "deliver", "take_away"]

#: Root's, and gone with a reboot.
_FOLDER = "/run/virt-toolkit"
_PYZ = f"{_FOLDER}/agent.pyz"
_CONFIG = f"{_FOLDER}/agent.toml"
_PID = f"{_FOLDER}/agent.pid"
_UNIT = "virt-toolkit-agent.service"
#: Where systemd looks for units that vanish with a reboot.
_UNIT_FILE = f"/run/systemd/system/{_UNIT}"

_NEEDED = (
    "guest-file-open",
    "guest-file-read",
    "guest-file-write",
    "guest-file-close",
    "guest-file-flush",
    "guest-exec",
    "guest-exec-status",
)
_OLDEST_PYTHON = (3, 8)
_PYTHONS = ("python3", "/usr/libexec/platform-python")
_ASK_PYTHON = "import sys, ctypes; print(sys.version_info[0], sys.version_info[1], sys.executable)"
_PYTHON_SAYS = re.compile(rb"(\d{1,3}) (\d{1,3}) (/[\w./+-]{1,200})\s*")

_OWN_UNIT = f"{_FOLDER}/{_UNIT}"

#: How long the agent is watched after its start, before it counts as running.
_WATCHED_S = 1.5
_LONGEST_PYZ = 2**22


@dataclass(frozen=True)
class Delivery:
    """What came of a delivery: ``started`` now, ``already`` there, or (neither) not done, and why."""

    started: bool
    already: bool
    detail: str


def by_hand(config: bool = False) -> tuple[str, ...]:
    """The two lines to run in the guest, as root, in a folder that holds ``agent.pyz`` (and ``agent.toml``)."""
    settings = f" && install -m 0600 agent.toml {_CONFIG}" if config else ""
    command = shlex.join(_command("python3", _CONFIG if config else None))
    return (
        f"install -d -m 0700 {_FOLDER} && install -m 0600 agent.pyz {_PYZ}{settings}",
        f"systemd-run --unit={_UNIT} {command} || {_alone(command)}",
    )


def by_hand_away() -> tuple[str, ...]:
    """The two lines that take away in the guest what :func:`by_hand` or :func:`deliver` put there."""
    return (
        f"systemctl stop {_UNIT} || kill $(cat {_PID})",
        f"rm -rf {_FOLDER} {_UNIT_FILE}; systemctl daemon-reload",
    )


def deliver(agent: GuestAgent, config: bytes | None = None) -> Delivery:
    """Put the agent into a guest and start it; twice leaves it as it is.

    Parameters
    ----------
    agent : GuestAgent
        The guest's qemu-guest-agent.
    config : bytes, optional
        A configuration file; without one the agent allows nothing beyond its samples.

    Raises
    ------
    GuestError
        If it was begun and failed; what it wrote is taken away then.
    """
    closed = _closed(agent)
    if closed is not None:
        return Delivery(False, False, closed)
    python, why_not = _python(agent)
    if python is None:
        return Delivery(False, False, why_not)
    systemd = agent.run(["test", "-d", "/run/systemd/system"]).status == 0
    pyz = agent_pyz()
    if _runs(agent, systemd) and _same(agent, _PYZ, pyz) and _same(agent, _CONFIG, config):
        return Delivery(False, True, "it runs already")
    with contextlib.ExitStack() as undo:
        undo.callback(_quietly_away, agent)
        _away(agent)
        _checked(agent, ["mkdir", "-p", "-m", "0700", _FOLDER])
        agent.write_file(_PYZ, pyz)
        if config is not None:
            agent.write_file(_CONFIG, config)
        # qemu-guest-agent's files may be writable by all; the folder keeps others out, and the agent takes no such configuration.
        _checked(agent, ["sh", "-c", f"chmod 0600 {_FOLDER}/*"])
        if systemd:
            _start_unit(agent, python, config is not None)
        else:
            _start_alone(agent, python, config is not None)
        time.sleep(_WATCHED_S)
        if not _runs(agent, systemd):
            raise GuestError(f"the agent was started in {visible(agent.name)} and ended at once{_last_words(agent, systemd)}")
        undo.pop_all()
    return Delivery(
        True, False, f"it runs with {python}, {'as ' + _UNIT if systemd else 'in a session of its own'}, until the guest reboots"
    )


def take_away(agent: GuestAgent) -> str:
    """Stop the agent in a guest and remove its files; twice is no error. Gives what was found, for people.

    Raises
    ------
    GuestError
        If qemu-guest-agent refuses or does not answer.
    """
    closed = _closed(agent)
    if closed is not None:
        raise GuestError(closed)
    there = agent.run(["test", "-e", _FOLDER]).status == 0 or agent.run(["test", "-e", _UNIT_FILE]).status == 0
    _away(agent)
    return "stopped, its files removed" if there else "was not there"


def _closed(agent: GuestAgent) -> str | None:
    """Why the agent's files and programs cannot be used; None where they can."""
    lacking = [name for name in _NEEDED if name not in agent.enabled()]
    if not lacking:
        return None
    return f"its qemu-guest-agent may not {', '.join(lacking)} (block-rpcs or allow-rpcs in the guest)"


def _python(agent: GuestAgent) -> tuple[str | None, str]:
    """The guest's Python; else why there is none that will do."""
    why_not = "there is no python3 in the guest"
    for name in _PYTHONS:
        try:
            ran = agent.run([name, "-c", _ASK_PYTHON])
        except RefusedError:
            continue  # there is none of that name
        match = _PYTHON_SAYS.fullmatch(ran.out)
        if ran.status != 0 or match is None:
            why_not = (
                f"{name} in the guest does not run, or has no ctypes: {visible(ran.err.decode('utf-8', 'replace').strip()[-200:])}"
            )
        elif (int(match[1]), int(match[2])) < _OLDEST_PYTHON:
            why_not = f"{name} in the guest is {int(match[1])}.{int(match[2])}, and the agent needs 3.8 or later"
        else:
            return match[3].decode("ascii"), ""
    return None, why_not


def _command(python: str, config: str | None) -> list[str]:
    """The agent's command line: as the unit has it, so that it is said in one place."""
    for line in unit(python, _PYZ, config).splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "ExecStart":
            return shlex.split(value)
    raise AssertionError("the unit has no ExecStart")


def _start_unit(agent: GuestAgent, python: str, config: bool) -> None:
    # Written where nobody else can reach it, and never for a moment writable by others where systemd takes it from.
    agent.write_file(_OWN_UNIT, unit(python, _PYZ, _CONFIG if config else None).encode())
    _checked(agent, ["install", "-m", "0644", _OWN_UNIT, _UNIT_FILE])
    _checked(agent, ["systemctl", "daemon-reload"])
    _checked(agent, ["systemctl", "start", _UNIT])


def _start_alone(agent: GuestAgent, python: str, config: bool) -> None:
    command = shlex.join(_command(python, _CONFIG if config else None))
    _checked(agent, ["sh", "-c", _alone(command)])


def _alone(command: str) -> str:
    """A line for a shell that starts a command in a session of its own, its process written down."""
    return f"setsid sh -c {shlex.quote(f'echo $$ > {_PID}; exec {command}')} </dev/null >/dev/null 2>&1 &"


def _runs(agent: GuestAgent, systemd: bool) -> bool:
    if systemd:
        return agent.run(["systemctl", "is-active", "--quiet", _UNIT]).status == 0
    return agent.run(["sh", "-c", _IS_OURS]).status == 0


#: Whether the process that we started still is it: its number may be another's by now.
_IS_OURS = f'grep -qsF {_PYZ} "/proc/$(cat {_PID} 2>/dev/null || echo none)/cmdline"'


def _same(agent: GuestAgent, path: str, content: bytes | None) -> bool:
    try:
        return agent.read_if_there(path, _LONGEST_PYZ) == content
    except GuestError:
        return False


def _away(agent: GuestAgent) -> None:
    """Stop the agent and remove its files, whether or not they are there."""
    script = (
        f"if {_IS_OURS}; then kill $(cat {_PID}); fi; "
        f"if [ -d /run/systemd/system ]; then systemctl stop {_UNIT} 2>/dev/null; rm -f {_UNIT_FILE}; systemctl daemon-reload; "
        f"systemctl reset-failed {_UNIT} 2>/dev/null; fi; "
        f"rm -rf {_FOLDER}"
    )
    _checked(agent, ["sh", "-c", script])


def _quietly_away(agent: GuestAgent) -> None:
    with contextlib.suppress(GuestError):
        _away(agent)


def _checked(agent: GuestAgent, argv: list[str]) -> None:
    ran = agent.run(argv, limit_s=60.0)
    if ran.status != 0:
        said = visible(ran.err.decode("utf-8", "replace").strip()[-300:])
        raise GuestError(f"{' '.join(argv[:2])} in {visible(agent.name)} failed with status {ran.status}: {said}")


def _last_words(agent: GuestAgent, systemd: bool) -> str:
    if not systemd:
        return ""
    with contextlib.suppress(GuestError):
        ran = agent.run(["journalctl", "--no-pager", "--output=cat", "--lines=5", f"--unit={_UNIT}"])
        return f": {visible(ran.out.decode('utf-8', 'replace').strip()[-300:])}"
    return ""
