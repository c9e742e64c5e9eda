"""Changes to a users file: whole, durable, and none lost."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmta.daemon import users as room
from fastmta.daemon.users import UserProblem, add_user, check_user, list_users, remove_user
from fastmta.security import password as password_room
from fastmta.security.users import parse_file
from tests.support.sasl import CHEAP, user_line


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = password_room.hash_password
    monkeypatch.setattr(room, "hash_password", lambda password: real(password, CHEAP))
    monkeypatch.setattr(
        room, "make_verifier", lambda password: password_room.make_verifier(password, 4096)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_user_is_added_to_a_new_file(path: Path) -> None:
    assert add_user(str(path), "alice@x.test", "secret")
    assert mode(path) == 0o600
    assert check_user(str(path), "alice@x.test", "secret")
    assert not check_user(str(path), "alice@x.test", "Secret")
    assert not check_user(str(path), "alice@x.test", "")
    assert list_users(str(path)) == ([("alice@x.test", False)], [])


def test_scram_on_request(path: Path) -> None:
    add_user(str(path), "alice", "secret", with_scram=True)
    assert list_users(str(path)) == ([("alice", True)], [])


def test_user_that_is_there_is_changed_on_request_only(path: Path) -> None:
    add_user(str(path), "alice", "one")
    before = path.read_bytes()
    with pytest.raises(UserProblem, match="alice is there already"):
        add_user(str(path), "alice", "two")
    assert path.read_bytes() == before
    assert not add_user(str(path), "alice", "two", may_replace=True)
    assert check_user(str(path), "alice", "two")
    assert len(path.read_text().split("\n")) == 2


def test_everything_else_in_the_file_stays(path: Path) -> None:
    bob, carol = user_line("bob", "b"), user_line("carol", "c")
    before = f"# ours\n\n{bob}\nnonsense\n".encode() + b"caf\xe9\r\n" + carol.encode()
    path.write_bytes(before)
    add_user(str(path), "dave", "d")
    assert path.read_bytes().startswith(before + b"\ndave:$scrypt$")
    add_user(str(path), "bob", "new", may_replace=True)
    remove_user(str(path), "dave")
    rest = path.read_bytes().split(b"\n")
    assert [line[:4] for line in rest] == [b"# ou", b"", b"bob:", b"nons", b"caf\xe9", b"caro", b""]
    assert check_user(str(path), "bob", "new")


def test_name_on_several_lines(path: Path) -> None:
    path.write_text(f"alice:broken\n{user_line('bob', 'b')}\n{user_line('alice', 'a')}\n")
    add_user(str(path), "alice", "new", may_replace=True)
    assert [user.name for user in parse_file(path.read_bytes(), "", print)] == ["alice", "bob"]
    assert check_user(str(path), "alice", "new")
    path.write_text(f"alice:broken\n{user_line('bob', 'b')}\n{user_line('alice', 'a')}\n")
    remove_user(str(path), "alice")
    assert list_users(str(path)) == ([("bob", False)], [])


def test_name_that_is_not_there(path: Path) -> None:
    path.write_text("# nobody\n")
    with pytest.raises(UserProblem, match="alice is not there"):
        remove_user(str(path), "alice")
    with pytest.raises(UserProblem, match="alice is not there"):
        check_user(str(path), "alice", "x")
    assert path.read_text() == "# nobody\n"


@pytest.mark.parametrize("name", ["", "a:b", "#a", " a", "a ", "a\nb", "a\0b", "x" * 321])
def test_bad_name_is_wrong_usage_and_changes_nothing(path: Path, name: str) -> None:
    with pytest.raises(UserProblem) as caught:
        add_user(str(path), name, "secret")
    assert caught.value.is_usage
    assert not path.exists()


@pytest.mark.parametrize("password", ["", "a\0b", "a\rb", "x" * 1025])
def test_bad_password_is_wrong_usage_and_not_shown(path: Path, password: str) -> None:
    with pytest.raises(UserProblem) as caught:
        add_user(str(path), "alice", password)
    assert caught.value.is_usage
    assert not path.exists()


def test_mode_and_owner_are_kept(path: Path) -> None:
    add_user(str(path), "alice", "a")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    owner = path.stat().st_uid, path.stat().st_gid
    add_user(str(path), "bob", "b")
    assert mode(path) == 0o640
    assert (path.stat().st_uid, path.stat().st_gid) == owner


def test_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "users"
    path.symlink_to(target)
    add_user(str(path), "alice", "a")
    assert path.is_symlink()
    assert check_user(str(target), "alice", "a")


def test_change_is_on_the_disk_before_it_is_visible(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(str(path), "alice", "a")
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        calls.append("directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
        real_fsync(fd)

    def rename(source: str, target: str) -> None:
        calls.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    add_user(str(path), "bob", "b")
    assert calls == ["file", "rename", "directory"]


@pytest.mark.parametrize("call", ["fsync", "rename", "fchmod"])
def test_call_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    add_user(str(path), "alice", "a")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        add_user(str(path), "bob", "b")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_somebody_else_is_changing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOCK_TIMEOUT_S", 0.0)
    fd = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="somebody else is changing it"):
        add_user(str(path), "alice", "a")
    os.close(fd)
    add_user(str(path), "alice", "a")


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        add_user(str(tmp_path / "none" / "users"), "alice", "a")


ADD_MANY = """
import sys
from fastmta.daemon import users
from fastmta.security import password
users.hash_password = lambda octets: password.hash_password(octets, password.Cost(4, 1, 1))
for number in range(5):
    users.add_user(sys.argv[1], f"{sys.argv[2]}-{number}", "secret")
"""


def test_users_added_at_once_by_several_processes_are_all_there(path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", ADD_MANY, str(path), name]) for name in "abcd"
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    users, problems = list_users(str(path))
    assert (len(users), problems) == (20, [])
