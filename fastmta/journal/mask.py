"""Addresses that nobody shall read in the log, made into others of the same shape.

mode        `demo@example.org` becomes
smart       `d*o@*******.org`      first and last character, as many stars as the domain is long
paranoid    `*@*.org`
hash        64 hexadecimal digits: HMAC-SHA-256 with the salt, so that a sender can be grouped

The masks are those of the filter in a well-known container image of Postfix, since people have
alerts on them; there the hash stands in angle brackets, which our lines have already.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable

MODES = ("no", "smart", "paranoid", "hash")
_STAR = "*"
_KNOWN_MAX = 8192
_TEXT_MAX = 4096  # of a text that is searched; no line of the log is longer
# What looks like an address within a text. Texts are those of peers, so each word is looked at
# once: what a match begins with has nothing of a word in front of it.
_ADDRESS = re.compile(
    r'(?:"(?:[^"\\]|\\.){0,64}"|(?<![^\s<>"(),;:@\[\]])[^\s<>"(),;:@\[\]]++)'
    r"@(?:\[[^\]\s]{1,64}\]|[^\s<>\"(),;:@\[\]]{1,255})"
)
_V4_PREFIX, _V6_PREFIX = 24, 48


class Mask:
    """Hides addresses in one of the modes; the same address always becomes the same."""

    def __init__(self, mode: str, salt: str = "") -> None:
        self._known: dict[str, str] = {}
        self._salt = salt.encode()
        modes: dict[str, Callable[[str], str]] = {
            "smart": _smart,
            "paranoid": _paranoid,
            "hash": self._hash,
        }
        self._hide = modes[mode]

    def address(self, address: str) -> str:
        """A path as it is masked; the null path stays what it is."""
        if not address:
            return address
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            known = self._known[address] = self._hide(address)
        return known

    def octets(self, path: bytes) -> bytes:
        """The same for octets."""
        if not path:
            return path
        return self.address(path.decode("utf-8", "surrogateescape")).encode(
            "utf-8", "surrogateescape"
        )

    def text(self, text: str, *paths: bytes) -> str:
        """`text` without addresses; `paths` are some that may be in it, of whatever form."""
        if "@" not in text:
            return text
        text = text[:_TEXT_MAX]
        for path in paths:  # first: no pattern knows where an odd one ends
            for shown in (path.decode("utf-8", "surrogateescape"), path.decode("latin-1")):
                if b"@" in path and shown in text:
                    text = text.replace(shown, self.address(shown))
        # What is masked already has no address any more, or is masked to itself.
        return _ADDRESS.sub(lambda match: self.address(match[0]), text)

    def _hash(self, address: str) -> str:
        octets = address.encode("utf-8", "surrogateescape")
        return hmac.new(self._salt, octets, hashlib.sha256).hexdigest()


def network_of(address: str) -> str:
    """The network of a client: /24 of IPv4, /48 of IPv6; what is no address stays."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    prefix = _V4_PREFIX if known.version == 4 else _V6_PREFIX
    return str(ipaddress.ip_network((known, prefix), strict=False).network_address)


def _smart(address: str) -> str:
    local_part, at, domain = address.rpartition("@")
    if not at:
        return _first_and_last(address)
    return f"{_first_and_last(local_part)}@{_masked_domain(domain, is_short=False)}"


def _paranoid(address: str) -> str:
    _, at, domain = address.rpartition("@")
    return f"{_STAR}@{_masked_domain(domain, is_short=True)}" if at else _STAR


def _first_and_last(local_part: str) -> str:
    if len(local_part) > 2 and local_part.startswith('"') and local_part.endswith('"'):
        return f'"{_first_and_last(local_part[1:-1])}"'
    return f"{local_part[:1]}{_STAR}{local_part[-1:]}"


def _masked_domain(domain: str, *, is_short: bool) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        tag, colon, literal = domain[1:-1].partition(":")
        if not colon:
            tag, literal = "", domain[1:-1]
        if is_short:
            masked = _STAR
        elif tag:
            masked = _STAR * len(literal)
        else:
            masked = re.sub(r"[^.]+", _STAR, literal)
        return f"[{tag}{colon}{masked}]"
    name, dot, top = domain.rpartition(".")
    if not dot:
        return _STAR if is_short else _STAR * len(domain)
    return f"{_STAR if is_short else _STAR * len(name)}.{top}"
