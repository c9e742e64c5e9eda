"""What can go wrong with the spool, by blame."""


class SpoolError(Exception):
    """The spool cannot take responsibility; nothing about the message was made durable."""


class SpoolFull(SpoolError):
    """There is no room: for one record in any segment, or for the next segment on the disk."""


class SpoolFormat(SpoolError):
    """What is on the disk was written by a newer release, or is not a spool."""
