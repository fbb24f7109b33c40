"""The oracle of the toy data set: its accuracy, and when it is trained again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from partedvae.training.data.dataset import ImageDataset
from partedvae.training.evaluation import oracle as module
from partedvae.training.evaluation.oracle import Oracle, judged_factors, load_oracle
from partedvae.training.model.networks import preprocess
from tests.training.toys import TOY_INFO, toy_split

pytestmark = pytest.mark.slow

SIZE = (16, 16)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toys() -> ImageDataset:
    """Return a toy data set with enough labels for an oracle; 50 training images have no shade."""
    train, test = toy_split(1_100, 1), toy_split(150, 2)
    train.labels[:50, 1] = -1
    return ImageDataset(info=TOY_INFO, train=train, test=test, source={"toys": "drawn"})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for five epochs."""
    monkeypatch.setattr(module, "MAX_EPOCHS", 5)


@pytest.fixture(scope="module")
def stored(toys: ImageDataset, data_dir: Path) -> Oracle:
    """Train an oracle into `data_dir`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_EPOCHS", 5)
        oracle = load_oracle(toys, SIZE, data_dir, CPU)
    assert oracle is not None
    return oracle


def files(folder: Path) -> list[Path]:
    return sorted((folder / "toys").iterdir())


def require_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_train", None)  # would fail if it were called


def test_it_sees_the_class_of_every_factor_and_reports_its_own_accuracy(stored: Oracle, toys: ImageDataset) -> None:
    assert stored.accuracy["corner"] > 0.97
    assert stored.accuracy["shade"] > 0.97
    seen = stored.classify(preprocess(toys.test.images[torch.arange(150)], SIZE))
    correct = (seen == toys.test.labels).float().mean(dim=0).tolist()
    assert correct == pytest.approx(list(stored.accuracy.values()))


def test_it_is_trained_once(
    stored: Oracle, toys: ImageDataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = files(data_dir)
    assert file.name.startswith("oracle-")
    require_no_training(monkeypatch)
    again = load_oracle(toys, SIZE, data_dir, CPU)
    assert again is not None
    assert again.accuracy == stored.accuracy
    first, second = stored.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("change", ["a label", "a pixel", "the settings", "the size"])
def test_other_data_and_settings_have_an_oracle_of_their_own(
    stored: Oracle, toys: ImageDataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    assert stored.accuracy
    images, labels = toys.train.images[torch.arange(1_100)].clone(), toys.train.labels.clone()
    if change == "a label":
        labels[700, 0] = 3 - labels[700, 0]
    if change == "a pixel":
        images[0, 0, 0] += 1
    if change == "the settings":
        monkeypatch.setattr(module, "LEARNING_RATE", 1e-3)
    trained: list[object] = []
    monkeypatch.setattr(module, "_train", lambda *arguments: trained.append(arguments))
    monkeypatch.setattr(module, "_store", lambda *arguments: None)
    changed = dataclasses.replace(toys, train=dataclasses.replace(toys.train, images=images, labels=labels))
    load_oracle(changed, (20, 20) if change == "the size" else SIZE, data_dir, CPU)
    assert len(trained) == 1


def test_training_is_reproducible_and_leaves_the_random_state_unchanged(
    stored: Oracle, toys: ImageDataset, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    again = load_oracle(toys, SIZE, tmp_path, CPU)
    assert torch.equal(torch.rand(3), expected)
    assert again is not None
    torch.testing.assert_close(again.network.state_dict(), stored.network.state_dict())


@pytest.fixture
def _no_training(stored: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the weights of the stored oracle as the result of training."""
    monkeypatch.setattr(module, "_train", lambda network, *_: network.load_state_dict(stored.network.state_dict()))


@pytest.mark.usefixtures("_no_training")
def test_a_damaged_file_is_replaced(
    stored: Oracle, toys: ImageDataset, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toys").mkdir()
    damaged = tmp_path / "toys" / files(data_dir)[0].name
    damaged.write_bytes(b"not an oracle")
    again = load_oracle(toys, SIZE, tmp_path, CPU)
    assert again is not None
    assert again.accuracy == stored.accuracy
    require_no_training(monkeypatch)
    assert load_oracle(toys, SIZE, tmp_path, CPU) is not None


@pytest.mark.usefixtures("_no_training")
def test_where_it_cannot_be_stored_it_is_used_and_the_reason_printed(
    stored: Oracle, toys: ImageDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toys").touch()  # a file in the place of the folder
    oracle = load_oracle(toys, SIZE, tmp_path, CPU)
    assert oracle is not None
    assert oracle.accuracy == stored.accuracy
    message = capsys.readouterr().err
    assert "the oracle is not stored, and will be trained again next time: " in message
    assert f"{tmp_path / 'toys'}" in message


def test_factors_with_few_labels_are_not_judged(toys: ImageDataset, tmp_path: Path) -> None:
    assert judged_factors(toys) == ["corner", "shade"]
    train = dataclasses.replace(toys.train, labels=toys.train.labels.clone())
    train.labels[:101, 1] = -1
    assert judged_factors(dataclasses.replace(toys, train=train)) == ["corner"]
    test = toys.test.first(99)
    few = dataclasses.replace(toys, test=test)
    assert judged_factors(few) == []
    assert load_oracle(few, SIZE, tmp_path, CPU) is None
    assert list(tmp_path.iterdir()) == []


def test_large_images_are_halved_for_the_network() -> None:
    network = module.OracleNetwork((224, 192), 3, (2, 5))
    assert network.halvings == 2
    assert [tuple(logits.shape) for logits in network(torch.rand(2, 3, 224, 192))] == [(2, 2), (2, 5)]
    assert module.OracleNetwork((64, 64), 3, (2,)).halvings == 0
