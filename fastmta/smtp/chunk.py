"""The argument of BDAT (RFC 3030 2)."""

import re

_BDAT = re.compile(rb"([0-9]{1,10})(?:[ \t]+(LAST))?", re.IGNORECASE)


def parse_bdat(argument: bytes) -> tuple[int, bool] | None:
    """(size of the chunk in octets, whether it is the last one); None when it is malformed."""
    found = _BDAT.fullmatch(argument)
    if found is None:
        return None
    return int(found.group(1)), found.group(2) is not None
