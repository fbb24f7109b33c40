"""Exports of real runs: the graphs reproduce PyTorch, and a failed export writes no bundle."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence

import partedvae.export.exporter
from partedvae.export.cli import export as export_command
from partedvae.export.errors import ExportError
from partedvae.export.exporter import export_run
from partedvae.export.familiarity import familiar_scores
from partedvae.export.graphs import ScorerGraph, write_decoder, write_encoder, write_scorer
from partedvae.export.parity import BATCH_SIZES, check_parity
from partedvae.serving.bundle import (
    DECODER_FILE,
    ENCODER_FILE,
    SCORER_FILE,
    SCORER_OUTPUTS,
    Bundle,
    encoder_outputs,
    load_bundle,
)
from partedvae.serving.onnx_runtime import ort
from partedvae.training.config.architecture import FactorConfig
from partedvae.training.config.recipes import recipe
from partedvae.training.config.train_config import MethodName, TrainConfig
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.data.mnist import INFO
from partedvae.training.data.registry import entry
from partedvae.training.evaluation.evaluation import posteriors
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.directory import RunDirectory
from tests.export.graphs import copy_graphs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(small_run: Path, tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> tuple[Bundle, Result]:
    """Return the small run's bundle, and what the command printed; tests must not modify it."""
    folder = tmp_path_factory.mktemp("models") / "mnist"
    result = CliRunner().invoke(export_command, [str(small_run), str(folder), "--data", str(data_dir)])
    assert result.exit_code == 0, result.output
    return load_bundle(folder / "1"), result


@pytest.fixture(scope="module")
def bundle(exported: tuple[Bundle, Result]) -> Bundle:
    """Return the small run's bundle."""
    return exported[0]


def test_the_manifest_describes_the_trained_model(bundle: Bundle, small_run: Path) -> None:
    manifest = bundle.manifest
    assert (bundle.name, bundle.version) == ("mnist", 1)
    assert (manifest.image.height, manifest.image.width, manifest.image.channels) == (28, 28, 1)
    assert (manifest.training.dataset, manifest.training.recipe, manifest.training.labels_used) == (
        "mnist",
        "default",
        256,
    )
    assert manifest.training.epochs == 1
    assert (
        manifest.scores["accuracy/digit"] == json.loads((small_run / "summary.json").read_text())["accuracy"]["digit"]
    )
    (factor,) = manifest.factors
    assert list(factor.class_names) == list("0123456789")
    model, _ = RunDirectory(small_run).load_model(torch.device("cpu"))
    modes = next(model.class_factors()).prior_modes()
    np.testing.assert_allclose(factor.prior_means, modes.mean.detach().flatten(), rtol=1e-6)
    np.testing.assert_allclose(factor.prior_logvars, modes.logvar.detach().flatten(), rtol=1e-6)
    assert manifest.parity_max_difference < 1e-4


def test_the_manifest_has_the_range_of_the_negative_elbo(bundle: Bundle, mnist: ImageDataset) -> None:
    """Twice as far above the median as the 99.9 % quantile, by the scores of the exported graph."""
    assert bundle.scorer_path is not None
    scorer = ort.InferenceSession(str(bundle.scorer_path), providers=["CPUExecutionProvider"])
    images = mnist.test.images[torch.arange(2000)].numpy()
    (scores,) = scorer.run(["negative_elbo"], {"images": images})
    limit = bundle.manifest.familiar_negative_elbo

    assert limit == pytest.approx(2 * np.quantile(scores, 0.999) - np.median(scores), rel=0.01)
    assert (scores <= limit).mean() > 0.999
    percentiles = np.percentile(scores, np.arange(0, 101, 5))
    np.testing.assert_allclose(bundle.manifest.negative_elbo_percentiles, percentiles, rtol=1e-3)


def test_similar_scores_have_a_least_spread(small_run: Path) -> None:
    """Of one image, the range ends a tenth above its score."""
    run = RunDirectory(small_run)
    model, _ = run.load_model(torch.device("cpu"))
    config, image = run.load_config(), torch.zeros(1, 28, 28, 1, dtype=torch.uint8)
    with torch.no_grad():
        score = ScorerGraph(model, config).eval()(image)[-1].item()

    found = familiar_scores(model, config, image.repeat(9, 1, 1, 1))
    assert found is not None
    assert found.limit == pytest.approx(1.1 * score, rel=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("summary", "printed", "measures"),
    [
        (
            {"epochs": 1, "measures": {"generation/digit": 0.75}, "warnings": ["drawn images are poor"]},
            "warning: drawn images are poor\n",
            {"generation/digit": 0.75},
        ),
        ({"epochs": 9, "measures": {"generation/digit": 0.75}}, "whether u and not z has the class was not", {}),
    ],
    ids=["measured", "of another checkpoint"],
)
def test_the_manifest_keeps_the_measures_and_warnings_of_the_summary(
    small_run: Path,
    bundle: Bundle,
    tmp_path: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    summary: dict[str, object],
    printed: str,
    measures: dict[str, float],
) -> None:
    copy_graphs(monkeypatch, bundle)
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    (run / "summary.json").write_text(json.dumps(summary))
    result = CliRunner().invoke(export_command, [str(run), str(tmp_path / "mnist"), "--data", str(data_dir)])
    assert result.exit_code == 0, result.output
    assert printed in result.stderr
    manifest = load_bundle(tmp_path / "mnist" / "1").manifest
    assert dict(manifest.measures) == measures
    if measures:
        assert list(manifest.warnings) == ["drawn images are poor"]


def test_the_graphs_are_single_files_with_a_dynamic_batch_and_uint8_images(bundle: Bundle) -> None:
    assert sorted(path.name for path in bundle.folder.iterdir()) == [
        "decoder.onnx",
        "encoder.onnx",
        "manifest.json",
        "scorer.onnx",
    ]
    assert [file.name for file in bundle.manifest.files] == ["encoder.onnx", "decoder.onnx", "scorer.onnx"]
    encoder = ort.InferenceSession(str(bundle.encoder_path), providers=["CPUExecutionProvider"])
    decoder = ort.InferenceSession(str(bundle.decoder_path), providers=["CPUExecutionProvider"])
    (images,) = encoder.get_inputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [28, 28, 1])
    assert [output.name for output in encoder.get_outputs()] == encoder_outputs(["digit"])
    assert [(i.name, i.shape[1]) for i in decoder.get_inputs()] == [("u", 10), ("z", 6)]
    assert decoder.get_outputs()[0].type == "tensor(uint8)"
    assert bundle.scorer_path is not None
    scorer = ort.InferenceSession(str(bundle.scorer_path), providers=["CPUExecutionProvider"])
    assert [output.name for output in scorer.get_outputs()] == list(SCORER_OUTPUTS)
    for path in (bundle.encoder_path, bundle.decoder_path, bundle.scorer_path):
        assert [(o.domain, o.version) for o in onnx.load(str(path)).opset_import] == [("", bundle.manifest.opset)]


def test_what_depends_on_no_image_is_computed_at_export(bundle: Bundle) -> None:
    """Pixels are not divided, grey images are not transposed, and the attention is looked up."""
    encoder = [node.op_type for node in onnx.load(str(bundle.encoder_path)).graph.node]
    assert {"Div", "Transpose", "Equal", "Sigmoid"}.isdisjoint(encoder)
    assert (encoder.count("Gemm"), encoder.count("Gather")) == (4, 1)  # h and the heads of c, u and z
    decoder = [node.op_type for node in onnx.load(str(bundle.decoder_path)).graph.node]
    assert decoder[-5:] == ["Mul", "Add", "Clip", "Cast", "Transpose"]


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_onnx_runtime_computes_the_features_of_pytorch_on_real_images(
    bundle: Bundle, small_run: Path, mnist: ImageDataset, batch: int
) -> None:
    run = RunDirectory(small_run)
    model, _ = run.load_model(torch.device("cpu"))
    images = mnist.test.images[torch.arange(batch)]
    ((_, posterior),) = posteriors(model, images, run.load_config())
    encoder = ort.InferenceSession(str(bundle.encoder_path), providers=["CPUExecutionProvider"])
    probs, u_mean, u_logvar, z_mean, z_logvar = encoder.run(None, {"images": images.numpy()})
    (factor,) = posterior.factors
    np.testing.assert_allclose(probs, factor.probs, atol=1e-4)
    np.testing.assert_allclose(u_mean, factor.u.mean, atol=1e-4)
    np.testing.assert_allclose(u_logvar, factor.u.logvar, atol=1e-4)
    np.testing.assert_allclose(z_mean, posterior.z.mean, atol=1e-4)
    np.testing.assert_allclose(z_logvar, posterior.z.logvar, atol=1e-4)


def test_onnx_runtime_computes_the_negative_elbo_of_equation_2(
    bundle: Bundle, small_run: Path, mnist: ImageDataset
) -> None:
    """-log p(x | u, z) + E KL(u) + KL(c) + KL(z), computed class by class on real images."""
    run = RunDirectory(small_run)
    model, _ = run.load_model(torch.device("cpu"))
    config = run.load_config()
    images = mnist.test.images[torch.arange(20)]
    ((pixels, posterior),) = posteriors(model, images, config)
    (factor,), (module,) = posterior.factors, model.class_factors()
    modes = module.prior_modes()
    with torch.no_grad():
        x = model.decoder(factor.u.mean, posterior.z.mean).double()
        bce = -(pixels * x.log() + (1 - pixels) * (1 - x).log()).sum(dim=(1, 2, 3))
        kl_u = torch.zeros(20)
        for i in range(10):
            one_hot = torch.eye(10)[i].expand(20, 10)
            q = module.u_posterior(posterior.hidden, one_hot, config.schedule.attention_slope)
            kl = kl_divergence(_normal(q), _normal(Gaussian(modes.mean[i], modes.logvar[i]))).sum(dim=1)
            kl_u += factor.probs[:, i] * kl
        kl_c = kl_divergence(Categorical(logits=factor.logits), Categorical(probs=module.prior_probs))
        kl_z = kl_divergence(_normal(posterior.z), Normal(0.0, 1.0)).sum(dim=1)
    scorer = ort.InferenceSession(str(bundle.scorer_path), providers=["CPUExecutionProvider"])
    expected = (bce, kl_z, kl_u, kl_c, bce + kl_z + kl_u + kl_c)
    for name, ours, theirs in zip(SCORER_OUTPUTS, scorer.run(None, {"images": images.numpy()}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=name)


def _normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, torch.exp(0.5 * gaussian.logvar))


@pytest.mark.exhaustive
def test_a_second_export_is_the_next_version(
    exported: tuple[Bundle, Result], small_run: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, printed = exported
    copy_graphs(monkeypatch, first)
    model_folder = tmp_path / "models" / "mnist"
    shutil.copytree(first.folder.parent, model_folder)
    result = CliRunner().invoke(export_command, [str(small_run), str(model_folder), "--data", str(data_dir)])
    assert result.exit_code == 0, result.output
    for version, output in ((first.folder, printed), (model_folder / "2", result)):
        assert f"{version}: accuracy/digit" in output.output
        assert f"next: partedvae serve {version.parents[1]}" in output.output
        assert "warning: whether u and not z has the class was not measured; run 'partedvae evaluate RUN_DIR'" in (
            output.stderr
        )
    assert sorted(path.name for path in model_folder.iterdir()) == ["1", "2"]


def test_rgb_images_and_several_factors_export_with_parity(tmp_path: Path) -> None:
    """An image size that is no power of two, three channels, two factors of different sizes."""
    base = recipe(INFO, "paper")
    factors = (
        FactorConfig(name="hair", classes=("dark", "fair", "red"), prior=(0.5, 0.3, 0.2), u_dim=1),
        FactorConfig(name="hat", classes=("no", "yes"), prior=(0.9, 0.1), u_dim=2),
    )
    model_config = dataclasses.replace(base.model, image_size=(54, 44, 3), network_size=(54, 44), factors=factors)
    config = dataclasses.replace(base, model=model_config)
    model = PartedVAE(model_config).eval()
    # Logits far from zero, as in trained decoders, for which the logarithm of a sigmoid would be minus infinity.
    last = model.decoder.convolutions[-1]
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(torch.tensor([-300.0, 0.0, 300.0]))
    write_graphs(tmp_path, model, config)
    images = torch.randint(256, (64, 54, 44, 3), dtype=torch.uint8)
    assert check_parity(tmp_path, model, config, images) < 1e-4


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("dataset", "size", "factors"), [("faces", (64, 64, 3), 7), ("celeba", (218, 178, 3), 8)], ids=["faces", "celeba"]
)
def test_the_recipes_of_faces_export_with_parity(
    tmp_path: Path, dataset: str, size: tuple[int, int, int], factors: int
) -> None:
    """Untrained models on noise, with the image sizes and factors of the recipes."""
    config = recipe(entry(dataset).describe(tmp_path), "default")
    assert (config.model.image_size, len(config.model.factors)) == (size, factors)
    torch.manual_seed(0)
    model = PartedVAE(config.model).eval()
    write_graphs(tmp_path, model, config)
    encoder = ort.InferenceSession(str(tmp_path / ENCODER_FILE), providers=["CPUExecutionProvider"])
    names = [factor.name for factor in config.model.factors]
    assert [output.name for output in encoder.get_outputs()] == encoder_outputs(names)
    images = torch.randint(256, (max(BATCH_SIZES), *size), dtype=torch.uint8)
    assert check_parity(tmp_path, model, config, images) < 1e-4


def write_graphs(folder: Path, model: PartedVAE, config: TrainConfig) -> None:
    """Write all three graphs."""
    write_encoder(folder / ENCODER_FILE, model, config)
    write_decoder(folder / DECODER_FILE, model, config)
    write_scorer(folder / SCORER_FILE, model, config)


@pytest.mark.parametrize(
    "part", ["scorer", *(pytest.param(part, marks=pytest.mark.exhaustive) for part in ("encoder", "decoder"))]
)
def test_a_graph_of_other_weights_fails_parity_and_no_bundle_is_written(
    small_run: Path, bundle: Bundle, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """One graph is written from a model with slightly changed weights."""

    def write_other(path: Path, model: PartedVAE, config: object) -> None:
        moved = PartedVAE(model.config)
        moved.load_state_dict(model.state_dict())
        layer = moved.trunk.hidden if part == "encoder" else moved.decoder.hidden
        assert isinstance(layer, nn.Linear)
        with torch.no_grad():
            layer.bias.add_(0.5)
        # The stub does not repeat the type of the configuration.
        writers = {ENCODER_FILE: write_encoder, DECODER_FILE: write_decoder, SCORER_FILE: write_scorer}
        writers[path.name](path, moved, config)  # type: ignore[arg-type]  # see above

    copy_graphs(monkeypatch, bundle)
    monkeypatch.setattr(partedvae.export.exporter, f"write_{part}", write_other)
    messages = {"encoder": r"digit\.\w+ differs by", "decoder": "decoded pixels differ by", "scorer": r"\w+ differs by"}
    with pytest.raises(ExportError, match=f"parity: {messages[part]}"):
        export_run(small_run, tmp_path / "mnist", data_dir)
    assert list((tmp_path / "mnist").iterdir()) == []


def test_a_missing_run_and_a_damaged_checkpoint_are_rejected(small_run: Path, tmp_path: Path, data_dir: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(small_run, damaged)
    checkpoint = damaged / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    unfinished = tmp_path / "unfinished"
    shutil.copytree(small_run, unfinished)
    (unfinished / "checkpoint.pt").unlink()
    cases = {
        tmp_path / "none": "is not a run directory: config.json is missing",
        damaged: "checkpoint.pt is damaged",
        unfinished: "has no checkpoint yet",
    }
    for run, message in cases.items():
        arguments = [str(run), str(tmp_path / "models" / "mnist"), "--data", str(data_dir)]
        result = CliRunner().invoke(export_command, arguments)
        assert result.exit_code == 1
        assert message in result.output
        assert not (tmp_path / "models").exists()


def test_a_folder_above_or_below_that_of_the_model_is_rejected(small_run: Path, tmp_path: Path, data_dir: Path) -> None:
    """No server would find a version in it; the error names the right folder."""
    version = tmp_path / "models" / "mnist" / "1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{}")
    models = version.parents[1]
    cases = {
        (small_run, models): f"{models} holds the models mnist; pass MODELS_DIR/NAME, such as {models / 'mnist'} for",
        (small_run, version): f"{version} is one version of a model; pass the folder of the model, {models / 'mnist'},",
        (models / "mnist", small_run): "is a run; pass the run first: RUN_DIR MODELS_DIR/NAME",
        (small_run.parent, models / "new"): f"it holds the runs small; pass one of them, such as {small_run}",
    }
    for arguments, message in cases.items():
        result = CliRunner().invoke(export_command, [*map(str, arguments), "--data", str(data_dir)])
        assert result.exit_code == 1
        assert message in result.output
    assert [path.relative_to(models) for path in sorted(models.rglob("*"))] == [
        Path("mnist"),
        Path("mnist/1"),
        Path("mnist/1/manifest.json"),
    ]


@pytest.mark.exhaustive
def test_an_unfinished_run_is_exported_with_a_warning(
    exported: tuple[Bundle, Result], small_run: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command prints it, and the bundle has it; that of a finished run has not."""
    copy_graphs(monkeypatch, exported[0])
    unfinished = tmp_path / "unfinished"
    shutil.copytree(small_run, unfinished)
    config = json.loads((unfinished / "config.json").read_text())
    (unfinished / "config.json").write_text(json.dumps(config | {"epochs": 3}))
    (unfinished / "summary.json").unlink()
    command = "partedvae train --resume RUN_DIR"
    text = f"training is not finished: 1 of 3 epochs; finish it with '{command}', and export again"
    printed = CliRunner().invoke(export_command, [str(unfinished), str(tmp_path / "mnist"), "--data", str(data_dir)])
    assert printed.exit_code == 0, printed.output
    whole, printed_of_whole = exported
    bundles = ((load_bundle(tmp_path / "mnist" / "1"), printed, True), (whole, printed_of_whole, False))
    for bundle, result, expected in bundles:
        assert (f"warning: {text}\n" in result.output) == expected
        assert (text in bundle.manifest.warnings) == expected


def test_a_data_set_with_changed_classes_is_rejected(
    small_run: Path, tmp_path: Path, data_dir: Path, mnist: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    digit = dataclasses.replace(INFO.factors[0], classes=("ten", *INFO.factors[0].classes[1:]))
    changed = dataclasses.replace(mnist, info=dataclasses.replace(INFO, factors=(digit,)))
    monkeypatch.setattr("partedvae.training.runs.data.load_dataset", lambda *arguments: changed)
    result = CliRunner().invoke(export_command, [str(small_run), str(tmp_path / "mnist"), "--data", str(data_dir)])
    assert result.exit_code == 1
    assert (
        f"Error: mnist does not match the data that {small_run} was trained on: "
        "the classes of its factor 'digit' are 'ten', '1'"
    ) in result.output
    assert not (tmp_path / "mnist").exists()


@pytest.mark.parametrize("method", ["vae", "classifier"])
def test_a_method_without_class_related_features_is_not_exported(
    tmp_path: Path, data_dir: Path, mnist: ImageDataset, method: MethodName
) -> None:
    run = RunDirectory(tmp_path / method)
    run.start(recipe(INFO, "default", method), mnist, torch.zeros(0, dtype=torch.int64), "cpu")
    with pytest.raises(ExportError, match=f"was trained with method '{method}', which has no class-related features"):
        export_run(run.path, tmp_path / "models" / method, data_dir)
    assert not (tmp_path / "models").exists()
