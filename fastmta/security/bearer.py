"""OAUTHBEARER (RFC 7628) and XOAUTH2, which came before it: the client sends a token."""

from __future__ import annotations

import json
import re
from typing import Final

from fastmta.smtp.sasl import Done, SaslStep, Verdict

from .saslname import GS2_HEADER, decode_saslname
from .step import (
    INVALID,
    Cancel,
    Checker,
    Client,
    Malformed,
    challenge,
    decode_name,
    nothing_to_cancel,
    refused,
)

TOKEN_OCTETS_MAX: Final = 8192
_SEPARATOR = b"\x01"
_PAIRS_MAX: Final = 16
_PAIR = re.compile(rb"([A-Za-z]{1,32})=([^\0\x01]*)")  # RFC 7628 3.1, any octets of UTF-8 beside
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")  # RFC 6750 2.1

# RFC 7628 3.2.2; Google's servers give the same three fields to XOAUTH2.
ERROR: Final = json.dumps({"status": "invalid_token", "schemes": "bearer"}).encode("ascii")


class BearerExchange:
    """One message; a token that is not good is told about in a challenge, then refused."""

    def __init__(self, checker: Checker, client: Client, mechanism: str) -> None:
        self._checker = checker
        self._client = client
        self._mechanism = mechanism
        self._refusal: SaslStep | None = None
        self._cancel: Cancel = nothing_to_cancel

    def step(self, response: bytes | None, done: Done) -> None:
        if self._refusal is not None:
            done(self._refusal)  # RFC 7628 3.2.3: whatever the client says to the error
            return
        if response is None:
            done(challenge(b""))
            return
        parse = _parse_oauthbearer if self._mechanism == "OAUTHBEARER" else _parse_xoauth2
        try:
            login, token = parse(response)
        except Malformed as problem:
            done(refused(str(problem)))
            return

        def answered(step: SaslStep) -> None:
            if step.verdict is Verdict.REFUSED:
                self._refusal = step
                step = challenge(ERROR)
            done(step)

        if not token:
            answered(refused(INVALID, login))  # RFC 7628 4.3: it asks what we want
            return
        self._cancel = self._checker.check_token(
            self._mechanism, response, (login, token), self._client, answered
        )

    def cancel(self) -> None:
        self._cancel()


def _parse_oauthbearer(message: bytes) -> tuple[str, str]:
    """(login or "", token or ""). Raises Malformed."""
    header, separator, rest = message.partition(_SEPARATOR)
    match = GS2_HEADER.fullmatch(header)
    if match is None or not separator:
        raise Malformed("malformed OAUTHBEARER message")
    if match[1] is None:
        raise Malformed("channel binding is not supported")
    login = decode_saslname(match[2]) if match[2] is not None else ""
    return login, _token(_pairs(rest))


def _parse_xoauth2(message: bytes) -> tuple[str, str]:
    pairs = _pairs(message)
    if b"user" not in pairs:
        raise Malformed("malformed XOAUTH2 message")
    return decode_name(pairs[b"user"]), _token(pairs)


def _pairs(octets: bytes) -> dict[bytes, bytes]:
    """`key=value ^A ... ^A`. Raises Malformed."""
    if octets == _SEPARATOR:
        return {}
    fields = octets[:-2].split(_SEPARATOR, _PAIRS_MAX)
    if not octets.endswith(_SEPARATOR * 2) or len(fields) > _PAIRS_MAX:
        raise Malformed("malformed key=value pairs")
    pairs: dict[bytes, bytes] = {}
    for field in fields:
        match = _PAIR.fullmatch(field)
        if match is None or match[1] in pairs:
            raise Malformed("malformed key=value pairs")
        pairs[match[1]] = match[2]
    return pairs


def _token(pairs: dict[bytes, bytes]) -> str:
    value = pairs.get(b"auth", b"")
    if not value:
        return ""
    match = _BEARER.fullmatch(value)
    if match is None:
        raise Malformed("not a bearer token")
    if len(match[1]) > TOKEN_OCTETS_MAX:
        raise Malformed("the token is too long")
    return match[1].decode("ascii")
