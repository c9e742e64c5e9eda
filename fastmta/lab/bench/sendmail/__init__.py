"""`fastmta bench sendmail`: how many calls of `sendmail -t` a second the machine does."""

from .command import run_sendmail

__all__ = ["run_sendmail"]
