"""What ends a login of ours before the server has decided."""

from typing import Final

CHALLENGE_OCTETS_MAX: Final = 8192


class SaslFailure(Exception):
    """The server breaks the rules of a mechanism, or the credential does not fit it.

    Its text is fit for a log: no secret, nothing that the server chose.
    """
