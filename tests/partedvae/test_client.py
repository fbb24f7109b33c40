import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import AsyncClient, Features
from partedvae.serving.operations.features import classify, features
from partedvae.serving.operations.latents import reconstruct
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.serving.operations.sampling import generate
from partedvae.serving.repository.loading import load_model
from tests.bundles import COLOURED, GREY
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess

ALL = ("probs", "u_mean", "u_logvar", "z_mean", "z_logvar")


@pytest.fixture(scope="module")
def model(tiny_models: Path) -> DirectModel:
    """Return the model that `server` serves, in this process."""
    return DirectModel(load_model(tiny_models / "tiny", device="cpu"))


def assert_same(served: Features, local: Features) -> None:
    assert (served.model, served.version) == (local.model, local.version)
    assert [factor.name for factor in served] == [factor.name for factor in local]
    for ours, theirs in zip([*served, served], [*local, local], strict=True):
        for name in ("probs", "u_mean", "u_logvar") if ours is not served else ("z", "z_logvar"):
            a, b = getattr(ours, name), getattr(theirs, name)
            if b is None:
                assert a is None
            else:
                assert a.dtype == np.float32
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_features_are_those_of_inference_in_process(call: Call, server: ServerProcess, model: DirectModel) -> None:
    """Every output of the client equals that of inference in this process."""
    images = GREY.random_images(7)

    assert_same(call(server.address, "features", images, include=ALL), run_sync(features(model, images, ALL)))


def test_the_class_related_part_is_the_default(call: Call, server: ServerProcess, model: DirectModel) -> None:
    """Without `include` the result has u and the probabilities, and no z."""
    images = GREY.random_images(3)
    served = call(server.address, "features", images)

    assert_same(served, run_sync(features(model, images)))
    assert served.u.shape == (3, 3)
    assert served.z is None
    assert served.u.flags.writeable


def test_a_large_call_is_split_and_keeps_its_order(call: Call, server: ServerProcess, model: DirectModel) -> None:
    """6,000 images are sent in six messages, four at a time; the results are in order."""
    images = GREY.random_images(6000)

    assert_same(call(server.address, "features", images), run_sync(features(model, images)))


def test_every_kind_of_input_gives_the_same(call: Call, server: ServerProcess, tmp_path: Path) -> None:
    """An array, paths, bytes and Pillow images of the same pixels have the same features."""
    images = GREY.random_images(4)[..., 0]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    expected = call(server.address, "features", images)

    for same in (
        images[..., np.newaxis],
        list(images),
        paths,
        [str(path) for path in paths],
        [path.read_bytes() for path in paths],
        [Image.fromarray(pixels) for pixels in images],
        [paths[0], images[1], paths[2].read_bytes(), Image.fromarray(images[3])],
        iter(paths),
    ):
        assert_same(call(server.address, "features", same), expected)


def test_classify_returns_probabilities_only(call: Call, server: ServerProcess, model: DirectModel) -> None:
    """The classes equal those of inference; features raise an error, since they were not requested."""
    images = GREY.random_images(50)
    result = call(server.address, "classify", images)

    assert_same(result, run_sync(classify(model, images)))
    assert result.classes.tolist() == run_sync(classify(model, images)).classes.tolist()
    with pytest.raises(ValueError, match="u_mean was not requested"):
        _ = result.u


def test_generate_is_seeded(call: Call, server: ServerProcess, model: DirectModel) -> None:
    """The images and classes of a seed equal those of inference."""
    drawn = call(server.address, "generate", 20, seed=7)
    local = run_sync(generate(model, 20, {}, 7))

    np.testing.assert_array_equal(drawn.images, local.images)
    assert drawn.images.shape == (20, 8, 6, 1)
    assert drawn.classes["digit"].tolist() == local.classes["digit"].tolist()
    assert (drawn.seed, drawn.model, drawn.version) == (7, "tiny", 1)


def test_generate_without_a_seed_reports_the_seed(call: Call, server: ServerProcess) -> None:
    """The seed that the server drew gives the same images again."""
    first = call(server.address, "generate", 3)
    again = call(server.address, "generate", 3, seed=first.seed)

    np.testing.assert_array_equal(first.images, again.images)


@pytest.mark.parametrize("classes", ["7", "digit=7", {"digit": "7"}])
def test_generate_takes_a_class(call: Call, server: ServerProcess, classes: Any) -> None:
    """A class is named alone, with its factor, or in a mapping."""
    drawn = call(server.address, "generate", 3, classes=classes, seed=1)

    assert drawn.classes["digit"].tolist() == ["7", "7", "7"]


def test_reconstruct_returns_images_of_the_models_size(call: Call, server: ServerProcess, model: DirectModel) -> None:
    """Reconstructions equal those of inference, also over several messages."""
    images = GREY.random_images(1500)

    np.testing.assert_array_equal(call(server.address, "reconstruct", images), run_sync(reconstruct(model, images)))


def test_models_and_their_details(call: Call, two_model_server: ServerProcess) -> None:
    """All versions are listed; the details have the manifest."""
    models = call(two_model_server.address, "models")
    details = call(two_model_server.address, "model_info", "shapes")

    assert [(m.name, m.version, m.ready, m.is_default) for m in models] == [
        ("shapes", 1, True, True),
        ("tiny", 1, True, False),
        ("tiny", 2, True, True),
    ]
    assert [factor.name for factor in details.manifest.factors] == ["shape", "colour"]
    assert (details.name, details.version, details.execution_provider) == ("shapes", 1, "CPUExecutionProvider")


def test_a_client_uses_its_model_and_version(call: Call, two_model_server: ServerProcess) -> None:
    """`model` and `version` select the model; features of two factors are accessed by name."""
    settings = {"model": "shapes", "version": 1}
    served = call(two_model_server.address, "features", COLOURED.random_images(5), settings=settings)

    assert (served.model, served.version) == ("shapes", 1)
    assert served["colour"].u_mean.shape == (5, 1)
    assert served.u.shape == (5, 3)
    with pytest.raises(ValueError, match=re.escape("the model has 2 factors: use features[name].classes")):
        _ = served.classes


def test_large_replies_arrive(call: Call, two_model_server: ServerProcess) -> None:
    """A response may be larger than gRPC's default limit of 4 MiB for received messages."""
    settings = {"model": "shapes"}
    images = call(two_model_server.address, "generate", 100, settings=settings).images

    assert images.shape == (100, 10, 12, 3)


async def test_many_async_calls_share_a_client(server: ServerProcess, model: DirectModel) -> None:
    """Concurrent calls get their own responses."""
    batches = [GREY.random_images(5, seed=seed) for seed in range(50)]
    async with AsyncClient(server.address) as client:
        results = await asyncio.gather(*(client.features(batch) for batch in batches))

    for batch, served in zip(batches, results, strict=True):
        assert_same(served, await features(model, batch))


async def test_a_cancelled_async_call_ends(server: ServerProcess) -> None:
    """Cancelling a large call stops it; the client stays usable."""
    async with AsyncClient(server.address) as client:
        task = asyncio.create_task(client.features(GREY.random_images(50_000)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        served = await client.features(GREY.random_images(2))

    assert served.u.shape == (2, 3)
