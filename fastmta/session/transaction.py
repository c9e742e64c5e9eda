"""What one mail transaction has gathered so far (RFC 5321 3.3)."""

from fastmta.message import NULL_REVERSE_PATH


class Transaction:
    """Reverse-path and recipients between MAIL and the end of data.

    `reset` is the only way back to "no transaction", so no refusal can leave a part behind.
    """

    __slots__ = (
        "declared_octets",
        "forward_paths",
        "is_8bit",
        "queue_id",
        "rcpt_count",
        "reverse_path",
        "trace_octets",
    )

    def __init__(self) -> None:
        self.forward_paths: dict[bytes, None] = {}  # an ordered set: each mailbox once
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.reverse_path = NULL_REVERSE_PATH
        self.is_8bit = False
        self.declared_octets = 0  # SIZE parameter
        self.queue_id = b""  # given at DATA
        self.rcpt_count = 0  # accepted ones; a mailbox that is named twice counts twice
        self.trace_octets = 0  # length of our Received field in front of the content
        if self.forward_paths:
            self.forward_paths = {}
