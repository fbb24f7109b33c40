"""All methods of a server, from the descriptors of its services, and valid requests of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.attack.image_files import png
from benchmarks.attack.messages import files, latents, pixels, selector
from benchmarks.attack.target import Target
from partedvae.oip import inference_pb2 as oip
from partedvae.v1 import service_pb2 as pb

FILES: tuple[FileDescriptor, ...] = (
    pb.DESCRIPTOR,
    oip.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of a service."""

    path: str
    """"/package.Service/Method"."""
    request: type[Message]
    sends_stream: bool
    """Whether its requests are a stream."""
    is_endless: bool
    """Whether its replies go on until the client leaves."""


def methods() -> tuple[Method, ...]:
    """Return all methods of both services, of health and of reflection."""
    return tuple(
        Method(
            path=f"/{service.full_name}/{method.name}",
            request=GetMessageClass(method.input_type),
            sends_stream=method.client_streaming,
            is_endless=method.server_streaming and not method.client_streaming,
        )
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    )


def seeds(target: Target) -> Mapping[str, tuple[Message, ...]]:
    """Return valid requests by the path of their method; methods without an entry take an empty message."""
    model, image, factor = selector(target), pixels(target, 2), target.factor
    picture = files(png(8, 8))
    u, z = latents(target, 2)
    encoder = oip.ModelInferRequest(model_name=f"{target.model}.encoder", id="fuzz")
    encoder.inputs.add(name="images", datatype="UINT8", shape=(1, *target.image_shape))
    encoder.raw_input_contents.append(bytes(target.image_bytes))
    typed = oip.ModelInferRequest(model_name=f"{target.model}.encoder")
    contents = typed.inputs.add(name="images", datatype="UINT8", shape=(1, *target.image_shape)).contents
    contents.uint_contents.extend([7] * target.image_bytes)
    in_files = oip.ModelInferRequest(model_name=f"{target.model}.encoder")
    in_files.inputs.add(name="images", datatype="BYTES", shape=[1]).contents.bytes_contents.append(png(8, 8))
    reflection = reflection_pb2.ServerReflectionRequest
    by_name: dict[str, tuple[Message, ...]] = {
        "GetModel": (pb.GetModelRequest(model=model),),
        "ExtractFeatures": (
            pb.ExtractFeaturesRequest(
                model=model, images=image, include=[pb.FEATURE_OUTPUT_PROBS, pb.FEATURE_OUTPUT_NEGATIVE_ELBO]
            ),
            pb.ExtractFeaturesRequest(model=model, images=picture),
        ),
        "StreamFeatures": (
            pb.StreamFeaturesRequest(model=model, images=image),
            pb.StreamFeaturesRequest(model=model, images=picture),
        ),
        "Classify": (pb.ClassifyRequest(model=model, images=image), pb.ClassifyRequest(model=model, images=picture)),
        "Generate": (
            pb.GenerateRequest(model=model, count=3, classes={factor: "1"}, seed=5, format=pb.IMAGE_FORMAT_PNG),
        ),
        "Reconstruct": (pb.ReconstructRequest(model=model, images=image),),
        "Decode": (pb.DecodeRequest(model=model, u=u, z=z, format=pb.IMAGE_FORMAT_PNG),),
        "Traverse": (
            pb.TraverseRequest(model=model, images=pixels(target), classes_of=factor),
            pb.TraverseRequest(model=model, prior=pb.PriorDraw(count=1, seed=3), z=pb.ZDimensions(), steps=3, reach=2),
            pb.TraverseRequest(model=model, images=pixels(target), u=pb.UDimensions(factor=factor, dimensions=[0])),
        ),
        "TransferAttributes": (
            pb.TransferAttributesRequest(model=model, z_images=image, u_images=image, factors=[factor]),
            pb.TransferAttributesRequest(
                z_images=image, u_classes=pb.ClassChoices(items=[pb.ClassChoice(classes={factor: "1"})])
            ),
            pb.TransferAttributesRequest(content=image, style_images=image),
        ),
        "ModelReady": (oip.ModelReadyRequest(name=f"{target.model}.encoder", version="1"),),
        "ModelMetadata": (oip.ModelMetadataRequest(name=f"{target.model}.decoder"),),
        "ModelInfer": (encoder, typed, in_files),
        "RepositoryIndex": (oip.RepositoryIndexRequest(ready=True),),
        "Check": (health_pb2.HealthCheckRequest(service="partedvae.v1.PartedVAEService"),),
        "Watch": (health_pb2.HealthCheckRequest(service=""),),
        "ServerReflectionInfo": (
            reflection(list_services=""),
            reflection(file_containing_symbol="partedvae.v1.PartedVAEService"),
            reflection(file_by_filename="partedvae/v1/service.proto"),
        ),
    }
    return {method.path: by_name.get(method.path.rpartition("/")[2], (method.request(),)) for method in methods()}
