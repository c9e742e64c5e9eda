"""Every named exception to the checks of this directory: (check, path) to its reason.

A line here needs a reason that a stranger accepts. `test_exceptions.py` fails for a line that is no
longer needed.
"""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("pure room", "fastmta/smtp/twin.py"): "reads FASTMTA_PURE once, to choose the twin",
}
