"""What an import loads, and that the app uses only public names.

The contracts in pyproject.toml (`make lint`) say which room may import which.

Imports are tried in processes of their own, because this one has everything loaded already.
"""

import ast
import json
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import undertow

PACKAGE = Path(undertow.__file__).parent
THE_APPS = ["Run", "UserError", "load_run", "train"]
NUMPY_ALONE = ["doctor", "equations", "flow", "hardware", "networks", "plots", "problems", "stream"]
FUNCTIONS_OF_NUMPY_ALONE = ["Trace", "diagnose", "load_trace"]
APP_MODULES = sorted((PACKAGE / "app").rglob("*.py"))


def loaded_by(statement):
    """The modules in a fresh process after ``statement``."""
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_import_undertow_loads_nothing_heavy():
    loaded = loaded_by("import undertow; dir(undertow)")
    added = {name.split(".")[0] for name in loaded - loaded_by("pass")}
    assert not added & {"torch", "numpy", "typer", "rich", "polars", "lightning", "matplotlib"}
    assert {name for name in loaded if name.startswith("undertow")} == {"undertow"}


def test_what_is_numpy_alone_loads_no_torch():
    names = [*NUMPY_ALONE, *FUNCTIONS_OF_NUMPY_ALONE]
    loaded = loaded_by(f"import undertow; {'; '.join(f'undertow.{name}' for name in names)}")
    assert {f"undertow.{name}" for name in NUMPY_ALONE} <= loaded
    assert "torch" not in loaded


def test_the_palette_loads_nothing_else():
    loaded = loaded_by("import undertow; undertow.palette")
    assert {name for name in loaded if name.startswith("undertow")} == {"undertow", "undertow.palette"}
    assert not loaded & {"torch", "numpy", "matplotlib"}


def test_what_needs_torch_loads_nothing_of_the_app():
    others = set(undertow.__all__) - {*NUMPY_ALONE, *FUNCTIONS_OF_NUMPY_ALONE, *THE_APPS, "palette"}
    loaded = loaded_by(f"import undertow; {'; '.join(f'undertow.{name}' for name in sorted(others))}")
    assert "torch" in loaded
    assert not [module for module in loaded if module.startswith("undertow.app")]
    assert not loaded & {"typer", "rich", "polars", "lightning_fabric", "matplotlib", "bokeh"}
    assert not loaded & {"lightning", "pytorch_lightning", "tensorboard"}


def test_the_command_from_python_loads_no_torch_until_it_is_needed():
    loaded = loaded_by(f"import undertow; {'; '.join(f'undertow.{name}' for name in THE_APPS)}")
    assert "polars" in loaded
    assert not loaded & {"torch", "lightning_fabric", "matplotlib", "pandas"}


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("train", "polars", "app"),
        ("LSTM", "torch", "torch"),
        ("trace", "torch", "torch"),
        ("onnx", "torch", "onnx"),
        ("plots", "matplotlib", "plots"),
    ],
)
def test_a_missing_library_is_named_with_its_remedy(name, library, extra):
    code = (
        f"import sys, undertow; sys.modules[{library!r}] = None\n"
        f"try: undertow.{name}\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"undertow.{name} needs {library}: pip install 'undertow[{extra}]'\n"


def test_public_names():
    for name in undertow.__all__:
        assert getattr(undertow, name) is not None
    assert dir(undertow) == sorted(undertow.__all__)
    with pytest.raises(AttributeError, match="module 'undertow' has no attribute 'nonsense'"):
        undertow.nonsense  # noqa: B018


def used_names(source, package="undertow.app"):
    """What a module of ``package`` takes of undertow: LSTM, of ``from undertow import LSTM`` for one.

    A module below the top, such as undertow.app.data, stands with its whole dotted path.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("undertow.") for a in node.names if a.name.startswith("undertow.")}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            if module == "undertow":
                found |= {a.name for a in node.names}
            elif module.startswith("undertow."):
                found.add(module.removeprefix("undertow."))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "undertow":
            found.add(node.attr)
    return found


# In C++ for the sake of the threads: nothing of an LSTM.
READS_FILES = "from undertow.kernels.native import read_cached\n"


def is_public(name):
    """Public names, the app itself, and what writes files for the app and the report."""
    return name in [*undertow.__all__, "app", "atomic"] or name.startswith("app.")


def test_used_names_are_found():
    source = """
import undertow.ops
from undertow import LSTM as L, nn
from undertow.app.data import read
from undertow.kernels.native import forward
from . import sibling
from ..nn import RNN
undertow.RNN; undertow.kernels.plain; other.thing
"""
    used = used_names(source)
    assert used == {"ops", "LSTM", "nn", "app.data", "app", "kernels.native", "RNN", "kernels"}
    assert {name for name in used if not is_public(name)} == {"ops", "nn", "kernels.native", "kernels"}


@pytest.mark.parametrize("path", APP_MODULES, ids=lambda path: path.stem)
def test_the_app_uses_public_names_only(path):
    package = ".".join(["undertow", *path.parent.relative_to(PACKAGE).parts])
    source = path.read_text().replace(READS_FILES, "")
    private = {name for name in used_names(source, package) if not is_public(name)}
    assert not private


def test_there_is_an_app_to_look_at():
    assert len(APP_MODULES) > 1
