"""How long messages waited: what clients and receivers noted, put together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...loopback import LabError
from ..statistic import percentile
from .client import Sent
from .receivers import Arrival, Town


@dataclass(frozen=True, slots=True)
class Waiting:
    """Milliseconds; `start` from the 250 to MAIL at the receiver, which may come first."""

    messages: int
    start_p50_ms: float
    start_p99_ms: float
    start_max_ms: float
    whole_start_p99_ms: float  # from the end of data, so with the flush
    end_p50_ms: float  # from the 250 to that of the receiver
    end_p99_ms: float
    accept_p99_ms: float  # from the end of data to the 250
    others_per_s: float  # other messages that arrived meanwhile


def by_number(arrivals: Sequence[Arrival]) -> dict[int, Arrival]:
    """The arrivals by the number of their recipient."""
    return {each.number: each for each in arrivals}


def waiting_of(sent: Sequence[Sent], arrived: Mapping[int, Arrival], town: Town) -> Waiting:
    """LabError when a message has not arrived."""
    missing = [each.number for each in sent if each.number not in arrived]
    if missing or not sent:
        raise LabError(f"{len(missing)} of {len(sent)} messages did not arrive in time")
    pairs = [(each, arrived[each.number]) for each in sent]
    start = [1000 * max(0.0, there.begun_s - here.accepted_s) for here, there in pairs]
    end = [
        1000 * max(0.0, there.ended_s + town.delay_s(there.site) - here.accepted_s)
        for here, there in pairs
    ]
    first_s, last_s = sent[0].ended_s, max(there.ended_s for _, there in pairs)
    numbers = {each.number for each in sent}
    others = sum(
        first_s <= there.ended_s <= last_s and number not in numbers
        for number, there in arrived.items()
    )
    return Waiting(
        messages=len(pairs),
        start_p50_ms=percentile(start, 0.5),
        start_p99_ms=percentile(start, 0.99),
        start_max_ms=max(start),
        whole_start_p99_ms=percentile(
            [1000 * (there.begun_s - here.ended_s) for here, there in pairs], 0.99
        ),
        end_p50_ms=percentile(end, 0.5),
        end_p99_ms=percentile(end, 0.99),
        accept_p99_ms=percentile([1000 * (one.accepted_s - one.ended_s) for one in sent], 0.99),
        others_per_s=others / (last_s - first_s),
    )
