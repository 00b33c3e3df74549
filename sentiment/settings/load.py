"""Reading settings from the command line, the environment and a YAML file; messages about mistakes.

The first of these that gives a setting wins: the command line, the environment (`SENTIMENT_*`), the
YAML file (`--config`), the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sentiment.errors import ConfigError
from sentiment.settings.flags import FlagParser, Groups, add_settings, new_parser


class JobConfig(BaseSettings):
    """The base of all settings: where they are read from, and messages about mistakes."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="SENTIMENT_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )
    command: ClassVar[str]
    usage: ClassVar[str] = "[options]"
    groups: ClassVar[Groups] = {}
    positional: ClassVar[tuple[str, ...]] = ()

    config: Path | None = Field(None, description="YAML file with any of these settings.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Python callers say what they mean: the constructor reads no environment, `load` does."""
        return (init_settings,)

    @classmethod
    def parser(cls) -> FlagParser:
        """A parser with the usage line and description of the command, and no settings yet."""
        return new_parser(cls.command, cls.usage, cls.__doc__ or "")

    @classmethod
    def load(cls, arguments: Sequence[str] = ()) -> Self:
        """Merge command-line arguments, environment and YAML into validated settings.

        Args:
            arguments: Command-line words after the command, as `["reviews/", "--output", "o"]`.

        Raises:
            ConfigError: Unknown or malformed setting; the message names the flag, value and rule.
            SystemExit: Code 0 after `--help`.
        """
        try:
            cli = add_settings(cls.parser(), cls, cls.groups)(args=list(arguments))()
            environment = EnvSettingsSource(cls)()
        except SettingsError as error:
            raise ConfigError(str(error)) from error
        path = cli.get("config", environment.get("config"))
        values = {**cls._read_yaml(path), **environment, **cli}
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(cls._explain(error)) from error

    @classmethod
    def _read_yaml(cls, path: str | Path | None) -> dict[str, Any]:
        if path is None:
            return {}
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"--config {path}: cannot be read as YAML: {reason}") from error
        if not isinstance(values, dict | None):
            raise ConfigError(f"--config {path}: expected settings as `name: value` lines")
        return {str(name).replace("-", "_"): value for name, value in (values or {}).items()}

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        """One line for all mistakes, in the words of the command line."""
        lines = []
        for item in error.errors():
            path = [str(part).replace("_", "-") for part in item["loc"]]
            flag = "--" + ".".join(path) if path else "settings"
            if path[:1] and path[0] in cls.positional:
                flag = path[0].removesuffix("s").upper()
            if item["type"] == "missing":
                lines.append(f"{flag}: is required")
            elif item["type"] == "extra_forbidden":
                lines.append(f"{flag}: no such setting; see `sentiment {cls.command} --help`")
            elif item["type"] == "value_error":
                lines.append(f"{item['msg'].removeprefix('Value error, ')}")
            else:
                lines.append(f"{flag}: {item['msg'].lower()}, got {item['input']!r}")
        return "; ".join(lines)

    def resolved(self) -> dict[str, Any]:
        """All settings as plain JSON values, as saved beside the output."""
        return self.model_dump(mode="json")


def no_half(value: Any) -> Any:
    """Refuse float16 with a reason, before pydantic says that it is no choice."""
    if value in ("fp16", "float16", "half"):
        raise ValueError(f"--precision {value}: T5's activations overflow it; use bf16 or fp32")
    return value
