"""Octets from a client to commands and contents: the compiled Framing or its twin."""

from typing import TYPE_CHECKING

from .twin import IS_PURE

if TYPE_CHECKING or not IS_PURE:
    from ._framing import Framing  # an ImportError here is a broken build: let it stop us
else:
    from .framing_py import Framing

__all__ = ["Framing"]
