"""The Open Inference Protocol, version 2, for whoever has a client of it: one-shot decoding by the bundle that runs.

Of its REST API there is health, metadata and `infer`; tensors are JSON numbers or, as tritonclient sends them, raw
bytes behind the JSON (its extension `binary_tensor_data`). It gives what POST /v1/decode gives, on the same session and
under the same bounds. It has no null: an output that is not finite is refused, where /v1/decode says null.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from models.decoder import Decoded
from models.errors import Fault, OperatorFault
from models.manifest import Manifest
from server.inference_request import HEADER, read_request
from server.problems import problem
from server.service import Service


def inference_protocol(service: Service, slots: asyncio.Semaphore) -> APIRouter:
    """/v2 and what is below it; `slots` bounds the decode requests of all paths."""
    routes = APIRouter(prefix="/v2")
    paths = ("/models/{name}", "/models/{name}/versions/{version}")

    def refusal(name: str, version: str) -> Response | None:
        running, _, running_version = service.decoder.name.partition("@")
        if name == running and version in ("", running_version):
            return None
        return _no(404, f"found model {name[:80]!r} {version[:20]}, expected {running} {running_version}: it runs")

    @routes.get("")
    async def server() -> Response:
        """Name, version, and which extensions there are."""
        version = version_of("phosphene")
        return _json({"name": "phosphene", "version": version, "extensions": ["binary_tensor_data"]})

    @routes.get("/health/live")
    async def live() -> Response:
        """The process is alive."""
        return _json({"live": True})

    @routes.get("/health/ready")
    async def ready() -> Response:
        """Windows that are brought can be decoded; whether a stream comes is for /readyz to say."""
        return _json({"ready": True})

    async def metadata(name: str, version: str = "") -> Response:
        """Inputs and outputs of the bundle that runs."""
        return refusal(name, version) or _json(_metadata(service.decoder.manifest, service.decoder.name))

    async def model_ready(name: str, version: str = "") -> Response:
        """This is the bundle that runs."""
        return refusal(name, version) or _json({"name": name, "ready": True})

    async def infer(request: Request, name: str, version: str = "") -> Response:
        """Decode windows."""
        body = await request.body()  # before the slot, see POST /v1/decode
        no = refusal(name, version)
        if no is not None:
            return no
        if slots.locked():
            return _no(503, "found 4 decode requests under way, expected fewer; try again")
        async with slots:
            return await asyncio.to_thread(_infer, service, body, request.headers)

    for path in paths:
        kind = "_of_a_version" if "version" in path else ""
        routes.add_api_route(path, metadata, methods=["GET"], name=f"metadata{kind}")
        routes.add_api_route(f"{path}/ready", model_ready, methods=["GET"], name=f"model_ready{kind}")
        routes.add_api_route(f"{path}/infer", infer, methods=["POST"], name=f"infer{kind}")
    return routes


def _infer(service: Service, body: bytes, headers: Mapping[str, str]) -> Response:
    running = service.decoder
    try:
        if headers.get("content-encoding", "identity") != "identity":
            raise OperatorFault("found a compressed body, expected it as it is")
        asked = read_request(body, headers.get(HEADER), running.manifest, running.n_channels, running.n_bins)
        decoded = service.window_decoder(running).steps(asked.windows)
    except Fault as fault:
        return _no(422 if isinstance(fault, OperatorFault) else 503, str(fault))
    name, _, version = running.name.partition("@")
    told: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": []}
    if asked.id:
        told["id"] = asked.id
    raw: list[bytes] = []
    for output, binary in asked.outputs.items():
        values = _values(decoded, output)
        if not np.isfinite(values).all():
            return _no(503, f"found {output} that is not finite; POST /v1/decode gives null for it")
        tensor: dict[str, Any] = {"name": output, "datatype": "FP32", "shape": list(values.shape)}
        if binary:
            raw.append(values.astype("<f4").tobytes())
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = values.ravel()
        told["outputs"].append(tensor)
    text = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return Response(text, media_type="application/json")
    return Response(text + b"".join(raw), headers={HEADER: str(len(text))}, media_type="application/octet-stream")


def _values(decoded: list[Decoded], output: str) -> NDArray[np.float32]:
    """(n, D) embeddings or (n,) probabilities; NaN where there is none."""
    values = [getattr(one, output) for one in decoded]
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _metadata(manifest: Manifest, full_name: str) -> dict[str, Any]:
    name, _, version = full_name.partition("@")
    channels, bins = manifest.input.channels, manifest.input.bins
    outputs = [{"name": "embedding", "datatype": "FP32", "shape": [-1, manifest.embedding_size]}]
    outputs += [{"name": probe, "datatype": "FP32", "shape": [-1]} for probe in sorted(manifest.probes)]
    return {
        "name": name,
        "versions": [version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "window", "datatype": "FP32", "shape": [-1, channels, bins]},
            {"name": "usable", "datatype": "BOOL", "shape": [-1, channels]},
        ],
        "outputs": outputs,
    }


def _no(status: int, detail: str) -> Response:
    """A problem that a client of this protocol understands too: its `error` says the same."""
    return problem(status, detail, more={"error": detail})


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
