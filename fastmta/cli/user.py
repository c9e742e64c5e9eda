"""`fastmta user`: add, remove, list and check the users who may log in."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from .option import DEFAULT_FILE, EXIT_CONFIG, Command, load_config

DEFAULT_USERS = "/etc/fastmta/users"  # where neither `--file` nor a configuration says another
LINE_OCTETS_MAX = 4096  # of a password on standard input: longer than one may be
EXIT_FAILED = 1  # there already, not there, or the wrong password
EXIT_USAGE = 2
EXIT_TEMPORARY = 75  # EX_TEMPFAIL: the file cannot be read or written

_with_stdin = click.option("--stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def user() -> None:
    """Add, remove, list and check the users of a users file. Also while the server runs.

    Exit status: 0 done; 1 not there, there already, or the wrong password; 2 wrong usage; 75 the
    file cannot be read or written; 78 the configuration is wrong.
    """


def _with_file(command: Command) -> Command:
    """The users file as `path`: `--file`, or `auth.accounts_file` of a configuration."""

    @functools.wraps(command)
    def found(*, file: str | None, config: str | None, **others: Any) -> Any:  # as click gives them
        return command(path=file or _configured(config), **others)

    found = click.option(
        "-c",
        "--config",
        metavar="FILE",
        help=f"Configuration whose auth.accounts_file is meant; {DEFAULT_FILE} if it exists.",
    )(found)
    return click.option(
        "--file", metavar="FILE", help=f"Users file; else that of -c, else {DEFAULT_USERS}."
    )(found)


def _configured(config: str | None) -> str:
    """The users file of the server's configuration, which has to be a good one."""
    path = load_config(config, (), EXIT_CONFIG).auth.accounts_file
    if config is not None and not path:
        raise click.UsageError(f"{config}: auth.accounts_file is not set; set it, or give --file")
    return path or DEFAULT_USERS


def _named(command: Command) -> Command:
    """`NAME` as `name`, the users file as `path`."""
    return click.argument("name")(_with_file(command))


@user.command()
@_named
@_with_stdin
@click.option("--replace", is_flag=True, help="Give a user that is there another password.")
@click.option(
    "--scram", is_flag=True, help="For SCRAM-SHA-256, too. Cheaper to guess if the file is stolen."
)
def add(name: str, path: str, stdin: bool, replace: bool, scram: bool) -> None:
    """Add a user; the file is made if need be."""
    with _told():
        from fastmta.daemon.users import add_user

        password = _password(stdin, must_confirm=True)
        is_new = add_user(path, name, password, may_replace=replace, with_scram=scram)
        click.echo(f"{path}: {name} {'added' if is_new else 'changed'}")


@user.command()
@_named
def remove(name: str, path: str) -> None:
    """Remove a user. Sessions that are logged in stay so."""
    with _told():
        from fastmta.daemon.users import remove_user

        remove_user(path, name)
        click.echo(f"{path}: {name} removed")


@user.command("list")
@_with_file
def list_(path: str) -> None:
    """List the users, and what is wrong with the file."""
    with _told():
        from fastmta.daemon.users import list_users

        users, problems = list_users(path)
        for name, has_scram in users:
            click.echo(f"{name}\tscram" if has_scram else name)
        for problem in problems:
            click.echo(problem, err=True)
        sys.exit(EXIT_FAILED if problems else 0)


@user.command()
@_named
@_with_stdin
def check(name: str, path: str, stdin: bool) -> None:
    """Check a user's password."""
    with _told():
        from fastmta.daemon.users import check_user

        if not check_user(path, name, _password(stdin, must_confirm=False)):
            click.echo("wrong password", err=True)
            sys.exit(EXIT_FAILED)
        click.echo("right")


def _password(is_stdin: bool, *, must_confirm: bool) -> str:
    """The password: asked for without echo, or the first line of standard input."""
    if not is_stdin:
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=must_confirm))
    line = sys.stdin.buffer.readline(LINE_OCTETS_MAX)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise click.UsageError("the password is not UTF-8") from None


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong is one line of standard error and an exit status."""
    from fastmta.daemon.users import UserProblem

    try:
        yield
    except UserProblem as problem:
        click.echo(str(problem), err=True)
        sys.exit(EXIT_USAGE if problem.is_usage else EXIT_FAILED)
    except OSError as error:
        click.echo(f"{error.filename or 'users file'}: {error.strerror or error}", err=True)
        sys.exit(EXIT_TEMPORARY)
