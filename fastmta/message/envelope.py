"""The envelope of RFC 5321 2.3.1, as it is stored with the content."""

import msgspec

NULL_REVERSE_PATH = b""


class ClientIdentity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who handed the message over, for the Received field, the logs and fairness."""

    address: str = ""  # IPv4 or IPv6 text, v4-mapped addresses already normalised
    name: str = "unknown"  # verified PTR name
    helo: bytes = b""  # argument of EHLO or HELO as given
    protocol: str = "ESMTP"  # RFC 3848 keyword of the Received field's "with" clause
    login: str = ""  # authenticated user, if any


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Reverse-path, forward-paths and parameters. Stored by position: new fields go at the end."""

    reverse_path: bytes  # `local-part@domain`; NULL_REVERSE_PATH is <>
    forward_paths: tuple[bytes, ...]  # `local-part@domain`, at least one
    client: ClientIdentity
    is_8bit: bool = False  # MAIL said BODY=8BITMIME
    tenant: str = ""  # who the mail is counted for
