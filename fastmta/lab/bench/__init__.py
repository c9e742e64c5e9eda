"""`fastmta bench`: Postfix and fastmta in turn, on one disk, under one load.

Both run as they are installed: defaults for everything that matters, every message flushed before
it is answered, a Postfix-shaped log in a file. Runs alternate (A B, B A, ..); figures are medians
with their spread. What is measured is written to a JSON file beside the printed table.
"""

from .command import run_bench

__all__ = ["run_bench"]
