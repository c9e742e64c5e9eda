"""In which order the addresses of a site are tried."""

from collections.abc import Callable, Sequence
from itertools import groupby, zip_longest
from typing import Any, TypeAlias

from .site import Target

TARGETS_MAX = 20
ATTEMPT_TARGETS = 5  # as many addresses does one attempt try (Postfix: smtp_mx_address_limit)

Shuffle: TypeAlias = Callable[[list[Any]], None]  # in place, of a list of anything


def order_targets(
    ranked: Sequence[tuple[int, Target]],
    shuffle: Shuffle,
    *,
    targets_max: int = TARGETS_MAX,
    family: str = "",
) -> list[Target]:
    """Targets by rank; in one rank at random and, as long as there are both, IPv4 and IPv6 in turn.

    With a `family`, "4" or "6", that one comes first in each rank. `ranked` is sorted by rank. If
    both families exist, both are among the first five, so that a host without a working IPv6 (or
    IPv4) path still gets through in one attempt.
    """
    ordered: list[Target] = []
    for _, group in groupby(ranked, key=lambda pair: pair[0]):
        families: list[list[Target]] = [[], []]
        for _, target in group:
            families[":" in target.address].append(target)
        for one in families:
            shuffle(one)
        if family:
            ordered += families[family == "6"] + families[family != "6"]
            continue
        shuffle(families)
        pairs = zip_longest(*families)
        ordered += [target for pair in pairs for target in pair if target is not None]
    return _balanced(list(dict.fromkeys(ordered)))[:targets_max]


def _balanced(targets: list[Target]) -> list[Target]:
    first = {":" in target.address for target in targets[:ATTEMPT_TARGETS]}
    if len(first) == 1:
        for place in range(ATTEMPT_TARGETS, len(targets)):
            if (":" in targets[place].address) not in first:
                targets.insert(ATTEMPT_TARGETS - 1, targets.pop(place))
                break
    return targets
