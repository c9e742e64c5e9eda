"""Questions to a whole canonical content: the compiled functions or their twins."""

from .content_py import DROPPED_FIELDS, LineEndError, scan_header_section, stuff

__all__ = ["DROPPED_FIELDS", "LineEndError", "scan_header_section", "stuff"]
