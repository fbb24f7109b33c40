"""Tests of the distributions: every kind of installation provides `partedvae` and no other top-level name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.packaging.distributions import PROJECT, ROOT, Environment, build_sdist, build_wheel, wheel_names

pytestmark = pytest.mark.slow

FOLDERS = ("training", "serving", "export")
"""Top-level folders of the repository, with names that users' packages may have as well."""

IMPORT_BOTH = """
import json
import export, training
import serving.own
import partedvae.export.cli, partedvae.serving.cli, partedvae.training.cli.train
theirs = [module.__file__ for module in (training, serving.own, export)]
ours = [module.__file__ for module in (partedvae.training, partedvae.serving, partedvae.export)]
print(json.dumps({"theirs": theirs, "ours": ours}))
"""

IMPORTABLE = """
import importlib.util, json
names = ["partedvae", "training", "serving", "export", "tests", "benchmarks"]
print(json.dumps([name for name in names if importlib.util.find_spec(name)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of the checkout."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["wheel", pytest.param("editable", marks=pytest.mark.exhaustive)])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel, and one with an editable installation of the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    if request.param == "editable":
        return Environment(folder, ROOT, editable=True)
    return Environment(folder, request.getfixturevalue("wheel"), editable=False)


@pytest.fixture
def users_packages(tmp_path: Path) -> Path:
    """Return a folder with a user's packages `training`, `serving` (without __init__.py) and `export`."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").touch()
        if name != "serving":
            (tmp_path / name / "__init__.py").touch()
    return tmp_path


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    """All files are in partedvae/ and its dist-info, the subpackages among them; tests and benchmarks are not."""
    names = wheel_names(wheel)
    metadata = f"partedvae-{PROJECT['project']['version']}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"partedvae", metadata}
    assert names >= {
        "partedvae/__init__.py",
        "partedvae/py.typed",
        "partedvae/common/__init__.py",
        "partedvae/export/__init__.py",
        "partedvae/serving/__init__.py",
        "partedvae/serving/explore/elements/mover.js",
        "partedvae/serving/explore/static/explore.css",
        "partedvae/training/__init__.py",
        "partedvae/v1/service_pb2.pyi",
        "partedvae/protos/partedvae/v1/service.proto",
        f"{metadata}/entry_points.txt",
        f"{metadata}/licenses/LICENSE",
    }
    folders = {part for name in names for part in Path(name).parts[:-1]}
    assert folders.isdisjoint({"tests", "benchmarks", "__pycache__"})


def test_the_wheel_holds_every_module(wheel: Path) -> None:
    """No module of the checkout is missing, those behind the symbolic links included."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "partedvae").rglob("*.py")}
    for name in FOLDERS:
        modules |= {f"partedvae/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / name).rglob("*.py")}
    assert {name for name in wheel_names(wheel) if name.endswith(".py")} == modules


def test_no_other_name_can_be_imported(environment: Environment, tmp_path: Path) -> None:
    """Either installation provides `partedvae`, and none of the repository's other folders."""
    assert json.loads(environment.run("-c", IMPORTABLE, folder=tmp_path)) == ["partedvae"]


def test_packages_of_the_same_names_in_the_current_folder(environment: Environment, users_packages: Path) -> None:
    """The user's packages are imported from the current folder, ours as subpackages of `partedvae`."""
    _check_imports(environment, users_packages, folder=users_packages)


def test_packages_of_the_same_names_in_site_packages(
    environment: Environment, users_packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The user's packages are imported from site-packages, ours as subpackages of `partedvae`."""
    moved = [users_packages / name for name in FOLDERS]
    installed = [path.rename(environment.site_packages / path.name) for path in moved]
    try:
        _check_imports(environment, environment.site_packages, folder=tmp_path_factory.mktemp("elsewhere"))
    finally:
        for path, back in zip(installed, moved, strict=True):
            path.rename(back)


def test_the_command_in_a_folder_with_packages_of_the_same_names(
    environment: Environment, users_packages: Path
) -> None:
    """`python -m partedvae` lists and loads its commands, although the current folder is first on the path."""
    output = environment.run("-m", "partedvae", "--help", folder=users_packages)
    assert output.startswith("Usage: partedvae ")
    for command in ("train", "export", "serve", "extract"):
        assert f"\n  {command} " in output
        assert environment.run("-m", "partedvae", command, "--help", folder=users_packages).startswith("Usage: ")


@pytest.mark.exhaustive
def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """A wheel built from the source distribution has the same files as one built from the checkout."""
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    sdist = build_sdist(tmp_path / "sdist")
    assert wheel_names(build_wheel(sdist, tmp_path / "wheel")) == wheel_names(wheel)


def _check_imports(environment: Environment, owner: Path, folder: Path) -> None:
    modules = json.loads(environment.run("-c", IMPORT_BOTH, folder=folder))
    assert modules == {
        "theirs": [str(owner / file) for file in ("training/__init__.py", "serving/own.py", "export/__init__.py")],
        "ours": [str(environment.package / name / "__init__.py") for name in FOLDERS],
    }
