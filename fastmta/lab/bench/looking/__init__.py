"""What operators and monitors cost the mail: a large queue that is looked at, and reloads."""

from .queue import run_queue
from .watched import run_watched

__all__ = ["run_queue", "run_watched"]
