"""The same counts under the names of the exporters for Postfix, for boards that exist already."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastmta.journal import family as f
from fastmta.journal.family import BOUNDS_S, Bounds, Family

from .reading import Labels, Values
from .render import head, histogram, labelled

_STAGES = {
    "before": "before_queue_manager",
    "queue": "queue_manager",
    "connect": "connection_setup",
    "transmit": "transmission",
}
_STATUSES = {"delivered": "sent"}


def render_postfix(values: Values) -> str:
    """Samples to stand behind ours."""
    lines: list[str] = []
    for name, family in (
        ("postfix_smtpd_connects_total", f.CONNECTIONS),
        ("postfix_smtpd_disconnects_total", f.DISCONNECTS),
        ("postfix_smtpd_messages_processed_total", f.RECEIVED),
        ("postfix_smtpd_sasl_authentication_failures_total", f.LOGIN_FAILURES),
        ("postfix_cleanup_messages_processed_total", f.RECEIVED),
        ("postfix_qmgr_messages_removed_total", f.REMOVED),
    ):
        lines.append(head(name, "counter", f"As {family.full_name}, all together."))
        lines.append(f"{name} {sum(_by(values, family).values())}")
    lines += _counter("postfix_smtpd_messages_rejected_total", "code", values, f.REJECTED)
    lines += _counter(
        "postfix_smtp_messages_processed_total", "status", values, f.DELIVERIES,
        lambda labels: _STATUSES.get(labels[2], labels[2]),
    )  # fmt: skip
    name = "postfix_smtp_delivery_delay_seconds"
    lines.append(head(name, "histogram", f"As {f.ATTEMPT_SECONDS.full_name}."))
    for (stage,), words in values.get(f.ATTEMPT_SECONDS, {}).items():
        if isinstance(words, list):
            labels = {"stage": _STAGES.get(stage, stage)}
            lines += histogram(name, labels, BOUNDS_S[Bounds.STAGE], words)
    lines.append(head("postfix_up", "gauge", "1 when the server is ready."))
    lines.append(f"postfix_up {values[f.READY][()]}\n")
    return "\n".join(lines)


def _counter(
    name: str,
    label: str,
    values: Values,
    family: Family,
    key: Callable[[Labels], str] = lambda labels: labels[1],
) -> Iterator[str]:
    yield head(name, "counter", f"As {family.full_name}.")
    for value, count in _by(values, family, key).items():
        yield f"{labelled(name, (label,), (value,))} {count}"


def _by(
    values: Values, family: Family, key: Callable[[Labels], str] = lambda _: ""
) -> dict[str, int]:
    found: dict[str, int] = {}
    for labels, value in values.get(family, {}).items():
        assert isinstance(value, int)
        found[key(labels)] = found.get(key(labels), 0) + value
    return found
