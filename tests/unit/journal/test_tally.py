"""Counting: the compiled part and its twin agree; series are bounded, and outlive a worker."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.event import (
    BounceQueued,
    ClientConnected,
    ClientDisconnected,
    CommandRefused,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientTried,
    Severity,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.security import LoginRefused, TlsStarted
from fastmta.journal import _tally, block, tally_py
from fastmta.journal import family as f
from fastmta.journal.block import LABEL_CHARACTERS_MAX, LOST, SERIES_MAX, Block, Word
from fastmta.journal.book import Book, Destinations, name_of
from fastmta.journal.family import OTHER, WIDTH, Family, Kind
from fastmta.journal.refusal import reason_of
from fastmta.smtp.tls import TlsFacts

TWINS = [_tally.Tally, tally_py.Tally]
Make = Callable[[Block, list[Event], Book], tally_py.Tally]
hostile = st.one_of(
    st.text(max_size=30), st.sampled_from(["5.1.1", "2.0.0", "4.7.1", "", '"\\\n\0'])
)
delay = st.one_of(st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True))
events = st.lists(
    st.one_of(
        st.builds(
            RecipientTried, st.just(b"x"), st.just(b"a@b"), hostile,
            st.tuples(delay, delay, delay, delay), hostile,
            st.sampled_from(["sent", "deferred", "bounced", "deliverable"]), hostile, st.just(1),
            st.just("smtp"), hostile,
            st.sampled_from([b"", b"smtp:a.example", b"smtp:b.example for x", b"hold:", b"\xff"]),
            hostile,
        ),
        st.builds(
            MessageReceived, st.just(b"x"), st.sampled_from(["", "c[192.0.2.1]"]), st.just(b""),
            st.just(""), st.just(""), st.just(""), hostile, hostile,
            st.integers(0, 1 << 40), st.integers(0, 1000), delay,
        ),
        st.builds(MessageRemoved, st.just(b"x")),
        st.builds(MessageActive, st.just(b"x"), st.just(b""), st.just(1), st.just(1)),
        st.builds(CommandRefused, st.just("c"), hostile, hostile),
        st.builds(LoginRefused, st.just("c"), hostile, hostile, hostile),
        st.builds(Notice, hostile, hostile, st.sampled_from(list(Severity))),
    ),
    max_size=12,
)  # fmt: skip


def sent(domain: str, **changes: object) -> RecipientTried:
    values: dict[str, object] = {"next_hop": f"smtp:{domain}".encode(), **changes}
    return RecipientTried(
        b"x", b"a@b", "h[192.0.2.1]:25", (0.01, 0.0, 0.2, 0.03),
        str(values.get("status", "2.0.0")), str(values.get("kind", "sent")), "250 2.0.0 Ok",
        next_hop=bytes(values["next_hop"]),
        reply=str(values.get("reply", "")), category=str(values.get("category", "")),
    )  # fmt: skip


def counted(one: Block) -> dict[tuple[str, tuple[str, ...]], int | list[int]]:
    """Every series and what stands there."""
    return {
        (family.name, labels): one.slots[slot : slot + WIDTH].tolist()
        if family.kind is Kind.HISTOGRAM
        else one.slots[slot]
        for family, labels, slot in one.read()
    }


@pytest.fixture(params=TWINS, ids=["compiled", "twin"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@given(events)
@settings(max_examples=150)
def test_twins_count_the_same(several: list[Event]) -> None:
    results = []
    for twin in TWINS:
        one = Block.alone()
        tally = twin(one, pending := [], Book(one, 3))
        for event in several:
            tally.emit(event)
        assert pending == several
        results.append(sorted(counted(one).items()))
    assert results[0] == results[1]


def test_each_kind_of_event_is_counted_once(make: Make) -> None:
    one = Block.alone()
    tally = make(one, [], Book(one, 10, lambda _: "google"))
    facts = TlsFacts("TLSv1.3", "x", 256)
    for event in (
        ClientConnected("c"),
        ClientDisconnected("c", {}, "timeout"),
        CommandRefused("c", "RCPT", "554 5.7.1 <a@b>: Relay access denied"),
        TlsStarted("c", facts),
        LoginRefused("c", "PLAIN", "x", "y"),
        MessageReceived(b"x", "c", b"", "", "", "", "smtp", "team", 500, 3, 0.002),
        MessageReceived(b"y", "", b""),
        MessageActive(b"x", b"", 500, 3),
        sent("a.example"),
        sent("a.example", kind="deferred", status="4.2.2", reply="452 4.2.2 full", category="full"),
        sent("a.example", kind="bounced", status="5.1.1", reply="550 no"),
        sent("a.example", kind="deliverable", status="2.1.5", reply="250 ok"),
        sent("a.example", kind="undeliverable", status="4.2.2", reply="452 4.2.2 full"),
        RecipientHeld(b"x", b"", b"", ""),
        MessageExpired(b"x", b""),
        BounceQueued(b"x", b"y"),
        BounceQueued(b"x", b"y", "sender delay notification"),
        BounceQueued(b"x", b"y", "sender delivery status notification"),
        MessageRemoved(b"x"),
        Notice("spool", "", Severity.ERROR),
        Notice("spool", ""),
    ):
        tally.emit(event)
    found = {key: value for key, value in counted(one).items() if isinstance(value, int)}
    site = ("a.example", "google")
    assert found == {
        ("connections_total", ()): 1,
        ("disconnects_total", ("timeout",)): 1,
        ("receive_rejected_total", ("RCPT", "554", "relay_denied")): 1,
        ("tls_sessions_total", ("in", "TLSv1.3", "", "ok")): 1,
        ("login_failures_total", ("PLAIN",)): 1,
        ("messages_received_total", ("smtp", "team")): 1,
        ("recipients_received_total", ("smtp", "team")): 3,
        ("received_bytes_total", ("smtp", "team")): 500,
        ("deliveries_total", (*site, "delivered", "2.0")): 1,
        ("deliveries_total", (*site, "deferred", "4.2")): 1,
        ("deliveries_total", (*site, "bounced", "5.1")): 1,
        ("deliveries_total", (*site, "deliverable", "2.1")): 1,
        ("deliveries_total", (*site, "undeliverable", "4.2")): 1,
        ("replies_total", ("a.example", "250", "2.0.0")): 1,
        ("replies_total", ("a.example", "250", "2.1.5")): 1,
        ("replies_total", ("a.example", "452", "4.2.2")): 2,
        ("replies_total", ("a.example", "550", "5.1.1")): 1,
        ("delivery_trouble_total", ("google", "full")): 1,
        ("recipients_held_total", ()): 1,
        ("messages_expired_total", ()): 1,
        ("notifications_total", ("failure",)): 1,
        ("notifications_total", ("delay",)): 1,
        ("notifications_total", ("success",)): 1,
        ("messages_removed_total", ()): 1,
        ("notices_total", ("spool", "error")): 1,
        ("metrics_uncounted_total", ()): 0,
    }
    delays = counted(one)["delivery_delay_seconds", ()]
    assert isinstance(delays, list)
    assert sum(delays[:-1]) == 2, "neither who is deferred nor who is asked about has one"
    assert delays[-1] == 480_000_000


def test_an_event_that_cannot_be_counted_is_counted_as_that(make: Make) -> None:
    one = Block.alone()
    tally = make(one, pending := [], Book(one))
    broken = sent("a.example")
    broken = RecipientTried(
        *[getattr(broken, name) for name in broken.__struct_fields__[:3]],
        (0.0,),
        "2.0.0",
        "sent",
        "",
    )
    tally.emit(broken)
    assert pending == [broken]
    assert one.slots[LOST] == 1


def test_a_destination_gets_series_by_volume(make: Make) -> None:
    one = Block.alone()
    tally = make(one, [], Book(one, 4))
    for domain in ("a", "b", "c"):
        tally.emit(sent(domain))
    for _ in range(400):
        tally.emit(sent("large"))
    found = {
        labels[0]: value
        for (name, labels), value in counted(one).items()
        if name == "deliveries_total"
    }
    assert found["a"] == found["b"] == 1
    assert "c" not in found, "half of the places are taken"
    assert found["large"] > 200
    assert sum(found.values()) == 403, found
    assert set(found) == {"a", "b", "large", OTHER}


def test_candidates_are_bounded() -> None:
    destinations = Destinations(10)
    for number in range(10_000):
        destinations.admit(f"d{number}", 1)
    assert len(destinations.own) == 5
    assert len(destinations._volumes) <= 40
    for _ in range(200):
        is_own = destinations.admit("large", 1)
    assert is_own


def test_labels_that_peers_choose_are_bounded(make: Make) -> None:
    one = Block.alone()
    tally = make(one, [], Book(one, 4))
    for number in range(500):
        status = f"5.{number % 9}.{number}"
        tally.emit(sent("a", kind="bounced", status=status, reply=f"{500 + number % 99} x"))
        tally.emit(LoginRefused("c", f"X{number}", "", ""))
        tally.emit(CommandRefused("c", "RCPT", f"{400 + number % 200} 5.{number}.1 x"))
    names = [family.name for family, *_ in one.read()]
    assert names.count("replies_total") <= 17
    assert names.count("login_failures_total") == 65
    assert names.count("receive_rejected_total") <= 257
    assert sum(
        value
        for (name, _), value in counted(one).items()
        if name == "login_failures_total" and isinstance(value, int)
    ) == 500  # fmt: skip


def test_tenants_are_bounded_and_counts_stay_exact(make: Make) -> None:
    one = Block.alone()
    tally = make(one, [], Book(one))
    for number in range(tally_py.PLACES_MAX + 10):
        event = MessageReceived(b"x", "c[192.0.2.1]", b"", listener="in", tenant=f"t{number}")
        tally.emit(event)
    assert len(getattr(tally, "_received_places", ())) <= tally_py.PLACES_MAX
    values = [one.slots[slot] for family, _, slot in one.read() if family is f.RECEIVED]
    assert sum(values) == tally_py.PLACES_MAX + 10


def test_the_next_worker_goes_on_and_knows_its_destinations(make: Make) -> None:
    one = Block.alone()
    for _ in range(3):
        tally = make(one, [], Book(one, 4))
        tally.emit(sent("a.example"))
        tally.emit(sent("b.example"))
        tally.emit(ClientConnected("c"))
    found = counted(one)
    assert found["deliveries_total", ("a.example", "", "delivered", "2.0")] == 3
    assert found["connections_total", ()] == 3
    assert len(found) == len(one.read()), "no series is there twice"


def test_an_entry_that_was_never_finished_is_not_read_and_is_written_over() -> None:
    one = Block.alone()
    assert one.append(f.CONNECTIONS, (), 1)
    one.set(Word.SERIES, 2)  # seen before the entry is, as another processor may
    assert [series.family for series in one.read()] == [f.CONNECTIONS]
    one.set(Word.SERIES, 1)  # as a worker that was killed in between left it
    assert one.append(f.LOGIN_FAILURES, ("PLAIN",), 2)
    assert [series.slot for series in one.read()] == [1, 2]
    assert one.read(1)[0].labels == ("PLAIN",)


def test_a_full_directory_loses_no_count_in_silence(make: Make) -> None:
    one = Block.alone()
    book = Book(one)
    tally = make(one, [], book)
    one.set(Word.SERIES, SERIES_MAX)
    tally.emit(ClientConnected("c"))
    assert one.slots[LOST] == 1


def test_what_is_no_slot_is_refused() -> None:
    one = Block.alone()
    tally = _tally.Tally(one, [], Book(one))
    for call in (
        lambda: tally.add(-1, 1),
        lambda: tally.add(block.SLOTS_MAX, 1),
        lambda: tally.put(1 << 40, 1.0),
        lambda: tally.observe(block.SLOTS_MAX - 1, 0, 1.0),
        lambda: tally.observe(1, 3, 1.0),
    ):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(ValueError, match="not a block"):
        Block(memoryview(bytearray(8)))


def test_a_gauge_is_a_double(make: Make) -> None:
    one = Block.alone()
    book = Book(one)
    tally = make(one, [], book)
    slot = book.slot(f.QUEUE_BYTES)
    for value in (1.5, -0.0, math.inf, math.nan):
        tally.put(slot, value)
        assert memoryview(one.slots).cast("B").cast("d")[slot] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("next_hop", "name"),
    [
        (b"smtp:example.com", "example.com"),
        (b"smtp:[192.0.2.1]:2526#bulk/u@x", "[192.0.2.1]:2526"),
        (b"smtp:example.com for team%20x", "example.com"),
        (b"lmtp:unix:/run/lmtp", "unix:/run/lmtp"),
        (b"error:5.1.1 no such user", "error"),
        (b"file:/var/mail for x", "file"),
        (b"discard:", "discard"),
        (b"\xff\x00", "\ufffd\x00"),
        (b"", ""),
    ],
)
def test_names_of_destinations(next_hop: bytes, name: str) -> None:
    assert name_of(next_hop) == name


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("554 5.7.1 <a@b>: Relay access denied", ("554", "relay_denied")),
        ("452 4.3.1 Insufficient system storage", ("452", "storage")),
        ("550 5.1.1 go away", ("550", "5.1.1")),
        ("421 go away", ("421", "other")),
        ("", ("other", "other")),
        ("999 5.1.1 x", ("other", "other")),
    ],
)
def test_reasons_of_refusals(reply: str, reason: tuple[str, str]) -> None:
    assert reason_of(reply) == reason


def test_every_label_fits_in_an_entry_of_the_directory() -> None:
    wide = "\U0001f4a9\n" * LABEL_CHARACTERS_MAX
    one = Block.alone()
    for number, family in enumerate(f.FAMILIES):
        short = {"code": "550", "enhanced": "5.100.100", "enhanced_class": "5.7"}
        labels = [
            short.get(label, wide if label in family.free else "x" * 12) for label in family.labels
        ]
        assert one.append(family, labels, number), family.name
    read = one.read()
    assert len(read) == len(f.FAMILIES)
    assert {"?" * LABEL_CHARACTERS_MAX} >= {one for one in read[10].labels if "?" in one}


def test_names_keep_the_rules_of_prometheus() -> None:
    for family in (*f.FAMILIES, *f.DESK):
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER), family.name
        assert not set(family.free) - set(family.labels)
        assert family.help.endswith((".", "x")), family.name
    everybody: list[Family] = [*f.FAMILIES, *f.DESK]
    assert len({family.name for family in everybody}) == len(everybody)
    for bounds in f.BOUNDS_S.values():
        assert len(bounds) == f.BOUND_COUNT
        assert list(bounds) == sorted(set(bounds))
