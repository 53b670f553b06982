"""Attention in int8 as an operator for CUDA's provider: here the CPU's, on a fake driver."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mutoscope
import numpy as np
import pytest
from cpu_device import CpuArray, CpuStream
from fake_libcuda import FakeLibcuda, Launch, machine_code
from mutoscope.engine import Bundle, EngineOptions, open_graph
from mutoscope.engine.backends import onnxruntime_cuda
from mutoscope.engine.backends.onnxruntime import int8_attention as operator
from mutoscope.engine.backends.onnxruntime import native_operators
from mutoscope.engine.onnx_file import CODES, MESSAGES, parse
from mutoscope.engine.protobuf import message_class
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.kernels.attention_ops import SOURCES, AttentionOps, workspace_bytes
from mutoscope.kernels.int8_attention import exact_attention, int8_attention

ort = pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")
if shutil.which(native_operators.COMPILER) is None:
    pytest.skip("there is no C++ compiler", allow_module_level=True)

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
DTYPES = {**CODES, "bfloat16": 16}
BLOCK = (256, 1, 1)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FakeLibcuda:
    return FakeLibcuda(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="module")
def operators(
    driver: FakeLibcuda, cpu_stream: CpuStream, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUTOSCOPE_CACHE", str(tmp_path_factory.mktemp("operators")))
        return built(patch, driver.flags, lambda name: machine_code(cpu_stream, name))


@pytest.fixture
def quiet(driver: FakeLibcuda) -> FakeLibcuda:
    driver.reset()
    return driver


def built(patch: pytest.MonkeyPatch, flags: Sequence[str], code: Callable[[str], bytes]) -> Path:
    patch.setattr(operator, "FLAGS", tuple(flags))
    patch.setattr(operator, "machine_code", lambda arch: {name: code(name) for name in SOURCES})
    return operator.int8_operators("sm_89")


def inputs(heads: tuple[int, int], queries: int, keys: int, size: int) -> list[Any]:
    """Values that float16 and bfloat16 both hold."""
    random = np.random.default_rng(3)
    arrays = (
        random.standard_normal((*heads, count, size), np.float32) for count in (queries, keys, keys)
    )
    cut = ((a.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for a in arrays)
    return [array.astype(np.float16).astype(np.float32) for array in cut]


def attention(dtype: str = "float32", scale: float | None = None) -> Any:
    """A graph of one `Attention` node in that type, between casts from and to float32."""
    model = message_class("Model", MESSAGES)()
    model.opset_import.add(domain="", version=23)
    for name in ("queries", "keys", "values"):
        model.graph.input.add(name=name).type.tensor_type.elem_type = CODES["float32"]
        _cast(model, name, f"{name}.cast", dtype)
    node = model.graph.node.add(op_type="Attention", name="node")
    node.input.extend(f"{name}.cast" for name in ("queries", "keys", "values"))
    node.output.append("attended")
    if scale is not None:
        node.attribute.add(name="scale", f=scale, type=1)
    _cast(model, "attended", "output", "float32")
    model.graph.output.add(name="output")
    return model


def _cast(model: Any, given: str, made: str, dtype: str) -> None:
    node = model.graph.node.add(op_type="Cast", name=made)
    node.input.append(given)
    node.output.append(made)
    node.attribute.add(name="to", i=DTYPES[dtype], type=2)


def open_model(model: Any, operators: Path | None = None) -> Callable[[list[Any]], Any]:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    if operators is not None:
        settings.register_custom_ops_library(str(operators))
    session = ort.InferenceSession(b"\x08\x0a" + model.SerializeToString(), settings)  # IR 10
    names = ("queries", "keys", "values")
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def in_int8(operators: Path, dtype: str = "float32", scale: float | None = None) -> Any:
    model = attention(dtype, scale)
    operator.attend_in_int8(model)
    return open_model(model, operators)


class Noted:
    """A stream that notes what is launched, as the driver does."""

    def __init__(self, stream: CpuStream) -> None:
        self._stream, self.launches = stream, list[Launch]()

    def launch(self, source: str, kernel: str, grid: tuple[int, int], arguments: Any) -> None:
        given = tuple(
            a.tobytes() if isinstance(a, np.generic) else np.uint64(a.pointer if a else 0).tobytes()
            for a in arguments
        )
        self.launches.append(Launch(kernel, (*grid, 1, *BLOCK, 0), False, given))
        self._stream.launch(source, kernel, grid, arguments)


def launched(
    stream: CpuStream, arrays: list[Any], dtype: str, scale: float | None
) -> tuple[Any, list[Launch]]:
    """What `AttentionOps` gives, and what it launches."""
    noted = Noted(stream)
    there = [_put(stream, array, dtype) for array in arrays]
    output = _put(stream, np.zeros_like(arrays[0]), dtype)
    workspace = stream.empty((workspace_bytes(*arrays[1].shape),), "uint8")
    AttentionOps(noted).int8_attention(*there, workspace, output, scale=scale)  # type: ignore[arg-type]
    values = output.values()
    if dtype == "bfloat16":
        values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32), noted.launches


def _put(stream: CpuStream, values: Any, dtype: str) -> CpuArray:
    if dtype == "bfloat16":
        return stream.upload((values.view(np.uint32) >> 16).astype(np.uint16), dtype)
    return stream.upload(values.astype(dtype))


def named(launches: list[Launch]) -> list[Any]:
    """Launches, arrays by what they are, parts of the workspace by where they begin in it."""
    keys, queries, prepare, attend = launches
    known = {
        keys.arguments[0]: "keys",
        queries.arguments[0]: "queries",
        prepare.arguments[1]: "values",
        attend.arguments[-1]: "output",
        bytes(8): "nothing",
    }
    begin = int.from_bytes(keys.arguments[3], "little")

    def name(argument: bytes) -> Any:
        if len(argument) < 8:
            return argument
        return known.get(argument) or int.from_bytes(argument, "little") - begin

    return [(a.kernel, a.shape, a.stream, list(map(name, a.arguments))) for a in launches]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("heads", "queries", "keys", "size", "scale"),
    [((1, 2), 19, 77, 32, None), ((2, 1), 131, 64, 64, None), ((1, 1), 3, 130, 128, 0.3)],
)
def test_it_launches_what_the_launcher_does(
    operators: Path,
    quiet: FakeLibcuda,
    cpu_stream: CpuStream,
    dtype: str,
    heads: tuple[int, int],
    queries: int,
    keys: int,
    size: int,
    scale: float | None,
) -> None:
    """Grids, blocks, arguments; so the results have the same bits."""
    arrays = inputs(heads, queries, keys, size)
    found = in_int8(operators, dtype, scale)(arrays)
    stated, launches = launched(cpu_stream, arrays, dtype, scale)
    assert named(quiet.launches()) == named(launches)
    assert found.tobytes() == stated.tobytes()
    near = 1e-3 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(found, int8_attention(*arrays, scale=scale), atol=near)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_error_is_below_one_percent(operators: Path, size: int) -> None:
    arrays = inputs((1, 2), 70, 200, size)
    exact = open_model(attention())(arrays)
    np.testing.assert_allclose(exact, exact_attention(*arrays), atol=1e-5)
    apart = np.linalg.norm(in_int8(operators)(arrays) - exact) / np.linalg.norm(exact)
    assert 1e-3 < apart < 1e-2


def test_sessions_share_the_kernels_and_not_their_results(operators: Path) -> None:
    first, second = in_int8(operators), in_int8(operators, scale=0.5)
    arrays = inputs((1, 1), 5, 9, 32)
    before = first(arrays)
    assert np.abs(second(arrays) - before).max() > 0.01
    assert first(arrays).tobytes() == before.tobytes()


def changed(shapes: dict[int, tuple[int, ...]]) -> list[Any]:
    given = [(1, 2, 3, 32), (1, 2, 5, 32), (1, 2, 5, 32)]
    return [np.zeros(shapes.get(i, shape), np.float32) for i, shape in enumerate(given)]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (dict.fromkeys(range(3), (1, 2, 3, 48)), "heads are not of 32, 64 or 128 channels"),
        ({1: (1, 1, 5, 32), 2: (1, 1, 5, 32)}, "queries and keys do not fit"),
        ({2: (1, 2, 4, 32)}, "keys and values do not fit"),
        ({1: (1, 2, 0, 32), 2: (1, 2, 0, 32)}, "there are no queries, or no keys"),
        (dict.fromkeys(range(3), (0, 2, 3, 32)), "there are no heads, or too many"),
        (dict.fromkeys(range(3), (70000, 1, 1, 32)), "there are no heads, or too many"),
        ({0: (2, 3, 32)}, "an input has too many axes or too few"),
    ],
)
def test_what_does_not_fit_is_told(
    operators: Path, quiet: FakeLibcuda, shapes: dict[int, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(Exception, match=f"Int8Attention: {said}"):
        in_int8(operators)(changed(shapes))
    assert quiet.launches() == []


def test_a_launch_that_fails_is_told(operators: Path, quiet: FakeLibcuda) -> None:
    attend = in_int8(operators)
    quiet.reset(failing="cuLaunchKernel")
    told = "Int8Attention: cuLaunchKernel failed: CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(Exception, match=told):
        attend(changed({}))


def test_drivers_that_do_not_do(
    monkeypatch: pytest.MonkeyPatch, driver: FakeLibcuda, cpu_stream: CpuStream
) -> None:
    on_cpu, code = driver.flags[0], machine_code(cpu_stream, "int8_keys")

    def with_driver(path: str) -> Path:
        return built(monkeypatch, (on_cpu, f'-DCUDA_DRIVER="{path}"'), lambda name: code)

    with pytest.raises(Exception, match="Int8Attention: /no/libcuda.so.1: cannot open shared"):
        in_int8(with_driver("/no/libcuda.so.1"))
    other = code.decode().rstrip("\0")
    told = "Int8Attention: NVIDIA's driver has no cuLibraryLoadData; install one for CUDA 12"
    with pytest.raises(Exception, match=told):
        in_int8(with_driver(other))
    broken = built(monkeypatch, driver.flags, lambda name: b"no machine code\0")
    told = "Int8Attention: cuLibraryLoadData failed: CUDA_ERROR_INVALID_IMAGE"
    with pytest.raises(Exception, match=told):
        in_int8(broken)


def test_without_cuda_s_provider_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is compiled for users."""
    library = built(monkeypatch, operator.FLAGS, lambda name: b"code")
    with pytest.raises(Exception, match="Could not find an implementation for Int8Attention"):
        in_int8(library)


def test_it_is_compiled_once_for_the_same_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    first = built(monkeypatch, (), lambda name: b"code")
    assert b"code" in first.read_bytes()
    assert built(monkeypatch, (), lambda name: b"other code") != first
    monkeypatch.setattr(native_operators, "_compile", lambda *given: pytest.fail("compiled again"))
    assert built(monkeypatch, (), lambda name: b"code") == first


def test_what_the_compiler_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MutoscopeError, match="^attention in int8 does not compile: .*no-such-flag"):
        built(monkeypatch, ("--no-such-flag",), lambda name: b"code")


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "COMPILER", "no-c++")
    with pytest.raises(UserError) as caught:
        built(monkeypatch, (), lambda name: b"code")
    assert str(caught.value) == (
        "attention in int8 needs the system's C++ compiler for its operator; install g++, or leave "
        "out --int8-attention"
    )


@pytest.fixture
def on_cpu(
    monkeypatch: pytest.MonkeyPatch, operators: Path, quiet: FakeLibcuda, cpu_stream: CpuStream
) -> CpuStream:
    monkeypatch.setattr(onnxruntime_cuda, "CUDA", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(
        onnxruntime_cuda, "providers", lambda stream: [("CPUExecutionProvider", {})]
    )
    monkeypatch.setattr(onnxruntime_cuda, "int8_operators", lambda arch: operators)
    return cpu_stream


def test_a_denoiser_with_it(on_cpu: CpuStream, quiet: FakeLibcuda) -> None:
    bundle, random = Bundle.open(EMBEDDED), np.random.default_rng(0)
    feeds = {
        "hidden_states": random.standard_normal((1, 16, 2, 4, 6), np.float32),
        "timestep": np.full((1, 2), 500, np.float32),
        "encoder_hidden_states": random.standard_normal((1, 20, 128), np.float32),
    }
    found = {}
    for wanted in (False, True):
        options = EngineOptions(stream=on_cpu, int8_attention=wanted)
        with open_graph(bundle, "denoiser", backend="onnxruntime-cuda", options=options) as session:
            assert session.kernels == (("Int8Attention",) if wanted else ())
            found[wanted] = np.asarray(session.run(feeds)["sample"])
    kernels = [launch.kernel for launch in quiet.launches()]
    assert len(kernels) == 4 * 2 * bundle.manifest.denoiser.layers
    apart = np.linalg.norm(found[True] - found[False]) / np.linalg.norm(found[False])
    assert 1e-4 < apart < 1e-2


def test_only_denoisers_have_it() -> None:
    bundle, options = Bundle.open(EMBEDDED), EngineOptions(int8_attention=True)
    for name, there in (("denoiser", True), ("vae_decoder_next", False)):
        content = onnxruntime_cuda.content_for_gpu(bundle, name, options)
        nodes = parse(content.model, EMBEDDED).graph.node
        assert any(node.op_type == "Int8Attention" for node in nodes) is there
        assert any(node.op_type == "Attention" for node in nodes) is not there


def test_a_cuda_part_that_does_not_load_is_told(
    on_cpu: CpuStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = built(monkeypatch, (), lambda name: b"code")
    monkeypatch.setattr(onnxruntime_cuda, "int8_operators", lambda arch: library)
    options = EngineOptions(stream=on_cpu, int8_attention=True)
    with pytest.raises(UserError, match="ONNX Runtime cannot load its CUDA part"):
        open_graph(Bundle.open(EMBEDDED), "denoiser", backend="onnxruntime-cuda", options=options)
