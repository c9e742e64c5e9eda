"""The tests of counting run on the compiled Tally and on its twin."""

from typing import Any

import pytest

from fastmta.budget import _tally, tally_py

TALLIES = {"compiled": _tally.Tally, "twin": tally_py.Tally}


@pytest.fixture(params=tuple(TALLIES))
def tally_class(request: pytest.FixtureRequest) -> Any:
    return TALLIES[request.param]
