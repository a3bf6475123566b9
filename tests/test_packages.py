"""What each package directly below ``mammogan_tf`` says of itself names all of its modules, in reading order."""

import importlib
import pkgutil

import pytest

import mammogan_tf

PACKAGES = [found.name for found in pkgutil.iter_modules(mammogan_tf.__path__) if found.ispkg]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_names_its_modules(name):
    package = importlib.import_module(f"mammogan_tf.{name}")
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    assert modules
    assert [module for module in modules if f"``{module}``" not in package.__doc__] == []
