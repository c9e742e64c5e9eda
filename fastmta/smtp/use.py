"""What a client uses up, and what is counted per client over time."""

import enum


class Use(enum.IntEnum):
    """Each is limited by itself; the numbers are columns of the table that counts them."""

    CONNECTION = 0  # connections begun
    MESSAGE = 1  # MAIL commands
    RECIPIENT = 2  # RCPT commands
    TLS = 3  # handshakes begun
    AUTH = 4  # AUTH commands
    AUTH_FAILURE = 5  # of these, refused
