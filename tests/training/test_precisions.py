"""Each precision is judged by what it decodes: one that calls trials otherwise and worse is not written."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from models.errors import OperatorFault
from models.export import reference
from models.half import _rounded, emulate, halve
from models.manifest import Precision
from models.runtime import ort
from tests.models.bundles import encoder, model_files, probes, windows
from training.heads import replace_heads
from training.precisions import MARGIN, HeldOut, card, described, judge, read_held_out, write_held_out
from training.trials import Trials

HALF = {"prestimulus": 0.5, "evoked": 0.5}


@cache
def backwards() -> bytes:
    """The int8 model of an encoder gone wrong: its probes say the opposite."""
    return replace_heads(model_files()[1], {name: (-one.weight, -one.bias) for name, one in probes()})


@pytest.fixture
def only_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.precisions.SHIFT", 1.0)


@cache
def hopeful() -> bytes:
    """An int8 model whose every probability is a little higher, and whose calls are nearly the same."""
    return replace_heads(model_files()[1], {name: (one.weight, one.bias + 0.3) for name, one in probes()})


@cache
def outputs() -> dict[str, np.ndarray]:
    return reference(encoder(), dict(probes()), *windows(200, seed=7))


def trials(n: int = 200, wrong: int = 0) -> dict[str, HeldOut]:
    """`n` trials, of which float32 calls all but the first `wrong` right."""
    shown, usable = windows(200, seed=7)
    found = {}
    for name in ("prestimulus", "evoked"):
        perceived = outputs()[name][:n] > 0.5
        perceived[:wrong] ^= True
        found[name] = HeldOut(shown[:n], usable[:n], perceived)
    return found


def judged(int8: bytes, held_out: dict[str, HeldOut]):
    float32 = model_files()[0]
    models = {"float32": float32, "float16": halve(float32), "int8": int8}
    return judge(models, windows(4), reference(encoder(), dict(probes()), *windows(4)), held_out, HALF)


def test_precisions_that_decode_as_well_are_written():
    found = judged(model_files()[1], trials(wrong=40))
    assert list(found) == ["float32", "float16", "int8"]
    for one in found.values():
        assert one.why_not is None
        for probe, numbers in one.numbers.items():
            less = numbers["less_float32"]
            assert less["interval"][0] <= less["balanced_accuracy"] <= less["interval"][1]
            plain = found["float32"].numbers[probe]["balanced_accuracy"]
            assert numbers["balanced_accuracy"] == pytest.approx(plain + less["balanced_accuracy"])
    assert found["float32"].numbers["evoked"]["called_otherwise"] == 0
    assert found["float32"].off["embedding"] < 1e-5 < found["float16"].off["embedding"] < found["int8"].off["embedding"]


def test_one_that_decodes_worse_is_not():
    found = judged(backwards(), trials())
    assert found["float16"].why_not is None
    assert found["int8"].why_not.startswith(
        "on 200 held-out trials its prestimulus probe differs from float32's by -99"
    )
    assert found["int8"].numbers["prestimulus"]["called_otherwise"] > 0.98
    text = card(found)
    assert "| int8, not written |" in text
    assert f"int8 is not written: {found['int8'].why_not}." in text


def test_a_difference_that_few_trials_cannot_tell_refuses_nothing(only_calls: None):
    """Float32 right in half of the trials: the opposite is right in the others."""
    held_out = trials(40, wrong=20)
    assert judged(backwards(), held_out)["int8"].why_not is None


def test_probabilities_that_are_all_a_little_higher_are_refused():
    """A threshold on the probability was chosen for those of float32."""
    refused = judged(hopeful(), trials(40, wrong=20))["int8"]
    assert refused.numbers["prestimulus"]["probability_shift"] > 0.02
    assert "on 40 held-out trials its prestimulus probabilities are +0.0" in refused.why_not
    assert refused.why_not.endswith("from float32's on average, where 0.02 is allowed")
    assert abs(judged(model_files()[1], trials())["int8"].numbers["evoked"]["probability_shift"]) < 0.02


def test_numbers_that_are_none_refuse_a_precision():
    nothing = replace_heads(model_files()[1], {name: (np.full(64, np.nan), 0.0) for name, _ in probes()})
    assert "prestimulus probabilities that are no numbers" in judged(nothing, trials(10))["int8"].why_not


@pytest.mark.parametrize(("wrong", "refused"), [(96, False), (60, True)])
def test_the_margin_is_of_the_whole_interval(only_calls: None, wrong: int, refused: bool):
    """The opposite of what is right in 104 of 200 trials is 4 points worse, give or take 14; of 140, 40 points."""
    found = judged(backwards(), trials(wrong=wrong))["int8"]
    worst = min(one["less_float32"]["interval"][1] for one in found.numbers.values())
    assert (worst < -MARGIN) == refused == (found.why_not is not None)
    assert all(one["less_float32"]["balanced_accuracy"] < -MARGIN for one in found.numbers.values())


def test_what_the_manifest_says_allows_twice_what_was_found():
    one = judged(model_files()[1], trials(50, wrong=10))["int8"]
    kept = described("int8", one)
    assert (kept.file, kept.probability_tolerance, kept.embedding_tolerance) == ("model.int8.onnx", 0.03, 0.1)
    assert kept.metrics["evoked"]["trials"] == 50
    far = described("int8", replace(one, off={"embedding": 0.2, "prestimulus": 0.01, "evoked": 0.04}))
    assert (far.probability_tolerance, far.embedding_tolerance) == pytest.approx((0.08, 0.4))
    assert Precision.model_validate_json(kept.model_dump_json()) == kept


def test_float16_is_half_the_size_and_takes_batches():
    float32 = model_files()[0]
    half = halve(float32)
    assert len(half) < 0.7 * len(float32)  # of a small network; the graph itself takes some of it
    shown, usable = windows(16, seed=3)
    session = ort.InferenceSession(half, providers=["CPUExecutionProvider"])
    found = session.run(None, {"window": shown, "usable": usable})
    for value, expected in zip(found, reference(encoder(), dict(probes()), shown, usable).values(), strict=True):
        assert value.dtype == np.float32
        assert np.abs(value - expected).max() < 5e-3 * np.abs(expected).max()


def test_held_out_trials_come_back(tmp_path: Path):
    shown, usable = windows(5)
    shown[1, ~usable[1]] = np.nan
    nothing = np.zeros(5)
    kept = Trials(shown, usable, usable[:, 1], nothing, nothing, nothing, nothing, nothing, nothing, 0)
    write_held_out(tmp_path / "held_out.npz", {"evoked": kept})
    found = read_held_out(tmp_path / "held_out.npz", ["evoked"])["evoked"]
    assert np.allclose(found.windows[usable], shown[usable], atol=2e-3)
    assert np.isfinite(found.windows).all()
    assert np.array_equal(found.perceived, kept.perceived)
    for file, names in ((tmp_path / "held_out.npz", ["prestimulus"]), (tmp_path / "nothing.npz", ["evoked"])):
        with pytest.raises(OperatorFault, match="run `phosphene probe` again"):
            read_held_out(file, names)


def test_bfloat16_runs_on_no_cpu_and_its_emulation_rounds_as_torch_does():
    half = halve(model_files()[0], (), "bfloat16")
    assert len(half) < 0.7 * len(model_files()[0])
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        ort.InferenceSession(half, providers=["CPUExecutionProvider"])
    shown, usable = windows(16, seed=3)
    session = ort.InferenceSession(emulate(half), providers=["CPUExecutionProvider"])
    found = session.run(None, {"window": shown, "usable": usable})
    exact = reference(encoder(), dict(probes()), shown, usable)
    rounding = copy.deepcopy(encoder())
    for module in rounding.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, given: (_bfloat16(given[0]),))
            module.register_forward_hook(lambda module, _, product: _rounded_product(module, product))
            module.weight.data = _bfloat16(module.weight.data)
    expected = reference(rounding, dict(probes()), shown, usable)
    for value, near, far in zip(found, expected.values(), exact.values(), strict=True):
        assert value.dtype == np.float32
        assert 1e-5 < np.abs(value - far).max() < 0.03 * np.abs(far).max()
        # closer to torch with rounded products than to torch without; attention's own rounding is left out there
        assert np.abs(value - near).mean() < 0.7 * np.abs(value - far).mean()


def _bfloat16(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.bfloat16).float()


def _rounded_product(module: torch.nn.Linear, product: torch.Tensor) -> torch.Tensor:
    """A product is rounded before a bias is added, which is no part of it."""
    return _bfloat16(product) if module.bias is None else _bfloat16(product - module.bias) + module.bias


def test_weights_are_rounded_to_the_nearest_bfloat16():
    values = np.array([1.0, 1.00390625, 1.01171875, -3.1415927, 1e-30, 65504.0, 0.0], np.float32)  # two ties
    stored = numpy_helper.to_array(_rounded(values, "w", "bfloat16")).astype(np.float32)
    assert np.array_equal(stored, torch.from_numpy(values).to(torch.bfloat16).float().numpy())


def test_what_is_judged_by_emulation_says_so():
    models = {"float32": model_files()[0], "bfloat16": halve(model_files()[0], (), "bfloat16")}
    expected = reference(encoder(), dict(probes()), *windows(4))
    found = judge(models, windows(4), expected, trials(50, wrong=10), HALF)
    assert found["bfloat16"].why_not is None
    assert found["float32"].off["embedding"] < found["bfloat16"].off["embedding"] < 0.02
    assert described("bfloat16", found["bfloat16"]).emulated
    assert not described("float32", found["float32"]).emulated
    assert "bfloat16: emulated, since no CPU runs it" in card(found)
