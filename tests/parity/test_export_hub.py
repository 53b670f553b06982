"""Models of the Hugging Face Hub: from a cache laid out as the Hub's, and from a Hub of our own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mutoscope.engine import Bundle
from mutoscope.engine.manifest import Source
from mutoscope.errors import CheckpointError, MissingExtraError, UserError
from mutoscope.export import Options, export_bundle
from mutoscope.export.hub import HubModel, download, fetch

pytest.importorskip(
    "torch", reason="parity tests need the export extra: pip install -e '.[export]'"
)
constants = pytest.importorskip("huggingface_hub.constants", reason="needs the export extra")

pytestmark = pytest.mark.parity

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = HubModel("org/tiny")
UNREAD = {
    "README.md": b"a card",
    "assets/clip.mp4": b"a clip",
    "text_encoder/pytorch_model.bin": b"a pickle",
    "transformer/diffusion_pytorch_model.fp16.safetensors": b"a variant",
    "transformer/diffusion_pytorch_model.fp16-00001-of-00002.safetensors": b"a shard of one",
}


class Hub(ThreadingHTTPServer):
    """As much of a Hub as its client asks for when it fetches a snapshot of one model."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.sent: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/org/tiny/resolve/"):
            name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
            if self.command == "GET":
                self.server.sent.append(name)
            return self._send(200, self.server.files[name])
        if path.startswith("/api/models/org/secret"):
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        answers: dict[str, Any] = {
            "/api/models/org/tiny/revision/main": {"id": "org/tiny", "sha": COMMIT},
            f"/api/models/org/tiny/tree/{COMMIT}": [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in self.server.files.items()
            ],
        }
        if path in answers:
            return self._send(200, json.dumps(answers[path]).encode())
        missing = "RevisionNotFound" if path.startswith("/api/models/org/tiny") else "RepoNotFound"
        return self._send(404, b"{}", {"X-Error-Code": missing})

    do_HEAD = do_GET  # noqa: N815

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        tag = hashlib.sha1(body).hexdigest()
        about = {"Content-Length": str(len(body)), "ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
        for name, value in {**about, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_cache(cache: Path, files: dict[str, bytes]) -> Path:
    """Lay files out as the Hub's client does: blobs, a snapshot of links, and a branch."""
    repository = cache / "models--org--tiny"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir(parents=True)
    for name, data in files.items():
        blob = repository / "blobs" / hashlib.sha1(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the client ask a Hub at an address."""

    def ask(url: str) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return ask


@pytest.fixture
def hub(tiny_checkpoint: Path, ask: Callable[[str], None]) -> Iterator[Hub]:
    with Hub({**contents(tiny_checkpoint), **UNREAD}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ask(server.url)
        yield server
        server.shutdown()


def refusal(model: HubModel) -> str:
    with pytest.raises(CheckpointError) as error:
        download(model, ["*"])
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("org/tiny", TINY),
        ("Wan-AI/Wan2.1@v1.0", HubModel("Wan-AI/Wan2.1", "v1.0")),
        ("org/tiny@refs/pr/3", HubModel("org/tiny", "refs/pr/3")),
        ("tiny", None),
        ("./org/tiny", None),
        ("org/tiny/vae", None),
        ("/org/tiny", None),
        ("../tiny", None),
        ("org/tiny@", None),
        ("https://huggingface.co/org/tiny", None),
    ],
)
def test_ids(text: str, model: HubModel | None) -> None:
    assert HubModel.parse(text) == model


def test_a_cached_model_is_exported_offline_and_pinned(
    cache: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    write_cache(cache, contents(tiny_checkpoint))
    told: list[str] = []
    defaults = ["width=32", "height=32", "frames=5"]
    options = Options(graphs=["denoiser"], defaults=defaults, license="CC0-1.0")
    export_bundle("org/tiny", tmp_path / "bundle", options, told.append)
    source = Bundle.open(tmp_path / "bundle").manifest.source
    assert source == Source(name="org/tiny", revision=COMMIT, license="CC0-1.0")
    assert told[:2] == ["looking for org/tiny on the Hub", f"fetching org/tiny@{COMMIT}"]


def test_a_folder_of_that_name_comes_first(
    cache: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cache(cache, contents(tiny_checkpoint))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no checkpoint at org/tiny: model_index.json is mis"):
        export_bundle("org/tiny", "bundle")


def test_a_path_is_no_id(cache: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    write_cache(cache, contents(tiny_checkpoint))
    with pytest.raises(CheckpointError, match="no checkpoint at org/tiny: there is no such folder"):
        export_bundle(Path("org/tiny"), tmp_path / "bundle")


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE"])
def test_the_clients_own_settings_are_honoured(tmp_path: Path, variable: str) -> None:
    cache = tmp_path / "hub"  # which HF_HOME has in it
    snapshot = write_cache(cache, {"model_index.json": b"{}"})
    program = (
        "from mutoscope.export.hub import HubModel, download;"
        "print(download(HubModel('org/tiny', 'main'), ['*']))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment[variable] = str(tmp_path if variable == "HF_HOME" else cache)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**environment, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{snapshot}\n", "")


def test_only_what_export_reads_is_downloaded(hub: Hub, cache: Path, tiny_checkpoint: Path) -> None:
    folder = fetch(TINY, lambda line: None)
    assert folder == cache / "models--org--tiny" / "snapshots" / COMMIT
    assert contents(folder) == contents(tiny_checkpoint)
    assert sorted(hub.sent) == sorted(contents(tiny_checkpoint))


def test_shards_are_downloaded(
    hub: Hub, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    sharded = contents(make_checkpoint(tmp_path / "sharded", max_shard_size="30KB"))
    assert any("/model-00001-of-" in name for name in sharded)
    hub.files = {**sharded, **UNREAD}
    assert contents(fetch(TINY, lambda line: None)) == sharded


def test_what_cannot_be_exported_is_refused_before_its_weights(hub: Hub) -> None:
    config = json.loads(hub.files["transformer/config.json"])
    between = {"pos_embed_seq_len": 514}
    hub.files["transformer/config.json"] = json.dumps({**config, **between}).encode()
    with pytest.raises(CheckpointError, match="makes clips between two images"):
        fetch(TINY, lambda line: None)
    assert "model_index.json" in hub.sent
    assert not [name for name in hub.sent if name.endswith(".safetensors")]


def test_unknown_model(hub: Hub) -> None:
    assert refusal(HubModel("org/none")) == (
        f"org/none is neither a folder nor a model on the Hub ({hub.url}/org/none); "
        "if it is a private one: hf auth login"
    )


def test_gated_model(hub: Hub) -> None:
    assert refusal(HubModel("org/secret")) == (
        f"org/secret wants its terms accepted: do so at {hub.url}/org/secret, then: hf auth login"
    )


def test_unknown_revision(hub: Hub) -> None:
    assert refusal(HubModel("org/tiny", "v9")) == (
        f"org/tiny has no revision 'v9'; see {hub.url}/org/tiny"
    )


def test_a_name_that_the_hub_does_not_take() -> None:
    assert refusal(HubModel("org/a--b")).startswith("org/a--b cannot be downloaded: Cannot have --")


def test_unreachable(ask: Callable[[str], None]) -> None:
    ask("http://127.0.0.1:1")
    assert refusal(TINY) == (
        "org/tiny is no folder, and not all of it is in the Hub's cache; the Hub cannot be reached "
        "([Errno 111] Connection refused): check the connection"
    )


OFFLINE = (
    " is no folder, and not all of it is in the Hub's cache; "
    "HF_HUB_OFFLINE forbids to download it: unset that"
)


def test_offline_and_not_cached() -> None:
    assert refusal(TINY) == f"org/tiny{OFFLINE}"


def test_offline_and_another_revision(cache: Path) -> None:
    write_cache(cache, {"model_index.json": b"{}"})
    assert refusal(HubModel("org/tiny", "v9")) == f"org/tiny@v9{OFFLINE}"


def test_offline_and_half_cached(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    download(TINY, ["*.json"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        export_bundle("org/tiny", tmp_path / "bundle")
    assert str(error.value) == f"org/tiny@{COMMIT}{OFFLINE}"
    assert not (tmp_path / "bundle").exists()


def test_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError) as error:
        download(TINY, ["*"])
    assert str(error.value) == (
        "huggingface_hub is not installed; install it with: pip install 'mutoscope[export]'"
    )


def test_an_interruption_does_not_wait_for_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    test_is_over = threading.Event()
    hung: list[bool] = []

    def hang(*_: object, **__: object) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        hung.append(not test_is_over.wait(60))

    monkeypatch.setattr("huggingface_hub.snapshot_download", hang)
    with pytest.raises(KeyboardInterrupt):
        download(TINY, ["*"])
    assert hung == [], "the download is still under way"
    test_is_over.set()
