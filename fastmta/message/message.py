"""One message in memory."""

from __future__ import annotations

from .envelope import Envelope
from .file import ContentFile
from .recipient import RecipientState


class Message:
    """A message that this process knows, with or without its content.

    `position` and `size_octets` are set when its record is durable. `content` is canonical (CR LF
    line ends, not dot-stuffed, our Received field in front) and may be dropped (None) once the
    record is durable; the spool loads it again. A large one is never in memory: `content` stays
    None and `file` says where it is. `states` holds only recipients that differ from
    "QUEUED, no attempt yet", by recipient index.
    """

    __slots__ = (
        "arrived_at_ns",
        "content",
        "envelope",
        "file",
        "id",
        "message_id_field",
        "pending",
        "position",
        "size_octets",
        "states",
    )

    def __init__(
        self,
        id: bytes,
        envelope: Envelope,
        content: bytes,
        arrived_at_ns: int,
        message_id_field: bytes = b"",
    ) -> None:
        self.id = id  # 16 octets of [0-9A-Za-z]: the queue id, the same everywhere
        self.envelope = envelope
        self.content: bytes | None = content
        self.file: ContentFile | None = None
        self.size_octets = len(content)  # of the content
        self.arrived_at_ns = arrived_at_ns  # wall clock
        self.position = -1  # of its MSG record in the log; -1 until durable
        self.pending = len(envelope.forward_paths)  # recipients that are not final
        self.states: dict[int, RecipientState] = {}
        self.message_id_field = message_id_field  # its value, for the log line only

    @property
    def has_content(self) -> bool:
        """Whether its content can be sent: it is in memory, or a file of its own."""
        return self.content is not None or self.file is not None

    def attempts_of(self, index: int) -> int:
        """How many attempts recipient `index` has had."""
        state = self.states.get(index)
        return 0 if state is None else state.attempts

    def is_final(self, index: int) -> bool:
        """Whether recipient `index` needs nothing more."""
        state = self.states.get(index)
        return state is not None and state.status.is_final
