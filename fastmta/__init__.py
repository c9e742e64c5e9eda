"""fastmta, a mail transfer agent. docs/architecture.md shows its rooms and how mail flows."""

__version__ = "0.1.0"
