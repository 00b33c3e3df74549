"""Settings as flags of a command line: grouped under headings, named in the user's words."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence, Set
from difflib import get_close_matches
from importlib.metadata import version
from typing import Any, Final, NoReturn

import shtab
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource

from sentiment.errors import ConfigError

# Heading -> setting -> what its value is called in the help. None: a switch, or one of a few words
# that the help lists. Settings of a nested model are written `model.setting`.
Groups = Mapping[str, Mapping[str, str | None]]

# What values are called that are taken letter by letter.
_LITERAL_VALUES: Final = frozenset(
    {"PATH", "SOURCE", "OUTPUT", "PATTERN", "CHARACTER", "VALUE", "CONDITION"}
)

_HELP_WIDTH: Final = 80
_HELP_COLUMN: Final = 30


class FlagParser(argparse.ArgumentParser):
    """An argument parser that raises its complaints, with the nearest flag for a mistyped one."""

    def error(self, message: str) -> NoReturn:
        """Raise a complaint instead of leaving the process.

        Raises:
            ConfigError: Always.
        """
        unknown = re.findall(r"(?<!\S)--[\w.-]+", message.partition("unrecognized arguments: ")[2])
        known = [flag for action in self._actions for flag in action.option_strings]
        raise ConfigError(message + (suggestion(unknown[0], known) if unknown else ""))


def suggestion(word: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where a known word is near, else nothing."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def new_parser(command: str, usage: str, description: str) -> FlagParser:
    """A parser without settings.

    Args:
        command: Name of the command.
        usage: What follows the command in the usage line.
        description: Shown below the usage line.
    """
    parser = FlagParser(
        prog=f"sentiment {command}",
        usage=f"sentiment {command} {usage}".rstrip(),
        description=description,
        formatter_class=_help_formatter,
    )
    parser.add_argument("--version", action="version", version=f"sentiment {version('sentiment')}")
    return parser


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=_HELP_COLUMN, width=_HELP_WIDTH)


def add_settings(
    parser: argparse.ArgumentParser, settings: type[BaseSettings], groups: Groups
) -> CliSettingsSource[argparse.ArgumentParser]:
    """Add the settings of a command to a parser, each under its heading.

    Args:
        parser: A parser, possibly one of a subcommand.
        settings: The settings of the command.
        groups: Headings in the order of the help, with every setting once.

    Returns:
        The source of settings that reads what this parser parses.
    """
    # pydantic-settings adds settings in the order of the fields; the help has an order of its own.
    arguments: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {}

    def collect(_: object, *flags: str, **options: Any) -> None:
        name = options.get("dest", flags[0])  # a positional argument is its own name
        arguments[name] = flags, options

    source = _LiteralSource(
        settings,
        root_parser=parser,
        add_argument_method=collect,
        add_argument_group_method=lambda parser, **_: parser,
    )
    for title, values in groups.items():
        nested = settings.model_fields.get(next(iter(values)).partition(".")[0])
        description = nested.description if nested and "." in next(iter(values)) else None
        heading = parser.add_argument_group(title, description)
        for name, value in values.items():
            flags, options = arguments.pop(name)
            _add_setting(heading, _field(settings, name), value, *flags, **options)
    for flags, options in arguments.values():  # a nested model as a whole: YAML gives those
        parser.add_argument(*flags, **{**options, "help": argparse.SUPPRESS})
    source.literal = {
        name
        for values in groups.values()
        for name, value in values.items()
        if value in _LITERAL_VALUES
    }
    return source


class _LiteralSource(CliSettingsSource[argparse.ArgumentParser]):
    """Settings from flags, of which some are taken letter by letter.

    pydantic-settings splits words at commas, and takes brackets, braces and quotes for JSON. A path
    may hold any of them.

    Attributes:
        literal: Names of the settings that are not split.
    """

    literal: Set[str] = frozenset()

    def _merge_parsed_list(self, parsed_list: list[str], field_name: str) -> str:
        if field_name.replace("-", "_") not in self.literal:
            return super()._merge_parsed_list(parsed_list, field_name)
        merge_type, _ = self._get_merge_parsed_list_types(parsed_list, field_name)
        return json.dumps(parsed_list) if merge_type is list else parsed_list[0]


def _add_setting(
    heading: argparse._ArgumentGroup, field: FieldInfo, value: str | None, *flags: str, **given: Any
) -> None:
    """Add one setting with our words for its value and its help.

    Args:
        value: What its value is called; None for a switch, or for one of a few words.
        given: Options of `add_argument` as pydantic-settings chose them.
    """
    options = {**given, "help": _help(field)}
    if value is not None:
        options["metavar"] = value
    if options.get("action") is argparse.BooleanOptionalAction and not field.default:
        # `--no-…` is there to overrule a YAML file or the environment; the help does without it.
        negative = [f"--no-{flag.removeprefix('--')}" for flag in flags]
        no = {**options, "action": "store_false", "help": argparse.SUPPRESS}
        heading.add_argument(*negative, **no)
        options["action"] = "store_true"
    action = heading.add_argument(*flags, **options)
    if value in ("PATH", "SOURCE", "OUTPUT"):
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def completion_script(commands: Mapping[str, type[Any]], shell: str) -> str:
    """A script that completes commands, flags and words of a shell.

    Args:
        commands: Settings of each command, by its name.
        shell: `bash`, `zsh` or `tcsh`.
    """
    root = argparse.ArgumentParser(prog="sentiment")
    subparsers = root.add_subparsers()
    for name, settings in commands.items():
        parser = subparsers.add_parser(name, help=(settings.__doc__ or "").splitlines()[0])
        add_settings(parser, settings, settings.groups)
        for action in parser._actions:
            words = re.fullmatch(r"\{(.*)\}", str(action.metavar))
            if words:
                # Not while parsing: pydantic refuses a wrong word with a better message.
                action.choices = words[1].split(",")
    return str(shtab.complete(root, shell))


def _field(settings: type[BaseModel], name: str) -> FieldInfo:
    """The field of a setting; `architecture.heads` is a field of a nested model."""
    outer, _, inner = name.partition(".")
    field = settings.model_fields[outer]
    if not inner:
        return field
    [nested] = [kind for kind in _arguments(field.annotation) if issubclass(kind, BaseModel)]
    return _field(nested, inner)


def _arguments(annotation: Any) -> list[type]:
    return [kind for kind in getattr(annotation, "__args__", ()) if isinstance(kind, type)]


def _help(field: FieldInfo) -> str:
    """The description, with the default where it is a plain value."""
    text = (field.description or "").replace("%", "%%")
    if field.is_required():
        return f"{text} (required)"
    default = field.default
    if default is None or default is False or default in ([], {}, ""):
        return text
    if isinstance(default, dict):
        default = ",".join(f"{key}={value}" for key, value in default.items())
    return f"{text} [default: {'on' if default is True else default}]"
