"""DNS messages to answers; every message is taken for hostile."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.route import Answer, AnswerKind, RecordType
from fastmta.route.answer import is_usable_address, read_answer

NOW_S = 5_000.0
TYPES = {"A": RecordType.A, "AAAA": RecordType.AAAA, "MX": RecordType.MX, "PTR": RecordType.PTR}


def response_of(
    question: str, *answer: str, authority: str = "", rcode: dns.rcode.Rcode = dns.rcode.NOERROR
) -> dns.message.Message:
    """`question` is "name type"; records are "name ttl type data"."""
    name, rdtype = question.split(" ")
    response = dns.message.make_response(dns.message.make_query(name, rdtype))
    response.set_rcode(rcode)
    for section, lines in ((response.answer, answer), (response.authority, (authority,))):
        for line in filter(None, lines):
            owner, ttl, kind, data = line.split(" ", 3)
            made = dns.rrset.from_text(owner, int(ttl), "IN", kind, data)
            rrset = response.find_rrset(section, made.name, made.rdclass, made.rdtype, create=True)
            rrset.add(made[0], int(ttl))
    return response


def answer_of(
    question: str, *answer: str, authority: str = "", rcode: dns.rcode.Rcode = dns.rcode.NOERROR
) -> Answer:
    name, rdtype = question.split(" ")
    response = response_of(question, *answer, authority=authority, rcode=rcode)
    wire = dns.message.from_wire(response.to_wire(max_size=65_535))
    return read_answer(wire, name.rstrip("."), TYPES[rdtype], NOW_S)


SOA = "example. 900 SOA ns.example. root.example. 1 3600 600 86400 120"


def test_exchanges_are_sorted_lower_case_and_without_final_dot() -> None:
    answer = answer_of(
        "example. MX", "example. 300 MX 20 B.example.", "example. 300 MX 10 a.Example."
    )
    assert answer.kind is AnswerKind.FOUND
    assert answer.exchanges == ((10, "a.example"), (20, "b.example"))
    assert answer.expires_at_s == NOW_S + 300


def test_null_exchange_is_the_empty_name() -> None:
    assert answer_of("example. MX", "example. 300 MX 0 .").exchanges == ((0, ""),)


@pytest.mark.parametrize(
    "host", ["192.0.2.1.", "a\\.b.example.", "a\\032b.example.", "\\255x.example.", "*.example."]
)
def test_exchange_that_is_no_host_name_is_dropped(host: str) -> None:
    assert answer_of("example. MX", f"example. 300 MX 5 {host}").kind is AnswerKind.INVALID
    both = answer_of("example. MX", f"example. 300 MX 5 {host}", "example. 300 MX 9 ok.example.")
    assert both.exchanges == ((9, "ok.example"),)


def test_ten_thousand_exchanges_keep_the_best() -> None:
    query = dns.message.make_query("example.", "MX")
    response = dns.message.make_response(query)
    records = [f"{number} mx{number}.example." for number in range(9_999, -1, -1)]
    response.answer.append(dns.rrset.from_text_list("example.", 300, "IN", "MX", records))
    answer = read_answer(response, "example", RecordType.MX, NOW_S)
    assert len(answer.exchanges) == 256
    assert answer.exchanges[0] == (0, "mx0.example")


def test_chain_within_one_answer_ends_with_its_shortest_part() -> None:
    answer = answer_of(
        "a.example. A",
        "a.example. 40 CNAME b.example.",
        "b.example. 500 CNAME c.example.",
        "c.example. 300 A 192.0.2.1",
    )
    assert answer.values == ("192.0.2.1",)
    assert answer.expires_at_s == NOW_S + 40


def test_chain_that_leaves_the_answer() -> None:
    answer = answer_of("a.example. A", "a.example. 40 CNAME b.example.")
    assert (answer.kind, answer.alias) == (AnswerKind.ALIAS, "b.example")


def test_chain_to_a_name_without_data() -> None:
    answer = answer_of("a.example. A", "a.example. 40 CNAME b.example.", authority=SOA)
    assert (answer.kind, answer.expires_at_s) == (AnswerKind.NO_DATA, NOW_S + 40)


def test_chain_to_a_name_that_does_not_exist() -> None:
    answer = answer_of(
        "a.example. A",
        "a.example. 400 CNAME b.example.",
        authority=SOA,
        rcode=dns.rcode.NXDOMAIN,
    )
    assert (answer.kind, answer.expires_at_s) == (AnswerKind.NO_NAME, NOW_S + 120)


def test_loop_of_aliases_in_one_answer() -> None:
    answer = answer_of(
        "a.example. A", "a.example. 40 CNAME b.example.", "b.example. 40 CNAME a.example."
    )
    assert answer.kind is AnswerKind.INVALID


def test_records_of_another_class_are_not_looked_at() -> None:
    response = response_of("a.example. A")
    response.answer.append(dns.rrset.from_text("a.example.", 300, "CH", "A", "b.example. 1"))
    assert read_answer(response, "a.example", RecordType.A, NOW_S).kind is AnswerKind.NO_DATA


def test_records_beside_the_chain_are_not_looked_at() -> None:
    answer = answer_of("a.example. A", "evil.example. 300 A 192.0.2.66", authority=SOA)
    assert answer.kind is AnswerKind.NO_DATA


@pytest.mark.parametrize(
    ("rcode", "kind"),
    [
        (dns.rcode.NOERROR, AnswerKind.NO_DATA),
        (dns.rcode.NXDOMAIN, AnswerKind.NO_NAME),
        (dns.rcode.SERVFAIL, AnswerKind.FAILED),
        (dns.rcode.REFUSED, AnswerKind.FAILED),
        (dns.rcode.FORMERR, AnswerKind.FAILED),
        (dns.rcode.YXDOMAIN, AnswerKind.FAILED),
    ],
)
def test_codes(rcode: dns.rcode.Rcode, kind: AnswerKind) -> None:
    assert answer_of("a.example. A", rcode=rcode).kind is kind


@pytest.mark.parametrize(
    ("authority", "ttl_s"),
    [
        (SOA, 120),
        ("example. 50 SOA ns.example. root.example. 1 3600 600 86400 120", 50),
        ("example. 99999 SOA ns.example. root.example. 1 3600 600 86400 99999", 3_600),
        ("", 30),
    ],
)
def test_time_of_negative_answers(authority: str, ttl_s: float) -> None:
    answer = answer_of("a.example. A", authority=authority, rcode=dns.rcode.NXDOMAIN)
    assert answer.expires_at_s == NOW_S + ttl_s


@pytest.mark.parametrize(
    ("address", "is_usable"),
    [
        ("192.0.2.1", True),
        ("127.0.0.1", True),
        ("10.0.0.1", True),
        ("2001:db8::1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("224.0.0.1", False),
        ("239.255.255.255", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("ff02::1", False),
        ("::ffff:0.0.0.0", False),
        ("::ffff:224.0.0.1", False),
        ("::ffff:192.0.2.1", True),
    ],
)
def test_addresses_that_no_mail_server_has(address: str, is_usable: bool) -> None:
    assert is_usable_address(address) is is_usable


def test_unusable_addresses_are_dropped() -> None:
    both = answer_of("a.example. A", "a.example. 9 A 0.0.0.0", "a.example. 9 A 192.0.2.1")
    assert both.values == ("192.0.2.1",)
    assert answer_of("a.example. A", "a.example. 9 A 0.0.0.0").kind is AnswerKind.INVALID


WIRE = response_of(
    "a.example. MX",
    "a.example. 40 CNAME b.example.",
    "b.example. 300 MX 10 mx1.example.",
    "b.example. 300 MX 10 .",
    "b.example. 300 A 192.0.2.1",
    "b.example. 300 AAAA 2001:db8::1",
    "b.example. 300 PTR c.example.",
    authority=SOA,
).to_wire()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(2, len(WIRE) - 1), st.integers(0, 255)), max_size=6))
def test_damaged_message_never_raises_beyond_its_parser(
    changes: list[tuple[int, int]],
) -> None:
    octets = bytearray(WIRE)
    for place, value in changes:
        octets[place] = value
    try:
        message = dns.message.from_wire(bytes(octets))
    except (dns.exception.DNSException, ValueError):
        return
    for rdtype in RecordType:
        assert isinstance(read_answer(message, "a.example", rdtype, NOW_S), Answer)
