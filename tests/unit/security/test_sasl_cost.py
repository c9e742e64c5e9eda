"""What a response costs the event loop: nothing is done with the characters of a long field."""

import time
import unicodedata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastmta.security import password as room
from fastmta.security.bearer import BearerExchange
from fastmta.security.password import NAME_OCTETS_MAX, PASSWORD_OCTETS_MAX, BadPassword
from fastmta.security.plain import LoginExchange, PlainExchange
from fastmta.security.scram import ScramExchange
from fastmta.security.users import BadLine, Users, parse_line
from fastmta.smtp.limit import AUTH_LINE_OCTETS_MAX
from fastmta.smtp.sasl import Exchange
from tests.support.sasl import CLIENT, FakeChecker, turn

MARKS = ("a" + "\u0301\u0323" * 6000).encode()[: AUTH_LINE_OCTETS_MAX - 40]  # NFKC is quadratic
LIGATURES = ("\ufdfa" * 4000).encode()  # 18 characters each under NFKC
COST_S = 0.005  # a tenth of what these cost when they were prepared first


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Octets of every text that was normalised."""
    seen: list[int] = []

    def normalize(form: Any, text: str) -> str:
        seen.append(len(text.encode("utf-8")))
        return unicodedata.normalize(form, text)

    monkeypatch.setattr(room, "unicodedata", SimpleNamespace(normalize=normalize))
    return seen


def plain() -> Exchange:
    return PlainExchange(FakeChecker(), CLIENT)


def login() -> Exchange:
    return LoginExchange(FakeChecker(), CLIENT)


def xoauth2() -> Exchange:
    return BearerExchange(FakeChecker(), CLIENT, "XOAUTH2")


def oauthbearer() -> Exchange:
    return BearerExchange(FakeChecker(), CLIENT, "OAUTHBEARER")


def scram() -> Exchange:
    verifiers: Any = SimpleNamespace(elsewhere=lambda *_: None, verifier=lambda *_: None)
    return ScramExchange(verifiers, CLIENT, lambda: b"x" * 18)


RESPONSES: list[tuple[Callable[[], Exchange], list[bytes]]] = [
    (plain, [b"\0%s\0x"]),
    (plain, [b"%s\0alice\0x"]),
    (plain, [b"\0alice\0%s"]),
    (login, [b"%s"]),
    (login, [b"alice", b"%s"]),
    (xoauth2, [b"user=%s\x01auth=Bearer x\x01\x01"]),
    (oauthbearer, [b"n,a=%s,\x01auth=Bearer x\x01\x01"]),
    (scram, [b"n,,n=%s,r=abc"]),
    (scram, [b"n,a=%s,n=alice,r=abc"]),
]


@pytest.mark.parametrize("field", [MARKS, LIGATURES, MARKS[: 2 * 900]])
@pytest.mark.parametrize(("begin", "responses"), RESPONSES)
def test_long_field_is_refused_before_it_is_prepared(
    prepared: list[int], begin: Callable[[], Exchange], responses: list[bytes], field: bytes
) -> None:
    spent_s = 1.0
    for _ in range(3):
        exchange = begin()
        began_s = time.perf_counter()
        for response in responses:
            turn(exchange, response % field if b"%s" in response else response)
        spent_s = min(spent_s, time.perf_counter() - began_s)
    assert max(prepared, default=0) <= NAME_OCTETS_MAX
    assert spent_s < COST_S


@pytest.mark.parametrize("text", ["\u0301\u0323" * 600, "\ufdfa" * 400, "x" * 1100, "\ud800" * 400])
def test_long_text_is_refused_before_it_is_prepared(prepared: list[int], text: str) -> None:
    for prepare in (room.prepare_name, room.prepare_password):
        with pytest.raises(BadPassword, match="longer than"):
            prepare(text)
    with pytest.raises(BadLine, match="longer than"):
        parse_line(f"{text}:$scrypt$")
    assert prepared == []
    assert not Users.build((), b"k" * 32).check("alice", text)


def test_what_grows_while_it_is_prepared_is_not_looked_at_any_further(
    prepared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(room.stringprep, "in_table_c5", lambda each: bool(looked.append(each)))
    with pytest.raises(BadPassword, match="longer than"):
        room.prepare_password("\ufdfa" * (PASSWORD_OCTETS_MAX // 3))
    assert prepared
    assert looked == []
