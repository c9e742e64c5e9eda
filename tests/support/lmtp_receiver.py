"""A scripted LMTP receiver (RFC 2033), over TCP or a unix socket: tests/support/receiver.py, but

the greeting is answered by LHLO, EHLO and HELO are refused, and each recipient that was accepted
has a reply of its own behind the content. `.` of a script is one of these: `./2` the second one of
the session.
"""

from __future__ import annotations

import socket

from tests.support.receiver import EHLO_REPLY, Receiver, Script, Server, Session


class LmtpReceiver(Receiver):
    """`Transaction.forward_paths` are those whose last reply was positive."""

    def serve(self, session: Session, connection: socket.socket, script: Script) -> Server:
        return _LmtpServer(self, session, connection, script)


class _LmtpServer(Server):
    def _begin(self) -> None:
        self._act("CONNECT", b"220 receiver.example LMTP\r\n")

    def _obey(self, verb: str, line: bytes) -> bool:
        if verb == "LHLO":
            self._act("LHLO", EHLO_REPLY)
            return True
        if verb in ("EHLO", "HELO"):
            self._act(verb, b"500 5.5.1 This is LMTP\r\n")
            return True
        return super()._obey(verb, line)

    def _judge(self, wire_content: bytes) -> None:
        asked = list(zip(self._forward_paths, self._rcpt_parameters, strict=True))
        taken: list[tuple[bytes, bytes]] = []
        for place, (path, _) in enumerate(asked, 1):
            usual = b"250 2.1.5 <%s> saved\r\n" % path

            def before(is_positive: bool, place: int = place) -> None:
                if is_positive:
                    taken.append(asked[place - 1])
                if place == len(asked):  # the reply is not to be there before its record
                    self._forward_paths = [one for one, _ in taken]
                    self._rcpt_parameters = [one for _, one in taken]
                    self._keep(wire_content, bool(taken))

            self._act(".", usual, before)
