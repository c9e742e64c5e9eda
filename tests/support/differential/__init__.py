"""Generated SMTP sessions, played to us and to another server at once, and compared reply by reply.

`grammar.session(seed)` is a session as data; `play.play` sends it to two servers in lockstep and
says where they differ; `table` knows which differences have a name in tests/interop/
divergences.toml; `servers` starts the three servers and reads what became a message.
"""
