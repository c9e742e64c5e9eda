"""What operators and monitors cost the mail: a large queue that is looked at, and reloads."""

from .queue import run_queue

__all__ = ["run_queue"]
