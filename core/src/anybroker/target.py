"""Finding an app that is named on the command line: ``module:app``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

from anybroker.errors import ConfigurationError
from anybroker.loading import redact

if TYPE_CHECKING:
    from types import ModuleType

    from anybroker.app import App


def find_app(target: str) -> App:
    """Import ``module:name``, or the only app of ``module``, with the current directory first on the path.

    Raises ``ConfigurationError`` that says which part is wrong; an exception raised by the module itself keeps its
    traceback.
    """
    from anybroker.app import App

    module_name, _, name = target.partition(":")
    if not module_name or module_name.endswith(".py") or os.sep in module_name:
        message = f"{target!r}: write module:app, e.g. tasks:app for an app in tasks.py"
        raise ConfigurationError(message)
    module = _import(module_name)
    apps = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    if not name:
        if len({id(app) for app in apps.values()}) == 1:
            return next(iter(apps.values()))
        message = f"{module_name} has {len(apps)} apps; name one: {module_name}:{next(iter(apps), 'app')}"
        raise ConfigurationError(message)
    if name in apps:
        return apps[name]
    found = f"it has: {', '.join(apps)}" if apps else "it has none"
    message = f"{module_name} has no app named {name!r}; {found}"
    raise ConfigurationError(message)


def _import(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109  a string is what belongs into sys.path
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            message = f"there is no module {error.name!r} in {here} or on the path"
            raise ConfigurationError(message) from error
        raise _failed(name, error) from error
    except Exception as error:
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> ConfigurationError:
    problem = f"{name} cannot be imported: {type(error).__name__}: {error}\n{traceback.format_exc()}"
    return ConfigurationError(redact(problem))  # a line of the module may hold a URL
