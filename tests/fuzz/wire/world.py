"""The world of one fuzzed session: settings, fake ports, and a framing that is watched."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastmta.message import Message
from fastmta.session import ContentRoom, SessionSettings, State
from fastmta.session.settings import Networks
from fastmta.smtp import Framing, framing_py
from fastmta.smtp.frame import COMMAND, DONE, NEED_MORE, REFUSING
from fastmta.smtp.use import Use
from tests.fuzz.wire.exchange import RealAuthenticate
from tests.support.sasl import FakeChecker
from tests.support.session import HOSTNAME, Dialog, FakeAccept, FakeQuota

OURS = "ours.example"
TRUSTED, STRANGER = "127.0.0.1", "192.0.2.1"


@dataclass
class WatchedAccept(FakeAccept):
    """Looks at each message before anything else can happen."""

    look: Callable[[Message, bytes], None] = lambda message, content: None

    def accept(self, message: Message, done: Callable[[Message, Exception | None], None]) -> None:
        content = message.content
        if message.file is not None:
            (spill,) = (one for one in self.spills if one.id == message.id)
            content = spill.octets
        assert content is not None
        assert len(content) == message.size_octets
        self.look(message, content)
        super().accept(message, done)


class Watched:
    """A framing that counts the replies which a session owes for what it takes out."""

    def __init__(self, framing: Any, dialog: Dialog) -> None:
        self._framing = framing
        self._dialog = dialog
        self.owed = 1  # the greeting
        self.reply_count_max = 1  # of one content
        self.is_failed = False  # a chunk was refused, and no MAIL was accepted since
        self.seen: list[tuple[object, ...]] = []  # what there was, in which state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._framing, name)

    def next_command(self) -> int:
        answer: int = self._framing.next_command()
        if answer != NEED_MORE:
            self.owed += 1
            session = self._dialog.session
            if session.state == State.MAIL:  # so MAIL was accepted
                self.is_failed = False
            verb = self._framing.verb if answer == COMMAND else None
            self.seen.append((session.state, verb, answer))
        return answer

    def begin_chunk(self, size: int) -> None:
        self._framing.begin_chunk(size)
        self.owed -= 1  # its end answers

    def skip(self, size: int) -> None:
        self._framing.skip(size)
        self.is_failed = True

    def read_content(self) -> int:
        answer: int = self._framing.read_content()
        if answer == DONE:
            transaction = self._dialog.session.transaction
            is_lmtp = self._dialog.session.ports.settings.is_lmtp
            is_whole = not transaction.chunk_count or transaction.is_last_chunk
            self.owed += transaction.rcpt_count if is_lmtp and is_whole else 1
            refused = self._framing.violations & REFUSING
            self.is_failed = self.is_failed or (not is_whole and refused > 0)
            self.seen.append(("content", self._framing.violations, is_whole))
        return answer


class World:
    """Made anew, the same one for the same chance, for each run of a case."""

    def __init__(self, chance: random.Random, *, is_twin: bool = False) -> None:
        self.address = chance.choice((TRUSTED, TRUSTED, STRANGER, STRANGER))
        self.settings = _settings(chance)
        self.room = ContentRoom(chance.choice((1 << 27, 1 << 27, 70_000)))
        error = OSError(28, "full") if chance.random() < 0.1 else None
        self.accept = WatchedAccept(
            is_late=chance.random() < 0.4,
            error=error,
            spill_error=OSError(5, "bad") if chance.random() < 0.1 else None,
            is_behind=chance.random() < 0.1,
            is_prompt=chance.random() < 0.5,
        )
        self.checker = FakeChecker(is_slow=chance.random() < 0.3, is_down=chance.random() < 0.1)
        self.authenticate = RealAuthenticate(self.checker, is_without_tls=chance.random() < 0.7)
        quota = FakeQuota(_left(chance)) if chance.random() < 0.4 else None
        self.dialog = Dialog(
            self.address,
            self.settings,
            [OURS],
            self.accept,
            self.room,
            self.authenticate,  # type: ignore[arg-type]  # the port is what it has
            quota,
        )
        session = self.dialog.session
        maker = framing_py.Framing if is_twin else Framing
        self.watched = Watched(maker(self.settings.command_octets_max), self.dialog)
        session.framing = self.watched  # type: ignore[assignment]  # it does all that one does
        self.answered: list[object] = []  # spills

    def is_open(self) -> bool:
        """Whether a client of this world may send to anyone."""
        session = self.dialog.session
        return self.address == TRUSTED or bool(session.login) or bool(self.settings.xclient)

    def answer_all(self) -> None:
        """Everybody whom the session waits for answers."""
        for spill in self.accept.spills:
            if spill.done is not None and not spill.is_prompt and spill not in self.answered:
                self.answered.append(spill)
                spill.answer()
        self.accept.store_all()
        self.checker.release()
        self.authenticate.loop.advance(1.0)

    def catch_up(self) -> None:
        """The disk has caught up with every content."""
        for spill in self.accept.spills:
            if spill.is_behind and not spill.is_abandoned:
                spill.catch_up()

    def check_ended(self) -> None:
        """Nothing is left of a session that has ended and was answered everything."""
        assert self.room.used == 0, self.room.used
        assert self.room.octets_expected == 0, self.room.octets_expected
        for spill in self.accept.spills:
            assert spill.is_abandoned or spill.done is not None, "a file that nobody will remove"
        assert not self.authenticate.problems, self.authenticate.problems
        assert not self.authenticate.loop.timers


def _settings(chance: random.Random) -> SessionSettings:
    def some(probability: float) -> bool:
        return chance.random() < probability

    networks = Networks([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("192.0.2.0/24")])
    soft, hard = chance.choice(((40, 60), (40, 60), (40, 60), (40, 60), (3, 5), (0, 4)))
    return SessionSettings(
        HOSTNAME,
        message_octets_max=chance.choice((2000, 2000, 100_000)),
        inline_octets_max=chance.choice((700, 10_000)),
        recipients_max=chance.choice((3, 100)),
        command_octets_max=chance.choice((512, 2048)),
        errors_soft=soft,
        errors_hard=hard,
        junk_commands_max=chance.choice((5, 100)),
        messages_max=chance.choice((2, 100)),
        hops_max=chance.choice((3, 50)),
        header_octets_max=chance.choice((300, 5000)),
        header_fields_max=chance.choice((5, 100)),
        line_endings=chance.choice(("reject", "normalize", "auto")),
        is_lmtp=some(0.25),
        is_adding_fields=some(0.2),
        is_login_required=some(0.1),
        has_tls=some(0.4),
        is_tls_required=some(0.05),
        has_auth=some(0.6),
        is_naming_login=some(0.3),
        xclient=networks if some(0.15) else Networks(),
        xforward=networks if some(0.15) else Networks(),
        discarded=frozenset(("PIPELINING",)) if some(0.15) else frozenset(),
    )


def _left(chance: random.Random) -> dict[Use, int]:
    return {use: chance.choice((0, 1, 2, 50)) for use in Use if chance.random() < 0.4}
