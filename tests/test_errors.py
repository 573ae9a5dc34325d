"""The tree of errors in ``model/errors.py`` is the one that the code has."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import walk_packages

import momok
from momok.model import errors
from momok.model.errors import UserError


def test_the_tree_is_drawn_as_it_is() -> None:
    for module in walk_packages(momok.__path__, "momok."):
        if module.name != "momok.__main__":
            import_module(module.name)
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"^    [├└]── (\w+) +(\w+\.[\w.]+)", errors.__doc__, re.MULTILINE))
    found = {kind.__name__: kind.__module__.removeprefix("momok.") for kind in UserError.__subclasses__()}
    ours = {name: module for name, module in found.items() if not module.startswith("tests")}
    assert drawn == ours
