"""`fastmta bench hostile`: what good sessions keep beside a crowd of slow and hostile ones."""

from .command import run_hostile

__all__ = ["run_hostile"]
