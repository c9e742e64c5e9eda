"""Searches through log files find what a look at every line finds, however the files are cut."""

from __future__ import annotations

import bz2
import gzip
import os
import random
from pathlib import Path

import pytest

from fastmta.control.logplace import history_files, log_files
from fastmta.control.logsearch import Hit, Matcher, Quest, read_back, read_end
from fastmta.control.tracing import parse_subject

FRONT = "Nov 25 20:00:00 relay postfix"


def history(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """(id, line) of `count` messages to few addresses, mixed; some never end, some begin unseen."""
    queues: list[list[tuple[str, str]]] = []
    for number in range(count):
        id = f"25UFIll2{number:08d}"
        address = f"u{chance.randrange(5)}@x.example"
        lines = [
            f"{FRONT}/smtpd[1]: {id}: client=unknown[127.0.0.1]",
            f"{FRONT}/cleanup[1]: {id}: message-id=<{number}@x>",
            f"{FRONT}/qmgr[1]: {id}: from=<s@x>, size=1, nrcpt=1 (queue active)",
        ]
        lines += [
            f"{FRONT}/smtp[1]: {id}: to=<{address}>, relay=none, delay=1, delays=0/0/0/1, "
            f"dsn=4.0.0, status=deferred (later {chance.randrange(9)})"
        ] * chance.randrange(4)
        if chance.random() < 0.8:
            lines.append(f"{FRONT}/qmgr[1]: {id}: removed")
        if chance.random() < 0.1:
            lines = lines[2:]  # the rest was rotated away
        queues.append([(id, line) for line in lines])
    mixed = []
    while queues:
        queue = queues[min(len(queues) - 1, int(chance.expovariate(0.5)))]
        mixed.append(queue.pop(0))
        if "client=" in mixed[-1][1]:  # the two are written at once
            mixed.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return mixed


def written(place: Path, lines: list[str], chance: random.Random) -> list[str]:
    """The lines over a few files, some of them packed; the newest file first."""
    cuts = sorted(chance.sample(range(len(lines)), 3))
    parts = [lines[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(lines)], strict=True)]
    paths = []
    for age, part in enumerate(reversed(parts)):
        octets = "".join(f"{line}\n" for line in part).encode()
        name, data = f"mail.log.{age}" if age else "mail.log", octets
        if age and chance.random() < 0.5:
            name, data = chance.choice(
                [(f"{name}.gz", gzip.compress(octets)), (f"{name}.bz2", bz2.compress(octets))]
            )
        (place / name).write_bytes(data)
        paths.append(str(place / name))
    return paths


def texts(hits: list[Hit]) -> list[str]:
    return [hit.line.decode() for hit in hits]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_found_is_what_is_there(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    lines = history(chance, 60)
    paths = written(tmp_path, [line for _, line in lines], chance)
    said: list[str] = []
    for piece_octets in (50, 300, 4_096, 1 << 20):
        for id in chance.sample(sorted({id for id, _ in lines}), 8):
            quest = Quest(paths, said.append, piece_octets)
            assert texts(quest.find([id.encode()])) == [line for one, line in lines if one == id]
        for limit in (1, 3, 100):
            check_address(Quest(paths, said.append, piece_octets), lines, limit)
    assert said == []


def check_address(quest: Quest, lines: list[tuple[str, str]], limit: int) -> None:
    """All lines of the messages whose lines name the address last."""
    wanted = "to=<u3@x.example>"
    last: dict[str, None] = {}
    for id, line in lines:
        if wanted in line:
            last.pop(id, None)
            last[id] = None
    match = Matcher(
        b"U3@x.example".lower(),
        lambda line: line.split(b": ")[1] if wanted.encode() in line else b"",
    )
    found = texts(quest.find([], match, limit))
    chosen = {line.split(": ")[1] for line in found}
    assert found == [line for id, line in lines if id in chosen]
    assert chosen == set(list(last)[-limit:])


def test_mail_that_is_done_is_found_without_reading_everything(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    filler = (f"{FRONT}/smtpd[1]: connect from unknown[127.0.0.1]\n" * 20_000).encode()
    id = "25UFIll200000001"
    story = [
        f"{FRONT}/smtpd[1]: {id}: client=unknown[127.0.0.1]",
        f"{FRONT}/cleanup[1]: {id}: message-id=<1@x>",
        f"{FRONT}/qmgr[1]: {id}: removed",
    ]
    path.write_bytes(filler + "".join(f"{line}\n" for line in story).encode() + filler)
    quest = Quest([str(path)], pytest.fail, 100_000)
    assert texts(quest.find([id.encode()])) == story
    assert len(filler) <= quest.octets < len(filler) + 300_000
    by_name = Matcher(b"1@x", lambda line: id.encode() if b"<1@x>" in line else b"")
    assert texts(Quest([str(path)], pytest.fail, 100_000).find([], by_name, 1)) == story


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "mail.log.1.gz").write_bytes(gzip.compress(b"x" * 100_000)[:-20])
    (tmp_path / "mail.log").write_bytes(b"no end of a line")
    said: list[str] = []
    paths = [str(tmp_path / name) for name in ("mail.log", "gone", "mail.log.1.gz")]
    assert Quest(paths, said.append).find([b"25UFIll200000001"]) == []
    assert [text.split(" cannot")[0] for text in said] == paths[1:]


def test_a_line_without_an_end_is_no_story(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    id = b"25UFIll200000001"
    path.write_bytes(b"x" * 200_000 + id + b"\n" + id + b": removed\n")
    assert texts(Quest([str(path)], pytest.fail, 1_000).find([id])) == [f"{id.decode()}: removed"]


@pytest.mark.parametrize("piece_octets", [1, 3, 7, 64, 1_000])
def test_pieces_are_whole_lines_and_all_of_them(tmp_path: Path, piece_octets: int) -> None:
    path = tmp_path / "mail.log"
    lines = [b"x" * (number % 11) + b"\n" for number in range(100)] + [b"the last"]
    path.write_bytes(b"".join(lines))
    pieces = list(read_back(str(path), 0, piece_octets))
    assert b"".join(piece.octets for piece in reversed(pieces)) == b"".join(lines)
    assert all(piece.octets.endswith(b"\n") for piece in pieces[1:])
    whole = path.read_bytes()
    for piece in pieces:
        end = piece.offset + len(piece.octets)
        assert whole[piece.offset : end] == piece.octets
    assert read_end(str(path), 2, piece_octets) == [b"x" * (98 % 11), b"the last"]


def test_siblings_of_a_log(tmp_path: Path) -> None:
    names = ["mail.log", "mail.log.1", "mail.log-20261125", "mail.log.2.gz", "mail.log-20261124.xz"]
    others = ["mail.log.old", "mail.logs", "mail.log.1.txt", "amail.log.1", "mail.err"]
    for age, name in enumerate([*names, *others]):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, ns=(0, 10**18 - age * 10**9))
    assert log_files(str(tmp_path / "mail.log")) == [str(tmp_path / name) for name in names]
    assert log_files(str(tmp_path / "no" / "mail.log")) == []
    assert history_files(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("25UFIll200000001", ("25UFIll200000001", "", "")),
        ("id:25UFIll200000001", ("25UFIll200000001", "", "")),
        ("a@b.example", ("", "a@b.example", "a@b.example")),
        ("<a@b.example>", ("", "a@b.example", "a@b.example")),
        ("address:a@b.example", ("", "a@b.example", "")),
        ("message-id:<a@b>", ("", "", "a@b")),
        ("no-id-of-ours", ("", "no-id-of-ours", "no-id-of-ours")),
        ("<x:y@z>", ("", "x:y@z", "x:y@z")),
    ],
)
def test_what_a_subject_is(text: str, wanted: tuple[str, str, str]) -> None:
    assert tuple(parse_subject(text)) == wanted


@pytest.mark.parametrize("text", ["", "<>", "id:not an id", "a@b\nc", "x" * 2_000])
def test_what_is_no_subject(text: str) -> None:
    with pytest.raises(ValueError, match=r"wanted|no id"):
        parse_subject(text)
