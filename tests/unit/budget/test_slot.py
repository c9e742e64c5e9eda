"""Slots are counted, and whoever waited longest is next."""

import pytest

from fastmta.budget import Slots


class Eater:
    """Takes slots while it is hungry."""

    def __init__(self, slots: Slots, hunger: int) -> None:
        self.slots = slots
        self.hunger = hunger
        self.eaten = 0
        self.is_waiting_for_slot = False

    def resume(self) -> None:
        while self.hunger:
            if not self.slots.take():
                self.slots.wait(self)
                return
            self.hunger -= 1
            self.eaten += 1


def test_never_more_than_the_limit() -> None:
    slots = Slots(2)
    assert [slots.take() for _ in range(3)] == [True, True, False]
    slots.give()
    assert [slots.take() for _ in range(2)] == [True, False]


def test_those_who_wait_take_turns() -> None:
    slots = Slots(3)
    eaters = [Eater(slots, 10) for _ in range(3)]
    for eater in eaters:
        eater.resume()
    assert [eater.eaten for eater in eaters] == [3, 0, 0]
    for _ in range(12):
        slots.give()
        assert slots.used == 3
    assert [eater.eaten for eater in eaters] == [7, 4, 4]


def test_one_who_needs_nothing_passes_the_slot_on() -> None:
    slots = Slots(1)
    slots.take()
    first, second = Eater(slots, 1), Eater(slots, 1)
    first.resume()
    second.resume()
    first.hunger = 0
    slots.give()
    assert (first.eaten, second.eaten, slots.used) == (0, 1, 1)


def test_waiting_twice_is_waiting_once() -> None:
    slots = Slots(1)
    slots.take()
    eater = Eater(slots, 1)
    eater.resume()
    eater.resume()
    assert slots.waiting_count == 1


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="slot"):
        Slots(0)


def test_a_reserved_slot_wakes_nobody_else() -> None:
    slots = Slots(1)
    slots.take()
    first, second = Eater(slots, 0), Eater(slots, 1)
    slots.wait(second)
    first.resume = lambda: slots.reserve(1)  # type: ignore[method-assign]  # it goes and fetches
    slots.wait(first)
    slots._waiters.move_to_end(second)
    slots.give()
    assert (slots.free, slots.is_contended, second.eaten) == (0, True, 0)
    slots.end_reservation(1)  # and found nothing
    slots.wake()
    assert (slots.used, slots.is_contended, second.eaten) == (1, False, 1)


def test_fresh_mail_and_the_rest_take_turns_whoever_came_first() -> None:
    slots = Slots(1)
    slots.take()
    old = [Eater(slots, 1) for _ in range(20)]
    new = [Eater(slots, 1) for _ in range(3)]
    for eater in old:
        slots.wait(eater)
    for eater in new:
        slots.wait(eater, is_fresh=True)
    assert slots.is_fresh_turn
    counts = []
    for _ in range(7):
        slots.give()
        counts.append((sum(one.eaten for one in new), sum(one.eaten for one in old)))
    assert counts == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (3, 4)]
    assert [one.eaten for one in old[:5]] == [1, 1, 1, 1, 0]
    assert not slots.is_fresh_turn


def test_who_waits_already_may_join_those_with_fresh_mail() -> None:
    slots = Slots(1)
    slots.take()
    eaters = [Eater(slots, 1) for _ in range(5)]
    for eater in eaters:
        slots.wait(eater)
    slots.wait(eaters[3], is_fresh=True)
    assert slots.waiting_count == 5
    slots.give()
    assert (eaters[3].eaten, eaters[3].is_waiting_for_slot) == (1, True), "still in the other line"
    assert slots.waiting_count == 5
