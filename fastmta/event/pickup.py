"""Facts about mail of local programs."""

import msgspec


class MessagePickedUp(msgspec.Struct, frozen=True, gc=False):
    """A file of the drop directory is a message now, durably: `uid=0 from=<root>`."""

    queue_id: bytes
    user_id: int  # owner of the file
    sender: bytes  # as the program gave it
