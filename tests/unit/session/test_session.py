"""The inbound session: every command in every state, and what refusals leave behind."""

from typing import Any

import pytest

from fastmta.event import ClientDisconnected, CommandRefused, MessageReceived
from fastmta.session import ContentRoom, SessionSettings, State
from fastmta.smtp import Verb
from fastmta.smtp import reply as replies
from tests.support.session import HOSTNAME, Dialog, FakeAccept

MAIL = b"MAIL FROM:<a@client.example>\r\n"
RCPT = b"RCPT TO:<b@dest.example>\r\n"
CONTENT = b"Subject: x\r\n\r\nbody\r\n.\r\n"

REACH = {
    State.CONNECTED: b"",
    State.READY: b"EHLO c\r\n",
    State.MAIL: b"EHLO c\r\n" + MAIL,
    State.RCPT: b"EHLO c\r\n" + MAIL + RCPT,
}


def in_state(state: State, **more: Any) -> Dialog:
    dialog = Dialog(**more)
    for line in REACH[state].splitlines(keepends=True):
        dialog.send(line)
    assert dialog.session.state is state
    dialog.lines()
    return dialog


COMMANDS = {
    Verb.HELO: b"HELO c\r\n",
    Verb.EHLO: b"EHLO c\r\n",
    Verb.MAIL: MAIL,
    Verb.RCPT: RCPT,
    Verb.DATA: b"DATA\r\n",
    Verb.RSET: b"RSET\r\n",
    Verb.NOOP: b"NOOP\r\n",
    Verb.VRFY: b"VRFY <x@y>\r\n",
    Verb.HELP: b"HELP\r\n",
    Verb.QUIT: b"QUIT\r\n",
    Verb.UNKNOWN: b"FROBNICATE\r\n",
    Verb.STARTTLS: b"STARTTLS\r\n",
    Verb.AUTH: b"AUTH PLAIN AAAA\r\n",
    Verb.BDAT: b"BDAT 3 LAST\r\nabc",
    Verb.EXPN: b"EXPN list\r\n",
    Verb.XCLIENT: b"XCLIENT ADDR=192.0.2.1\r\n",
    Verb.XFORWARD: b"XFORWARD ADDR=192.0.2.1\r\n",
    Verb.LHLO: b"LHLO c\r\n",
}
C, R, M, P = State.CONNECTED, State.READY, State.MAIL, State.RCPT
# verb: (code, state afterwards) by state before
EXPECTED = {
    Verb.HELO: {C: ("250", R), R: ("250", R), M: ("250", R), P: ("250", R)},
    Verb.EHLO: {C: ("250", R), R: ("250", R), M: ("250", R), P: ("250", R)},
    Verb.MAIL: {C: ("503", C), R: ("250", M), M: ("503", M), P: ("503", P)},
    Verb.RCPT: {C: ("503", C), R: ("503", R), M: ("250", P), P: ("250", P)},
    Verb.DATA: {C: ("503", C), R: ("503", R), M: ("554", M), P: ("354", State.CONTENT)},
    Verb.RSET: {C: ("250", C), R: ("250", R), M: ("250", R), P: ("250", R)},
    Verb.NOOP: {C: ("250", C), R: ("250", R), M: ("250", M), P: ("250", P)},
    Verb.VRFY: {C: ("252", C), R: ("252", R), M: ("252", M), P: ("252", P)},
    Verb.HELP: {C: ("214", C), R: ("214", R), M: ("214", M), P: ("214", P)},
    Verb.QUIT: dict.fromkeys((C, R, M, P), ("221", State.CLOSED)),
    Verb.UNKNOWN: {s: ("500", s) for s in (C, R, M, P)},
    Verb.STARTTLS: {s: ("502", s) for s in (C, R, M, P)},
    Verb.AUTH: {s: ("503", s) for s in (C, R, M, P)},
    Verb.BDAT: {
        C: ("503", C),
        R: ("503", R),
        M: ("554", State.BROKEN),
        P: ("250", R),
    },
    Verb.EXPN: {s: ("502", s) for s in (C, R, M, P)},
    Verb.XCLIENT: {C: ("550", C), R: ("550", R), M: ("503", M), P: ("503", P)},
    Verb.XFORWARD: {C: ("550", C), R: ("550", R), M: ("503", M), P: ("503", P)},
    Verb.LHLO: {s: ("500", s) for s in (C, R, M, P)},
}


@pytest.mark.parametrize("state", [C, R, M, P], ids=lambda state: state.name)
@pytest.mark.parametrize("verb", EXPECTED, ids=lambda verb: verb.name)
def test_each_verb_in_each_state(verb: Verb, state: State) -> None:
    dialog = in_state(state)
    code, after = EXPECTED[verb][state]
    assert dialog.codes(COMMANDS[verb]) == [code]
    assert dialog.session.state is after


def test_greeting_names_the_host_and_esmtp() -> None:
    assert Dialog().lines() == [f"220 {HOSTNAME} ESMTP fastmta"]


def test_ehlo_offers_what_is_implemented_in_postfix_order() -> None:
    lines = Dialog().send(b"EHLO c\r\n")[1:]
    assert lines == [
        f"250-{HOSTNAME}",
        "250-PIPELINING",
        "250-SIZE 26214400",
        "250-VRFY",
        "250-ENHANCEDSTATUSCODES",
        "250-8BITMIME",
        "250-DSN",
        "250-SMTPUTF8",
        "250-CHUNKING",
        "250 LIMITS MAILMAX=10000 RCPTMAX=1000",
    ]


def test_a_message_is_stored_canonical_behind_our_received_field() -> None:
    dialog = in_state(P)
    dialog.send(b"DATA\r\n")
    lines = dialog.send(b"Subject: x\r\n\r\n..dot\r\nlast\r\n.\r\n")
    (message,) = dialog.accept.messages
    assert lines == [f"250 2.0.0 Ok: queued as {message.id.decode()}"]
    assert message.content == (
        b"Received: from c (unknown [127.0.0.1])\r\n"
        b"\tby relay.example (fastmta) with ESMTP id " + message.id + b"\r\n"
        b"\tfor <b@dest.example>; Tue, 14 Nov 2023 22:13:20 +0000 (UTC)\r\n"
        b"Subject: x\r\n\r\n.dot\r\nlast\r\n"
    )
    assert message.envelope.reverse_path == b"a@client.example"
    assert message.envelope.forward_paths == (b"b@dest.example",)
    assert [type(event) for event in dialog.events] == [MessageReceived]


def test_no_250_before_the_spool_has_it() -> None:
    dialog = in_state(P, accept=FakeAccept(is_late=True))
    dialog.send(b"DATA\r\n")
    assert dialog.send(CONTENT) == []
    assert dialog.session.state is State.COMMITTING
    assert dialog.send(b"NOOP\r\nRSET\r\n") == [], "pipelined input waits for the reply"
    dialog.accept.store_all()
    assert [line[:3] for line in dialog.lines()] == ["250", "250", "250"]
    assert dialog.session.state is State.READY


def test_a_failed_flush_is_answered_451_and_leaves_no_transaction() -> None:
    dialog = in_state(P, accept=FakeAccept(error=OSError("disk")))
    assert dialog.codes(b"DATA\r\n") == ["354"]
    assert dialog.send(CONTENT) == ["451 4.3.0 Error: queue file write error"]
    assert dialog.events == [], "nothing was received"
    assert dialog.codes(b"DATA\r\n") == ["503"]


def test_a_client_that_left_before_the_flush_is_not_written_to() -> None:
    dialog = in_state(P, accept=FakeAccept(is_late=True))
    dialog.send(b"DATA\r\n")
    dialog.send(CONTENT)
    dialog.session.ended("lost connection")
    dialog.accept.store_all()
    assert dialog.lines() == []
    assert len(dialog.accept.messages) == 1


REFUSED_CONTENT = {
    "bare_lf": (b"a\nb\r\n.\r\n", "550", True),
    "bare_cr": (b"a\rb\r\n.\r\n", "550", True),
    "nul": (b"a\0b\r\n.\r\n", "550", False),
    "too_big": (b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20 + b".\r\n", "552", False),
    "line_too_long": (b"z" * 70_000 + b"\r\n.\r\n", "554", False),
    "hops": (b"Received: x\r\n" * 51 + b"\r\n.\r\n", "554", False),
    "header_fields": (b"A: b\r\n" * 60 + b"\r\n.\r\n", "554", False),
}


@pytest.mark.parametrize("name", REFUSED_CONTENT)
def test_refused_content_leaves_no_transaction(name: str) -> None:
    content, code, is_closing = REFUSED_CONTENT[name]
    settings = SessionSettings(
        HOSTNAME,
        line_endings="reject",
        message_octets_max=1000 if name == "too_big" else 200_000,
        header_fields_max=1000 if name == "hops" else 50,
    )
    dialog = in_state(P, settings=settings)
    dialog.send(b"DATA\r\n")
    assert dialog.codes(content) == [code]
    assert dialog.accept.messages == []
    assert dialog.session.is_closing is is_closing
    (refused,) = dialog.events
    assert isinstance(refused, CommandRefused)
    assert refused.stage == "END-OF-MESSAGE"
    if not is_closing:
        assert dialog.session.state is State.READY
        assert dialog.codes(b"DATA\r\n") == ["503"]
        assert dialog.codes(b"RCPT TO:<x@y.example>\r\n") == ["503"]


def test_trusted_clients_bare_line_ends_are_repaired_before_storing() -> None:
    dialog = in_state(P)
    dialog.send(b"DATA\r\n")
    assert dialog.codes(b"one\ntwo\rthree\r\n.\r\n") == ["250"]
    (message,) = dialog.accept.messages
    assert message.content is not None
    assert message.content.endswith(b"\r\none\r\ntwo three\r\n")


def test_bcc_fields_are_dropped_and_nothing_else() -> None:
    dialog = in_state(P)
    dialog.send(b"DATA\r\n")
    dialog.send(
        b"To: x\r\nBcc: a,\r\n b\r\nSubject: bcc: stays\r\nresent-BCC: c\r\n\r\nBcc: body\r\n.\r\n"
    )
    (message,) = dialog.accept.messages
    assert message.content is not None
    assert message.content.endswith(b")\r\nTo: x\r\nSubject: bcc: stays\r\n\r\nBcc: body\r\n")


def test_over_size_content_that_never_ends_closes_the_connection() -> None:
    dialog = in_state(P, settings=SessionSettings(HOSTNAME, message_octets_max=1000))
    dialog.send(b"DATA\r\n")
    for _ in range(60):
        dialog.send(b"x" * 60 + b"\r\n")
        if dialog.session.is_closing:
            break
    assert dialog.session.is_closing
    assert dialog.accept.messages == []


def test_size_parameter_is_checked_at_mail() -> None:
    dialog = in_state(R, settings=SessionSettings(HOSTNAME, message_octets_max=1000))
    assert dialog.send(b"MAIL FROM:<a@b.example> SIZE=1001\r\n") == [
        "552 5.3.4 Message size exceeds fixed limit"
    ]
    assert dialog.session.state is State.READY
    assert dialog.codes(b"MAIL FROM:<a@b.example> SIZE=1000 BODY=8BITMIME\r\n") == ["250"]


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"MAIL FROM:<a@b.example> FOO=bar\r\n", "555 5.5.4 Unsupported option: FOO=bar"),
        (b"MAIL FROM:<a@b.example> SIZE=+5\r\n", "501 5.5.4 Bad message size syntax"),
        (b"MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n", "501 5.5.4 Bad message body syntax"),
        (b"MAIL\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        (b"MAIL FROM:<@>\r\n", "501 5.1.7 Bad sender address syntax"),
    ],
)
def test_bad_mail_changes_nothing(line: bytes, reply: str) -> None:
    dialog = in_state(R)
    assert dialog.send(line) == [reply]
    assert dialog.session.state is State.READY


def test_storage_trouble_is_answered_at_mail_and_is_transient() -> None:
    accept = FakeAccept(refuses=replies.R452_STORAGE_FULL)
    dialog = in_state(R, accept=accept)
    assert dialog.send(MAIL) == ["452 4.3.1 Insufficient system storage"]
    assert dialog.session.state is State.READY


def test_relay_is_denied_to_strangers_and_the_transaction_goes_on() -> None:
    dialog = in_state(M, address="192.0.2.7", domains=["ours.example", ".sub.example"])
    assert dialog.send(b"RCPT TO:<x@theirs.example>\r\n") == [
        "554 5.7.1 <x@theirs.example>: Relay access denied"
    ]
    assert dialog.codes(b"DATA\r\n") == ["554"]
    assert dialog.codes(b"RCPT TO:<x@OURS.example>\r\n") == ["250"]
    assert dialog.codes(b"RCPT TO:<x@a.b.sub.example>\r\n") == ["250"]
    assert dialog.codes(b"RCPT TO:<x@sub.example>\r\n") == ["554"]
    assert dialog.codes(b"RCPT TO:<Postmaster>\r\n") == ["250"]
    assert dialog.codes(b"RCPT TO:<nobody>\r\n") == ["501"]


@pytest.mark.parametrize(
    "path",
    [
        b"<u@ext.example>", b"<u%ext.example@ours.example>", b"<ext.example!u@ours.example>",
        b'<"u@ext.example"@ours.example>', b'<"u%ext.example"@ours.example>',
        b"<u@ext.example@ours.example>", b"<@ours.example:u@ext.example>",
        b"<@ours.example,@x.example:u@ext.example>", b"<u@ext.example.>", b"<u@EXT.EXAMPLE>",
        b"<u@[192.0.2.9]>", b"<u@[IPv6:::ffff:192.0.2.9]>", b"<u@ext.example\0ours.example>",
        b"<>", b"<ext.example!u>", b'<"u@ext.example">', b"<u@xn--9ca.example>",
        b"<u@ours.example.ext.example>", b"<u@notours.example>",
    ],
)  # fmt: skip
def test_open_relay_attempts_of_a_stranger_are_refused(path: bytes) -> None:
    dialog = in_state(M, address="192.0.2.7", domains=["ours.example"])
    (code,) = dialog.codes(b"RCPT TO:" + path + b"\r\n")
    assert code.startswith("5")
    assert dialog.accept.messages == []


def test_unqualified_addresses_of_trusted_clients_get_the_origin() -> None:
    dialog = in_state(R)
    assert dialog.codes(b"MAIL FROM:<app>\r\n") == ["250"]
    assert dialog.codes(b"RCPT TO:<root>\r\n") == ["250"]
    dialog.send(b"DATA\r\n")
    dialog.send(CONTENT)
    (message,) = dialog.accept.messages
    assert message.envelope.reverse_path == b"app@origin.example"
    assert message.envelope.forward_paths == (b"root@origin.example",)


def test_too_many_recipients_are_refused_one_by_one() -> None:
    dialog = in_state(M, settings=SessionSettings(HOSTNAME, recipients_max=2))
    codes = [dialog.codes(b"RCPT TO:<r%d@x.example>\r\n" % n)[0] for n in range(3)]
    assert codes == ["250", "250", "452"]
    assert dialog.codes(b"DATA\r\n") == ["354"]


def test_a_recipient_named_twice_gets_one_copy() -> None:
    dialog = in_state(P)
    assert dialog.codes(b"RCPT TO:<b@DEST.example>\r\n") == ["250"]
    dialog.send(b"DATA\r\n")
    dialog.send(CONTENT)
    assert dialog.accept.messages[0].envelope.forward_paths == (b"b@dest.example",)


def test_contents_share_a_room_and_give_it_back() -> None:
    room = ContentRoom(250_000)
    one, two = in_state(P, room=room), in_state(P, room=room)
    assert one.codes(b"DATA\r\n") == ["354"]
    one.send((b"x" * 70 + b"\r\n") * 2000)
    assert room.used > 140_000
    assert two.send(b"DATA\r\n") == ["452 4.3.1 Insufficient system storage"]
    assert two.session.state is State.READY
    assert one.codes(b".\r\n") == ["250"]
    assert room.used == 0
    for line in (MAIL, RCPT):
        two.send(line)
    assert two.codes(b"DATA\r\n") == ["354"]
    two.session.ended("lost connection")
    assert room.used == 0


def test_content_that_outgrows_the_room_is_a_transient_refusal() -> None:
    room = ContentRoom(100_000)
    one, two = in_state(P, room=room), in_state(P, room=room)
    one.send(b"DATA\r\n")
    room.take(30_000)
    for _ in range(3):
        one.send((b"x" * 70 + b"\r\n") * 1000)
    assert one.session.is_closing
    assert room.used == 30_000
    room.give(30_000)
    assert two.codes(b"DATA\r\n") == ["354"]


def test_room_is_held_until_the_flush_even_if_the_client_leaves() -> None:
    room = ContentRoom(200_000)
    dialog = in_state(P, room=room, accept=FakeAccept(is_late=True))
    dialog.send(b"DATA\r\n")
    dialog.send(CONTENT)
    dialog.session.ended("lost connection")
    assert room.used > 0
    dialog.accept.store_all()
    assert room.used == 0


def test_errors_are_delayed_then_end_the_session() -> None:
    settings = SessionSettings(HOSTNAME, errors_soft=2, errors_hard=4)
    dialog = in_state(R, settings=settings)
    dialog.send(b"X\r\nX\r\n")
    assert dialog.session.delay_s == 0
    assert dialog.codes(b"NOOP\r\nX\r\nNOOP\r\n") == ["250"], "what came before is answered"
    assert dialog.session.delay_s > 0
    dialog.out += dialog.session.resume()
    assert [line[:3] for line in dialog.lines()] == ["500", "250"]
    lines = dialog.send(b"X\r\n")
    assert lines[-1] == f"421 4.7.0 {HOSTNAME} Error: too many errors"
    assert dialog.session.is_closing


def test_junk_commands_between_messages_become_errors() -> None:
    settings = SessionSettings(HOSTNAME, junk_commands_max=5, errors_soft=100, errors_hard=3)
    dialog = in_state(R, settings=settings)
    for _ in range(20):
        dialog.send(b"NOOP\r\n")
        if dialog.session.is_closing:
            break
    assert dialog.session.is_closing


def test_junk_commands_are_counted_inside_a_transaction() -> None:
    settings = SessionSettings(HOSTNAME, junk_commands_max=5, errors_soft=100, errors_hard=3)
    dialog = in_state(R, settings=settings)
    dialog.send(MAIL)
    assert dialog.codes(b"NOOP\r\n" * 9)[-1] == "421"
    assert dialog.session.is_closing


def test_a_mailbox_named_again_and_again_counts_as_a_recipient() -> None:
    dialog = in_state(R, settings=SessionSettings(HOSTNAME, recipients_max=3))
    dialog.send(MAIL)
    assert [dialog.codes(RCPT)[0] for _ in range(4)] == ["250", "250", "250", "452"]
    dialog.send(b"DATA\r\n")
    dialog.send(CONTENT)
    assert len(dialog.accept.messages[0].envelope.forward_paths) == 1
    dialog.send(MAIL)
    assert dialog.codes(RCPT) == ["250"], "the count is the message's"


def test_a_last_reply_is_not_held_back_as_a_penalty() -> None:
    dialog = in_state(R, settings=SessionSettings(HOSTNAME, errors_soft=1, errors_hard=9))
    dialog.send(b"X\r\n")
    assert dialog.codes(b"EHLO c\r\nNOOP\r\n") == ["554"]
    assert dialog.session.is_closing
    assert dialog.session.delay_s == 0


def test_messages_per_session_are_limited() -> None:
    dialog = in_state(R, settings=SessionSettings(HOSTNAME, messages_max=1))
    dialog.send(MAIL)
    dialog.send(RCPT)
    dialog.send(b"DATA\r\n")
    dialog.send(CONTENT)
    assert dialog.codes(MAIL) == ["421"]
    assert dialog.session.is_closing


@pytest.mark.parametrize("line", [b"NOOP\n\r\n", b"NO\rOP\r\n", b"NOOP\0\r\n"])
def test_bare_line_ends_and_nul_in_commands_close(line: bytes) -> None:
    dialog = in_state(R)
    assert dialog.codes(line) == ["500"]
    assert dialog.session.is_closing


def test_an_over_long_command_is_answered_once_and_survived() -> None:
    dialog = in_state(R)
    assert dialog.codes(b"NOOP " + b"x" * 5000 + b"\r\n") == ["500"]
    assert dialog.codes(b"NOOP\r\n") == ["250"]


@pytest.mark.parametrize("line", [b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n", b"HELO c\r\nNOOP\r\n"])
def test_commands_sent_before_the_hello_reply_close(line: bytes) -> None:
    dialog = Dialog()
    dialog.lines()
    assert dialog.codes(line) == ["554"]
    assert dialog.session.is_closing


def test_content_before_354_closes() -> None:
    dialog = in_state(P)
    assert dialog.codes(b"DATA\r\n" + CONTENT) == ["554"]
    assert dialog.session.is_closing
    assert dialog.accept.messages == []


def test_pipelined_envelope_is_answered_in_order_in_one_write() -> None:
    dialog = in_state(R)
    assert dialog.codes(MAIL + RCPT + RCPT + b"DATA\r\n") == ["250", "250", "250", "354"]


def test_disconnect_line_counts_what_was_accepted() -> None:
    dialog = in_state(M)
    dialog.send(b"RCPT TO:<>\r\n")
    dialog.send(RCPT)
    event = dialog.session.ended("lost connection")
    assert isinstance(event, ClientDisconnected)
    assert event.verbs == {"ehlo": (1, 1), "mail": (1, 1), "rcpt": (1, 2)}
    assert (event.reason, event.stage) == ("lost connection", "RCPT")


def test_helo_text_cannot_break_the_received_field() -> None:
    dialog = Dialog()
    dialog.send(b"EHLO a\tb\x80\x01(c)\r\n")
    for line in (MAIL, RCPT, b"DATA\r\n", CONTENT):
        dialog.send(line)
    content = dialog.accept.messages[0].content
    assert content is not None
    assert content.startswith(b"Received: from a?b??(c) (unknown [127.0.0.1])\r\n")


@pytest.mark.parametrize("hello", [b"", b"HELO c\r\n"])
def test_pipelining_that_was_not_offered_ends_the_session(hello: bytes) -> None:
    dialog = Dialog()
    dialog.send(hello)
    assert dialog.codes(b"NOOP\r\nNOOP\r\n")[-1] == "554"
    assert dialog.session.is_closing


def test_after_helo_one_command_at_a_time_is_fine_and_so_is_one_behind_the_dot() -> None:
    dialog = Dialog()
    for line in (b"HELO c\r\n", MAIL, RCPT, b"DATA\r\n", CONTENT + b"NOOP\r\n"):
        codes = dialog.codes(line)
    assert codes == ["250", "250"]


@pytest.mark.parametrize("verb", [b"RSET", b"QUIT"])
def test_an_argument_where_there_is_none(verb: bytes) -> None:
    dialog = in_state(M)
    assert dialog.codes(verb + b" x\r\n") == ["501"]
    assert dialog.session.state is M
