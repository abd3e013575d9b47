"""Networks on an inference server: KServe's own as a process, then a peer of bytes that answers anything.

With the real one: the same numbers as here, the proof at start and before each series, a server that dies and
comes back under a node at work. With the other: every answer that is not to be used, and which errors
are worth another try.
Not covered: NVIDIA Triton, which cannot be started everywhere (2.51.0 was tried by hand: the same numbers).
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.analysis.bundle import load_bundle
from dicom_node.analysis.open_inference import FP32, described, inference_of, request_of
from dicom_node.errors import InferenceInvalid, InferenceUnavailable, NodeError
from dicom_node.http_client import Reply, look_at_web
from dicom_node.node import Node
from dicom_node.settings import Analysis, Remote, Secret, Settings, load_settings
from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import State
from dicom_node.workflow.worked import Outcome
from tests.support.bundles import SIZE, write_spot_bundle
from tests.support.certificates import Authority
from tests.support.inference_server import kserve
from tests.support.relay import Relay
from tests.support.running import (
    entries_of,
    free_port,
    say,
    send,
    wait_for,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, image_spot
from tests.support.web_peer import Answer, Request, WebPeer, answer

SQUARES = np.random.default_rng(0).random((9, SIZE, SIZE), np.float32)
Spoil = Callable[[str, dict[str, object], np.ndarray], Answer | None]


@pytest.fixture(scope="module")
def server(spot_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kserve")
    altered = write_spot_bundle(folder / "altered", middle=0.95)
    with kserve(spot_models / "spot", altered, log=folder / "log") as url:
        yield url


def configured(folder: Path, models: Path, url: str, archive: Archive) -> Path:
    path = write_configuration(
        folder / "node.toml",
        port=free_port(),
        models=models,
        destinations={"archive": ("ARCHIVE", archive.port)},
    )
    path.write_text(f'{path.read_text()}[analysis.remote]\nurl = "{url}"\ntimeout_s = 10\n')
    return path


@pytest.mark.peer
def test_a_real_server_gives_the_numbers_of_this_machine(server: str, spot_models: Path) -> None:
    here = load_bundle(spot_models / "spot", "cpu")
    there = load_bundle(spot_models / "spot", remote=Remote(url=server, batch=2))
    assert there.device == f"kserve 0.21.0 at {server}"
    wanted = np.array([0, 3, 4, 8])
    for network in ("detector", "segmenter"):
        local, remote = getattr(here, network).engine, getattr(there, network).engine
        np.testing.assert_allclose(remote.run(SQUARES), local.run(SQUARES), atol=1e-6)
        np.testing.assert_allclose(remote.run(SQUARES, wanted), local.run(SQUARES)[wanted], atol=1e-6)


@pytest.mark.peer
def test_a_model_that_is_not_the_bundles_is_refused_at_start(server: str, spot_models: Path) -> None:
    words = r"is off its stored answer by .*; it must run the bundle's detector\.onnx"
    with pytest.raises(InferenceInvalid, match=f"model altered-detector on {server} {words}"):
        load_bundle(spot_models / "spot", remote=Remote(url=server, model="altered-{network}"))
    with pytest.raises(InferenceUnavailable, match="model brain-detector is not ready or not there"):
        load_bundle(spot_models / "spot", remote=Remote(url=server, model="brain-{network}"))


@pytest.mark.peer
@pytest.mark.slow
def test_a_series_waits_for_a_server_that_does_not_answer(
    server: str, spot_models: Path, tmp_path: Path, series_of: Series
) -> None:
    def stands(words: str) -> bool:
        return any(words in entry.detail for entry in entries_of(tmp_path / "var"))

    with (
        Archive(tmp_path / "archive", "ARCHIVE") as archive,
        Relay(int(server.rpartition(":")[2])) as relay,
    ):
        url = f"http://127.0.0.1:{relay.port}"
        configuration = configured(tmp_path, spot_models, url, archive)
        assert f"spot 1.0.0 on kserve 0.21.0 at {url}" in say(configuration, "models")
        settings = load_settings(configuration)
        with Node(settings):
            relay.holds.set()
            send(series_of(image_spot()), settings.receive.port)
            wait_for(lambda: stands("tried again later: model spot-detector: http://127.0.0.1"))
            assert not list(archive.folder.iterdir())
            relay.holds.clear()
            (entry,) = wait_until_ended(tmp_path / "var")
        assert (entry.state, entry.outcome) == (State.DONE, Outcome.FINDINGS)
        assert len(list(archive.folder.glob("*.dcm"))) == 3
    told = say(configuration, "models", exit_code=1)
    assert "model spot-detector: http://127.0.0.1" in told
    assert "cannot be reached (Connection refused); see that it runs" in told


class Server:
    """Answers as a server with the spot bundle would, unless a test spoils it."""

    def __init__(self, models: Path) -> None:
        files = (models / "spot").glob("*.onnx")
        self._sessions = {f"spot-{f.stem}": ort.InferenceSession(f) for f in files}
        self.spoil: Spoil = lambda *_: None
        self.asked = 0

    def __call__(self, request: Request) -> Answer:
        if request.target == "/v2/health/ready":
            return answer(200)
        if request.target == "/v2":
            return answer(200, {"name": "bytes", "version": "1"})
        *_, model, last = request.target.split("/")
        if last == "ready":
            return answer(200)
        if last != "infer":
            return answer(200, self._description(last))
        json_bytes = int(request.headers["inference-header-content-length"])
        head = json.loads(request.body[:json_bytes])
        (tensor,) = head["inputs"]
        feed = np.frombuffer(request.body[json_bytes:], "<f4").reshape(tensor["shape"])
        (values,) = self._sessions[model].run(["probability"], {"image": feed})
        self.asked += 1
        output = {"name": "probability", "datatype": FP32, "shape": list(values.shape)}
        spoilt = self.spoil(model, output, values)
        return in_bytes({"outputs": [output]}, values.tobytes()) if spoilt is None else spoilt

    def _description(self, model: str) -> dict[str, object]:
        output = [-1, SIZE, SIZE, 1] if model.endswith("segmenter") else [-1, 1]
        return {
            "name": model,
            "inputs": [{"name": "image", "datatype": FP32, "shape": [-1, SIZE, SIZE, 1]}],
            "outputs": [{"name": "probability", "datatype": FP32, "shape": output}],
        }


def in_bytes(head: dict[str, object], raw: bytes) -> bytes:
    for output in head["outputs"]:  # type: ignore[attr-defined]
        output.setdefault("parameters", {"binary_data_size": len(raw)})
    encoded = json.dumps(head).encode()
    return answer(200, encoded + raw, f"Inference-Header-Content-Length: {len(encoded)}")


@pytest.fixture
def fake(spot_models: Path) -> Server:
    return Server(spot_models)


def remote_at(peer: WebPeer, **more: object) -> Remote:
    scheme = "https" if peer.tls else "http"
    return Remote(url=f"{scheme}://127.0.0.1:{peer.port}", **{"timeout_s": 60, **more})


def in_json(_model: str, output: dict[str, object], values: np.ndarray) -> Answer:
    return answer(200, {"outputs": [{**output, "data": values.ravel().tolist()}]})


def behind_another(_model: str, output: dict[str, object], values: np.ndarray) -> Answer:
    first = {"name": "other", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 3}}
    second = {**output, "parameters": {"binary_data_size": values.nbytes}}
    return in_bytes({"outputs": [first, second]}, b"abc" + values.tobytes())


@pytest.mark.parametrize("spoil", [in_json, behind_another])
def test_every_form_of_a_good_answer_is_read(spoil: Spoil, fake: Server, spot_models: Path) -> None:
    fake.spoil = spoil
    with WebPeer(fake) as peer:
        there = load_bundle(spot_models / "spot", remote=remote_at(peer)).segmenter.engine
        here = load_bundle(spot_models / "spot", "cpu").segmenter.engine
        np.testing.assert_allclose(there.run(SQUARES[:2]), here.run(SQUARES[:2]), atol=1e-6)


def renamed(output: dict[str, object], values: np.ndarray) -> Answer:
    return in_bytes({"outputs": [{**output, "name": "chance"}]}, values.tobytes())


def doubled(output: dict[str, object], _values: np.ndarray) -> Answer:
    return in_bytes({"outputs": [{**output, "datatype": "FP64"}]}, b"")


def cut(output: dict[str, object], values: np.ndarray) -> Answer:
    return in_bytes({"outputs": [output]}, values.tobytes()[:-4])


def one_slice_less(output: dict[str, object], values: np.ndarray) -> Answer:
    less = values[1:]
    return in_bytes({"outputs": [{**output, "shape": list(less.shape)}]}, less.tobytes())


def no_number(output: dict[str, object], values: np.ndarray) -> Answer:
    return in_bytes({"outputs": [output]}, np.full_like(values, np.nan).tobytes())


def other_number(output: dict[str, object], values: np.ndarray) -> Answer:
    return in_bytes({"outputs": [output]}, (values * np.float32(0.9)).tobytes())


BAD: list[tuple[Callable[..., Answer], str]] = [
    (lambda *_: answer(200, b"{"), "its answer cannot be read"),
    (lambda *_: answer(200, []), "its answer cannot be read"),
    (lambda *_: answer(200, b"\0" * (8 << 20)), "its answer is too long"),
    (lambda *_: answer(400, {"error": "batch-size must be <= 2"}), "answers 400: batch-size must be <= 2"),
    (renamed, r"it answers \['chance'\] and not 'probability'"),
    (doubled, "it answers in FP64, not FP32"),
    (cut, "values for a shape of"),
    (one_slice_less, "for 2 slices, or no numbers"),
    (no_number, "for 2 slices, or no numbers"),
    (other_number, "is off its stored answer by 0.1"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_a_bad_answer_is_no_reason_to_ask_again(
    spoil: Callable[..., Answer], words: str, fake: Server, spot_models: Path
) -> None:
    with WebPeer(fake) as peer:
        bundle = load_bundle(spot_models / "spot", remote=remote_at(peer))
        fake.spoil = lambda _, output, values: spoil(output, values)
        with pytest.raises(InferenceInvalid, match=words) as told:
            bundle.segmenter.engine.run(SQUARES)
        assert "model spot-segmenter on http://127.0.0.1" in str(told.value)
        with pytest.raises(InferenceInvalid):
            load_bundle(spot_models / "spot", remote=remote_at(peer))


def drip() -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(300):
        yield b"{"
        yield 0.2


COME_AGAIN: list[tuple[Callable[..., Answer], str]] = [
    (lambda *_: answer(500, {"error": "CUDA out of memory"}), "answers 500: CUDA out of memory"),
    (lambda *_: answer(503), "answers 503"),
    (lambda *_: answer(401, {"error": "\x1b[31m"}), "answers 401, on"),
    (lambda *_: answer(302, None, "Location: http://elsewhere/"), "answers 302"),
    (lambda *_: b"", "gave no whole answer"),
    (lambda *_: b"SSH-2.0-OpenSSH\r\n", "gave no whole answer"),
    (lambda *_: drip(), "took longer than 3 s"),
    (lambda *_: [b"", 60.0], "did not answer within 3 s|took longer than 3 s"),
]


@pytest.mark.parametrize(("spoil", "words"), COME_AGAIN)
def test_a_server_that_fails_is_asked_again_later(
    spoil: Callable[..., Answer], words: str, fake: Server, spot_models: Path
) -> None:
    with WebPeer(fake) as peer:
        limit_s = 3 if " 3 s" in words else 60
        bundle = load_bundle(spot_models / "spot", remote=remote_at(peer, timeout_s=limit_s))
        fake.spoil = lambda *_: spoil()
        start = time.monotonic()
        with pytest.raises(InferenceUnavailable, match=f"model spot-detector.*{words}"):
            bundle.detector.engine.run(SQUARES)
        assert time.monotonic() - start < 30


def test_a_model_that_is_exchanged_is_proven_again_and_never_mixed_within_a_series(
    fake: Server, spot_models: Path
) -> None:
    version = iter("1122222")

    def next_version(_model: str, output: dict[str, object], values: np.ndarray) -> Answer:
        return in_bytes({"outputs": [output], "model_version": next(version)}, values.tobytes())

    with WebPeer(fake) as peer:
        engine = load_bundle(spot_models / "spot", remote=remote_at(peer)).detector.engine
        fake.spoil, fake.asked = next_version, 0
        with pytest.raises(InferenceUnavailable, match="was given another version"):
            engine.run(SQUARES)  # the reference, and three batches
        assert fake.asked == 4
        assert len(engine.run(SQUARES[:5])) == 5


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"inputs": []}, InferenceInvalid, "takes nothing that it describes; the bundle's takes image FP32"),
        (
            {"inputs": [{"name": "image", "datatype": "FP16", "shape": [-1, SIZE, SIZE, 1]}]},
            InferenceInvalid,
            r"takes image FP16 \[-1, 96, 96, 1\]; the bundle's takes image FP32 \[-1, 96, 96, 1\]",
        ),
        (
            {"inputs": [{"name": "image", "datatype": FP32, "shape": [-1, 64, 64, 1]}]},
            InferenceInvalid,
            r"takes image FP32 \[-1, 64, 64, 1\]",
        ),
        ({"outputs": []}, InferenceInvalid, "the bundle's gives probability FP32"),
        ({"outputs": 3}, InferenceInvalid, "its description cannot be read"),
        (None, InferenceUnavailable, "answers 503"),
    ],
)
def test_a_model_with_other_tensors_is_refused_at_start(
    change: dict[str, object] | None, error: type[NodeError], words: str, fake: Server, spot_models: Path
) -> None:
    def respond(request: Request) -> Answer:
        if request.target != "/v2/models/spot-detector":
            return fake(request)
        return (
            answer(503) if change is None else answer(200, {**fake._description("spot-detector"), **change})
        )

    with WebPeer(respond) as peer, pytest.raises(error, match=words):
        load_bundle(spot_models / "spot", remote=remote_at(peer))


@pytest.mark.parametrize("what", ["server", "model"])
def test_a_start_before_server_or_model_are_ready_is_refused(
    what: str, fake: Server, spot_models: Path
) -> None:
    late = {"server": "/v2/health/ready", "model": "/v2/models/spot-detector/ready"}[what]

    def respond(request: Request) -> Answer:
        return answer(400) if request.target == late else fake(request)

    words = "model spot-detector('s server)? is not ready or not there"
    with WebPeer(respond) as peer, pytest.raises(InferenceUnavailable, match=words):
        load_bundle(spot_models / "spot", remote=remote_at(peer))


def test_the_server_is_verified_and_told_who_we_are(fake: Server, spot_models: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    token = tmp_path / "token"
    token.write_text("correct-horse")
    token.chmod(0o600)
    with WebPeer(fake, tls=context) as peer:
        remote = remote_at(peer, ca_file=authority.path, token=Secret(file=token))
        load_bundle(spot_models / "spot", remote=remote)
        assert {r.headers.get("authorization") for r in peer.requests} == {"Bearer correct-horse"}
        with pytest.raises(InferenceUnavailable, match="its certificate is signed by nobody"):
            load_bundle(spot_models / "spot", remote=remote_at(peer))
    (note,) = look_at_web(Settings(analysis=Analysis(remote=remote)))
    assert not note.is_warning
    (note,) = look_at_web(Settings(analysis=Analysis(remote=Remote(url="http://triton.example:8000"))))
    assert note.text.startswith("http://triton.example:8000: images go over the network unencrypted")


def test_the_settings_say_which_bundles_run_there_and_under_which_names() -> None:
    remote = Remote(url="http://t:8000", bundles=("a",), model="brain_{bundle}.{network}")
    assert remote.model_of("a", "detector") == "brain_a.detector"
    assert Analysis(remote=remote).remote_of("a") is remote
    assert Analysis(remote=remote).remote_of("b") is None
    assert Analysis(remote=Remote(url="http://t:8000")).remote_of("b") is not None
    for wrong in ("model", "{bundle}", "{network}/{bundle}", "{network}{other}"):
        with pytest.raises(ValueError, match=r"model"):
            Remote(url="http://t:8000", model=wrong)


@given(st.binary(max_size=300), st.integers(-3, 300))
def test_whatever_comes_is_an_answer_or_an_error_of_one_kind(content: bytes, json_bytes: int) -> None:
    good = json.dumps({"outputs": [{"name": "p", "datatype": FP32, "shape": [1], "data": [1]}]}).encode()
    for each in (content, good[:json_bytes], good + content):
        reply = Reply(200, {"inference-header-content-length": str(json_bytes)}, each)
        for read in (described, lambda r: inference_of(r, "p")):
            try:
                read(reply)
            except ValueError:
                continue


def test_a_request_is_as_the_protocol_describes_it() -> None:
    values = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    headers, body = request_of("image", values, "probability")
    json_bytes = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:json_bytes]) == {
        "inputs": [
            {
                "name": "image",
                "datatype": "FP32",
                "shape": [1, 2, 2, 1],
                "parameters": {"binary_data_size": 16},
            }
        ],
        "outputs": [{"name": "probability", "parameters": {"binary_data": True}}],
    }
    assert body[json_bytes:] == values.astype("<f4").tobytes()
