"""Mail that we write ourselves: a notification to a sender, or a notice to the postmaster."""

from .envelope import Envelope
from .message import Message

NON_DELIVERY = "sender non-delivery notification"
DELAY = "sender delay notification"
SUCCESS = "sender delivery status notification"
PROBED = "sender delivery status notification (probe)"  # in the log it is as SUCCESS
POSTMASTER_NON_DELIVERY = "postmaster non-delivery notification"
POSTMASTER_DELAY = "postmaster delay notification"
POSTMASTER_NOTICE = "postmaster notice"


class Report(Message):
    """A message like any other once it is stored; `kind` is what the log calls it."""

    __slots__ = ("kind",)

    def __init__(
        self, id: bytes, envelope: Envelope, content: bytes, arrived_at_ns: int, kind: str
    ) -> None:
        super().__init__(id, envelope, content, arrived_at_ns)
        self.kind = kind
