"""Tests of the measured configurations of our server."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving import variants
from benchmarks.serving.variants import Variant
from partedvae.serving.bundle import Bundle
from tests.bundles import GREY


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return GREY.write(tmp_path / "tiny")


def offer(monkeypatch: pytest.MonkeyPatch, **choices: tuple[str, ...]) -> None:
    """Let the server offer options with some values, and no others."""
    monkeypatch.setattr(variants, "_choices", lambda option: choices.get(option, ()))


def test_fronts_of_the_server() -> None:
    """The front that needs no further package is always measured."""
    assert "grpcio" in variants.installed_fronts()
    assert "auto" not in variants.fronts()


def test_choices_of_an_option() -> None:
    """The values are those of the server's option; options that do not exist, or have any value, have none."""
    assert {"auto", "cpu", "cuda"} <= set(variants._choices("device"))
    assert variants._choices("workers") == variants._choices("no_such_option") == ()


def test_a_server_without_the_option(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """It has one front, and gets no option."""
    offer(monkeypatch)
    assert variants.variants(bundle, ()) == [Variant(name="grpcio")]


def test_only_installed_fronts(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """A front whose package is missing is measured only if it is selected."""
    offer(monkeypatch, front=("auto", "native", "grpcio"))
    monkeypatch.setitem(variants.PACKAGES, "native", "no_such_module")
    native = Variant(name="native", options=("--front", "native"))
    grpcio = Variant(name="grpcio", options=("--front", "grpcio"))
    assert variants.variants(bundle, ()) == [grpcio]
    assert variants.variants(bundle, ("native",)) == [native]
    monkeypatch.setitem(variants.PACKAGES, "native", "json")
    assert variants.variants(bundle, ()) == [native, grpcio]


def test_int8(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Each front also runs the int8 graph, if the bundle has one."""
    offer(monkeypatch, front=("grpcio",), precision=("fp32", "int8"))
    assert [variant.name for variant in variants.variants(bundle, ())] == ["grpcio"]
    (bundle.folder / "encoder.int8.onnx").touch()
    assert variants.precisions(variants.variants(bundle, ())) == ["fp32", "int8"]
    assert variants.variants(bundle, ())[1] == Variant(
        name="grpcio, int8", precision="int8", options=("--front", "grpcio", "--precision", "int8")
    )
