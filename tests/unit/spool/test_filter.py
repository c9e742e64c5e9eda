"""The filter language: what is meant, and what an error says."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.message import ClientIdentity, Envelope, Message, RecipientState, RecipientStatus
from fastmta.spool.filter import EXPRESSION_CHARACTERS_MAX, NS, FilterError, parse_filter
from tests.support.spool import NOW_NS, next_hop

QUEUED, DEFERRED = RecipientStatus.QUEUED, RecipientStatus.DEFERRED
HELD, DELIVERED = RecipientStatus.HELD, RecipientStatus.DELIVERED
FAILED = RecipientStatus.FAILED


def message_of(
    *recipients: tuple[bytes, RecipientStatus],
    id: bytes = b"3G0abcABC0000001",
    sender: bytes = b"Ann@Shop.example",
    tenant: str = "acme",
    age_s: float = 7_200.0,
    size: int = 5_000,
) -> Message:
    paths = tuple(path for path, _ in recipients) or (b"bob@one.example",)
    envelope = Envelope(sender, paths, ClientIdentity(), tenant=tenant)
    message = Message(id, envelope, b"x" * size, NOW_NS - int(age_s * NS))
    for index, (_, status) in enumerate(recipients):
        if status is not QUEUED:
            message.states[index] = RecipientState(index, status, 1)
    return message


def means(text: str, message: Message) -> bool:
    return parse_filter(text).accepts(message, NOW_NS, next_hop)


@pytest.mark.parametrize(
    ("text", "is_meant"),
    [
        ("", True),
        ("   ", True),
        ("id:3G0abcABC0000001", True),
        ("id:3g0abcABC0000001", False),
        ("id:3G0*", True),
        ("id:x,3G0*1", True),
        ("from:ann@shop.example", True),
        ("from:@shop.example", True),
        ("from:@hop.example", False),
        ("from:*@*.example", True),
        ("from:<>", False),
        ("to:bob@one.example", True),
        ("to:@one.example,@two.example", True),
        ("to:bob", False),
        ("domain:one.example", True),
        ("domain:*.example", True),
        ("domain:ne.example", False),
        ("dest:one.example", True),
        ("dest:smtp:one.example", True),
        ("dest:two.example", False),
        ("tenant:ACME", True),
        ('tenant:"acme"', True),
        ("tenant:ac", False),
        ("status:queued", True),
        ("status:held,queued", True),
        ("status:held", False),
        ("age>1h", True),
        ("age>2h", False),
        ("age<2.5h", True),
        ("age<90m", False),
        ("size>4k", True),
        ("size>1M", False),
        ("size<5001", True),
        (f"arrived>@{NOW_NS // NS - 7_201}", True),
        (f"arrived<@{NOW_NS // NS - 7_200}", False),
        ("arrived>2020-01-01", True),
        ("arrived>2099-01-01T08:30", False),
        ("arrived<2099-01-01T08:30+02:00", True),
        ("from:@shop.example  to:@one.example\tage>1h", True),
        ("from:@shop.example to:@one.example age>9h", False),
        ("FROM:@SHOP.EXAMPLE", True),
    ],
)
def test_a_queued_message(text: str, is_meant: bool) -> None:
    assert means(text, message_of()) == is_meant


def test_one_recipient_satisfies_all_its_terms() -> None:
    message = message_of((b"a@one.example", HELD), (b"b@two.example", DEFERRED))
    assert means("to:@one.example status:held", message)
    assert not means("to:@two.example status:held", message)
    assert means("status:deferred dest:two.example", message)


def test_a_next_hop_is_meant_as_lists_show_it() -> None:
    """Whatever way leads to it, and whose mail it is."""

    def routed(path: bytes, envelope: Envelope) -> bytes:
        return b"smtp:[192.0.2.1]:2525#second!tls for acme"

    for text, is_meant in {
        "dest:[192.0.2.1]:2525": True,
        "dest:*2525": True,
        "dest:[192.0.2.1]:2525#*": True,
        "dest:[192.0.2.1]": False,
    }.items():
        assert parse_filter(text).accepts(message_of(), NOW_NS, routed) == is_meant, text


def test_final_recipients_are_not_meant_but_failed_ones_if_asked_for() -> None:
    message = message_of(
        (b"a@one.example", DELIVERED), (b"b@two.example", FAILED), (b"c@three.example", DEFERRED)
    )
    assert not means("to:@one.example", message)
    assert not means("to:@two.example", message)
    assert means("to:@two.example status:failed", message)
    assert not means("to:@one.example status:failed", message)


def test_null_reverse_path_and_commas_in_quotation_marks() -> None:
    assert means("from:<>", message_of(sender=b""))
    assert means('tenant:"a, b",c', message_of(tenant="a, b"))
    assert means('tenant:"a, b",c', message_of(tenant="c"))
    assert not means('tenant:"a, b",c', message_of(tenant=""))


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("sender:x", 1, "a field is expected: age, arrived"),
        ("to:x :y", 6, "a field is expected"),
        ("to:x bob@one.example", 6, "a field is expected"),
        ("age:5", 4, '"<" or ">" is expected'),
        ("from>x", 5, '":" is expected'),
        ("from", 5, '":" is expected'),
        ("to:x  from:", 12, "a value is expected"),
        ("age>soon", 5, "an age like"),
        ("age>5y", 5, "an age like"),
        ("size>5m", 6, "a size like"),
        ("arrived>tomorrow", 9, "a time like"),
        ("status:frozen", 8, "'frozen' is no status"),
        ("status:held status:queued", 20, "no recipient has two states"),
        ('tenant:"acme', 8, 'the closing " is missing'),
        ("id:a " * 40, 161, "more than 32 terms"),
        ("id:" + "a" * EXPRESSION_CHARACTERS_MAX, EXPRESSION_CHARACTERS_MAX, "too long"),
    ],
)
def test_an_error_names_the_column(text: str, column: int, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert caught.value.column == column
    assert str(caught.value).startswith(f"column {column}: ")
    assert words in str(caught.value)


@given(st.text(alphabet='to:fromidage<>*," 19@.x\udcff', max_size=60))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    column = 1
    try:
        parse_filter(text).accepts(message_of(), NOW_NS, next_hop)
    except FilterError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1


def test_time_does_not_explode_with_stars() -> None:
    pattern = parse_filter("to:" + "*a" * 60 + "*b")
    message = message_of((b"a" * 300 + b"@one.example", QUEUED))
    begin_s = time.process_time()
    assert not pattern.accepts(message, NOW_NS, next_hop)
    assert time.process_time() - begin_s < 0.1
