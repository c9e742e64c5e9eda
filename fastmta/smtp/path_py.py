"""The twin of ext/smtp/path.pyx, and the grammar of every path that is not plain.

The compiled parser takes the plain form (`<dot-string@domain>`) itself and hands every other one
to this file, so there is one grammar: RFC 5321 4.1.2, and the forms beyond it that Postfix accepts
because clients send them: no angle brackets, spaces between the parts, dots anywhere in a local
part, `\\@` outside quotes, a dot behind the domain, no domain at all. Comments and control
characters are refused.

A canonical path is octets that may stand between angle brackets on the wire as they are:
`local-part@domain`, the local part quoted only when it has to be (RFC 5321 4.1.2), the domain in
lower case. A path without a domain ends in "@". The null reverse-path is b"".

With SMTPUTF8 (RFC 6531 3.3) octets above 127 may stand in local parts, in labels and in parameter
values. They are UTF-8 of printable text; a local part is composed (NFC) and otherwise left alone, a
domain becomes A-labels: what is one address is one path.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from .limit import DOMAIN_OCTETS_MAX, LABEL_OCTETS_MAX, LOCAL_PART_OCTETS_MAX
from .problem import Parameters, Problem
from .utf8 import is_text, normalize, to_alabels

Parsed = tuple[int, bytes, Parameters]

_BRACKETED = re.compile(rb'<((?:[^"\\>]|\\.|"(?:[^"\\]|\\.)*+")*+)>', re.DOTALL)
_UNBRACKETED = re.compile(rb'((?:[^"\\<> \t]|\\.|"(?:[^"\\]|\\.)*+")++)', re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_ROUTE = re.compile(rb"@[A-Za-z0-9._-]+(?: *, *@[A-Za-z0-9._-]+)* *: *")  # RFC 5321 4.1.2 A-d-l
_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-"  # RFC 5322 3.2.3, RFC 6531 3.3
_ATOM = re.compile(rb"(?:[" + _ATEXT + rb"]|\\[\x20-\x7e])++")
_QUOTED = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\x20-\x7e])*+)"')
_ESCAPED = re.compile(rb"\\(.)")
_DOT_STRING = re.compile(rb"[" + _ATEXT + rb"]+(?:\.[" + _ATEXT + rb"]+)*")
_NEEDS_ESCAPE = re.compile(rb'(["\\])')
_LABEL = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
_NOT_NUMERIC = re.compile(rb"[A-Za-z_-]")
_LITERAL = re.compile(rb"\[(?:[Ii][Pp][Vv]6:([0-9A-Fa-f:.]+)|([0-9.]+))\]")
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\xff]+))?")
_SMTPUTF8 = re.compile(rb"[ \t]SMTPUTF8(?![^ \t])", re.IGNORECASE)


def parse_mail(argument: bytes, is_utf8: bool = False) -> Parsed:
    """The argument of MAIL: (Problem, reverse-path, parameters).

    `is_utf8`: SMTPUTF8 was offered, and may be among the parameters.
    """
    return _parse(argument, b"FROM:", is_mail=True, is_utf8=is_utf8)


def parse_rcpt(argument: bytes, is_utf8: bool = False) -> Parsed:
    """The argument of RCPT: (Problem, forward-path, parameters).

    `is_utf8`: SMTPUTF8 was among the parameters of MAIL.
    """
    return _parse(argument, b"TO:", is_mail=False, is_utf8=is_utf8)


def _parse(argument: bytes, word: bytes, *, is_mail: bool, is_utf8: bool) -> Parsed:
    if argument[: len(word)].upper() != word:
        return Problem.SYNTAX, b"", ()
    rest = argument[len(word) :].lstrip(b" \t")
    if not rest:
        return Problem.SYNTAX, b"", ()
    found = (_BRACKETED if rest.startswith(b"<") else _UNBRACKETED).match(rest)
    address = rest if found is None else found.group(1)
    tail = rest if found is None else rest[found.end() :]
    if found is not None and tail and tail[:1] not in b" \t":
        return Problem.SYNTAX, b"", ()
    if is_mail and is_utf8:
        is_utf8 = _SMTPUTF8.search(tail) is not None
    if found is None or not _is_printable(address, is_utf8):
        return _refused(address, is_utf8)
    problem, path = Problem.NONE, b""
    if address or not is_mail:
        problem, path = _parse_path(address)
    if problem not in (Problem.NONE, Problem.SOURCE_ROUTE):
        return problem, b"", ()
    wrong, parameters = _parse_parameters(tail, is_utf8)
    if wrong != Problem.NONE:
        return wrong, b"", ()
    return problem, path, parameters


def _is_printable(octets: bytes, is_utf8: bool) -> bool:
    """Nothing in it but what the grammars of paths and values are about."""
    if _NON_ASCII.search(octets) is None:
        return _CONTROL.search(octets) is None
    return is_utf8 and is_text(octets)


def _refused(address: bytes, is_utf8: bool) -> Parsed:
    """A refused address is NON_ASCII only when nothing worse is in it."""
    if _NON_ASCII.search(address) and not _CONTROL.search(address) and not is_utf8:
        return Problem.NON_ASCII, b"", ()
    return Problem.BAD_ADDRESS, b"", ()


def _parse_path(address: bytes) -> tuple[Problem, bytes]:
    rest = (_without_comments(address) if b"(" in address else address).strip(b" ")
    problem = Problem.NONE
    route = _ROUTE.match(rest)
    if route is not None:
        problem = Problem.SOURCE_ROUTE
        rest = rest[route.end() :]
    local_part, rest = _parse_local_part(rest)
    if local_part is None or len(local_part) > LOCAL_PART_OCTETS_MAX:
        return Problem.BAD_ADDRESS, b""
    if not rest and route is None:
        return problem, local_part + b"@"
    domain = _parse_domain(rest[1:].strip(b" ")) if rest.startswith(b"@") else b""
    if not domain:
        return Problem.BAD_ADDRESS, b""
    return problem, local_part + b"@" + domain


def _without_comments(octets: bytes) -> bytes:
    """Each comment outside quotes becomes a space; one that is not closed leaves "(" behind."""
    kept = bytearray()
    depth = pos = 0
    while pos < len(octets):
        found = _QUOTED.match(octets, pos) if depth == 0 else None
        size = len(found.group()) if found else 2 if octets[pos : pos + 1] == b"\\" else 1
        token = octets[pos : pos + size]
        pos += size
        if token == b"(":
            depth += 1
        elif depth == 0:
            kept += token
        elif token == b")":
            depth -= 1
            kept += b" " if depth == 0 else b""
    return bytes(kept) + (b"(" if depth else b"")


def _parse_local_part(octets: bytes) -> tuple[bytes | None, bytes]:
    """The canonical local part and what follows it; None when there is none.

    RFC 5321 4.1.2 Local-part, with words and dots in any order but two words side by side, and
    with spaces between them. At least one word.
    """
    value = bytearray()
    has_word = is_after_word = False
    pos = 0
    while pos < len(octets) and octets[pos] != b"@"[0]:
        if octets[pos] == b" "[0]:
            pos += 1
            continue
        if octets[pos] == b"."[0]:
            value += b"."
            is_after_word = False
            pos += 1
            continue
        quoted = _QUOTED.match(octets, pos)
        word = quoted or _ATOM.match(octets, pos)
        if word is None or is_after_word:
            return None, b""
        value += _ESCAPED.sub(rb"\1", quoted.group(1) if quoted else word.group())
        has_word = is_after_word = True
        pos = word.end()
    # Postfix allow_min_user: a leading "-" could be an option of a command behind us.
    if not has_word or value.startswith(b"-"):
        return None, b""
    return _encode_local_part(bytes(value)), octets[pos:]


def _encode_local_part(value: bytes) -> bytes:
    """Quoted only when it has to be (RFC 5321 4.1.2)."""
    if _NON_ASCII.search(value):
        value = normalize(value, LOCAL_PART_OCTETS_MAX)
    if _DOT_STRING.fullmatch(value):
        return value
    return b'"' + _NEEDS_ESCAPE.sub(rb"\\\1", value) + b'"'


def _parse_domain(octets: bytes) -> bytes:
    """The canonical domain or address literal, b"" when it is neither."""
    if octets.startswith(b"["):
        return _parse_literal(octets)
    if _NON_ASCII.search(octets):
        octets = to_alabels(octets)
    # Part by part: a pattern for dots between spaces would look at the same spaces again and again.
    name = b".".join([part.strip(b" ") for part in octets.split(b".")]).lower()
    if name.endswith(b"."):
        name = name[:-1]  # the root's label is not part of a name on the wire, RFC 5321 2.3.5
    if len(name) > DOMAIN_OCTETS_MAX or not _NOT_NUMERIC.search(name):
        return b""
    for label in name.split(b"."):
        if len(label) > LABEL_OCTETS_MAX or not _LABEL.fullmatch(label):
            return b""
    return name


def _parse_literal(octets: bytes) -> bytes:
    """RFC 5321 4.1.3, as Postfix has it: an IPv4 tail in IPv6 only behind "::", and no "::" for
    one group at either end."""
    found = _LITERAL.fullmatch(octets)
    if found is None:
        return b""
    try:
        if found.group(2) is not None:
            address = IPv4Address(found.group(2).decode("ascii"))
            return b"" if address.packed[0] == 0 else b"[%b]" % str(address).encode("ascii")
        text = found.group(1).decode("ascii")
        if text.count(":") > 7 or ("." in text and "::" not in text):
            return b""
        ipv6 = IPv6Address(text)
        # Python 3.13 changed how a mapped address is written: written here, the same for all.
        mapped = ipv6.ipv4_mapped
        return f"[IPv6:{ipv6 if mapped is None else f'::ffff:{mapped}'}]".encode("ascii")
    except AddressValueError:
        return b""


def _parse_parameters(octets: bytes, is_utf8: bool) -> tuple[Problem, Parameters]:
    """RFC 5321 4.1.2 Mail-parameters and Rcpt-parameters."""
    parameters = []
    seen = set()
    for word in octets.replace(b"\t", b" ").split(b" "):
        if not word:
            continue
        found = _PARAMETER.fullmatch(word)
        if found is None or not _is_printable(word, is_utf8):
            return Problem.BAD_PARAMETER, ()
        keyword = found.group(1).upper()
        if keyword in seen:
            return Problem.REPEATED_PARAMETER, ()
        seen.add(keyword)
        parameters.append((keyword, found.group(2) or b""))
    return Problem.NONE, tuple(parameters)
