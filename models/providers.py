"""Opens a model on the provider that was asked for, whole, or not at all.

ONNX Runtime likes to help: a provider whose libraries do not load is left out, an operator that it lacks is computed on
the CPU, a session that fails is opened again with less. A rig would learn of it from its tail. So on a GPU fallback is
off in the runtime and in its Python layer, TensorRT gets no CUDA behind it, and what runs is asked at the end.

There the batch is fixed to the one window of the live path. That leaves no shape to compute (ONNX Runtime does so on
the CPU), and lets CUDA replay the whole model as one graph: unusable channels are masked, so that every window takes
the same operators at the same addresses. docs/decisions/providers.md says why TensorRT's are not captured.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import BundleFault, OperatorFault
from models.manifest import PrecisionName, ProviderName
from models.onnx_file import check_operators, check_weights
from models.runtime import ort

NAMES: dict[ProviderName, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# int8 scales its activations by each window, for which there is no operator on a GPU; no CPU kernel multiplies bfloat16
RUNS: dict[ProviderName, tuple[PrecisionName, ...]] = {
    "cpu": ("float32", "float16", "int8"),
    "cuda": ("float32", "float16", "bfloat16"),
    "tensorrt": ("float32", "float16", "bfloat16"),
}
_NO_FALLBACK = "explicitly disabled by the user"  # ends what the runtime says of a node that is left to the CPU


@dataclass(frozen=True, slots=True)
class Model:
    """A model file of a verified bundle: its bytes, name and bytes of the file that holds its weights where they do not
    lie in it, and the path, for messages."""

    content: bytes
    weights: tuple[str, bytes] | None
    where: str

    def sha256(self) -> str:
        both = hashlib.sha256(self.content)
        both.update(self.weights[1] if self.weights else b"")
        return both.hexdigest()


def open_session(model: Model, provider: ProviderName) -> Any:
    """
    Raises:
        OperatorFault: this machine cannot run the provider, or the provider not all of the model.
        BundleFault: what does not load at all, or keeps tensors elsewhere.
    """
    weights = model.weights
    check_operators(model.content, model.where)
    if weights is None:
        check_weights(model.content, model.where)
    else:
        check_weights(model.content, model.where, weights[0], len(weights[1]))
    wanted = NAMES[provider]
    if provider != "cpu":
        _load_libraries(provider)
    offered = ort.get_available_providers()
    if wanted not in offered:
        raise OperatorFault(f"asked for {provider}, but ONNX Runtime here has {offered}; install the gpu extra")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if weights is not None:  # from memory: what was hashed is what runs, and no path is ever opened
        options.add_external_initializers_from_files_in_memory([weights[0]], [weights[1]], [len(weights[1])])
    if provider != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_free_dimension_override_by_name("batch", 1)
        options.log_severity_level = 4  # what it would log is raised
    chosen = [(wanted, _options(provider, model))]
    try:
        session = ort.InferenceSession(model.content, options, providers=chosen, enable_fallback=False)
    except Exception as error:  # ONNX Runtime raises its own types, which share only this base
        first_line = str(error).splitlines()[0]
        if _NO_FALLBACK in first_line:
            raise OperatorFault(
                f"asked for {provider}, but the CPU would run {model.where} or a part of it: the GPU's driver or "
                f"libraries do not load here, or {provider} is too old for an operator; see `phosphene doctor`, or "
                "serve on the CPU"
            ) from error
        if provider == "tensorrt" and type(error) is RuntimeError:  # as its libraries are looked for
            raise OperatorFault(
                "asked for tensorrt, but its libraries do not load here; install TensorRT 10 for this CUDA beside the "
                "gpu extra, or ask for cuda"
            ) from error
        raise BundleFault(
            f"{model.where} does not load on {provider}: {first_line}; export the bundle again"
        ) from error
    running = session.get_providers()
    if running[0] != wanted:
        raise OperatorFault(f"asked for {provider}, got {running}; check the GPU driver, or serve on the CPU")
    return session


def _load_libraries(provider: ProviderName) -> None:
    """CUDA, cuDNN and TensorRT from the Python packages beside the runtime, where they are not the system's."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no option for it; TF32 costs three digits of the embedding
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    if provider == "tensorrt":
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt")


def _options(provider: ProviderName, model: Model) -> dict[str, Any]:
    match provider:
        case "cpu":
            return {}
        case "cuda":
            return {"use_tf32": 0, "enable_cuda_graph": 1}
        case "tensorrt":  # without fp16 or bf16 of its own: it then keeps to the types in the file
            options = {"trt_engine_cache_enable": 1, "trt_timing_cache_enable": 1}
            folder = str(engine_folder(model.sha256(), options))
            return options | {"trt_engine_cache_path": folder, "trt_timing_cache_path": folder}


def engine_folder(sha256: str, options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Path:
    """Where the engines of a model lie that TensorRT built (which takes minutes) with these options: in a folder that
    nobody else may write to, since an engine is code. Another model, runtime or TensorRT has another one.

    Raises:
        OperatorFault: the folder cannot be made, or belongs to somebody else.
    """
    home = Path(environment.get("HOME") or Path.home())
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    tensorrt = getattr(sys.modules.get("tensorrt"), "__version__", "of the system")
    told = json.dumps([sha256, dict(options), ort.__version__, tensorrt], sort_keys=True)
    folder = caches / "phosphene" / "tensorrt" / hashlib.sha256(told.encode()).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except OSError as error:
        raise OperatorFault(f"{folder}: {error.strerror}; set XDG_CACHE_HOME to a folder for engines") from error
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o077):
        raise OperatorFault(f"{folder} can be written or read by others, expected a folder of ours alone; remove it")
    return folder
