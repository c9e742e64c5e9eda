"""One file becomes several messages: who is in which, and what each recipient wished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmta.drop import FormError, Submission
from fastmta.drop.alias import Aliases
from fastmta.drop.compose import Author, Rules, address
from fastmta.drop.form import HEAD_OCTETS_MAX, RECIPIENTS_MAX
from fastmta.drop.part import count_parts, part_of, step_of
from fastmta.message import ClientIdentity, Envelope
from fastmta.message.envelope import DSNRequest
from fastmta.postfix.conversation import submission_of

RULES = Rules(b"host.test", b"origin.test", b"postmaster@host.test", frozenset())
AUTHOR = Author(1000, "joe")


def addressed(submission: Submission) -> tuple[Envelope, list[str]]:
    envelope, _, remarks = address(submission, AUTHOR, RULES, Aliases.parse(b"list: a@x.test, b"))
    return envelope, remarks


@given(st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_every_recipient_is_in_one_part(count: int, recipients_max: int, is_verp: bool) -> None:
    whole = Submission(b"me", [b"r%d" % number for number in range(count)])
    whole.its = {(number, b"its-notify"): b"%d" % number for number in range(0, count, 3)}
    if is_verp:
        whole.options[b"verp"] = b"+="
    step = step_of(whole, recipients_max)
    parts = [part_of(whole, step, number) for number in range(count_parts(whole, step))]
    assert [one for part in parts for one in part.recipients] == whole.recipients
    assert all(0 < len(part.recipients) <= (1 if is_verp else recipients_max) for part in parts)
    its = {
        (part.recipients[index], word): value
        for part in parts
        for (index, word), value in part.its.items()
    }
    wanted = {(whole.recipients[at], word): value for (at, word), value in whole.its.items()}
    assert its == wanted


def test_wishes_of_single_recipients_survive_the_file() -> None:
    whole = Submission(b"me", [b"list", b"b@x.test", b"c@x.test"])
    whole.its[0, b"its-notify"] = b"NEVER"
    whole.its[2, b"its-orcpt"] = b"rfc822;old@x.test"
    whole.options[b"notify"] = b"SUCCESS"
    found, _ = Submission.decode(whole.encode())
    assert found.its == whole.its
    envelope, _ = addressed(found)
    assert envelope.forward_paths == (b"a@x.test", b"b@origin.test", b"b@x.test", b"c@x.test")
    assert envelope.dsn is not None
    assert envelope.dsn.notify == ("NEVER", "NEVER", "SUCCESS", "SUCCESS")
    assert envelope.dsn.original_recipients == (b"", b"", b"", b"rfc822;old@x.test")


def test_what_a_server_would_not_take_is_refused_at_once() -> None:
    with pytest.raises(FormError, match="more than 50000 recipients"):
        Submission(b"me", [b"a"] * (RECIPIENTS_MAX + 1)).encode()
    with pytest.raises(FormError, match="too many octets"):
        Submission(b"me", [b"a" * 2000] * (HEAD_OCTETS_MAX // 2000)).encode()


@pytest.mark.parametrize(
    ("recipient", "wanted"),
    [
        (b"list", b"me+list@origin.test"),
        (b"joe@there.test", b"me+joe=there.test@origin.test"),
        (b"\r\n@there.test", b"me@origin.test"),
        (b'"a\rb"@there.test', b"me@origin.test"),
        (b'"a\\"b"@there.test', b'"me+a\\"b=there.test"@origin.test'),
        (b"no address at all", b'"me+no address at all"@origin.test'),
        (b"x" * 255 + b"@there.test", b"me@origin.test"),
        (b"\xc3\xa4@there.test", b"me+\xc3\xa4=there.test@origin.test"),
        (b"\xff@there.test", b"me@origin.test"),
    ],
)
def test_return_paths_of_whatever_recipient(recipient: bytes, wanted: bytes) -> None:
    """They are made of what a local user wrote, and go out on the wire."""
    submission = Submission(b"me", [recipient])
    submission.options[b"verp"] = b"+="
    envelope, _ = addressed(submission)
    assert envelope.reverse_path == wanted


def test_aliases_of_one_recipient_have_its_return_path() -> None:
    submission = Submission(b"me", [b"list"])
    submission.options[b"verp"] = b"-+"
    envelope, _ = addressed(submission)
    assert envelope.reverse_path == b"me-list@origin.test"
    assert len(envelope.forward_paths) == 2


def test_a_conversation_leaves_one_file_whatever_its_recipients_wish() -> None:
    dsn = DSNRequest("HDRS", b"id", ("NEVER", "", "SUCCESS"), (b"", b"rfc822;x@y.test"))
    paths = (b"a@x.test", b"b@x.test", b"c@x.test")
    said = Envelope(b"me@x.test", paths, ClientIdentity(), is_8bit=True, dsn=dsn)
    found, _ = Submission.decode(submission_of(said).encode())
    envelope, _ = addressed(found)
    assert (envelope.reverse_path, envelope.forward_paths) == (said.reverse_path, paths)
    assert envelope.is_8bit
    assert envelope.dsn == DSNRequest(
        "HDRS", b"id", ("NEVER", "", "SUCCESS"), (b"", b"rfc822;x@y.test", b"")
    )
