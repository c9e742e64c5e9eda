"""Routes that no mail can come to, and relays to which none can."""

from collections.abc import Iterator

from .schema import Config


def unreached(config: Config) -> Iterator[tuple[str, str]]:
    """Dotted keys of routes and relays that are of no use, and why.

    A route is found out when earlier ones that ask for recipients only, or for senders only, take
    all that it asks for; what regular expressions have in common is not looked at.
    """
    recipients, senders = _Taken(), _Taken()
    same: dict[tuple[frozenset[str], frozenset[str]], int] = {}
    for number, route in enumerate(config.route, 1):
        key = f"route.{number}.to"
        both = (frozenset(route.recipient), frozenset(route.sender))
        by = {same.setdefault(both, number)}
        if by == {number}:
            by = recipients.by(route.recipient) or senders.by(route.sender)
        if by:
            takers = " and ".join(f"route.{one}" for one in sorted(by))
            yield key, f"this route is never looked at: its mail goes by {takers} before"
        if not route.recipient and not route.sender:
            if number < len(config.route):
                text = f"this route takes all mail: what comes behind it, from route.{number + 1} "
                yield key, f"{text}on, is never looked at"
            break
        if not route.sender:
            recipients.add(route.recipient, number)
        if not route.recipient:
            senders.add(route.sender, number)
    used = {route.to for route in config.route} | set(config.relay.fallback)
    for relay in config.relays.values():
        used.update(relay.fallback)
    for name in config.relays:
        if name not in used:
            yield f"relays.{name}", "no route and no fallback leads to this relay"


class _Taken:
    """Patterns whose mail goes elsewhere already, with the numbers of the routes that it takes."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def add(self, patterns: tuple[str, ...], number: int) -> None:
        for one in patterns:
            self._numbers.setdefault(one.lower() if one[0] != "/" else one, number)

    def by(self, patterns: tuple[str, ...]) -> set[int]:
        """The routes that take all mail of `patterns` between them; none: some is left."""
        found = {self._by_one(one) for one in patterns}
        return found if 0 not in found else set()

    def _by_one(self, pattern: str) -> int:
        if pattern[0] == "/" or pattern == "<>":
            return self._numbers.get(pattern, 0)
        wider = [pattern.lower()]
        domain = wider[0].rpartition("@")[2]
        if not domain.startswith("."):
            wider.append(domain)
        while "." in domain[1:]:  # `.b.c` takes a.b.c, and .c takes .b.c
            domain = domain[domain.index(".", 1) :]
            wider.append(domain)
        return next((self._numbers[one] for one in wider if one in self._numbers), 0)
