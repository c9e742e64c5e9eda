"""From the name of a handler to the handler: what goes wrong is said in words of the operator."""

from __future__ import annotations

import inspect
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn


class _Parser(ArgumentParser):
    """What `from_cli` of a handler class complains to."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def find(target: str, directories: Sequence[str] = ()) -> Any:
    """The object that `module:name` or `module:name.inner` names.

    `directories` are put in front of where modules are looked for. Raises ValueError, which names
    the target and says what is wrong with it.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ValueError(f'"{target}": write it as "module:Class"')
    for directory in reversed(directories):
        if directory not in sys.path:
            sys.path.insert(0, directory)
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(f'"{target}": cannot import {module_name}: {told(error)}') from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f'"{target}": {module_name} has no "{name}"') from None
    return found


def make(target: str, found: Any, arguments: Sequence[Any] = ()) -> Any:
    """The handler: `found` itself, or what it makes of `arguments` if it is a class or a function.

    A class with `from_cli` is made by it, as aiosmtpd's command line does. Raises ValueError as
    `find` does.
    """
    if not inspect.isclass(found) and not inspect.isroutine(found):
        if arguments:
            raise ValueError(f'"{target}" is an object already: it takes no arguments')
        return found
    try:
        if hasattr(found, "from_cli"):
            made = found.from_cli(_Parser(prog=target), *arguments)
        else:
            made = found(*arguments)
    except (Exception, SystemExit) as error:
        raise ValueError(f'"{target}": cannot make it: {told(error)}') from error
    if inspect.isawaitable(made):
        if inspect.iscoroutine(made):
            made.close()
        raise ValueError(f'"{target}" is a coroutine function: a handler is made without await')
    if made is None:
        raise ValueError(f'"{target}" gives no handler: it returned None')
    return made


def told(error: BaseException) -> str:
    """An exception in one line for the log: its type and how its text begins, printable."""
    text = " ".join(str(error).split())
    text = "".join(each if each.isprintable() else "?" for each in text[:200])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def placed(error: BaseException) -> str:
    """The same without its text, which may hold a password: its type and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
