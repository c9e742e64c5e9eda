"""`python -m fastmta.postfix NAME ...`: the commands without their entry points."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as mypy knows it: importing `typing` takes as long as all of ours
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Be the command that the first argument names."""
    name = sys.argv[1].removeprefix("fastmta-") if len(sys.argv) > 1 else ""
    sys.argv[:2] = [name]
    if name == "sendmail":
        from .sendmail import main as command
    elif name == "mailq":
        from .postqueue import mailq as command
    elif name == "newaliases":
        from .newaliases import main as command
    elif name == "postqueue":
        from .postqueue import main as command
    elif name == "postsuper":
        from .postsuper import main as command
    elif name == "postcat":
        from .postcat import main as command
    elif name == "qshape":
        from .qshape import main as command
    else:
        sys.stderr.write(
            "usage: python -m fastmta.postfix"
            " sendmail|mailq|newaliases|postqueue|postsuper|postcat|qshape ...\n"
        )
        sys.exit(64)
    command()


if __name__ == "__main__":
    main()
