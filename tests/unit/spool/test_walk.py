"""Walks over the index file: they mean what `Filter` means, whatever is in the file."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from fastmta.message import Message, RecipientState, RecipientStatus
from fastmta.message.situation import Situation, Trouble, queue_of
from fastmta.spool import search
from fastmta.spool._walk import Rows, Sieve
from fastmta.spool.filter import parse_filter
from fastmta.spool.reckoning import Reckoning, Slice
from fastmta.spool.walking import sieve_of
from tests.support.spool import NOW_NS, SMALL, Shard, next_hop

TEXTS = (
    "",
    "host mx.one.example[192.0.2.1] said: 450 4.2.0 later (in reply to RCPT TO command)",
    "host mx.two.example[2001:db8::1] said: 452-4.7.28 too fast",
    "host x[192.0.2.2] refused to talk to me: 421 busy",
    "connect to mx.one.example[192.0.2.1]:25: Connection refused",
    "host y said: 451 4.7.1.2 no status: 450 4.9.9",
    "conversation timed out: 12",
    "said: 4500 4.2.0",
    "said: 450",
    "é: 554 5.7.1 ÿ",
)
FILTERS = (
    "",
    "id:*1",
    "from:<>",
    "from:*@Shop.example",
    'from:"a b*"',
    "tenant:acme",
    "tenant:*M*",
    "to:@ONE.example",
    "to:u1*@*.example",
    "to:*1*1*",
    "domain:one.example,two.example",
    "domain:odd",
    "dest:two.example",
    "dest:smtp:*",
    "dest:way.example",
    "dest:way.example#-",
    "dest:smtp:one.example status:deferred",
    "status:held",
    "status:queued",
    "status:failed",
    "status:deferred,held to:u*",
    "code:4.7.*",
    "code:4.2.0",
    "code:450",
    "code:421,554",
    "code:4* status:deferred domain:two.example",
    "size>50",
    "size<40 age>10s",
    "age<20s",
    "arrived>@1799999985",
    "from:@shop.example to:@one.example tenant:acme",
    "queue:deferred",
    "queue:incoming,hold",
    "queue:hold to:@one.example",
    "queue:deferred status:queued size>50",
    "code:4.4.*",
    "code:4.4.1 status:deferred dest:two.example",
)
# Beside nothing: where nothing goes to two next hops, one of them with a reply.
SITUATIONS = (
    Situation(),
    Situation(
        suspended={
            b"smtp:two.example": Trouble.of("connect to two[192.0.2.3]:25: refused", "4.4.1"),
            b"smtp:odd": Trouble.of("host odd said: 421 4.7.0 too many", "4.7.0"),
            b"smtp:od": Trouble.of("nobody goes there"),
            b"smtp:odder": Trouble.of("nor there"),
        }
    ),
)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shard]:
    """300 messages of all kinds."""
    rng = random.Random(7)
    senders = (b"", b"x@shop.example", b"Y@SHOP.example", b"a b@odd", b"z" * 300 + b"@long.example")
    domains = (b"one.example", b"two.example", b"Three.example", b"odd", b"way.example#-")
    with Shard(tmp_path_factory.mktemp("walk") / "spool", SMALL) as opened:
        for number in range(300):
            paths = [
                b"u%d@%b" % (number, rng.choice(domains)) if rng.random() < 0.95 else b"postmaster"
                for _ in range(rng.choice((1, 1, 1, 2, 5)))
            ]
            message = opened.make(
                *paths,
                content=b"x" * rng.randrange(20, 80),
                reverse_path=rng.choice(senders),
                tenant=rng.choice(("", "acme", "É", "x" * 500)),
                arrived_at_ns=NOW_NS - rng.randrange(30) * 10**9,
            )
            assert opened.accept(message) == [None]
            changes = [_state(rng, index) for index in range(len(paths)) if rng.random() < 0.8]
            if changes and any(not one.status.is_final for one in changes):
                assert opened.record(message, *changes) is None
            opened.spool.release(message)
        opened.commit()
        yield opened


def _state(rng: random.Random, index: int) -> RecipientState:
    statuses = [one for one in RecipientStatus if one is not RecipientStatus.REQUEUED]
    due_at_ns = rng.choice((0, 5, 300, 70_000, 2**40, NOW_NS + rng.randrange(10**12)))
    text, is_warned = rng.choice(TEXTS), rng.random() < 0.5
    return RecipientState(
        index, rng.choice(statuses), rng.randrange(300), due_at_ns, text, is_warned
    )


def indexed(shard: Shard) -> dict[bytes, Message]:
    """The messages as the index has them."""
    ids = list(shard.index())
    (page,) = shard.wait(lambda done: shard.spool.search.find(ids, done))
    assert isinstance(page, search.Page)
    return {message.id: message for message in page.messages}


def rows_of(shard: Shard) -> Rows:
    rows = shard.spool._indexer._index.walking.rows()
    assert rows is not None, "the file of this LMDB is not as expected"
    return rows


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("situation", SITUATIONS, ids=("open", "suspended"))
def test_a_walk_means_what_the_filter_means(
    shard: Shard, text: str, limit: int, situation: Situation
) -> None:
    filter = parse_filter(text).at(situation)
    messages = indexed(shard)
    wanted = {id for id, one in messages.items() if filter.accepts(one, NOW_NS, next_hop)}
    rows, sieve = rows_of(shard), sieve_of(filter, NOW_NS)
    sure: set[bytes] = set()
    unsure: set[bytes] = set()
    after, is_end = b"", False
    while not is_end:
        ids, certain, last, is_end = rows.find(sieve, after, limit, 50)
        assert len(ids) <= limit
        assert last > after or (is_end and not ids)
        after = last
        sure |= {id for id, is_certain in zip(ids, certain, strict=True) if is_certain}
        unsure |= {id for id, is_certain in zip(ids, certain, strict=True) if not is_certain}
    assert sure <= wanted <= sure | unsure
    assert not unsure or "dest:" in text


def test_a_census_comes_to_what_the_messages_come_to(shard: Shard) -> None:
    messages = indexed(shard)
    skipped = sorted(messages)[::3]
    arrived_by = [NOW_NS - 10 * 10**9, NOW_NS - 20 * 10**9, 0]
    rows, sieve = rows_of(shard), sieve_of(parse_filter("status:deferred"), NOW_NS)
    counted = rows.count(sieve, b"", arrived_by, b"".join(skipped), 10, 10**6)
    meant = [
        one
        for id, one in messages.items()
        if id not in skipped and parse_filter("status:deferred").accepts(one, NOW_NS, next_hop)
    ]
    assert counted[0] == len(meant) > 20
    assert counted[1] == sum(one.size_octets for one in meant)
    statuses = [0] * 8
    for one in meant:
        for index in range(len(one.envelope.forward_paths)):
            state = one.states.get(index)
            statuses[0 if state is None else state.status] += 1
    assert counted[2] == statuses
    assert counted[3] == [len(meant), 0, 0]
    assert counted[5] == [min(one.arrived_at_ns for one in meant), 0, 0]
    ages = [0, 0, 0]
    for one in meant:
        ages[next(at for at, by in enumerate(arrived_by) if one.arrived_at_ns >= by)] += 1
    assert counted[4] == ages
    assert counted[6:8] == ([], [])
    assert counted[9]


@pytest.mark.parametrize("is_off", [False, True])
def test_queues_are_counted_as_every_view_has_them(
    shard: Shard, is_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    situation = SITUATIONS[1]
    wanted = dict.fromkeys(range(4), 0)
    for message in indexed(shard).values():
        states = (
            situation.of(message.states.get(index), next_hop(path, message.envelope)).status
            for index, path in enumerate(message.envelope.forward_paths)
        )
        wanted[queue_of(False, states)] += 1
    assert all(wanted[queue] > 10 for queue in range(3))
    monkeypatch.setattr(shard.spool._indexer._index.walking, "is_off", is_off)
    reckoning = Reckoning([0])
    after: bytes | None = b""
    filter = parse_filter("").at(situation)
    while after is not None:
        (slice,) = shard.wait(
            lambda done, at=after: shard.spool.search.reckon(filter, NOW_NS, at, reckoning, done)
        )
        assert isinstance(slice, Slice)
        after = slice.next
    assert reckoning.queues == list(wanted.values())
    assert [bool(one) for one in reckoning.oldest_ns] == [True, True, True, False]


def paged(
    shard: Shard, text: str, situation: Situation, *, is_backward: bool = False, size: int = 100
) -> list[bytes]:
    """All ids that a filter means, page by page."""
    ids: list[bytes] = []
    after: bytes | None = b""
    while after is not None:
        (page,) = shard.wait(
            lambda done, at=after: shard.spool.search.page(
                parse_filter(text).at(situation), NOW_NS, at, size, True, done, is_backward
            )
        )
        assert isinstance(page, search.Page)
        ids += page.ids
        after = page.next
    return ids


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("situation", SITUATIONS, ids=("open", "suspended"))
def test_both_ways_to_look_find_the_same(
    shard: Shard, text: str, situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = paged(shard, text, situation)
    monkeypatch.setattr(shard.spool._indexer._index.walking, "is_off", True)
    assert paged(shard, text, situation) == quick
    assert paged(shard, text, situation, is_backward=True) == quick[::-1]


@pytest.mark.parametrize("text", FILTERS[::3])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pages_from_the_newest_on_are_the_others_reversed(
    shard: Shard, text: str, size: int
) -> None:
    wanted = paged(shard, text, SITUATIONS[1])
    assert paged(shard, text, SITUATIONS[1], is_backward=True, size=size) == wanted[::-1]


def test_damage_is_an_error_and_nothing_worse(shard: Shard) -> None:
    (file,) = shard.root.glob("shard-*/index/data.mdb")
    whole = file.read_bytes()
    assert Rows(whole).find(sieve_of(parse_filter(""), 0), b"", 10, 10**6)[0]
    rng = random.Random(11)
    sieve = sieve_of(parse_filter("to:*u1* code:4*"), NOW_NS)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 10, 300))):
            page = rng.randrange(len(whole) // 4096) * 4096
            at = page + rng.choice((rng.randrange(4096), rng.randrange(64)))
            damaged[at] = rng.choice((0, 255, rng.randrange(256)))
        try:
            rows = Rows(damaged)
            rows.find(sieve, b"", 1000, 10**6)
            rows.find(sieve, b"", 1000, 10**6, True)
            rows.count(sieve, b"", [0], b"", 10, 10**6)
        except ValueError:
            refused += 1
    assert refused > 20
    for octets in (0, 100, 8191, 8192, len(whole) // 2):
        with pytest.raises(ValueError, match="index file"):
            Rows(whole[:octets]).find(sieve, b"", 1000, 10**6)


def test_limits_of_a_sieve() -> None:
    with pytest.raises(ValueError, match="too many"):
        Sieve([(0, [b"x"])] * 33, 0, False)
    with pytest.raises(ValueError, match="too many"):
        Sieve([(0, [b"x"] * 5000)], 0, False)
    with pytest.raises(ValueError, match="kind"):
        Sieve([(7, [b"x"])], 0, False)
