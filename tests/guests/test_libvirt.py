"""Domains of a real libvirtd: what the list says, what attach adds and detach takes away, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.guests.conftest import SECOND, Guest
from tests.guests.domains import Daemon, domain_xml, opened, qemu_pid, until
from toolkit.errors import GuestError, UnavailableError
from toolkit.guests import attachment, libvirt, unplugging
from toolkit.guests.delivery import deliver, take_away
from toolkit.guests.domain_xml import OUR_PORT, OUR_RNG, Definition, rng_xml
from toolkit.guests.libvirt import RngLimit, attach, attached, channel_socket, detach, domains
from toolkit.guests.package import agent_pyz
from toolkit.guests.unplugging import unplug, why_not_now
from toolkit.guests.wire import PORT_NAME

pytestmark = [pytest.mark.libvirt, pytest.mark.slow, pytest.mark.timeout(900)]

SERIAL = "<controller type='virtio-serial' index='0'/>"
QGA = "<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
LIMITED = "<rng model='virtio'><rate bytes='1024' period='2000'/><backend model='random'>/dev/random</backend></rng>"
#: As hostile as libvirt lets a name be.
HOSTILE = "<script>$(id) \u202egnp.exe & 'x'"


@contextmanager
def _domain(daemon: Daemon, xml: str, *, start: bool = True) -> Iterator[Any]:
    """A domain for one test, libvirt's own handle of it."""
    with opened(daemon) as connection:
        made = connection.defineXML(xml)
        try:
            if start:
                made.create()
            yield made
        finally:
            if made.isActive():
                made.destroy()
            made.undefine()


def _both(handle: Any) -> tuple[str, str]:
    """Its definition as it runs, and as it will start."""
    return handle.XMLDesc(0), handle.XMLDesc(2)


def _outcomes(done: attachment.Attachment) -> list[tuple[str, str, str]]:
    return [(step.what, step.where, step.outcome) for step in done.steps]


def _command(*words: str, uri: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", "guests", *words, "--uri", uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def untouched(guest: Guest) -> Iterator[Guest]:
    """The guest; afterwards it lives and is as it was, live and in its configuration, whatever the test did."""
    with opened(guest.daemon) as connection:
        handle = connection.lookupByName("guest")
        before = _both(handle)
        yield guest
        detach("guest", uri=guest.uri)
        # The guest opens and closes its ports when it likes, and libvirt shows that.
        assert _both(handle) == before
    assert guest.sh("ls /dev/virtio-ports").split() == sorted(["org.qemu.guest_agent.0", SECOND])
    assert guest.sh("ls -d /run/virt-toolkit /run/systemd/system/virt-toolkit* 2>/dev/null || true") == ""
    assert guest.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[v]irt-toolkit' || true") == "0"


def test_attach_plugs_the_port_delivers_the_agent_and_its_bytes_come(untouched: Guest) -> None:
    guest = untouched
    done = attach("guest", uri=guest.uri)
    assert _outcomes(done) == [
        ("port", "the running guest", "added"),
        ("guest", "the running guest", "running"),
        ("port", "its configuration", "added"),
        ("agent", "the running guest", "started"),
    ]
    assert done.by_hand == ()
    assert PORT_NAME in guest.sh("ls /dev/virtio-ports")
    assert guest.sh("systemctl is-active virt-toolkit-agent") == "active"
    # Nobody else in the guest can read or change what root runs there.
    modes = guest.sh("stat -c '%a %U' /run/virt-toolkit /run/virt-toolkit/agent.pyz /run/systemd/system/virt-toolkit-agent.service")
    assert modes.splitlines() == ["700 root", "600 root", "644 root"]
    path = channel_socket("guest", guest.uri)
    assert attached(guest.uri) == [("guest", path)]
    with socket.socket(socket.AF_UNIX) as host:
        host.settimeout(60)
        host.connect(str(path))
        assert host.recv(4)
    again = attach("guest", uri=guest.uri)
    assert {outcome for _, _, outcome in _outcomes(again)} == {"there already"}
    (row,) = [row for row in domains(guest.uri) if row.name == "guest"]
    assert (row.sampled_by, row.state) == ("agent", "running")


def test_a_virtio_rng_comes_and_goes_while_the_guest_lives(untouched: Guest) -> None:
    guest = untouched
    limit = RngLimit(1024, 2000)
    done = attach("guest", rng=limit, uri=guest.uri)
    assert ("virtio-rng", "the running guest", "added") in _outcomes(done)
    until(lambda: "virtio_rng" in guest.sh("cat /sys/class/misc/hw_random/rng_current"), "the guest's hwrng", 60)
    assert ("virtio-rng", "its configuration", "there already") in _outcomes(attach("guest", rng=limit, uri=guest.uri))
    with pytest.raises(GuestError, match="another limit"):
        attach("guest", rng=RngLimit(1024, 1000), uri=guest.uri)
    (row,) = [row for row in domains(guest.uri) if row.name == "guest"]
    assert [(device.alias, device.max_bytes, device.period_ms) for device in row.rng] == [(OUR_RNG, 1024, 2000)]
    removed = [step for step in _outcomes(detach("guest", uri=guest.uri)) if step[2] == "removed"]
    assert ("virtio-rng", "the running guest", "removed") in removed
    assert "virtio_rng" not in guest.sh("cat /sys/class/misc/hw_random/rng_available")
    assert detach("guest", uri=guest.uri).steps == [attachment.Step("agent", "the running guest", "was not there")]


def test_a_virtio_rng_that_goes_right_after_it_came_never_crashes_the_guests_kernel(guest: Guest) -> None:
    for round_ in range(6):
        guest.domain.attach(rng_xml(RngLimit()), live=True)
        time.sleep(0.05 * (round_ % 4))
        assert why_not_now(guest.domain, Definition(guest.domain.xml(live=True)), OUR_RNG) is None
        unplug(guest.domain, OUR_RNG)
    assert guest.sh("dmesg | grep -c 'BUG:\\|Oops' || true") == "0"


def test_what_a_failed_attach_did_is_undone(untouched: Guest) -> None:
    guest = untouched
    attach("guest", rng=RngLimit(77), next_boot=True, uri=guest.uri)
    # The running guest takes it; the configuration, which has another limit, does not.
    with pytest.raises(GuestError, match="another limit"):
        attach("guest", rng=RngLimit(78), uri=guest.uri)
    with opened(guest.daemon) as connection:
        live, inactive = _both(connection.lookupByName("guest"))
    assert "virt-toolkit" not in live
    assert inactive.count(OUR_RNG) == inactive.count(OUR_PORT) == 1


def test_a_configuration_that_is_not_understood_changes_nothing(guest: Guest, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("allow = 7")
    _command("attach", "guest", "--agent-config", str(wrong), uri=guest.uri, status=2)
    assert attached(guest.uri) == []


def test_without_systemd_the_agent_runs_in_a_session_of_its_own(untouched: Guest) -> None:
    guest = untouched
    attach("guest", uri=guest.uri)
    take_away(guest.agent)
    with guest.second_agent(before="mount -t tmpfs none /run/systemd") as bare:
        assert "in a session of its own" in deliver(bare).detail
        assert deliver(bare).already
        pid = guest.sh("cat /run/virt-toolkit/agent.pid")
        assert "agent.pyz" in guest.sh(f"tr '\\0' ' ' < /proc/{pid}/cmdline")
        assert take_away(bare) == "stopped, its files removed"
        until(lambda: guest.sh(f"test -e /proc/{pid} || echo gone") == "gone", "the agent's end", 30)


def test_a_guest_whose_agent_may_not_run_programs_gets_lines_to_run_by_hand(untouched: Guest, tmp_path: Path) -> None:
    guest = untouched
    with guest.second_agent("--blacklist=guest-exec") as closed:
        came = deliver(closed)
    assert not came.started
    assert "guest-exec" in came.detail
    # The lines do what they say: run as they are, in the guest, in a folder that holds agent.pyz.
    guest.sh("mkdir /run/by-hand")
    guest.agent.write_file("/run/by-hand/agent.pyz", agent_pyz())
    for line in attachment.delivery.by_hand():
        guest.sh(f"cd /run/by-hand; {line}")
    assert guest.sh("systemctl is-active virt-toolkit-agent") == "active"
    for line in attachment.delivery.by_hand_away():
        guest.sh(f"cd /run/by-hand; {line}")
    guest.sh("rm -r /run/by-hand")


def test_the_list_tells_of_every_domain_how_it_can_be_sampled(guest: Guest) -> None:
    running = domain_xml("with-serial", devices=SERIAL, root_ports=3)
    with _domain(guest.daemon, domain_xml(HOSTILE, devices=LIMITED), start=False), _domain(guest.daemon, running):
        rows = {row.name: row for row in domains(guest.uri)}
        shown = _command("list", uri=guest.uri)
        told = json.loads(_command("list", "--json", uri=guest.uri).stdout)
    booted, off, bare = rows["guest"], rows[HOSTILE], rows["with-serial"]
    assert (booted.state, booted.qga, booted.qga_answers, booted.sampled_by, booted.kind) == ("running", True, True, "qga", "qemu")
    assert {channel.name: channel.state for channel in booted.channels}["org.qemu.guest_agent.0"] == "connected"
    assert booted.cpu_rdrand is ("rdrand" in guest.sh("cat /proc/cpuinfo").split())
    assert booted.cpu_rdseed is False
    assert (off.state, off.sampled_by, off.why) == ("shut off", None, "it is shut off")
    assert [(rng.backend, rng.source, rng.max_bytes, rng.period_ms) for rng in off.rng] == [("random", "/dev/random", 1024, 2000)]
    assert (bare.sampled_by, bare.qga, bare.qga_answers) == (None, False, None)
    assert "toolkit guests attach" in bare.why
    assert "\u202e" not in shown.stdout
    assert "<script>" in shown.stdout
    assert {row["name"] for row in told} == set(rows)


def test_the_cpu_that_is_as_the_host_is_told_from_what_libvirt_offers_and_a_feature_from_the_definition(daemon: Daemon) -> None:
    def of(cpu: str) -> tuple[bool | None, bool | None]:
        with _domain(daemon, domain_xml("cpu").replace("</os>", f"</os>{cpu}"), start=False):
            (row,) = [row for row in domains(daemon.uri) if row.name == "cpu"]
        assert row.cpu_detail
        return row.cpu_rdrand, row.cpu_rdseed

    assert of("<cpu mode='maximum'/>")[0] is True  # QEMU's TCG has RDRAND since 4.0
    assert of("<cpu mode='custom'><model>SandyBridge</model></cpu>") == (False, False)
    assert of("<cpu mode='custom'><model>IvyBridge</model></cpu>") == (True, False)
    # Of RDSEED, which the model has, a newer QEMU than Debian 12's gives its guests what an older one leaves out.
    assert of("<cpu mode='custom'><model>Broadwell</model><feature policy='disable' name='rdrand'/></cpu>")[0] is False
    assert of("<cpu mode='custom'><model>qemu64</model><feature policy='force' name='rdseed'/></cpu>") == (False, True)


@pytest.mark.parametrize(
    ("machine", "acpi", "devices", "root_ports", "rng", "reason"),
    [
        ("q35", False, SERIAL, 4, True, "no ACPI"),
        ("pc", False, SERIAL, 0, True, "no ACPI"),
        ("q35", True, SERIAL, 2, True, "0 pcie-root-port"),
        ("q35", True, "", 4, False, "no virtio-serial controller"),
        ("pc", True, "", 0, False, "no virtio-serial controller"),
    ],
)
def test_what_a_running_guest_cannot_take_safely_is_refused_and_offered_for_its_next_boot(
    daemon: Daemon, machine: str, acpi: bool, devices: str, root_ports: int, rng: bool, reason: str
) -> None:
    xml = domain_xml("refusing", machine, acpi=acpi, devices=devices, root_ports=root_ports)
    limit = RngLimit() if rng else None
    with _domain(daemon, xml) as handle:
        before = _both(handle)
        with pytest.raises(GuestError, match=reason) as refused:
            attach("refusing", rng=limit, uri=daemon.uri)
        assert "--next-boot" in refused.value.remedy
        assert _both(handle) == before
        for _ in range(2):
            done = attach("refusing", rng=limit, next_boot=True, uri=daemon.uri)
            live, inactive = _both(handle)
            assert live == before[0]
            assert inactive.count(OUR_PORT) == 1
            assert inactive.count(OUR_RNG) == rng
        assert ("port", "its configuration", "there already") in _outcomes(done)
        # The domain does start with it, and what came with a boot goes with one.
        handle.destroy()
        handle.create()
        assert attached(daemon.uri) == [("refusing", channel_socket("refusing", daemon.uri))]
        if rng and not acpi:
            assert ("virtio-rng", "the running guest", "stays") in _outcomes(detach("refusing", uri=daemon.uri))
            assert "virt-toolkit" not in handle.XMLDesc(2)


def test_a_domain_that_is_shut_off_is_changed_in_its_configuration_by_name_or_uuid(daemon: Daemon) -> None:
    with _domain(daemon, domain_xml(HOSTILE), start=False) as handle:
        before = handle.XMLDesc(2)
        done = attach(handle.UUIDString(), rng=RngLimit(), uri=daemon.uri)
        assert done.domain == HOSTILE
        assert {where for _, where, outcome in _outcomes(done) if outcome == "added"} == {"its configuration"}
        assert "\u202e" not in _command("attach", HOSTILE, "--rng", uri=daemon.uri).stdout
        with pytest.raises(GuestError, match="shut off"):
            channel_socket(HOSTILE, daemon.uri)
        detach(HOSTILE, uri=daemon.uri)
        # libvirt itself adds root ports for devices, which stay, empty.
        assert _without_root_ports(handle.XMLDesc(2)) == _without_root_ports(before)
        assert _outcomes(detach(HOSTILE, uri=daemon.uri)) == []


def _without_root_ports(xml: str) -> list[str]:
    import re

    return re.sub(r"<controller type='pci'[^>]*?(?:/>|>.*?</controller>)", "", xml, flags=re.DOTALL).split()


def test_devices_of_others_are_left_alone_even_if_they_bear_our_name(daemon: Daemon) -> None:
    theirs = f"<channel type='unix'><source mode='bind'/><target type='virtio' name='{PORT_NAME}'/></channel>{LIMITED}"
    with _domain(daemon, domain_xml("theirs", devices=theirs)) as handle:
        before = _both(handle)
        done = attach("theirs", uri=daemon.uri)
        assert ("port", "the running guest", "there already") in _outcomes(done)
        detach("theirs", uri=daemon.uri)
        assert _both(handle) == before


def test_a_guest_that_does_not_let_go_is_an_error_and_the_rest_is_taken_away(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplugging, "_LETTING_GO_S", 1.0)
    with _domain(daemon, domain_xml("firmware", devices=SERIAL, root_ports=4)) as handle:
        attach("firmware", rng=RngLimit(), uri=daemon.uri)
        # Nobody can say whether its kernel reads the device just now, so it is left where it is.
        done = detach("firmware", uri=daemon.uri)
        assert ("virtio-rng", "the running guest", "stays") in _outcomes(done)
        attach("firmware", uri=daemon.uri)
        # And no system runs in it, which could let a PCI device go.
        monkeypatch.setattr(unplugging, "_why_not_at_rest", lambda domain: None)
        for _ in range(2):
            with pytest.raises(GuestError, match="not let go of the device ua-virt-toolkit-rng"):
                detach("firmware", uri=daemon.uri)
            live, inactive = _both(handle)
            assert OUR_RNG in live
            assert OUR_PORT not in live
            assert "virt-toolkit" not in inactive


def test_one_guest_that_hangs_hides_no_other(guest: Guest) -> None:
    with _domain(guest.daemon, domain_xml("beside"), start=False):
        pid = qemu_pid(guest.daemon, "guest")
        os.kill(pid, signal.SIGSTOP)
        try:
            rows = {row.name: row for row in domains(guest.uri)}
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: {row.name: row for row in domains(guest.uri)}["guest"].qga_answers, "the guest's answer", 60)
    assert rows["guest"].qga_answers is not True
    assert rows["guest"].sampled_by is None
    assert rows["guest"].why
    assert rows["beside"].why == "it is shut off"


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "port"), (signal.SIGTERM, "agent")])
def test_an_attach_that_is_interrupted_leaves_the_domain_and_the_guest_as_they_were(
    untouched: Guest, number: int, moment: str
) -> None:
    guest = untouched
    there = {
        "port": lambda: attached(guest.uri),
        "agent": lambda: guest.sh("ls /run/virt-toolkit/agent.pyz 2>/dev/null || true"),
    }[moment]
    with opened(guest.daemon) as connection:
        handle = connection.lookupByName("guest")
        before = _both(handle)
        command = [sys.executable, "-m", "toolkit", "guests", "attach", "guest", "--rng", "--uri", guest.uri]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: there() or process.poll() is not None, "the moment to strike")
            assert process.poll() is None
            process.send_signal(number)
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "Traceback" not in errors
        assert _both(handle) == before
    assert guest.sh("ls /run/virt-toolkit 2>/dev/null || true") == ""


def test_a_domain_that_is_paused_is_said_to_be_and_not_asked(daemon: Daemon) -> None:
    with _domain(daemon, domain_xml("pausing", devices=QGA)) as handle:
        handle.suspend()
        (row,) = [row for row in domains(daemon.uri) if row.name == "pausing"]
    assert (row.state, row.qga_answers, row.sampled_by, row.why) == ("paused", None, None, "it is paused")


@pytest.mark.parametrize("words", [["attach", "none"], ["detach", "none"], ["attach", str(uuid.UUID(int=7))]])
def test_a_domain_that_is_not_there_is_an_error_with_what_to_do(daemon: Daemon, words: list[str]) -> None:
    assert "toolkit guests list" in _command(*words, uri=daemon.uri, status=1).stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--rng-bytes", "1024"],
        ["--rng", "--rng-period", "1s"],
        ["--rng", "--rng-bytes", "many"],
        ["--rng", "--rng-bytes", "1024", "--rng-period", "1us"],
        ["--agent-config", "no-such-file"],
    ],
)
def test_bad_usage_exits_with_2(words: list[str]) -> None:
    _command("attach", "x", *words, uri="qemu+unix:///session?socket=/nowhere", status=2)


def test_a_libvirt_that_is_not_there_is_an_error_with_what_to_do() -> None:
    assert "--uri" in _command("list", uri="qemu+unix:///session?socket=/nowhere", status=1).stderr


def test_what_runs_no_qemu_is_not_taken_for_it(daemon: Daemon) -> None:
    with pytest.raises(UnavailableError, match="no QEMU"):
        domains("test:///default")


def test_without_libvirt_python_the_remedy_is_said() -> None:
    code = """
        import sys
        sys.modules["libvirt"] = None
        sys.argv = ["toolkit", "guests", "list"]
        from toolkit.__main__ import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "virt-toolkit[libvirt]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["list", "attach", "detach"])
def test_the_help_of_every_command_has_an_example(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "toolkit", "guests", name, "--help"], capture_output=True, text=True, check=True)
    assert f"toolkit guests {name}" in done.stdout.split("Example:")[1]
    assert "--json" in done.stdout
    assert "--uri" in done.stdout


def test_the_module_offers_what_it_says() -> None:
    assert all(hasattr(libvirt, name) for name in libvirt.__all__)
