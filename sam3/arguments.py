"""What the commands share in reading their arguments."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, NoReturn

from sam3.errors import UserError


class Subcommand(NamedTuple):
    """A module is imported when its subcommand is called, so that ``sam3 convert`` needs no torch."""

    module: str
    summary: str
    function: str = "main"


def pick_subcommand(name: str, known: Mapping[str, Subcommand]) -> Subcommand:
    """The subcommand of that name.

    Raises:
        UserError: there is none; the message names its neighbours.
    """
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"unknown subcommand {name!r}{hint}; known: {', '.join(known)}")
    return known[name]


def subcommand_usage(call: str, one: str, summary: str, known: Mapping[str, Subcommand], end: str = ".") -> str:
    """The help of a command that only picks a subcommand.

    ``call``: how it is called; ``one``: how one subcommand is; ``end``: of the last sentence.
    """
    lines = [f"  {name:<10}{subcommand.summary}" for name, subcommand in known.items()]
    last = f"{one} --help explains one of them{end}"
    return "\n".join([f"usage: {call}", "", summary, "", *lines, "", last])


class CommandParser(argparse.ArgumentParser):
    """An argument parser that is patient with people.

    Options are spelt with dashes or underscores (``--score-threshold``, ``--score_threshold``), never abbreviated; a
    mistyped one names its neighbours; a command called without any argument prints its help.
    """

    def __init__(self, subcommand: str, **settings) -> None:
        """``subcommand``: the name after ``sam3``; shown when called that way, else the script's name is."""
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        program = Path(sys.argv[0]).name
        called_as = f"sam3 {subcommand}" if program in ("sam3", "sam3.exe", "__main__.py") else program
        super().__init__(prog=called_as, allow_abbrev=False, **settings)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """As in the base class, after spelling the names of options as they were declared."""
        arguments = sys.argv[1:] if args is None else list(args)
        declared = {option.replace("_", "-"): option for option in self._option_string_actions}
        return super().parse_known_args([_spelt(argument, declared) for argument in arguments], namespace)

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        """As in the base class; without arguments the help is printed and the command ends with exit code 0."""
        arguments = sys.argv[1:] if args is None else list(args)
        if not arguments:
            self.print_help()
            self.exit(0)
        return super().parse_args(arguments, namespace)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, one paragraph, and what was probably meant."""
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown and unknown[1].startswith("-"):
            near = get_close_matches(unknown[1].split("=")[0], list(self._option_string_actions))
            message = f"unknown option {unknown[1]}" + (f"; did you mean {' or '.join(near)}?" if near else "")
        elif unknown:
            message = f'unexpected argument {unknown[1]!r}; a value of several words needs quotes, like "red car"'
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _spelt(argument: str, declared: Mapping[str, str]) -> str:
    name, equals, value = argument.partition("=")
    return declared.get(name.replace("_", "-"), name) + equals + value if name.startswith("--") else argument
