"""Host, reply and status come back from the sentence that a state keeps."""

import pytest

from fastmta.message import OutcomeKind
from fastmta.scheduler.retold import retold

DEFERRED, EXPIRED = OutcomeKind.DEFERRED, OutcomeKind.EXPIRED
MX = "mx.example[192.0.2.1]"


@pytest.mark.parametrize(
    ("text", "remote", "reply", "status"),
    [
        (
            f"host {MX} said: 450 4.2.0 not now (in reply to RCPT TO command)",
            MX,
            "450 4.2.0 not now",
            "4.2.0",
        ),
        (f"host {MX} said: 450 full (in reply to DATA command)", MX, "450 full", "4.4.7"),
        # Cut where a state ends.
        (f"host {MX} said: 451 4.7.1 very lo", MX, "451 4.7.1 very lo", "4.7.1"),
        (f"host {MX} refused to talk to me: 421 4.3.2 said: no", MX, "421 4.3.2 said: no", "4.3.2"),
        (
            "host mx[2001:db8::1] said: 450 4.0.1 (in reply to x) y (in reply to RCPT TO command)",
            "mx[2001:db8::1]",
            "450 4.0.1 (in reply to x) y",
            "4.0.1",
        ),
        (
            f"SASL authentication failed; server {MX} said: 535 5.7.8 no",
            MX,
            "535 5.7.8 no",
            "5.7.8",
        ),
        (f"lost connection with {MX} while sending RCPT TO", MX, "", "4.4.7"),
        (f"connect to {MX}:25: Connection refused", "none", "", "4.4.7"),
        ("delivery time expired", "none", "", "4.4.7"),
        ("nobody said: 450 4.2.0 x", "none", "", "4.2.0"),
        ("", "none", "", "4.4.7"),
    ],
)
def test_retold(text: str, remote: str, reply: str, status: str) -> None:
    outcome = retold(EXPIRED, text, "4.4.7")
    assert outcome.kind is EXPIRED
    assert (outcome.remote, outcome.diagnostic, outcome.status) == (remote, reply, status)
    assert outcome.text == text


def test_what_is_only_late_has_no_final_status() -> None:
    assert retold(DEFERRED, f"host {MX} said: 550 5.1.1 no", "4.0.0").status == "4.0.0"


def test_hostile_text_costs_little() -> None:
    text = ("with " * 100 + "x[" * 100)[:500]
    assert retold(DEFERRED, text, "4.0.0").remote == "none"
