"""Build distributions of the project with pip, and create environments to install them into."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def run(command: Iterable[str | Path], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a program in a folder, without the caller's PYTHONPATH, and return its standard output.

    Raises:
        AssertionError: the program failed; with the end of its standard error.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | dict(variables or {})
    done = subprocess.run(list(command), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """Build a wheel from a checkout or a source distribution into an empty folder."""
    run([*PIP, "wheel", "--no-deps", "--wheel-dir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_sdist(folder: Path) -> Path:
    """Build the source distribution of the checkout into an empty folder: pip cannot, so the backend is called."""
    backend = folder / "backend"
    run([*PIP, "install", "--target", backend, *PROJECT["build-system"]["requires"]], folder)
    code = "import sys, hatchling.build; print(hatchling.build.build_sdist(sys.argv[1]))"
    run([sys.executable, "-c", code, folder], ROOT, {"PYTHONPATH": str(backend)})
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def wheel_names(wheel: Path) -> set[str]:
    """Return the paths of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


class Environment:
    """A new virtual environment in which only the project is installed.

    The packages it depends on are those of the environment that runs the tests, which come later on its path.
    """

    def __init__(self, folder: Path, source: Path, *, editable: bool) -> None:
        """Create the environment and install the project into it.

        Args:
            folder: directory of the environment.
            source: wheel or checkout to install.
            editable: whether to install with `--editable`.
        """
        venv.create(folder)
        self.python = folder / "bin" / "python"
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        self.site_packages = Path(paths["purelib"])
        dependencies = sysconfig.get_paths()["purelib"]
        (self.site_packages / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
        run(
            [*PIP, "--python", self.python, "install", "--no-deps", *(["--editable"] if editable else []), source],
            folder,
        )
        self.package = source / "partedvae" if editable else self.site_packages / "partedvae"

    def run(self, *arguments: str, folder: Path) -> str:
        """Run its Python in a folder and return the standard output."""
        return run([self.python, *arguments], folder)
