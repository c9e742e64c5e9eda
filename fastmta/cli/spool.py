"""`fastmta spool`: look at, check, mend and copy what is on the disk."""

import json
import sys
from collections.abc import Callable
from functools import partial

import click

from .option import EXIT_CONFIG, Command, config_options, load_config
from .output import put, with_output

_complain = partial(click.echo, err=True)


def _shard_options(command: Command) -> Command:
    """`--shard` as `shard`, and those that name the configuration."""
    option = click.option(
        "--shard", type=click.IntRange(0, 4095), metavar="N", help="Only this shard."
    )
    return config_options(option(command))


def _sayer(output: str) -> Callable[[str], None]:
    """What prints; of a document with `shards` one line for each of them where that is wanted."""

    def say_shards(text: str) -> None:
        document = json.loads(text)
        put(output, document, document["shards"])

    return say_shards if output == "jsonl" else click.echo


@click.group()
def spool() -> None:
    """Look at, check, mend and copy the spool on the disk."""


@spool.command()
@_shard_options
@with_output
def info(path: str | None, overrides: tuple[str, ...], shard: int | None, output: str) -> None:
    """Tell what is there: segments, contents, index. Also while the server runs."""
    config = load_config(path, overrides, EXIT_CONFIG)
    from fastmta.daemon import upkeep

    sys.exit(upkeep.info(config, shard, output != "text", _sayer(output), _complain))


@spool.command()
@_shard_options
@with_output
@click.option("--index", is_flag=True, help="The index, too, of shards not in use.")
def verify(
    path: str | None, overrides: tuple[str, ...], shard: int | None, output: str, index: bool
) -> None:
    """Read every record and large content, and name what is damaged. Also while the server runs.

    Exit status: 0 sound, 1 damaged, 75 something cannot be read.
    """
    config = load_config(path, overrides, EXIT_CONFIG)
    from fastmta.daemon import upkeep

    is_json, say = output != "text", _sayer(output)
    sys.exit(upkeep.verify(config, shard, is_json, say, _complain, with_index=index))


@spool.command("rebuild-index")
@_shard_options
def rebuild_index(path: str | None, overrides: tuple[str, ...], shard: int | None) -> None:
    """Make the index anew from the logs. The server must be stopped.

    The old index stays until the new one is whole. Exit status: 0 done, 75 not done.
    """
    config = load_config(path, overrides, EXIT_CONFIG)
    from fastmta.daemon import upkeep

    sys.exit(upkeep.rebuild(config, shard, click.echo, _complain))


@spool.command()
@_shard_options
@click.argument("directory")
def backup(path: str | None, overrides: tuple[str, ...], shard: int | None, directory: str) -> None:
    """Copy the spool to DIRECTORY, which must not exist, and verify it. Also while the server runs.

    The copy has every message that was accepted before the start and not finished before the end.
    Its index is made at its first start.
    Exit status: 0 done, 1 done but damaged as the spool itself is, 75 not done.
    """
    config = load_config(path, overrides, EXIT_CONFIG)
    from fastmta.daemon import upkeep

    sys.exit(upkeep.backup(config, shard, directory, click.echo, _complain))
