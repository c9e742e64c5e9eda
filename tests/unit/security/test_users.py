"""The users file and the list."""

import os
from pathlib import Path

import pytest

from fastmta.security import password as password_room
from fastmta.security import users as room
from fastmta.security.password import SCRAM_ITERATIONS, Cost
from fastmta.security.users import BadLine, Users, UserSource, parse_file, parse_line, parse_list
from tests.support.sasl import CHEAP, user_line

SECRET = b"s" * 32


def write(path: Path, *lines: str, mode: int = 0o640) -> None:
    """Replace the file, as an editor or `fastmta user` does."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines))
    new.chmod(mode)
    new.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


@pytest.fixture
def warned() -> list[str]:
    return []


def test_line_with_hash_and_with_verifier() -> None:
    user = parse_line(user_line("alice@example.com", "secret"))
    assert (user.name, user.verifier) == ("alice@example.com", None)
    assert user.stored is not None
    user = parse_line(user_line("bob", "secret", scram=4096))
    assert user.verifier is not None
    assert user.verifier.iterations == 4096


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:",
        "alice:secret",
        ":" + user_line("x", "y").partition(":")[2],
        user_line("al\tice", "secret"),
        user_line("al\u00adice", "secret"),
        user_line("alice", "secret") + ":",
        user_line("alice", "secret") + ":SCRAM-SHA-256$1:x$y:z",
        user_line("alice", "secret") + " ",
    ],
    ids=[
        "no-hash", "empty-hash", "password", "no-name", "tab", "soft-hyphen", "empty-verifier",
        "bad-verifier", "space-behind",
    ],
)  # fmt: skip
def test_bad_line_is_refused_without_being_shown(line: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_line(line)
    assert "$scrypt$ln=4" not in str(caught.value)


def test_file_with_bad_lines(warned: list[str]) -> None:
    good = [user_line("alice", "a"), user_line("bob", "b")]
    lines = [
        "# comment",
        "",
        good[0],
        "nonsense",
        "  # indented comment",
        "   ",
        user_line("alice", "other"),
        "x" * 1025,
        good[1] + "\r",
    ]
    octets = "\n".join(lines).encode() + b"\ncaf\xe9:x\n"
    users = parse_file(octets, "/etc/users", warned.append)
    assert [user.name for user in users] == ["alice", "bob"]
    assert warned == [
        "/etc/users:4: not name:hash",
        "/etc/users:7: alice is there twice; the first line counts",
        "/etc/users:8: the line is too long",
        "/etc/users:10: not UTF-8",
    ]
    assert Users.build(users, SECRET).check("alice", "a")


@pytest.mark.parametrize(("count", "ends"), [(10, []), (11, [1]), (5000, [4990])])
def test_many_bad_lines_are_not_all_in_the_log(
    path: Path, warned: list[str], count: int, ends: list[int]
) -> None:
    path.write_text("nonsense\n" * count + user_line("alice", "a") + "\n")
    path.chmod(0o600)
    source = UserSource(str(path), SECRET, warned.append)
    assert "alice" in source.current()
    assert warned == [f"{path}:{number}: not name:hash" for number in range(1, 11)] + [
        f"{path}: ... and {more} more, see fastmta user list" for more in ends
    ]
    told: list[str] = []
    parse_file(path.read_bytes(), str(path), told.append)
    assert len(told) == count, "which names them all"


def test_check_of_passwords(warned: list[str]) -> None:
    users = Users.build([parse_line(user_line("alice", "s\u00e9cret"))], SECRET)
    assert users.check("alice", "s\u00e9cret")
    assert users.check("alice", "se\u0301cret")  # another form of the same
    for name, password in [
        ("alice", "secret"),
        ("alice", ""),
        ("alice", "s\u00e9cret\0"),
        ("Alice", "s\u00e9cret"),
        ("bob", "s\u00e9cret"),
        ("", ""),
    ]:
        assert not users.check(name, password), (name, password)


def test_as_much_work_for_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash of the cost that most users have: known, unknown, listed, and a bad password."""
    costs: list[Cost] = []
    real = password_room._scrypt

    def counting(password: bytes, salt: bytes, cost: Cost) -> bytes:
        costs.append(cost)
        return real(password, salt, cost)

    other = Cost(ln=5, r=1, p=1)
    lines = [user_line(name, "secret") for name in ("alice", "bob")]
    lines.append(user_line("carol", "secret", cost=other))
    users = [parse_line(line) for line in lines] + parse_list(["dave:secret"], SECRET)
    known = Users.build(users, SECRET)
    monkeypatch.setattr(password_room, "_scrypt", counting)
    for name, password in [
        ("alice", "wrong"),
        ("nobody", "wrong"),
        ("dave", "wrong"),
        ("alice", "bad\0"),
        ("nobody", "bad\0"),
        ("alice", "x" * 2000),
    ]:
        assert not known.check(name, password)
    assert costs == [CHEAP] * 6


def test_listed_users() -> None:
    users = Users.build(parse_list(["alice:a:b", "bob@x.test:b"], SECRET, 4096), SECRET)
    assert users.unknown is None
    assert users.check("alice", "a:b")
    assert users.check("bob@x.test", "b")
    assert not users.check("bob@x.test", "a:b")
    assert not users.check("carol", "b")
    assert users.has_scram
    assert users.verifier("alice").iterations == 4096
    assert not Users.build(parse_list(["alice:a"], SECRET), SECRET).has_scram


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["alice:a", "hunter2"], "entry 2: not user:password"),
        ([":hunter2"], "entry 1: the name is empty"),
        (["alice:"], "entry 1: the password is empty"),
        (["alice:hunter2\0"], "entry 1: control characters are not allowed"),
        (["a:hunter2", "a:hunter2"], "entry 2: a is there twice"),
    ],
)
def test_bad_list_is_told_without_a_password(entries: list[str], reason: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_list(entries, SECRET)
    assert str(caught.value) == reason


def test_made_up_verifiers_look_like_the_others() -> None:
    users = Users.build([parse_line(user_line("a", "x", scram=5000))], SECRET)
    one, two = users.verifier("nobody"), users.verifier("no-one")
    assert one == users.verifier("nobody")
    assert one.salt != two.salt
    assert (one.iterations, len(one.salt)) == (5000, len(users.verifier("a").salt))
    assert one.stored_key != one.server_key
    assert Users.build([], SECRET).verifier("x").iterations == SCRAM_ITERATIONS
    other_secret = Users.build([], b"t" * 32).verifier("nobody")
    assert other_secret.salt != one.salt


def test_user_without_verifier_has_a_made_up_one() -> None:
    users = Users.build([parse_line(user_line("alice", "x"))], SECRET)
    assert users.verifier("alice").salt == room.made_up_salt("alice", SECRET)


def test_file_is_read_again_when_it_changes(path: Path, warned: list[str]) -> None:
    write(path, user_line("alice", "a"))
    source = UserSource(str(path), SECRET, warned.append)
    first = source.current()
    assert "alice" in first
    assert source.current() is first
    generation = source.generation
    write(path, user_line("bob", "b"))
    assert list(source.current().by_name) == ["bob"]
    assert source.generation == generation + 1
    with path.open("a") as file:
        file.write(user_line("carol", "c") + "\n")
    assert list(source.current().by_name) == ["bob", "carol"]
    assert warned == []


def test_file_changed_in_place_to_the_same_size(path: Path, warned: list[str]) -> None:
    write(path, user_line("alice", "a"))
    source = UserSource(str(path), SECRET, warned.append)
    source.current()
    line = user_line("clair", "b")
    path.write_text(line + "\n")
    os.utime(path, ns=(1, 1))
    assert list(source.current().by_name) == ["clair"]


def test_file_that_cannot_be_read_is_told_once_and_comes_back(
    path: Path, warned: list[str]
) -> None:
    source = UserSource(str(path), SECRET, warned.append)
    for _ in range(3):
        assert not source.current().by_name
    assert not source.is_readable
    assert warned == [f"{path}: No such file or directory: its users cannot log in"]
    write(path, user_line("alice", "a"))
    assert "alice" in source.current()
    assert source.is_readable
    path.unlink()
    assert "alice" not in source.current()
    assert len(warned) == 2


@pytest.mark.parametrize("kind", ["directory", "fifo", "large"])
def test_what_is_no_users_file(path: Path, warned: list[str], kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(room.FILE_OCTETS_MAX + 1)
    source = UserSource(str(path), SECRET, warned.append)
    assert not source.current().by_name
    assert (source.is_readable, len(warned)) == (False, 1)


@pytest.mark.parametrize(
    ("mode", "is_wide"),
    [(0o600, False), (0o640, False), (0o400, False), (0o644, True), (0o660, True), (0o641, True)],
)
def test_mode_that_lets_others_in_is_told(
    path: Path, warned: list[str], mode: int, is_wide: bool
) -> None:
    write(path, user_line("alice", "a"), mode=mode)
    UserSource(str(path), SECRET, warned.append).current()
    expected = f"{path}: mode {mode:04o} lets others in; 0640 is enough"
    assert warned == ([expected] if is_wide else [])


def test_listed_user_wins_over_the_file(path: Path, warned: list[str]) -> None:
    write(path, user_line("alice", "file"), user_line("bob", "b"))
    source = UserSource(str(path), SECRET, warned.append)
    source.current()
    source.add_listed(parse_list(["alice:list"], SECRET))
    users = source.current()
    assert users.check("alice", "list")
    assert not users.check("alice", "file")
    assert users.check("bob", "b")
    assert warned == [f"{path}: alice is also in the list, which counts"]
    path.unlink()
    assert list(source.current().by_name) == ["alice"]
