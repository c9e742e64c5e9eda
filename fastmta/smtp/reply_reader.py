"""Octets from a server to replies: the compiled reader or its twin."""

from .reply_py import ReplyProblem, ReplyReader

__all__ = ["ReplyProblem", "ReplyReader"]
