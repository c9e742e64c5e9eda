"""What counts as memory."""

from __future__ import annotations

import pytest

from fastmta.message import ClientIdentity, ContentFile, Envelope, Job, Message
from fastmta.scheduler.residence import FILE_OCTETS, Residence


def job_of(number: int, octets: int, *, is_large: bool) -> Job:
    envelope = Envelope(b"a@x.example", (b"b@y.example",), ClientIdentity())
    message = Message(b"%016d" % number, envelope, b"", 0)
    message.size_octets = octets
    if is_large:
        message.content = None
        message.file = ContentFile("/spool/big/1-x", octets, 0, 1)
    return Job(message, b"smtp:y.example", (0,))


@pytest.mark.parametrize(
    ("is_large", "octets"), [(False, 25_000_000), (True, FILE_OCTETS)], ids=["inline", "file"]
)
def test_a_content_in_a_file_is_not_in_memory(is_large: bool, octets: int) -> None:
    residence = Residence(1000, 8 * 1024 * 1024)
    job = job_of(1, 25_000_000, is_large=is_large)
    residence.enter(job)
    assert residence.octets == octets
    assert residence.has_room is is_large
    assert residence.leave(job)
    assert (residence.messages, residence.octets) == (0, 0)
