"""A defect of ours that loses an outcome still ends the attempt, once, and is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fastmta.delivery.attempt import Attempt
from fastmta.event import Notice, Severity
from fastmta.message import AttemptResult, Outcome
from tests.support.delivering import Sending, make_job, make_site, run_sending
from tests.support.receiver import Receiver


def test_a_recipient_without_an_outcome_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Attempt.take

    def take_but_one(self: Attempt, outcomes: Sequence[Outcome | None]) -> bool:
        is_open = take(self, list(outcomes))
        assert self.outcomes is not None
        self.outcomes[1] = None
        return is_open

    monkeypatch.setattr(Attempt, "take", take_but_one)

    async def scenario(sending: Sending) -> tuple[AttemptResult, int, list[Severity]]:
        result = await sending.send(make_job(), make_site(receiver.port))
        told = [one.severity for one in sending.events if isinstance(one, Notice)]
        return result, sending.calls, told

    with Receiver() as receiver:
        result, calls, told = run_sending(scenario)
    assert [outcome.kind.value for outcome in result.outcomes] == ["sent", "deferred"]
    assert result.outcomes[1].text == "internal error: AssertionError"
    assert (calls, told) == (1, [Severity.ERROR])
