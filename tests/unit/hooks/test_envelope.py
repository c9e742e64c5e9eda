"""What a handler does to its envelope is what is stored; what cannot be stored is answered 451."""

import asyncio
from email import message_from_bytes
from typing import Any

import msgspec
import pytest

from fastmta.message.envelope import DSNRequest
from fastmta.session.port import HookArgument
from fastmta.smtp import Verb
from fastmta.smtp.limit import LINE_OCTETS_HARD
from fastmta.smtp.reply import R354_END_WITH_DOT, R503_NEED_RCPT
from tests.support.hooking import CONTENT, R451, TRACE, TRANSACTION, World, play, with_hooks


class Changing:
    """Its handle_DATA does something to the envelope."""

    def __init__(self, change: Any, answer: str = "250 OK") -> None:
        self.change = change
        self.answer = answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.change(envelope)
        return self.answer


def setting(**values: Any) -> Any:
    def change(envelope: Any) -> None:
        for name, value in values.items():
            setattr(envelope, name, value)

    return change


def stored(change: Any, script: Any = TRANSACTION, **options: Any) -> Any:
    said, world = play(Changing(change), script, **options)
    assert said[-2] == "250 2.0.0 Ok: queued as Q"
    assert world.notes == []
    (message,) = world.stored
    return message


def test_nothing_changed_is_the_same_message() -> None:
    kept = []

    async def scenario(world: World) -> None:
        session = world.session()
        await session.play(TRANSACTION[:4])
        message = session.message(CONTENT)
        kept.extend((message.content, message.envelope))
        told: list[Any] = []
        session.hook.content(message, told.append)
        while not told:
            await asyncio.sleep(0.005)
        assert told == [None]
        assert message.content is kept[0]
        assert message.envelope is kept[1]

    with_hooks(Changing(lambda envelope: None), scenario)


CONTENTS = [
    (b"a: b\n\nx\n", b"a: b\r\n\r\nx\r\n"),
    (b"a: b\r\n\r\nx", b"a: b\r\n\r\nx\r\n"),
    (b"a: b\r\r\n\nx\r", b"a: b\r\n\r\n\r\nx\r\n"),
    (b"a: b\n\r\n.\n", b"a: b\r\n\r\n.\r\n"),
    (bytearray(b"a: b\n"), b"a: b\r\n"),
    ("a: ä\n", "a: ä\r\n".encode()),
    ("a: \udcff\n", b"a: \xff\r\n"),
    (b"", b""),
    (b"Bcc: x@y\r\n z\r\na: b\r\nBCC: q@r\r\n\r\nBcc: body\r\n", b"a: b\r\n\r\nBcc: body\r\n"),
    (b"x" * (LINE_OCTETS_HARD - 2) + b"\r\n", b"x" * (LINE_OCTETS_HARD - 2) + b"\r\n"),
]


@pytest.mark.parametrize(("content", "expected"), CONTENTS, ids=range(len(CONTENTS)))
def test_content_is_stored_canonically_behind_our_trace(content: Any, expected: bytes) -> None:
    message = stored(setting(content=content))
    assert message.content == TRACE + expected
    assert message.size_octets == len(message.content)
    assert message.envelope.is_8bit is not expected.isascii()


def test_message_id_is_that_of_the_new_content() -> None:
    message = stored(setting(content=b"Message-ID: <new@example>\n\n"))
    assert message.message_id_field == b"<new@example>"


def test_content_of_the_email_package() -> None:
    def change(envelope: Any) -> None:
        parsed = message_from_bytes(envelope.content)
        parsed["X-Checked"] = "yes"
        envelope.content = parsed.as_bytes()

    message = stored(change)
    assert message.content == TRACE + CONTENT.replace(b"\r\n\r\n", b"\r\nX-Checked: yes\r\n\r\n")


def test_original_content_alone_changes_nothing() -> None:
    assert stored(setting(original_content=b"other")).content == TRACE + CONTENT


BAD = [
    ({"content": b"a\0b\r\n"}, "NUL"),
    ({"content": None}, "NoneType"),
    ({"content": 7}, "int"),
    ({"content": ["a: b"]}, "list"),
    ({"content": b"x" * (LINE_OCTETS_HARD + 1) + b"\r\n"}, "line of more than"),
    ({"content": b"a\n" * 60000}, "are allowed"),
    ({"content": "\ud800"}, "UnicodeEncodeError"),
    ({"mail_from": None}, "NoneType"),
    ({"mail_from": b"a@example.com"}, "bytes"),
    ({"mail_from": "two words@example.com extra"}, "no address"),
    ({"mail_from": "a@example.com> SIZE=1"}, "no address"),
    ({"mail_from": "a@example.com>\r\nRCPT TO:<b@example.com"}, "no address"),
    ({"mail_from": "a@example.com\0"}, "no address"),
    ({"mail_from": "nodomain"}, "no address"),
    ({"mail_from": "@route:a@example.com"}, "no address"),
    ({"mail_from": "a" * 5000 + "@example.com"}, "no address"),
    ({"rcpt_tos": None}, "NoneType"),
    ({"rcpt_tos": "one@example.com"}, "str, not list"),
    ({"rcpt_tos": [None]}, "NoneType"),
    ({"rcpt_tos": [""]}, "no address"),
    ({"rcpt_tos": ["<>"]}, "no address"),
    ({"rcpt_tos": ["one@example.com", "a@b c@d"]}, "no address"),
    ({"rcpt_tos": ["a@example.com> NOTIFY=NEVER"]}, "no address"),
    ({"rcpt_tos": ["user"]}, "no address"),
]


@pytest.mark.parametrize(("values", "text"), BAD, ids=[str(bad[0])[:40] for bad in BAD])
def test_what_cannot_be_stored_is_refused_and_said(values: Any, text: str) -> None:
    said, world = play(Changing(setting(**values)), message_octets_max=100_000)
    assert said[-2] == R451
    assert world.stored == []
    (note,) = world.notes
    assert note.startswith("127.0.0.1: what the handler left cannot be stored: ")
    assert text in note
    assert note.isprintable()
    assert len(note) < 300


@pytest.mark.parametrize("name", ["content", "mail_from", "rcpt_tos", "smtp_utf8"])
def test_attribute_that_is_gone_is_refused(name: str) -> None:
    said, world = play(Changing(lambda envelope: delattr(envelope, name)))
    assert said[-2] == R451
    assert len(world.notes) == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", b""),
        ("<>", b""),
        ("Other@EXAMPLE.org", b"Other@example.org"),
        ('"a b"@example.com', b'"a b"@example.com'),
        ("sender@example.com", b"sender@example.com"),
    ],
)
def test_reverse_path_is_what_the_handler_left(text: str, path: bytes) -> None:
    assert stored(setting(mail_from=text)).envelope.reverse_path == path


@pytest.mark.parametrize(
    ("texts", "paths"),
    [
        (["two@example.com", "one@example.com"], (b"two@example.com", b"one@example.com")),
        (["three@example.com"], (b"three@example.com",)),
        (("one@example.com",) * 3, (b"one@example.com",)),
        (["one@example.com", "ONE@Example.COM"], (b"one@example.com", b"ONE@example.com")),
    ],
)
def test_forward_paths_are_what_the_handler_left(texts: Any, paths: Any) -> None:
    message = stored(setting(rcpt_tos=texts))
    assert message.envelope.forward_paths == paths
    assert message.pending == len(paths)


def test_message_without_recipients_is_discarded() -> None:
    said, world = play(Changing(setting(rcpt_tos=[]), "250 2.0.0 eaten"))
    assert said[-2] == "250 2.0.0 eaten"
    assert world.stored == []
    assert world.notes == ["127.0.0.1: the handler left no recipient: discarded"]


def test_refused_message_is_not_examined() -> None:
    said, world = play(Changing(setting(content=7), "550 no"))
    assert said[-2] == "550 no"
    assert world.notes == []


def test_recipients_that_hooks_rewrote_are_stored_without_handle_data() -> None:
    class Aliases:
        async def handle_MAIL(self, server, session, envelope, address, options):
            envelope.mail_from = "bounces@example.org"
            return "250 OK"

        async def handle_RCPT(self, server, session, envelope, address, options):
            envelope.rcpt_tos += [f"{n}.{address}" for n in range(2)]
            return "250 OK"

    _, world = play(Aliases())
    envelope = world.stored[0].envelope
    assert envelope.reverse_path == b"bounces@example.org"
    assert envelope.forward_paths == (
        b"0.one@example.com",
        b"1.one@example.com",
        b"0.two@example.com",
        b"1.two@example.com",
    )


def test_dsn_requests_follow_their_recipients() -> None:
    async def scenario(world: World) -> None:
        session = world.session()
        await session.play(TRANSACTION[:4])
        message = session.message(CONTENT)
        dsn = DSNRequest("FULL", b"id", ("NEVER", "DELAY"), (b"rfc822;one",))
        envelope = msgspec.structs.replace(message.envelope, dsn=dsn)
        await session.content(CONTENT, envelope=envelope)

    texts = ["new@example.com", "two@example.com", "one@example.com"]
    world = with_hooks(Changing(setting(rcpt_tos=texts)), scenario)
    dsn = world.stored[0].envelope.dsn
    assert dsn == DSNRequest("FULL", b"id", ("", "DELAY", "NEVER"), (b"", b"", b"rfc822;one"))


def test_utf8_of_the_transaction_is_kept_and_may_be_changed() -> None:
    script = (TRANSACTION[0], b"MAIL FROM:<a@example.com> SMTPUTF8", *TRANSACTION[2:])
    kept = []
    message = stored(lambda envelope: kept.append(envelope.smtp_utf8), script)
    assert kept == [True]
    assert message.envelope.is_utf8 is False  # the session did not say so of its envelope
    assert stored(setting(smtp_utf8=True)).envelope.is_utf8 is True


class KeepsNobody:
    """Its handle_RCPT says yes and forgets to say to whom."""

    def __init__(self, spoil: Any) -> None:
        self.spoil = spoil
        self.asked = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, *rest: Any) -> str:
        self.spoil(envelope)
        return "250 OK"


class KeepsNobodyAtAll(KeepsNobody):
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.asked += 1
        return "250 OK"


@pytest.mark.parametrize("mode", ["filter", "sink"])
@pytest.mark.parametrize("kind", [KeepsNobody, KeepsNobodyAtAll])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda envelope: None,
        setting(rcpt_tos=None),
        lambda envelope: vars(envelope).pop("rcpt_tos", 0),
    ],
)
def test_message_without_recipients_is_refused_not_discarded(
    spoil: Any, kind: Any, mode: str
) -> None:
    """By DATA, by BDAT, and when neither was asked about."""
    handler = kind(spoil)

    async def scenario(world: World) -> None:
        session = world.session()
        assert {Verb.DATA, Verb.BDAT} <= session.hook.stages
        assert [said[:3] for said in await session.play(TRANSACTION[:4])] == ["250"] * 4
        for verb in (Verb.DATA, Verb.BDAT):
            told: list[Any] = []
            session.hook.ask(verb, HookArgument(b"", b"", (), R354_END_WITH_DOT), told.append)
            assert told == [R503_NEED_RCPT]
        assert (await session.content(CONTENT)).startswith("503")
        assert world.stored == []

    with_hooks(handler, scenario, mode=mode)
    assert handler.asked == 0


def test_objects_without_their_fields_are_answered() -> None:
    said, world = play(KeepsNobody(lambda envelope: vars(envelope).clear()), TRANSACTION[:4])
    assert said[2:] == ["250 OK", R451]
    assert world.notes == [
        "127.0.0.1: what the handler left of its objects cannot be used: "
        "AttributeError: 'Envelope' object has no attribute 'mail_from'"
    ]


def test_content_that_is_not_in_memory_is_answered() -> None:
    async def scenario(world: World) -> None:
        session = world.session()
        await session.play(TRANSACTION[:4])
        assert await session.content(b"", content=None) == R451
        assert len(world.notes) == 1

    with_hooks(Changing(lambda envelope: None), scenario)
