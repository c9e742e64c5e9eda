"""The same handlers under aiosmtpd's own server and under ours: calls, arguments, replies."""

import asyncio
import contextvars
from typing import Any

import pytest
from aiosmtpd.smtp import MISSING, Envelope, Session

from tests.support.hooking import CONTENT, TRANSACTION, codes, oracle, play

pytestmark = pytest.mark.filterwarnings("ignore")  # aiosmtpd warns of its old forms

SECOND = (b"MAIL FROM:<> BODY=8BITMIME", b"RCPT TO:<one@example.com>", b"DATA", b"\r\n", b"QUIT")
COMMANDS = (
    b"HELO client.example",
    b"NOOP",
    b"NOOP anything",
    b"EHLO client.example",
    b"VRFY someone@example.com",
    b"RSET",
    *TRANSACTION[1:-1],
    *SECOND,
)


class Recorder:
    """Notes each hook call: name, types and values of arguments, and the objects' state."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def note(self, name: str, server: Any, session: Any, envelope: Any, *more: Any) -> None:
        assert type(session) is Session
        assert type(envelope) is Envelope
        assert session.peer[0] == "127.0.0.1"
        assert isinstance(session.peer[1], int)
        assert session.loop is asyncio.get_running_loop()
        assert server.session is session
        assert server.envelope is envelope
        assert server.event_handler is self
        assert server.hostname == "relay.example"
        assert server.transport.get_extra_info("peername") == session.peer
        shown = [[type(one).__name__, one] for one in more]
        if name == "EHLO" and len(more) == 2:  # which extensions are offered is the server's own
            shown[1] = ["list", [more[1][0], more[1][-1]]]
        state = {
            "host_name": session.host_name,
            "extended": session.extended_smtp,
            "mail_from": envelope.mail_from,
            "mail_options": list(envelope.mail_options),
            "rcpt_tos": list(envelope.rcpt_tos),
            "rcpt_options": list(envelope.rcpt_options),
            "utf8": envelope.smtp_utf8,
            "content": envelope.content,
            "original": envelope.original_content,
        }
        self.calls.append((name, shown, state))


class Every(Recorder):
    """Every hook, done as aiosmtpd's documentation asks."""

    async def handle_HELO(self, server, session, envelope, hostname):
        self.note("HELO", server, session, envelope, hostname)
        session.host_name = hostname
        return f"250 {server.hostname} hello"

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        self.note("EHLO", server, session, envelope, hostname, responses)
        session.host_name = hostname
        return [responses[0], "250-X-MINE", "250 HELP"]

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        self.note("MAIL", server, session, envelope, address, mail_options)
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return "250 2.1.0 sender taken"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        self.note("RCPT", server, session, envelope, address, rcpt_options)
        await asyncio.sleep(0)
        if address.startswith("two"):
            return "550 5.1.1 nobody of that name"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "251 will forward"

    async def handle_DATA(self, server, session, envelope):
        self.note("DATA", server, session, envelope)
        return "554-5.6.0 first\r\n554 5.6.0 second"

    async def handle_RSET(self, server, session, envelope):
        self.note("RSET", server, session, envelope)
        return "250 2.0.0 reset"

    async def handle_NOOP(self, server, session, envelope, arg):
        self.note("NOOP", server, session, envelope, arg)
        return f"250 noop {arg}"

    async def handle_VRFY(self, server, session, envelope, address):
        self.note("VRFY", server, session, envelope, address)
        return "252 who knows"

    async def handle_QUIT(self, server, session, envelope):
        self.note("QUIT", server, session, envelope)
        return "221 2.0.0 so long"


class OldEhlo(Recorder):
    """The form of handle_EHLO with four arguments, which pushes lines itself."""

    async def handle_EHLO(self, server, session, envelope, hostname):
        self.note("EHLO", server, session, envelope, hostname)
        session.host_name = hostname
        await server.push("250-X-PUSHED")
        return "250 HELP"


class ForgetsHostName(Recorder):
    """Its EHLO hook does not set what it has to: MAIL is out of order then."""

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        self.note("EHLO", server, session, envelope, hostname, responses)
        return responses


class ForgetsSender(Recorder):
    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        self.note("MAIL", server, session, envelope, address, mail_options)
        return "250 OK"


class ForgetsRecipients(Recorder):
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        self.note("RCPT", server, session, envelope, address, rcpt_options)
        return "250 OK"


class SaysMissing(Recorder):
    """MISSING means: as if there were no such hook."""

    async def handle_HELO(self, server, session, envelope, hostname):
        return MISSING

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        self.note("MAIL", server, session, envelope, address, mail_options)
        return MISSING

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        self.note("RCPT", server, session, envelope, address, rcpt_options)
        return MISSING

    async def handle_DATA(self, server, session, envelope):
        self.note("DATA", server, session, envelope)
        return MISSING

    async def handle_NOOP(self, server, session, envelope, arg):
        return MISSING


class Legacy(Recorder):
    """process_message, from before there were hooks."""

    def process_message(self, peer, mailfrom, rcpttos, data):
        self.calls.append(("message", type(peer).__name__, mailfrom, list(rcpttos), data))


class LegacyCoroutine(Recorder):
    async def process_message(self, peer, mailfrom, rcpttos, data):
        self.calls.append(("message", peer[0], mailfrom, list(rcpttos), data))
        return "554 not this one"


class Bytes(Recorder):
    async def handle_DATA(self, server, session, envelope):
        return b"552 5.2.2 as octets"


class KeepsThings(Recorder):
    """What is put on session and envelope stays there: one for the connection, one per mail."""

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        session.count = getattr(session, "count", 0) + 1
        envelope.note = session.count
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        return f"550 {session.count} {envelope.note}"

    async def handle_RSET(self, server, session, envelope):
        return f"250 {session.count} {hasattr(envelope, 'note')}"


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class UsesContext(Recorder):
    """All hooks of a connection share one context, also across what they wait for."""

    async def handle_NOOP(self, server, session, envelope, arg):
        variable.set(variable.get() + arg)
        async with asyncio.timeout(5):  # needs a task
            await asyncio.sleep(0.001)
        assert asyncio.current_task() is not None
        return f"250 {variable.get()}"


TRANSACTIONS = (*TRANSACTION[:-1], b"RSET", *TRANSACTION[1:-1], b"QUIT")
NOOPS = (b"EHLO client.example", b"NOOP a", b"NOOP b", b"QUIT")
HELLOS = (b"HELO client.example", *TRANSACTION)
TABLE = [
    (Every, COMMANDS),
    (OldEhlo, TRANSACTION),
    (ForgetsHostName, TRANSACTION[:2]),
    (ForgetsSender, TRANSACTION[:3]),
    (ForgetsRecipients, TRANSACTION[:5]),
    (SaysMissing, HELLOS),
    (Legacy, TRANSACTION),
    (LegacyCoroutine, TRANSACTION),
    (Bytes, TRANSACTION),
    (KeepsThings, TRANSACTIONS),
    (UsesContext, NOOPS),
]


def without_status(said: list[str]) -> list[str]:
    """A reply of a server's own is compared by code, one of a hook's by all of it."""
    own = ("2.0.0 Ok", "2.1.0 Ok", "2.1.5 Ok", "OK", "5.5.1 Error", "Error", "Bye", "2.0.0 Bye")
    own = (*own, "End data", "2.0.0 Cannot", "Cannot")
    return [each[:3] if each[4:].startswith(own) else each for each in said]


@pytest.mark.parametrize(("kind", "script"), TABLE, ids=[kind.__name__ for kind, _ in TABLE])
def test_handler_meets_the_same_server(kind: Any, script: Any) -> None:
    theirs, ours = kind(), kind()
    expected = oracle(theirs, script)
    said, world = play(ours, script)
    assert codes(said) == codes(expected)
    assert ours.calls == theirs.calls
    if kind is OldEhlo:  # it has the server's own extensions in it
        assert said[0].split("\n")[-2:] == expected[0].split("\n")[-2:]
        said, expected = said[1:], expected[1:]
    if kind is not ForgetsHostName:
        shown = [each for each in without_status(said) if not each.startswith("250-relay")]
        wanted = [each for each in without_status(expected) if not each.startswith("250-relay")]
        assert [each.removeprefix("250 relay.example") for each in shown] == [
            each.removeprefix("250 relay.example") for each in wanted
        ]
    assert world.notes == []


@pytest.mark.parametrize("decode_data", [False, True])
def test_content_is_what_aiosmtpd_hands_over(decode_data: bool) -> None:
    content = "Subject: ä\r\n\r\n.dot\r\nä\r\n".encode()

    class Keep:
        async def handle_DATA(self, server, session, envelope):
            self.kept = (envelope.content, envelope.original_content, server.data_size_limit)
            return "250 OK"

    # With decode_data aiosmtpd takes no BODY.
    before = (b"EHLO a", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.com>", b"DATA")
    script = (*before, content)
    theirs, ours = Keep(), Keep()
    stuffed = (*before, content.replace(b"\r\n.", b"\r\n.."))
    oracle(theirs, stuffed, decode_data=decode_data)
    _, world = play(ours, script, decode_data=decode_data, message_octets_max=33554432)
    assert ours.kept == theirs.kept
    assert isinstance(ours.kept[0], str if decode_data else bytes)
    assert [one.content.endswith(content) for one in world.stored] == [True]


ADDRESSES = [
    b"MAIL FROM:<Sender@Example.COM>",
    b'MAIL FROM:<"a b"@example.com>',
    b"MAIL FROM:<user@[127.0.0.1]>",
    b"MAIL FROM:<user>",
    b"MAIL FROM:<>",
    b"MAIL FROM:<user@example.com> SMTPUTF8",
    b"MAIL FROM:<user@example.com> body=8bitmime size=99",
]


@pytest.mark.parametrize("line", ADDRESSES)
def test_address_is_told_as_by_aiosmtpd(line: bytes) -> None:
    class Sender(Recorder):
        async def handle_MAIL(self, server, session, envelope, address, mail_options):
            self.note("MAIL", server, session, envelope, address, mail_options)
            envelope.mail_from = address
            return "250 OK"

    theirs, ours = Sender(), Sender()
    script = (b"EHLO client.example", line)
    assert codes(play(ours, script)[0]) == codes(oracle(theirs, script)) == ["250", "250"]
    assert ours.calls == theirs.calls


class Lists:
    """Lists of lines, one after the other."""

    def __init__(self) -> None:
        self.answers = iter([["250-a", "250-b", "250 c"], ["550 5.7.1 go away"], [b"250 z"]])

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return next(self.answers)


def test_ehlo_list_may_be_anything_that_is_a_reply() -> None:
    said, _ = play(Lists(), (b"EHLO a",) * 3)
    assert said == ["250-a\n250-b\n250 c", "550 5.7.1 go away", "250 z"]
    assert said == oracle(Lists(), (b"EHLO a",) * 3)


def test_content_that_is_accepted_is_answered_by_us_or_by_a_sink() -> None:
    class Accepts:
        async def handle_DATA(self, server, session, envelope):
            return "250 2.6.0 mine now"

    said, world = play(Accepts())
    assert said[-2] == "250 2.0.0 Ok: queued as Q"
    assert [one.content.endswith(CONTENT) for one in world.stored] == [True]
    said, world = play(Accepts(), mode="sink")
    assert said[-2] == "250 2.6.0 mine now" == oracle(Accepts())[-2]
    assert world.stored == []
