"""Tests of the measured configurations of our server."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.serving import variants
from benchmarks.serving.variants import FRONTS, Variant
from partedvae.serving.grpc.front import PACKAGE
from tests.bundles import GREY

NATIVE = Variant(name="native", options=("--front", "native"))
GRPCIO = Variant(name="grpcio", options=("--front", "grpcio"))


def test_fronts_of_the_server() -> None:
    """`auto` is one of the others."""
    assert sorted(FRONTS) == ["grpcio", "native"]


@pytest.mark.parametrize(("is_installed", "measured"), [(False, [GRPCIO]), (True, [NATIVE, GRPCIO])])
def test_only_installed_fronts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_installed: bool, measured: list[Variant]
) -> None:
    """A front whose package is missing is measured only if it is selected."""
    stand_in = "json" if is_installed else "no_such_module"
    monkeypatch.setattr(variants, "find_spec", lambda name: find_spec(stand_in if name == PACKAGE else name))
    bundle = GREY.write(tmp_path / "tiny")
    assert variants.variants(bundle, ()) == measured
    assert variants.variants(bundle, ("native",)) == [NATIVE]


def test_int8(tmp_path: Path) -> None:
    """Each front also runs the int8 graph, if the bundle has one."""
    bundle = replace(GREY, has_int8=True).write(tmp_path / "tiny")
    measured = variants.variants(bundle, ("grpcio",))
    int8 = Variant(name="grpcio, int8", precision="int8", options=("--front", "grpcio", "--precision", "int8"))
    assert measured == [GRPCIO, int8]
    assert variants.precisions(measured) == ["fp32", "int8"]
