"""`fastmta install-commands`: the names under which scripts look for Postfix's commands."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

import click

from .talk import fail

NAMES = ("sendmail", "mailq", "newaliases", "postqueue", "postsuper", "postcat", "qshape")
EXIT_PARTLY = 1  # something of others is in the way
EXIT_NOT_MADE = 73  # EX_CANTCREAT: there is no such directory, or it cannot be written
_KEPT = ".before-fastmta"  # behind the name of what --force put aside


@click.command("install-commands")
@click.option(
    "--directory",
    default="/usr/local/sbin",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where the links go.",
)
@click.option("--force", is_flag=True, help="Put others' files aside, as NAME.before-fastmta.")
@click.option("--remove", is_flag=True, help="Take our links away, and put back what was aside.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.argument("names", nargs=-1, metavar="[NAME ...]", type=click.Choice(NAMES))
def install_commands(
    directory: str, force: bool, remove: bool, dry_run: bool, names: tuple[str, ...]
) -> None:
    """Put sendmail, mailq and the like into a directory, as links.

    Each NAME (without any: sendmail, mailq, newaliases, postqueue, postsuper, postcat, qshape)
    becomes a link to fastmta-NAME, which is installed with fastmta. What belongs to others stays
    where it is, unless --force is given.

    On Debian, where /usr/sbin/sendmail belongs to a package, move that aside first, so that its
    upgrades do not bring it back:

    \b
    dpkg-divert --local --rename --add /usr/sbin/sendmail
    fastmta install-commands --directory /usr/sbin sendmail

    Exit status: 0 done; 1 a file of others is in the way, or a command is missing; 2 wrong usage;
    73 there is no such directory, or it cannot be written.
    """
    if force and remove:
        raise click.UsageError("--force puts aside, --remove puts back: give one of them")
    if not os.path.isdir(directory):
        fail(f"{directory}: there is no such directory: make it first", EXIT_NOT_MADE)
    does: Callable[[str, bool, bool], bool] = _remove if remove else _install
    try:
        done = [does(os.path.join(directory, one), force, dry_run) for one in names or NAMES]
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}", EXIT_NOT_MADE)
    sys.exit(0 if all(done) else EXIT_PARTLY)


def _install(path: str, force: bool, is_dry: bool) -> bool:
    """Make one link; whether it is there afterwards. Raises OSError."""
    script = _script(os.path.basename(path))
    if script is None:
        click.echo(f"fastmta: fastmta-{os.path.basename(path)} is not installed", err=True)
        return False
    if os.path.lexists(path) and not _is_ours(path):
        if not force or os.path.isdir(path):
            click.echo(f"{path}: is not ours and stays; --force puts it aside", err=True)
            return False
        if os.path.lexists(path + _KEPT):
            click.echo(f"{path}{_KEPT}: is in the way, from an earlier time", err=True)
            return False
        click.echo(f"{path}: put aside as {os.path.basename(path)}{_KEPT}")
        if not is_dry:
            os.rename(path, path + _KEPT)
    click.echo(f"{path} -> {script}")
    if not is_dry:
        unfinished = f"{path}.{os.getpid()}.new"  # in place as a whole: there is no time without
        os.symlink(script, unfinished)
        os.rename(unfinished, path)
    return True


def _remove(path: str, force: bool, is_dry: bool) -> bool:
    """Take one link away; True, also when there was none. Raises OSError."""
    if os.path.lexists(path):
        if not _is_ours(path):
            click.echo(f"{path}: is not ours and stays", err=True)
            return True
        click.echo(f"{path}: removed")
        if not is_dry:
            os.unlink(path)
    if os.path.lexists(path + _KEPT):
        click.echo(f"{path}: put back")
        if not is_dry:
            os.rename(path + _KEPT, path)
    return True


def _script(name: str) -> str | None:
    """The script that is installed with us, beside the one that runs or beside our Python."""
    beside = (os.path.dirname(os.path.abspath(sys.argv[0])), os.path.dirname(sys.executable))
    return shutil.which(f"fastmta-{name}", path=os.pathsep.join(beside)) or shutil.which(
        f"fastmta-{name}"
    )


def _is_ours(path: str) -> bool:
    """Whether it is a link to one of our scripts, here or where an earlier fastmta was."""
    if not os.path.islink(path):
        return False
    return os.path.basename(os.readlink(path)) == f"fastmta-{os.path.basename(path)}"
