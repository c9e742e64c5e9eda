"""Octets from a server to replies: the compiled reader or its twin."""

from typing import TYPE_CHECKING

from .reply_py import ReplyProblem
from .twin import IS_PURE

if TYPE_CHECKING or not IS_PURE:
    from ._reply import ReplyReader
else:
    from .reply_py import ReplyReader

__all__ = ["ReplyProblem", "ReplyReader"]
