"""The protocol of RFC 5321 without I/O: octets to commands, paths, contents and replies, and back.

Purpose   The one parser in front of everything: what is behind it is canonical.
In        Octets as they arrived, in pieces of any size.
Out       Verbs and arguments, canonical paths and contents (CR LF, no dot-stuffing), replies.
Holds     Per session: octets not yet consumed, and the content that is being read. Bounded.
Never     I/O, clocks, logging, policy; never ends data anywhere but at CR LF . CR LF, or where the
          count of a BDAT says; never gives out a path that is not printable UTF-8.
Fails     Bad octets are answers (NEED_MORE, TOO_LONG, Violation, Problem, ReplyProblem), not
          exceptions; `LineEndError` says that a stored content must not be sent; RuntimeError and
          ValueError mean broken use.
Why       Compiled modules (_framing, _path, _content, _reply) each have a Python twin (*_py), which
          is the specification; one suite runs on both, FASTMTA_PURE=1 runs the server on the twins.
          SMTP smuggling (CVE-2023-51764 and its kin) is closed here, by one strict end of data, and
          again where content leaves: `stuff` refuses a lone CR or LF.
          Paths that Postfix accepts and RFC 5321 does not are taken where clients send them; the
          table is tests/vectors/addresses.toml.
"""

from .content import scan_header_section, stuff
from .extension import Extensions
from .frame import Violation
from .framing import Framing
from .path import parse_mail, parse_rcpt
from .problem import Problem
from .reply import Reply
from .reply_reader import ReplyReader
from .verb import Verb

__all__ = [
    "Extensions",
    "Framing",
    "Problem",
    "Reply",
    "ReplyReader",
    "Verb",
    "Violation",
    "parse_mail",
    "parse_rcpt",
    "scan_header_section",
    "stuff",
]
