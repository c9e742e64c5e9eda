"""A whole session in memory, with every port that it has but hooks; what must always hold for it.

* nothing raises; replies are well-formed, one for each command and as many as a content owes;
* what waits in memory is bounded, room is given back, no file is left over;
* a message is accepted only from who may send it, only whole and canonical, never behind a chunk
  that was refused, and never without TLS or login where these are required;
* the compiled framing and its twin make the same session;
* each accepted message survives being sent on (`oracle`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from fastmta.message import Message
from fastmta.session import State
from fastmta.smtp import reply as replies
from fastmta.smtp.limit import AUTH_LINE_OCTETS_MAX, LINE_OCTETS_HARD
from tests.fuzz.wire.case import Case, pieces_of
from tests.fuzz.wire.framing import check_canonical
from tests.fuzz.wire.oracle import Oracle
from tests.fuzz.wire.value import check_reply
from tests.fuzz.wire.world import OURS, World
from tests.support.session import TLS

Feature = tuple[object, ...]
_TWIN_EVERY = 6  # the twin is slow
_PATIENCE = 50  # rounds in which something has to happen
_FIELDS_OCTETS_MAX = 2500  # our Received field, and fields that were missing
_TURNS_LATE_MAX = 3  # pieces that may come while we owe an answer


class Sessions:
    """The target; keeps the oracle over many cases."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.accepted_count = 0

    def run(self, case: Case) -> Iterator[Feature]:
        run = Run(case)
        run.play()
        if case.seed % _TWIN_EVERY == 0:
            again = Run(case, is_twin=True)
            again.play()
            assert again.said == run.said, (run.said, again.said)
            assert again.envelopes() == run.envelopes()
            assert again.world.watched.seen == run.world.watched.seen
        for message, content in run.accepted:
            self._oracle.take(case, message, content)
        self.accepted_count += len(run.accepted)
        return run.features()


class Run:
    """One session from its first octet to its end."""

    def __init__(self, case: Case, *, is_twin: bool = False) -> None:
        self._case = case
        self._chance = case.chance()
        self._late = random.Random(case.seed + 1)
        self.world = World(case.settings_chance(), is_twin=is_twin)
        self.world.accept.look = self._look
        self.accepted: list[tuple[Message, bytes]] = []
        self._is_refused = False  # by us, in the middle
        self._is_over = False  # the client is gone; what was whole before is still stored
        self.said = b""

    def play(self) -> None:
        session, dialog = self.world.dialog.session, self.world.dialog
        turns_late = 0
        for piece in pieces_of(self._chance, self._case.octets):
            if session.is_closing:
                break
            dialog.out += session.receive(piece, len(piece))
            self._check()
            is_busy = session.is_pending or session.is_behind
            if is_busy and turns_late < _TURNS_LATE_MAX and self._late.random() < 0.2:
                turns_late += 1
                continue
            turns_late = 0
            if self._late.random() < 0.0005:
                dialog.out += session.refuse(replies.r421_shutting_down("relay.example"))
                self._is_refused = True
                break
            self._settle()
        self._end()

    def _settle(self) -> None:
        """Until the session waits for its client."""
        session, dialog = self.world.dialog.session, self.world.dialog
        for _ in range(_PATIENCE):
            if session.delay_s:
                assert session.delay_s <= 1.0
                dialog.out += session.resume()
            elif session.is_closing:
                return
            elif session.is_starting_tls:
                session.tls_started(TLS)
            elif session.is_pending:
                self.world.answer_all()
            elif session.is_behind:
                self.world.catch_up()
            else:
                self._check()
                return
            self._check()
        raise AssertionError("it waits for ever")

    def _end(self) -> None:
        """The client goes, at once or when all is answered; late answers come all the same."""
        session, dialog = self.world.dialog.session, self.world.dialog
        if self._late.random() < 0.8:
            self._settle()
        self.said = bytes(dialog.out)
        found = check_reply(self.said)
        count, owed = len(found), self.world.watched.owed
        if session.is_closing:
            assert count <= owed + 1 + self._is_refused, (count, owed)
        elif session.is_pending or session.delay_s:
            assert count < owed, (count, owed)
        else:
            assert count == owed, (count, owed, self.said)
        for each in found[1:]:
            assert each[1] == 1 or each[0] in (214, 250), "more lines than such a reply has"
        session.ended("")
        self._is_over = True
        assert session.state is State.CLOSED
        self.world.answer_all()
        self.world.answer_all()
        assert bytes(dialog.out) == self.said, "it says something to nobody"
        self.world.check_ended()
        assert not session.receive(b"NOOP\r\n", 6)

    def _check(self) -> None:
        session = self.world.dialog.session
        assert session.is_closing == (session.state is State.CLOSED)
        assert isinstance(session.state, State)
        if session.is_pending or session.delay_s or session.is_closing:
            return
        bound = 0
        if session.state is State.AUTH:
            bound = AUTH_LINE_OCTETS_MAX
        elif session.state is not State.CONTENT:
            bound = self.world.settings.command_octets_max
        assert session.buffered_octets <= bound, (session.state, session.buffered_octets)
        assert session.room_octets <= self.world.room.used
        if session.state in (State.CONNECTED, State.READY, State.AUTH, State.BROKEN):
            assert not session.room_octets
            assert not session.transaction.forward_paths
            assert session.large is None
        if session.login and not self.world.settings.xclient:
            assert self.world.authenticate.is_earned(session.login), session.login

    def _look(self, message: Message, content: bytes) -> None:
        """The session wants this message to be stored."""
        session, settings = self.world.dialog.session, self.world.settings
        assert not self.world.watched.is_failed, "a message with a refused chunk"
        assert session.state is (State.CLOSED if self._is_over else State.COMMITTING)
        check_canonical(content)
        assert content == b"" or content.endswith(b"\r\n")
        assert len(content) <= settings.message_octets_max + _FIELDS_OCTETS_MAX
        assert max(map(len, content.split(b"\r\n"))) <= LINE_OCTETS_HARD
        assert content.startswith(b"Received: from ")
        envelope = message.envelope
        assert 0 < len(envelope.forward_paths) <= settings.recipients_max
        for path in (envelope.reverse_path, *envelope.forward_paths):
            assert path.decode("utf-8").isprintable(), path
            assert envelope.is_utf8 or path.isascii()
        if not self.world.is_open():
            for path in envelope.forward_paths:
                local_part, _, domain = path.rpartition(b"@")
                is_ours = domain == OURS.encode() and not set(b"%!@") & set(local_part)
                assert is_ours or path == b"postmaster@origin.example", path
        assert session.tls is not None or not settings.is_tls_required
        assert session.is_known or not settings.is_login_required
        if session.login and not settings.xclient:
            assert self.world.authenticate.may_send_as(session.login, envelope.reverse_path)
        self.accepted.append((message, content))

    def envelopes(self) -> list[Feature]:
        """What was accepted, to compare it."""
        return [(message.id, message.envelope, content) for message, content in self.accepted]

    def features(self) -> Iterator[Feature]:
        """What the session went through: pairs of steps, and of replies."""
        seen = self.world.watched.seen
        yield from itertools.pairwise(seen)
        lines: list[object] = [line[:16] for line in self.said.split(b"\r\n") if line[3:4] == b" "]
        yield from itertools.pairwise(lines)
        for message, content in self.accepted:
            envelope = message.envelope
            yield "accepted", envelope.is_utf8, envelope.dsn is not None, len(content).bit_length()
