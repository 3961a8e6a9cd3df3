"""
YAML files with positions, so that a mistake is reported with file, line and key path.

Invariant: reading either returns plain data or raises one `ConfigError` that names the place and what is allowed; it
quotes what stands in the file, never what an environment variable expanded to, nor what looks like a key.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from livekit_costmeter.config.passwords import mask_keys

if TYPE_CHECKING:
    import yaml

Location = tuple[str | int, ...]
_Model = TypeVar("_Model", bound=BaseModel)
_DEEPEST = 40
_LARGEST = 300_000
_EXPECTED = {
    "string_type": "expected text",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping of keys",
    "model_type": "expected a mapping of keys",
    "path_type": "expected a path",
}
_MERGE = "tag:yaml.org,2002:merge"
# What YAML reads as octal, hexadecimal, binary and base 60: 010 is 8 there, and 1:30 is 90.
_OTHER_BASE = re.compile(r"[-+]?0[0-9_xb]|.*:")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line for people."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its data, and the line of every key path."""

    path: Path
    data: Any = field(repr=False)
    lines: Mapping[Location, int]
    digest: str
    expanded: Mapping[Location, Sequence[str]] = field(repr=False)

    def expanded_at(self, at: Location) -> list[str]:
        """Return what environment variables expanded to below a key path; paths of files are no secret."""
        found = (texts for place, texts in self.expanded.items() if place[: len(at)] == at and place[-1] != "path")
        return [text for texts in found for text in texts]

    def error(self, location: Location, message: str) -> ConfigError:
        """Return an error at a key path, or at its nearest parent that stands in the file."""
        known = location
        while known and known not in self.lines:
            known = known[:-1]
        where = f"{self.path}:{self.lines.get(known, 1)}"
        key, message = _key_path(location), mask_keys(message)
        return ConfigError(f"{where}: {key}: {message}" if key else f"{where}: {message}")

    def validate(self, model: type[_Model], data: Any = None, at: Location = ()) -> _Model:
        """Validate the data (or a part of it at a location) against a schema.

        Raises:
            ConfigError: The first mistake, with its line and key path.
        """
        try:
            return model.model_validate(self.data if data is None else data)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            # A misspelt key is also a missing one; the misspelling is what helps.
            problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
            location = tuple(part for part in problem["loc"] if part != "__root__")
            raise self.error((*at, *location), _message(model, location, problem)) from None


def read_document(path: Path, environ: Mapping[str, str] | None = None) -> Document:
    """Read a YAML file; `${NAME}` and `${NAME:-default}` are expanded inside its texts.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, has a key twice, or names an unset variable.
    """
    import yaml  # late, because an agent without a file does not pay for it

    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:{_line_at(raw, error.start)}: not UTF-8 text") from None
    reader = _Reader(path, os.environ if environ is None else environ)
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            data = None if node is None else reader.build(loader, node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {mask_keys(str(error.problem))}") from None
    except yaml.YAMLError as error:
        line = _line_at(raw, len(text[: getattr(error, "position", 0)].encode()))
        raise ConfigError(f"{path}:{line}: not YAML: {mask_keys(str(error).splitlines()[0])}") from None
    except RecursionError:
        raise ConfigError(f"{path}:1: nested too deeply") from None
    return Document(
        path, {} if data is None else data, reader.lines, hashlib.sha256(raw).hexdigest()[:12], reader.expanded
    )


def _line_at(raw: bytes, offset: int) -> int:
    return raw.count(b"\n", 0, offset) + 1


class _Reader:
    """Builds plain data from YAML nodes and notes where each key stands."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self.lines: dict[Location, int] = {}
        self.expanded: dict[Location, list[str]] = {}

    def _refuse(self, node: Any, at: Location, message: str) -> ConfigError:
        where = f"{self._path}:{node.start_mark.line + 1}"
        return ConfigError(f"{where}: {_key_path(at)}: {message}" if at else f"{where}: {message}")

    def build(self, loader: yaml.SafeLoader, node: Any, at: Location) -> Any:
        # An alias may stand inside itself, or multiply what it stands for.
        if len(at) > _DEEPEST:
            raise self._refuse(node, at[:1], "nested too deeply")
        if len(self.lines) > _LARGEST:
            raise self._refuse(node, at[:1], f"more than {_LARGEST} values")
        self.lines.setdefault(at, node.start_mark.line + 1)
        if node.id == "mapping":
            return self._mapping(loader, node, at)
        if node.id == "sequence":
            return [self.build(loader, item, (*at, number)) for number, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:float":
            # The digits as written: no float touches money.
            return _decimal(node.value)
        if node.tag == "tag:yaml.org,2002:int" and _OTHER_BASE.match(node.value):
            raise self._refuse(node, at, "not a plain number (quote it if it is text)")
        value = self._scalar(loader, node, at)
        return self._expand(value, at) if isinstance(value, str) else value

    def _scalar(self, loader: yaml.SafeLoader, node: Any, at: Location) -> Any:
        try:
            return loader.construct_object(node)
        except (ValueError, AttributeError):  # what PyYAML lets through for `2026-13-45` and the like
            kind = node.tag.rpartition(":")[2]
            raise self._refuse(node, at, f"not a valid {kind} (quote it if it is text)") from None

    def _mapping(self, loader: yaml.SafeLoader, node: Any, at: Location) -> dict[Any, Any]:
        self._check_keys(node, at)
        loader.flatten_mapping(node)
        # What is merged in comes first and gives way. It stays away, for an alias brings this node here again.
        node.value = list({key_node.value: (key_node, value) for key_node, value in node.value}.values())
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            # As written: YAML takes `on` and `no` for truth values, and they are keys here.
            place = (*at, key_node.value)
            self.lines[place] = key_node.start_mark.line + 1
            result[key_node.value] = self.build(loader, value_node, place)
        return result

    def _check_keys(self, node: Any, at: Location) -> None:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise self._refuse(key_node, at, "a key must be plain text")
            if key_node.tag == _MERGE:
                merged = value_node.value if value_node.id == "sequence" else [value_node]
                for mapping in merged:
                    if mapping.id == "mapping":
                        self._check_keys(mapping, at)
            elif key_node.value in seen:
                raise self._refuse(key_node, (*at, key_node.value), "stands here twice")
            seen.add(key_node.value)

    def _expand(self, text: str, at: Location) -> str:
        def value_of(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            value = self._environ.get(name) or default
            if value is None:
                line = self.lines.get(at, 1)
                raise ConfigError(
                    f"{self._path}:{line}: {_key_path(at)}: environment variable {name} is not set "
                    f"(give a default with ${{{name}:-...}})"
                )
            if value != default:
                self.expanded.setdefault(at, []).append(value)
            return value

        return _VARIABLE.sub(value_of, text)


def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text.replace("_", ""))
    except ArithmeticError:
        return text  # .inf, .nan and sexagesimals: the schema refuses them where a number is wanted


def _key_path(location: Location) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{mask_keys(part)}"
    return path


def _message(model: type[BaseModel], location: Location, problem: Any) -> str:
    parent = _model_at(model, location[:-1])
    fields = {} if parent is None else parent.model_fields
    names = sorted(field.alias or name for name, field in fields.items())
    allowed = f" (allowed: {', '.join(names)})" if names else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key{allowed}"
    if problem["type"] == "missing":
        return f"missing{allowed}"
    if problem["type"] in _EXPECTED:
        return _EXPECTED[problem["type"]]
    text = str(problem["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    found: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = found.model_fields.get(part)
        found = None if field is None else _model_in(field.annotation)
        if found is None:
            return None
    return found  # type: ignore[no-any-return]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)
