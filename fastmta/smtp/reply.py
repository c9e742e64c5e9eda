"""Replies of a server (RFC 5321 4.2): the value, and every reply that this server gives.

Names carry number and meaning; texts are the ones of Postfix, because scripts look for them.
"""

import binascii
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


def _named(name: str) -> str:
    """A client or a user inside a reply's text, such that it fits (RFC 5321 4.5.3.1.5)."""
    return name[:150]


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
R501_LHLO_SYNTAX = _one(501, "", "Syntax: LHLO hostname")
R501_STARTTLS_SYNTAX = _one(501, "5.5.4", "Syntax: STARTTLS")
R501_AUTH_SYNTAX = _one(501, "5.5.4", "Syntax: AUTH mechanism")
R501_BDAT_SYNTAX = _one(501, "5.5.4", "Syntax: BDAT count [LAST]")
R501_XCLIENT_SYNTAX = _one(501, "5.5.4", "Syntax: XCLIENT attribute=value...")
R501_XFORWARD_SYNTAX = _one(501, "5.5.4", "Syntax: XFORWARD attribute=value...")
R501_NEED_ATTRIBUTE = _one(501, "5.5.4", "Error: attribute=value expected")
R501_ATTRIBUTE_TOO_LONG = _one(501, "5.5.4", "Error: attribute value too long")
R501_BAD_RET = _one(501, "5.5.4", "Bad RET parameter syntax")
R501_BAD_ENVID = _one(501, "5.5.4", "Bad ENVID parameter syntax")
R501_BAD_NOTIFY = _one(501, "5.5.4", "Error: Bad NOTIFY parameter syntax")
R501_BAD_ORCPT = _one(501, "5.5.4", "Error: Bad ORCPT parameter syntax")
R501_BAD_AUTH_PARAMETER = _one(501, "5.5.4", "Bad AUTH parameter syntax")
R502_NOT_IMPLEMENTED = _one(502, "5.5.1", "Error: command not implemented")
R553_NEED_SMTPUTF8 = _one(553, "5.6.7", "Must declare SMTPUTF8 to send unicode address")

# Sequence.
R503_NEED_HELO = _one(503, "5.5.1", "Error: send HELO/EHLO first")
R503_NEED_LHLO = _one(503, "5.5.1", "Error: send LHLO first")
R503_NEED_MAIL = _one(503, "5.5.1", "Error: need MAIL command")
R503_NEED_RCPT = _one(503, "5.5.1", "Error: need RCPT command")
R503_NESTED_MAIL = _one(503, "5.5.1", "Error: nested MAIL command")
R503_MAIL_IN_PROGRESS = _one(503, "5.5.1", "Error: MAIL transaction in progress")
R503_MAIL_AFTER_BDAT = _one(503, "5.5.1", "Error: MAIL after BDAT")
R503_RCPT_AFTER_BDAT = _one(503, "5.5.1", "Error: RCPT after BDAT")
R503_DATA_AFTER_BDAT = _one(503, "5.5.1", "Error: DATA after BDAT")
R503_BDAT_AFTER_ERROR = _one(503, "5.5.1", "Error: BDAT after an error: send RSET")
R554_NO_VALID_RECIPIENTS = _one(554, "5.5.1", "Error: no valid recipients")
R554_SYNCHRONIZATION = _one(554, "5.5.0", "Error: SMTP protocol synchronization")

# Limits.
R452_TOO_MANY_RECIPIENTS = _one(452, "4.5.3", "Error: too many recipients")
R452_STORAGE_FULL = _one(452, "4.3.1", "Insufficient system storage")
R552_TOO_BIG = _one(552, "5.3.4", "Message size exceeds fixed limit")
R552_CONTENT_TOO_BIG = _one(552, "5.3.4", "Error: message too large")
R552_CHUNK_TOO_BIG = _one(552, "5.3.4", "Chunk exceeds message size limit")
R554_TOO_MANY_CHUNKS = _one(554, "5.5.1", "Error: too many small chunks")

# TLS (RFC 3207) and who may do what.
R554_TLS_ACTIVE = _one(554, "5.5.1", "Error: TLS already active")
R530_NEED_STARTTLS = _one(530, "5.7.0", "Must issue a STARTTLS command first")
R530_AUTH_REQUIRED = _one(530, "5.7.0", "Authentication required")
R550_NOT_AUTHORIZED = _one(550, "5.7.0", "Error: insufficient authorization")

# Authentication (RFC 4954 6).
R235_AUTHENTICATED = _one(235, "2.7.0", "Authentication successful")
R500_RESPONSE_TOO_LONG = _one(500, "5.5.6", "SASL response limit exceeded")
R501_BAD_RESPONSE = _one(501, "5.5.2", "Error: SASL response is not base64")
R501_AUTH_ABORTED = _one(501, "5.7.0", "Authentication aborted")
R503_AUTH_NOT_ENABLED = _one(503, "5.5.1", "Error: authentication not enabled")
R503_ALREADY_AUTHENTICATED = _one(503, "5.5.1", "Error: already authenticated")
R535_BAD_MECHANISM = _one(
    535, "5.7.8", "Error: authentication failed: Invalid authentication mechanism"
)
R538_NEED_ENCRYPTION = _one(
    538, "5.7.11", "Encryption required for requested authentication mechanism"
)

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


def r250_chunk(size_octets: int) -> Reply:
    """Answer to BDAT that was not the last one (RFC 3030 2)."""
    return _one(250, "2.0.0", f"Ok: {size_octets} bytes")


def r250_bdat_queued(size_octets: int, queue_id: bytes) -> Reply:
    """Answer to BDAT LAST: the message is ours from here on (RFC 5321 6.1)."""
    return _one(250, "2.0.0", f"Ok: {size_octets} bytes queued as {_shown(queue_id)}")


def r252_verified(argument: bytes) -> Reply:
    """Answer to VRFY: nothing is disclosed (RFC 5321 7.3)."""
    return _one(252, "2.0.0", _shown(argument))


def r334_challenge(challenge: bytes) -> Reply:
    """The server's turn in an exchange (RFC 4954 4); `challenge` is not encoded yet."""
    return _one(334, "", binascii.b2a_base64(challenge, newline=False).decode("ascii"))


def r421_too_many_errors(hostname: str) -> Reply:
    """The session ends."""
    return _one(421, "4.7.0", f"{hostname} Error: too many errors")


def r421_timeout(hostname: str) -> Reply:
    """The session ends."""
    return _one(421, "4.4.2", f"{hostname} Error: timeout exceeded")


def r421_too_many_connections(hostname: str, client: str) -> Reply:
    """The session does not begin: this client has enough of them."""
    return _one(421, "4.7.0", f"{hostname} Error: too many connections from {_named(client)}")


def r421_too_many_tls(hostname: str, client: str) -> Reply:
    """The session ends: this client begins TLS too often."""
    text = f"{hostname} Error: too many new TLS sessions from {_named(client)}"
    return _one(421, "4.7.0", text)


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


def r450_too_much_mail(client: str) -> Reply:
    """Answer to MAIL: this client has had its messages for now."""
    return _one(450, "4.7.1", f"Error: too much mail from {_named(client)}")


def r450_too_many_recipients(client: str) -> Reply:
    """Answer to RCPT: this client has had its recipients for now."""
    return _one(450, "4.7.1", f"Error: too many recipients from {_named(client)}")


def r450_too_many_auth(client: str) -> Reply:
    """Answer to AUTH: this client has tried too often."""
    return _one(450, "4.7.1", f"Error: too many AUTH commands from {_named(client)}")


def r454_auth(reason: str) -> Reply:
    """We cannot say now whether the credentials are right (RFC 4954 6)."""
    return _one(454, "4.7.0", f"Temporary authentication failure: {_named(reason)}")


def r535(reason: str) -> Reply:
    """The credentials are wrong, whatever it was (RFC 4954 6)."""
    return _one(535, "5.7.8", f"Error: authentication failed: {_named(reason)}")


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


def r501_bad_attribute(name: str, value: bytes) -> Reply:
    """An attribute of XCLIENT or XFORWARD with a value that it cannot have."""
    return _one(501, "5.5.4", f"Bad {name} syntax: {_shown(value)}")


def r501_unknown_attribute(verb: str, name: bytes) -> Reply:
    """XCLIENT or XFORWARD with an attribute that was not offered."""
    return _one(501, "5.5.4", f"Bad {verb} attribute name: {_shown(name)}")


def r553_not_owned(reverse_path: bytes, login: str) -> Reply:
    """The user may not send as this address."""
    text = f"<{_shown(reverse_path)}>: Sender address rejected: not owned by user {_named(login)}"
    return _one(553, "5.7.1", text)
