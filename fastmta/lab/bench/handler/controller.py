"""aiosmtpd's own server with the handler, as a process: its Controller on uvloop.

    python -m fastmta.lab.bench.handler.controller PORT data|all

Serves until standard input ends.
"""

import sys
from collections.abc import Sequence

import uvloop
from aiosmtpd.controller import Controller

from ...loopback import HOST
from .counting import HANDLERS


def main(arguments: Sequence[str]) -> int:
    """Serve; 0 at the end."""
    port, name = int(arguments[0]), arguments[1]
    controller = Controller(
        HANDLERS[name](), hostname=HOST, port=port, loop=uvloop.new_event_loop()
    )
    controller.start()
    sys.stdin.read()
    controller.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
