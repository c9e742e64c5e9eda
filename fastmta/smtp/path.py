"""Arguments of MAIL and RCPT to paths and parameters: the compiled parser or its twin."""

from .path_py import parse_mail, parse_rcpt
from .problem import Parameters, Problem

__all__ = ["Parameters", "Problem", "parse_mail", "parse_rcpt"]
