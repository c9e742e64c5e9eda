"""Replies that we give, replies that others give, and what a reply to EHLO offers."""

from typing import Any

import pytest
from msgspec.structs import replace

from fastmta.smtp import Extensions, reply
from fastmta.smtp.extension import Offer, parse_extensions, r250_ehlo
from fastmta.smtp.limit import REPLY_LINE_OCTETS_MAX, REPLY_LINES_MAX, REPLY_OCTETS_MAX
from fastmta.smtp.reply import Reply
from fastmta.smtp.reply_py import KNOWN_REPLIES_MAX, ReplyProblem
from tests.support.wire import every_cut, load_cases, pieces_of

FULL = Offer(
    "mx",
    has_starttls=True,
    auth_mechanisms=("PLAIN", "LOGIN"),
    xclient=("NAME", "ADDR"),
    xforward=("NAME",),
    is_dsn=True,
    is_utf8=True,
    is_chunking=True,
    is_tls_requirable=True,
    mail_max=20,
    rcpt_max=1000,
)
CONSTANTS = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}


def read(reader: Any, pieces: list[bytes]) -> list[tuple[int, str, str]]:
    replies = [reply for piece in pieces for reply in reader.feed(piece)]
    return [(reply.code, reply.enhanced_status, reply.text) for reply in replies]


@pytest.mark.parametrize("case", load_cases("replies"))
def test_reply_vector(reader_class: Any, case: Any) -> None:
    octets = case["octets"].encode("latin-1")
    expected = [tuple(item) for item in case["replies"]]
    problem = ReplyProblem[case["problem"]] if "problem" in case else None
    known: dict[bytes, Reply] = {}
    for name, cuts in every_cut(octets):
        reader = reader_class(known)  # from the second round on most of them are known
        assert read(reader, pieces_of(octets, cuts)) == expected, name
        assert reader.problem is problem, name
        assert bool(reader.garbage) == (problem is not None and octets != b"\r\n"), name
    if problem is None and octets.endswith(b"\n"):
        assert read(reader_class(), [octets + b"221 tail\r\n"]) == [
            *expected,
            (221, "", "221 tail"),
        ]


def test_reader_is_dead_after_a_problem(reader_class: Any) -> None:
    reader = reader_class()
    assert reader.feed(b"oh\x07 no\r\n") == []
    assert reader.garbage == "oh? no"
    assert reader.feed(b"250 Ok\r\n") == []
    assert reader.problem is ReplyProblem.NOT_A_REPLY
    assert reader.buffered() == 0


def test_incomplete_reply_is_seen(reader_class: Any) -> None:
    reader = reader_class()
    assert reader.buffered() == 0
    for octets, buffered in ((b"250-a\r\n", 7), (b"25", 9), (b"0 b\r\n", 0), (b"2", 1)):
        reader.feed(octets)
        assert reader.buffered() == buffered


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("step", [1, 700, 10_000])
def test_line_limit(reader_class: Any, excess: int, step: int) -> None:
    line = b"250 " + b"x" * (REPLY_LINE_OCTETS_MAX - 6 + excess) + b"\r\n"
    octets = b"220 a\r\n" + line
    reader = reader_class()
    found = read(reader, [octets[pos : pos + step] for pos in range(0, len(octets), step)])
    assert len(found) == 2 - excess
    assert reader.problem is (ReplyProblem.LINE_TOO_LONG if excess else None)


def test_endless_line_is_not_kept(reader_class: Any) -> None:
    reader = reader_class()
    for _ in range(100):
        assert reader.feed(b"2" * 100) == []
    assert reader.problem is ReplyProblem.LINE_TOO_LONG
    assert reader.buffered() == 0


@pytest.mark.parametrize("excess", [0, 1])
def test_limit_of_lines(reader_class: Any, excess: int) -> None:
    reader = reader_class()
    found = reader.feed(b"250-x\r\n" * (REPLY_LINES_MAX - 1 + excess) + b"250 x\r\n")
    assert len(found) == 1 - excess
    assert reader.problem is (ReplyProblem.TOO_MANY_LINES if excess else None)


def test_limit_of_octets(reader_class: Any) -> None:
    reader = reader_class()
    line = b"250-" + b"x" * 2000 + b"\r\n"
    assert reader.feed(line * (REPLY_OCTETS_MAX // len(line)) + b"250 x\r\n")
    assert reader.feed(line * (REPLY_OCTETS_MAX // len(line) + 1) + b"250 x\r\n") == []
    assert reader.problem is ReplyProblem.TOO_LONG


def test_known_replies_are_the_same_object_and_bounded(reader_class: Any) -> None:
    known: dict[bytes, Reply] = {}
    first = reader_class(known).feed(b"250-mx\r\n250 PIPELINING\r\n")[0]
    assert reader_class(known).feed(b"250-mx\r\n250 PIPELINING\r\n")[0] is first
    reader = reader_class(known)
    for number in range(3 * KNOWN_REPLIES_MAX):
        reader.feed(b"250 queued as %d\r\n" % number)
        assert len(known) <= KNOWN_REPLIES_MAX
    reader_class(known).feed(b"250 " + b"x" * 2000 + b"\r\n")
    assert max(map(len, known)) < 1100


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_octets_may_be_any_buffer(reader_class: Any, kind: Any) -> None:
    assert reader_class().feed(kind(b"250 Ok\r\n"))[0].code == 250


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_reply_constant(name: str) -> None:
    """Number and name agree, and the status is of the code's class (RFC 2034 4)."""
    value = CONSTANTS[name]
    assert int(name[1:4]) == value.code
    assert value.octets.endswith(b"\r\n")
    assert value.octets.count(b"\n") == len(value.lines)
    if value.enhanced_status:
        assert value.enhanced_status[0] == str(value.code)[0]


def test_what_we_say_our_reader_reads(reader_class: Any) -> None:
    for value in (*CONSTANTS.values(), r250_ehlo(FULL)):
        assert reader_class().feed(value.octets) == [value]
    (queued,) = reader_class().feed(reply.r250_queued_octets(b"0Ab"))
    assert queued == Reply(250, "2.0.0", ("Ok: queued as 0Ab",))


def test_wire_form_and_text() -> None:
    assert reply.R250_SENDER_OK.octets == b"250 2.1.0 Ok\r\n"
    assert reply.R354_END_WITH_DOT.text == "354 End data with <CR><LF>.<CR><LF>"
    assert reply.r250_queued_octets(b"0Ab") == b"250 2.0.0 Ok: queued as 0Ab\r\n"
    assert Reply(550, "5.7.1", ("a", "b")).octets == b"550-5.7.1 a\r\n550 5.7.1 b\r\n"
    assert Reply(550, "5.7.1", ("a", "b")).text == "550-5.7.1 a 550 5.7.1 b"
    assert reply.R500_BAD_SYNTAX.replaced_by("Other").text == "500 5.5.2 Other"


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (reply.r250_chunk(70), "250 2.0.0 Ok: 70 bytes"),
        (reply.r250_bdat_queued(7, b"0Ab"), "250 2.0.0 Ok: 7 bytes queued as 0Ab"),
        (reply.r334_challenge(b"Username:"), "334 VXNlcm5hbWU6"),
        (reply.r334_challenge(b""), "334 "),
        (
            reply.r421_too_many_tls("h", "c[1]"),
            "421 4.7.0 h Error: too many new TLS sessions from c[1]",
        ),
        (reply.r450_too_much_mail("c[1]"), "450 4.7.1 Error: too much mail from c[1]"),
        (reply.r450_too_many_recipients("c"), "450 4.7.1 Error: too many recipients from c"),
        (reply.r450_too_many_auth("c"), "450 4.7.1 Error: too many AUTH commands from c"),
        (reply.r454_auth("busy"), "454 4.7.0 Temporary authentication failure: busy"),
        (reply.r535("bad"), "535 5.7.8 Error: authentication failed: bad"),
        (reply.r501_bad_attribute("ADDR", b"x"), "501 5.5.4 Bad ADDR syntax: x"),
        (reply.r501_unknown_attribute("XCLIENT", b"X"), "501 5.5.4 Bad XCLIENT attribute name: X"),
        (
            reply.r553_not_owned(b"a@b", "u"),
            "553 5.7.1 <a@b>: Sender address rejected: not owned by user u",
        ),
    ],
)
def test_text_of_a_made_reply(made: Reply, text: str) -> None:
    assert made.text == text


@pytest.mark.parametrize("hostile", [b"a\r\n250 Ok", b"\x1b[2J", b"\xff" * 500, b"\0"])
def test_nothing_of_a_client_breaks_a_reply(hostile: bytes) -> None:
    for made in (
        reply.r554_relay_denied(hostile),
        reply.r555_unsupported_option(hostile),
        reply.r252_verified(hostile),
        reply.r501_need_domain(hostile),
        reply.R500_BAD_SYNTAX.replaced_by(hostile.decode("latin-1")),
        reply.r250_bdat_queued(1, hostile),
        reply.r334_challenge(hostile[:300]),
        reply.r421_too_many_connections("h" * 255, hostile.decode("latin-1")),
        reply.r421_too_many_tls("h" * 255, hostile.decode("latin-1")),
        reply.r450_too_much_mail(hostile.decode("latin-1")),
        reply.r450_too_many_recipients(hostile.decode("latin-1")),
        reply.r450_too_many_auth(hostile.decode("latin-1")),
        reply.r454_auth(hostile.decode("latin-1")),
        reply.r535(hostile.decode("latin-1")),
        reply.r501_bad_attribute("ADDR", hostile),
        reply.r501_unknown_attribute("XCLIENT", hostile),
        reply.r553_not_owned(hostile, hostile.decode("latin-1")),
    ):
        assert made.octets.count(b"\n") == made.octets.count(b"\r") == 1
        assert all(32 <= octet < 127 for octet in made.octets[:-2])
        assert len(made.octets) <= 512  # RFC 5321 4.5.3.1.5


@pytest.mark.parametrize(("code", "lines"), [(199, ("x",)), (600, ("x",)), (250, ())])
def test_what_is_no_reply_is_not_made(code: int, lines: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="not a reply"):
        Reply(code, "", lines)


def test_classes_of_codes() -> None:
    kinds = [
        (made.is_positive, made.is_intermediate, made.is_transient, made.is_permanent)
        for made in (Reply(code, "", ("x",)) for code in (250, 354, 421, 550))
    ]
    assert kinds == [
        (True, False, False, False),
        (True, True, False, False),
        (False, False, True, False),
        (False, False, False, True),
    ]


def test_our_reply_to_ehlo_in_postfix_order() -> None:
    assert r250_ehlo(Offer("mx.example", 100)).octets == (
        b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-VRFY\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
    )
    assert r250_ehlo(FULL).lines == (
        "mx",
        "PIPELINING",
        "SIZE",
        "VRFY",
        "STARTTLS",
        "AUTH PLAIN LOGIN",
        "XCLIENT NAME ADDR",
        "XFORWARD NAME",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "DSN",
        "SMTPUTF8",
        "CHUNKING",
        "REQUIRETLS",
        "LIMITS MAILMAX=20 RCPTMAX=1000",
    )
    assert r250_ehlo(FULL) is r250_ehlo(replace(FULL))


def test_a_discarded_keyword_is_not_shown() -> None:
    hidden = frozenset(("VRFY", "DSN", "AUTH", "LIMITS", "SIZE"))
    assert r250_ehlo(replace(FULL, discarded=hidden)).lines == (
        "mx",
        "PIPELINING",
        "STARTTLS",
        "XCLIENT NAME ADDR",
        "XFORWARD NAME",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "REQUIRETLS",
    )


@pytest.mark.parametrize(
    ("mail_max", "rcpt_max", "expected"),
    [
        (0, 0, None),
        (1, 0, "LIMITS MAILMAX=1"),
        (0, 999_999, "LIMITS RCPTMAX=999999"),
        (1_000_000, 5, "LIMITS RCPTMAX=5"),  # RFC 9422 4: a limit has six digits
        (1_000_000, 1_000_000, None),
    ],
)
def test_limits_that_can_be_said(mail_max: int, rcpt_max: int, expected: str | None) -> None:
    last = r250_ehlo(Offer("mx", mail_max=mail_max, rcpt_max=rcpt_max)).lines[-1]
    assert last == (expected or "8BITMIME")


def test_our_own_extensions_are_understood() -> None:
    assert parse_extensions(r250_ehlo(FULL)) == Extensions(
        pipelining=True,
        size=0,
        eightbit=True,
        enhanced=True,
        chunking=True,
        dsn=True,
        smtputf8=True,
        starttls=True,
        auth=("PLAIN", "LOGIN"),
        rcpt_max=1000,
        mail_max=20,
        requiretls=True,
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("mx",), Extensions()),
        (("PIPELINING",), Extensions()),  # the first line greets
        (("mx", "pipelining", "8BitMime", "dsn"), Extensions(True, None, True, dsn=True)),
        (("mx", "SIZE"), Extensions(size=0)),
        (("mx", "SIZE 35882577"), Extensions(size=35882577)),
        (("mx", "SIZE lots"), Extensions(size=0)),
        (("mx", "SIZE " + "9" * 21), Extensions(size=0)),
        (("mx", "SIZE -1"), Extensions(size=0)),
        (("mx", "SIZE 0"), Extensions(size=0)),
        (("mx", "PIPELININGX", "X-PIPELINING", ""), Extensions()),
        (("mx", "AUTH plain LOGIN", "AUTH=LOGIN"), Extensions(auth=("PLAIN", "LOGIN"))),
        (("mx", "CHUNKING", "SMTPUTF8"), Extensions(chunking=True, smtputf8=True)),
        (("mx", "limits MAILMAX=9 rcptmax=100"), Extensions(rcpt_max=100, mail_max=9)),
        (("mx", "LIMITS XRCPTMAX=5 RCPTDOMAINMAX=1"), Extensions()),
        (("mx", "LIMITS RCPTMAX=0"), Extensions()),
        (("mx", "LIMITS RCPTMAX=1000000"), Extensions()),
        (("mx", "LIMITS RCPTMAX 5", "LIMITS RCPTMAX=5 RCPTMAX=6"), Extensions()),
        (("mx", "LIMITS"), Extensions()),
    ],
)
def test_extensions(lines: tuple[str, ...], expected: Extensions) -> None:
    assert parse_extensions(Reply(250, "", lines)) == expected
