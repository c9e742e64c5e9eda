"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, without channel binding.

The client proves that it knows the password and learns that we know a verifier of it; the password
itself is not sent. Nothing differs for a name that nobody has before the proof is judged: it has a
salt that stays the same, and keys that no proof fits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final, Protocol

from fastmta.smtp.sasl import Done, Exchange

from .password import HASH_OCTETS, ScramVerifier
from .saslname import GS2_HEADER, decode_saslname
from .step import (
    INVALID,
    NO_USERS,
    Client,
    Malformed,
    accepted,
    challenge,
    decode_base64,
    locked,
    never_locked,
    refused,
    unavailable,
)

NONCE_OCTETS: Final = 18  # ours, before base64
CLIENT_NONCE_OCTETS_MAX: Final = 256
SCRAM_OCTETS_MAX: Final = 2048  # of one message

# RFC 5802 7; `m=` announces what we would have to know and do not
_FIRST_BARE = re.compile(rb"n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)((?:,[A-Za-z]=[^,\0]+)*)")
_FINAL = re.compile(
    rb"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,\0]+)*),p=([A-Za-z0-9+/=]+)"
)


class Verifiers(Protocol):
    """Where the verifiers are."""

    def verifier(self, login: str) -> ScramVerifier | None:
        """That of `login`; a made-up one, always the same, when there is none. None: cannot say."""

    def elsewhere(self, login: str, client: Client) -> Exchange | None:
        """An exchange of somebody else who may know `login`, which has then to be used."""


class ScramExchange:
    """client-first, server-first, client-final, server-final, and the client's empty answer."""

    def __init__(
        self,
        verifiers: Verifiers,
        client: Client,
        nonce: Callable[[], bytes],
        is_locked: Callable[[str], bool] = never_locked,
    ) -> None:
        """`nonce` gives NONCE_OCTETS random octets; `is_locked` as in `Turns`."""
        self._verifiers = verifiers
        self._is_locked = is_locked
        self._client = client
        self._make_nonce = nonce
        self._elsewhere: Exchange | None = None
        self._verifier: ScramVerifier | None = None
        self._login = ""
        self._gs2_header = b""
        self._nonce = b""
        self._messages = b""  # client-first-bare and server-first, each with a comma behind
        self._is_proven = False

    def step(self, response: bytes | None, done: Done) -> None:
        if self._elsewhere is not None:
            self._elsewhere.step(response, done)
            return
        if response is None:
            done(challenge(b""))
            return
        if self._is_proven:
            is_good = response == b""
            done(accepted(self._login) if is_good else refused("malformed SCRAM", self._login))
            return
        try:
            if len(response) > SCRAM_OCTETS_MAX:
                raise Malformed("SCRAM message too long")
            if self._verifier is None:
                self._first(response, done)
            else:
                self._final(self._verifier, response, done)
        except Malformed as problem:
            done(refused(str(problem), self._login))

    def cancel(self) -> None:
        if self._elsewhere is not None:
            self._elsewhere.cancel()

    def _first(self, message: bytes, done: Done) -> None:
        header = GS2_HEADER.match(message)
        if header is None:
            raise Malformed("malformed SCRAM client-first-message")
        if header[1] is None:
            raise Malformed("channel binding is not supported")
        bare = message[header.end() :]
        if bare.startswith(b"m="):
            raise Malformed("SCRAM extension not supported")
        match = _FIRST_BARE.fullmatch(bare)
        if match is None or len(match[2]) > CLIENT_NONCE_OCTETS_MAX:
            raise Malformed("malformed SCRAM client-first-message")
        self._login = decode_saslname(match[1])
        if header[2] is not None and decode_saslname(header[2]) != self._login:
            raise Malformed("acting as another user is not allowed")
        self._elsewhere = self._verifiers.elsewhere(self._login, self._client)
        if self._elsewhere is not None:
            self._elsewhere.step(message, done)
            return
        verifier = self._verifiers.verifier(self._login)
        if verifier is None:
            done(unavailable(NO_USERS, self._login))
            return
        self._verifier = verifier
        self._gs2_header = header[0]
        self._nonce = match[2] + base64.b64encode(self._make_nonce())
        salt = base64.b64encode(verifier.salt)
        server_first = b"r=%s,s=%s,i=%d" % (self._nonce, salt, verifier.iterations)
        self._messages = b"%s,%s," % (bare, server_first)
        done(challenge(server_first))

    def _final(self, verifier: ScramVerifier, message: bytes, done: Done) -> None:
        match = _FINAL.fullmatch(message)
        if match is None:
            raise Malformed("malformed SCRAM client-final-message")
        without_proof, binding, nonce, encoded = match.groups()
        if binding != base64.b64encode(self._gs2_header):
            raise Malformed("SCRAM channel binding does not match")
        if not hmac.compare_digest(nonce, self._nonce):
            raise Malformed("SCRAM nonce does not match")
        proof = decode_base64(encoded, HASH_OCTETS)
        if len(proof) != HASH_OCTETS:
            raise Malformed("malformed SCRAM proof")
        signed = self._messages + without_proof
        signature = hmac.digest(verifier.stored_key, signed, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        is_good = hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)
        if not is_good:
            done(refused(INVALID, self._login))
            return
        if self._is_locked(self._login):  # our proof would tell of a right password
            done(locked(self._login))
            return
        self._is_proven = True
        # As a challenge, which the client answers with nothing: SMTP's 235 cannot carry it
        # (RFC 4954 4, RFC 4422 5).
        server_signature = hmac.digest(verifier.server_key, signed, "sha256")
        done(challenge(b"v=" + base64.b64encode(server_signature)))
