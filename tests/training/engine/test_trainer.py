"""Training converges, is reproducible, and works with few labels or none."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
import torch

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import DataError, Split, first_labelled
from partedvae.training.distributed import SINGLE_PROCESS, launch
from partedvae.training.engine.device import prepare
from partedvae.training.engine.trainer import Trainer
from partedvae.training.evaluation.diagnostics import collapse_warnings
from partedvae.training.evaluation.evaluation import evaluate
from tests.training.toys import tiny_config, toy_dataset, toy_split


def trained(config: TrainConfig) -> Trainer:
    """Train on the toy data set to the end."""
    train = toy_dataset().train
    prepare(config.seed)
    trainer = Trainer(config, train, first_labelled(train, config.labels), SINGLE_PROCESS)
    trainer.warm_start()
    while trainer.step < trainer.total_steps:
        trainer.train_step()
        if trainer.step % trainer.steps_per_epoch == 0:
            trainer.end_epoch()
    return trainer


def weights(trainer: Trainer) -> torch.Tensor:
    """Return all weights of the model as one vector."""
    return torch.cat([p.detach().flatten() for p in trainer.final_model.parameters()])


@pytest.mark.slow
def test_training_learns_both_factors_from_forty_labels_and_raises_no_warning() -> None:
    config = tiny_config(epochs=15)
    evaluation = evaluate(trained(config).final_model, toy_dataset().test, config)
    assert evaluation.accuracies["corner"] > 0.9
    assert evaluation.accuracies["shade"] > 0.9
    assert collapse_warnings(evaluation, "partedvae") == []


@pytest.mark.parametrize("name", ["default", "paper"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    first = weights(trained(tiny_config(name, epochs=1)))
    assert torch.equal(first, weights(trained(tiny_config(name, epochs=1))))
    assert not torch.equal(first, weights(trained(tiny_config(name, epochs=1, seed=1))))


def test_the_reconstruction_error_falls() -> None:
    config = tiny_config("paper")
    train = toy_dataset().train
    prepare(0)
    trainer = Trainer(config, train, first_labelled(train, 40), SINGLE_PROCESS)
    epochs = []
    for _ in range(4):
        for _ in range(trainer.steps_per_epoch):
            trainer.train_step()
        epochs.append(trainer.end_epoch()["reconstruction"])
    assert epochs[3] < epochs[1] < epochs[0]


def test_without_labels_there_is_no_supervised_loss() -> None:
    config = tiny_config(labels=0)
    train = toy_dataset().train
    hidden = Split(images=train.images, labels=torch.full_like(train.labels, -1))
    prepare(0)
    trainer = Trainer(config, hidden, first_labelled(hidden, 0), SINGLE_PROCESS)
    trainer.warm_start()
    losses = trainer.train_step()
    assert losses["supervised"].item() == 0.0
    assert losses["consistency"].item() == 0.0
    assert losses["reconstruction"].item() > 0


def test_three_labels_train_with_batches_of_three() -> None:
    """The authors' code skips supervision if there are fewer labels than a batch."""
    config = tiny_config("paper", labels=3)
    train = toy_dataset().train
    prepare(0)
    trainer = Trainer(config, train, first_labelled(train, 3), SINGLE_PROCESS)
    assert trainer.train_step()["supervised"].item() > 0


def test_labels_that_are_not_chosen_are_never_read() -> None:
    train = toy_dataset().train
    labelled = first_labelled(train, 40)
    scrambled = train.labels.clone()
    scrambled[40:] = 0
    results = []
    for labels in (train.labels, scrambled):
        prepare(0)
        trainer = Trainer(tiny_config(), Split(images=train.images, labels=labels), labelled, SINGLE_PROCESS)
        trainer.train_step()
        results.append(weights(trainer))
    assert torch.equal(*results)


def test_an_image_with_a_label_for_any_factor_is_among_the_first_labelled() -> None:
    split = toy_split(6, 0)
    split.labels[1] = -1
    split.labels[2, 1] = -1
    assert first_labelled(split, 3).tolist() == [0, 2, 3]


def test_more_labels_than_there_are_is_an_error_with_their_number() -> None:
    with pytest.raises(DataError, match="--labels 7 is more than the 6 labelled training images"):
        first_labelled(toy_split(6, 0), 7)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.exhaustive), 3])
def test_a_restored_trainer_continues_exactly_even_within_an_epoch(every: int) -> None:
    config = tiny_config()
    config = dataclasses.replace(config, supervision=dataclasses.replace(config.supervision, every=every))
    train = toy_dataset().train
    labelled = first_labelled(train, config.labels)
    prepare(0)
    trainer = Trainer(config, train, labelled, SINGLE_PROCESS)
    trainer.warm_start()
    for _ in range(13):
        trainer.train_step()
    # Serialised as in a checkpoint, so that later steps cannot change the state.
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in trainer.state_dict().items()}
    state = torch.load(_saved(state), weights_only=True)
    for _ in range(9):
        trainer.train_step()
    expected, means = weights(trainer), trainer.epoch_sums
    prepare(99)
    restored = Trainer(config, train, labelled, SINGLE_PROCESS)
    restored.load_state_dict(state)
    assert restored.step == 13
    for _ in range(9):
        restored.train_step()
    assert torch.equal(weights(restored), expected)
    assert torch.equal(restored.epoch_sums, means)


@pytest.mark.parametrize("saved", [False, True], ids=["begun on a CPU", "begun on a GPU"])
def test_a_checkpoint_moves_between_devices(monkeypatch: pytest.MonkeyPatch, saved: bool) -> None:
    """The generator of a GPU continues where the checkpoint has its state, and is seeded by the step otherwise."""

    class Gpu(str):
        """Stands for a GPU; PyTorch sees a CPU."""

        type = "cuda"

    calls: list[tuple[str, object]] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: calls.append(("state", state.tolist())))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: calls.append(("seed", seed)))
    config, train = tiny_config(), toy_dataset().train
    labelled = first_labelled(train, config.labels)
    prepare(0)
    trainer = Trainer(config, train, labelled, SINGLE_PROCESS)
    for _ in range(3):
        trainer.train_step()
    state = trainer.state_dict()
    if saved:
        state["cuda_rng"] = torch.tensor([1, 2, 3], dtype=torch.uint8)
    restored = Trainer(config, train, labelled, SINGLE_PROCESS)
    restored.load_state_dict(state)
    assert calls == []  # On a CPU the state of a GPU is ignored.
    restored.device = Gpu("cpu")  # type: ignore[assignment]  # see Gpu
    restored.load_state_dict(state)
    assert calls == [("state", [1, 2, 3]) if saved else ("seed", config.seed + 3)]
    assert torch.equal(weights(restored), weights(trainer))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(first: str, second: str) -> None:
    config, train = tiny_config(), toy_dataset().train
    labelled = first_labelled(train, config.labels)
    prepare(0)
    trainer = Trainer(config, train, labelled, launch(first, "32-true"))
    trainer.warm_start()
    for _ in range(3):
        trainer.train_step()
    restored = Trainer(config, train, labelled, launch(second, "32-true"))
    restored.load_state_dict(torch.load(_saved(trainer.state_dict()), map_location=restored.device, weights_only=True))
    assert torch.equal(weights(restored).cpu(), weights(trainer).cpu())
    for _ in range(3):
        assert torch.isfinite(restored.train_step()["loss"])
    assert restored.step == 6


def test_the_plateau_schedulers_halve_the_rates_of_a_run_without_progress() -> None:
    config = tiny_config("paper")
    train = toy_dataset().train
    prepare(0)
    trainer = Trainer(config, train, first_labelled(train, 40), SINGLE_PROCESS)
    for _ in range(4):
        trainer.epoch_sums.fill_(100.0)
        trainer.end_epoch()
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(0.00075)
    assert trainer.supervised_optimiser.param_groups[0]["lr"] == pytest.approx(0.00075)


def test_supervised_steps_run_for_a_tenth_of_the_run_and_then_before_every_nth_step() -> None:
    """Four of forty steps, and every third of the others; the mean of an epoch is over those that ran."""
    config = tiny_config("paper")
    config = dataclasses.replace(config, supervision=dataclasses.replace(config.supervision, every=3))
    train = toy_dataset().train
    prepare(0)
    trainer = Trainer(config, train, first_labelled(train, 40), SINGLE_PROCESS)
    assert trainer.steps_per_epoch == 10
    for first, supervised in ((0, [0, 1, 2, 3, 4, 7]), (10, [10, 13, 16, 19])):
        losses = [trainer.train_step() for _ in range(10)]
        assert [first + k for k, loss in enumerate(losses) if "supervised" in loss] == supervised
        values = [loss["supervised"].item() for loss in losses if "supervised" in loss]
        means = trainer.end_epoch()
        assert means["supervised"] == pytest.approx(sum(values) / len(values))
        assert means["loss"] == pytest.approx(sum(loss["loss"].item() for loss in losses) / 10)
    updates = trainer.supervised_optimiser.state[trainer.model.classifier_parameters()[0]]["step"]
    assert updates == 10


def test_mixed_precision_gives_the_losses_of_full_precision_up_to_rounding() -> None:
    """Networks round to 8 bits, but losses, noise, augmentation and optimisers do not: the same noise, close losses."""
    config = tiny_config()
    objective = dataclasses.replace(config.objective, gamma_exchange=1.0, kl_u="matched")
    supervision = dataclasses.replace(config.supervision, augment=True)
    config = dataclasses.replace(config, objective=objective, supervision=supervision)
    train = toy_dataset().train
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        prepare(0)
        trainer = Trainer(config, train, first_labelled(train, 40), launch("cpu", precision))
        step = trainer.train_step()
        assert {loss.dtype for loss in step.values()} == {torch.float32}
        assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
        losses[precision] = {name: loss.item() for name, loss in step.items()}
    assert losses["bf16-mixed"] != losses["32-true"]
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.02, abs=2e-3)


def test_consecutive_supervised_steps_use_consecutive_labelled_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over the labels must not leave out the batches of the steps without a supervised one."""
    config = tiny_config("paper", labels=40)
    config = dataclasses.replace(config, supervision=dataclasses.replace(config.supervision, every=2, batch_size=5))
    train = toy_dataset().train
    prepare(0)
    trainer = Trainer(config, train, first_labelled(train, 40), SINGLE_PROCESS)
    seen: list[int] = []
    original = trainer._supervised_step

    def record(chosen: torch.Tensor) -> torch.Tensor:
        seen.extend(chosen.tolist())
        return original(chosen)

    monkeypatch.setattr(trainer, "_supervised_step", record)
    for _ in range(11):  # Four with one, and then every other step.
        trainer.train_step()
    assert sorted(seen) == list(range(40))


@pytest.mark.parametrize("labels", [0, 40])
def test_every_epoch_has_a_mean_supervised_loss(labels: int) -> None:
    """The recipe's every is more than the steps of an epoch of a small data set, with labels and without."""
    config = tiny_config(labels=labels)
    config = dataclasses.replace(config, supervision=dataclasses.replace(config.supervision, every=11))
    train = toy_dataset().train
    trainer = Trainer(config, train, first_labelled(train, labels), SINGLE_PROCESS)
    for _ in range(2):
        for _ in range(trainer.steps_per_epoch):
            trainer.train_step()
        assert math.isfinite(trainer.end_epoch()["supervised"])


def test_the_ema_follows_the_weights_and_is_the_final_model() -> None:
    trainer = trained(tiny_config(epochs=1))
    assert trainer.ema is not None
    difference = (weights(trainer) - torch.cat([p.detach().flatten() for p in trainer.model.parameters()])).abs().max()
    assert 0 < difference.item() < 0.5
    plain = trained(dataclasses.replace(tiny_config("paper"), epochs=1))
    assert plain.ema is None
    assert plain.final_model is plain.model


def _saved(state: dict[str, object]) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
