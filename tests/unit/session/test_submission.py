"""What is added to a submitted message that lacks it (RFC 6409 8)."""

from __future__ import annotations

import pytest

from fastmta.session import SessionSettings
from tests.support.session import HOSTNAME, Dialog, FakeAccept


def stored(content: bytes, mail: bytes = b"<a@b.example>", is_adding: bool = True) -> bytes:
    it = Dialog(settings=SessionSettings(HOSTNAME, is_adding_fields=is_adding)).hello()
    it.send(b"MAIL FROM:" + mail + b"\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    assert it.codes(content + b".\r\n") == ["250"]
    (message,) = it.accept.messages
    return (message.content or b"").partition(b"(UTC)\r\n")[2]


ALL = (
    b"From: <a@b.example>\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000 (UTC)\r\n"
    b"Message-ID: <1700000000.0000000000000001@relay.example>\r\n"
)


def test_all_three_are_added_in_front() -> None:
    assert stored(b"Subject: x\r\n\r\nbody\r\n") == ALL + b"Subject: x\r\n\r\nbody\r\n"


def test_what_is_there_in_any_case_stays_alone() -> None:
    content = b"FROM : x@y.example\r\ndate: now\r\nMessage-Id:\r\n <1@x>\r\n\r\nbody\r\n"
    assert stored(content) == content


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\nFrom: in the body\r\nDate: x\r\nMessage-ID: <x>\r\n",
        b"Subject: folded\r\n From: x\r\n Date: y\r\n\r\n\r\n",
        b"X-From: x\r\nDated: y\r\nIn-Message-ID: z\r\n\r\n\r\n",
        b"\r\nFrom: in the body\r\n",
    ],
)
def test_what_only_looks_like_a_field_is_none(content: bytes) -> None:
    assert stored(content) == ALL + content


def test_a_header_section_without_an_end() -> None:
    assert (
        stored(b"Date: x\r\n")
        == ALL.replace(b"Date: Tue, 14 Nov 2023 22:13:20 +0000 (UTC)\r\n", b"") + b"Date: x\r\n"
    )


def test_no_from_is_made_of_the_null_reverse_path() -> None:
    assert b"From:" not in stored(b"Subject: x\r\n\r\n", b"<>")


def test_elsewhere_nothing_is_added() -> None:
    assert stored(b"Subject: x\r\n\r\n", is_adding=False) == b"Subject: x\r\n\r\n"


def test_the_log_line_has_the_message_id_that_was_added() -> None:
    it = Dialog(settings=SessionSettings(HOSTNAME, is_adding_fields=True)).hello()
    it.send(b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    it.send(b"\r\n.\r\n")
    assert it.accept.messages[0].message_id_field == (
        b"<1700000000.0000000000000001@relay.example>"
    )


def test_a_large_content_is_completed_too() -> None:
    accept = FakeAccept(is_prompt=True)
    settings = SessionSettings(HOSTNAME, is_adding_fields=True, inline_octets_max=128 * 1024)
    it = Dialog(settings=settings, accept=accept).hello()
    it.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    line = b"y" * 998 + b"\r\n"
    it.send(b"Subject: x\r\n\r\n")
    for _ in range(4):
        it.send(line * 50)
    assert it.codes(b".\r\n") == ["250"]
    (spill,) = accept.spills
    assert spill.octets.partition(b"(UTC)\r\n")[2] == ALL + b"Subject: x\r\n\r\n" + line * 200
    assert accept.messages[0].message_id_field.startswith(b"<1700000000.")
