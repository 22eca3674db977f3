"""`toolkit guests watch` and `measure` with a domain of libvirt's: our agent in it, or its qemu-guest-agent alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guests.conftest import Guest
from toolkit.guests.libvirt import channel_socket, detach
from toolkit.store import Store, open_store

pytestmark = [pytest.mark.libvirt, pytest.mark.slow, pytest.mark.timeout(900)]

LEAVE = """\
every_ms = 50
allow = ["sources", "allocation"]
[sources]
devices = ["getrandom", "/dev/hwrng"]
budget_s = 5
[allocation]
directories = ["/var/tmp"]
size_mib = 8
"""


@pytest.fixture(scope="module")
def attached(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """The guest with our port and our agent, which may read sources and allocate in one folder; by the commands themselves."""
    leave = tmp_path_factory.mktemp("leave") / "agent.toml"
    leave.write_text(LEAVE)
    command = [sys.executable, "-m", "toolkit", "guests"]
    try:
        words = ["attach", "guest", "--agent-config", str(leave), "--json", "--uri", guest.uri]
        done = json.loads(subprocess.run([*command, *words], capture_output=True, check=True).stdout)
        assert done["steps"][-1]["outcome"] == "started"
        assert guest.sh("cat /run/virt-toolkit/agent.toml") == LEAVE.strip()
        yield guest
        removed = subprocess.run([*command, "detach", "guest", "--uri", guest.uri], capture_output=True, text=True, check=True)
        assert "removed" in removed.stdout
    finally:
        detach("guest", uri=guest.uri)


def _guests(*words: str, store: Path, status: int = 0) -> Any:
    command = [sys.executable, "-m", "toolkit", "guests", *words, "--store", str(store), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def _whole(store: Store, guest: str = "guest") -> int:
    """The records of a guest in the store, which are as many as its channel's health says, and none is missing."""
    health = store.read("channel_health", guest=guest)
    stored = len(store.read("entropy_samples", guest=guest)) + len(store.read("system_samples", guest=guest))
    done = store.read("channel_events", guest=guest)
    assert health[["lost_records", "dropped_in_guest", "refused_records", "corrupt_frames"]].sum().sum() == 0
    assert "anomaly" not in set(done["event"])
    assert health["records"].sum() == stored
    return stored


def test_a_domain_is_watched_by_name_and_without_one(attached: Guest, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (row,) = _guests("watch", "guest", "--for", "6s", "--uri", attached.uri, store=store)
    assert (row["guest"], row["lost"], row["dropped"]) == ("guest", 0, 0)
    assert row["records"] == _whole(open_store(store)) > 20
    _guests("watch", "--for", "3s", "--uri", attached.uri, store=store)
    samples = open_store(store).read("entropy_samples", guest="guest")
    # What the agent kept while nobody received is there too, and nothing twice.
    assert samples["t_ns"].is_unique
    assert samples["t_ns"].is_monotonic_increasing
    assert samples["t_ns"].diff().max() < 2e9
    assert set(samples["boot_id"]) == {attached.sh("cat /proc/sys/kernel/random/boot_id")}
    assert samples["run_id"].nunique() == 2
    state = open_store(store).read("rng_state", guest="guest").iloc[-1]
    assert state["regime"] == "latched"
    assert state["poolsize_bits"] == 256


def test_ctrl_c_ends_a_watch_with_what_came_stored_and_status_0(attached: Guest, tmp_path: Path) -> None:
    path = channel_socket("guest", attached.uri)
    command = [sys.executable, "-m", "toolkit", "guests", "watch", "--socket", f"mine={path}", "--store", str(tmp_path / "store")]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    store = open_store(tmp_path / "store")
    deadline = time.monotonic() + 60
    while "entropy_samples" not in store.tables() and time.monotonic() < deadline:
        time.sleep(0.1)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    assert "Traceback" not in err
    assert f"{_whole(store, 'mine'):,} records are in" in out


def test_what_its_administrator_allows_is_measured_in_the_guest_and_the_rest_is_refused(attached: Guest, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ("--place", "/var/tmp", "--method", "posix_fallocate", "--method", "write_4k", "--size", "1MiB", "--repeat", "2")
    uri = ("--uri", attached.uri)
    done = _guests("measure", "guest", "--source", "getrandom", "--budget", "200ms", *words, *uri, store=store)
    assert [(row["asked"], row["why not"]) for row in done] == [
        ("getrandom", None),
        ("posix_fallocate at /var/tmp", None),
        ("write_4k at /var/tmp", None),
    ]
    reads = open_store(store).read("source_reads", guest="guest")
    assert set(reads["source"]) == {"getrandom"}
    assert len(reads) == done[0]["rows"] > 0
    rows = open_store(store).read("allocations", guest="guest")
    assert list(rows["position"]) == [0, 1, 2, 3]
    assert list(rows["method"]) == ["posix_fallocate"] * 2 + ["write_4k"] * 2
    assert set(rows["filesystem"]) == {"ext4"}
    assert rows["errno"].isna().all()
    assert (rows["allocated_bytes"] >= 2**20).all()
    assert attached.sh("ls -A /var/tmp | grep -c allocation || true") == "0"
    said = _guests("measure", "guest", "--source", "/dev/urandom", *uri, store=store, status=1)
    del said  # the table is on standard output; the error beside it says why
    refused = subprocess.run(
        [sys.executable, "-m", "toolkit", "guests", "measure", "guest", "--source", "/etc/shadow", "--store", str(store), *uri],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "/etc/shadow is not among the devices that are allowed" in refused.stderr


def test_a_domain_is_sampled_through_its_qemu_guest_agent_without_ours(guest: Guest, tmp_path: Path) -> None:
    store = tmp_path / "store"
    _guests("watch", "guest", "--via", "qga", "--every", "500ms", "--for", "12s", "--uri", guest.uri, store=store)
    samples = open_store(store).read("entropy_samples", guest="guest")
    assert len(samples) >= 5
    assert set(samples["entropy_avail_bits"]) == {256}
    assert samples["crng_ready"].all()
    assert samples["random_readable"].isna().all()
    assert set(samples["boot_id"]) == {guest.sh("cat /proc/sys/kernel/random/boot_id")}
    assert _whole(open_store(store)) == len(samples)
    assert set(open_store(store).read("rng_state", guest="guest")["regime"]) == {"latched"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["watch", "--via", "telepathy"], "no way to a guest's samples"),
        (["watch", "--via", "qga"], "Name them"),
        (["watch", "--socket", "nothing"], "NAME=PATH"),
        (["measure"], "nothing is asked"),
        (["measure", "x", "--source", "getrandom", "--block", "much"], "much"),
    ],
)
def test_bad_usage_exits_with_2(words: list[str], told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", "guests", *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert not list(tmp_path.iterdir())
