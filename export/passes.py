"""What is done to a traced graph before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.initializers import OWNER, TRANSPOSED
from .graph import Graph

if TYPE_CHECKING:
    import onnx_ir as ir

SOFTMAX_FLOAT = 1
"""`Attention`'s softmax_precision: the ONNX code of float32."""

NARROW = "narrow"
"""What a tensor's `meta` has its values in fewer bits under."""


def tidy(model: ir.Model, graph: Graph) -> None:
    """Simplify a graph whose weights are attached, and give it its interface."""
    import onnx_ir.passes.common as common
    from onnxscript.optimizer import optimize_ir

    fold_transposes(model)  # before the optimiser, which would do it with all weights in memory
    with hidden(model) if graph.lora else nullcontext():
        optimize_ir(model, onnx_shape_inference=False)
    softmax_in_fp32(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    name_interface(model, graph)
    model.producer_name, model.producer_version = "mutoscope", None


@contextmanager
def hidden(model: ir.Model) -> Iterator[None]:
    """Hide the weights' values: equal ones would become one, and a LoRA may change one of them."""
    weights = [v for name, v in model.graph.initializers.items() if name.startswith(OWNER)]
    values = [weight.const_value for weight in weights]
    for weight in weights:
        weight.const_value = None
    yield
    for weight, value in zip(weights, values, strict=True):
        weight.const_value = value


def fold_transposes(model: ir.Model) -> None:
    """Store the weights that a graph transposes as it wants them: matrices, constant and ready."""
    folded: dict[tuple[str, tuple[int, ...]], ir.Value] = {}
    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or weight.const_value is None or not weight.is_initializer():
            continue
        order = tuple(node.attributes["perm"].as_ints())
        key = (str(weight.name), order)
        if key not in folded:
            folded[key] = _add_transposed(model, weight, order)
        replace_uses(node.outputs[0], folded[key])
        model.graph.remove(node, safe=True)
        if not weight.uses():
            del model.graph.initializers[str(weight.name)]


def _add_transposed(model: ir.Model, weight: ir.Value, order: Sequence[int]) -> ir.Value:
    source = weight.const_value
    assert source is not None
    array, narrow = source.numpy, source.meta.get(NARROW)
    shape = [source.shape[axis] for axis in order]
    name = f"{weight.name}{TRANSPOSED}"
    turned = narrow and (lambda: np.transpose(narrow(), order))
    tensor = lazy(lambda: np.transpose(array(), order), source.dtype, shape, name, turned)
    return add_initializer(model, tensor)


def softmax_in_fp32(model: ir.Model) -> None:
    """Say that attention's softmax is computed in fp32 whatever its inputs are."""
    import onnx_ir as ir

    for node in model.graph:
        if node.op_type == "Attention":
            node.attributes.add(ir.AttrInt64("softmax_precision", SOFTMAX_FLOAT))


def name_interface(model: ir.Model, graph: Graph) -> None:
    """Name inputs, outputs and their axes as the graph's specification does."""
    import onnx_ir as ir

    for values, specs in ((model.graph.inputs, graph.inputs), (model.graph.outputs, graph.outputs)):
        for value, spec in zip(values, specs, strict=True):
            value.name = spec.name
            value.shape = ir.Shape(spec.shape)
            value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(spec.dtype)))


def lazy(
    load: Callable[[], Any],
    dtype: ir.DataType,
    shape: Sequence[Any],
    name: str,
    narrow: Callable[[], Any] | None = None,
) -> ir.LazyTensor:
    """A tensor whose values are read each time they are asked for, and never kept.

    `narrow` gives the same values in the fewer bits that the checkpoint has them in.
    """
    import onnx_ir as ir

    tensor = ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(load()), dtype=dtype),
        dtype=dtype,
        shape=ir.Shape(shape),
        name=name,
        cache=False,
    )
    tensor.meta[NARROW] = narrow
    return tensor


def add_initializer(model: ir.Model, tensor: ir.LazyTensor | ir.ExternalTensor) -> ir.Value:
    """A new initializer of the graph."""
    import onnx_ir as ir

    value = ir.Value(
        name=tensor.name,
        shape=tensor.shape,
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    return value


def replace_uses(old: ir.Value, new: ir.Value) -> None:
    """Let every node that reads one value read another."""
    for node, index in tuple(old.uses()):
        node.replace_input_with(index, new)
