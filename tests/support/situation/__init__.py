"""Situations of a mail server, as data: what a client says and how the next server behaves.

`table.load` reads tests/vectors/situations.toml; `play` brings a server into all of them at once;
`compare.shown` makes log lines and replies comparable. `tests.interop.record_situations` notes what
Debian's Postfix prints; `tests/interop/test_situations.py` holds ours against it.
"""
