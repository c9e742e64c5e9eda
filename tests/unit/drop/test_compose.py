"""What a local user writes costs what it is long, however odd it is."""

from __future__ import annotations

import time
from pathlib import Path

from fastmta.drop.alias import Aliases
from fastmta.drop.compose import REMARKS_MAX, Author, Rules, address, complete, received
from fastmta.drop.form import Submission
from fastmta.message import Envelope

RULES = Rules(b"host.test", b"origin.test", b"postmaster@host.test", frozenset())
AUTHOR = Author(1000, "joe")
ID = b"ABCDEFGHIJ123456"


def addressed(*recipients: bytes) -> tuple[Envelope, list[str]]:
    envelope, _, remarks = address(
        Submission(b"joe", list(recipients)), AUTHOR, RULES, Aliases.parse(b"")
    )
    return envelope, remarks


def completed(header: bytes) -> bytes:
    trace = received(AUTHOR, ID, RULES, b"date")
    first = trace + header + b"\r\n\r\nhello\r\n"
    stamps = (b"date", 1, ID)
    return complete(
        first, len(trace), Submission(b"joe", [b"one"]), b"joe@x.test", RULES, stamps
    ).octets


def test_what_the_sender_named_is_kept_where_it_became_another_address() -> None:
    aliases = Aliases.parse(b"ops: a@x.test, b@x.test\n")
    named = [b"c@x.test", b"ops", b"D@X.test", b"someone", b"b@x.test", b"postmaster", b"a b"]
    envelope, _, _ = address(Submission(b"joe", named), AUTHOR, RULES, aliases)
    assert dict(zip(envelope.forward_paths, envelope.original_paths, strict=True)) == {
        b"c@x.test": b"",
        b"a@x.test": b"ops",
        b"b@x.test": b"ops",
        b"D@x.test": b"",
        b"someone@origin.test": b"someone",
        b"postmaster@host.test": b"postmaster",
        b'"a b"@bad-address.invalid': b"a b",
    }


def test_an_alias_is_looked_up_once_however_often_it_is_named(tmp_path: Path) -> None:
    """Each time its lists are read and parsed, which takes a tenth of a second for a long one."""
    (tmp_path / "list").write_text("".join(f"user{number}@x.test\n" for number in range(2_000)))
    aliases = Aliases.parse(b"ops: :include:%b" % bytes(tmp_path / "list"))
    named = [b"(%d) OPS@localhost" % number for number in range(500)]
    begin_s = time.process_time()
    envelope, _, _ = address(Submission(b"joe", named), AUTHOR, RULES, aliases)
    assert time.process_time() - begin_s < 2.0
    assert len(envelope.forward_paths) == 2_000


def test_nothing_is_kept_of_mail_whose_recipients_are_as_named() -> None:
    envelope, _ = addressed(b"a@x.test", b"B@X.test")
    assert envelope.original_paths == ()


def test_each_address_of_a_field_gets_the_origin() -> None:
    made = completed(b"To: a, b@x.test,\r\n Full Name <c>, d\r\nSubject: e, f")
    assert (
        b"\r\nTo: a@origin.test, b@x.test,\r\n Full Name <c@origin.test>, d@origin.test\r\n"
        b"Subject: e, f\r\n"
    ) in made


def test_a_field_of_very_many_addresses_takes_no_time_to_speak_of() -> None:
    line = b"a," * 490
    begun_s = time.thread_time()
    made = completed(b"To: " + b"\r\n ".join([line] * 126))
    assert time.thread_time() - begun_s < 3  # copying the field for each address took 20 s
    assert made.count(b"a@origin.test,") == 490 * 126


def test_a_probe_is_told_by_a_word_of_its_file() -> None:
    submission = Submission(b"joe", [b"one", b"two@x.test"])
    for is_probe in (False, True):
        if is_probe:
            submission.options[b"probe"] = b""
        decoded, _ = Submission.decode(submission.encode())
        assert (b"probe" in decoded.options) is is_probe
        envelope, _, _ = address(decoded, AUTHOR, RULES, Aliases.parse(b""))
        assert envelope.is_probe is is_probe
        assert envelope.forward_paths == (b"one@origin.test", b"two@x.test")


def test_recipients_that_are_no_addresses_do_not_fill_the_log() -> None:
    envelope, remarks = addressed(*(b"a b%d" % number for number in range(1_000)), b"one")
    assert len(envelope.forward_paths) == 1_001
    assert len(remarks) == REMARKS_MAX + 1
    assert remarks[-1] == "and 980 more of the like"
