"""Questions to a whole canonical content: the compiled functions or their twins."""

from typing import TYPE_CHECKING

from .content_py import DROPPED_FIELDS, LineEndError
from .twin import IS_PURE

if TYPE_CHECKING or not IS_PURE:
    from ._content import scan_header_section, stuff
else:
    from .content_py import scan_header_section, stuff

__all__ = ["DROPPED_FIELDS", "LineEndError", "scan_header_section", "stuff"]
