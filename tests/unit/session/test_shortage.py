"""What a session says and reserves when we are short of something."""

from typing import Any

from fastmta.session import ContentRoom, SessionSettings, State
from fastmta.smtp import reply as replies
from tests.support.session import HOSTNAME, ROOM_OCTETS, FakeAccept
from tests.unit.session.test_session import CONTENT, MAIL, RCPT, in_state

R, P = State.READY, State.RCPT


def test_what_may_come_of_open_contents_is_reserved_until_they_end() -> None:
    settings = SessionSettings(HOSTNAME, message_octets_max=1_000_000)
    room = ContentRoom(ROOM_OCTETS)
    silent, said = (in_state(R, settings=settings, room=room) for _ in range(2))
    silent.send(MAIL)
    assert silent.accept.declared_octets == 0
    said.send(b"MAIL FROM:<a@source.example> SIZE=5000\r\n")
    assert said.accept.declared_octets == 5000
    for dialog in (silent, said):
        dialog.send(RCPT)
        assert dialog.codes(b"DATA\r\n") == ["354"]
    assert room.octets_expected == 1_005_000
    said.send(CONTENT)
    assert room.octets_expected == 1_000_000
    silent.session.ended("lost connection")
    assert room.octets_expected == 0


def test_a_shortage_is_told_at_mail_and_leaves_no_transaction() -> None:
    dialog = in_state(R, accept=FakeAccept(refuses=replies.R452_STORAGE_FULL))
    line = b"MAIL FROM:<a@source.example> SIZE=5000\r\n"
    assert dialog.send(line) == ["452 4.3.1 Insufficient system storage"]
    assert dialog.session.state is State.READY
    dialog.accept.refuses = None
    assert dialog.codes(MAIL) == ["250"]
    assert dialog.accept.declared_octets == 0


class PoorFraming:
    """A framing without memory for `poor_calls` of one of its calls."""

    def __init__(self, framing: Any, call: str, poor_calls: int) -> None:
        self._framing = framing
        self._call = call
        self._poor_calls = poor_calls

    def __getattr__(self, name: str) -> Any:
        if name == self._call and self._poor_calls:
            self._poor_calls -= 1
            return self._fail
        return getattr(self._framing, name)

    def _fail(self, *_: object) -> None:
        self._framing.take_content()
        raise MemoryError


def test_no_memory_at_the_end_of_a_content_is_451_for_that_message_only() -> None:
    dialog = in_state(P)
    framing: Any = PoorFraming(dialog.session.framing, "take_content", 1)
    dialog.session.framing = framing
    dialog.send(b"DATA\r\n")
    assert dialog.send(CONTENT) == ["451 4.3.0 Error: local problem"]
    assert dialog.accept.messages == []
    assert dialog.session.state is State.READY
    assert dialog.session.ports.room.used == 0
    for line in (MAIL, RCPT):
        dialog.send(line)
    dialog.send(b"DATA\r\n")
    assert dialog.send(CONTENT)[0].startswith("250 2.0.0 Ok: queued as ")
    assert len(dialog.accept.messages) == 1
