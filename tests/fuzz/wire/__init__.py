"""Fuzz of all that reads a peer's octets: framing, values, logins, whole sessions."""
