"""LMTP (RFC 2033): LHLO, and a reply for each recipient behind the content."""

from __future__ import annotations

from fastmta.session import SessionSettings
from tests.support.session import HOSTNAME, Dialog, FakeAccept

LMTP = SessionSettings(HOSTNAME, is_lmtp=True)
TWO = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@d.example>\r\n"


def dialog(accept: FakeAccept | None = None) -> Dialog:
    it = Dialog(settings=LMTP, accept=accept)
    assert it.lines() == [f"220 {HOSTNAME} LMTP fastmta"]
    assert it.codes(b"LHLO c\r\n") == ["250"]
    return it


def test_ehlo_and_helo_are_no_commands_of_lmtp() -> None:
    it = Dialog(settings=LMTP)
    it.lines()
    assert it.codes(b"EHLO c\r\n") == it.codes(b"HELO c\r\n") == ["500"]
    assert it.codes(b"LHLO\r\n") == ["501"]


def test_each_recipient_has_its_reply() -> None:
    it = dialog()
    it.send(TWO + b"RCPT TO:<c@d.example>\r\nDATA\r\n")
    assert it.codes(b"\r\n.\r\n") == ["250", "250", "250"], "one that is named twice, twice"
    (message,) = it.accept.messages
    assert message.envelope.client.protocol == "LMTP"
    assert message.envelope.forward_paths == (b"c@d.example", b"e@d.example")


def test_a_refused_recipient_has_none() -> None:
    it = dialog()
    it.send(TWO)
    assert it.codes(b"RCPT TO:<bad\r\n") == ["501"]
    it.send(b"DATA\r\n")
    assert it.codes(b"\r\n.\r\n") == ["250", "250"]


def test_refusals_of_a_content_come_once_for_each_recipient() -> None:
    it = dialog(FakeAccept(error=OSError("disk")))
    it.send(TWO + b"DATA\r\n")
    assert it.codes(b"\r\n.\r\n") == ["451", "451"]
    it.send(TWO + b"DATA\r\n")
    assert it.codes(b"x\0\r\n.\r\n") == ["550", "550"]


def test_chunks_have_one_reply_but_the_last() -> None:
    it = dialog()
    it.send(TWO)
    assert it.codes(b"BDAT 2\r\n\r\nBDAT 0 LAST\r\n") == ["250", "250", "250"]
