"""Links that the server's user planted: root neither reads, makes nor gives away what they name."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.config import Config, Listen
from fastmta.config.inbound import Tls
from fastmta.config.operating import Journal
from fastmta.config.process import Process
from fastmta.config.schema import Spool
from fastmta.control.override import Override, OverrideError, name_of
from fastmta.control.overridefile import change_overrides
from fastmta.daemon.footing import Bendable, check_way, firm_way, is_closed
from fastmta.daemon.handover import Standing, hand_over_directory, hand_over_drop, make_log
from fastmta.daemon.inbound import prepare_inbound
from fastmta.daemon.privilege import Identity, acting_as
from fastmta.daemon.sockets import BadStart
from fastmta.daemon.unixsocket import set_mode
from fastmta.drop import Place
from fastmta.drop import place as drop_place
from tests.support.certificates import Certificates
from tests.support.service import USER, open_place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OWNER = pwd.getpwnam(USER)
IDENTITY = Identity(USER, OWNER.pw_uid, OWNER.pw_gid, (OWNER.pw_gid,))


@pytest.fixture
def place() -> Iterator[Path]:
    """`his` is the user's directory, `etc` is root's."""
    with open_place() as directory:
        (directory / "his").mkdir()
        (directory / "etc").mkdir()
        give(directory / "his")
        yield directory


def give(path: Path) -> None:
    os.chown(path, OWNER.pw_uid, OWNER.pw_gid, follow_symlinks=False)


def plant(link: Path, target: Path) -> None:
    link.symlink_to(target)
    give(link)


def test_a_way_of_root_is_firm(place: Path) -> None:
    (place / "a").symlink_to("etc/../etc")  # root's links are
    (place / "etc" / "b").mkdir()
    with firm_way(f"{place}/a//./b/c/d", IDENTITY) as (fd, missing):
        assert missing == ["c", "d"]
        assert os.path.samestat(os.fstat(fd), (place / "etc" / "b").stat())
    with firm_way(str(place / "his"), IDENTITY) as (_, missing):
        assert missing == []  # it is his, and only he who looks for something in it is in doubt


@pytest.mark.parametrize("kind", ["his directory", "his group", "everybody", "access list"])
def test_a_way_that_he_can_change_is_not(place: Path, kind: str) -> None:
    his = place / "etc"
    if kind == "his directory":
        os.chown(his, OWNER.pw_uid, -1)
        his.chmod(0o500)  # which he can undo
    elif kind == "his group":
        os.chown(his, -1, OWNER.pw_gid)
        his.chmod(0o775)
    elif kind == "everybody":
        his.chmod(0o777)
    else:
        entry = (2).to_bytes(4, "little")  # its version; then owner, HIM, group, mask, others
        for tag, mode, who in (
            (1, 7, 0xFFFFFFFF), (2, 7, OWNER.pw_uid), (4, 0, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF),
            (32, 5, 0xFFFFFFFF),
        ):  # fmt: skip
            entry += tag.to_bytes(2, "little") + mode.to_bytes(2, "little")
            entry += who.to_bytes(4, "little")
        try:
            os.setxattr(his, "system.posix_acl_access", entry)
        except OSError:
            pytest.skip("needs a file system with access lists")
    with pytest.raises(Bendable) as found:
        check_way(str(his / "x"), IDENTITY)
    assert found.value.place == str(his)


def test_names_in_a_shared_directory(place: Path) -> None:
    """As in /tmp: nobody changes what others have put there, but anybody may have been first."""
    shared = place / "etc"
    shared.chmod(0o1777)
    (shared / "roots").write_text("")
    (shared / "link").symlink_to("roots")
    for name in ("roots", "link", "missing"):
        check_way(str(shared / name), IDENTITY)
    plant(shared / "his", shared / "roots")
    os.link(shared / "roots", shared / "second")
    for name in ("his", "second"):
        with pytest.raises(Bendable):
            check_way(str(shared / name), IDENTITY)


def test_links_without_end(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"), firm_way(str(place / "a"), IDENTITY):
        pass


def test_a_log_in_his_directory_is_made_by_himself(place: Path) -> None:
    make_log(str(place / "his" / "log"), "journal.file", IDENTITY)
    assert (place / "his" / "log").stat().st_uid == OWNER.pw_uid
    plant(place / "his" / "link", place / "etc" / "cron")
    plant(place / "his" / "linked", place / "etc" / "passwd")
    (place / "etc" / "passwd").write_text("root")
    for name in ("link", "linked"):  # whoever opens it, as the user, says that he cannot
        make_log(str(place / "his" / name), "journal.file", IDENTITY)
    assert os.listdir(place / "etc") == ["passwd"]
    assert (place / "etc" / "passwd").stat().st_uid == 0


def test_a_log_behind_his_link_is_not_made(place: Path) -> None:
    plant(place / "his" / "logs", place / "etc")
    with pytest.raises(BadStart, match=rf"{USER} can change {place}/his, so it could be made any"):
        make_log(str(place / "his" / "logs" / "log"), "journal.file", IDENTITY)
    assert os.listdir(place / "etc") == []


def test_a_log_in_a_directory_of_root_is_made_for_him(place: Path) -> None:
    log = place / "etc" / "log"
    make_log(str(log), "journal.file", IDENTITY)
    found = log.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (
        OWNER.pw_uid, OWNER.pw_gid, 0o640,
    )  # fmt: skip
    os.chown(log, 0, 0)
    make_log(str(log), "journal.file", IDENTITY)
    assert log.stat().st_uid == 0, "what is there is not given away"


def test_a_spool_behind_his_link(place: Path) -> None:
    """Root would give him a directory that it made, or found empty, where the link leads."""
    plant(place / "his" / "lib", place / "etc")
    with pytest.raises(BadStart, match="Permission denied"):
        hand_over_directory(str(place / "his" / "lib" / "spool"), "spool.directory", IDENTITY)
    assert os.listdir(place / "etc") == []
    (place / "etc" / "spool").mkdir()
    with pytest.raises(BadStart, match="belongs to uid 0"):
        hand_over_directory(str(place / "his" / "lib" / "spool"), "spool.directory", IDENTITY)
    assert (place / "etc" / "spool").stat().st_uid == 0
    hand_over_directory(str(place / "his" / "spool" / "x"), "spool.directory", IDENTITY)
    assert (place / "his" / "spool").stat().st_uid == OWNER.pw_uid


def test_a_drop_directory_behind_his_link(place: Path) -> None:
    (place / "etc" / "drop").mkdir(mode=0o700)
    plant(place / "his" / "lib", place / "etc")
    hand_over_drop(Place(str(place / "his" / "lib" / "drop")), IDENTITY)
    assert os.listdir(place / "etc" / "drop") == []
    assert stat.S_IMODE((place / "etc" / "drop").stat().st_mode) == 0o700


def standing(place: Path) -> Standing:
    return Standing(Config(hostname="h.test", process=Process(user=USER)))


def test_a_drop_directory_that_he_makes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everybody may make files, between the look and the making."""
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    drop, secret = Place(str(place / "tmp" / "drop")), place / "etc" / "secret"
    secret.touch(0o600)
    prepare, set_mode = Place.prepare, drop_place._set_mode

    def make_first(each: Place) -> None:
        with acting_as(IDENTITY), contextlib.suppress(OSError):
            os.mkdir(each.root)
        prepare(each)

    def swap(path: str, mode: int) -> None:
        if path == drop.new:
            with acting_as(IDENTITY), contextlib.suppress(OSError):
                os.rename(path, f"{path}.old")
                os.symlink(secret, path)
        set_mode(path, mode)

    monkeypatch.setattr(Place, "prepare", make_first)
    monkeypatch.setattr(drop_place, "_set_mode", swap)
    hand_over_drop(drop, IDENTITY)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert os.stat(drop.new).st_uid == IDENTITY.uid


def test_a_listener_in_his_directory_is_his(place: Path) -> None:
    who = standing(place)
    path = place / "his" / "lmtp"
    opened, _ = who.open_path(str(path), 0o660, 1)
    opened.close()
    assert (path.stat().st_uid, path.stat().st_gid) == (OWNER.pw_uid, OWNER.pw_gid)
    opened, _ = who.open_path(str(place / "etc" / "lmtp"), 0o660, 1)
    opened.close()
    assert (place / "etc" / "lmtp").stat().st_uid == 0
    plant(place / "his" / "run", place / "etc")
    with pytest.raises(PermissionError, match=f"{USER} may not, and can change"):
        who.open_path(str(place / "his" / "run" / "smtp"), 0o660, 1)
    assert os.listdir(place / "etc") == ["lmtp"]


def test_no_mode_is_set_behind_a_link(place: Path) -> None:
    (place / "etc" / "shadow").touch(0o600)
    plant(place / "his" / "lmtp", place / "etc" / "shadow")
    with pytest.raises(OSError, match="something else"):
        set_mode(str(place / "his" / "lmtp"), 0o666)
    assert stat.S_IMODE((place / "etc" / "shadow").stat().st_mode) == 0o600


def secured(place: Path, certificate: str, client_ca: str = "") -> Config:
    return Config(
        hostname="h.test",
        spool=Spool(directory=str(place / "his" / "spool")),
        tls=Tls(certificate=certificate, client_ca=client_ca),
        listen={"smtp": Listen(bind=())},
        journal=Journal(),
    )


def test_a_certificate_behind_his_link_is_not_read(place: Path) -> None:
    shown = Certificates(place / "etc", "h.test")
    os.chmod(shown.right, 0o600)
    prepare_inbound(secured(place, certificate=shown.right), 1, IDENTITY)
    plant(place / "his" / "certificate", Path(shown.right))
    config = secured(place, certificate=str(place / "his" / "certificate"))
    with pytest.raises(BadStart, match=rf"tls\.certificate: root has to read .*{place}/his"):
        prepare_inbound(config, 1, IDENTITY)
    os.chmod(shown.right, 0o644)
    prepare_inbound(config, 1, IDENTITY)  # he can read it himself


def test_a_file_of_his_beside_one_of_root_is_not_read(place: Path) -> None:
    shown = Certificates(place / "etc", "h.test")
    os.chmod(shown.right, 0o600)
    (place / "his" / "ca").write_bytes(Path(shown.right).read_bytes())
    give(place / "his" / "ca")
    assert is_closed(shown.right, IDENTITY)
    assert not is_closed(str(place / "his" / "ca"), IDENTITY)
    config = secured(place, certificate=shown.right, client_ca=str(place / "his" / "ca"))
    with pytest.raises(BadStart, match=rf"tls\.client_ca: root has to read {shown.right}, and"):
        prepare_inbound(config, 1, IDENTITY)


def test_overrides_are_changed_as_their_owner(place: Path) -> None:
    his = place / "his"
    one = Override(domain=("x.test",), is_paused=True, set_by="root", set_at_s=1.0)
    change_overrides(str(his), lambda old: old.put(name_of(one), one))
    assert (his / "overrides.json").stat().st_uid == OWNER.pw_uid
    (his / "overrides.json").rename(place / "etc" / "overrides.json")
    os.chown(place / "etc" / "overrides.json", 0, 0)
    plant(his / "overrides.json", place / "etc" / "overrides.json")
    with pytest.raises(OverrideError, match="Permission denied"):
        change_overrides(str(his), lambda old: old.drop(name_of(one)))
    assert os.geteuid() == 0
