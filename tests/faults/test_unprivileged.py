"""Every command as an ordinary user, and as root in an ordinary user's folder: who owns what is left, and who may look at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import toolkit
from tests.faults.commands import STORING, WORDS, called, names, refused, several, words
from tests.faults.users import CHECKOUT, USER, everything, home, not_of, open_to_others, ordinary, surroundings
from tests.needs import require_tool
from tests.report.books import notebook, small_store
from toolkit.ownership import as_owner_of, make_folders
from toolkit.report.book import write
from toolkit.store import open_store

pytestmark = pytest.mark.root

#: What a command has left, beside the store, once it is done.
PAGES = ["00_start_here.html", "01_fragmentation.html", "02_starvation.html", "03_throughput.html", "index.html"]


@pytest.fixture
def user() -> Iterator[Path]:
    """An ordinary user's home."""
    with home() as place:
        yield place


def as_user(place: Path, *asked: list[str]) -> list[subprocess.CompletedProcess[bytes]]:
    """Commands of an ordinary user, one after the other, in his home, without an umask that would help."""
    if not (place / "file").exists():
        (place / "file").write_bytes(b"x" * 8192)
        os.chown(place / "file", USER, USER)
        (place / "file").chmod(0o600)
    return several(asked, place, surroundings(place), ordinary(place, umask=0))


# As an ordinary user


def test_every_command_of_an_ordinary_user_does_its_work_and_leaves_files_of_his_alone(user: Path) -> None:
    store = user / "deep" / "store"
    for done in as_user(user, *(words(name, "--store", str(store)) for name in [*STORING, "report"])):
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert len(open_store(store, create=False).runs()) == len(STORING)
    assert sorted(path.name for path in (user / "out").iterdir()) == PAGES
    assert not_of(USER, user) == []
    assert [found for found in open_to_others(user) if not found.startswith("tmp:")] == []
    assert list((user / "tmp").iterdir()) == []


def test_notebooks_of_an_ordinary_user_are_served_through_files_and_sockets_of_his_alone(user: Path) -> None:
    open_store(user / "store")
    for path in [user / "store", *(user / "store").iterdir()]:
        os.chown(path, USER, USER)
    command = [*ordinary(user), sys.executable, "-m", "toolkit", "notebooks", *WORDS["notebooks"], "--json"]
    server = subprocess.Popen(
        command, cwd=user, env=surroundings(user), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        said = json.loads("".join(iter(server.stdout.readline, "}\n")) + "}")["address"]
        address = next(word for word in said.split() if word.startswith("http://"))
        base, token = address.split("lab/")[0], address.split("token=")[1]
        asked = urllib.request.Request(f"{base}api/kernels", data=b"{}", headers={"Authorization": f"token {token}"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 201
        until = time.monotonic() + 60
        while not list(user.glob("tmp/*/*-ipc-*")):
            assert time.monotonic() < until, "no socket of a kernel came about"
            time.sleep(0.1)
        assert list(user.glob("tmp/*/jpserver-*.json"))
        assert [found for found in open_to_others(user / "tmp") if ".owner" not in found] == []
        assert not_of(USER, user) == []
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()
    assert list((user / "tmp").iterdir()) == []
    # IPython puts a text of its own there with the mode that it was installed with.
    (user / ".ipython" / "profile_default" / "startup" / "README").unlink()
    assert [found for found in open_to_others(user) if not found.startswith("tmp:")] == []


def test_what_needs_root_says_so_and_what_to_do_instead(user: Path) -> None:
    (done,) = as_user(user, ["allocate", "--filesystem", "ext4", "--size", "1MiB"])
    refused(done, b"an ordinary user may not mount")
    assert b"--directory DIR" in done.stderr


def test_what_lies_in_roots_own_folders_is_refused_by_name_and_left_as_it_is(user: Path) -> None:
    closed = user.parent / "closed"
    closed.mkdir(mode=0o700)
    open_store(closed / "store")
    (closed / "file").write_bytes(b"x")
    (user.parent / "file").write_bytes(b"x")
    (user.parent / "file").chmod(0o600)
    own = small_store(user / "store").path
    for path in [own, *own.rglob("*")]:
        os.chown(path, USER, USER)
    before = everything(user.parent).keys()
    asked = [words(name, "--store", str(closed / "store")) for name in names()]
    asked += [words(name, "--store", str(user.parent / "new")) for name in STORING]
    asked.append(["report", "--store", str(own), "--out", str(closed / "out")])
    asked += [["extents", str(file)] for file in (closed / "file", user.parent / "file")]
    asked += [["allocate", "--directory", str(folder)] for folder in (closed, user.parent)]
    for done in as_user(user, *asked):
        refused(done, b"Permission denied")
    # A measurement that may not be made is a run of his own store all the same, which says why.
    his = ("home/.", "home/tmp", "home/store/")
    made = {name for name in everything(user.parent).keys() - before if not name.startswith(his)}
    assert made <= {"home/file", "seen/0", "seen/1", "seen/2"}, "only what the test itself made"


# As root, in an ordinary user's folder


def test_what_root_measures_into_a_users_folder_is_that_users_to_read_to_add_to_and_to_delete(user: Path) -> None:
    # As under 'sudo -E': root, and HOME still the user's.
    environment = surroundings(user) | {"TOOLKIT_SCRATCH": "/var/tmp", "XDG_CACHE_HOME": str(user / ".cache")}
    for done in several([words(name, "--store", str(user / "new" / "store")) for name in STORING], user, environment):
        assert done.returncode == 0, done.stderr
    (user / "file").unlink()
    assert not_of(USER, user) == []
    assert open_to_others(user / "new") == []
    for done in as_user(user, words("watch", "--store", str(user / "new" / "store"))):
        assert done.returncode == 0, done.stderr
    program = "import sys, toolkit; print(len(toolkit.open_store(sys.argv[1], create=False).runs()))"
    read = [*ordinary(user), sys.executable, "-c", program, str(user / "new" / "store")]
    assert int(subprocess.run(read, capture_output=True, check=True).stdout) == len(STORING) + 1
    subprocess.run([*ordinary(user), require_tool("rm"), "-r", str(user / "new")], check=True)


def test_pages_that_root_writes_into_a_users_folder_are_that_users(user: Path, tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", "import matplotlib.pyplot as plt\nprint(plt.get_backend())")
    store = small_store(user / "store")
    program = (
        "import sys\nfrom pathlib import Path\nfrom toolkit.ownership import private_process\nprivate_process()\n"
        "from toolkit.report.book import write\nwrite(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    paths = [str(store.path), str(user / "a" / "reports"), str(tmp_path / "notebooks")]
    subprocess.run([sys.executable, "-c", program, *paths], env=surroundings(user) | {"TOOLKIT_SCRATCH": "/var/tmp"}, check=True)
    assert sorted(path.name for path in (user / "a" / "reports").iterdir()) == ["01_first.html", "index.html"]
    assert not_of(USER, user) == []
    assert open_to_others(user / "a") == []


def test_root_leaves_no_compiled_module_in_a_users_checkout(user: Path) -> None:
    copied = user / "checkout"
    shutil.copytree(CHECKOUT / "toolkit", copied / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "toolkit" / "store" / "__pycache__").mkdir()
    for path in [copied, *copied.rglob("*")]:
        os.chown(path, USER, USER)
    environment = surroundings(user) | {"PYTHONPATH": str(copied), "TOOLKIT_SCRATCH": "/var/tmp"}
    done = called("doctor", "--store", "store", cwd=copied, environment=environment)
    assert done.returncode == 0, done.stderr
    (copied / "file").unlink()
    assert not_of(USER, user) == []


def test_root_writes_nothing_where_a_link_in_a_users_store_leads(user: Path) -> None:
    target = user.parent / "roots"
    target.mkdir(mode=0o755)
    for name in (".writing", "entropy_samples"):
        store = open_store(user / f"store{name}")
        (store.path / name).symlink_to(target)
        with pytest.raises(toolkit.errors.StoreError):
            toolkit.watch(0.05, 0.01, store=store)
    (user / "reports").symlink_to(target)
    (user / "inner").mkdir()
    (user / "inner" / "up").symlink_to("../reports/../roots")
    notebook(user / "notebooks", "01_first", "1")
    for path in [path for path in user.rglob("*") if path.is_symlink()]:
        os.chown(path, USER, USER, follow_symlinks=False)
    with pytest.raises(toolkit.errors.StoreError, match=f"rights of its owner, user {USER}"):
        open_store(user / "inner" / "up" / "store")
    with pytest.raises(toolkit.errors.ReportError, match="Permission denied"):
        write(small_store(user / "store"), user / "reports", user / "notebooks")
    assert everything(target) == {}


_SWAPS = """
import os, sys
os.chdir(sys.argv[1])
print("ready", flush=True)
while True:
    for name in ("entropy_samples", ".writing"):
        try:
            os.rename(name, name + ".aside")
            os.symlink(sys.argv[2], name)
            os.unlink(name)
            os.rename(name + ".aside", name)
        except OSError:
            pass
"""


def test_root_writes_nothing_elsewhere_whenever_a_user_puts_a_link_in_the_way(user: Path) -> None:
    # The user turns the folders of his store into links and back, as fast as he can, while root appends: some appends fail, and
    # none may ever land where the link leads, which is root's.
    target = user.parent / "roots"
    (target / "host=x").mkdir(parents=True)
    store = open_store(user / "store")
    frame = toolkit.watch(0.05, 0.01)
    store.append("entropy_samples", frame)
    swapping = [*ordinary(user), sys.executable, "-c", _SWAPS, str(store.path), str(target)]
    with subprocess.Popen(swapping, stdout=subprocess.PIPE) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"ready\n"
            failed = 0
            for _ in range(400):
                try:
                    store.append("entropy_samples", frame)
                except (toolkit.errors.StoreError, OSError):
                    failed += 1
        finally:
            attacker.kill()
    assert failed, "no append met a link: this test saw nothing"
    assert list(everything(target)) == ["host=x"]
    assert not_of(USER, user) == []


# The rule itself


def test_only_the_thread_that_writes_has_the_owners_rights_and_only_while_it_writes(user: Path, tmp_path: Path) -> None:
    def fsuid() -> int:
        status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
        return int(next(line.split()[4] for line in status.splitlines() if line.startswith("Uid:")))

    with ThreadPoolExecutor(1) as other:
        assert other.submit(fsuid).result() == 0
        with as_owner_of(user / "not" / "there" / "yet"):
            mine, others = fsuid(), other.submit(fsuid).result()
            with pytest.raises(PermissionError):
                (tmp_path / "root's").write_text("")
    with pytest.raises(KeyError), as_owner_of(user):
        raise KeyError
    assert (mine, others, fsuid()) == (USER, 0, 0)
    with as_owner_of(tmp_path):
        assert fsuid() == 0
    make_folders(tmp_path / "a" / "b")
    assert open_to_others(tmp_path / "a") == []


def test_a_root_that_may_not_act_for_others_is_told_and_writes_nothing(user: Path) -> None:
    bounded = [require_tool("setpriv"), "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid"]
    done = called("watch", "--store", "store", cwd=user, prefix=bounded)
    refused(done, b"Operation not permitted")
    (user / "file").unlink()
    assert everything(user) == {}


def test_every_command_is_here() -> None:
    assert sorted([*STORING, "report", "notebooks"]) == sorted(names())
