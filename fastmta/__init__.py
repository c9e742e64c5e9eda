"""fastmta: a mail transfer agent. docs/architecture.md shows the rooms and the way of one message."""

__version__ = "0.1.0"
