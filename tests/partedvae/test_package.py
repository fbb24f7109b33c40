import subprocess
import sys
from importlib.metadata import version

import pytest

import partedvae

HEAVY = ("torch", "onnxruntime", "numpy", "grpc", "pyarrow", "PIL", "tqdm")


def loaded_after(code: str) -> set[str]:
    """Return which heavy modules a fresh Python has loaded after running some code."""
    program = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import partedvae` waits for neither NumPy nor gRPC."""
    assert loaded_after("import partedvae") == set()


def test_the_client_needs_the_base_dependencies_alone() -> None:
    """Using the client loads gRPC and NumPy, and nothing that an extra brings."""
    assert loaded_after("from partedvae import AsyncClient, Client, Features, UnavailableError") == {"grpc", "numpy"}


@pytest.mark.parametrize("name", partedvae.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What `__all__` names can be imported, and has that name."""
    value = getattr(partedvae, name)

    assert value == version("partedvae") if name == "__version__" else value.__name__ == name
    assert name in dir(partedvae)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy names do not hide a typing error."""
    with pytest.raises(AttributeError, match="module 'partedvae' has no attribute 'Cleint'"):
        _ = partedvae.Cleint
