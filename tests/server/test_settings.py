"""Settings: flags over environment over file over defaults, nothing unknown is taken, and all of them are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import OperatorFault
from server.array_settings import ArraySettings
from server.settings import PACKAGED, Settings, load
from server.trigger_settings import PlanSettings, Thresholds
from streaming.trigger import TriggerSettings


@pytest.fixture
def rig(tmp_path):
    def write(text):
        (tmp_path / "rig.toml").write_text(text)
        return tmp_path / "rig.toml"

    return write


def test_precedence(rig, monkeypatch):
    file = rig("port = 8001\nparticipant = 'P1'\nsession = 'file'")
    monkeypatch.setenv("PHOSPHENE__SESSION", "environment")
    monkeypatch.setenv("PHOSPHENE__PORT", "8002")
    settings = load(file, port=8003, model=None)
    assert (settings.port, settings.session, settings.participant) == (8003, "environment", "P1")
    assert (settings.host, settings.source) == ("127.0.0.1", "lsl:name='UtahArray'")
    assert load(file).port == 8002


@pytest.mark.parametrize("text", ["prot = 8001", "port = 'many'", "port = 70000", "port = ", "[live]\nhop = 3"])
def test_wrong_files(rig, text):
    with pytest.raises(OperatorFault) as fault:
        load(rig(text))
    assert "\n" not in str(fault.value)


def test_missing_file(tmp_path):
    with pytest.raises(OperatorFault, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_unknown_environment(monkeypatch):
    monkeypatch.setenv("PHOSPHENE__PROT", "8001")
    with pytest.raises(OperatorFault, match="PHOSPHENE__PROT"):
        load()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "rig.example"])
def test_loopback_only(host):
    with pytest.raises(OperatorFault, match=r"host: found .* this machine only.*ssh -L"):
        load(host=host)


TLS = {"tls_cert": "cert.pem", "tls_key": "key.pem"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"host": "0.0.0.0", "tokens": "tokens.json"}, "without tls_cert"),
        ({"host": "0.0.0.0", "tokens": "none", **TLS}, "this machine only"),
        ({"host": "0.0.0.0", "tls_cert": "cert.pem"}, "expected both or neither"),
        ({"tls_key": "key.pem"}, "expected both or neither"),
        ({"origins": ["https://rig.lab:8000/page"]}, "origins"),
        ({"origins": ["*"]}, "origins"),
    ],
)
def test_what_would_open_it_half(changes, says):
    with pytest.raises(OperatorFault, match=says) as fault:
        load(**changes)
    assert "\n" not in str(fault.value)


def test_a_service_for_other_machines(rig, monkeypatch):
    monkeypatch.delenv("PHOSPHENE__TOKENS")
    settings = load(rig("host = '0.0.0.0'\ntls_cert = 'c.pem'\ntls_key = 'k.pem'\norigins = ['https://rig.lab:8000']"))
    assert (settings.host, settings.tokens, settings.origins) == ("0.0.0.0", None, ("https://rig.lab:8000",))
    assert load(tokens="none").tokens == "none"
    assert load(tokens="a/tokens.json").tokens == Path("a/tokens.json")


def test_further_arrays(rig):
    file = rig("participant = 'P1'\nhop_s = 0.02\nlimits = 'p1.toml'\n[arrays.v4]\nsource = 'b.ns5'\nmodel = 'v4@2'")
    settings = load(file, source="a.ns5")
    v4 = settings.of("v4")
    assert (v4.source, v4.model, v4.port, list(v4.arrays)) == ("b.ns5", "v4@2", 8000, ["v4"])
    assert (v4.hop_s, v4.participant) == (0.01, None), "what a table leaves out is not the first array's"
    assert (v4.limits, v4.stimulator, v4.journal, v4.plan) == (None, "none", None, None)
    assert settings.arrays["v4"].events == settings.events, "markers of the one participant reach every array"


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        (
            "[arrays.v4]\nsource = 'b'\nlimits = 'p'",
            r"arrays\.v4\.limits: .*only the first array may stimulate.*budget",
        ),
        ("[arrays.v4]\nsource = 'b'\nstimulator = 'lsl'", r"arrays\.v4\.stimulator: .*only the first array"),
        ("[arrays.v4]\nsource = 'b'\n[arrays.v4.plan]\nseed = 1", r"arrays\.v4\.plan: .*only the first array"),
        ("[arrays.v4]\nsource = 'b'\nport = 1", r"arrays\.v4\.port: found a setting of the whole service.*at the top"),
        (
            "[arrays.v4]\nsource = 'b'\nprot = 1",
            r"arrays\.v4\.prot: found an unknown setting, expected one of source, .*",
        ),
        ("[arrays.v4]\nsource = 'b'\nhop_s = 0.0105", r"arrays\.v4\.hop_s: .*whole number of milliseconds"),
        ("[arrays.v4]\nmodel = 'b'", "arrays: v4: found no source, expected the array's own"),
        ("[arrays.v4]\nsource = 'a'", "found the source 'a' of the first array.*each stream is decoded once"),
        ("[arrays.b]\nsource = 'b'\n[arrays.c]\nsource = 'b'", "arrays: c: found the source 'b' of b"),
        ("[arrays.V4]\nsource = 'b'", "found the name 'V4', expected a small letter"),
        ("[arrays.'a/b']\nsource = 'b'", "found the name 'a/b'"),
        ("[arrays.first]\nsource = 'b'", "found the name 'first'.*the array at the top"),
    ],
)
def test_arrays_that_are_refused(rig, tables, sentence):
    with pytest.raises(OperatorFault, match=sentence):
        load(rig(f"source = 'a'\n{tables}"))


def test_no_array_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PHOSPHENE__ARRAYS", '{"v4": {"source": "b"}}')
    with pytest.raises(OperatorFault, match="PHOSPHENE__ARRAYS"):
        load()


def rows():
    """The tables of docs/operations.md: of an array, then of the service."""
    fields = ArraySettings.model_fields | {
        name: field for name, field in Settings.model_fields.items() if name not in ArraySettings.model_fields
    }
    return [f"| `{name}` | {as_toml(field.default)} | {field.description} |" for name, field in fields.items()]


def as_toml(default):
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case int() | float():
            return f"{default:g}"
        case str():
            return f'`"{default}"`'
        case Path():
            return f"`{PACKAGED.relative_to(Path(__file__).parents[2])}`"
    return ""


def page():
    return (Path(__file__).parents[2] / "docs" / "operations.md").read_text().split("## Settings")[1].split("\n## ")[0]


def test_the_page_has_them_all():
    table = [line for line in page().splitlines() if line.startswith("| `")]
    assert table == rows(), "put these rows into docs/operations.md:\n" + "\n".join(rows())


def test_thresholds_and_plan_of_the_page_are_the_defaults_and_have_every_key(rig):
    example = page().split("```toml\n")[1].split("```")[0]
    settings, usual = load(rig(example)), TriggerSettings()
    assert settings.thresholds == Thresholds(**{name: getattr(usual, name) for name in Thresholds.model_fields})
    assert settings.plan == PlanSettings(arms=["favourable", "random"], trials_per_arm=100)
    keys = {line.split(" ")[0] for line in example.splitlines()}
    assert {*Thresholds.model_fields, *PlanSettings.model_fields} <= keys
