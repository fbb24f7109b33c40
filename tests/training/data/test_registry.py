"""All data sets are registered, described without their images, and listed and checked by the `data` command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from partedvae.training.cli.data import data
from partedvae.training.config.architecture import FactorConfig
from partedvae.training.data.dataset import Images
from partedvae.training.data.registry import ENTRIES, entry, load_dataset
from partedvae.training.data.sprites import DrawnSprites

NAMES = ["mnist", "fashion-mnist", "dsprites", "faces", "faces-large", "celeba"]


def test_every_data_set_is_described_under_its_own_name_with_usable_factors(tmp_path: Path) -> None:
    assert list(ENTRIES) == NAMES
    for name in NAMES:
        info = entry(name).describe(tmp_path)
        assert info.name == name
        for factor in info.factors:
            assert factor.prior is not None
            FactorConfig(name=factor.name, classes=factor.classes, prior=factor.prior, u_dim=1)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_not_in_memory_implement_the_protocol() -> None:
    assert isinstance(DrawnSprites(), Images)
    assert isinstance(torch.zeros(1, 2, 2, 1, dtype=torch.uint8), Images)


def test_the_error_for_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'face'; did you mean 'faces'\? .*celeba, and folder:PATH"):
        load_dataset("face", Path())


def test_only_folders_are_fitted(tmp_path: Path) -> None:
    """Other images have one size, so that a fit would be ignored."""
    for name in NAMES:
        with pytest.raises(ValueError, match=f"the images of '{name}' have a fixed size; omit --fit pad, which is for"):
            load_dataset(name, tmp_path, "pad")
    assert list(tmp_path.iterdir()) == []


def own_images(path: Path) -> Path:
    path.mkdir()
    for number in range(4):
        Image.new("L", (28, 28), 60 * number).save(path / f"{number}.png")
    (path / "labels.csv").write_text("file,kind\n0.png,a\n1.png,a\n2.png,b\n3.png,b\n")
    return path


def test_the_list_shows_size_factors_and_availability(tmp_path: Path) -> None:
    result = CliRunner().invoke(data, ["list", "--data", str(tmp_path)])
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert list(rows) == ["name", *NAMES, "folder:PATH"]
    assert "28x28x1" in rows["mnist"]
    assert "digit (10)" in rows["mnist"]
    assert "not downloaded yet" in rows["mnist"]
    assert "218x178x3" in rows["celeba"]
    assert "8 factors" in rows["celeba"]
    assert "requires your files" in rows["celeba"]
    assert "not drawn yet" in rows["faces"]
    assert "drawn on first use" in rows["dsprites"]


def test_a_check_says_whether_images_are_stretched(tmp_path: Path) -> None:
    """Or shows them as they are with --fit."""
    path = own_images(tmp_path / "own")
    Image.new("L", (40, 30), 255).save(path / "3.png")
    stretched = CliRunner().invoke(data, ["check", f"folder:{path}"])
    note = (
        "1 of 4 images is not square (up to 4:3) and is stretched to 32x32; --fit pad or --fit crop keeps their shape"
    )
    assert stretched.output.splitlines()[-1] == f"note: {note}"
    padded = CliRunner().invoke(data, ["check", f"folder:{path}", "--fit", "pad"])
    assert padded.exit_code == 0
    assert "not square" not in padded.output
    assert padded.output.splitlines()[1:3] != stretched.output.splitlines()[1:3]  # the mean of the pixels


@pytest.mark.parametrize(
    ("name", "fit", "code", "message"),
    [
        (
            "mnist",
            "stretch",
            1,
            "the images of 'mnist' have a fixed size; omit --fit stretch, which is for folder:PATH",
        ),
        ("mnits", "pad", 1, "no data set is called 'mnits'; did you mean 'mnist'?"),
        ("folder:own", "zoom", 2, "'zoom' is not one of 'stretch', 'pad', 'crop'"),
    ],
)
def test_a_check_refuses_a_fit_that_it_cannot_apply(
    tmp_path: Path, name: str, fit: str, code: int, message: str
) -> None:
    result = CliRunner().invoke(data, ["check", name, "--fit", fit, "--data", str(tmp_path)])
    assert result.exit_code == code
    assert message in result.output


def test_a_check_shows_counts_memory_classes_and_source(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own")
    result = CliRunner().invoke(data, ["check", f"folder:{path}"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"folder:{path}: 32x32x1, grey"
    assert lines[1].startswith("train: 2 images, 0.0 MB in memory; pixels ")
    assert lines[3] == "factor kind: 2 classes"
    assert [line.split() for line in lines[4:7]] == [
        ["a", "train", "1", "test", "1"],
        ["b", "train", "1", "test", "1"],
        ["(not", "labelled)", "train", "0", "test", "0"],
    ]
    assert lines[7].startswith("source: labels.csv: ")


def test_a_check_of_dsprites_reports_that_it_is_drawn(tmp_path: Path) -> None:
    result = CliRunner().invoke(data, ["check", "dsprites", "--data", str(tmp_path)])
    assert result.exit_code == 0
    assert "train: 737,280 images, 7 MB of masks" in result.output
    assert "true factors: shape 3, scale 6, orientation 40, x 32, y 32" in result.output
    assert "source: dsprites: drawn, an approximation of the original" in result.output


def test_get_reports_that_a_data_set_is_ready_or_what_is_missing(tmp_path: Path) -> None:
    path = own_images(tmp_path / "own")
    result = CliRunner().invoke(data, ["get", f"folder:{path}"])
    assert result.output == f"folder:{path} is ready: 2 training and 2 test images\n"
    result = CliRunner().invoke(data, ["get", "celeba", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "Error: CelebA is incomplete" in result.output


def test_an_operating_system_error_is_a_message_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (["check", "mnist"], ["get", "mnist"]):
        result = CliRunner().invoke(data, [*arguments, "--data", str(tmp_path / "file")])
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert result.output.startswith("Error: ")
        assert f"{tmp_path / 'file' / 'mnist'}: Not a directory" in result.output
    result = CliRunner().invoke(data, ["list", "--data", str(tmp_path / ("x" * 300))])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "File name too long" in result.output
