"""Addresses in what programs write: found, and found in their places."""

from __future__ import annotations

import time
from email.utils import getaddresses

from hypothesis import given
from hypothesis import strategies as st

from fastmta.drop.address import parse_addresses
from fastmta.drop.grammar import _local_part, parse_list
from fastmta.drop.mailbox import Mailbox

WORD = st.text("abcXYZ019-_", min_size=1, max_size=6)
ADDRESS = st.builds("{}@{}.test".format, WORD, WORD)
COMMENT = st.sampled_from(["", " (c)", " (a (b) c)", "\t(x\\) y)"])
NAME = st.one_of(WORD, st.sampled_from(['"Last, First"', '"a@b.test"', '"q \\" q"', "Two Words"]))
MAILBOX = st.one_of(
    st.builds("{}{}".format, ADDRESS, COMMENT),
    st.builds("{} <{}>{}".format, NAME, ADDRESS, COMMENT),
)


PIECES = st.lists(
    st.sampled_from([*b'ab@.,<> \t\n("', 0xE9]).map(lambda octet: bytes((octet,))), max_size=14
).map(b"".join)


def facts(mailboxes: list[Mailbox]) -> list[tuple[bytes, bool, int]]:
    return [(one.octets, one.is_qualified, one.end) for one in mailboxes]


@given(PIECES)
def test_the_short_way_says_what_the_grammar_says(text: bytes) -> None:
    assert facts(parse_addresses(text)) == facts(parse_list(text))


def found(text: bytes) -> list[bytes]:
    return [mailbox.octets for mailbox in parse_addresses(text)]


@given(st.lists(MAILBOX, max_size=5), st.sampled_from([", ", ",\r\n\t", " ,"]))
def test_lists_are_read_as_the_standard_library_does(mailboxes: list[str], comma: str) -> None:
    text = comma.join(mailboxes)
    wanted = [address for _, address in getaddresses([text]) if address]
    assert [octets.decode() for octets in found(text.encode())] == wanted


@given(st.binary(max_size=200))
def test_anything_is_read_to_its_end(text: bytes) -> None:
    for mailbox in parse_addresses(text):
        assert mailbox.octets
        assert 0 < mailbox.end <= len(text)


@given(st.lists(WORD, min_size=1, max_size=4))
def test_a_domain_can_be_put_behind_each_name(names: list[str]) -> None:
    text = ", ".join(names).encode()
    for mailbox in reversed(parse_addresses(text)):
        assert not mailbox.is_qualified
        text = text[: mailbox.end] + b"@x.test" + text[mailbox.end :]
    assert text == ", ".join(f"{name}@x.test" for name in names).encode()


def test_odd_forms() -> None:
    assert found(b"a b@c.test") == [b"a", b"b@c.test"]
    assert found(b"<a@b.test") == [b"a@b.test"]
    assert found(b"<a@b.test, c@d.test") == [b"a@b.test", b"c@d.test"]
    assert found(b"<@x.test,@y.test:a@b.test>") == [b"a@b.test"]
    assert found(b"a@[IPv6:2001:db8::1]") == [b"a@[IPv6:2001:db8::1]"]
    assert found(b'"unended') == [b"unended"]
    assert found(b"(unended a@b.test") == []
    assert found(b"a@b@c.test") == [b'"a@b"@c.test']
    assert found(b"grp: ; a@b.test") == [b"a@b.test"]
    assert found(b",,;<>") == []
    assert found(b"a . b @ c . test") == [b"a.b@c.test"]


def test_a_name_of_very_many_words_takes_no_time_to_speak_of() -> None:
    begin_s = time.process_time()
    made = _local_part([b"a", b"."] * 200_000)
    assert time.process_time() - begin_s < 2.0
    assert len(made) == 400_002
