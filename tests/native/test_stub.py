"""The types that mypy sees are those of the module: see CONTRIBUTING.md for how to write them anew."""

from pathlib import Path

from nanobind.stubgen import StubGen

from undertow.kernels import _native


def test_the_stub_is_what_the_module_says():
    stub = StubGen(_native)
    stub.put(_native)
    assert Path(_native.__file__).with_name("_native.pyi").read_text() == stub.get()
