"""DSN parameters (RFC 3461) and SMTPUTF8 (RFC 6531) on the way out: said where offered, or not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmta.delivery.command import encode_flight
from fastmta.delivery.state import State, Step
from fastmta.delivery.transaction import Extras, Transaction
from fastmta.message import Outcome, OutcomeKind, Scope
from fastmta.message.envelope import DSNRequest
from fastmta.smtp import Extensions
from tests.support.talking import (
    CONTENT,
    DATA_OK,
    DOT_OK,
    MAIL_OK,
    PATHS,
    RCPT_OK,
    converse,
    make_transaction,
    open_dialog,
    sent,
)

UTF8_PATH = "jörg@bücher.example".encode()
UTF8_CONTENT = "Subject: grüße\r\n\r\ntext\r\n".encode()
EXTENSIONS = {"PIPELINING", "SIZE 5000", "8BITMIME", "DSN", "SMTPUTF8"}
WHOLE = DSNRequest(
    "HDRS", b"QQ+2B1", ("SUCCESS,FAILURE", "NEVER"), (b"rfc822;a+2Bb@c", b"x400;/S+3Db/")
)
TEXT = "SMTPUTF8 is required, but was not offered by host mx.example[192.0.2.1]"


def ehlo(*missing: str) -> bytes:
    """A reply to EHLO that offers all that is known here but these."""
    lines = ["mx.example", *sorted(EXTENSIONS - set(missing))]
    ends = ["-"] * (len(lines) - 1) + [" "]
    joined = (f"250{end}{line}\r\n" for end, line in zip(ends, lines, strict=True))
    return "".join(joined).encode()


def extras(
    dsn: DSNRequest | None = None,
    *,
    is_utf8: bool = False,
    indices: tuple[int, ...] = (0, 1),
    has_ascii_header: bool | None = None,
) -> Extras:
    return Extras(dsn, indices, is_utf8, has_ascii_header)


def said(extensions: bytes, transaction: Transaction) -> list[bytes]:
    """The commands of the transaction up to its content, all of them granted."""
    dialog = open_dialog(extensions)
    step = dialog.begin(transaction)
    commands = sent(dialog)
    for reply in (MAIL_OK, *[RCPT_OK] * len(transaction.forward_paths), DATA_OK, DOT_OK):
        assert step is Step.WAIT
        step = dialog.receive(reply)
        commands += sent(dialog)
    assert step is Step.DONE
    head, _, content = commands.partition(b"DATA\r\n")
    assert content == transaction.content + b".\r\n"
    return head.split(b"\r\n")[:-1]


@pytest.mark.parametrize("missing", [(), ("PIPELINING",)], ids=["pipelining", "plain"])
def test_parameters_are_passed_on_as_they_were_given(missing: tuple[str, ...]) -> None:
    """RFC 3461 5.2.1."""
    assert said(ehlo(*missing), make_transaction(extras=extras(WHOLE))) == [
        b"MAIL FROM:<sender@example.com> SIZE=23 RET=HDRS ENVID=QQ+2B1",
        b"RCPT TO:<one@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@c",
        b"RCPT TO:<two@example.org> NOTIFY=NEVER ORCPT=x400;/S+3Db/",
    ]


@pytest.mark.parametrize("missing", [(), ("PIPELINING",)], ids=["pipelining", "plain"])
def test_a_server_without_dsn_hears_of_none_of_it(missing: tuple[str, ...]) -> None:
    transaction = make_transaction(extras=extras(WHOLE, is_utf8=True))
    assert said(ehlo("DSN", *missing), transaction) == [
        b"MAIL FROM:<sender@example.com> SIZE=23 SMTPUTF8",
        b"RCPT TO:<one@example.org>",
        b"RCPT TO:<two@example.org>",
    ]
    assert said(ehlo("DSN", "SMTPUTF8", "SIZE 5000", *missing), make_transaction()) == [
        b"MAIL FROM:<sender@example.com>",
        b"RCPT TO:<one@example.org>",
        b"RCPT TO:<two@example.org>",
    ]


def test_each_recipient_has_its_own_whatever_part_of_the_envelope_is_sent() -> None:
    dsn = DSNRequest("", b"", ("", "DELAY", "NEVER"), (b"rfc822;a@b", b"", b"rfc822;c@d"))
    transaction = make_transaction(extras=extras(dsn, indices=(2, 5)))
    assert said(ehlo(), transaction)[1:] == [
        b"RCPT TO:<one@example.org> NOTIFY=NEVER ORCPT=rfc822;c@d",
        b"RCPT TO:<two@example.org>",
    ]


@pytest.mark.parametrize(
    ("path", "is_utf8", "original"),
    [
        (b"a@b.example", False, b"rfc822;a@b.example"),
        (b'"a =+b"@c.example', False, b'rfc822;"a+20+3D+2Bb"@c.example'),
        (UTF8_PATH, True, rb"utf-8;j\x{F6}rg@b\x{FC}cher.example"),
    ],
)
def test_notify_without_orcpt_gets_one(path: bytes, is_utf8: bool, original: bytes) -> None:
    one = extras(DSNRequest(notify=("FAILURE",)), is_utf8=is_utf8, indices=(0,))
    assert said(ehlo(), make_transaction([path], extras=one))[1:] == [
        b"RCPT TO:<%b> NOTIFY=FAILURE ORCPT=%b" % (path, original)
    ]


def test_an_orcpt_of_ours_names_what_the_sender_named() -> None:
    one = extras(DSNRequest(notify=("FAILURE", "FAILURE")), indices=(1,))
    one.original_paths = (b"other", b"o+ps@x.test")
    assert said(ehlo(), make_transaction([b"r@x.test"], extras=one))[1:] == [
        b"RCPT TO:<r@x.test> NOTIFY=FAILURE ORCPT=rfc822;o+2Bps@x.test"
    ]


def test_an_orcpt_of_ours_that_would_be_too_long_is_left_out() -> None:
    path = b'"' + b"=" * 200 + b'"@example.org'
    one = extras(DSNRequest(notify=("FAILURE",)), indices=(0,))
    assert said(ehlo(), make_transaction([path], extras=one))[1].endswith(b"> NOTIFY=FAILURE")


@pytest.mark.parametrize("is_offered", [True, False])
def test_orcpt_beyond_ascii_is_embedded_for_a_server_without_smtputf8(is_offered: bool) -> None:
    """RFC 6533 3."""
    original = b"utf-8;" + UTF8_PATH
    one = extras(DSNRequest(original_recipients=(original,)), is_utf8=True, indices=(0,))
    missing = () if is_offered else ("SMTPUTF8",)
    command = said(ehlo(*missing), make_transaction(PATHS[:1], extras=one))[1]
    shown = original if is_offered else rb"utf-8;j\x{F6}rg@b\x{FC}cher.example"
    assert command == b"RCPT TO:<one@example.org> ORCPT=" + shown


EVIL = [b"a\r\nRCPT TO:<x@y>", b"a\nb", b"a\rb", b"a b", b"a\tb", b"a=b", b"a\0b", b"a\x7f"]


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize("field", ["returned", "envelope_id", "notify", "original"])
@pytest.mark.parametrize("missing", [(), ("PIPELINING",)], ids=["pipelining", "plain"])
def test_no_value_that_is_more_than_one_leaves(
    value: bytes, field: str, missing: tuple[str, ...]
) -> None:
    text = value.decode("latin-1")
    dsn = {
        "returned": DSNRequest(returned=text),
        "envelope_id": DSNRequest(envelope_id=value),
        "notify": DSNRequest(notify=(text,), original_recipients=(b"rfc822;a@b",)),
        "original": DSNRequest(original_recipients=(b"rfc822;" + value,)),
    }[field]
    dialog = open_dialog(ehlo(*missing))
    with pytest.raises(ValueError, match="parameter"):
        converse(dialog, [MAIL_OK, RCPT_OK], make_transaction(extras=extras(dsn)))
    assert sent(dialog) == b""


@pytest.mark.parametrize("field", ["returned", "envelope_id", "notify"])
def test_only_an_original_recipient_may_be_beyond_ascii(field: str) -> None:
    values = {"returned": "ü", "envelope_id": "ü".encode(), "notify": ("ü",)}
    dsn = DSNRequest(**{field: values[field]})  # type: ignore[arg-type]  # one of these
    dialog = open_dialog(ehlo())
    with pytest.raises(ValueError, match="parameter"):
        dialog.begin(make_transaction(extras=extras(dsn, is_utf8=True)))


@settings(deadline=None)
@given(
    st.builds(
        DSNRequest,
        st.text(max_size=10),
        st.binary(max_size=20),
        st.lists(st.text(max_size=10), max_size=3).map(tuple),
        st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    ),
    st.booleans(),
)
def test_whatever_is_stored_a_flight_has_as_many_lines_as_commands(
    dsn: DSNRequest, is_utf8: bool
) -> None:
    extensions = Extensions(dsn=True, smtputf8=is_utf8)
    transaction = make_transaction(extras=extras(dsn, is_utf8=is_utf8))
    try:
        flight = encode_flight(transaction, extensions)
    except ValueError:
        return
    lines = flight.split(b"\r\n")
    assert [line.partition(b":<")[0] for line in lines] == [
        *(b"MAIL FROM", b"RCPT TO", b"RCPT TO", b"DATA", b"")
    ]
    for line in lines[:3]:
        for word in line.split(b" ")[2:]:
            assert word == b"SMTPUTF8" or word.partition(b"=")[0] in (
                *(b"RET", b"ENVID", b"NOTIFY", b"ORCPT"),
            )


# SMTPUTF8


def utf8_transaction(
    *paths: bytes,
    content: bytes = CONTENT,
    reverse_path: bytes = b"sender@example.com",
    dsn: DSNRequest | None = None,
) -> Transaction:
    wishes = extras(dsn, is_utf8=True, indices=tuple(range(len(paths))))
    transaction = make_transaction(paths, content, extras=wishes)
    transaction.reverse_path = reverse_path
    return transaction


def check_refused(outcome: Outcome | None, scope: Scope) -> None:
    assert outcome is not None
    assert (outcome.kind, outcome.status, outcome.text) == (OutcomeKind.FAILED, "5.6.7", TEXT)
    assert outcome.scope is scope
    assert outcome.remote == "mx.example[192.0.2.1]:25"


def test_smtputf8_is_said_where_it_is_offered() -> None:
    transaction = utf8_transaction(UTF8_PATH, content=UTF8_CONTENT, reverse_path=UTF8_PATH)
    assert said(ehlo(), transaction) == [
        b"MAIL FROM:<%b> SIZE=%d SMTPUTF8" % (UTF8_PATH, len(UTF8_CONTENT)),
        b"RCPT TO:<%b>" % UTF8_PATH,
    ]


@pytest.mark.parametrize("body", [b"text\r\n", "grüße\r\n".encode()])
def test_plain_ascii_goes_without(body: bytes) -> None:
    """RFC 6531 3.2; an 8-bit body is the business of BODY."""
    transaction = utf8_transaction(*PATHS, content=b"Subject: x\r\n\r\n" + body)
    commands = said(ehlo("SMTPUTF8", "SIZE 5000"), transaction)
    assert commands[0] == b"MAIL FROM:<sender@example.com>"


@pytest.mark.parametrize(
    ("reverse_path", "content"),
    [
        (UTF8_PATH, CONTENT),
        (b"sender@example.com", UTF8_CONTENT),
        (b"", UTF8_CONTENT),
        (b"sender@example.com", "Subject: ü\r\n".encode()),  # no body, no empty line
    ],
)
@pytest.mark.parametrize("missing", [(), ("PIPELINING",)], ids=["pipelining", "plain"])
def test_what_all_share_refuses_all(
    reverse_path: bytes, content: bytes, missing: tuple[str, ...]
) -> None:
    dialog = open_dialog(ehlo("SMTPUTF8", *missing))
    transaction = utf8_transaction(*PATHS, content=content, reverse_path=reverse_path)
    assert dialog.begin(transaction) is Step.DONE
    assert dialog.state is State.IDLE
    assert sent(dialog) == b""
    assert transaction.undecided == 0
    outcomes = transaction.all_outcomes()
    assert len(outcomes) == 2
    for outcome in outcomes:
        check_refused(outcome, Scope.TRANSACTION)
    assert converse(dialog, [MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK, DOT_OK], make_transaction()) is (
        Step.DONE
    )


def test_only_addresses_beyond_ascii_refuse_none_but_themselves() -> None:
    dialog = open_dialog(ehlo("SMTPUTF8"))
    transaction = utf8_transaction(UTF8_PATH, UTF8_PATH)
    assert dialog.begin(transaction) is Step.DONE
    for outcome in transaction.all_outcomes():
        check_refused(outcome, Scope.RECIPIENT)


@pytest.mark.parametrize("missing", [(), ("PIPELINING",)], ids=["pipelining", "plain"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_others_are_sent_and_each_keeps_its_outcome(
    order: tuple[int, ...], missing: tuple[str, ...]
) -> None:
    kinds = [b"good@example.org", b"gone@example.org", UTF8_PATH, b"x" + UTF8_PATH]
    paths = [kinds[at] for at in order]
    dsn = DSNRequest(notify=tuple(("SUCCESS", "FAILURE", "DELAY", "NEVER")[at] for at in order))
    transaction = utf8_transaction(*paths, dsn=dsn)
    dialog = open_dialog(ehlo("SMTPUTF8", *missing))
    replies = {b"good": RCPT_OK, b"gone": b"550 5.1.1 No\r\n"}
    rcpts = [replies[path[:4]] for path in paths if path[:4] in replies]
    step = dialog.begin(transaction)
    commands = b""
    for reply in (MAIL_OK, *rcpts, DATA_OK, DOT_OK):
        assert step is Step.WAIT
        commands += sent(dialog)
        step = dialog.receive(reply)
    assert step is Step.DONE
    assert commands.isascii()
    assert (
        b"RCPT TO:<good@example.org> NOTIFY=SUCCESS ORCPT=rfc822;good@example.org\r\n" in commands
    )
    assert (
        b"RCPT TO:<gone@example.org> NOTIFY=FAILURE ORCPT=rfc822;gone@example.org\r\n" in commands
    )
    assert commands.count(b"RCPT TO:") == 2
    outcomes = transaction.all_outcomes()
    assert len(outcomes) == 4
    for path, outcome in zip(paths, outcomes, strict=True):
        assert outcome is not None
        if path == b"good@example.org":
            assert outcome.kind is OutcomeKind.DELIVERED
        elif path == b"gone@example.org":
            assert (outcome.kind, outcome.status) == (OutcomeKind.FAILED, "5.1.1")
        else:
            check_refused(outcome, Scope.RECIPIENT)


def test_a_connection_lost_meanwhile_leaves_the_verdicts() -> None:
    dialog = open_dialog(ehlo("SMTPUTF8"))
    transaction = utf8_transaction(b"a@example.org", UTF8_PATH)
    dialog.begin(transaction)
    assert dialog.lose() is Step.DONE
    first, second = transaction.all_outcomes()
    assert first is not None
    assert first.kind is OutcomeKind.DEFERRED
    check_refused(second, Scope.RECIPIENT)
    assert transaction.trouble is first


def test_a_server_that_knows_no_extension_at_all() -> None:
    dialog = open_dialog(b"250 mx.example\r\n")
    transaction = utf8_transaction(b"a@example.org", content=UTF8_CONTENT)
    assert dialog.begin(transaction) is Step.DONE
    check_refused(transaction.all_outcomes()[0], Scope.TRANSACTION)


@pytest.mark.parametrize("has_ascii_header", [True, False])
def test_of_a_large_content_it_is_known_before(has_ascii_header: bool) -> None:
    known = extras(is_utf8=True, has_ascii_header=has_ascii_header)
    transaction = make_transaction(content=b"", extras=known)
    step = open_dialog(ehlo("SMTPUTF8")).begin(transaction)
    assert step is (Step.WAIT if has_ascii_header else Step.DONE)
