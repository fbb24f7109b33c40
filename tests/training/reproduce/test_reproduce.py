"""Experiments are run once, stored, and rendered as tables."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from partedvae.training.cli.reproduce import reproduce
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.evaluation import oracle
from partedvae.training.evaluation.metrics import generation, probes
from partedvae.training.reproduce import runner
from partedvae.training.reproduce.experiments import (
    EXPERIMENTS,
    Experiment,
    Variant,
    accuracies,
    experiment,
)
from partedvae.training.reproduce.page import amount_table, class_table, runs_table, separation_table, write_page
from partedvae.training.reproduce.results import Result, is_same, load_results, store_result
from partedvae.training.reproduce.runner import Plan, run_experiment

SMALL = (
    *("train_images=640", "epochs=1", "supervision.warm_start_steps=0"),
    *("model.encoder_channels=8,8,8", "model.decoder_channels=8,8,8", "model.hidden_dim=32"),
)


def result(seed: int, score: float, variant: str = "100 labels") -> Result:
    return Result(
        experiment="table2",
        variant=variant,
        recipe="default",
        seed=seed,
        labels=100,
        epochs=3,
        train_seconds=60.4,
        data="drawn",
        measures={"factor_paper": score},
        command="partedvae reproduce table2",
        commit="0123456789abcdef",
        date="2026-01-02",
        config={},
    )


def test_a_table_has_one_line_per_run_and_the_mean_of_all_seeds() -> None:
    config = EXPERIMENTS["table2"].variant("100 labels").configure(1, "default", Path(), Path()).to_dict()
    current = dataclasses.replace(result(1, 0.7), config=config)
    text = runs_table(EXPERIMENTS["table2"], [current, result(0, 0.6), result(0, 0.5, "737 labels")])
    lines = text.splitlines()
    details = "epochs | seconds | device | precision | recipe | data | commit | date |"
    assert lines[0] == f"|  | paper | labels | seed | factor_paper | {details}"
    details = "3 | 60 | cpu | 32-true | older | drawn | 012345678 | 2026-01-02 |"
    assert lines[2] == f"| 100 labels | 0.626 ± 0.04 | 100 | 0 | 0.600 | {details}"
    details = "3 | 60 | cpu | auto | current | drawn |"
    assert lines[3].startswith(f"| 100 labels | 0.626 ± 0.04 | 100 | 1 | 0.700 | {details}")
    assert lines[4] == "| **100 labels** | 0.626 ± 0.04 |  | mean of 2 | **0.650 ± 0.071** |  |  |  |  |  |  |  |  |"
    assert lines[5].startswith("| 737 labels | 0.718 ± 0.03 | 100 | 0 | 0.500 |")
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("name", "variant"), [("label-selection", "10 labels, suggest"), ("group-labels", "20 labels, random")]
)
def test_results_with_other_features_are_older(name: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of another recipe of features, but not those before a key was added that the recipe does not use."""
    described = EXPERIMENTS[name]

    def recipe_of(run: Result) -> str:
        (line,) = runs_table(described, [run]).splitlines()[2:]
        (found,) = {"current", "older"} & {cell.strip() for cell in line.split("|")}
        return found

    config = described.variant(variant).configure(0, "default", Path("data"), Path("elsewhere/runs")).to_dict()
    run = dataclasses.replace(result(0, 0.6, variant), config=config)
    assert recipe_of(run) == "current"
    assert recipe_of(dataclasses.replace(run, seed=1)) == "older"
    assert recipe_of(dataclasses.replace(run, config={})) == "older"
    mark = described.variant(variant)._features_mark(Path("data"))
    other = json.loads(json.dumps(config).replace(mark, "01234567"))
    assert recipe_of(dataclasses.replace(run, config=other)) == "older"

    def without_added_key(config: TrainConfig) -> dict[str, Any]:
        values = to_dict(config)
        return {**values, "model": {k: v for k, v in values["model"].items() if k != "initial_weights"}}

    to_dict = TrainConfig.to_dict
    monkeypatch.setattr(TrainConfig, "to_dict", without_added_key)
    assert described.variant(variant)._features_mark(Path("data")) == mark


def test_the_table_of_separation_has_a_line_per_factor_and_measured_run() -> None:
    separation = {"exchange/shape": 0.25, "probe_z_mlp/shape": 0.5, "probe_chance/shape": 1 / 3, "probe_chance/x": 0.1}
    measured = dataclasses.replace(result(1, 0.7), separation=separation | {"generation/shape/square": 0.9})
    other = dataclasses.replace(result(2, 0.7), separation={"exchange/shape": 0.75, "accuracy/shape": 0.9})
    experiment = EXPERIMENTS["table2"]
    lines = separation_table(experiment, [result(0, 0.6), other, measured]).splitlines()
    assert lines[0] == (
        "|  | factor | seed | accuracy | drawn | worst class | z exchanged | z redrawn | reconstructed | diversity "
        "| oracle | u linear | u network | z linear | z network | z samples, network | chance |"
    )
    assert lines[2] == "| 100 labels | shape | 1 |  |  |  | 0.250 |  |  |  |  |  |  |  | 0.500 |  | 0.333 |"
    assert lines[3] == "| 100 labels | shape | 2 | 0.900 |  |  | 0.750 |  |  |  |  |  |  |  |  |  |  |"
    assert lines[4].startswith("| **100 labels** | shape | mean of 2 | **0.900** |  |  | **0.500** |  |  |")
    assert lines[5] == "| 100 labels | x | 1 |  |  |  |  |  |  |  |  |  |  |  |  |  | 0.100 |"
    assert len(lines) == 6
    assert separation_table(experiment, [result(0, 0.6)]) == ""


def test_tables_of_classes_and_amounts_have_means_over_the_seeds_that_have_them() -> None:
    drawn = {"generation/shape": 0.8, "generation/shape/square": 0.9, "generation/shape/heart": 0.7}
    amounts = {"amount_u/hair/long": 0.5, "amount_z/hair/long": -0.01}
    first = dataclasses.replace(result(0, 0.6), separation=drawn | amounts)
    second = dataclasses.replace(
        result(2, 0.7), separation={"generation/shape/square": 0.86, "amount_u/hair/long": 0.7}
    )
    third = dataclasses.replace(result(0, 0.7, "737 labels"), separation=drawn | {"generation/size/1/2": 1.0})
    results = [second, third, first, result(1, 0.6)]
    assert class_table(EXPERIMENTS["table2"], results).splitlines()[2:] == [
        "| 100 labels | shape | 0, 2 | square: 88.0 (86.0) |",
        "| 100 labels | shape | 0 | heart: 70.0 |",
        "| 737 labels | shape | 0 | square: 90.0; heart: 70.0 |",
        "| 737 labels | size | 0 | 1/2: 100.0 |",
    ]
    assert amount_table(EXPERIMENTS["table2"], results) == (
        "|  | factor | class | seeds | R² from u | R² from z |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| 100 labels | hair | long | 0, 2 | 0.60 (0.50 to 0.70) | -0.01 |\n"
    )
    assert class_table(EXPERIMENTS["table2"], [result(0, 0.6)]) == ""
    assert amount_table(EXPERIMENTS["table2"], [third]) == ""


def test_a_result_replaces_an_earlier_one_with_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    store_result(path, result(0, 0.1))
    store_result(path, result(1, 0.2))
    stored = store_result(path, result(0, 0.3))
    assert load_results(path) == stored
    assert [(r.seed, r.measures["factor_paper"]) for r in stored] == [(1, 0.2), (0, 0.3)]


def test_results_of_version_0_1_still_load(tmp_path: Path) -> None:
    """They name the recipe by its budget and the variant by its row."""
    path = tmp_path / "results.json"
    current = [result(0, 0.1), dataclasses.replace(result(0, 0.2), recipe="paper")]
    old = [dataclasses.asdict(r) for r in current]
    for entry, budget in zip(old, ("short", "full"), strict=True):
        entry["budget"], entry["row"] = budget, entry.pop("variant")
        del entry["recipe"], entry["device"]
    path.write_text(json.dumps(old))
    assert load_results(path) == current


def test_the_former_option_budget_selects_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def record(name: str, described: Experiment, plan: Plan) -> str:
        plans.append(plan)
        return ""

    monkeypatch.setattr("partedvae.training.reproduce.runner.run_experiment", record)
    for arguments in ([], ["--recipe", "paper"], ["--budget", "short"], ["--budget", "full"]):
        assert CliRunner().invoke(reproduce, ["table1", *arguments, "--data", str(tmp_path)]).exit_code == 0
    assert [plan.recipe for plan in plans] == ["default", "paper", "default", "paper"]
    assert "--budget" not in CliRunner().invoke(reproduce, ["--help"]).output


def test_the_committed_page_is_that_of_the_committed_results(tmp_path: Path) -> None:
    docs = Path(__file__).parents[3] / "docs"
    write_page(tmp_path / "RESULTS.md", load_results(docs / "results.json"))
    assert (tmp_path / "RESULTS.md").read_text() == (docs / "RESULTS.md").read_text()


def test_the_page_has_every_experiment_even_one_that_was_not_run(tmp_path: Path) -> None:
    write_page(tmp_path / "RESULTS.md", [result(0, 0.6)])
    text = (tmp_path / "RESULTS.md").read_text()
    for described in EXPERIMENTS.values():
        assert f"## {described.title}" in text
    assert "`partedvae reproduce table2 --recipe default --seeds 0`" in text
    assert "Not run yet: `partedvae reproduce table1`." in text


def test_every_variant_has_a_valid_configuration(tmp_path: Path) -> None:
    reference, ablation = EXPERIMENTS["bc-ablation"].variants[1:]
    assert ablation.settings == ("objective.gamma_bc=0", *reference.settings)
    config = ablation.configure(3, "paper", tmp_path, tmp_path)
    assert (config.recipe, config.labels, config.seed, config.objective.gamma_bc) == ("paper", 3686, 3, 0.0)
    vae = EXPERIMENTS["table1"].variants[0].configure(0, "default", tmp_path, tmp_path)
    assert (vae.method, vae.labels, vae.model.z_dim, vae.model.factors) == ("vae", 0, 6, ())
    for described in EXPERIMENTS.values():
        for variant in described.variants:
            for recipe in ("default", "paper"):
                if variant.method in ("partedvae", "classifier") or recipe == "default":
                    variant.configure(0, recipe, tmp_path, tmp_path)


def test_without_labels_the_rate_is_the_papers(tmp_path: Path) -> None:
    """At 1e-3, training on dSprites collapses."""
    for variant in EXPERIMENTS["table1"].variants:
        assert variant.configure(0, "default", tmp_path, tmp_path).optimiser.learning_rate == 5e-4
    assert EXPERIMENTS["table2"].variants[0].configure(0, "default", tmp_path, tmp_path).optimiser.learning_rate == 1e-3


@pytest.mark.slow
def test_an_experiment_is_trained_evaluated_and_stored_once(
    tmp_path: Path, mnist: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "TRAIN_IMAGES", 3_000)
    monkeypatch.setattr(oracle, "PRESENTED", 3_000)
    monkeypatch.setattr(probes, "UPDATES", 100)
    monkeypatch.setattr(generation, "DRAWN_PER_CLASS", 50)
    few = dataclasses.replace(mnist, test=mnist.test.first(1_000))
    for module in ("engine.run", "runs.data"):
        monkeypatch.setattr(f"partedvae.training.{module}.load_dataset", lambda *_: few)
    # A data folder of its own, where the oracle is stored that was trained for seconds.
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    variants = (
        Variant(name="PartedVAE", dataset="mnist", labels=64, settings=SMALL, paper={"accuracy digit": "0.95"}),
        Variant(name="labels alone", dataset="mnist", labels=64, method="classifier", settings=SMALL),
    )
    described = Experiment(title="A small one", variants=variants, measure=accuracies)
    plan = Plan(
        recipe="default",
        seeds=(0,),
        data_dir=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        results_file=tmp_path / "docs" / "results.json",
        device="cpu",
    )
    first = run_experiment("mnist-classifier", described, plan)
    assert "| PartedVAE | 0.95 | 64 | 0 |" in first
    stored = load_results(plan.results_file)
    assert [r.variant for r in stored] == ["PartedVAE", "labels alone"]
    assert set(stored[0].measures) == {"accuracy digit"}
    assert stored[0].device == "cpu"
    assert stored[0].separation["accuracy/digit"] == stored[0].measures["accuracy digit"]
    assert 0 <= stored[0].separation["probe_u_mlp/digit"] <= 1
    assert 0 <= stored[0].separation["generation/digit"] <= 1
    assert list(stored[1].separation) == ["accuracy/digit"]  # the classifier has no u
    assert (tmp_path / "runs" / "mnist-classifier" / "default" / "labels-alone-0" / "summary.json").exists()
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("checkpoint.pt"))]
    assert run_experiment("mnist-classifier", described, plan) == first
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("checkpoint.pt"))] == before
    # A variant of another experiment with the same configuration is not trained again.
    shared = Experiment(
        title="Another", variants=(dataclasses.replace(variants[0], name="shared"),), measure=accuracies
    )
    assert "| shared | 0.95 | 64 | 0 |" in run_experiment("figures", shared, plan)
    assert not (tmp_path / "runs" / "figures").exists()
    assert load_results(plan.results_file)[2].measures == {"accuracy digit": stored[0].measures["accuracy digit"]}
    # A changed recipe is trained in a new directory, and its result replaces the old one.
    settings = (*SMALL, "objective.gamma_bc=7")
    changed = dataclasses.replace(
        described, variants=(dataclasses.replace(variants[0], settings=settings), variants[1])
    )
    run_experiment("mnist-classifier", changed, plan)
    again = load_results(plan.results_file)
    weights = [(r.variant, r.config["objective"]["gamma_bc"]) for r in again]
    assert weights == [("labels alone", 30.0), ("shared", 30.0), ("PartedVAE", 7.0)]
    runs = sorted(path.name for path in (tmp_path / "runs" / "mnist-classifier" / "default").iterdir())
    assert runs == ["labels-alone-0", "partedvae-0", "partedvae-0-2"]


def test_suggested_images_are_those_of_the_command_suggest(
    tmp_path: Path, mnist: ImageDataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        assert "PARTEDVAE_SERVER" not in env
        output = Path(command[command.index("--output") + 1])
        output.parent.mkdir(parents=True)
        output.write_text("5\n3\n8\n")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("PARTEDVAE_SERVER", "elsewhere:50051")
    monkeypatch.setattr(subprocess, "run", run)
    trained: list[TrainConfig] = []
    monkeypatch.setattr(runner, "train_run", lambda config, *_, **__: trained.append(config))
    monkeypatch.setattr(
        runner, "_evaluate", lambda *_: dataclasses.replace(result(4, 0.5), config=trained[0].to_dict())
    )
    variant = Variant(name="3 labels", dataset="mnist", labels=3, settings=SMALL, is_suggested=True)
    described = Experiment(title="A small one", variants=(variant,), measure=accuracies)
    plan = Plan(
        recipe="default",
        seeds=(4,),
        data_dir=data_dir,
        runs_dir=tmp_path / "runs",
        results_file=tmp_path / "results.json",
        device="cpu",
    )
    run_experiment("table2", described, plan)
    assert commands[0][3:8] == ["suggest", "mnist", "--count", "3", "--seed"]
    (listed,) = (tmp_path / "runs/suggest").glob("*/3-labels-4.txt")
    assert trained[0].labelled == f"file:{listed}"
    # A run of the same list in another folder is the same, and one of another list is not.
    moved = dataclasses.replace(trained[0], labelled=f"file:elsewhere/{listed.parent.name}/3-labels-4.txt")
    other = dataclasses.replace(trained[0], labelled="file:elsewhere/01234567/3-labels-4.txt")
    assert (is_same(trained[0], moved), is_same(trained[0], other)) == (True, False)


def test_the_help_names_every_experiment() -> None:
    text = " ".join(CliRunner().invoke(reproduce, ["--help"]).output.split())
    assert [name for name in EXPERIMENTS if name not in text] == []


def test_the_figures_compare_faces_with_and_without_bc() -> None:
    """Figures 8 and 10; nothing but the term differs."""
    variants = EXPERIMENTS["figures"].variants
    other = next(variant for variant in variants if variant.without_bc_of)
    reference = EXPERIMENTS["figures"].variant(other.without_bc_of)
    assert (reference.dataset, reference.labels) == (other.dataset, other.labels) == ("faces", 500)
    assert other.settings == ("objective.gamma_bc=0", *reference.settings)
    assert variants.index(reference) < variants.index(other)


@pytest.mark.exhaustive
def test_the_run_without_bc_is_drawn_beside_the_other(
    tmp_path: Path, mnist: ImageDataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, tuple[str, ...], str]] = []

    def record(
        run_dir: Path, output: Path, data_dir: Path, *, only: tuple[str, ...] = (), without_bc: Path | None = None
    ) -> list[Path]:
        drawn.append((run_dir.name, only, without_bc.name if without_bc else ""))
        return [output / "a.png"]

    monkeypatch.setattr("partedvae.training.figures.registry.draw_run", record)
    with_bc = Variant(name="typical", dataset="mnist", labels=64, settings=SMALL)
    without = dataclasses.replace(
        with_bc, name="without BC", settings=(*SMALL, "objective.gamma_bc=0"), without_bc_of="typical"
    )
    described = Experiment(title="Two", variants=(with_bc, without), measure=accuracies, figures=True)
    plan = Plan(
        recipe="default",
        seeds=(0,),
        data_dir=data_dir,
        runs_dir=tmp_path / "runs",
        results_file=tmp_path / "docs" / "results.json",
        device="cpu",
    )
    run_experiment("figures", described, plan)
    comparison = ("typical-0", ("bc_factors", "bc_prior_density"), "without-bc-0")
    assert drawn == [("typical-0", (), ""), ("without-bc-0", (), ""), comparison]


def test_a_file_that_holds_no_results_is_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('[{"a": 1}]')
    with pytest.raises(ValueError, match=r"other.json is not a results file of 'partedvae reproduce'"):
        load_results(path)
    done = CliRunner().invoke(reproduce, ["table1", "--results", str(path), "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert "choose another --results" in done.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["tabel1"], "no experiment is called 'tabel1'; did you mean 'table1'?", 1),
        (["table1", "--seeds", "a,b"], "'a,b' is not a comma-separated list of whole numbers", 2),
        (["table1", "--recipe", "huge"], "'huge' is not one of 'default', 'paper'", 2),
    ],
)
def test_reproduce_rejects_unknown_names_and_values(arguments: list[str], message: str, code: int) -> None:
    done = CliRunner().invoke(reproduce, arguments)
    assert done.exit_code == code
    assert message in done.output
    with pytest.raises(ValueError, match="no experiment is called"):
        experiment("table9")
