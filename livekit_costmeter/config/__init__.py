"""
From YAML to settings: find the file, read it, validate it, and say exactly what is wrong with it.

Invariant: `load` returns settings whose every path is absolute and whose sinks have names, or raises `ConfigError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livekit_costmeter.config.document import ConfigError, Document, read_document
from livekit_costmeter.config.schema import Settings

CONFIG_VARIABLE = "COSTMETER_CONFIG"
SECRET_VARIABLE = "COSTMETER_SECRET"  # noqa: S105 - a variable's name
DEFAULT_NAME = "costmeter.yaml"


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """One entry of `sinks`: its name (by default its type) and the options that its class validates."""

    name: str
    type: str
    options: Mapping[str, Any] = field(repr=False)
    position: int


@dataclass(frozen=True, slots=True)
class Config:
    """Validated settings, and where they came from. `document` is None for the built-in configuration."""

    settings: Settings
    directory: Path
    document: Document | None
    sinks: tuple[SinkSettings, ...]

    @property
    def digest(self) -> str:
        """Name these settings: the digest of the file, or `built-in`."""
        return self.document.digest if self.document else "built-in"

    @property
    def origin(self) -> str:
        """Say where these settings come from, for people."""
        return str(self.document.path) if self.document else f"built-in settings (no {DEFAULT_NAME} here)"

    @property
    def spool_directory(self) -> Path:
        """Return the absolute spool directory."""
        return self.directory / self.settings.spool.dir

    def error(self, location: tuple[str | int, ...], message: str) -> ConfigError:
        """Return an error at a key path."""
        return self.document.error(location, message) if self.document else ConfigError(f"built-in: {message}")


def find(explicit: str | os.PathLike[str] | None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the file to read: the argument, `$COSTMETER_CONFIG`, `./costmeter.yaml`, or None for built-in settings.

    Raises:
        ConfigError: The argument is empty, as from a script's unset variable.
    """
    if explicit == "":
        raise ConfigError("the configuration file was given as an empty text")
    named = explicit or (os.environ if environ is None else environ).get(CONFIG_VARIABLE)
    if named:
        return Path(named).absolute()
    default = Path.cwd() / DEFAULT_NAME
    return default if default.exists() else None


def load(explicit: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read and validate the configuration.

    Raises:
        ConfigError: The first mistake, with file, line, key path and what is allowed.
    """
    # Not a default value, which `help()` would print.
    environ = os.environ if environ is None else environ
    path = find(explicit, environ)
    document = None if path is None else read_document(path, environ)
    if document is None:
        settings = Settings()
    else:
        if not isinstance(document.data, dict):
            raise document.error((), "expected a mapping of keys")
        settings = document.validate(Settings)
    directory = path.parent if path else Path.cwd()
    config = Config(settings, directory, document, ())
    _check_fingerprints(config, environ)
    return Config(settings, directory, document, _sinks(config))


def _check_fingerprints(config: Config, environ: Mapping[str, str]) -> None:
    for position, key in enumerate(config.settings.keys):
        if key.fingerprint is not None and not environ.get(SECRET_VARIABLE):
            raise config.error(
                ("keys", position, "fingerprint"),
                f"fingerprints need {SECRET_VARIABLE} to be set (the same on every host)",
            )


def _sinks(config: Config) -> tuple[SinkSettings, ...]:
    sinks: dict[str, SinkSettings] = {}
    for position, entry in enumerate(config.settings.sinks):
        options = dict(entry)
        kind = options.pop("type", None)
        if not isinstance(kind, str):
            raise config.error(("sinks", position), "missing type (such as sqlite, jsonl, stdout)")
        name = options.pop("name", kind)
        if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
            raise config.error(("sinks", position, "name"), "expected letters, digits, - and _")
        if name in sinks:
            raise config.error(("sinks", position), f"a second sink named {name}; give one of them another name")
        if isinstance(options.get("path"), str):
            options["path"] = str(config.directory / options["path"])
        sinks[name] = SinkSettings(name, kind, options, position)
    return tuple(sinks.values())


__all__ = ["Config", "ConfigError", "SinkSettings", "find", "load"]
