"""Octets from a client to commands and contents: the compiled Framing or its twin."""

from .framing_py import Framing

__all__ = ["Framing"]
