"""What a guest says over its port: a hostile peer at a real socket can be late, endless or absurd, and never more than refused."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.guests import told
from toolkit.guests.told import Told

#: No test waits as long: what it waits for comes, or the deadline that it sets.
LONG_S = 60.0


@contextlib.contextmanager
def peer(
    says: Callable[[socket.socket], object], *, stays: bool = False, ended: Callable[[], bool] = lambda: False
) -> Iterator[Told]:
    """A guest that does as it likes with its end of the line, and then hangs up, unless it stays."""
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="told-") as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder, "port")
        listening.bind(str(path))
        listening.listen(1)

        def serve() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as line:
                says(line)
                if stays:
                    done.wait(LONG_S)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with Told(path, ended) as here:
                yield here
        finally:
            done.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(LONG_S)
        assert not thread.is_alive()
        # Whatever came, nothing of it lies anywhere near.
        assert os.listdir(folder) == ["port"]


def says(content: bytes) -> Callable[[socket.socket], object]:
    return lambda line: line.sendall(content)


def packed(*members: tuple[tarfile.TarInfo | str, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive; a name alone is a plain file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=kind) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_lines_come_one_by_one_then_the_files_of_the_result() -> None:
    archive = packed(("./a", b"1"), ("tree/proc/b.c:d-e", b""), ("a\0", b"no"))
    with peer(says(b"here\nover\n\nresult of none\nresult %d\n" % len(archive) + archive)) as here:
        assert [here.line(LONG_S) for _ in range(3)] == ["here", "over", ""]
        assert here.result(LONG_S) == {"a": b"no", "tree/proc/b.c:d-e": b""}


def test_what_is_told_reaches_the_guest_and_it_answers() -> None:
    def echoes(line: socket.socket) -> None:
        with line.makefile("rb") as said:
            line.sendall(b"heard " + said.readline())

    with peer(echoes) as here:
        here.tell("round 1", LONG_S)
        assert here.line(LONG_S) == "heard round 1"


def test_a_guest_hears_that_all_of_its_result_was_taken_however_late_that_is() -> None:
    archive = packed(("a", b"1" * 3_000_000))  # more than lies in any buffer between
    heard: list[bytes] = []

    def waits(line: socket.socket) -> None:
        line.sendall(b"result %d\n" % len(archive) + archive)
        with line.makefile("rb") as said:
            heard.append(said.readline())

    with peer(waits) as here:
        time.sleep(0.1)
        assert len(here.result(LONG_S)["a"]) == 3_000_000
    assert heard == [b"taken\n"]


@pytest.mark.parametrize("content", [b"x" * 100_000, b"x" * 5000 + b"\n"], ids=["no end", "too long"])
def test_a_line_without_an_end_is_refused(content: bytes) -> None:
    with peer(says(content), stays=True) as here, pytest.raises(ValueError, match=r"a line (without an end|that is too long)"):
        here.line(LONG_S)


def test_a_line_that_is_no_text_is_refused() -> None:
    with peer(says(b"\xff\xfe\n")) as here, pytest.raises(ValueError, match="utf-8"):
        here.line(LONG_S)


def test_a_result_without_an_end_is_refused_long_before_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "MOST_RESULT_BYTES", 1 << 20)
    sent = [0]

    def floods(line: socket.socket) -> None:
        line.sendall(b"result 1048577\n")
        while sent[0] < 1 << 28:
            sent[0] += line.send(bytes(1 << 16))

    with peer(floods) as here, pytest.raises(ValueError, match="more than 1 MiB"):
        here.result(LONG_S)
    assert sent[0] < 1 << 23


@pytest.mark.parametrize("first", [b"", b"result 5000000\n"], ids=["in a line", "in the result"])
def test_a_guest_that_trickles_ends_at_the_deadline(first: bytes) -> None:
    def trickles(line: socket.socket) -> None:
        line.sendall(first)
        begun = time.monotonic()
        while time.monotonic() - begun < LONG_S:
            line.sendall(b".")
            time.sleep(0.01)

    with peer(trickles) as here:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            here.result(0.3)
        assert 0.3 <= time.monotonic() - begun < LONG_S / 2


def test_lines_without_end_and_no_result_end_at_the_deadline() -> None:
    def chats(line: socket.socket) -> None:
        while True:
            line.sendall(b"soon\n" * 100)

    with peer(chats) as here, pytest.raises(TimeoutError):
        here.result(0.3)


@pytest.mark.parametrize("content", [b"", b"resul", b"not yet\n", b"result 9\nfive"])
def test_a_guest_that_hangs_up_early_has_ended(content: bytes) -> None:
    with peer(says(content)) as here, pytest.raises(EOFError):
        here.result(LONG_S)


def test_a_silent_guest_whose_qemu_has_ended_is_not_waited_for() -> None:
    with peer(says(b""), stays=True, ended=lambda: True) as here, pytest.raises(EOFError):
        here.line(LONG_S)


def test_one_that_never_comes_ends_at_the_deadline_or_with_its_qemu(tmp_path: Path) -> None:
    for wanted, ended in ((TimeoutError, False), (EOFError, True)):
        with Told(tmp_path / "none", lambda ended=ended: ended) as here:  # type: ignore[misc]
            with pytest.raises(wanted):
                here.line(0.1)
            with pytest.raises(wanted):
                here.tell("anybody?", 0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_guest_that_does_not_listen_is_not_waited_for() -> None:
    with peer(says(b""), stays=True) as here, pytest.raises(TimeoutError):
        here.tell("x" * (64 << 20), 0.2)


def refused(archive: bytes) -> str:
    with peer(says(b"result %d\n" % len(archive) + archive)) as here, pytest.raises(ValueError) as caught:  # noqa: PT011 - each says what it looks for
        here.result(LONG_S)
    return str(caught.value)


def files(archive: bytes) -> dict[str, bytes]:
    with peer(says(b"result %d\n" % len(archive) + archive)) as here:
        return here.result(LONG_S)


@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"x" * 2000, packed(("a", b"b" * 2000))[:1500]])
def test_what_is_no_archive_is_said_to_be_none(content: bytes) -> None:
    assert re.match("no archive: |files that are larger than it", refused(content))


def test_names_that_lead_elsewhere_and_what_is_no_plain_file_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outside = tmp_path.parent / "told-outside"
    hostile = [
        *("../a", "a/../../b", "/etc/told-test", str(outside), ".", "..", "./../c", "a//b", "a/", ".hidden", "a/.hidden"),
        *("-rf", "a b", "a\nb", "a\033[31m", "ä", "a\\b", "~", "a" * 256, "/".join("a" * 200)),
    ]
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    specials = [(special(f"kind{number}", kind, "good"), b"") for number, kind in enumerate(kinds)]
    specials += [(special("link", tarfile.SYMTYPE, "/etc/passwd"), b""), (special("good/kept", tarfile.SYMTYPE, "../../x"), b"")]
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        archive = packed(("good", b"1"), *((name, b"bad") for name in hostile), *specials, ("a" * 255, b"2"), kind=kind)
        assert files(archive) == {"good": b"1", "a" * 255: b"2"}
    assert list(tmp_path.iterdir()) == []
    assert not outside.exists()
    assert not Path("/etc/told-test").exists()


def test_a_name_given_twice_is_one_file_and_too_many_are_refused() -> None:
    assert files(packed(("a", b"first"), ("./a", b"second"))) == {"a": b"second"}
    many = [(f"f{number}", b"") for number in range(told._MOST_FILES + 1)]
    assert len(files(packed(*many[:-1]))) == told._MOST_FILES
    assert refused(packed(*many)) == f"more than {told._MOST_FILES} files"
    # Also where they all have one name, or none that counts.
    assert refused(packed(*([("../a", b"")] * len(many)))) == f"more than {told._MOST_FILES} files"


def sparse(real_bytes: int) -> bytes:
    """A file of old GNU tar's sparse format that holds nothing and is as large as one likes."""
    header = bytearray(packed(("sparse", b""))[:512])
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[257:265] = b"ustar  \0"
    header[483:495] = b"%011o\0" % real_bytes
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax(name: str, headers: dict[str, str], content: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.pax_headers = headers
    return packed((info, content), kind=tarfile.PAX_FORMAT)


def test_files_that_claim_more_than_there_is_are_refused_and_not_made_up_from_nothing() -> None:
    assert refused(packed(("a", b"1"))[:1024] + sparse(8**11 - 1) + bytes(1024)) == "files that are larger than it"
    assert "sparse" not in files(sparse(64) + bytes(1024))
    for headers in ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**15)}, {"size": str(10**15)}):
        assert refused(pax("a", headers, b"0\n".ljust(512)))


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "-512"},
        {"size": "-1024"},
        {"size": "-1536"},
        {"size": "-999999"},
        {"GNU.sparse.size": "-5"},
        {"GNU.sparse.map": "1"},
        {"GNU.sparse.map": "-1,2", "GNU.sparse.size": "4"},
        {"GNU.sparse.map": ","},
        {"mtime": "inf"},
        {"mtime": "1e999"},
        {"path": "../../x"},
        {"path": ""},
    ],
    ids=str,
)
def test_headers_that_contradict_themselves_end_in_files_or_in_a_refusal(headers: dict[str, str]) -> None:
    archive = packed(("first", b"1" * 512))[:1024] + pax("a", headers, b"2" * 512) * 2
    with peer(says(b"result %d\n" % len(archive) + archive)) as here:
        try:
            found = here.result(LONG_S)
        except ValueError:
            return
    assert sum(map(len, found.values())) <= len(archive)
    assert set(found) <= {"first", "a"}


@settings(max_examples=300, deadline=5000)
@given(st.data())
def test_an_archive_that_was_damaged_anywhere_gives_files_or_is_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    archive = bytearray(packed(("a", b"1" * 600), (special("b", tarfile.SYMTYPE, "a"), b""), ("c" * 120, b"2"), kind=kind))
    for place in data.draw(st.lists(st.integers(0, len(archive) - 1), max_size=8)):
        archive[place] = data.draw(st.integers(0, 255))
    for start in range(0, len(archive) - 511, 512) if data.draw(st.booleans()) else ():
        # With the checksum right again: else only that is tested.
        block = archive[start : start + 512]
        if any(block):
            block[148:156] = b"        "
            archive[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    try:
        found = told._files(bytes(archive))
    except ValueError:
        return
    assert sum(map(len, found.values())) <= len(archive)
