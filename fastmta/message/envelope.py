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
    tls: str = ""  # protocol, cipher and bits as the Received field shows them; "": no TLS


class DSNRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the client asked for with DSN parameters (RFC 3461 4). New fields go at the end."""

    returned: str = ""  # RET: "FULL", "HDRS", or "" when it was not given
    envelope_id: bytes = b""  # ENVID as given, still xtext
    # By recipient index; shorter than forward_paths when the last ones gave none.
    notify: tuple[str, ...] = ()  # NOTIFY in upper case: "NEVER", "SUCCESS,FAILURE"; "" not given
    original_recipients: tuple[bytes, ...] = ()  # ORCPT as given, `type;xtext`; b"" not given

    def notify_of(self, index: int) -> str:
        """NOTIFY of one recipient; "" when it was not given."""
        return self.notify[index] if index < len(self.notify) else ""

    def original_recipient_of(self, index: int) -> bytes:
        """ORCPT of one recipient; b"" when it was not given."""
        known = self.original_recipients
        return known[index] if index < len(known) else b""


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Reverse-path, forward-paths and parameters. Stored by position: new fields go at the end."""

    reverse_path: bytes  # `local-part@domain`; NULL_REVERSE_PATH is <>
    forward_paths: tuple[bytes, ...]  # `local-part@domain`, at least one
    client: ClientIdentity
    is_8bit: bool = False  # MAIL said BODY=8BITMIME
    tenant: str = ""  # who the mail is counted for
    is_utf8: bool = False  # MAIL said SMTPUTF8 (RFC 6531 3.4)
    dsn: DSNRequest | None = None  # None: no DSN parameter was given (RFC 3461 4)
    is_tls_required: bool = False  # MAIL said REQUIRETLS (RFC 8689 2)
    # Its recipients are only asked about (`sendmail -bv`): the content goes to nobody.
    is_probe: bool = False
    # By recipient index, what the sender named if we made another address of it; b"": the same.
    # Shorter than forward_paths when the last ones are the same.
    original_paths: tuple[bytes, ...] = ()

    def original_path_of(self, index: int) -> bytes:
        """What the sender named instead of this forward-path; b"": that itself."""
        known = self.original_paths
        return known[index] if index < len(known) else b""
