"""Large requests that the server refuses: whatever it refuses, it must forget at once."""

from __future__ import annotations

import itertools

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.messages import classify, field, files, nearly_full, pixels, selector
from benchmarks.attack.target import OPEN_INFERENCE, SERVICE, Target
from partedvae.oip import inference_pb2 as oip
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import Images, PackedImages


def wrong_shape(target: Target) -> bytes:
    """Return a request of Classify whose pixels do not match their shape."""
    data = nearly_full(target, b"\x7f")
    return classify(target, Images(packed=PackedImages(data=data, shape=(1, 3, 3))))


def refused(target: Target) -> list[tuple[str, bytes]]:
    """Return paths and requests of nearly the limit of a message, each refused for another reason."""
    large = nearly_full(target, b"\x7f")
    noise = nearly_full(target, bytes(range(1, 256)))
    unknown_model = pb.ClassifyRequest(model=pb.ModelSelector(name="nobody"), images=files(large))
    wrong_include = pb.ExtractFeaturesRequest(
        model=selector(target), images=files(large), include=[pb.FEATURE_OUTPUT_UNSPECIFIED]
    )
    unknown_field = classify(target, pixels(target))[:-1] + field(1000, large)
    # The last element is longer than its tensor says.
    infer = oip.ModelInferRequest(model_name=f"{target.model}.encoder", raw_input_contents=[large])
    infer.inputs.add(name="images", datatype="BYTES", shape=[1])
    wrong_tensor = oip.ModelInferRequest(model_name=f"{target.model}.decoder", raw_input_contents=[large, large[:0]])
    wrong_tensor.inputs.add(name="u", datatype="FP32", shape=[1, 1])
    wrong_tensor.inputs.add(name="z", datatype="FP32", shape=[1, 1])
    return [
        (SERVICE + "Classify", wrong_shape(target)),
        (SERVICE + "Classify", unknown_model.SerializeToString()),
        (SERVICE + "Reconstruct", classify(target, files(noise))),
        (SERVICE + "ExtractFeatures", wrong_include.SerializeToString()),
        (SERVICE + "Classify", unknown_field),
        (SERVICE + "Classify", noise),
        (OPEN_INFERENCE + "ModelInfer", infer.SerializeToString()),
        (OPEN_INFERENCE + "ModelInfer", wrong_tensor.SerializeToString()),
    ]


@attack("requests of 60 MB with a wrong shape, one after the other", options="default", before="4,483 MB")
async def refused_large(run: AttackRun) -> None:
    """Send one kind of refused request again and again."""
    message = wrong_shape(run.target)
    async with run.channel() as channel:
        while True:
            await run.call(channel, SERVICE + "Classify", message)


@attack("requests of 8 MiB, refused for eight reasons, one after the other", before="2,275 MB")
async def refused_kinds(run: AttackRun) -> None:
    """Send all kinds of refused requests in turn."""
    requests = refused(run.target)
    async with run.channel() as channel:
        for path, message in itertools.cycle(requests):
            await run.call(channel, path, message)


@attack("requests of 8 MiB, refused for eight reasons, 32 at a time from 8 connections")
async def refused_at_once(run: AttackRun) -> None:
    """Send all kinds of refused requests from several connections at once."""
    requests = itertools.cycle(refused(run.target))

    async def client() -> None:
        async with run.channel() as channel:

            async def call() -> None:
                path, message = next(requests)
                await run.call(channel, path, message)

            await run.repeat(4, call)

    await run.repeat(8, client)
