"""Facts about mail that waits for an operator."""

import msgspec


class RecipientHeld(msgspec.Struct, frozen=True, gc=False):
    """The route of a recipient says so: `hold: <recipient>: text; from=<..>`."""

    queue_id: bytes
    reverse_path: bytes
    forward_path: bytes
    text: str
    category: str = ""  # as in `RecipientTried`
