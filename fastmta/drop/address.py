"""Addresses in header fields and on command lines (RFC 5322 3.4), and where they stand.

What nearly all programs write, `a@b.example` and `Full Name <a@b.example>`, is read here; the rest
is left to `grammar`, which takes longer to import than a call of `sendmail` has.
"""

from __future__ import annotations

from .mailbox import Mailbox

_SPECIAL = b'"()[]\\:;'  # none of these is in what is read here
_ATOMS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~."
_BLANKS = b" \t\r\n"


def parse_addresses(text: bytes) -> list[Mailbox]:
    """The addresses in `text`, in order; empty ones (`<>`) are left out."""
    if len(text.translate(None, _SPECIAL)) == len(text):
        found = _parse_plain(text)
        if found is not None:
            return found
    from .grammar import parse_list

    return parse_list(text)


def _parse_plain(text: bytes) -> list[Mailbox] | None:
    """None: it is not that plain."""
    found = []
    begin = 0
    for part in text.split(b","):
        address, at = part, begin
        opening = part.find(b"<")
        if opening >= 0:
            closing = part.find(b">", opening)
            if closing < 0 or part.count(b"<") > 1 or part[closing + 1 :].strip(_BLANKS):
                return None
            address, at = part[opening + 1 : closing], begin + opening + 1
        begin += len(part) + 1
        bare = address.strip(_BLANKS)
        if not bare and opening < 0 and not part.strip(_BLANKS):
            continue
        local_part, mark, domain = bare.partition(b"@")
        if not _is_dotted(local_part) or (mark and not _is_dotted(domain)):
            return None
        end = at + len(address.rstrip(_BLANKS))
        found.append(Mailbox(bare, bool(mark), end))
    return found


def _is_dotted(text: bytes) -> bool:
    """Atoms with single dots between them."""
    return bool(text) and not text.translate(None, _ATOMS) and all(text.split(b"."))
