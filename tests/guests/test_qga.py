"""qemu-guest-agent's calls, against a real one through libvirt and over a plain socket, and against answers that no agent gives."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guests.conftest import Guest
from tests.guests.domains import opened
from toolkit.errors import GuestError
from toolkit.guests.libvirt import through_qga
from toolkit.guests.qga import GuestAgent, Ran, RefusedError
from toolkit.guests.qga_samples import GuestIdentity, GuestSample, QgaGuest

needs_the_guest = [pytest.mark.libvirt, pytest.mark.slow, pytest.mark.timeout(900)]


class TestAgainstAGuest:
    pytestmark = needs_the_guest

    def test_its_identity_is_what_the_guest_says_of_itself(self, guest: Guest) -> None:
        with through_qga("guest", guest.uri) as sampled:
            found = sampled.identity()
        assert found.boot_id == guest.sh("cat /proc/sys/kernel/random/boot_id")
        assert found.kernel == guest.sh("uname -r")
        assert found.host_name == guest.sh("hostname")
        state = found.rng_state
        assert state["regime"] == "latched"
        assert state["poolsize_bits"] == 256
        assert state["crng_ready"] is True
        assert state["cpu_rdrand"] is ("rdrand" in guest.sh("cat /proc/cpuinfo").split())
        assert state["trust_cpu"] is True
        assert state["feeders"] is None  # no file tells which processes run
        log = guest.sh("dmesg --raw")
        assert f"{state['crng_ready_s']:.6f}] random: crng init done" in log
        assert state["urandom_warnings"] == log.count("uninitialized urandom read")

    def test_looks_carry_the_guests_own_times_and_its_pool(self, guest: Guest) -> None:
        with through_qga("guest", guest.uri) as sampled:
            blind = sampled.look()
            sampled.identity()
            looks = [sampled.look() for _ in range(5)]
        assert blind.crng_ready is None  # what the number means is not known yet
        before, after = (float(guest.sh("cut -d' ' -f1 /proc/uptime")) for _ in range(2))
        assert [look.t_ns for look in looks] == sorted(look.t_ns for look in looks)
        assert 0 < looks[-1].t_ns <= before * 1e9 <= after * 1e9
        assert {look[2:] for look in looks} == {("guest", 256, True, None)}
        assert [look.utc_ns for look in looks] == sorted(look.utc_ns for look in looks)

    def test_over_a_plain_socket_all_is_as_through_libvirt(self, guest: Guest) -> None:
        with guest.second_agent() as second, through_qga("guest", guest.uri) as sampled:
            other = QgaGuest(second)
            assert other.identity() == sampled.identity()
            assert other.look().utc_of == "guest"

    def test_files_of_many_pieces_go_both_ways_whole(self, guest: Guest) -> None:
        content = secrets.token_bytes(200_001)
        guest.agent.write_file("/run/content", content)
        assert guest.agent.read_file("/run/content", 200_001) == content
        with pytest.raises(GuestError, match="longer than 200,000 bytes"):
            guest.agent.read_file("/run/content", 200_000)
        guest.agent.write_file("/run/content", b"")
        assert guest.agent.read_file("/run/content", 1) == b""
        guest.sh("rm /run/content")

    def test_what_the_guest_refuses_is_told_apart_from_what_it_does_not_answer(self, guest: Guest) -> None:
        with pytest.raises(RefusedError) as refused:
            guest.agent.read_file("/no/such/file", 10)
        assert refused.value.missing
        assert guest.agent.read_if_there("/no/such/file", 10) is None
        with pytest.raises(RefusedError, match="guest"):
            guest.agent.run(["no-such-program"])
        with guest.second_agent("--blacklist=guest-file-open") as second:
            assert "guest-file-open" not in second.enabled()
            with pytest.raises(RefusedError) as blocked:
                QgaGuest(second).identity()
            assert not blocked.value.missing

    def test_a_program_gives_its_status_and_both_outputs_or_is_left_after_its_time(self, guest: Guest) -> None:
        assert guest.agent.run(["sh", "-c", "echo out; echo err >&2; exit 7"]) == Ran(7, b"out\n", b"err\n")
        assert guest.agent.run(["sh", "-c", "kill -9 $$"]).status == -9
        with pytest.raises(GuestError, match=r"not ended within 0\.2 s"):
            guest.agent.run(["sleep", "3"], limit_s=0.2)
        with pytest.raises(GuestError, match="more than"):
            guest.agent.run(["head", "-c", "2000", "/dev/zero"], most_bytes=1999)

    def test_a_guest_that_stands_still_costs_its_time_limit_and_is_understood_again_afterwards(self, guest: Guest) -> None:
        with guest.second_agent() as second, opened(guest.daemon) as connection:
            second._limit_s = 1.0
            handle = connection.lookupByName("guest")
            handle.suspend()
            try:
                for _ in range(2):
                    with pytest.raises(GuestError, match="no answer in time"):
                        second.call("guest-ping")
                with through_qga("guest", guest.uri, limit_s=1.0) as sampled, pytest.raises(GuestError):
                    sampled.look()
            finally:
                handle.resume()
            second._limit_s = 20.0
            # What it says late, to questions that were given up, is not taken for an answer.
            assert second.run(["echo", "again"]).out == b"again\n"
        with through_qga("guest", guest.uri, limit_s=20.0) as sampled:
            assert sampled.look().entropy_avail_bits == 256


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_FIELDS = st.dictionaries(
    st.sampled_from(
        ["count", "buf-b64", "eof", "pid", "exited", "exitcode", "signal", "out-data", "err-data", "supported_commands"]
    ),
    _JSON | st.integers(0, 5) | st.booleans() | st.sampled_from(["", "QQ==", "////", "Q", "é", "A" * 100_000]),
)
_ANSWERS = st.fixed_dictionaries({"return": _FIELDS | _JSON}) | st.fixed_dictionaries({"error": _JSON}) | _JSON


class Hostile:
    """An agent that answers with whatever it was given, again and again."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers
        self.asked = 0

    def __call__(self, command: Mapping[str, Any], limit_s: float) -> Mapping[str, Any]:
        self.asked += 1
        if command["execute"] == "guest-file-open" and self.asked % 2:
            return {"return": 1000}
        return self._answers[self.asked % len(self._answers)]


@settings(max_examples=300, deadline=None)
@given(st.lists(_ANSWERS, min_size=1, max_size=8))
def test_no_answer_of_a_guest_gives_anything_but_a_value_of_its_kind_or_an_error(answers: list[Any]) -> None:
    agent = GuestAgent(Hostile(answers), "hostile \x1b[31m")
    asked = (
        (lambda: agent.read_file("/f", 100, limit_s=0.01), bytes),
        (lambda: agent.run(["p"], limit_s=0.01, most_bytes=100), Ran),
        (lambda: agent.write_file("/f", b"xyz"), type(None)),
        (agent.enabled, frozenset),
        (agent.time_ns, (int, type(None))),
        (lambda: QgaGuest(agent).look(), GuestSample),
    )
    for ask, kind in asked:
        value = _value_or_error(ask)
        assert isinstance(value, (kind, GuestError)), value
        assert "\x1b" not in str(value)
        assert not isinstance(value, bytes) or len(value) <= 100


def _value_or_error(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except GuestError as error:
        return error


class Files:
    """An agent whose guest has the files it was given."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._rest: dict[int, bytes] = {}

    def __call__(self, command: Mapping[str, Any], limit_s: float) -> Mapping[str, Any]:
        name, said = command["execute"], command.get("arguments", {})
        if name == "guest-file-open":
            if said["path"] not in self._files:
                return {"error": {"desc": "No such file or directory"}}
            self._rest[len(self._rest)] = self._files[said["path"]]
            return {"return": len(self._rest) - 1}
        if name == "guest-file-read":
            handle, count = said["handle"], said["count"]
            piece, self._rest[handle] = self._rest[handle][:count], self._rest[handle][count:]
            return {"return": {"count": len(piece), "buf-b64": base64.b64encode(piece).decode(), "eof": not self._rest[handle]}}
        return {"return": {}} if name == "guest-file-close" else {"error": {"desc": "disabled"}}


_BOOT = "/proc/sys/kernel/random/boot_id"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["osrelease", "hostname"]), st.binary(max_size=300)), st.binary(max_size=60))
def test_names_and_boot_ids_of_a_hostile_guest_stay_bounded_and_no_path_is_made_of_them(
    files: dict[str, bytes], boot_id: bytes
) -> None:
    said = {f"/proc/sys/kernel/{name}": content for name, content in files.items()}
    found: GuestIdentity = QgaGuest(GuestAgent(Files({**said, _BOOT: b"c5a4d6de-b1a5-4f5f-8b2b-2eee5434802e\n"}), "x")).identity()
    assert len(found.kernel) <= 300
    assert len(found.host_name) <= 300
    with pytest.raises(GuestError, match="boot_id is none"):
        QgaGuest(GuestAgent(Files({**said, _BOOT: boot_id}), "x")).identity()


@pytest.mark.parametrize("release", ["../../etc/shadow", "6.1/../x", "-x", "6.1 x", ""])
def test_a_release_that_is_no_name_of_a_file_is_never_looked_for(release: str) -> None:
    asked = []
    files = Files({"/proc/sys/kernel/osrelease": release.encode(), _BOOT: b"c5a4d6de-b1a5-4f5f-8b2b-2eee5434802e\n"})

    def command(said: Mapping[str, Any], limit_s: float) -> Mapping[str, Any]:
        asked.append(said.get("arguments", {}).get("path", ""))
        return files(said, limit_s)

    QgaGuest(GuestAgent(command, "x")).identity()
    assert not [path for path in asked if path.startswith("/boot")]


def test_a_pool_that_is_not_latched_says_nothing_about_readiness() -> None:
    # 5.4: a pool of 4096 bits, no read_wakeup_threshold only later; this one has it.
    random = "/proc/sys/kernel/random"
    files = {_BOOT: b"c5a4d6de-b1a5-4f5f-8b2b-2eee5434802e\n", f"{random}/poolsize": b"4096\n", f"{random}/entropy_avail": b"13\n"}
    old = QgaGuest(GuestAgent(Files({**files, f"{random}/read_wakeup_threshold": b"64\n", "/proc/uptime": b"12.34 50.00\n"}), "x"))
    state = old.identity().rng_state
    assert (state["regime"], state["crng_ready"], state["crng_ready_s"]) == ("blocking", None, None)
    before = time.time_ns()
    look = old.look()
    assert look[:1] + look[2:] == (12_340_000_000, "host", 13, None, None)
    assert before <= look.utc_ns <= time.time_ns()
