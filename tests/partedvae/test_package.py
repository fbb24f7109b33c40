import subprocess
import sys
from importlib.metadata import version

import pytest

import partedvae

HEAVY = ("torch", "onnxruntime", "numpy", "grpc", "pyarrow", "pandas", "PIL", "tqdm")


def loaded_after(code: str) -> set[str]:
    """Return the heavy modules that a new Python process has loaded after running some code."""
    program = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import partedvae` imports neither NumPy nor gRPC."""
    assert loaded_after("import partedvae") == set()


def test_the_client_needs_only_the_base_dependencies() -> None:
    """The client loads gRPC and NumPy, and nothing of the extras."""
    assert loaded_after("from partedvae import AsyncClient, Client, Features, UnavailableError") == {"grpc", "numpy"}


def test_results_do_not_load_grpc() -> None:
    """Serving's operations return the result classes, and must not depend on gRPC."""
    modules = "errors, image_chunks, image_results, model_results, requests, results"
    assert loaded_after(f"from partedvae import {modules}") == {"numpy"}


@pytest.mark.parametrize("name", partedvae.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Every name of `__all__` can be imported and has that name."""
    value = getattr(partedvae, name)

    assert value == version("partedvae") if name == "__version__" else value.__name__ == name
    assert name in dir(partedvae)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typing error raises AttributeError."""
    with pytest.raises(AttributeError, match="module 'partedvae' has no attribute 'Cleint'"):
        _ = partedvae.Cleint
