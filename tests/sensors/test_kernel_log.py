"""What the kernel log tells of the random number generator, and when it does not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.needs import need, require_root
from tests.sensors.interpreters import as_nobody
from tests.trees import TREES, copied
from toolkit.sensors import kernel_log
from toolkit.sensors.kernel_log import KernelLog, RngLog, read_kernel_log, rng_log, syslog_records


def said(tree: str) -> RngLog:
    return rng_log(read_kernel_log(TREES / tree))


def test_readiness_warnings_and_missed_warnings_are_found() -> None:
    assert said("blocking") == RngLog(crng_ready_s=65.312876, urandom_warnings=3 + 7, vm_fork_reseeds=0)


def test_readiness_by_trust_in_the_processor_is_readiness() -> None:
    assert said("estimating").crng_ready_s == pytest.approx(0.027419)


@pytest.mark.parametrize(
    "text",
    [
        "random: nonblocking pool is initialized",
        "random: crng init done",
        "random: crng done (trusting CPU's manufacturer)",
        "random: crng init done (trusting CPU's manufacturer)",
    ],
)
def test_every_spelling_of_readiness_is_known(text: str) -> None:
    assert rng_log(KernelLog("complete", ((2.5, text),))).crng_ready_s == 2.5


@pytest.mark.parametrize(
    "text",
    [
        "random: dd: uninitialized urandom read (16 bytes read)",
        "random: dd: uninitialized urandom read (16 bytes read, 3 bits of entropy available)",
        "random: dd urandom read with 3 bits of entropy available",
    ],
)
def test_every_spelling_of_an_urandom_warning_is_known(text: str) -> None:
    assert rng_log(KernelLog("complete", ((2.5, text),))).urandom_warnings == 1


def test_reseeds_after_a_fork_are_counted() -> None:
    assert said("draining").vm_fork_reseeds == 2


def test_what_a_program_wrote_into_the_log_is_not_believed() -> None:
    texts = [text for _, text in read_kernel_log(TREES / "blocking").records]
    assert "a program may write" in (TREES / "blocking/dev/kmsg").read_text()
    assert not any("a program may write" in text for text in texts)


def test_continuation_lines_are_not_records() -> None:
    assert len(read_kernel_log(TREES / "estimating").records) == 4


def test_an_overwritten_start_makes_counts_null_and_not_zero() -> None:
    assert read_kernel_log(TREES / "overwritten").state == "overwritten"
    assert said("overwritten") == RngLog(None, None, None)


def test_readiness_that_survived_in_an_overwritten_log_counts(tmp_path: Path) -> None:
    root = copied("overwritten", tmp_path)
    with (root / "dev/kmsg").open("a") as log:
        log.write("5,20420,431300000,-;random: crng init done\n")
    assert rng_log(read_kernel_log(root)) == RngLog(431.3, None, None)


def test_an_empty_log_is_not_a_complete_one(tmp_path: Path) -> None:
    root = copied("overwritten", tmp_path)
    (root / "dev/kmsg").write_text("")
    assert read_kernel_log(root).state == "overwritten"


def test_a_machine_without_a_log_says_so() -> None:
    assert read_kernel_log(TREES / "hidden").state == "absent"


@pytest.mark.root
def test_a_log_that_may_not_be_read_says_so() -> None:
    code = """
import os, pathlib, tempfile
from toolkit.sensors.kernel_log import read_kernel_log
with tempfile.TemporaryDirectory() as name:
    log = pathlib.Path(name, "dev", "kmsg")
    log.parent.mkdir()
    log.write_text("5,0,0,-;Linux version")
    log.chmod(0)
    print(read_kernel_log(pathlib.Path(name)).state)
"""
    assert as_nobody(code).strip() == "refused"


@pytest.mark.root
def test_this_machines_log_is_the_same_through_the_device_and_through_syslog() -> None:
    require_root()
    need(Path("/dev/kmsg").exists() and stat.S_ISCHR(os.stat("/dev/kmsg").st_mode), "/dev/kmsg")
    device = read_kernel_log()
    system_call = kernel_log._syslog(refused=False)
    assert device.state == system_call.state
    assert rng_log(device).vm_fork_reseeds == rng_log(system_call).vm_fork_reseeds
    ready = rng_log(device).crng_ready_s
    assert ready == rng_log(system_call).crng_ready_s


def test_syslog_without_time_stamps_tells_that_and_not_when() -> None:
    log = kernel_log.syslog_records(
        "<5>Linux version 4.19.0\n<5>random: crng init done\n<13>random: crng reseeded due to virtual machine fork\n"
    )
    assert log.state == "complete"
    assert rng_log(log) == RngLog(None, 0, 0)


def test_a_cleared_syslog_is_not_complete() -> None:
    log = kernel_log.syslog_records("<6>[   12.000001][    T1] usb 1-1: new device\n<5>[   13.500000] random: crng init done\n")
    assert log.state == "overwritten"
    assert rng_log(log) == RngLog(13.5, None, None)


def test_a_log_with_numbers_that_no_kernel_writes_is_read_all_the_same() -> None:
    nines = "9" * 5000
    lines = [
        "<6>[    0.000000] Linux version 6.1",
        f"<{nines}>[ 1.0] x",
        f"<6>[    1.0] random: {nines} urandom warning(s) missed due to ratelimiting",
    ]
    assert rng_log(syslog_records("\n".join(lines))).urandom_warnings == 0
