"""The form of a file in the drop directory.

    fastmta drop 1                      the form, and its version
    from user@example.com               the reverse-path as given; empty: the null one
    to someone@example.com              one for each recipient, in any form that RFC 5322 allows
    its-notify SUCCESS,FAILURE          optional; of the recipient before it
    its-orcpt rfc822;<xtext>            the same
    name Full Name                      what follows is optional, in any order
    body 8BITMIME
    notify SUCCESS,FAILURE              as in RFC 3461
    ret FULL
    envid <xtext>
    verp +=                             a message for each recipient, with a reverse-path of its own
    smtputf8
    gateway                             the content is not to be completed
    probe                               the recipients are only asked about, the sender told
                                        an empty line
    <content>                           any line ends
    end <CRC32> <octets>                trailer of fixed length, behind one LF

The trailer says how long everything before it is, and its checksum: a file that was not finished
has none. Lines end in LF; a value has no LF and no NUL. Unknown words refuse the file, so that a
newer command is not misunderstood by an older server.

A submission is one file, however many recipients it has: the server makes as many messages of it as
it takes (see `part`), so that nobody who leaves one has to know how far they got.
"""

from __future__ import annotations

import zlib

MAGIC = b"fastmta drop 1\n"
HEAD_OCTETS_MAX = 8 * 1024 * 1024
VALUE_OCTETS_MAX = 2048
RECIPIENTS_MAX = 50_000
TRAILER_OCTETS = 31
# Of a content, both sides: the command refuses what the server would have to.
HEADER_OCTETS_MAX = 128 * 1024
HEADER_FIELDS_MAX = 1_000
_FLAGS = (b"smtputf8", b"gateway", b"probe")
_WORDS = (b"name", b"body", b"notify", b"ret", b"envid", b"verp")
ITS = (b"its-notify", b"its-orcpt")
VERP_DELIMITERS = b"-=+"


class FormError(ValueError):
    """This is no file of ours, or it is not whole."""


class Submission:
    """Who sends what to whom, as a local program said it."""

    __slots__ = ("its", "options", "recipients", "sender")

    def __init__(self, sender: bytes, recipients: list[bytes]) -> None:
        self.sender = sender
        self.recipients = recipients
        self.options: dict[bytes, bytes] = {}  # by their words, flags with b""
        self.its: dict[tuple[int, bytes], bytes] = {}  # of single recipients, by index and word

    def encode(self) -> bytes:
        """The head of a file. Raises FormError for what cannot be said in one."""
        if len(self.recipients) > RECIPIENTS_MAX:
            raise FormError(f"there are more than {RECIPIENTS_MAX} recipients")
        lines = [b"from " + _checked(self.sender)]
        for index, recipient in enumerate(self.recipients):
            lines.append(b"to " + _checked(recipient))
            if self.its:
                lines += (
                    word + b" " + _checked(self.its[index, word])
                    for word in ITS
                    if (index, word) in self.its
                )
        for word, value in self.options.items():
            lines.append(word if word in _FLAGS else word + b" " + _checked(value))
        octets = MAGIC + b"\n".join(lines) + b"\n\n"
        if len(octets) > HEAD_OCTETS_MAX:
            raise FormError("the recipients take too many octets")
        return octets

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Submission, int]:
        """The head that `octets` begin with, and where the content begins. Raises FormError."""
        if not octets.startswith(MAGIC):
            raise FormError("it does not begin as our files do")
        end = octets.find(b"\n\n", len(MAGIC) - 1, HEAD_OCTETS_MAX + 2)
        if end < 0:
            raise FormError("its head does not end")
        found = cls(b"", [])
        has_sender = False
        for line in octets[len(MAGIC) : end].split(b"\n"):
            word, _, value = line.partition(b" ")
            if len(value) > VALUE_OCTETS_MAX or b"\0" in value:
                raise FormError("a line of its head is not sound")
            if word == b"to":
                found.recipients.append(value)
            elif word == b"from" and not has_sender:
                found.sender, has_sender = value, True
            elif word in ITS and found.recipients:
                found.its[len(found.recipients) - 1, word] = value
            elif (word in _WORDS or word in _FLAGS) and word not in found.options:
                found.options[word] = value
            else:
                raise FormError("its head has a word that this release does not know")
        if not has_sender or not 0 < len(found.recipients) <= RECIPIENTS_MAX:
            raise FormError("its envelope is not complete")
        verp = found.options.get(b"verp")
        if verp is not None and (len(verp) != 2 or verp.strip(VERP_DELIMITERS) or not found.sender):
            raise FormError("its return paths can not be made")
        return found, end + 2


def _checked(value: bytes) -> bytes:
    if len(value) > VALUE_OCTETS_MAX or b"\n" in value or b"\0" in value:
        raise FormError("a value is too long, or not a line")
    return value


def checksum(octets: bytes, before: int = 0) -> int:
    """CRC32 of `octets` behind what had `before`."""
    return zlib.crc32(octets, before)


def encode_trailer(crc: int, octets: int) -> bytes:
    """The end of a file of which so many octets come before it."""
    return b"\nend %08x %016x\n" % (crc, octets)
