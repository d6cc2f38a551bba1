"""Configurations: found by name or path, changed by overrides, checked key by key, compared.

Nothing here imports jax, so that the command line can read a config before it decides on devices.
"""

import ast
import difflib
import hashlib
import importlib.util
import json
import pathlib
import pkgutil
import traceback
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

import jaxdiff.configs
from jaxdiff.configs import default


def load(name: str, overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """The config of a packaged experiment ('digits') or of a file ('my/config.py'), overridden.

    Args:
      overrides: pairs such as ('train.steps', '100'), the value as a Python literal or bare text.

    Raises:
      ValueError: no such config, a file that raises, an unknown key, a value of a wrong type.
    """
    path = _find(name)
    spec = importlib.util.spec_from_file_location(f'_jaxdiff_config_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # whatever a user's file does is reported with its place
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        place = f'{path}:{frames[-1].lineno}' if frames else str(path)
        reason = ' '.join(str(error).split())
        raise ValueError(f'config {place} raised {type(error).__name__}: {reason}') from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f'config {path}: get_config() must return a ConfigDict, got {config!r}')
    return complete(flat(config), overrides)


def complete(values: dict[str, Any], overrides: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """The default config with flat `values` and then text `overrides` put in, each checked."""
    known = flat(default.get_config())
    for key, text in overrides:
        values = values | {key: _parse(text, known.get(key))}
    config = default.get_config()
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.0)
            raise ValueError(f'unknown config key {key!r}; the nearest is {near[0]!r}')
        config.update_from_flattened_dict({key: _cast(key, value, known[key])})
    return config


def flat(config: ConfigDict) -> dict[str, Any]:
    """{'train.steps': 1000, …}: every value under its dotted key, in the config's order."""
    result = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            result |= {f'{key}.{inner}': v for inner, v in flat(value).items()}
        else:
            result[key] = value
    return result


def dumps(config: ConfigDict) -> str:
    """The config as nested JSON."""
    return json.dumps(config.to_dict(), indent=2) + '\n'


def loads(text: str) -> ConfigDict:
    """The config that `dumps` wrote; keys that were added to jaxdiff since take their defaults."""
    return complete(flat(ConfigDict(json.loads(text))))


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """{key: (old value, new value)} of the keys in which two configs differ."""
    a, b = flat(old), flat(new)
    return {key: (a[key], b[key]) for key in a if a[key] != b[key]}


def digest(config: dict) -> str:
    """The first 12 digits of SHA-256 of a config's values, nested, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def names() -> list[str]:
    """The packaged configs."""
    return sorted(m.name for m in pkgutil.iter_modules(jaxdiff.configs.__path__))


def _find(name):
    if name.endswith('.py') or '/' in name:
        path = pathlib.Path(name)
        if not path.is_file() or path.suffix != '.py':
            raise ValueError(f'no config file, which ends in .py, at {name}')
        return path
    if name not in names():
        raise ValueError(
            f'no packaged config {name!r}: choose from {", ".join(names())}, or give a path'
        )
    return pathlib.Path(jaxdiff.configs.__path__[0]) / f'{name}.py'


def _parse(text, like):
    if isinstance(like, str):
        return text
    if isinstance(like, bool) and text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _cast(key, value, like):
    """`value` as the type of the default `like`, where that loses nothing."""
    if isinstance(like, tuple) and isinstance(value, (tuple, list)):
        if {type(item) for item in value} <= ({type(item) for item in like} or {int, float}):
            return tuple(value)
    elif type(like) is float and type(value) in (int, float):
        return float(value)
    elif type(value) is type(like):
        return value
    kind = type(like).__name__
    if isinstance(like, tuple):
        kind += f' of {type(like[0]).__name__}' if like else ' of numbers'
    raise ValueError(f'config key {key!r} must be of type {kind}, such as {like!r}; got {value!r}')
