"""Quantize one denoiser to int8 with our own pass, onnxruntime.quantization and NVIDIA's modelopt.

    python scripts/quantizer_race.py [BUNDLE]     # by default the embedded model

All get the same runs to calibrate with, and the same products: all, and those that our pass
chooses. All results run in ONNX Runtime as they are, on steps of other clips. What is not installed
(`onnx`, `nvidia-modelopt`) is left out, and said.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
from mutoscope.bench.machine import describe
from mutoscope.engine import Bundle, EngineOptions, Session
from mutoscope.engine.backends.onnxruntime.session import OnnxRuntimeSession, open_native
from mutoscope.engine.memory import peak_memory_mb, reset_peak_memory
from mutoscope.quantize.deviation import Deviation
from mutoscope.quantize.groups import format_of
from mutoscope.quantize.options import Options
from mutoscope.quantize.quantizer import calibrate, plan_clips, study
from mutoscope.quantize.sensitivity import Subject, choose
from mutoscope.quantize.trajectory import Call, Step, record

GRAPH = "denoiser"
ROUNDS = 15
FORMS = {"int8": "onnxruntime", "int8-static": "tensorrt-rtx"}
"""Our formats, and what they are for."""

Quantize = Callable[[Path, Path, Sequence[Call], list[str]], None]
"""Writes a graph (from, to) of which the named nodes are in int8."""

Row = tuple[str, Session]
"""What it took to quantize, and the result."""


class Reader:
    """Calibration runs as ONNX Runtime's quantizers ask for them."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self.rewind()

    def rewind(self) -> None:
        """Begin again."""
        self._next: Iterator[Call] = iter(self._calls)

    def get_next(self) -> dict[str, Any] | None:
        """The inputs of the next run."""
        call = next(self._next, None)
        return None if call is None else call.feeds

    def get_first(self) -> dict[str, Any]:
        """Those of the first."""
        return self._calls[0].feeds


def dynamic(source: Path, target: Path, calls: Sequence[Call], nodes: list[str]) -> None:
    """ONNX Runtime's quantizer, activations scaled at each run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source, target, nodes_to_quantize=nodes, per_channel=True, weight_type=QuantType.QInt8
    )


def static(source: Path, target: Path, calls: Sequence[Call], nodes: list[str]) -> None:
    """ONNX Runtime's quantizer, scales settled, in pairs of Q/DQ."""
    from onnxruntime.quantization import QuantType, quantize_static

    quantize_static(
        source, target, Reader(calls), op_types_to_quantize=["MatMul"], nodes_to_quantize=nodes,
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def modelopt(source: Path, target: Path, calls: Sequence[Call], nodes: list[str]) -> None:
    """NVIDIA's, scales settled by the largest values, in pairs of Q/DQ."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(source), "int8", calibration_data_reader=Reader(calls), calibration_method="max",
        calibration_eps=["cpu"], op_types_to_quantize=["MatMul"], nodes_to_quantize=nodes,
        high_precision_dtype="fp32", output_path=str(target), log_level="ERROR",
    )  # fmt: skip


OTHERS: Mapping[str, tuple[Quantize, str]] = {
    "onnxruntime, dynamic": (dynamic, "onnx"),
    "onnxruntime, static Q/DQ": (static, "onnx"),
    "modelopt, static Q/DQ": (modelopt, "modelopt"),
}
"""Each with the package that it needs."""


def prepare(bundle: Bundle, target: Path) -> list[str]:
    """Write the denoiser as the others take it: weights in fp32, without a `Cast` before them.

    Returns:
        the names that its nodes have there.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle.file(bundle.graph(GRAPH).file))
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    for place, node in enumerate(nodes):
        node.name = f"node{place}"
    for node in nodes:
        tensor = held.get(node.input[0]) if node.op_type == "Cast" else None
        if tensor is not None and tensor.data_type == onnx.TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))
            graph.node.remove(node)
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), target)
    return [node.name for node in nodes]


def race(bundle: Bundle, threads: int | None = None) -> None:
    """Quantize, measure and print."""
    calibration, way, _ = plan_clips(bundle, Options())
    calls = calibrate(bundle, calibration, threads)[GRAPH]
    clips = list(record(bundle, way, threads))
    subject = study(bundle, GRAPH, calls, Options(threads=threads), _silent)
    chosen = choose(subject, [next(iter(FORMS))], Options().target_error, _silent)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        rows = {"fp32": ("", stack.enter_context(subject.open({})))}
        choices = {"all": subject.kinds, "chosen": list(chosen)}
        for form, backend in FORMS.items():
            options = Options(backend=backend, threads=threads)
            for title, groups in choices.items():
                rows[f"ours, {form}, {title}"] = measured(
                    ours, bundle, options, form, groups, calls
                )
        rows |= others(subject, choices, Path(folder), calls) if find_spec("onnx") else {}
        for _, session in rows.values():
            stack.enter_context(session)
        table(rows, clips)
    for name, (_, package) in OTHERS.items():
        if not find_spec(package):
            print(f"{name}: left out, the package {package} is not installed")  # noqa: T201


def ours(
    bundle: Bundle, options: Options, form: str, groups: Sequence[str], calls: Sequence[Call]
) -> Session:
    """What our pass makes of some groups of products, with what it looks at before."""
    subject = study(bundle, GRAPH, calls, options, _silent)
    return subject.open(dict.fromkeys(groups, form))


def others(
    subject: Subject, choices: Mapping[str, Sequence[str]], folder: Path, calls: Sequence[Call]
) -> dict[str, Row]:
    """What other tools make of some groups of products.

    One after the other: modelopt changes ONNX Runtime's quantizer, which fails afterwards.
    """
    rows: dict[str, Row] = {}
    source = folder / "fp32.onnx"
    names = prepare(subject.bundle, source)
    for name, (quantize, package) in OTHERS.items():
        for title, groups in choices.items() if find_spec(package) else ():
            taken = [x for x in subject.linears if format_of(x.name, dict.fromkeys(groups, name))]
            target = folder / f"{len(rows)}.onnx"
            nodes = [names[linear.nodes[0]] for linear in taken]
            effort, _ = measured(quantize, source, target, calls, nodes)
            rows[f"{name}, {title}"] = effort, open_file(subject.bundle, target, subject.threads)
    return rows


def open_file(bundle: Bundle, path: Path, threads: int | None) -> Session:
    """A graph with the denoiser's inputs and outputs."""
    native = open_native(path, "int8", EngineOptions(threads))
    return OnnxRuntimeSession(GRAPH, bundle.graph(GRAPH), native)


def measured(work: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """What some work takes, seconds and memory, and what it gives."""
    reset_peak_memory()
    before, began = peak_memory_mb(), time.perf_counter()
    result = work(*arguments)
    seconds = time.perf_counter() - began
    return f"{seconds:.1f} s, {peak_memory_mb() - before:.0f} MB", result


def table(rows: Mapping[str, Row], clips: Sequence[Sequence[Step]]) -> None:
    """Errors along clips, and the times of one run, in turn."""
    feeds = clips[0][0].calls[0].feeds
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS + 1):
        for name, (_, session) in rows.items():
            began = time.perf_counter()
            session.run(feeds)
            times[name].append(time.perf_counter() - began)
    print("| quantizer | error | worst step | ms a run | made in, memory |")  # noqa: T201
    print("| --- | --- | --- | --- | --- |")  # noqa: T201
    for name, (effort, session) in rows.items():
        of_steps = errors(session, clips)
        whole = Deviation(sum(each.off for each in of_steps), sum(each.whole for each in of_steps))
        worst = max(each.relative for each in of_steps)
        spread = [1000 * seconds for seconds in times[name][1:]]
        took = f"{statistics.median(spread):.1f} ± {statistics.stdev(spread):.1f}"
        print(f"| {name} | {whole.relative:.2%} | {worst:.2%} | {took} | {effort} |")  # noqa: T201
    print(describe())  # noqa: T201
    installed = [name for name in ("onnx", "nvidia-modelopt") if _installed(name)]
    print(", ".join(f"{name} {version(name)}" for name in installed))  # noqa: T201


def errors(session: Session, clips: Sequence[Sequence[Step]]) -> list[Deviation]:
    """Of the predictions, by step."""
    found = [Deviation() for _ in clips[0]]
    for steps in clips:
        for deviation, step in zip(found, steps, strict=True):
            for call in step.calls:
                deviation.add(np.asarray(session.run(call.feeds)["sample"]), call.output)
    return found


def _installed(name: str) -> bool:
    return find_spec(name.removeprefix("nvidia-")) is not None


def _silent(line: str) -> None:
    pass


if __name__ == "__main__":
    embedded = Path(mutoscope.__file__).parent / "models" / "mini-wan"
    race(Bundle.open(sys.argv[1] if len(sys.argv) > 1 else embedded))
