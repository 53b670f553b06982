"""What a graph of a bundle takes in memory, told from the graph alone: nothing is run or loaded.

`needs(bundle, name, axes)` reads the ONNX nodes (`graph`), infers every shape (`shapes`), and lets
them run in ONNX Runtime's order (`order`) in a model of its memory (`peak`, `arena`). A denoiser
runs there in two parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import MutoscopeError
from ..backends.onnxruntime.blocked import fits_blocks
from ..backends.onnxruntime.convolution import fits_convolutions, in_bf16
from ..backends.onnxruntime.native_operators import usable
from ..backends.onnxruntime.padding import BIAS
from ..backends.onnxruntime.products import multiply_in_bf16, multiply_rest
from ..backends.onnxruntime.rewrite import rewrite
from ..backends.onnxruntime.vae import rewrite_vae
from ..bundle import Bundle
from ..manifest import DENOISERS, PROMPT, VAES
from ..onnx_file import FLOAT8, OnnxFile
from ..session import axis_length
from .build import build_memory, weights_of
from .graph import CODES, FLOAT, OnnxGraph, Value, read_graph, to_graph
from .needs import Needs
from .peak import Peak, measure, natural, on_cpu
from .precision import in_precision
from .shapes import infer
from .weights import Weights, count

__all__ = ["Needs", "Peak", "Weights", "build_memory", "in_precision", "needs", "weights_of"]


def needs(bundle: Bundle, name: str, axes: Mapping[str, int], runs: int = 1) -> Needs:
    """What a graph takes for inputs with axes of these lengths, after some runs.

    Raises:
        BundleError: it is no ONNX file.
        MissingExtraError: the package `protobuf` is not installed.
        MutoscopeError: it has an operator that the planner does not know.
    """
    graph = read_graph(bundle, name)
    inputs = {
        spec.name: Value(tuple(axis_length(axis, axes) for axis in spec.shape), CODES[spec.dtype])
        for spec in bundle.graph(name).inputs
    }
    if PROMPT in inputs:  # a padded prompt is the most
        batch, tokens, *_ = inputs[PROMPT].shape
        inputs[BIAS] = Value((batch, 1, 1, tokens), FLOAT)
    try:
        values = infer(graph, inputs)
        cpu = Peak()
        for part in _parts(bundle, name):
            known = infer(part, inputs)
            cpu += measure(part, known, on_cpu, fused=False, runs=runs, decoded={FLOAT8})
            inputs |= {output: known[output] for output in part.outputs}
    except MutoscopeError as error:
        raise MutoscopeError(f"{name}: {error}") from error
    given = [values[spec.name] for spec in bundle.graph(name).inputs]
    held = sum(value.elements * natural(value.code) for value in given)
    return Needs(
        nodes=len(graph.nodes),
        cpu=cpu,
        gpu=measure(graph, values, natural, fused=True, runs=1),
        inputs=int(held),
        weights=count(graph, values),
    )


def _parts(bundle: Bundle, name: str) -> list[OnnxGraph]:
    """What runs one after the other on the CPU."""
    file, can = OnnxFile(bundle, name), usable()
    if name in DENOISERS:
        spec = bundle.manifest.denoiser
        blocked = can and fits_blocks(file.model, spec)
        parts = rewrite(file.model, spec, blocked=blocked)
        models = [part for part in (parts.prompt, parts.step) if part is not None]
        for model in models if blocked else ():
            multiply_rest(model, file)
    else:
        wide = name in VAES and fits_convolutions(file, bundle.graph(name).precision)
        if can and wide:
            rewrite_vae(file, bf16=in_bf16(bundle))
        models = [file.model]
    for model in models if can else ():
        multiply_in_bf16(model)
    return [to_graph(model.SerializeToString(), file.path) for model in models]
