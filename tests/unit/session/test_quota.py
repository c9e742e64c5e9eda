"""What a client may use up: the replies of Postfix, and nothing done."""

from __future__ import annotations

from fastmta.event import CommandRefused
from fastmta.session import SessionSettings, State
from fastmta.smtp.use import Use
from tests.support.session import HOSTNAME, Dialog, FakeAuthenticate, FakeQuota, accepting

STRANGER = "192.0.2.1"


def dialog(quota: FakeQuota, address: str = STRANGER, **more: int) -> Dialog:
    settings = SessionSettings(HOSTNAME, has_auth=True, **more)
    authenticate = FakeAuthenticate([accepting()])
    return Dialog(address, settings, ["d.example"], quota=quota, authenticate=authenticate).hello()


def test_messages() -> None:
    it = dialog(FakeQuota({Use.MESSAGE: 1}))
    assert it.codes(b"MAIL FROM:<a@b.example>\r\nRSET\r\n") == ["250", "250"]
    assert it.send(b"MAIL FROM:<a@b.example>\r\n") == [
        "450 4.7.1 Error: too much mail from unknown[192.0.2.1]"
    ]
    assert it.session.state is State.READY
    assert [type(event) for event in it.events] == [CommandRefused]


def test_recipients() -> None:
    it = dialog(FakeQuota({Use.RECIPIENT: 1}))
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    assert it.send(b"RCPT TO:<c@d.example>\r\nRCPT TO:<e@d.example>\r\n") == [
        "250 2.1.5 Ok",
        "450 4.7.1 Error: too many recipients from unknown[192.0.2.1]",
    ]
    assert list(it.session.transaction.forward_paths) == [b"c@d.example"]


def test_whoever_is_exempt_is_not_counted_until_a_login() -> None:
    quota = FakeQuota({Use.MESSAGE: 1000})
    it = dialog(quota, "127.0.0.1")
    it.send(b"MAIL FROM:<>\r\nRSET\r\n")
    assert [use for use, *_ in quota.spent if use is Use.MESSAGE] == []
    it.send(b"AUTH PLAIN AAAA\r\n")
    it.send(b"MAIL FROM:<>\r\n")
    assert (Use.MESSAGE, "127.0.0.1", "user@client.example") in quota.spent


def test_recipients_over_the_limit_are_452_and_no_error_of_the_client() -> None:
    it = dialog(FakeQuota(), recipients_max=2)
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    codes = it.codes(b"".join(b"RCPT TO:<%d@d.example>\r\n" % n for n in range(102)))
    assert codes == ["250"] * 2 + ["452"] * 100
    assert not it.session.delay_s
    assert not it.session.is_closing
    it.send(b"DATA\r\n")
    assert it.codes(b"x\r\n.\r\n") == ["250"]


def test_recipients_without_end_are_an_error_in_the_end() -> None:
    it = dialog(FakeQuota(), recipients_max=2)
    it.send(b"MAIL FROM:<a@b.example>\r\n")
    it.send_in_pieces(b"RCPT TO:<%d@d.example>\r\n" % n for n in range(1100))
    assert it.session.is_closing
    assert len(it.session.transaction.forward_paths) == 0
