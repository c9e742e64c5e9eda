"""`fastmta bench idle`: what an open session that says nothing costs."""

from .command import run_idle

__all__ = ["run_idle"]
