from mmap import mmap

ID: int
SENDER: int
TENANT: int
RECIPIENT: int
DOMAIN: int
HOP: int
CODE: int

class Suspended:
    def __init__(self, suspensions: list[tuple[bytes, bytes, bytes]]) -> None: ...

class Sieve:
    def __init__(
        self, patterns: list[tuple[int, list[bytes]]], statuses: int, has_recipients: bool
    ) -> None: ...
    def situate(self, suspended: Suspended, queues: int) -> None: ...
    def bound(
        self, arrived_above: int, arrived_below: int, size_above: int, size_below: int
    ) -> None: ...

class Rows:
    def __init__(self, data: bytes | bytearray | mmap) -> None: ...
    def refresh(self) -> None: ...
    def find(
        self, sieve: Sieve, after: bytes, limit: int, rows_max: int, is_backward: bool = False
    ) -> tuple[list[bytes], list[bool], bytes, bool]: ...
    def count(
        self,
        sieve: Sieve,
        after: bytes,
        arrived_by: list[int],
        skipped: bytes,
        limit: int,
        rows_max: int,
    ) -> tuple[
        int,
        int,
        list[int],
        list[int],
        list[int],
        list[int],
        list[bytes],
        list[bool],
        bytes,
        bool,
    ]: ...
