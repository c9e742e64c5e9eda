"""The counting of events: compiled, or its twin."""

from typing import TYPE_CHECKING

from fastmta.smtp.twin import IS_PURE

if TYPE_CHECKING or not IS_PURE:
    from ._tally import Tally  # an ImportError here is a broken build: let it stop us
else:
    from .tally_py import Tally

__all__ = ["Tally"]
