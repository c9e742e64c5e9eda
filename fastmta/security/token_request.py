"""One request for a token: a form over HTTPS, JSON back (RFC 6749 4.4, 5, 6). In a thread.

No redirect is followed and no proxy used: a form with secrets goes to the one place that was named.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import urllib.parse
from typing import Any, Final

import msgspec

from .bearer import TOKEN_OCTETS_MAX
from .durable import replace_file

TIMEOUT_S: Final = 30.0
_ANSWER_OCTETS_MAX: Final = 65_536
_REFRESH_OCTETS_MAX: Final = 16_384
_ACCESS = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 2.1
_REFRESH = re.compile(r"[\x20-\x7e]+")  # RFC 6749 A.17
_ERROR = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,60}")  # RFC 6749 5.2


class TokenProblem(ValueError):
    """There is no token; the text says why and holds no secret."""


class TokenRequest(msgspec.Struct, frozen=True):
    """Whom to ask, and as who. What is secret is not shown by `repr`.

    With a refresh token it is renewed with that, else with the client's own credentials. A server
    may give a new refresh token each time: it is kept in `refresh_token_file`, if there is one,
    which is read for each request.
    """

    endpoint: str  # https://host[:port]/path
    client_id: str
    client_secret: str = ""
    refresh_token: str = ""
    refresh_token_file: str = ""
    scope: str = ""
    ca_file: str = ""  # "": the system's
    timeout_s: float = TIMEOUT_S  # of all of it

    def __repr__(self) -> str:
        return f"TokenRequest(endpoint={self.endpoint!r}, client_id={self.client_id!r}, ...)"

    __str__ = __repr__


class Token(msgspec.Struct, frozen=True):
    """An access token, and how long it is good from now; 0: it was not said."""

    text: str
    life_s: float
    warning: str = ""  # what an operator must set right, though this token is good

    def __repr__(self) -> str:
        return "Token(***)"

    __str__ = __repr__


def check_token_request(request: TokenRequest) -> None:
    """Raises TokenProblem for a request that cannot be right."""
    _place_of(request.endpoint)
    if not request.client_id:
        raise TokenProblem("token request: client_id is missing")
    if not (request.refresh_token or request.refresh_token_file or request.client_secret):
        raise TokenProblem("token request: neither refresh token nor client_secret")


class Grant:
    """What is needed to ask again and again. `fetch` is called from one thread at a time."""

    def __init__(self, request: TokenRequest) -> None:
        self._request = request
        self._refresh_token = request.refresh_token
        self._spent = (
            ""  # what the file still holds though there is a newer one: it was not written
        )

    def fetch(self) -> Token:
        """A new token. Blocks, for `timeout_s` and the time that DNS takes. Raises TokenProblem."""
        request = self._request
        form = {"client_id": request.client_id}
        if request.client_secret:
            form["client_secret"] = request.client_secret
        if request.scope:
            form["scope"] = request.scope
        refresh_token = self._current()
        form["grant_type"] = "refresh_token" if refresh_token else "client_credentials"
        if refresh_token:
            form["refresh_token"] = refresh_token
        status, answer = _post(request, urllib.parse.urlencode(form).encode("ascii"))
        host = _place_of(request.endpoint)[0]
        token, renewed = _parse(status, answer, host)
        is_renewed = bool(refresh_token and renewed and renewed != refresh_token)
        if is_renewed or (refresh_token and self._spent):
            warning = self._keep(renewed if is_renewed else refresh_token, refresh_token)
            token = Token(token.text, token.life_s, warning)
        return token

    def _current(self) -> str:
        path = self._request.refresh_token_file
        if not path:
            return self._refresh_token
        try:
            with open(path, encoding="ascii") as file:
                text = file.read(_REFRESH_OCTETS_MAX).strip("\r\n\t ")
        except FileNotFoundError:
            text = self._refresh_token  # the first time
        except (OSError, ValueError) as error:
            raise TokenProblem(f"{path}: the refresh token is not readable") from error
        if not text:
            raise TokenProblem(f"{path}: has no refresh token in it")
        # A server that sees a spent one again may take back all of them (RFC 9700 4.14.2).
        return self._refresh_token if text == self._spent else text

    def _keep(self, refresh_token: str, used: str) -> str:
        """Write the new one down in place of the one that was `used`; what is wrong with that."""
        self._refresh_token = refresh_token
        path = self._request.refresh_token_file
        if not path:
            return ""
        self._spent = self._spent or used
        try:
            replace_file(path, f"{refresh_token}\n".encode("ascii"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return (
                f"{path}: the new refresh token cannot be written: {reason}: it is lost with this "
                "process, and the old one may be good for nothing: let us write there"
            )
        self._spent = ""
        return ""


def _place_of(endpoint: str) -> tuple[str, int, str]:
    """Host, port and path with query. Raises TokenProblem."""
    try:
        parts = urllib.parse.urlsplit(endpoint)
        port = parts.port
    except ValueError:
        raise TokenProblem("token request: the endpoint is no URL") from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise TokenProblem("token request: the endpoint is not of the form https://host/path")
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    if re.fullmatch(r"[!-~]+", target) is None or port == 0:
        raise TokenProblem("token request: the endpoint is no URL")
    return parts.hostname, port or 443, target


def _post(request: TokenRequest, form: bytes) -> tuple[int, bytes]:
    """Status and body of the answer. Raises TokenProblem."""
    host, port, target = _place_of(request.endpoint)
    try:
        context = ssl.create_default_context(cafile=request.ca_file or None)
    except OSError as error:
        raise TokenProblem(f"{request.ca_file}: the CA certificates cannot be read") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    timeout_s = request.timeout_s
    connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    deadline = _Deadline(timeout_s)
    try:
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "Connection": "close",
        }
        connection.connect()
        deadline.watch(connection.sock)
        connection.request("POST", target, form, headers)
        answer = connection.getresponse()
        octets = answer.read(_ANSWER_OCTETS_MAX + 1)
        deadline.check()  # or it may be only a part
        return answer.status, octets
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message
        raise TokenProblem(f"{host}: certificate verification failed: {reason}") from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, TimeoutError) or deadline.is_over:
            raise TokenProblem(f"{host}: no token in time") from None
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise TokenProblem(f"{host}: token request failed: {reason}") from None
    finally:
        deadline.cancel()
        connection.close()


class _Deadline:
    """Ends whatever a socket waits for, once for all of a request: a time limit of the socket
    starts again with each octet."""

    def __init__(self, timeout_s: float) -> None:
        self.is_over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, one: socket.socket) -> None:
        """Raises TimeoutError when it is too late."""
        self._socket = one
        self.check()

    def check(self) -> None:
        """Raises TimeoutError when it is too late."""
        if self.is_over:
            raise TimeoutError

    def cancel(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's, which takes itself apart under the other thread's hands.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _parse(status: int, answer: bytes, host: str) -> tuple[Token, str]:
    """The token and a new refresh token, or "". Raises TokenProblem."""
    if len(answer) > _ANSWER_OCTETS_MAX:
        raise TokenProblem(f"{host}: the answer to the token request is too long")
    try:
        fields = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = None
    known: dict[str, Any] = fields if isinstance(fields, dict) else {}
    if status != 200 or "error" in known:
        error = known.get("error")
        is_good = isinstance(error, str) and _ERROR.fullmatch(error) is not None
        raise TokenProblem(f"{host}: token refused: {error if is_good else f'HTTP {status}'}")
    text, kind = known.get("access_token"), known.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":  # RFC 6749 7.1
        raise TokenProblem(f"{host}: the answer to the token request has no bearer token")
    if not isinstance(text, str) or len(text) > TOKEN_OCTETS_MAX or not _ACCESS.fullmatch(text):
        raise TokenProblem(f"{host}: the answer to the token request has no usable token")
    renewed = known.get("refresh_token")
    if not isinstance(renewed, str) or len(renewed) > _REFRESH_OCTETS_MAX:
        renewed = ""
    if not _REFRESH.fullmatch(renewed):
        renewed = ""
    return Token(text, _life_of(known.get("expires_in"))), renewed


def _life_of(value: object) -> float:
    """Seconds; 0.0 when that is not said in a way to be believed. Some write it as a text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value < 1e9 else 0.0
