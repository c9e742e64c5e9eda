"""What the schema's files share: how a key is described, and units."""

from typing import NamedTuple

from .kind import Kind

KIB = 1 << 10
MIB = 1 << 20
DAY_S = 86400.0


class Key(NamedTuple):
    """What the schema knows of a key beside its Python type and default."""

    kind: Kind
    doc: str
