"""Addresses in the log that nobody shall read: the masks, and that nothing of any event escapes."""

import time
from urllib.parse import quote, unquote

import pytest

from fastmta.event import (
    ClientConnected,
    CommandRefused,
    Event,
    MessageActive,
    MessageExpired,
    MessageReceived,
    Notice,
    RecipientTried,
)
from fastmta.event.hold import RecipientHeld
from fastmta.event.security import LoginRefused
from fastmta.journal import LineRenderer, Origin
from fastmta.journal.anonymise import Anonymiser
from fastmta.journal.mask import Mask, network_of
from fastmta.journal.record import RecordRenderer

SMART = {
    "demo@example.org": "d*o@*******.org",
    "x@example.com": "x*x@*******.com",
    '"much.more unusual"@example.com': '"m*l"@*******.com',
    "example-indeed@strange-example.com": "e*d@***************.com",
    "admin@mailserver1": "a*n@***********",
    "user@[127.0.0.1]": "u*r@[*.*.*.*]",
    "user@[IPv6:2001:db8::1]": "u*r@[IPv6:***********]",
    "Pelé@example.com": "P*é@*******.com",
    "joe": "j*e",
}
PARANOID = {
    "demo@example.org": "*@*.org",
    "admin@mailserver1": "*@*",
    "user@[127.0.0.1]": "*@[*]",
    "user@[IPv6:2001:db8::1]": "*@[IPv6:*]",
    "joe": "*",
}


@pytest.mark.parametrize(
    ("mode", "address", "masked"),
    [("smart", *one) for one in SMART.items()] + [("paranoid", *one) for one in PARANOID.items()],
)
def test_mask(mode: str, address: str, masked: str) -> None:
    mask = Mask(mode)
    assert mask.address(address) == masked
    assert mask.octets(address.encode()) == masked.encode()
    assert mask.address("") == ""


def test_a_hash_is_the_same_each_time_and_needs_the_salt() -> None:
    mask = Mask("hash", "hello world")
    known = "3052a860ddfde8b50e39843d8f1c9f591bec442823d97948b811d38779e2c757"
    assert mask.address("prettyandsimple@example.com") == known
    assert Mask("hash", "other").address("prettyandsimple@example.com") != known


SENDER, RECIPIENT = b"sue.secret@hidden.example", "jörg geheim@verborgen.example".encode()
ODD = b'"odd one"@[192.0.2.77]'
SECRETS = (b"sue.secret", b"hidden", "jörg".encode(), b"geheim", b"verborgen", b"odd one", b"third")
LOGIN = "sue.secret@hidden.example"
TEXT = (
    f"host mx.example[192.0.2.9] said: 550 5.1.1 <{RECIPIENT.decode()}>: not {ODD.decode()}, "
    "ask third@party.example or sue.secret@hidden.example"
)
EVENTS: tuple[Event, ...] = (
    CommandRefused("c.example[192.0.2.7]", "RCPT", TEXT, b"", SENDER, RECIPIENT, helo=SENDER,
                   login=LOGIN),
    MessageReceived(b"780pWym00000000K", "c.example[192.0.2.7]", b"<third@hidden.example>", LOGIN),
    LoginRefused("c.example[192.0.2.7]", "PLAIN", LOGIN, f"no such user: {LOGIN}"),
    MessageActive(b"780pWym00000000K", SENDER, 1, 1),
    MessageReceived(b"780pWym00000000K", "c.example[192.0.2.7]", b"", LOGIN, tenant=LOGIN),
    MessageReceived(b"780pWym00000000K", "c.example[192.0.2.7]", b"", "hidden", tenant="hidden"),
    RecipientTried(b"780pWym00000000K", RECIPIENT, "mx.example[192.0.2.9]:25", (0, 0, 0, 0),
                   "5.1.1", "bounced", TEXT, reverse_path=ODD,
                   next_hop=b"smtp:mx.example:25#first/hidden!requiretls for sue.secret@hidden.x"),
    RecipientHeld(b"780pWym00000000K", SENDER, RECIPIENT, TEXT),
    MessageExpired(b"780pWym00000000K", ODD),
    Notice("smtp", "third@party.example asks for sue.secret@hidden.example"),
)  # fmt: skip


@pytest.mark.parametrize("mode", ["smart", "paranoid", "hash"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_no_address_of_an_event_is_in_its_line_or_record(mode: str, event: Event) -> None:
    origin = Origin("relay.example", "postfix", 42)
    shown = Anonymiser(Mask(mode, "salt"), hides_clients=False).hide([event])
    lines, _ = LineRenderer(origin).render(shown, 1762153200)
    records, _ = RecordRenderer(origin).render(shown, 1762153200.0)
    for octets in (lines, records):
        assert not [secret for secret in SECRETS if secret in octets], octets
    if not isinstance(event, MessageActive | MessageExpired | Notice):
        assert b"192.0.2." in lines  # clients and servers are no people


def test_what_has_no_address_is_left_alone() -> None:
    mask = Mask("smart")
    text = "250 2.0.0 Ok: queued as 4F7Kq2"
    assert mask.text(text, b"s@a.example") == text
    assert mask.text("mail to @ nobody, 5 @ 3") == "mail to @ nobody, 5 @ 3"


def test_a_long_text_takes_no_time_to_speak_of() -> None:
    mask = Mask("smart")
    begun_s = time.thread_time()
    for _ in range(100):
        assert mask.text("x" * 4_000 + " @") == "x" * 4_000 + " @"
    assert time.thread_time() - begun_s < 0.5  # it was 1.5 s
    assert mask.text("x" * 400 + "@a.example, b@c.example") == "x*x@*.example, b*b@*.example"


def test_where_mail_goes_is_shown_and_whose_it_is_is_not() -> None:
    mask = Mask("paranoid")
    for next_hop, shown in (
        (b"smtp:mx.example:25#first/joe!requiretls for joe@x.example",
         b"smtp:mx.example:25#first/*!requiretls for *@*.example"),
        (b"smtp:[192.0.2.9]:25", b"smtp:[192.0.2.9]:25"),
        (b"discard:for for for", b"discard:for for for"),
    ):  # fmt: skip
        tried = RecipientTried(b"ID", b"", "", (0, 0, 0, 0), "", "sent", "", next_hop=next_hop)
        (event,) = Anonymiser(mask, hides_clients=False).hide([tried])
        assert isinstance(event, RecipientTried)
        assert event.next_hop == shown


@pytest.mark.parametrize(
    ("tenant", "shown"),
    [("192.0.2.7", "192.0.2.0"), ("2001:db8:1:2::/64", "2001:db8:1::"), ("gold/a", "gold/a")],
)
def test_a_client_that_is_its_own_tenant(tenant: str, shown: str) -> None:
    hide = Anonymiser(None, hides_clients=True).hide
    hop = b"smtp:mx.example:25 for "
    received, tried = hide(
        [
            MessageReceived(b"ID", "c.example[192.0.2.7]", b"", tenant=tenant),
            RecipientTried(b"ID", b"", "", (0, 0, 0, 0), "", "sent", "",
                           next_hop=hop + quote(tenant).encode()),
        ]
    )  # fmt: skip
    assert isinstance(received, MessageReceived)
    assert isinstance(tried, RecipientTried)
    assert received.tenant == shown
    assert unquote(tried.next_hop.decode()) == (hop.decode() + shown)


def test_clients_by_their_networks() -> None:
    hide = Anonymiser(None, hides_clients=True).hide
    reply = "450 4.7.1 Error: too many from c.example[192.0.2.7]"
    refused = CommandRefused("c.example[192.0.2.7]", "MAIL", reply, b"", SENDER, helo=b"pc.example")
    events = hide(
        [
            ClientConnected("c.example[2001:db8:1:2::7]"),
            refused,
            Notice("smtpd", "SSL_accept error from unknown[192.0.2.7]: no"),
            Notice("smtp", "connect to mx.example[192.0.2.9]:25: refused"),
            MessageReceived(b"ID", "", b"<1@x>"),
        ]
    )
    lines, _ = LineRenderer(Origin("r", "postfix", 1)).render(events, 1762153200)
    assert b"c.example" not in lines
    assert b"pc.example" not in lines
    assert b"192.0.2.7" not in lines
    assert b"unknown[2001:db8:1::]" in lines
    assert b"too many from unknown[192.0.2.0]; from=<sue.secret" in lines
    assert b"mx.example[192.0.2.9]" in lines
    assert network_of("not an address") == "not an address"
