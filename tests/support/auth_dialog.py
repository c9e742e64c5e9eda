"""The server's side of SMTP AUTH for receivers of tests (RFC 4954), without sockets.

It knows PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 7677) and XOAUTH2, and was written from their
texts, not from the server's code: a mistake there is not repeated here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

_ITERATIONS = 4096
_OAUTH_FAILURE = b'{"status":"400","schemes":"Bearer","scope":"https://mail.example/"}'

# A challenge in base64; the client's line, or None when there will be none.
Ask: TypeAlias = Callable[[bytes], bytes | None]


class Aborted(Exception):
    """The dialog is over without a verdict; `reply` if one is due."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__(reply)
        self.reply = reply


class AuthDialog:
    """One AUTH command."""

    def __init__(
        self, users: Mapping[str, str], tokens: Mapping[str, str], is_forging: bool = False
    ) -> None:
        self._users = users
        self._tokens = tokens
        self._is_forging = is_forging
        self.mechanism = ""

    def run(self, line: bytes, mechanisms: Sequence[str], ask: Ask) -> tuple[str, bool]:
        """Who the client says it is, and whether that is right; or Aborted."""
        words = line.split(b" ")
        self.mechanism = words[1].decode("latin-1").upper() if len(words) > 1 else ""
        if self.mechanism not in mechanisms:
            raise Aborted(b"504 5.5.4 Unrecognized authentication type\r\n")
        self._ask = ask
        initial = None if len(words) < 3 else _decoded(words[2])
        return {
            "PLAIN": self._plain,
            "LOGIN": self._login,
            "SCRAM-SHA-256": self._scram,
            "XOAUTH2": self._xoauth2,
        }[self.mechanism](initial)

    def _respond(self, challenge: bytes) -> bytes:
        line = self._ask(base64.b64encode(challenge))
        if line is None:
            raise Aborted
        if line == b"*":
            raise Aborted(b"501 5.7.0 Authentication aborted\r\n")
        return _decoded(line)

    def _plain(self, initial: bytes | None) -> tuple[str, bool]:
        given = self._respond(b"") if initial is None else initial
        identity, name, password = (part.decode() for part in given.split(b"\0"))
        assert identity in ("", name), "an identity that was not asked for"
        return name, self._users.get(name) == password

    def _login(self, initial: bytes | None) -> tuple[str, bool]:
        name = (self._respond(b"Username:") if initial is None else initial).decode()
        password = self._respond(b"Password:").decode()
        return name, self._users.get(name) == password

    def _xoauth2(self, initial: bytes | None) -> tuple[str, bool]:
        given = (self._respond(b"") if initial is None else initial).decode()
        user, bearer, *rest = given.split("\x01")
        assert user.startswith("user="), given
        assert bearer.startswith("auth=Bearer "), given
        assert rest == ["", ""], given
        name, token = user.removeprefix("user="), bearer.removeprefix("auth=Bearer ")
        if self._tokens.get(token) == name:
            return name, True
        answer = self._respond(_OAUTH_FAILURE)
        assert answer == b"", "a failure is answered by an empty response"
        return name, False

    def _scram(self, initial: bytes | None) -> tuple[str, bool]:
        first = (self._respond(b"") if initial is None else initial).decode()
        binding, identity, bare = first.split(",", 2)
        assert (binding[:1] in ("n", "y"), identity) == (True, ""), first
        fields = dict(part.split("=", 1) for part in bare.split(","))
        name = fields["n"].replace("=2C", ",").replace("=3D", "=")
        salt, nonce = os.urandom(16), fields["r"] + base64.b64encode(os.urandom(18)).decode()
        server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i={_ITERATIONS}"
        final = self._respond(server_first.encode()).decode()
        without_proof, _, proof = final.rpartition(",p=")
        answered = dict(part.split("=", 1) for part in without_proof.split(","))
        assert base64.b64decode(answered["c"]).decode() == f"{binding},{identity},", final
        password = self._users.get(name, "")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
        client_key = _mac(salted, b"Client Key")
        text = f"{bare},{server_first},{without_proof}".encode()
        signature = _mac(hashlib.sha256(client_key).digest(), text)
        wanted = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        is_right = name in self._users and answered["r"] == nonce
        if not is_right or not hmac.compare_digest(base64.b64decode(proof), wanted):
            return name, False
        server_key = _mac(b"forged" if self._is_forging else salted, b"Server Key")
        verifier = base64.b64encode(_mac(server_key, text))
        assert self._respond(b"v=" + verifier) == b"", "the last response is empty"
        return name, True


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _decoded(word: bytes) -> bytes:
    if word == b"=":  # RFC 4954 4: an empty initial response
        return b""
    try:
        return base64.b64decode(word, validate=True)
    except binascii.Error:
        raise Aborted(b"501 5.5.2 Cannot decode response\r\n") from None
