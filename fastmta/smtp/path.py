"""Arguments of MAIL and RCPT to paths and parameters: the compiled parser or its twin."""

from typing import TYPE_CHECKING

from .problem import Parameters, Problem
from .twin import IS_PURE

if TYPE_CHECKING or not IS_PURE:
    from ._path import parse_mail, parse_rcpt
else:
    from .path_py import parse_mail, parse_rcpt

__all__ = ["Parameters", "Problem", "parse_mail", "parse_rcpt"]
