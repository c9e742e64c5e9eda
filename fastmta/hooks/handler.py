"""What one handler object has: its hooks, its AUTH mechanisms, and how each is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from aiosmtpd.handlers import Mailbox, Message, Proxy

# Every hook that aiosmtpd 1.4.6 calls.
HOOKS = frozenset(
    (
        *("EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT"),
        *("AUTH", "STARTTLS", "PROXY", "exception"),
    )
)
_EHLO_OLD, _EHLO_NEW = 4, 5  # how many parameters handle_EHLO has, self left out


class Hook(NamedTuple):
    """A function of the handler."""

    name: str
    call: Callable[..., Any]
    is_blocking: bool  # to be called on a thread of its own; its result may still be awaitable


class Handler:
    """A handler object, looked over once: hooks by the word behind `handle_`.

    Raises ValueError for a handle_EHLO whose form nobody knows.
    """

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.hooks: dict[str, Hook] = {}
        self.unknown: list[str] = []  # names of methods that look like hooks and are not called
        for name in dir(instance):
            if not name.startswith("handle_"):
                continue
            word = name.removeprefix("handle_")
            if word in HOOKS:
                self.hooks[word] = _hook(name, getattr(instance, name), instance)
            elif word != "message":  # aiosmtpd's own Message calls that one
                self.unknown.append(name)
        self.process_message: Hook | None = None
        if "DATA" not in self.hooks and hasattr(instance, "process_message"):
            legacy = instance.process_message
            self.process_message = _hook("process_message", legacy, instance)
        self.has_old_ehlo = self._has_old_ehlo()
        self.mechanisms = self._find_mechanisms()

    def _has_old_ehlo(self) -> bool:
        hook = self.hooks.get("EHLO")
        if hook is None:
            return False
        count = len(inspect.signature(hook.call).parameters)
        if count not in (_EHLO_OLD, _EHLO_NEW):
            raise ValueError(f"handle_EHLO takes {count} arguments, not 4 (old form) or 5")
        return count == _EHLO_OLD

    def _find_mechanisms(self) -> dict[str, Hook]:
        """The mechanisms that the handler's `auth_` methods implement, by name."""
        found = {}
        for name in dir(self.instance):
            if not name.startswith("auth_") or not callable(getattr(self.instance, name)):
                continue
            method = getattr(self.instance, name)
            word = name.removeprefix("auth_").replace("__", "-")
            mechanism = str(getattr(method, "__auth_mechanism_name__", word)).upper()
            found[mechanism] = _hook(name, method, self.instance)
        return found


def _hook(name: str, function: Callable[..., Any], instance: Any) -> Hook:
    if not inspect.iscoroutinefunction(function):
        return Hook(name, function, True)
    if _is_blocking_stock(function, instance):
        return Hook(name, _driven(function), True)
    return Hook(name, function, False)


def _driven(function: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function that never waits, as a plain one."""

    def drive(*arguments: Any) -> Any:
        coroutine = function(*arguments)
        try:
            coroutine.send(None)
        except StopIteration as ended:
            return ended.value
        finally:
            coroutine.close()
        raise RuntimeError("it waits for an event loop")

    return drive


def _is_blocking_stock(function: Callable[..., Any], instance: Any) -> bool:
    """Whether this is aiosmtpd's own handle_DATA that blocks and runs nobody else's code."""
    method = getattr(function, "__func__", None)
    if method is Proxy.handle_DATA:
        return _method(instance, "_deliver") is Proxy._deliver
    return (
        method is Message.handle_DATA
        and _method(instance, "handle_message") is Mailbox.handle_message
        and _method(instance, "prepare_message") is Mailbox.prepare_message
    )


def _method(instance: Any, name: str) -> Any:
    return getattr(getattr(instance, name), "__func__", None)
