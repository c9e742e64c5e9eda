"""From a recipient's address to its next hop, without a look-up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fastmta.message import Envelope

from .hop import PREFIX, build_way, parse_address
from .rule import Candidate, Choices, Exit, Rule, Rules, exit_to

KNOWN_MAX = 65_536  # domains, and next hops, that are remembered
NARROWED_MAX = 8_192  # choices by domain of the sender
FEW = 3  # so many are looked at one by one
_FORBIDDEN = frozenset(b":,[]#/!")  # means something in a next hop, so no sender may choose it


class RouteTable:
    """Where mail goes: by the first rule that matches, else to the relay hosts, or, when there are
    none, to its recipient's domain.
    """

    __slots__ = ("_choices", "_known", "_made", "_narrowed", "_relay", "_rules", "fingerprint")

    def __init__(
        self,
        relay_hosts: Sequence[str] = (),
        *,
        logins: frozenset[bytes] = frozenset(),
        rules: Sequence[Rule] = (),
    ) -> None:
        """Several relay hosts are tried in their order; for their forms see `exit_to`.

        `logins` are the senders that have credentials of their own at the relay hosts. Raises
        ValueError with a sentence for a human.
        """
        otherwise = exit_to(relay_hosts, logins=logins if relay_hosts else frozenset())
        is_simple = not rules and not otherwise.logins
        self._rules = Rules(rules, otherwise)
        self._relay = otherwise.text if is_simple else b""
        # By domain; equal next hops are then one object.
        self._known: dict[bytes, bytes] = {}
        self._choices: dict[bytes, Choices] = {}
        # By domain of the sender, too: with a rule for each of many senders few are left.
        self._narrowed: dict[tuple[Choices, bytes], tuple[Candidate, ...]] = {}
        self._made: dict[tuple[Exit, bytes, bytes, bool], bytes] = {}
        # Another one whenever a next hop may be another one.
        self.fingerprint = ",".join(relay_hosts).encode()
        if not is_simple:
            self.fingerprint = _fingerprint(otherwise, rules)

    def next_hop(self, forward_path: bytes, envelope: Envelope) -> bytes:
        """The next hop for `forward_path` (canonical, so its domain is in lower case).

        Never raises: a path whose domain cannot name a destination gets the empty next hop
        `smtp:`, which resolves to a permanent problem.
        """
        if envelope.is_tls_required:
            return self._choose(forward_path, envelope)
        if self._relay:
            return self._relay
        at = forward_path.rfind(b"@")
        next_hop = self._known.get(forward_path[at + 1 :] if at >= 0 else b"")
        return self._choose(forward_path, envelope) if next_hop is None else next_hop

    def _choose(self, forward_path: bytes, envelope: Envelope) -> bytes:
        at = forward_path.rfind(b"@")
        domain = forward_path[at + 1 :] if at >= 0 else b""
        choices = self._choices.get(domain)
        if choices is None:
            if len(self._choices) >= KNOWN_MAX:
                self._choices.clear()
            choices = self._choices[domain] = self._rules.of(domain)
        candidates = choices.candidates
        first = candidates[0].exit
        if len(candidates) == 1 and not envelope.is_tls_required and not first.logins:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            next_hop = self._known[domain] = self._make(first, domain, b"", False)
            del self._choices[domain]
            return next_hop
        sender = envelope.reverse_path
        if len(candidates) > FEW:
            candidates = self._narrow(choices, sender[sender.rfind(b"@") + 1 :].lower())
        # The last one matches in any case.
        found = next(
            (one for one in candidates if one.matches(forward_path, sender)), candidates[-1]
        )
        login = found.exit.login_of(sender)
        return self._make(found.exit, domain, login, envelope.is_tls_required)

    def _narrow(self, choices: Choices, domain: bytes) -> tuple[Candidate, ...]:
        key = (choices, domain)
        found = self._narrowed.get(key)
        if found is None:
            if len(self._narrowed) >= NARROWED_MAX:
                self._narrowed.clear()
            found = self._narrowed[key] = choices.from_domain(domain)
        return found

    def _make(self, exit: Exit, domain: bytes, login: bytes, is_tls_required: bool) -> bytes:
        if exit.is_local:
            return exit.text
        key = (exit, b"" if exit.text else domain, login, is_tls_required)
        next_hop = self._made.get(key)
        if next_hop is None:
            if len(self._made) >= KNOWN_MAX:
                self._made.clear()
            text = exit.text or PREFIX + _destination(domain)
            next_hop = text + build_way(exit.way, login, is_tls_required=is_tls_required)
            self._made[key] = next_hop
        return next_hop


def _fingerprint(otherwise: Exit, rules: Sequence[Rule]) -> bytes:
    """Of all that decides; the same in every process."""
    digest = hashlib.blake2b(digest_size=16)
    for rule in (*rules, Rule(otherwise)):
        exit = rule.exit
        parts = (exit.text, exit.way, sorted(exit.logins), rule.recipients, rule.senders)
        digest.update(repr(parts).encode())
    return b"rules:" + digest.hexdigest().encode()


def _destination(domain: bytes) -> bytes:
    """`domain` itself or its address literal; nothing for what a sender may not choose."""
    if domain[:1] == b"[":
        return _address_literal(domain)
    return domain if _FORBIDDEN.isdisjoint(domain) else b""


def _address_literal(domain: bytes) -> bytes:
    """`[address]` in canonical form, or nothing: a sender may name neither ports nor lists."""
    if domain[-1:] != b"]":
        return b""
    address = parse_address(domain[1:-1].decode("ascii", "replace"))
    if address is None:
        return b""
    return f"[IPv6:{address}]".encode() if ":" in address else f"[{address}]".encode()
