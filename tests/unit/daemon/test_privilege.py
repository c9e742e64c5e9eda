"""Whom a start becomes, and what it refuses to give away."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from fastmta.config import Config
from fastmta.config.process import Process
from fastmta.daemon import handover, privilege
from fastmta.daemon.handover import (
    check_reach,
    hand_over_directory,
    hand_over_drop,
)
from fastmta.daemon.privilege import Identity, acting_as, acting_as_owner, find_identity
from fastmta.daemon.sockets import BadStart
from fastmta.drop import Place
from tests.support.service import USER, open_place

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
OWNER = pwd.getpwnam(USER)
IDENTITY = Identity(USER, OWNER.pw_uid, OWNER.pw_gid, (OWNER.pw_gid,))


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_root_becomes_whom_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)
    assert find_identity(Process(user=USER)) == IDENTITY
    assert find_identity(Process(user=str(OWNER.pw_uid))) == IDENTITY
    assert find_identity(Process(user="root")) is None
    assert find_identity(Process(user="0")) is None
    other = find_identity(Process(user="1234567", group="7"))
    assert other == Identity("1234567", 1234567, 7, (7,))
    grouped = find_identity(Process(user=USER, group="root"))
    assert grouped is not None
    assert (grouped.gid, grouped.groups[0]) == (0, 0)


def test_without_a_name_root_becomes_fastmta_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_user(monkeypatch, 0)
    monkeypatch.setattr(privilege, "DEFAULT_USER", "no-such-user")
    assert find_identity(Process()) is None
    monkeypatch.setattr(privilege, "DEFAULT_USER", USER)
    assert find_identity(Process()) == IDENTITY


@pytest.mark.parametrize(
    ("process", "uid", "text"),
    [
        (Process(user="no-such-user"), 0, "process.user: there is no user no-such-user"),
        (Process(user="1234567"), 0, "process.user: there is no user with the number 1234567"),
        (Process(user=USER, group="no-such"), 0, "process.group: there is no group no-such"),
        (Process(user="root"), 1000, "process.user: only a start as root can become root; we are"),
    ],
)
def test_whom_nobody_can_become(
    monkeypatch: pytest.MonkeyPatch, process: Process, uid: int, text: str
) -> None:
    as_user(monkeypatch, uid)
    with pytest.raises(BadStart) as caught:
        find_identity(process)
    assert str(caught.value).startswith(text)


def test_a_trial_only_asks_whether_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 1000)
    assert privilege.try_process(Config()) == []
    assert privilege.try_process(Config(process=Process(user=USER))) == []
    with pytest.raises(BadStart, match="there is no user no-such-user"):
        privilege.try_process(Config(process=Process(user="no-such-user")))


def test_who_is_not_root_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, OWNER.pw_uid)
    assert find_identity(Process()) is None
    assert find_identity(Process(user=USER)) is None


@needs_root
def test_files_that_are_made_meanwhile_are_the_users(tmp_path: Path) -> None:
    before = os.getgroups()
    with open_place() as place:
        place.chmod(0o777)
        with acting_as(IDENTITY):
            (place / "theirs").touch()
        (place / "ours").touch()
        owners = [(place / name).stat().st_uid for name in ("theirs", "ours")]
    assert owners == [OWNER.pw_uid, 0]
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, before)


@needs_root
def test_what_root_makes_for_a_spool_is_its_owners(tmp_path: Path) -> None:
    with open_place() as place:
        with acting_as_owner(str(place)):
            (place / "ours").touch()
        os.chown(place, OWNER.pw_uid, OWNER.pw_gid)
        with acting_as_owner(str(place)):
            (place / "theirs").touch()
        assert [(place / name).stat().st_uid for name in ("ours", "theirs")] == [0, OWNER.pw_uid]
    assert os.geteuid() == 0


@needs_root
def test_a_spool_changes_hands_and_nothing_else(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    (spool / "shard-00").mkdir(parents=True)
    for name in ("format", "shard-00/lock", "shard-00/linked"):
        (spool / name).touch()
    (tmp_path / "outside").touch()
    os.link(spool / "shard-00" / "linked", tmp_path / "second-name")
    (spool / "link").symlink_to(tmp_path / "outside")
    (spool / "others").mkdir()
    os.chown(spool / "others", 12345, -1)
    (spool / "others" / "in").touch()
    hand_over_directory(str(spool), "spool.directory", IDENTITY)
    theirs = {path for path in (spool, *spool.rglob("*")) if path.lstat().st_uid == OWNER.pw_uid}
    names = {str(path.relative_to(tmp_path)) for path in theirs}
    assert names == {"spool", "spool/format", "spool/shard-00", "spool/shard-00/lock"}
    assert (tmp_path / "outside").stat().st_uid == 0


@needs_root
def test_a_drop_directory_of_root_changes_hands_without_its_mail(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "drop"))
    place.prepare()
    letter = tmp_path / "drop" / "new" / "letter"
    letter.touch()
    for _ in range(2):
        hand_over_drop(place, IDENTITY)
        for path in (place.root, place.new, place.claimed, place.quarantine, place.wake):
            found = os.stat(path)
            assert (found.st_uid, found.st_gid) == (OWNER.pw_uid, OWNER.pw_gid)
        assert os.stat(place.new).st_mode & 0o7777 == 0o3733
        assert letter.stat().st_uid == 0  # who sends it is told by whose it is


@needs_root
def test_root_does_nothing_in_a_drop_directory_of_others(tmp_path: Path) -> None:
    """Its owner could put a link in the place of what we are about to change."""
    place = Place(str(tmp_path / "drop"))
    place.prepare()
    hand_over_drop(place, IDENTITY)
    os.chmod(place.wake, 0o600)
    os.rmdir(place.quarantine)
    hand_over_drop(place, IDENTITY)
    assert os.stat(place.wake).st_mode & 0o777 == 0o600
    assert not os.path.lexists(place.quarantine)


@needs_root
def test_only_a_spool_is_given_away(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").touch()
    with pytest.raises(BadStart, match="belongs to uid 0, and the server becomes nobody: chown"):
        hand_over_directory(str(tmp_path / "etc"), "spool.directory", IDENTITY)
    os.chown(tmp_path / "etc", 12345, -1)
    with pytest.raises(BadStart, match="belongs to uid 12345"):
        hand_over_directory(str(tmp_path / "etc"), "spool.directory", IDENTITY)
    (tmp_path / "empty").mkdir()
    hand_over_directory(str(tmp_path / "empty"), "spool.directory", IDENTITY)
    assert (tmp_path / "empty").stat().st_uid == OWNER.pw_uid
    (tmp_path / "file").touch()
    with pytest.raises(BadStart, match="cannot give"):
        hand_over_directory(str(tmp_path / "file" / "x"), "spool.directory", IDENTITY)


def test_what_will_not_work_later_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_reach([], []) == []
    closed = {str(tmp_path / "key.pem"), str(tmp_path)}
    monkeypatch.setattr(os, "access", lambda path, mode: path not in closed)
    said = check_reach(
        [("journal.file", str(tmp_path / "log"))],
        [("tls.key", str(tmp_path / "key.pem")), ("x", "")],
    )
    assert [one.split(": ")[0] for one in said] == ["journal.file", "tls.key"]


def test_a_python_that_only_root_can_read_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "acting_as", lambda identity: acting_as(None))
    handover.check_installed(IDENTITY)
    monkeypatch.setattr(os, "access", lambda path, mode, effective_ids: False)
    with pytest.raises(BadStart, match="nobody cannot read"):
        handover.check_installed(IDENTITY)
