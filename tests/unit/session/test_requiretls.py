"""REQUIRETLS (RFC 8689 2): offered and taken inside TLS only, kept with the message."""

from __future__ import annotations

from typing import Any

import pytest

from fastmta.message import Message
from fastmta.session import SessionSettings, State
from tests.support.session import HOSTNAME, Dialog
from tests.support.wire import load_cases


def dialog(*, is_tls: bool, hidden: tuple[str, ...] = (), is_lmtp: bool = False) -> Dialog:
    settings = SessionSettings(HOSTNAME, has_tls=True, discarded=frozenset(hidden), is_lmtp=is_lmtp)
    it = Dialog(settings=settings)
    return it.start_tls() if is_tls else it.hello()


def finish(it: Dialog) -> Message:
    """The rest of a transaction; the message that was stored."""
    assert it.codes(b"RCPT TO:<c@d.example>\r\n") == ["250"]
    assert it.codes(b"DATA\r\n") == ["354"]
    assert it.codes(b"TLS-Required: No\r\nSubject: x\r\n\r\n.\r\n") == ["250"]
    return it.accept.messages[-1]


@pytest.mark.parametrize("case", load_cases("requiretls"))
def test_vector(case: Any) -> None:
    it = dialog(is_tls=case["tls"], hidden=tuple(case.get("hidden", ())))
    assert it.send(case["mail"].encode() + b"\r\n") == [case["reply"]]
    if "kept" in case:
        assert finish(it).envelope.is_tls_required is case["kept"]
    else:
        assert it.session.state is State.READY
        assert not it.session.transaction.is_tls_required


@pytest.mark.parametrize(
    ("is_tls", "hidden", "expected"),
    [(False, (), False), (True, (), True), (True, ("REQUIRETLS",), False)],
)
def test_offer(is_tls: bool, hidden: tuple[str, ...], expected: bool) -> None:
    lines = dialog(is_tls=is_tls, hidden=hidden).send(b"EHLO c.example\r\n")
    assert any(line[4:] == "REQUIRETLS" for line in lines) is expected


def test_it_ends_with_its_transaction() -> None:
    it = dialog(is_tls=True)
    assert it.codes(b"MAIL FROM:<a@b.example> REQUIRETLS\r\n") == ["250"]
    assert finish(it).envelope.is_tls_required
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
    assert not finish(it).envelope.is_tls_required
    assert it.codes(b"MAIL FROM:<a@b.example> REQUIRETLS\r\nRSET\r\n") == ["250", "250"]
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
    assert not finish(it).envelope.is_tls_required


def test_a_refused_mail_requires_nothing_of_the_next_one() -> None:
    it = dialog(is_tls=True)
    assert it.codes(b"MAIL FROM:<a@b.example> REQUIRETLS X=1\r\n") == ["555"]
    assert it.codes(b"MAIL FROM:<a@b.example>\r\n") == ["250"]
    assert not finish(it).envelope.is_tls_required


def test_after_helo_it_is_taken_as_the_other_parameters_are() -> None:
    it = dialog(is_tls=True)
    it.send(b"HELO c.example\r\n")
    assert it.codes(b"MAIL FROM:<a@b.example> REQUIRETLS\r\n") == ["250"]
    assert finish(it).envelope.is_tls_required
