"""The random number generator's state, on this kernel and on recorded machines of the other regimes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sensors.interpreters import as_nobody, carried, interpreters
from tests.trees import TREES, copied
from toolkit.sensors import rng
from toolkit.sensors.look import PoolSample
from toolkit.sensors.rng import read_rng_state, regime

_RANDOM = "proc/sys/kernel/random"


@pytest.mark.parametrize("name", ["blocking", "estimating", "draining", "latched"])
def test_each_regime_is_told_from_the_files_of_its_kernel(name: str) -> None:
    assert read_rng_state(TREES / name).regime == name


def test_a_backport_is_told_by_its_files_and_not_by_its_version() -> None:
    assert (TREES / "overwritten/proc/sys/kernel/osrelease").read_text().startswith("5.10.")
    assert read_rng_state(TREES / "overwritten").regime == "latched"


def test_draining_and_latched_are_told_apart_by_the_reseed_interval_alone(tmp_path: Path) -> None:
    root = copied("draining", tmp_path)
    (root / _RANDOM / "urandom_min_reseed_secs").write_text("60\n")
    assert regime(root)[0] == "latched"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (f"{_RANDOM}/urandom_min_reseed_secs", "600\n"),
        (f"{_RANDOM}/urandom_min_reseed_secs", "\n"),
        (f"{_RANDOM}/poolsize", "1024\n"),
        (f"{_RANDOM}/poolsize", "much\n"),
        ("proc/lrng_type", "DRNG name: drbg_nopr_ctr_aes256\n"),
    ],
)
def test_files_that_fit_no_regime_give_none_with_the_evidence(tmp_path: Path, file: str, content: str) -> None:
    root = copied("latched", tmp_path)
    (root / file).write_text(content)
    name, evidence = regime(root)
    assert name is None
    assert evidence


def test_a_pool_that_is_below_its_size_while_ready_is_not_called_a_latch() -> None:
    name, evidence = regime(TREES / "latched", PoolSample(200, True, True))
    assert name is None
    assert "200" in evidence
    assert regime(TREES / "latched", PoolSample(200, False, False))[0] == "latched"
    assert regime(TREES / "latched", PoolSample(256, True, True))[0] == "latched"


def test_a_machine_without_proc_says_so(tmp_path: Path) -> None:
    state = read_rng_state(tmp_path)
    assert (state.regime, state.entropy_avail_bits, state.hwrng_available, state.feeders) == (None, None, None, None)


def test_nothing_live_is_asked_for_a_recorded_machine() -> None:
    state = read_rng_state(TREES / "blocking")
    assert (state.entropy_avail_bits, state.crng_ready, state.random_readable) == (87, None, None)


def test_hardware_sources_leave_none_out() -> None:
    state = read_rng_state(TREES / "latched")
    assert (TREES / "latched/sys/class/misc/hw_random/rng_available").read_text().split() == ["virtio_rng.0", "none"]
    assert (state.hwrng_available, state.hwrng_current, state.hwrng_quality) == (("virtio_rng.0",), "virtio_rng.0", 1024)


def test_quality_comes_from_the_module_where_sysfs_has_none_yet() -> None:
    assert read_rng_state(TREES / "blocking").hwrng_quality == 1000


def test_a_virtio_rng_device_without_a_driver_is_seen() -> None:
    state = read_rng_state(TREES / "unbound")
    assert (state.hwrng_available, state.hwrng_current, state.hwrng_quality) == ((), None, None)
    assert state.virtio_rng_unbound == 1
    assert read_rng_state(TREES / "blocking").virtio_rng_unbound == 0


@pytest.mark.parametrize(
    ("tree", "rdrand", "rdseed"), [("blocking", False, False), ("estimating", True, True), ("draining", True, True)]
)
def test_instructions_are_read_from_x86_flags_and_arm64_features(tree: str, rdrand: bool, rdseed: bool) -> None:
    state = read_rng_state(TREES / tree)
    assert (state.cpu_rdrand, state.cpu_rdseed) == (rdrand, rdseed)


def test_an_instruction_counts_only_where_every_processor_has_it(tmp_path: Path) -> None:
    root = copied("estimating", tmp_path)
    cpuinfo = root / "proc/cpuinfo"
    cpuinfo.write_text(cpuinfo.read_text().replace(" rdseed", "", 1))
    state = read_rng_state(root)
    assert (state.cpu_rdrand, state.cpu_rdseed) == (True, False)


def test_other_processors_are_not_said_to_lack_the_instructions(tmp_path: Path) -> None:
    root = copied("latched", tmp_path)
    (root / "proc/cpuinfo").write_text("processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\n")
    state = read_rng_state(root)
    assert (state.cpu_rdrand, state.cpu_rdseed) == (None, None)


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        ("ro random.trust_cpu=on", True),
        ("ro random.trust_cpu=1 random.trust_cpu=off", False),
        ("random.trust-cpu=0", False),
        ('dyndbg="file random.c +p random.trust_cpu=0" random.trust_cpu=Y', True),
        ('"random.trust_cpu=n"', False),
        ("random.trust_cpu=on -- random.trust_cpu=off", True),
    ],
)
def test_trust_is_read_from_the_command_line_as_the_kernel_reads_it(tmp_path: Path, command_line: str, expected: bool) -> None:
    root = copied("blocking", tmp_path)
    (root / "proc/cmdline").write_text(command_line + "\n")
    assert read_rng_state(root).trust_cpu is expected


def test_a_silent_command_line_leaves_trust_to_the_configuration(tmp_path: Path) -> None:
    assert read_rng_state(TREES / "blocking").trust_cpu is False
    assert read_rng_state(TREES / "estimating").trust_cpu is True
    assert read_rng_state(TREES / "overwritten").trust_cpu is None
    root = copied("overwritten", tmp_path)
    (root / "boot").mkdir()
    # The symbol went with 6.2: the processor is trusted unless the command line says otherwise.
    (root / "boot/config-5.10.0-18-amd64").write_text("CONFIG_HW_RANDOM=y\n")
    assert read_rng_state(root).trust_cpu is True


def test_the_configuration_may_be_the_kernels_own_packed_one(tmp_path: Path) -> None:
    root = copied("overwritten", tmp_path)
    packed = root / "proc/config.gz"
    with packed.open("wb") as out:
        subprocess.run(["gzip", "-c"], input=b"# CONFIG_RANDOM_TRUST_CPU is not set\n", stdout=out, check=True)
    assert read_rng_state(root).trust_cpu is False
    packed.write_bytes(packed.read_bytes()[:-9])
    assert read_rng_state(root).trust_cpu is None


def test_feeders_are_found_also_where_the_kernel_cuts_their_names() -> None:
    assert read_rng_state(TREES / "blocking").feeders == ("jitterentropy-rngd", "rngd")
    assert read_rng_state(TREES / "latched").feeders == ()


def test_hidden_processes_are_not_taken_for_none() -> None:
    assert read_rng_state(TREES / "hidden").feeders is None


def test_this_machines_state_is_what_its_files_say() -> None:
    state = read_rng_state()
    shown = Path("/proc/sys/kernel/random/poolsize")
    assert state.poolsize_bits == int(shown.read_text())
    assert state.crng_ready is True
    assert state.random_readable is True
    if state.poolsize_bits == 256:
        assert state.regime in ("latched", "draining")


def test_a_running_feeder_is_seen(tmp_path: Path) -> None:
    haveged = tmp_path / "haveged"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", haveged)
    with subprocess.Popen([haveged, "60"]) as process:
        try:
            assert "haveged" in (read_rng_state().feeders or ())
        finally:
            process.kill()


@pytest.mark.parametrize(
    "python", interpreters(), ids=lambda path: path.parent.parent.name if path.parent.name == "bin" else path.name
)
def test_the_sensors_run_in_every_python_of_this_machine(python: Path) -> None:
    code = """
import doctest, sys
from toolkit.sensors import (
    call_row, kernel_log, look, machine_code, read_log, rng, source_reader, sources, system, ticks, write_loop,
)
for module in (call_row, kernel_log, look, machine_code, read_log, rng, source_reader, sources, system, ticks, write_loop):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed, module
machine = system.SystemLook()
machine(), machine()
reads = sources.read_source("getrandom", 32, 1.0, most_reads=2)
assert [read.read_bytes for read in reads] == [32, 32], reads
print(rng.read_rng_state().regime)
assert not {"numpy", "pandas"} & set(sys.modules)
"""
    with carried() as folder:
        command = [python, "-S", "-W", "error", "-c", code]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.split()[-1] == str(read_rng_state().regime)


@pytest.mark.root
def test_an_ordinary_user_gets_the_same_state_but_for_what_is_refused() -> None:
    code = "from toolkit.sensors.rng import read_rng_state; s = read_rng_state(); print(s.regime, s.crng_ready, s.kernel_log)"
    name, ready, log = as_nobody(code).split()
    assert (name, ready) == (str(rng.read_rng_state().regime), "True")
    restricted = Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() == "1"
    assert log == "refused" if restricted else log in ("complete", "overwritten")
