"""A token hook for the whole server: `tok-NAME` is the token of NAME."""

from __future__ import annotations


async def check_token(login: str, token: str, address: str) -> str | None:
    """Whose token it is; a claim to be somebody else is refused."""
    if token == "broken":
        raise RuntimeError(token)
    head, _, name = token.partition("tok-")
    is_good = not head and bool(name) and login in ("", f"{name}@example.com")
    return f"{name}@example.com" if is_good else None
