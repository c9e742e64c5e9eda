"""Rules of routing, and which of them may be meant by a recipient's domain. First match wins."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .hop import LOCAL_TRANSPORTS, build_local, parse_destination
from .pattern import Patterns, parents_of

RELAY_HOSTS_MAX = 16
CHOICES_MAX = 4096


class Exit(msgspec.Struct, frozen=True, gc=False):
    """Where mail leaves us: the beginning of a next hop, and its way."""

    text: bytes = b""  # transport and destinations; b"": the recipient's own domain
    way: str = ""  # see `hop`
    logins: frozenset[bytes] = frozenset()  # addresses, and domains as `@domain`, in lower case

    @property
    def is_local(self) -> bool:
        """Whether nobody is connected to."""
        return self.text.partition(b":")[0].decode("ascii") in LOCAL_TRANSPORTS

    def login_of(self, sender: bytes) -> bytes:
        """Whose credentials mail of `sender` is sent with; b"": those of the relay itself."""
        if not self.logins or not sender:
            return b""
        sender = sender.lower()
        if sender in self.logins:
            return sender
        domain = sender[sender.rfind(b"@") :]
        return domain if domain in self.logins else b""


class Rule(msgspec.Struct, frozen=True, gc=False):
    """Mail to one of `recipients` that is from one of `senders` goes to `exit`."""

    exit: Exit
    recipients: tuple[str, ...] = ()  # patterns; (): all
    senders: tuple[str, ...] = ()


def exit_to(
    hosts: Sequence[str],
    transport: str = "smtp",
    way: str = "",
    logins: frozenset[bytes] = frozenset(),
) -> Exit:
    """The exit to `hosts`, which are tried in their order. Raises ValueError for a human.

    Forms: `[host]:port` and `[address]:port` without MX look-up, `host:port` and `host` with it;
    over LMTP `unix:/path`, too.
    """
    if len(hosts) > RELAY_HOSTS_MAX:
        raise ValueError(f"at most {RELAY_HOSTS_MAX} relay hosts, not {len(hosts)}")
    texts = dict.fromkeys(parse_destination(host, transport).text for host in hosts)
    return Exit(f"{transport}:{','.join(texts)}".encode() if texts else b"", way, logins)


def exit_local(text: str) -> Exit:
    """The exit `discard:`, `hold:`, `error:status text` or `file:/directory`.

    Raises ValueError with a sentence for a human.
    """
    return Exit(build_local(text))


class Candidate:
    """A rule with its patterns compiled."""

    __slots__ = ("exit", "recipients", "senders")

    def __init__(self, rule: Rule) -> None:
        self.exit = rule.exit
        self.recipients = Patterns(rule.recipients)
        self.senders = Patterns(rule.senders)

    def is_certain(self, domain: bytes) -> bool:
        """Whether mail to `domain` matches, whoever it is for and from."""
        return self.senders.is_everything and self.recipients.covers(domain)

    def matches(self, forward_path: bytes, reverse_path: bytes) -> bool:
        return self.recipients.matches(forward_path) and self.senders.matches(reverse_path)


class Choices:
    """Rules in their order, for some domains of recipients. Equal ones are one object."""

    __slots__ = ("candidates",)

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        self.candidates = candidates

    def from_domain(self, domain: bytes) -> tuple[Candidate, ...]:
        """Those that mail of a sender at `domain` (lower case; b"" of <>) may match."""
        return tuple(one for one in self.candidates if one.senders.may_match(domain))


class Rules:
    """Finds the rules for a domain without looking at all of them."""

    __slots__ = ("_anywhere", "_by_domain", "_by_parent", "_candidates", "_known")

    def __init__(self, rules: Sequence[Rule], otherwise: Exit) -> None:
        """`otherwise` is where mail goes that no rule matches. Raises ValueError for a human."""
        self._candidates = [Candidate(rule) for rule in (*rules, Rule(otherwise))]
        self._by_domain: dict[bytes, list[int]] = {}
        self._by_parent: dict[bytes, list[int]] = {}
        self._anywhere: list[int] = []
        self._known: dict[tuple[int, ...], Choices] = {}  # by their places
        for place, candidate in enumerate(self._candidates):
            patterns = candidate.recipients
            if patterns.is_everything or patterns.expressions:
                self._anywhere.append(place)
            for domain in patterns.domains | patterns.domains_of_addresses:
                self._by_domain.setdefault(domain, []).append(place)
            for parent in patterns.parents:
                self._by_parent.setdefault(parent, []).append(place)

    def of(self, domain: bytes) -> Choices:
        """What mail to `domain` may match, in order; the last one matches in any case."""
        places = {*self._anywhere, *self._by_domain.get(domain, ())}
        if self._by_parent:
            for parent in parents_of(domain):
                places.update(self._by_parent.get(parent, ()))
        found = []
        for place in sorted(places):
            found.append(place)
            if self._candidates[place].is_certain(domain):
                break
        key = tuple(found)
        choices = self._known.get(key)
        if choices is None:
            if len(self._known) >= CHOICES_MAX:
                self._known.clear()
            choices = Choices(tuple(self._candidates[place] for place in found))
            self._known[key] = choices
        return choices
