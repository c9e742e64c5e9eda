"""What can be wrong with the argument of MAIL or RCPT."""

import enum
from typing import TypeAlias

# (keyword in upper case, value or b"") of each parameter, in the order given
Parameters: TypeAlias = tuple[tuple[bytes, bytes], ...]


class Problem(enum.IntEnum):
    """NONE and SOURCE_ROUTE come with a path and parameters; all others with b"" and ()."""

    NONE = 0
    SYNTAX = 1  # no FROM: or TO:, or no path behind it: 501 5.5.4
    BAD_ADDRESS = 2  # 501 5.1.7 or 5.1.3
    NON_ASCII = 3  # an octet above 127 in the address: 553 5.6.7
    SOURCE_ROUTE = 4  # RFC 5321 appendix C; the path is what is left without the route
    BAD_PARAMETER = 5  # 501 5.5.4
    REPEATED_PARAMETER = 6  # RFC 5321 4.1.1.11: at most once each; 501 5.5.4
