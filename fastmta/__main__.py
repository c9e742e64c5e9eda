"""`python -m fastmta` is the command `fastmta`."""

from fastmta.cli import main

if __name__ == "__main__":
    main(prog_name="fastmta")
