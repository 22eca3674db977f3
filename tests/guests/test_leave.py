"""What an administrator allows: nothing unless it is said, and nothing that is misread."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.needs import require_root
from tests.sensors.interpreters import NOBODY
from toolkit.errors import ToolkitError, UsageError
from toolkit.guests.leave import _KEYS, EXAMPLE, Leave, parse, read

_PIECES = st.sampled_from(
    [key for keys in _KEYS.values() for key in keys]
    + [
        "[sources]",
        "[allocation]",
        "[",
        "]",
        "=",
        "\n",
        '"',
        '["sources"]',
        "true",
        "1",
        "-1",
        "1e999",
        "NaN",
        "9" * 5000,
        "#",
        " ",
    ]
    + ['"/a"', ",", "[" * 2000, "{}", "null", '["/a", "b"]', "\\ud800", "\0"]
)


@settings(deadline=None)
@given(text=st.text() | st.lists(_PIECES | st.text(string.printable, max_size=5), max_size=30).map("".join))
@example(EXAMPLE)
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        leave = parse(text)
    except UsageError:
        return
    assert set(leave.allow) <= {"sources", "allocation"}
    assert all(path.startswith("/") for path in leave.directories)
    assert all(limit > 0 for limit in (leave.budget_s, leave.size_mib, leave.files, leave.seconds))


def test_nothing_is_allowed_by_default() -> None:
    assert parse("") == Leave()
    assert (Leave().allow, Leave().directories, Leave().disk) == ((), (), False)


def test_the_example_says_what_it_seems_to() -> None:
    leave = parse(EXAMPLE)
    assert leave.allow == ("sources", "allocation")
    assert leave.devices == ("getrandom", "/dev/random", "/dev/hwrng")
    assert (leave.directories, leave.disk, leave.size_mib, leave.files, leave.seconds) == (("/var/tmp",), True, 1024, 100, 600)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('alow = ["sources"]', "line 1: there is no such key before the first table"),
        ("[sources]\nbudget = 1", "line 2: there is no such key in \\[sources\\]"),
        ('[sources]\nallow = ["sources"]', "there is no such key"),
        ("[source]", "there is no such table"),
        ("[sources", "there is no such table"),
        ("[]", "there is no such table"),
        ("every_ms = 1\nevery_ms = 2", "line 2: it is said twice"),
        ("every_ms = '1'", "not understood"),
        ("every_ms = 1 2", "something stands behind the value"),
        ('every_ms = "1"', "of another kind"),
        ("every_ms = true", "of another kind"),
        ("[allocation]\ndisk = 1", "of another kind"),
        ("[allocation]\nsize_mib = 1.5", "of another kind"),
        ("allow = [1]", "one of texts"),
        ('allow = ["all"]', "allows 'all', which there is not"),
        ('[allocation]\ndirectories = ["tmp"]', "no absolute path"),
        ('[sources]\ndevices = ["hwrng"]', "no absolute path"),
        ("[sources]\nbudget_s = 0", "not above zero"),
        ("[sources]\nbudget_s = NaN", "not above zero"),
        ("[allocation]\nseconds = Infinity", "not above zero"),
        ("[allocation]\nfiles = -1", "not above zero"),
    ],
)
def test_what_is_misspelt_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(text, "agent.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text('allow = ["sources"]\n')
    path.chmod(0o644)
    return path


def test_a_file_is_read(file: Path) -> None:
    assert read(str(file)) == Leave(allow=("sources",))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o622, 0o602])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ToolkitError, match="can be written by others"):
        read(str(file))


@pytest.mark.root
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    require_root()
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(ToolkitError, match="can be written by others"):
        read(str(file))


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(ToolkitError):
            read(str(path))


def test_a_file_that_is_too_long_or_no_text_is_refused(file: Path) -> None:
    for content in (b"#" * 70_000, b"\xff\xfe", b'allow = ["\xff"]'):
        file.write_bytes(content)
        with pytest.raises(UsageError):
            read(str(file))
