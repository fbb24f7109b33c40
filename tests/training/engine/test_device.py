"""Which processors train with bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest

from partedvae.training.engine.device import choose_precision


def machine(folder: Path, flags: str) -> Path:
    """Write the /proc/cpuinfo of a machine of two processors; return its root folder."""
    (folder / "proc").mkdir()
    (folder / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    return folder


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_processor_with_bf16_instructions_trains_in_bf16(tmp_path: Path, flag: str) -> None:
    root = machine(tmp_path, f"fpu avx2 avx512f {flag} fsrm")
    assert choose_precision("cpu", "bf16-mixed", root) == "bf16-mixed"
    assert choose_precision("cpu", "auto", root) == "bf16-mixed"
    assert choose_precision("cpu", "32-true", root) == "32-true"


@pytest.mark.parametrize("flags", ["fpu avx2 avx512f", ""])
def test_a_processor_without_them_is_named_with_the_remedy(tmp_path: Path, flags: str) -> None:
    message = (
        r"--precision bf16-mixed: this processor lacks bfloat16 instructions \(amx_bf16 or avx512_bf16 in "
        r"/proc/cpuinfo\), and would be slower than without; omit --precision, or train on a GPU"
    )
    with pytest.raises(ValueError, match=message):
        choose_precision("cpu", "bf16-mixed", machine(tmp_path, flags))
    assert choose_precision("cpu", "auto", tmp_path) == "32-true"


def test_a_system_without_cpuinfo_trains_in_32_bits_alone(tmp_path: Path) -> None:
    assert choose_precision("cpu", "32-true", tmp_path) == "32-true"
    assert choose_precision("cpu", "auto", tmp_path) == "32-true"
    with pytest.raises(ValueError, match="lacks bfloat16 instructions"):
        choose_precision("cpu", "bf16-mixed", tmp_path)
