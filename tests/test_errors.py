"""The tree of errors in ``model/errors.py`` is the one that the code has."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import walk_packages

import commands
import model
import service
import training
from model import errors
from model.errors import UserError


def test_the_tree_is_drawn_as_it_is() -> None:
    for package in (model, training, service, commands):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"^    [├└]── (\w+) +(\w+\.[\w.]+)", errors.__doc__, re.MULTILINE))
    found = {kind.__name__: kind.__module__ for kind in UserError.__subclasses__()}
    ours = {name: module for name, module in found.items() if not module.startswith("tests")}
    assert drawn == ours
