"""The command line: arguments in, one call of daemon, lab or config, an exit status out.

Purpose   `fastmta run | check | demo | sink | bench | simulate | status | reload | drain |
          healthcheck | queue | dest | explain | trace | log | top | spool | user | completion |
          manual | install-commands | version`.
In        Arguments and the environment.
Out       Exit status: 0 good, 1 failed or problems found, 2 wrong usage, 78 bad configuration.
Holds     Nothing.
Never     Mail, sockets, decisions; a heavy import before the command that needs it is known.
Fails     Each problem of a configuration on its own line of standard error.
Why       Commands are thin, so that everything they do can be called and tested without them.
"""

from .command import main

__all__ = ["main"]
