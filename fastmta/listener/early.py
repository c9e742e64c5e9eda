"""Whether a client speaks before it was greeted (RFC 5321 4.3.1): whoever does is not listening."""

import asyncio
import fcntl
import struct
import termios

_COUNT = struct.Struct("i")


def has_spoken(transport: asyncio.Transport) -> bool:
    """Whether octets of the client are waiting to be read."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return False
    try:
        waiting = fcntl.ioctl(socket.fileno(), termios.FIONREAD, bytes(_COUNT.size))
    except OSError:  # it is gone: reading will tell
        return False
    return bool(_COUNT.unpack(waiting)[0])
