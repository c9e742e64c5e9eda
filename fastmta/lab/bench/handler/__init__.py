"""`fastmta bench handler`: one aiosmtpd handler under aiosmtpd's server and under ours."""

from .command import run_handler

__all__ = ["run_handler"]
