"""Requests on the shards of a server that does not run: steps, pages, cancelling, errors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmta.config import Config
from fastmta.config import Spool as SpoolSection
from fastmta.config.operating import Journal
from fastmta.control import Refusal, Request, Verb, desk, inquiry
from fastmta.control.wire import IDS_MAX, LIMIT_MAX, decode_request, encode_line
from fastmta.daemon.operating import Offline
from fastmta.message import RecipientState
from fastmta.spool import SpoolError, SpoolOptions
from tests.support.spool import DEFERRED, Shard

COUNT = 25
SEGMENT_OCTETS = 128 * 1024
DUE_NS = 1_900_000_000_000_000_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, 25 deferred messages each, to five domains."""
    root = tmp_path_factory.mktemp("filled") / "spool"
    for number in (0, 1):
        options = SpoolOptions(segment_octets=SEGMENT_OCTETS, shard=number)
        with Shard(root, options) as shard:
            for at in range(COUNT):
                message = shard.accept_new(b"n%d@d%d.example" % (at, at % 5))
                state = RecipientState(0, DEFERRED, 1, DUE_NS + at, "later")
                assert shard.record(message, state) is None
                shard.spool.release(message)
    return root


@pytest.fixture
def root(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "spool"))


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Config:
    spool = SpoolSection(directory=str(root), segment_octets=SEGMENT_OCTETS)
    return Config(hostname="test.example", spool=spool)


@pytest.fixture
def offline(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    monkeypatch.setattr(desk, "STEP", 4)
    with Offline(config) as opened:
        yield opened


def ask(offline: Offline, verb: Verb, **fields: Any) -> dict[str, Any]:
    """The result, as JSON can carry it; the progress before it under "progress"."""
    progress: list[dict[str, Any]] = []

    async def tell(value: dict[str, Any]) -> None:
        progress.append(value)

    request = decode_request(encode_line({"id": 1, "verb": verb.value, **fields}))
    result = offline.ask(request, tell)
    assert encode_line(result)
    return {**result, "progress": progress}


def ids_of(offline: Offline, filter: str) -> list[str]:
    """Through pages of three."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = ask(offline, Verb.SEARCH, filter=filter, after=after, limit=3)
        assert len(page["messages"]) <= 3
        found += [message["id"] for message in page["messages"]]
        after = page["next"]
    assert len(found) == len(set(found))
    return found


def test_a_filter_is_worked_off_in_steps(offline: Offline) -> None:
    told = ask(offline, Verb.HOLD, filter="domain:d1.example,d2.example")
    assert (told["matched"], told["done"], told["failed"]) == (20, 20, 0)
    steps = [progress["done"] for progress in told["progress"]]
    assert steps == sorted(steps)
    assert len(steps) >= 6
    assert len(ids_of(offline, "status:held")) == 20
    assert len(ids_of(offline, "")) == 2 * COUNT
    again = ask(offline, Verb.HOLD, filter="domain:d1.example,d2.example status:deferred,queued")
    assert (again["matched"], again["done"]) == (0, 0)


def test_what_is_held_is_held_for_the_next_who_opens_it(config: Config) -> None:
    with Offline(config) as offline:
        held = ids_of(offline, "to:n3@*")
        assert ask(offline, Verb.HOLD, ids=held)["ids"] == dict.fromkeys(held, "done")
    with Offline(config) as again:
        assert ids_of(again, "status:held") == held
        assert ask(again, Verb.RELEASE, all=True)["done"] == 2
        assert ask(again, Verb.NEXT_DUE)["next_due_ns"] == 0


def test_the_log_has_a_line_for_each_message_and_their_number(root: Path, tmp_path: Path) -> None:
    spool = SpoolSection(directory=str(root), segment_octets=SEGMENT_OCTETS)
    journal = Journal(file=str(tmp_path / "log"))
    config = Config(hostname="test.example", spool=spool, journal=journal)
    with Offline(config) as offline:
        (one, other) = ids_of(offline, "to:n7@*")
        ask(offline, Verb.DELETE, ids=[one, "nonsense"])
        ask(offline, Verb.HOLD, filter="domain:d1.example", dry_run=True)
        ask(offline, Verb.HOLD, filter="domain:d1.example")
        ask(offline, Verb.RELEASE, ids=[one])
        ask(offline, Verb.FLUSH, ids=[other])
    log = Path(config.journal.file).read_text()
    assert re.search(rf"postfix/postsuper\[\d+\]: {one}: removed\n", log)
    totals = re.findall(r"postfix/postsuper\[\d+\]: ([A-Z].*)", log)
    assert totals == ["Deleted: 1 message", "Placed on hold: 10 messages"]
    assert len(re.findall(r": placed on hold\n", log)) == 10


def test_a_dry_run_counts_and_changes_nothing(offline: Offline) -> None:
    told = ask(offline, Verb.DELETE, all=True, dry_run=True)
    assert (told["matched"], told["done"]) == (2 * COUNT, 0)
    (id, other) = ids_of(offline, "to:n7@*")
    told = ask(offline, Verb.DELETE, ids=[id, other, "nonsense"], dry_run=True)
    assert told["ids"] == {
        id: "would be done",
        other: "would be done",
        "nonsense": "no such message",
    }
    assert ask(offline, Verb.COUNT)["live"] == 2 * COUNT


def test_cancelled_between_two_steps_the_rest_stays(
    offline: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets: list[desk.Ticket] = []
    init = desk.Ticket.__init__

    def note(ticket: desk.Ticket, *arguments: Any) -> None:
        init(ticket, *arguments)
        tickets.append(ticket)

    monkeypatch.setattr(desk.Ticket, "__init__", note)

    async def cancel(_: dict[str, Any]) -> None:
        tickets[0].is_cancelled = True

    told = offline.ask(Request(verb=Verb.DELETE, all=True), cancel)
    assert (told["matched"], told["done"], told["is_cancelled"]) == (4, 4, True)
    assert ask(offline, Verb.COUNT)["live"] == 2 * COUNT - 4


def test_counts_next_due_summary_and_find(offline: Offline) -> None:
    count = ask(offline, Verb.COUNT)
    assert [(hop["next_hop"], hop["recipients"]) for hop in count["next_hops"]] == [
        (f"smtp:d{number}.example", 10) for number in range(5)
    ]
    (one,) = ask(offline, Verb.COUNT, next_hop="smtp:d4.example")["next_hops"]
    assert (one["messages"], one["recipients"]) == (10, 10)
    assert ask(offline, Verb.NEXT_DUE)["next_due_ns"] == DUE_NS
    assert ask(offline, Verb.NEXT_DUE, next_hop="smtp:d3.example")["next_due_ns"] == DUE_NS + 3
    assert ask(offline, Verb.NEXT_DUE, next_hop="smtp:no.example")["next_due_ns"] is None
    shards = ask(offline, Verb.SUMMARY)["shards"]
    assert [(shard["shard"], shard["messages"]) for shard in shards] == [(0, COUNT), (1, COUNT)]
    (id, _) = ids_of(offline, "to:n9@*")
    (message,) = ask(offline, Verb.FIND, ids=[id, "", "x" * 16, "y" * 700])["messages"]
    assert message["recipients"] == [
        {
            "recipient": "n9@d4.example",
            "next_hop": "smtp:d4.example",
            "status": "deferred",
            "attempts": 1,
            "due_at_ns": DUE_NS + 9,
            "text": "later",
        }
    ]


def test_explain_without_a_server(offline: Offline) -> None:
    (id, other) = ids_of(offline, "to:n9@*")
    (why,) = ask(offline, Verb.EXPLAIN, subject=id)["explanations"]
    assert (why["about"], why["name"], why["waits_on"]) == ("message", id, "stop")
    assert (why["facts"]["pending"], why["facts"]["sender"]) == (1, "sender@origin.example")
    (recipient,) = why["children"]
    assert (recipient["name"], recipient["last_reply"]["text"]) == ("n9@d4.example", "later")
    (due,) = (one for one in recipient["children"] if one["waits_on"] == "due")
    assert abs(due["next_attempt"] - (DUE_NS + 9) / 1e9) < 1
    found = ask(offline, Verb.EXPLAIN, subject="N9@d4.example")["explanations"]
    assert sorted(one["name"] for one in found) == sorted((id, other))
    assert ask(offline, Verb.HOLD, ids=[id, other])["done"] == 2
    held = ask(offline, Verb.EXPLAIN, subject="recipient:n9@d4.example")["explanations"]
    assert [one["waits_on"] for one in held] == ["hold", "hold"]
    by_domain = ask(offline, Verb.EXPLAIN, subject="d4.example")["explanations"]
    assert [(one["about"], one["name"]) for one in by_domain] == [
        ("next hop", "smtp:d4.example")
    ] * 2
    assert [one["facts"]["queued"] for one in by_domain] == [4, 4]
    assert ask(offline, Verb.EXPLAIN, subject="message:" + "x" * 16)["explanations"] == []
    assert ask(offline, Verb.EXPLAIN, subject="tenant:nobody")["explanations"] == []
    assert ask(offline, Verb.EXPLAIN, subject="nobody@no.example")["explanations"] == []
    assert ask(offline, Verb.SITES) == {"sites": [], "next": None, "progress": []}
    assert ask(offline, Verb.RESHAPE)["overrides"] == 0


def test_a_large_next_hop_is_read_in_part_and_that_is_said(
    offline: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquiry, "ROWS_MAX", 2)
    told = ask(offline, Verb.EXPLAIN, subject="n0@d0.example")
    assert [one["waits_on"] for one in told["explanations"]] == ["stop", "stop"]
    text = "only the 2 messages due first for d0.example were read"
    assert told["notes"] == [f"shard {number}: {text}" for number in (0, 1)]


def test_who_is_concerned(offline: Offline) -> None:
    told = ask(offline, Verb.CONCERN, subject="domain:.example")
    assert (told["sites"], told["next_hops"]) == (0, 5)  # nothing was looked up
    told = ask(offline, Verb.CONCERN, subject="domain:d1.example\ntenant:acme")
    assert told["next_hop_names"] == ["smtp:d1.example"]


def test_expired_mail_leaves_its_notification(offline: Offline) -> None:
    told = ask(offline, Verb.EXPIRE, filter="dest:d0.example size<100")
    assert told["done"] == 10
    assert len(ids_of(offline, "from:<> to:sender@origin.example")) == 10
    assert ask(offline, Verb.COUNT)["live"] == 2 * COUNT


@pytest.mark.parametrize(
    ("verb", "fields", "words"),
    [
        (Verb.HOLD, {}, "one of ids, filter and all"),
        (Verb.HOLD, {"all": True, "filter": "to:x"}, "one of ids, filter and all"),
        (Verb.HOLD, {"all": True, "with_failed": True}, "only a requeue"),
        (Verb.HOLD, {"filter": "to:x colour:red"}, "filter: column 6: a field is expected"),
        (Verb.SEARCH, {"filter": "age>x"}, "filter: column 5"),
        (Verb.COUNT, {"next_hop": "a\0b"}, "no NUL"),
        (Verb.NEXT_DUE, {"next_hop": "a\0b"}, "no NUL"),
        (Verb.HOLD, {"ids": ["x"] * (IDS_MAX + 1)}, "at most 500 ids"),
        (Verb.HOLD, {"colour": "red"}, "not a request"),
        (Verb.EXPLAIN, {}, "printable characters"),
        (Verb.EXPLAIN, {"subject": "a\nb"}, "printable characters"),
        (Verb.EXPLAIN, {"subject": "a@b\0"}, "no NUL"),
        (Verb.CONCERN, {"subject": "x.example"}, "is no selector"),
        (Verb.CONCERN, {"subject": "domain:x\ndomain:y"}, "is no selector"),
        (Verb.CONCERN, {"subject": "domain:"}, "printable characters"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    offline: Offline, verb: Verb, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        ask(offline, verb, **fields)
    assert ask(offline, Verb.COUNT)["live"] == 2 * COUNT


def test_numbers_are_brought_within_their_limits() -> None:
    request = decode_request(b'{"verb": "search", "limit": 1000000000, "wait_s": 1e300}')
    assert (request.limit, request.wait_s) == (LIMIT_MAX, 60.0)


def test_one_at_a_time(config: Config, offline: Offline) -> None:
    with pytest.raises(SpoolError, match="in use by process"):
        Offline(config).__enter__()


def test_no_spool_no_orders(tmp_path: Path) -> None:
    config = Config(hostname="test.example", spool=SpoolSection(directory=str(tmp_path / "no")))
    with pytest.raises(SpoolError, match="No such file"):
        Offline(config).__enter__()
