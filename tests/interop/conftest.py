"""What modules of this directory share."""

import pytest

from tests.support.situation.ours import Run, play_all
from tests.support.situation.table import load


@pytest.fixture(scope="session")
def situation_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """fastmta in all situations of the table, once for all who look at its log."""
    return play_all(tmp_path_factory.mktemp("situations"), load())
