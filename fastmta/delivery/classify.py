"""What a refusal means: how far it reaches, what kind of trouble it is, whether it is final.

    verdict = rules.classify(reply, "RCPT TO command", provider)

The first rule that takes the reply wins: the operator's own, then those of the provider, then
everybody's. Where no rule does, the class of the code decides alone. Only refusals are looked at.
A rule may widen how far a refusal of its command reaches and never narrows it; it leaves the kind
as the code says unless it names another one and says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from fastmta.message import OutcomeKind, Scope
from fastmta.message.category import Category
from fastmta.smtp import Reply

from .rule import COMMANDS, TEXT_MAX, Example, Rule, normalise
from .rulefile import SHIPPED, RuleFile, RuleProblem, read_rules

DEFERRED: Final = OutcomeKind.DEFERRED
FAILED: Final = OutcomeKind.FAILED
CACHE_MAX: Final = 2048  # texts; about 2 MiB at their longest
_CLOSING: Final = 421  # RFC 5321 3.8: whatever was asked, the host closes the session


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a refusal means."""

    kind: OutcomeKind  # DEFERRED or FAILED
    scope: Scope
    category: Category
    rule: str = ""  # its name; "" when no rule took the reply
    is_shared: bool = False  # the rule is a provider's: its hosts count together

    @property
    def is_signal(self) -> bool:
        """The path is to be slowed, and the mail is not to blame: no attempt is burnt."""
        return self.kind is DEFERRED and self.scope >= Scope.HOST

    @property
    def ends_attempt(self) -> bool:
        """No other host of the site is worth a try now: it would say the same, and count it."""
        return self.is_signal and (self.is_shared or self.scope >= Scope.SITE)

    def status_of(self, reply: Reply) -> str:
        """The enhanced status code of an outcome with this verdict: its class is the kind's."""
        status = reply.enhanced_status or f"{reply.code // 100}.0.0"
        return ("4" if self.kind is DEFERRED else "5") + status[1:]


class Rules:
    """The table, made once per process. Holds verdicts of texts met before, a bounded number."""

    __slots__ = ("_cache", "_hosts", "_known", "_lists", "rules")

    def __init__(self, own: RuleFile, shipped: RuleFile) -> None:
        self.rules = _ordered(own.rules) + _ordered(shipped.rules)
        self._hosts = {**shipped.hosts, **own.hosts}
        providers = {label for rule in self.rules for label in rule.providers}
        self._known = frozenset(providers | set(self._hosts.values()))
        self._lists = {
            label: tuple(
                rule for rule in self.rules if not rule.providers or label in rule.providers
            )
            for label in {"", *self._known}
        }
        self._cache: dict[tuple[int, str, str, str, str], Verdict] = {}

    def is_like(self, other: Rules) -> bool:
        """Whether both say the same of every reply."""
        return self.rules == other.rules and self._hosts == other._hosts

    def provider_of(self, host: str, label: str = "") -> str:
        """Whose server `host` is; `label`, a relay's name or preset, decides if it is known."""
        if label in self._known:
            return label
        name = host.lower()
        found = self._hosts.get(name)
        while found is None and name:
            _, dot, name = name.partition(".")
            found = self._hosts.get(dot + name)
        return found or ""

    def classify(
        self, reply: Reply, command: str, provider: str = "", floor: Scope | None = None
    ) -> Verdict:
        """`reply` is 4xx or 5xx to `command`, with or without the word "command" at its end.

        `floor` is how far it reaches at least, if that is not what the command says: a reply to
        end of DATA over LMTP is about one recipient.
        """
        name = command.removesuffix(" command")
        lines = reply.lines
        text = normalise(lines[0] if len(lines) == 1 else " ".join(lines)[:TEXT_MAX])
        provider = provider if provider in self._known else ""
        key = (reply.code, reply.enhanced_status, text, name, provider)
        verdict = self._cache.get(key)
        if verdict is None:
            verdict = self._judge(key)
            if len(self._cache) >= CACHE_MAX:
                self._cache.clear()
            self._cache[key] = verdict
        least = COMMANDS.get(name, Scope.TRANSACTION) if floor is None else floor
        if reply.code == _CLOSING:
            least = max(least, Scope.HOST)
        if verdict.scope >= least:
            return verdict
        return msgspec.structs.replace(verdict, scope=least)

    def _judge(self, key: tuple[int, str, str, str, str]) -> Verdict:
        code, status, text, command, provider = key
        kind = FAILED if code >= 500 else DEFERRED
        for rule in self._lists[provider]:
            if rule.takes(code, status, text, command):
                is_shared = bool(rule.providers)
                return Verdict(rule.kind or kind, rule.scope, rule.category, rule.name, is_shared)
        category = Category.HARD_OTHER if kind is FAILED else Category.SOFT_OTHER
        return Verdict(kind, Scope.RECIPIENT, category)

    def overlaps(self) -> Iterator[str]:
        """Examples that a later rule of the same rank would judge otherwise, unless it is named.

        A provider's rule is meant to come before everybody's, and one with texts before one with
        numbers alone.
        """
        for at, rule in enumerate(self.rules):
            for label in rule.providers or ("",):
                for example in rule.matches:
                    for other in self.rules[at + 1 :]:
                        if other.name in rule.before or not _is_rival(rule, other, label):
                            continue
                        if _takes(other, example) and _differs(rule, other):
                            yield f"{rule.name}: {other.name} would take {example.text!r} as well"

    def faults(self, rules: tuple[Rule, ...]) -> Iterator[str]:
        """Examples of `rules` that the whole table does not judge as they say."""
        for rule in rules:
            for label in rule.providers or ("",):
                for example in rule.matches:
                    name = self.classify(example.reply, example.command, label).rule
                    if name != rule.name:
                        taker = f"rule {name}" if name else "no rule"
                        yield f"{rule.origin}: {rule.name}: {taker} takes {example.text!r}"
                for example in rule.not_matches:
                    if _takes(rule, example):
                        yield f"{rule.origin}: {rule.name} takes {example.text!r}, and must not"


def load_rules(own: str = "") -> Rules:
    """The shipped rules behind those of the file `own`, if there is one. Raises RuleProblem."""
    shipped = read_rules(SHIPPED)
    if not own:
        return Rules(RuleFile((), {}), shipped)
    mine = read_rules(Path(own))
    names = {rule.name for rule in shipped.rules}
    faults = [
        f'{rule.origin}: a shipped rule is named "{rule.name}" already: rename yours'
        for rule in mine.rules
        if rule.name in names
    ]
    rules = Rules(mine, shipped)
    faults += rules.faults(mine.rules)
    if faults:
        raise RuleProblem("\n".join(faults))
    return rules


def _ordered(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Rules of a provider first; otherwise as they are written."""
    return tuple(sorted(rules, key=lambda rule: not rule.providers))


def _takes(rule: Rule, example: Example) -> bool:
    reply = example.reply
    text = normalise(" ".join(reply.lines))
    return rule.takes(reply.code, reply.enhanced_status, text, example.command)


def _is_rival(rule: Rule, other: Rule, label: str) -> bool:
    if bool(rule.providers) != bool(other.providers):
        return False
    if other.providers and label not in other.providers:
        return False
    return _has_texts(rule) == _has_texts(other)


def _has_texts(rule: Rule) -> bool:
    return bool(rule.phrases or rule.starts or rule.also)


def _differs(rule: Rule, other: Rule) -> bool:
    return (rule.category, rule.scope, rule.kind) != (other.category, other.scope, other.kind)
