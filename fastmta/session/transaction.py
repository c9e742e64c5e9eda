"""What one mail transaction has gathered so far (RFC 5321 3.3)."""

from fastmta.message import NULL_REVERSE_PATH
from fastmta.message.envelope import DSNRequest


class Transaction:
    """Reverse-path and recipients between MAIL and the end of data.

    `reset` is the only way back to "no transaction", so no refusal can leave a part behind.
    """

    __slots__ = (
        "chunk_count",
        "chunk_octets",
        "declared_octets",
        "envelope_id",
        "forward_paths",
        "is_8bit",
        "is_last_chunk",
        "is_last_new",
        "is_tls_required",
        "is_unusual",
        "is_utf8",
        "overshoot",
        "queue_id",
        "rcpt_count",
        "rcpt_dsn",
        "returned",
        "reverse_path",
        "trace_octets",
    )

    def __init__(self) -> None:
        self.forward_paths: dict[bytes, None] = {}  # an ordered set: each mailbox once
        self.rcpt_dsn: dict[bytes, tuple[str, bytes]]
        self.is_last_new = False  # the latest recipient was not among those before
        self._reset_rare()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.reverse_path = NULL_REVERSE_PATH
        self.is_8bit = False
        self.declared_octets = 0  # SIZE parameter
        self.queue_id = b""  # given at DATA, or at the first BDAT
        self.rcpt_count = 0  # accepted ones; a mailbox that is named twice counts twice
        self.trace_octets = 0  # length of our Received field in front of the content
        if self.forward_paths:
            self.forward_paths = {}
        if self.is_unusual:
            self._reset_rare()

    def _reset_rare(self) -> None:
        """What few messages have. Whoever sets one of these sets `is_unusual` first."""
        self.is_unusual = False
        self.is_utf8 = False  # SMTPUTF8 parameter
        self.is_tls_required = False  # REQUIRETLS parameter
        self.returned = ""  # RET parameter
        self.envelope_id = b""  # ENVID parameter
        self.rcpt_dsn = {}  # NOTIFY and ORCPT of the recipients that gave one
        self.overshoot = 0  # recipients beyond the limit
        self.chunk_count = 0  # BDAT commands so far; 0: the content comes by DATA
        self.chunk_octets = 0  # of the chunk under way
        self.is_last_chunk = False

    def add(self, forward_path: bytes, notify: str, original: bytes) -> None:
        """One more accepted recipient; of one named twice the first request for reports counts."""
        self.rcpt_count += 1
        self.is_last_new = forward_path not in self.forward_paths
        if not self.is_last_new:
            return
        self.forward_paths[forward_path] = None
        if notify or original:
            self.is_unusual = True
            self.rcpt_dsn[forward_path] = (notify, original)

    def remove_last(self) -> None:
        """Take the recipient back that was accepted last."""
        self.rcpt_count -= 1
        if self.is_last_new:
            forward_path, _ = self.forward_paths.popitem()
            self.rcpt_dsn.pop(forward_path, None)

    def dsn_request(self) -> DSNRequest | None:
        """What was asked for with DSN parameters (RFC 3461 4); None: nothing."""
        if not (self.rcpt_dsn or self.returned or self.envelope_id):
            return None
        given = [self.rcpt_dsn.get(path, ("", b"")) for path in self.forward_paths]
        return DSNRequest(
            returned=self.returned,
            envelope_id=self.envelope_id,
            notify=tuple(notify for notify, _ in given) if self.rcpt_dsn else (),
            original_recipients=tuple(path for _, path in given) if self.rcpt_dsn else (),
        )
