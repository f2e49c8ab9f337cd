"""ONNX files of a model: one graph from an image's pixels to its caption, or encoder and step as two graphs.

Encoder and step are converted by PyTorch's own exporter. The transform before them and the search around them are
written here and in `search_graph.py`. A file also contains the vocabulary and the settings (`metadata`).
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from onnx.parser import parse_graph
from torch.export import ExportedProgram

from showtell.core.errors import UserError
from showtell.core.terminal import one_line
from showtell.data.transform import Transform
from showtell.generation.graphs.search_graph import body_text, constants, outer_text
from showtell.generation.graphs.torch_programs import Functions, Names, Programs
from showtell.generation.model import Model
from showtell.generation.search_params import SearchParams

OPSET = 18  # the first with antialiased resizing
IR_VERSION = 10  # of the file; runtimes of 2024 read it
LARGEST = 2**31 - 1  # bytes of one protobuf message

TRANSFORM = """
transform (uint8[height, width, 3] pixels) => (uint8[1, 3, {size}, {size}] image) {{
 {crop}
 planes = Transpose<perm=[2, 0, 1]>({cropped})
 plane_batch = Unsqueeze(planes, batch_axis)
 image = Resize<mode="{mode}", antialias=1, coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.5,
  exclude_outside=1>(plane_batch, , , image_shape)
}}
"""

CROP = """
 sides = Shape<start=0, end=2>(pixels)
 side = ReduceMin<keepdims=1>(sides, batch_axis)
 edges = Sub(sides, side)
 corner = Div(edges, two)
 far_corner = Add(corner, side)
 square = Slice(pixels, corner, far_corner, picture_axes)
"""


def transform_file(transform: Transform) -> onnx.ModelProto:
    """`pixels` uint8 (height, width, 3) -> `image` uint8 (1, 3, size, size)."""
    constants_alone = onnx.GraphProto()
    graph = _transform(constants_alone, transform)
    graph.initializer.extend(constants_alone.initializer)
    return _finished(graph, {})


def encoder_file(program: ExportedProgram, names: Names, model: Model, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """`pixels` uint8 (height, width, 3), 0-255, RGB -> the tensors that `names` names."""
    encoder = _exported(program, ["image"], names.all)
    _replace(encoder.graph.node, [*_transform(encoder.graph, model.transform).node, *encoder.graph.node])
    _replace(encoder.graph.input, [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["height", "width", 3])])
    return _finished(encoder.graph, metadata)


def step_file(program: ExportedProgram, names: Names, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """As `torch_programs.WordStep`."""
    return _finished(_exported(program, names.step_inputs, names.step_outputs).graph, metadata)


def whole_file(
    programs: Programs, functions: Functions, model: Model, search: SearchParams, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """`pixels`, and optionally `beam`, `max_length` and `length_penalty` -> `tokens`, `logprob`, `finished`.

    `tokens` (length,) are the best caption's, without start and end; `logprob`, natural log, includes the end token;
    `finished`: whether the caption has one.
    """
    names = functions.names
    encoder = encoder_file(programs.encoder, names, model, {})
    encoder = compose.add_prefix(encoder, "encoder_", rename_inputs=False)
    step = compose.add_prefix(step_file(programs.step, names, {}), "step_", rename_outputs=False)
    graph, outer, body = encoder.graph, parse_graph(outer_text(names, search)), parse_graph(body_text(search))
    loop = next(node for node in outer.node if node.op_type == "Loop")
    _add_state(body, step.graph, names)
    _replace(body.node, [*step.graph.node, *body.node])
    loop.attribute.append(helper.make_attribute("body", body))
    handed = [helper.make_node("Identity", [f"encoder_{name}"], [f"step_{name}"]) for name in names.fixed]
    graph.node.extend([*handed, *outer.node])
    graph.initializer.extend(step.graph.initializer)
    _add_constants(graph, constants(search, model.vocabulary))
    settings = {
        "beam": np.array(search.beam or 1),
        "max_length": np.array(search.max_length),
        "length_penalty": np.array(float(search.length_penalty)),
    }
    for name, value in settings.items():  # inputs with a default
        graph.initializer.append(numpy_helper.from_array(value, name))
        graph.input.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), []))
    found = {
        "tokens": (TensorProto.INT64, ["length"]),
        "logprob": (TensorProto.FLOAT, []),
        "finished": (TensorProto.BOOL, []),
    }
    _replace(graph.output, [helper.make_tensor_value_info(name, *kind) for name, kind in found.items()])
    return _finished(graph, metadata)


def metadata(model: Model, search: SearchParams, version: str) -> dict[str, str]:
    """A file's metadata: `words` by token, `search`, `transform` and `model` (a hash), each as JSON."""
    content: dict[str, Any] = {
        "words": model.vocabulary.words,
        "search": search.model_dump(),
        "transform": model.transform.to_dict(),
        "model": model.hash(),
        "showtell": version,
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in content.items()}


def serialised(file: onnx.ModelProto) -> bytes:
    """The bytes of a file; `UserError` above the size limit of ONNX files."""
    if file.ByteSize() > LARGEST:
        raise UserError(f"the graph has {file.ByteSize():,} bytes, and ONNX files end at {LARGEST:,}")
    return file.SerializeToString()


def _exported(program: ExportedProgram, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    with _quiet():
        try:
            exported = torch.onnx.export(
                program, input_names=inputs, output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise UserError(f"PyTorch's exporter cannot turn this model into ONNX: {one_line(error, 300)}") from None
    assert exported is not None  # None only when the exporter writes a file itself
    found = exported.model_proto
    assert [value.name for value in found.graph.input] == inputs
    assert [value.name for value in found.graph.output] == outputs
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's output and warnings."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _transform(graph: onnx.GraphProto, transform: Transform) -> onnx.GraphProto:
    """The graph from `pixels` to `image`; its constants are added to `graph`."""
    crop, size = transform.fit == "crop", transform.size
    mode = {"bilinear": "linear", "bicubic": "cubic"}[transform.filter]
    text = TRANSFORM.format(size=size, mode=mode, crop=CROP if crop else "", cropped="square" if crop else "pixels")
    found = {"batch_axis": np.array([0]), "image_shape": np.array([1, 3, size, size])}
    if crop:
        found |= {"two": np.array([2]), "picture_axes": np.array([0, 1])}
    _add_constants(graph, found)
    return parse_graph(text)


def _add_state(body: onnx.GraphProto, step: onnx.GraphProto, names: Names) -> None:
    """Make the loop body carry the decoder's state, and pass the last tokens to the step."""
    inputs = {value.name: value for value in step.input}
    outputs = {value.name: value for value in step.output}
    body.input.extend(inputs[f"step_{name}"] for name in names.state)
    body.output.extend(outputs[f"next_{name}"] for name in names.state)
    last = [
        helper.make_node("Gather", ["told", "to_last"], ["last_tokens"], axis=1),
        helper.make_node("Transpose", ["last_tokens"], ["step_tokens"], perm=[1, 0]),
    ]
    _replace(step.node, [*last, *step.node])


def _replace(repeated: Any, values: list) -> None:
    """Replace the content of a repeated protobuf field by `values`."""
    del repeated[:]
    repeated.extend(values)


def _add_constants(graph: onnx.GraphProto, values: Mapping[str, np.ndarray]) -> None:
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def _finished(graph: onnx.GraphProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """A file with this graph, without unused constants."""
    used = _names_used(graph)
    _replace(graph.initializer, [value for value in graph.initializer if value.name in used])
    del graph.value_info[:]  # the exporter's type annotations, whose names may have changed
    graph.name = "showtell"
    file = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="showtell", ir_version=IR_VERSION
    )
    helper.set_model_props(file, dict(metadata))
    return file


def _names_used(graph: onnx.GraphProto) -> set[str]:
    """The names that nodes read, including those in loops and branches, and the outputs."""
    names = {value.name for value in graph.output}
    for node in graph.node:
        names |= set(node.input)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                names |= _names_used(attribute.g)
    return names
