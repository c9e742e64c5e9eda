"""What a bench has started is stopped, whatever happens."""

import pytest

from fastmta.lab.bench.standing import Standing


class Three(Standing):
    """Parts named a, b and c; the one that is `broken` does not start."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.told: list[str] = []
        self._broken = broken

    def stand(self) -> None:
        for name in "abc":
            if name == self._broken:
                raise OSError(name)
            self.told.append(f"{name} starts")
            self._stack.callback(self.told.append, f"{name} ends")


def test_parts_end_in_reverse_order() -> None:
    with Three() as three:
        assert three.told == ["a starts", "b starts", "c starts"]
    assert three.told[3:] == ["c ends", "b ends", "a ends"]


def test_a_part_that_does_not_start_ends_those_before_it() -> None:
    three = Three(broken="c")
    with pytest.raises(OSError, match="c"), three:
        pytest.fail("it must not be entered")
    assert three.told == ["a starts", "b starts", "b ends", "a ends"]


def test_what_goes_wrong_within_is_not_hidden() -> None:
    three = Three()
    with pytest.raises(ValueError, match="within"), three:
        raise ValueError("within")
    assert three.told[-1] == "a ends"
