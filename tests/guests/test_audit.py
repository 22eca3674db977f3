"""The audit of domains of real libvirtds: what is gathered, what it is judged to be, and that its remedies do what they say."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.guests.conftest import Guest
from tests.guests.domains import Daemon, domain_xml, libvirt_daemon, opened, qemu_pid, until
from tests.needs import require_tool
from toolkit import open_store, runs, spoken_audit
from toolkit.analysis.remedy import Remedy
from toolkit.analysis.verdicts import judge
from toolkit.errors import ToolkitError
from toolkit.guests import connection
from toolkit.guests.audit import _asked, _silent_for, gather
from toolkit.guests.audit_facts import Facts
from toolkit.guests.domain_xml import OUR_RNG, Channel, Definition, RngDevice, RngLimit, rng_xml
from toolkit.guests.qga import RefusedError
from toolkit.guests.qga_samples import QgaGuest
from toolkit.guests.unplugging import unplug, why_not_now

pytestmark = [pytest.mark.libvirt, pytest.mark.slow, pytest.mark.timeout(900)]

#: As hostile as libvirt lets a name be.
HOSTILE = "-<script>$(id) \u202egnp.exe & 'x'"
NOWHERE = "qemu+unix:///session?socket=/nowhere"
WITHOUT = "<cpu mode='custom'><model>IvyBridge</model><feature policy='disable' name='rdrand'/></cpu>"


def _rng(rate: str = "") -> str:
    return f"<rng model='virtio'>{rate}<backend model='random'>/dev/urandom</backend></rng>"


LIMITED = _rng("<rate bytes='4' period='4000'/>")


def _with_cpu(name: str, cpu: str, devices: str = "") -> str:
    return domain_xml(name, devices=devices).replace("</os>", f"</os>{cpu}")


@contextmanager
def _domains(daemon: Daemon, *texts: str, start: bool = False) -> Iterator[dict[str, Any]]:
    """Domains for one test, libvirt's own handles of them."""
    with ExitStack() as left, opened(daemon) as libvirt:
        made = {}
        for text in texts:
            handle = libvirt.defineXML(text)
            made[handle.name()] = handle
            left.callback(handle.undefine)
            if start:
                handle.create()
                left.callback(handle.destroy)
        with left:
            yield made


def _judged(*uris: str | None, **more: Any) -> dict[str, spoken_audit.Judged]:
    return {each.found.name: each for each in spoken_audit.judged(gather(uris, **more))}


def _command(*words: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", "guests", "audit", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def _follow(remedies: tuple[Remedy, ...], folder: Path) -> None:
    """Do what they say: save the files, run the lines."""
    require_tool("virsh")
    for remedy in remedies:
        assert remedy.command
        assert remedy.xml
        words = remedy.command.split()
        (name,) = [word for word in words if word.endswith(".xml")]
        (folder / name).write_text(remedy.xml)
        done = subprocess.run(["sh", "-c", remedy.command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def other() -> Iterator[Daemon]:
    """Another host: a hypervisor that has no RDRAND to offer."""
    with libvirt_daemon("-global", "max-x86_64-cpu.rdrand=off") as started:
        yield started


def test_a_running_guest_is_asked_itself_and_nothing_is_left_in_it(guest: Guest) -> None:
    before = guest.sh("ls -A /tmp /run /var/tmp /root")
    facts = _judged(guest.uri)["guest"].found.facts
    assert facts.boot_id == guest.sh("cat /proc/sys/kernel/random/boot_id")
    assert facts.kernel == guest.sh("uname -r")
    assert (facts.regime, facts.ready, facts.poolsize_bits) == ("latched", True, 256)
    assert facts.cpu_rdrand is ("rdrand" in guest.sh("cat /proc/cpuinfo").split())
    assert facts.feeders == ()
    assert facts.kernel_log == "complete"
    assert guest.sh("ls -A /tmp /run /var/tmp /root") == before


def test_the_verdict_about_a_running_guest_changes_with_the_device_that_it_gets(guest: Guest) -> None:
    bare = _judged(guest.uri)["guest"]
    assert bare.verdict.verdict == "at risk"
    assert {"no-source", "kernel-jitter-only"} <= set(bare.verdict.causes)
    (remedy,) = [remedy for remedy in bare.remedies if remedy.xml]
    assert (remedy.command or "").endswith("attach-device guest rng.xml --live --config")
    guest.domain.attach(rng_xml(RngLimit()), live=True)
    try:
        until(lambda: "virtio_rng" in guest.sh("cat /sys/class/misc/hw_random/rng_current"), "the guest's hwrng", 60)
        for_now = _judged(guest.uri)["guest"]
        guest.domain.attach(rng_xml(RngLimit()), live=False)
        try:
            given = _judged(guest.uri)["guest"]
        finally:
            guest.domain.detach(OUR_RNG, live=False)
    finally:
        resting = lambda: why_not_now(guest.domain, Definition(guest.domain.xml(live=True)), OUR_RNG) is None  # noqa: E731
        until(resting, "the guest's rest from reading it", 90)
        unplug(guest.domain, OUR_RNG)
    # Its next start is without what it runs with, until its configuration has that too.
    assert for_now.verdict.verdict == "at risk"
    assert {"source-not-configured", "kernel-jitter-only"} <= set(for_now.verdict.causes)
    (remedy,) = [remedy for remedy in for_now.remedies if remedy.xml]
    assert (remedy.command or "").endswith("attach-device guest rng.xml --config")
    assert given.found.facts.driver_bound is True
    assert not {"no-source", "kernel-jitter-only"} & set(given.verdict.causes)
    # How long this boot took is as it was, and may count.
    assert given.verdict.verdict == ("at risk" if "slow-ready" in given.verdict.causes else "sound")


def test_domains_that_are_shut_off_are_judged_by_their_definitions_alone(daemon: Daemon) -> None:
    texts = {
        "nothing": _with_cpu("nothing", WITHOUT),
        "unlimited": _with_cpu("unlimited", WITHOUT, _rng()),
        "limited": _with_cpu("limited", WITHOUT, LIMITED),
        "loose": _with_cpu("loose", WITHOUT, _rng("<rate bytes='1000000' period='1000'/>")),
        "rdrand": _with_cpu("rdrand", "<cpu mode='custom'><model>IvyBridge</model></cpu>"),
        "host": _with_cpu("host", "<cpu mode='host-passthrough'/>"),
    }
    with _domains(daemon, *texts.values()):
        found = _judged(daemon.uri)
    told = {name: (found[name].verdict.verdict, " ".join(found[name].verdict.causes)) for name in texts}
    assert told == {
        "nothing": ("at risk", "no-source"),
        "unlimited": ("cannot tell", "not-running driver-unknown"),
        "limited": ("at risk", "tight-limit"),
        "loose": ("cannot tell", "not-running driver-unknown"),
        "rdrand": ("cannot tell", "not-running trust-unknown"),
        "host": ("cannot tell", "not-running trust-unknown"),
    }
    assert all(each.remedies for each in found.values() if each.verdict.causes)


def test_the_remedies_of_definitions_do_what_they_say(daemon: Daemon, tmp_path: Path) -> None:
    with _domains(daemon, _with_cpu(HOSTILE, WITHOUT), _with_cpu("limited", WITHOUT, LIMITED)) as made:
        found = _judged(daemon.uri)
        for name in (HOSTILE, "limited"):
            _follow(found[name].remedies, tmp_path)
            assert made[name].XMLDesc(2).count("<rng ") == 1
            assert "<rate" not in made[name].XMLDesc(2)
        again = _judged(daemon.uri)
    assert {again[name].verdict.causes for name in (HOSTILE, "limited")} == {("not-running", "driver-unknown")}


def test_the_remedies_of_limits_fit_devices_as_libvirt_tells_of_them(daemon: Daemon, tmp_path: Path) -> None:
    texts = {
        "secondly": _with_cpu("secondly", WITHOUT, _rng("<rate bytes='4'/>")),
        "modern": _with_cpu("modern", WITHOUT, LIMITED.replace("model='virtio'", "model='virtio-non-transitional'")),
    }
    with _domains(daemon, *texts.values()) as made:
        found = _judged(daemon.uri)
        for name in texts:
            assert found[name].verdict.causes == ("tight-limit",)
            _follow(found[name].remedies, tmp_path)
            assert made[name].XMLDesc(2).count("<rng ") == 1
            assert "<rate" not in made[name].XMLDesc(2)
        assert "model='virtio-non-transitional'" in made["modern"].XMLDesc(2)


def test_a_guest_without_an_agent_is_told_apart_by_what_is_missing(daemon: Daemon, tmp_path: Path) -> None:
    port = "<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    with _domains(daemon, _with_cpu("with", WITHOUT, _rng() + port), _with_cpu("without", WITHOUT, _rng()), start=True):
        before = _judged(daemon.uri)
        _follow(tuple(each for each in before["without"].remedies if "qga.xml" in (each.command or "")), tmp_path)
        after = _judged(daemon.uri)
    assert before["with"].found.facts.silent_for == "disconnected"
    assert not any("qga.xml" in (remedy.command or "") for remedy in (*before["with"].remedies, *after["without"].remedies))
    assert [each["without"].found.facts.silent_for for each in (before, after)] == ["no port", "port configured"]


def test_an_agent_that_may_not_read_files_is_said_to_refuse(guest: Guest) -> None:
    with guest.second_agent("-b guest-file-open") as agent:  # the other spelling is newer
        port = Channel("org.qemu.guest_agent.0", "connected", None, None)
        with pytest.raises(RefusedError) as caught:
            QgaGuest(agent).identity()
    assert _silent_for(port, caught.value) == "refused"


def test_a_driver_that_is_no_part_of_its_kernel_and_was_not_loaded_is_known_to_be_missing(guest: Guest) -> None:
    given = Facts(state="running", cpu_rdrand=False, devices=(RngDevice("virtio", "random", "/dev/urandom", None, None, None),))
    # A kernel that has hw_random as a module shows nothing of it until a driver is loaded; without /sys nothing is shown.
    for hidden, names in (("/sys/class/misc", ()), ("/sys", None)):
        with guest.second_agent(before=f"mount -t tmpfs none {hidden}") as agent:
            facts = _asked(QgaGuest(agent), given)
        assert facts.hwrng_available == names
        causes = judge(facts).causes
        assert ("driver-not-bound" in causes) is (names == ())
    assert "kernel-jitter-only" not in causes


def test_a_long_address_stands_whole_in_the_command_that_asks_it(daemon: Daemon) -> None:
    far = f"{NOWHERE}-{'x' * 300}"
    (remedy,) = next(each for name, each in _judged(daemon.uri, far).items() if not name).remedies
    assert remedy.command == f"virsh --connect '{far}' list --all"
    assert "Start it" in remedy.what


def test_a_device_is_offered_to_a_running_guest_only_where_hot_plugging_is_safe(daemon: Daemon) -> None:
    texts = {
        name: domain_xml(name, acpi=name == "safe", root_ports=4).replace("</os>", f"</os>{WITHOUT}") for name in ("safe", "not")
    }
    with _domains(daemon, *texts.values(), start=True):
        found = _judged(daemon.uri)
    for name, ending in (("safe", "--live --config"), ("not", "--config")):
        (remedy,) = [remedy for remedy in found[name].remedies if remedy.xml and "<rng" in remedy.xml]
        assert (remedy.command or "").endswith(f"attach-device {name} rng.xml {ending}")
        assert ("no ACPI" in remedy.what) is (name == "not")


def test_a_running_domain_that_was_configured_otherwise_is_judged_by_both_and_told_to_start_again(
    daemon: Daemon, tmp_path: Path
) -> None:
    texts = {
        "bare": domain_xml("bare", acpi=False).replace("</os>", f"</os>{WITHOUT}"),
        "limited": _with_cpu("limited", WITHOUT, LIMITED),
        "host": _with_cpu("host", "<cpu mode='host-model'/>"),
        "taken": _with_cpu("taken", "<cpu mode='custom'><model>qemu64</model><feature policy='require' name='rdrand'/></cpu>"),
    }
    with _domains(daemon, *texts.values(), start=True) as made, opened(daemon) as libvirt:
        before = _judged(daemon.uri)
        for name in ("bare", "limited"):
            _follow(tuple(remedy for remedy in before[name].remedies if "<rng" in (remedy.xml or "")), tmp_path)
        libvirt.defineXML(made["taken"].XMLDesc(2).replace("<feature policy='require' name='rdrand'/>", ""))
        found = _judged(daemon.uri)
        for name in ("bare", "limited"):
            assert made[name].XMLDesc(2).count("<rng ") == 1
    assert all(before[name].found.facts.next_start is None for name in texts)
    for name in ("bare", "limited"):
        assert found[name].verdict.causes == ("restart-needed",)
        assert not any("<rng" in (remedy.xml or "") for remedy in found[name].remedies)
        assert [remedy.command.split()[3] for remedy in found[name].remedies if remedy.command][:2] == ["shutdown", "start"]
    assert before["taken"].verdict.causes == ("guest-silent", "trust-unknown")
    assert found["taken"].verdict.causes == ("no-source",)
    assert found["host"].found.facts.next_start is None


def test_a_move_to_a_host_without_rdrand_fails_or_takes_it_away(daemon: Daemon, other: Daemon) -> None:
    def of(name: str, cpu: str, devices: str = "") -> str:
        return _with_cpu(name, f"<cpu {cpu}</cpu>", devices)

    requiring = "<model>qemu64</model><feature policy='require' name='rdrand'/>"
    texts = [
        of("strict", f"mode='custom' match='exact' check='partial'>{requiring}"),
        of("lenient", f"mode='custom' match='exact' check='none'>{requiring}"),
        of("passed-through", "mode='host-passthrough'>"),
        of("model", "mode='host-model'>"),
        of(
            "foreign", "mode='custom' match='exact' check='partial'><model>qemu64</model><feature policy='require' name='avx512f'/>"
        ),
        of("without", "mode='custom' match='exact' check='partial'><model>qemu64</model>"),
    ]
    with _domains(daemon, *texts):
        found = _judged(daemon.uri, other.uri)
        back = _judged(other.uri, daemon.uri)
    moves = {name: each.found.facts.moves[0] for name, each in found.items() if name != "guest"}
    assert {name: (move.fails, move.rdrand) for name, move in moves.items()} == {
        "strict": (True, False),
        "lenient": (False, False),
        "passed-through": (False, False),
        "model": (False, False),
        "foreign": (True, False),
        "without": (False, False),
    }
    assert "rdrand" in moves["strict"].detail
    assert "avx512f" in moves["foreign"].detail
    assert "migration-fails" in found["strict"].verdict.causes
    # Whether they rely on it cannot be told while they are shut off.
    assert all("migration-unknown" in found[name].verdict.causes for name in ("lenient", "passed-through", "model"))
    for name in ("foreign", "without"):  # the one cannot move, and not for want of RDRAND
        assert not any(cause.startswith("migration") for cause in found[name].verdict.causes)
    assert set(found) == set(back)
    row = spoken_audit.row(found["strict"], None)  # type: ignore[arg-type]
    assert (row["rdrand_lacking_on"], row["cpu_rdrand"]) == (other.uri, True)
    assert spoken_audit.row(found["without"], None)["rdrand_lacking_on"] == ""  # type: ignore[arg-type]


def test_a_running_guest_whose_processor_was_made_of_the_hosts_cannot_move(daemon: Daemon, other: Daemon) -> None:
    with _domains(daemon, _with_cpu("made", "<cpu mode='host-model'/>"), start=True):
        (move,) = _judged(daemon.uri, other.uri)["made"].found.facts.moves
        (same,) = _judged(daemon.uri, daemon.uri, NOWHERE)["made"].found.facts.moves
    assert (move.fails, move.rdrand) == (True, False)
    # A host that is named twice is one; one that does not answer is said not to.
    assert (same.host, same.fails, same.rdrand) == (NOWHERE, None, None)


def test_two_addresses_of_one_libvirt_are_one_host(daemon: Daemon, other: Daemon, tmp_path: Path) -> None:
    link = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp")) / "s"
    link.symlink_to(daemon.folder / "r" / "libvirt" / "libvirt-sock")
    try:
        with _domains(daemon, _with_cpu("twice", WITHOUT)):
            found = gather([daemon.uri, f"qemu+unix:///session?socket={link}", other.uri])
    finally:
        link.unlink()
        link.parent.rmdir()
    (twice,) = [each for each in found if each.name == "twice"]
    assert [move.host for move in twice.facts.moves] == [other.uri]


def test_what_a_store_has_of_a_silent_guest_counts_where_its_host_is_this_one(daemon: Daemon, tmp_path: Path) -> None:
    with connection.connect(daemon.uri) as asked:
        here = asked.host_name()
    with _domains(daemon, _with_cpu("silent", WITHOUT, _rng()), start=True):
        for host in (here, "another-machine"):
            store, run = open_store(tmp_path / host), runs.begin("toolkit guests watch", {})
            store.append("runs", run.row())
            seen = {"host": host, "guest": "silent", "boot_id": run.boot_id}
            now = {"t_ns": 1, "utc": datetime.now(UTC), "entropy_avail_bits": 256, "crng_ready": True}
            store.append("entropy_samples", run.frame("entropy_samples", [{**seen, **now}]))
            source = {"hwrng_available": "virtio_rng.0", "hwrng_current": "virtio_rng.0", "hwrng_quality": 1024}
            store.append("rng_state", run.frame("rng_state", [{**seen, "regime": "latched", "crng_ready_s": 1.0, **source}]))
            found = _judged(daemon.uri, store=store)["silent"]
            assert found.verdict.verdict == ("sound" if host == here else "cannot tell")
            assert ("guest-silent" in found.verdict.causes) is (host != here)
        # A store that goes away takes nothing else with it.
        shutil.rmtree(store.path)
        without = _judged(daemon.uri, store=store)
    assert without["silent"].verdict.causes == found.verdict.causes
    assert any("could not be read" in sentence for sentence in without["silent"].verdict.evidence)


def test_a_domain_that_fails_in_a_way_that_nobody_foresaw_is_a_row_that_says_so(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = connection.Domain.state

    def refuses(self: connection.Domain) -> str:
        if self.name == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return state(self)

    monkeypatch.setattr(connection.Domain, "state", refuses)
    with _domains(daemon, _with_cpu("full", WITHOUT), _with_cpu("beside", WITHOUT)):
        found = _judged(daemon.uri)
    assert found["beside"].verdict.causes == ("no-source",)
    assert "No space left" in found["full"].verdict.because


def test_a_libvirt_that_stops_answering_is_waited_for_once_and_not_by_each_of_its_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    state = connection.Domain.state
    with libvirt_daemon() as stopped, opened(stopped) as libvirt:
        for number in range(30):
            libvirt.defineXML(_with_cpu(f"d{number}", WITHOUT))

        def stops(self: connection.Domain) -> str:
            os.kill(stopped.pid, signal.SIGSTOP)
            asked.append(self.name)
            return state(self)

        monkeypatch.setattr(connection.Domain, "state", stops)
        try:
            found = _judged(stopped.uri)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
    assert len(found) == 30
    assert all(each.verdict.verdict == "cannot tell" for each in found.values())
    assert len(asked) == 8  # those that were asked at the same time
    assert sum("stopped answering" in each.verdict.because for each in found.values()) == 22


def test_one_guest_that_hangs_hides_no_other(guest: Guest) -> None:
    with _domains(guest.daemon, _with_cpu("beside", WITHOUT)):
        pid = qemu_pid(guest.daemon, "guest")
        os.kill(pid, signal.SIGSTOP)
        try:
            found = _judged(guest.uri)
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: _judged(guest.uri)["guest"].found.facts.boot_id, "the guest's answer", 60)
    assert found["guest"].found.facts.silence
    assert found["guest"].verdict.verdict != "sound"
    assert found["beside"].verdict.causes == ("no-source",)


def test_the_command_shows_and_stores_a_row_a_guest_and_one_for_a_host_that_is_silent(daemon: Daemon, tmp_path: Path) -> None:
    with _domains(daemon, _with_cpu(HOSTILE, WITHOUT), _with_cpu("limited", WITHOUT, LIMITED)):
        shown = _command("--connect", daemon.uri, "--connect", NOWHERE, cwd=tmp_path).stdout
        told = json.loads(_command("--connect", daemon.uri, "--json", cwd=tmp_path).stdout)
    assert "\u202e" not in shown
    assert "\\u202e" in shown
    assert "attach-device" in shown
    rows = {row["guest"]: row for row in told}
    assert all(rows[name]["verdict"] == "at risk" and rows[name]["boot_id"] is None for name in (HOSTILE, "limited"))
    assert all(row["evidence"] and bool(row["remedy"]) == (row["verdict"] != "sound") for row in told)
    store = open_store(tmp_path / "store", create=False)
    audits = store.read("audits")
    assert sorted(set(audits["guest"].dropna()) - {"guest"}) == sorted([HOSTILE, "limited"])
    assert len(audits) == 2 * len(told) + 1
    (silent,) = audits[audits["guest"].isna()].to_dict("records")
    assert (silent["verdict"], silent["causes"], silent["host"]) == ("cannot tell", "host-unreachable", NOWHERE)
    limited = audits[audits["guest"] == "limited"].iloc[0]
    assert (limited["virtio_rng_backend"], limited["virtio_rng_max_bytes"], limited["virtio_rng_period_ms"]) == ("random", 4, 4000)
    assert set(audits["run_id"]) == set(store.read("runs")["run_id"])


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A libvirt that never says a word: where it is, and its socket."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/s")
        listening.listen()
        yield f"qemu+unix:///session?socket={folder}/s", listening


def test_a_host_that_hangs_hides_no_other(
    daemon: Daemon, silent: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CALL_LIMIT_S", 2.0)
    with _domains(daemon, _with_cpu("beside", WITHOUT)):
        found = _judged(silent[0], daemon.uri)
    assert found["beside"].verdict.causes == ("no-source",)
    assert found[""].verdict.causes == ("host-unreachable",)
    assert "no answer within" in found[""].verdict.because


def test_ctrl_c_ends_an_audit_while_a_host_hangs(silent: tuple[str, socket.socket], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit", "guests", "audit", "--connect", silent[0]]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        silent[1].settimeout(60)
        asked, _ = silent[1].accept()
        with asked:
            process.send_signal(signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=30)  # a host is given 40 s
            finally:
                process.kill()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "interrupted" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_refused_at_once_or_loses_no_verdict(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    # Refused before the host, which is not there, is asked.
    early = _command("--connect", NOWHERE, "--store", "file/store", cwd=tmp_path, status=1).stderr
    assert "cannot be written" in early
    store = tmp_path / "store"
    open_store(store)
    (store / "audits").write_text("")
    with _domains(daemon, _with_cpu("bare", WITHOUT)):
        late = _command("--connect", daemon.uri, cwd=tmp_path, status=1)
    assert "no-source" in late.stdout
    assert "audits" in late.stderr


def test_where_no_host_answers_it_is_an_error_and_nothing_is_stored(daemon: Daemon, tmp_path: Path) -> None:
    assert "Start it" in _command("--connect", NOWHERE, cwd=tmp_path, status=1).stderr
    both = _command("--connect", NOWHERE, "--connect", f"{NOWHERE}-either", cwd=tmp_path, status=1).stderr
    assert "/nowhere-either" in both
    assert "/nowhere'" in both or "/nowhere " in both or "/nowhere:" in both
    _command("--connect", cwd=tmp_path, status=2)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ToolkitError, match="no QEMU"):
        gather(["test:///default"])
