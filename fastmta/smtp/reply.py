"""Replies of a server (RFC 5321 4.2): the value, and every reply that this server gives.

Names carry number and meaning; texts are the ones of Postfix, because scripts look for them.
"""

import re
from functools import lru_cache

import msgspec
from msgspec.structs import force_setattr

_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One reply. `octets` is what goes over the wire, made once; `enhanced_status` may be ""."""

    code: int
    enhanced_status: str  # RFC 3463: "2.1.5"; RFC 2034 puts it in front of each line
    lines: tuple[str, ...]  # texts, without code and status; at least one
    octets: bytes = b""

    def __post_init__(self) -> None:
        if not self.octets:
            force_setattr(self, "octets", self._encode())

    def _encode(self) -> bytes:
        if not self.lines or not 200 <= self.code <= 599:
            raise ValueError(f"not a reply: {self.code} {self.lines!r}")
        status = f"{self.enhanced_status} " if self.enhanced_status else ""
        wire = [f"{self.code}-{status}{_printable(line)}\r\n" for line in self.lines[:-1]]
        wire.append(f"{self.code} {status}{_printable(self.lines[-1])}\r\n")
        return "".join(wire).encode("ascii")

    @property
    def text(self) -> str:
        """The reply in one line, as log lines and reports quote it: "250 2.0.0 Ok"."""
        return self.octets[:-2].replace(b"\r\n", b" ").decode("ascii")

    @property
    def is_positive(self) -> bool:
        """2xx or 3xx (RFC 5321 4.2.1)."""
        return self.code < 400

    @property
    def is_intermediate(self) -> bool:
        """3xx: the server waits for the rest."""
        return 300 <= self.code < 400

    @property
    def is_transient(self) -> bool:
        """4xx: may succeed later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5xx: will not succeed."""
        return self.code >= 500

    def replaced_by(self, text: str) -> "Reply":
        """The same code and status with another text of one line."""
        return Reply(self.code, self.enhanced_status, (text,))


def _printable(text: str) -> str:
    """A reply's text is printable ASCII (RFC 5321 4.2): nothing may break its line."""
    return _NOT_PRINTABLE.sub("?", text)


def _one(code: int, enhanced_status: str, text: str) -> Reply:
    return Reply(code, enhanced_status, (text,))


def _shown(octets: bytes) -> str:
    """Octets of the client inside a reply's text, at most 100 of them."""
    return octets[:100].decode("ascii", "replace")


# Positive completion.
R250_OK = _one(250, "2.0.0", "Ok")
R250_SENDER_OK = _one(250, "2.1.0", "Ok")
R250_RECIPIENT_OK = _one(250, "2.1.5", "Ok")
R252_CANNOT_VERIFY = _one(252, "2.0.0", "Cannot VRFY user, but will accept message")
R214_HELP = _one(214, "2.0.0", "See RFC 5321")
R221_BYE = _one(221, "2.0.0", "Bye")
R220_READY_FOR_TLS = _one(220, "2.0.0", "Ready to start TLS")
R354_END_WITH_DOT = _one(354, "", "End data with <CR><LF>.<CR><LF>")

# Syntax.
R500_NOT_RECOGNIZED = _one(500, "5.5.2", "Error: command not recognized")
R500_BAD_SYNTAX = _one(500, "5.5.2", "Error: bad syntax")
R500_BARE_CR_OR_LF = _one(500, "5.5.2", "Error: bare <CR> or <LF> received")
R501_HELO_SYNTAX = _one(501, "", "Syntax: HELO hostname")
R501_EHLO_SYNTAX = _one(501, "", "Syntax: EHLO hostname")
R501_MAIL_SYNTAX = _one(501, "5.5.4", "Syntax: MAIL FROM:<address>")
R501_RCPT_SYNTAX = _one(501, "5.5.4", "Syntax: RCPT TO:<address>")
R501_DATA_SYNTAX = _one(501, "5.5.4", "Syntax: DATA")
R501_RSET_SYNTAX = _one(501, "5.5.4", "Syntax: RSET")
R501_VRFY_SYNTAX = _one(501, "5.5.4", "Syntax: VRFY address")
R501_QUIT_SYNTAX = _one(501, "5.5.4", "Syntax: QUIT")
R501_BAD_SENDER = _one(501, "5.1.7", "Bad sender address syntax")
R501_BAD_RECIPIENT = _one(501, "5.1.3", "Bad recipient address syntax")
R501_BAD_SIZE = _one(501, "5.5.4", "Bad message size syntax")
R501_BAD_BODY = _one(501, "5.5.4", "Bad message body syntax")
R501_BAD_PARAMETER = _one(501, "5.5.4", "Bad parameter syntax")
R501_REPEATED_PARAMETER = _one(501, "5.5.4", "Parameter given twice")
R502_NOT_IMPLEMENTED = _one(502, "5.5.1", "Error: command not implemented")
R553_NEED_SMTPUTF8 = _one(553, "5.6.7", "Must declare SMTPUTF8 to send unicode address")

# Sequence.
R503_NEED_HELO = _one(503, "5.5.1", "Error: send HELO/EHLO first")
R503_NEED_MAIL = _one(503, "5.5.1", "Error: need MAIL command")
R503_NEED_RCPT = _one(503, "5.5.1", "Error: need RCPT command")
R503_NESTED_MAIL = _one(503, "5.5.1", "Error: nested MAIL command")
R554_NO_VALID_RECIPIENTS = _one(554, "5.5.1", "Error: no valid recipients")
R554_SYNCHRONIZATION = _one(554, "5.5.0", "Error: SMTP protocol synchronization")

# Limits.
R452_TOO_MANY_RECIPIENTS = _one(452, "4.5.3", "Error: too many recipients")
R452_STORAGE_FULL = _one(452, "4.3.1", "Insufficient system storage")
R552_TOO_BIG = _one(552, "5.3.4", "Message size exceeds fixed limit")
R552_CONTENT_TOO_BIG = _one(552, "5.3.4", "Error: message too large")

# Verdicts on a content.
R451_QUEUE_WRITE = _one(451, "4.3.0", "Error: queue file write error")
R451_LOCAL_ERROR = _one(451, "4.3.0", "Error: local problem")
R550_BARE_CR = _one(550, "5.6.11", "Error: bare <CR> received")
R550_BARE_LF = _one(550, "5.6.11", "Error: bare <LF> received")
R550_NUL = _one(550, "5.6.0", "Error: NUL octet in message")
R554_LINE_TOO_LONG = _one(554, "5.6.0", "Error: text line too long")
R554_TOO_MANY_HOPS = _one(554, "5.4.0", "Error: too many hops")
R554_HEADER_TOO_LONG = _one(554, "5.6.0", "Error: header section too long")
R550_SOURCE_ROUTE = _one(550, "5.7.1", "Source routes are not accepted")
R530_NEED_STARTTLS = _one(530, "5.7.0", "Must issue a STARTTLS command first")


@lru_cache(maxsize=16)
def r220_greeting(hostname: str, banner: str = "ESMTP fastmta") -> Reply:
    """The opening (RFC 5321 4.2: the host name comes first)."""
    return _one(220, "", f"{hostname} {banner}")


@lru_cache(maxsize=16)
def r250_hello(hostname: str) -> Reply:
    """Answer to HELO."""
    return _one(250, "", hostname)


def r250_queued_octets(queue_id: bytes) -> bytes:
    """The message is ours from here on (RFC 5321 6.1); no value is needed, once per message."""
    return b"250 2.0.0 Ok: queued as %b\r\n" % queue_id


def r252_verified(argument: bytes) -> Reply:
    """Answer to VRFY: nothing is disclosed (RFC 5321 7.3)."""
    return _one(252, "2.0.0", _shown(argument))


def r421_too_many_errors(hostname: str) -> Reply:
    """The session ends."""
    return _one(421, "4.7.0", f"{hostname} Error: too many errors")


def r421_timeout(hostname: str) -> Reply:
    """The session ends."""
    return _one(421, "4.4.2", f"{hostname} Error: timeout exceeded")


def r421_too_many_connections(hostname: str, client: str) -> Reply:
    """The session does not begin: this client has enough of them."""
    return _one(421, "4.7.0", f"{hostname} Error: too many connections from {client}")


def r421_busy(hostname: str) -> Reply:
    """The session does not begin: the server has enough of them."""
    return _one(421, "4.3.2", f"{hostname} Error: too many connections")


def r421_no_resources(hostname: str) -> Reply:
    """We are short of something without which no mail can be taken."""
    return _one(421, "4.3.2", f"{hostname} Error: insufficient system resources")


def r421_shutting_down(hostname: str) -> Reply:
    """The server stops (RFC 5321 3.8)."""
    return _one(421, "4.3.2", f"{hostname} Service shutting down and closing transmission channel")


def r421_too_much_work(hostname: str) -> Reply:
    """The session has had its messages or its time."""
    return _one(421, "4.7.0", f"{hostname} Error: session limit reached")


def r500_line_too_long(hostname: str) -> Reply:
    """A command line above the limit (RFC 5321 4.5.3.1.4)."""
    return _one(500, "5.5.2", f"{hostname} Error: command too long")


def r554_relay_denied(forward_path: bytes) -> Reply:
    """Neither the client nor the domain is ours."""
    return _one(554, "5.7.1", f"<{_shown(forward_path)}>: Relay access denied")


def r555_unsupported_option(keyword: bytes) -> Reply:
    """A parameter of MAIL or RCPT that was not offered (RFC 5321 4.1.1.11)."""
    return _one(555, "5.5.4", f"Unsupported option: {_shown(keyword)}")


def r501_need_domain(address: bytes) -> Reply:
    """An address without a domain from a client that may not use one (RFC 5321 2.3.5)."""
    return _one(501, "5.5.4", f"<{_shown(address)}>: need a fully-qualified address")
