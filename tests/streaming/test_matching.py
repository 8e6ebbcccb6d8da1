"""Is this bundle fitted to this stream, and what is told of what is decoded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.errors import BundleFault
from streaming.chunk import row_sha256
from streaming.live_status import LiveSettings
from streaming.matching import Decoding, decoding_settings, why_not_calibrated
from streaming.offline import predictions
from tests.streaming.fakes import QUICK, RATE, ListSource, MeanDecoder, chunks, manifest, stream
from tests.streaming.signal.test_chain import broadband


@pytest.mark.parametrize(
    ("changes", "operator", "sentence"),
    [
        ({"participant": "P2"}, None, "of participant 'P1', the stream of 'P2'"),
        ({"participant": None}, None, "say --participant"),
        ({"participant": "P1"}, "P2", "the operator says 'P2'"),
        ({"rate_hz": 20000.0}, None, "fitted at 30000 Hz"),
    ],
)
def test_probability_is_null_on_any_other_source(changes: dict, operator: str | None, sentence: str) -> None:
    info = stream(**changes)
    assert sentence in (why_not_calibrated(manifest(), info, operator) or "")
    x = broadband(0.6, 4, info.rate_hz)
    last = list(predictions(ListSource(list(chunks(x, [])), info), MeanDecoder(), participant=operator))[-1]
    assert last.flags == ("not_calibrated",)
    assert last.probability is None
    assert last.embedding is not None


def test_the_operators_word_stands_where_the_stream_is_silent() -> None:
    assert why_not_calibrated(manifest(), stream(participant=None), "P1") is None


def test_a_normaliser_that_needs_the_whole_session_is_not_served() -> None:
    chain = replace(QUICK, normaliser=replace(QUICK.normaliser, kind="robust_session"))
    with pytest.raises(BundleFault, match="needs the whole session"):
        decoding_settings(manifest(chain=chain), stream())


def test_what_is_decoded_is_told_from_its_first_sample_on() -> None:
    x = broadband(0.1, 4)
    second = list(chunks(x, [1000]))[1]
    told = Decoding.of(
        MeanDecoder(), stream(participant=None), LiveSettings("evoked", 0.02, "P1"), second, continues=True
    )
    assert (told.source, told.participant, told.fitted_to, told.not_calibrated) == ("live", "P1", "P1", "")
    assert (told.model, told.bundle_sha256, told.min_usable_channels) == ("fake@1", "5ea1", 3)
    assert (told.mode, told.hop_s, told.provider, told.precision) == ("evoked", 0.02, "cpu", "float32")
    assert (told.epoch, told.first_sample, told.continues) == (0, 1000, True)
    assert told.first_time == pytest.approx(second.sample_time - (len(second.samples_uv) - 1) / RATE, abs=1e-12)
    assert told.first_row_sha256 == row_sha256(x[1000])


def test_where_and_when_it_began_is_no_reason_to_disarm() -> None:
    first, second = list(chunks(broadband(0.1, 4), [1000]))[:2]
    tell = [Decoding.of(MeanDecoder(), stream(), LiveSettings(), chunk, continues=False) for chunk in (first, second)]
    assert tell[0] == tell[1]
    assert tell[0] != Decoding.of(MeanDecoder(name="fake@2"), stream(), LiveSettings(), first, continues=False)
    other = Decoding.of(MeanDecoder(), stream(participant="P2"), LiveSettings(), first, continues=False)
    assert "of participant 'P1', the stream of 'P2'" in other.not_calibrated
