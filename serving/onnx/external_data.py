"""Refuses graphs with external data: their weights are in other files, for which a manifest has no checksum.

Only the parts of ONNX's messages that can have tensors are declared here, under names of their own, so that neither the
package onnx nor its registered messages are needed.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

PACKAGE = "partedvae.onnx"
EXTERNAL = 1
"""TensorProto.DataLocation.EXTERNAL."""
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {"graph": (7, "Graph"), "functions": (25, "Function")},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "sparse_initializer": (15, "SparseTensor")},
    "Function": {"node": (7, "Node"), "attribute_proto": (11, "Attribute")},
    "Node": {"attribute": (5, "Attribute")},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse_tensor": (22, "SparseTensor"),
        "sparse_tensors": (23, "SparseTensor"),
    },
    "SparseTensor": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Tensor": {"name": (8, ""), "data_location": (14, "")},
}
"""Number and type of the fields of onnx.proto by message; all messages are repeated, which parses single ones too."""


def external_tensor(graph: bytes) -> str | None:
    """Return the name of a tensor whose data is outside the graph, in any subgraph or function; None if there is none.

    A graph that is not a message has none: ONNX Runtime reports what is wrong with it.
    """
    try:
        model = _model_class().FromString(graph)
    except DecodeError:
        return None
    pending = [model]
    while pending:
        message = cast("Any", pending.pop())
        if message.DESCRIPTOR.name == "Tensor":
            if message.data_location == EXTERNAL:
                return str(message.name, "utf-8", "replace")
            continue
        pending.extend(part for field, parts in message.ListFields() for part in parts)
    return None


@cache
def _model_class() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(name="partedvae/onnx.proto", package=PACKAGE, syntax="proto2")
    field_type = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, (number, of) in fields.items():
            field = message.field.add(name=name, number=number)
            if of:
                field.label, field.type = field_type.LABEL_REPEATED, field_type.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{of}"
            else:
                field.label = field_type.LABEL_OPTIONAL
                field.type = field_type.TYPE_BYTES if name == "name" else field_type.TYPE_INT32
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Model"))
