"""The story of a message: what its log lines and the spool know of it, put together. Pure.

docs/json.md is the schema of what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .logjson import LogLine

Result: TypeAlias = dict[str, Any]  # Any: what JSON knows

FINAL: Final = frozenset(
    ("sent", "bounced", "expired", "failed", "deleted", "deliverable", "undeliverable")
)
_NS: Final = 1_000_000_000
_OUTCOMES: Final = {"delivered": "sent", "queued": "queued", "deferred": "deferred", "held": "held"}


class Told(NamedTuple):
    """A line, and the kind of place that it was found in: `log`, `history`, `journald`, `live`."""

    line: LogLine
    source: str


def event_of(told: Told) -> Result:
    """What one line says."""
    line = told.line
    event: Result = {
        "id": line.id,
        "time": round(line.time_s, 3),
        "event": line.event,
        "source": told.source,
        "program": line.program,
        **line.facts,
    }
    if line.event == "received":
        event = {"message_id": None, "tls": None, **event}
    if line.event in ("notice", "operation"):
        event.setdefault("text", _plain(line))
    return event


def _plain(line: LogLine) -> str:
    """A line without its front."""
    if "operation" in line.facts:
        return str(line.facts["operation"])
    _, found, rest = line.text.partition(f"{line.id}: ")
    return rest if found else line.text


class Story:
    """One message."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.events: list[Result] = []
        self.bounce_of: str | None = None
        self._view: Result | None = None
        self._recipients: dict[str, Result] = {}
        self._sums: Result = dict.fromkeys(
            ("sender", "size_octets", "recipient_count", "client", "login", "message_id"), None
        )
        self._is_removed = False

    def add(self, told: Told) -> Result | None:
        """The next line in order of time; the event that it is, None when it is no new one."""
        line = told.line
        if line.id != self.id:
            if line.event == "bounce" and line.facts.get("bounce_id") == self.id:
                self.bounce_of = line.id
            return None
        if line.event == "message-id":
            return self._name(told)
        event = event_of(told)
        self.events.append(event)
        self._learn(event)
        return event

    def add_view(self, view: Result) -> None:
        """What the spool knows: a message of the verb `find`."""
        self._view = view
        if not any(event["event"] == "received" for event in self.events):
            self.events.insert(0, _received(view))
        self._sums["sender"] = view["sender"]
        self._sums["size_octets"] = view["size_octets"]
        self._sums["recipient_count"] = view["recipient_count"]
        self._sums["client"] = self._sums["client"] or view["client"] or None
        for one in view["recipients"]:
            known = self._recipient(one["recipient"])
            outcome = _OUTCOMES.get(one["status"], one["status"])
            due_ns = one["due_at_ns"] if outcome == "deferred" else 0
            known["outcome"] = known["outcome"] if known["outcome"] in FINAL else outcome
            known["attempts"] = max(known["attempts"], one["attempts"])
            known["next_attempt"] = round(due_ns / _NS, 3) if due_ns else None
            known["reply"] = known["reply"] or one["text"]
            self._set_next(known)

    def _set_next(self, known: Result) -> None:
        """A line of Postfix's shape does not say when the next attempt is; the spool does."""
        for event in reversed(self.events):
            if event["event"] == "attempt" and event["recipient"] == known["recipient"]:
                event["next_attempt"] = event["next_attempt"] or known["next_attempt"]
                return

    def render(self) -> Result:
        """The whole."""
        view = None if self._is_removed else self._view  # the log was read later
        state = "removed" if self._is_removed else "unknown" if view is None else "waiting"
        return {
            "id": self.id,
            "state": state,
            **self._sums,
            "bounce_of": self.bounce_of,
            "shard": None if view is None else view["shard"],
            "expires_at": None if view is None else round(view["expires_at_ns"] / _NS, 3),
            "waits_for": [] if view is None else list(view.get("waits_for", ())),
            "recipients": list(self._recipients.values()),
            "events": self.events,
        }

    @property
    def is_removed(self) -> bool:
        """Whether nothing more will follow."""
        return self._is_removed

    def _name(self, told: Told) -> Result | None:
        """The message-id belongs to the line before it; mail of our own has no such line."""
        message_id = told.line.facts["message_id"]
        self._sums["message_id"] = message_id
        for event in reversed(self.events):
            if event["event"] == "received":
                event["message_id"] = message_id
                return None
        nobody = {"client": None, "login": None, "method": None, "message_id": message_id}
        line = told.line._replace(event="received", facts=nobody)
        event = event_of(Told(line, told.source))
        self.events.append(event)
        return event

    def _learn(self, event: Result) -> None:
        kind = event["event"]
        if kind == "received":
            for name in ("client", "login", "message_id"):
                self._sums[name] = event[name] or self._sums[name]
        elif kind == "queued":
            self._sums["sender"] = event["sender"]
            self._sums["size_octets"] = event["size_octets"]
            # Of a message that is taken up again these are those that are left.
            known = self._sums["recipient_count"] or 0
            self._sums["recipient_count"] = max(known, event["recipients"])
        elif kind == "attempt":
            self._attempt(event)
        elif kind == "held":
            self._recipient(event["recipient"]).update(outcome="held", reply=event["reply"])
        elif kind == "expired":
            self._rest("expired")
        elif kind == "operation":
            self._operation(event["operation"])
        elif kind == "removed":
            self._is_removed = True

    def _attempt(self, event: Result) -> None:
        known = self._recipient(event["recipient"])
        known["attempts"] += 1
        for name in ("outcome", "status", "reply", "relay", "next_attempt", "time"):
            known[name] = event[name]

    def _operation(self, text: str) -> None:
        if text == "removed":
            self._is_removed = True
            self._rest("deleted")
        elif text == "placed on hold":
            self._rest("held")
        elif text in ("released from hold", "requeued"):
            self._rest("queued")
        elif text == "expired":
            self._rest("expired")

    def _rest(self, outcome: str) -> None:
        for one in self._recipients.values():
            if one["outcome"] not in FINAL:
                one["outcome"] = outcome
                one["next_attempt"] = None

    def _recipient(self, address: str) -> Result:
        return self._recipients.setdefault(
            address,
            {
                "recipient": address,
                "outcome": "queued",
                "attempts": 0,
                "status": None,
                "relay": None,
                "reply": "",
                "time": None,
                "next_attempt": None,
            },
        )


def tell(ids: Sequence[str], lines: Iterable[Told], views: Iterable[Result]) -> list[Result]:
    """The stories of these messages, in the order of their beginnings."""
    stories = {id: Story(id) for id in ids}
    for told in lines:
        for id in {told.line.id, str(told.line.facts.get("bounce_id"))}:
            if id in stories:
                stories[id].add(told)
    for view in views:
        if view["id"] in stories:
            stories[view["id"]].add_view(view)
    found = [one for one in stories.values() if one.events or one.bounce_of]
    return [one.render() for one in sorted(found, key=_begin)]


def _begin(story: Story) -> float:
    return float(story.events[0]["time"]) if story.events else 0.0


def _received(view: Result) -> Result:
    """The first event of a message whose line is not there any more."""
    return {
        "id": view["id"],
        "time": round(view["arrived_at_ns"] / _NS, 3),
        "event": "received",
        "source": "spool",
        "program": "smtpd",
        "client": view["client"] or None,
        "login": None,
        "method": None,
        "message_id": None,
        "tls": None,
    }
