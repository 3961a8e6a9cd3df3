"""
The model names that the installed LiveKit plugins declare, read from their source without importing them.

Invariant: nothing of a plugin runs; a file that cannot be read or parsed contributes nothing and is logged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from livekit_costmeter.log import log

# `TTSModels`, `DeepgramModels`, `TogetherChatModels`: an optional vendor, and the kind of component.
_NAME = re.compile(r"(?P<vendor>[A-Za-z0-9]*?)(?P<kind>STT|TTS|Chat|LLM|Realtime)Models?")
_COMPONENTS = {"STT": "stt", "TTS": "tts", "Chat": "llm", "LLM": "llm", "Realtime": "realtime"}
# Families and roles, not vendors.
_NOT_VENDORS = frozenset({"", "flux", "turndetecting", "v2"})
_SPEECH_TO_TEXT = frozenset({"DeepgramModels", "V2Models"})


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model name in a plugin's source; `vendor` is whose it is."""

    plugin: str
    component: str
    model: str
    vendor: str


def installed_models(folders: list[Path] | None = None) -> list[InstalledModel]:
    """List the model names in the `models.py` of every installed plugin, or of the plugins in these folders."""
    found: list[InstalledModel] = []
    for folder in _plugin_folders() if folders is None else folders:
        for file in sorted(folder.glob("*/models.py")):
            found.extend(_in_file(file.parent.name, file))
    return list(dict.fromkeys(found))


def installed_plugins() -> frozenset[str]:
    """Name the installed plugins; the inference gateway comes with LiveKit itself."""
    return frozenset(file.parent.name for folder in _plugin_folders() for file in folder.glob("*/__init__.py")) | {
        "inference"
    }


def _plugin_folders() -> list[Path]:
    try:
        spec = find_spec("livekit.plugins")
    except ModuleNotFoundError:
        return []
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def _in_file(plugin: str, file: Path) -> Iterator[InstalledModel]:
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        log().warning("model names of a plugin could not be read", plugin=plugin, error=str(error))
        return
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        kind = _kind(node.targets[0].id)
        if kind is None:
            continue
        component, vendor = kind
        names = (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
        for name in names:
            if isinstance(name, str):
                yield InstalledModel(plugin, component, name, vendor or plugin)


def _kind(name: str) -> tuple[str, str] | None:
    if name in _SPEECH_TO_TEXT:
        return "stt", ""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    vendor = match["vendor"].lower()
    return _COMPONENTS[match["kind"]], "" if vendor in _NOT_VENDORS else vendor
