"""`toolkit lab`, and the survey's pair of guests, as a user runs them: real guests, whose samples stand beside the host's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.needs import require_lab
from toolkit.errors import NotMeasuredWarning
from toolkit.experiments import survey
from toolkit.runs import begin
from toolkit.store import open_store

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def lab() -> None:
    require_lab()


def _ours(folder: Path) -> list[str]:
    """QEMUs whose sockets are in a folder, and folders left in it."""
    found = [entry.name for entry in folder.iterdir()]
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if str(folder).encode() in (process / "cmdline").read_bytes():
                    found.append(process.name)
            except OSError:
                continue
    return found


def test_a_lab_guests_samples_stand_beside_the_hosts_until_ctrl_c_and_nothing_is_left(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Path("/var/tmp") / f"vt-{time.monotonic_ns() % 10**9}"
    scratch.mkdir(mode=0o700)
    try:
        monkeypatch.setenv("TOOLKIT_SCRATCH", str(scratch))
        command = [sys.executable, "-m", "toolkit", "lab", "--for", "10min", "--store", str(tmp_path / "store"), "--json"]
        lab = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        store = open_store(tmp_path / "store")
        deadline = time.monotonic() + 300
        while "entropy_samples" not in store.tables() and lab.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        lab.send_signal(signal.SIGINT)
        out, err = lab.communicate(timeout=60)
        assert lab.returncode == 0, err
        (row,) = json.loads(out)
        assert row["accelerator"] in ("kvm", "tcg")
        assert (row["guest"], row["lost"], row["dropped"]) == ("lab", 0, 0)
        assert row["first_sample_s"] > 0
        assert _ours(scratch) == []
    finally:
        scratch.rmdir()
    samples = store.read("entropy_samples", guest="lab")
    assert len(samples) + len(store.read("system_samples", guest="lab")) == row["records"]
    host = store.read("runs")["boot_id"].iloc[0]
    assert samples["boot_id"].nunique() == 1
    assert samples["boot_id"].iloc[0] != host
    # The host's own state stands beside it, with what only the host knows of the guest's device.
    states = store.read("rng_state").set_index("guest", drop=False)
    assert states["guest"].isna().sum() == 1
    assert states.loc["lab", "hwrng_current"] == "virtio_rng.0"
    assert states.loc["lab", "virtio_rng_backend"] == "random"


def test_a_survey_boots_a_pair_of_guests_that_differ_in_their_device_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    allocations = survey.Allocations(None, ["ftruncate"], [4096], 1, tmp_path)
    plan = survey.Survey(0.1, 0.01, allocations, interval_s=0.1, guests_s=15.0)
    with pytest.warns(NotMeasuredWarning, match="fresh caches"):  # in a folder nothing is mounted anew
        counts = plan.record(store, begin("test", seed=1)).set_index("table")["rows"]
    assert counts["records of lab guests"] > 0
    states = store.read("rng_state").dropna(subset=["guest"]).set_index("guest")
    assert set(states.index) == {"lab-virtio-rng", "lab-no-rng"}
    assert states.loc["lab-virtio-rng", "hwrng_current"] == "virtio_rng.0"
    assert states.loc["lab-no-rng", "hwrng_available"] == ""
    assert not states["cpu_rdrand"].any()
    assert states["crng_ready_s"].notna().all()
    how = store.read("capabilities").set_index("capability").loc["how lab guests ran"]
    assert how["detail"].split(":")[0] in ("KVM", "TCG")
