"""Named limits of the protocol, each with its section; `config` may override the defaults."""

from typing import Final

# Sizes the parser enforces, in octets.
COMMAND_LINE_OCTETS_MAX: Final = 2048  # RFC 5321 4.5.3.1.4: 512 with CR LF, more by extensions
LOCAL_PART_OCTETS_MAX: Final = 256  # RFC 5321 4.5.3.1.1: at least 64; VERP needs more
DOMAIN_OCTETS_MAX: Final = 255  # RFC 5321 4.5.3.1.2
LABEL_OCTETS_MAX: Final = 63  # RFC 1035 2.3.4
ENVID_OCTETS_MAX: Final = 100  # RFC 3461 4.4
ORCPT_OCTETS_MAX: Final = 500  # RFC 3461 4.2
TEXT_LINE_OCTETS_MAX: Final = 1000  # RFC 5321 4.5.3.1.6, with CR LF: what we send ourselves
LINE_OCTETS_FOLDED: Final = 998  # RFC 5322 2.1.1, without CR LF: longer lines leave folded
LINE_OCTETS_HARD: Final = 64 * 1024  # a text line with CR LF; beyond it content is refused

# Replies read from a server.
REPLY_LINE_OCTETS_MAX: Final = 2048  # RFC 5321 4.5.3.1.5 says 512
REPLY_LINES_MAX: Final = 50  # RFC 5321 4.2.1 sets no limit
REPLY_OCTETS_MAX: Final = 64 * 1024

# Defaults of the server's limits; the configuration overrides them.
SIZE_OCTETS_MAX: Final = 25 * 1024 * 1024  # RFC 1870 3
RECIPIENTS_MAX: Final = 1000  # RFC 5321 4.5.3.1.8: at least 100
HOPS_MAX: Final = 50  # RFC 5321 6.3: Received fields before it is called a loop
ERRORS_SOFT: Final = 10  # from here on replies are delayed
ERRORS_HARD: Final = 20  # here the session ends, RFC 5321 3.8
JUNK_COMMANDS_MAX: Final = 100  # NOOP, RSET, EHLO, VRFY between messages
AUTH_FAILURES_MAX: Final = 3  # of one session, RFC 4954 9
AUTH_LINE_OCTETS_MAX: Final = 12_288  # RFC 4954 4: a response and its line end
CHUNKS_MAX: Final = 10_000  # BDAT commands of one message, RFC 3030 2
CHUNKS_FREE: Final = 100  # so many may be small ...
CHUNK_OCTETS_LEAST: Final = 64  # ... from then on this is the least average

# Time limits of the server, in seconds.
COMMAND_TIMEOUT_S: Final = 300.0  # RFC 5321 4.5.3.2.7

# Time limits of the client, in seconds.
CONNECT_TIMEOUT_S: Final = 30.0  # per address; RFC 5321 4.5.3.2 leaves it open
BANNER_TIMEOUT_S: Final = 300.0  # RFC 5321 4.5.3.2.1
TLS_TIMEOUT_S: Final = 60.0  # a handshake; no RFC sets a limit
HELO_TIMEOUT_S: Final = 300.0  # RFC 5321 4.5.3.2, EHLO as any command
MAIL_TIMEOUT_S: Final = 300.0  # RFC 5321 4.5.3.2.2
RCPT_TIMEOUT_S: Final = 300.0  # RFC 5321 4.5.3.2.3
DATA_TIMEOUT_S: Final = 120.0  # RFC 5321 4.5.3.2.4
BLOCK_TIMEOUT_S: Final = 180.0  # RFC 5321 4.5.3.2.5, each block of content
END_OF_DATA_TIMEOUT_S: Final = 600.0  # RFC 5321 4.5.3.2.6
QUIT_TIMEOUT_S: Final = 10.0  # RFC 5321 4.1.1.10: nothing depends on the answer
