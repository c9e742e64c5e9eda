"""Files of anybody: what is sound becomes a letter, the rest is put aside and not waited for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmta.drop import DropFile, Facts, Place, Submission
from fastmta.drop.box import SCAN_MAX, UNFINISHED_MANY_S, UNFINISHED_S, Box
from fastmta.drop.form import MAGIC, FormError, checksum, encode_trailer
from fastmta.drop.plan import PORTION_MAX, Plan

ID = b"0123456789abcdef"
CONTENT = b"Subject: x\n\nbody\n"


@pytest.fixture(autouse=True)
def no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(str(tmp_path / "drop"))
    place.prepare()
    return place


@pytest.fixture
def refused() -> list[tuple[str, int, str]]:
    return []


@pytest.fixture
def box(place: Place, refused: list[tuple[str, int, str]]) -> Iterator[Box]:
    return Box(place, 10_000, 4_000, lambda *what: refused.append(what))


def put(place: Place, content: bytes = CONTENT) -> None:
    file = DropFile(place)
    file.write(Submission(b"me", [b"you@there.test"]).encode() + content)
    file.finish()
    file.publish()


def put_raw(place: Place, octets: bytes, name: str = "x") -> Path:
    path = Path(place.new, name)
    path.write_bytes(octets)
    return path


def sealed(octets: bytes) -> bytes:
    return octets + encode_trailer(checksum(octets), len(octets))


def take(box: Box) -> list[bytes]:
    names = box.look(0)
    return box.claim([(name, ID[:-2] + b"%02d" % at) for at, name in enumerate(names)])


def test_modes_let_everybody_write_and_nobody_look(place: Place) -> None:
    assert stat.S_IMODE(os.stat(place.new).st_mode) == 0o3733
    assert stat.S_IMODE(os.stat(place.claimed).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(place.quarantine).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(place.wake).st_mode) == 0o622
    place.prepare()  # again: nothing changes


def test_a_mode_without_set_group_id_is_kept(place: Place) -> None:
    os.chmod(place.new, 0o1733)
    place.prepare()
    assert stat.S_IMODE(os.stat(place.new).st_mode) == 0o1733


def test_a_small_letter_is_read_whole(place: Place, box: Box) -> None:
    put(place)
    (id,) = take(box)
    letter = box.read(id)
    assert letter is not None
    assert letter.content == CONTENT
    assert letter.user_id == os.getuid()
    assert letter.submission.recipients == [b"you@there.test"]
    assert os.listdir(place.new) == []
    assert box.claims() == [id]
    box.remove([id])
    box.remove([id])
    assert box.claims() == []


def test_a_large_letter_stays_in_its_file(place: Place, box: Box) -> None:
    content = b"0123456789" * 700
    put(place, content)
    (id,) = take(box)
    letter = box.read(id)
    assert letter is not None
    assert letter.content is None
    assert letter.read(0) == content
    assert letter.read(6_990) == b"0123456789"
    assert letter.read(7_000) == b""
    letter.close()
    letter.close()


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "not whole"),
        (b"x" * 20, "not whole"),
        (MAGIC + b"from a\nto b\n\nbody", "not whole"),
        (sealed(MAGIC + b"from a\nto b\n\nbody")[:-1], "not whole"),
        (sealed(MAGIC + b"from a\nto b\n\nbody").replace(b"body", b"bodi"), "damaged"),
        (sealed(b"From: x\n\nbody"), "does not begin"),
        (sealed(MAGIC + b"from a\nto b\n"), "does not end"),
        (sealed(MAGIC + b"from a\n\nbody"), "not complete"),
        (sealed(MAGIC + b"to b\n\nbody"), "not complete"),
        (sealed(MAGIC + b"from a\nfrom c\nto b\n\nbody"), "does not know"),
        (sealed(MAGIC + b"from a\nto b\nfuture x\n\nbody"), "does not know"),
        (sealed(MAGIC + b"from a\nits-notify NEVER\nto b\n\nbody"), "does not know"),
        (sealed(MAGIC + b"from \nto b\nverp +=\n\nbody"), "return paths"),
        (sealed(MAGIC + b"from a\nto b\nverp +\n\nbody"), "return paths"),
        (sealed(MAGIC + b"from a\nto b\nverp ab\n\nbody"), "return paths"),
        (sealed(MAGIC + b"from a\nto b\0\n\nbody"), "not sound"),
        (sealed(MAGIC + b"from a\nto " + b"b" * 3000 + b"\n\nbody"), "not sound"),
        (sealed(MAGIC + b"from a\nto b\n\n" + b"x" * 6000).replace(b"xxx", b"xyx", 1), "damaged"),
        (b"x" * 9_000_000, "octets"),
    ],
)
def test_what_is_not_sound_goes_to_quarantine(
    place: Place, box: Box, refused: list[tuple[str, int, str]], octets: bytes, why: str
) -> None:
    put_raw(place, octets)
    (id,) = take(box)
    assert box.read(id) is None
    assert os.listdir(place.quarantine) == [id.decode()]
    assert box.claims() == []
    ((name, user_id, text),) = refused
    assert (name, user_id) == (id.decode(), os.getuid())
    assert why in text


def test_links_fifos_and_directories_are_not_waited_for(
    place: Place, box: Box, refused: list[tuple[str, int, str]], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(sealed(MAGIC + b"from a\nto b\n\nsecret"))
    os.symlink(secret, Path(place.new, "link"))
    os.symlink("nowhere", Path(place.new, "dangling"))
    os.mkfifo(Path(place.new, "fifo"))
    os.mkdir(Path(place.new, "empty"))
    Path(place.new, "filled").mkdir()
    Path(place.new, "filled", "x").touch()
    put(place)
    assert len(take(box)) == 1
    assert sorted(name for name, _, _ in refused) == [
        *("dangling", "empty", "fifo", "filled", "link")
    ]
    assert os.listdir(place.new) == ["filled"]
    assert secret.exists()
    assert take(box) == []
    assert len(refused) == 5, "said again and again"


def test_a_claim_that_became_something_else_is_not_opened(
    place: Place, box: Box, refused: list[tuple[str, int, str]], tmp_path: Path
) -> None:
    """Its owner was quicker: between the look and the claim."""
    for at, make in enumerate((os.mkfifo, lambda path: os.symlink("/etc/passwd", path))):
        id = b"%016d" % at
        make(os.path.join(place.claimed, id.decode()))
        assert box.read(id) is None
        assert box.claims() == []
    assert len(refused) == 2


def test_a_second_name_of_a_file_refuses_it(
    place: Place, box: Box, refused: list[tuple[str, int, str]], tmp_path: Path
) -> None:
    path = put_raw(place, sealed(MAGIC + b"from a\nto b\n\nbody"))
    os.link(path, tmp_path / "second")
    (id,) = take(box)
    assert box.read(id) is None
    assert "one name" in refused[0][2]


def test_names_with_line_ends_and_what_is_not_text(place: Place, box: Box) -> None:
    whole = sealed(MAGIC + b"from a\nto b\n\nbody")
    put_raw(place, whole, "a\nb: warning: x")
    put_raw(place, whole, os.fsdecode(b"\xff\xfe"))
    for id in take(box):
        assert box.read(id) is not None


def test_many_files_come_in_parts_and_all_are_counted(place: Place, box: Box) -> None:
    for at in range(SCAN_MAX + 50):
        put_raw(place, b"junk", str(at))
    assert len(box.look(0)) == SCAN_MAX
    assert box.waiting == SCAN_MAX + 50


def test_what_was_never_finished_is_removed_in_the_end(place: Place, box: Box) -> None:
    path = put_raw(place, b"half", ".half")
    now_ns = path.stat().st_mtime_ns
    assert box.look(now_ns) == []
    assert path.exists()
    box.look(now_ns + (UNFINISHED_S + 1) * 10**9)
    assert not path.exists()


def test_files_that_are_being_written_do_not_fill_the_directory(
    place: Place, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may begin any number of them: they keep nobody else from leaving mail."""
    monkeypatch.setattr("fastmta.drop.box.UNFINISHED_MAX", 3)
    for at in range(5):
        put_raw(place, b"half", f".half{at}")
    path = put_raw(place, b"whole")
    os.symlink("nowhere", Path(place.new, "link"))
    now_ns = path.stat().st_mtime_ns
    assert box.look(now_ns) == ["x"]
    assert box.waiting == 1
    later_ns = now_ns + (UNFINISHED_MANY_S + 1) * 10**9
    for _ in range(2):
        box.look(later_ns)
        assert len(list(Path(place.new).glob(".half*"))) == 3
    path = put_raw(place, b"half", ".half5")
    os.utime(path, ns=(later_ns, later_ns))
    box.look(later_ns)
    assert path.exists(), "somebody may be writing it"


def test_a_plan_is_there_or_not_and_goes_with_its_claim(place: Place, box: Box) -> None:
    assert box.read_plan(ID) is None
    plan = Plan(7, b"Thu, 01 Jan 2026 00:00:00 +0000 (UTC)", 1_767_225_600)
    ids = [b"PART%012d" % number for number in range(PORTION_MAX)]
    plan = plan.advance(set(), 5, 3, ids)
    assert (plan.next, list(plan.ids)) == (3, [0, 1, 2])
    plan = plan.advance({0, 2}, 5, 3, ids[5:])
    assert (plan.next, plan.ids) == (5, {1: ids[5], 3: ids[6], 4: ids[7]})
    put(place)
    (id,) = take(box)
    box.write_plan(id, plan)
    Path(place.claimed, "ABCDEFGHIJ123456.plan.new").touch()  # a crash
    assert (box.claims(), box.planned()) == ([id], [id])
    found = box.read_plan(id)
    assert found is not None
    assert found.encode() == plan.encode()
    assert found.advance({1, 3, 4}, 5, 3, ids).ids == {}
    box.forget_plan(id)
    assert box.planned() == [id], "the claim is there"
    box.remove_planned(id)
    box.remove_planned(id)
    assert os.listdir(place.claimed) == []
    Path(place.claimed, f"{id.decode()}.plan").write_bytes(plan.encode().replace(b"next 5", b"x"))
    with pytest.raises(FormError, match="plan is damaged"):
        box.read_plan(id)


def test_a_file_that_its_owner_took_back_is_not_missed(place: Place, box: Box) -> None:
    assert box.claim([("gone", ID)]) == []
    assert box.claim_again([(ID, b"1" * 16)]) == []


def test_an_abandoned_file_leaves_nothing(place: Place) -> None:
    file = DropFile(place)
    file.write(b"x")
    file.abandon()
    assert os.listdir(place.new) == []


def test_facts_survive_and_what_is_unknown_does_not_matter(place: Place) -> None:
    assert place.read_facts().free_share == 0.03
    facts = Facts()
    facts.hostname, facts.message_octets, facts.free_share = "mail.test", 123, 0.5
    place.write_facts(facts)
    with open(place.facts, "ab") as file:
        file.write(b"future 1\nfree_share much\n")
    found = place.read_facts()
    assert (found.hostname, found.message_octets, found.free_share) == ("mail.test", 123, 0.5)


def test_a_full_directory_and_a_full_volume_refuse(place: Place) -> None:
    assert place.refusal(0, 0.0) == ""
    assert "room" in place.refusal(0, 1.0)
    place.set_full(True)
    place.set_full(True)
    assert "wait" in place.refusal(0, 0.0)
    place.set_full(False)
    place.set_full(False)
    assert place.refusal(0, 0.0) == ""


def test_a_call_without_a_server_is_no_error(place: Place) -> None:
    assert not place.call()
    fd = os.open(place.wake, os.O_RDWR | os.O_NONBLOCK)
    assert place.call()
    assert os.read(fd, 10) == b"W"
    os.close(fd)
