"""What the protocol needs to know of a TLS session (RFC 3207, RFC 8314)."""

import msgspec


class TlsFacts(msgspec.Struct, frozen=True, gc=False):
    """An established TLS session."""

    protocol: str  # "TLSv1.3"
    cipher: str  # OpenSSL's name: "TLS_AES_256_GCM_SHA384"
    bits: int  # of the cipher's key
    server_name: str = ""  # what the client asked for by SNI (RFC 6066 3)
    fingerprint: str = ""  # SHA-256 of the peer's certificate, lower-case hex without colons
    is_verified: bool = True  # that certificate was checked; always so where it is a client's
    is_resumed: bool = False  # the session goes on with the keys of an earlier one

    @property
    def text(self) -> str:
        """As log lines and Received fields show it."""
        return f"{self.protocol} with cipher {self.cipher} ({self.bits}/{self.bits} bits)"
