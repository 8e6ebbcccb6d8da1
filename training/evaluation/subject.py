"""From the files of one participant to what each row foretells: embeddings, then outcomes, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle import PROBES
from models.networks.masked_autoencoder import Encoder, build
from training.evaluation import rest as resting
from training.evaluation import trial_file
from training.evaluation.attention import AttentionPool, learn
from training.evaluation.embedding import embeddings, tokens
from training.evaluation.outcomes import Layout, outcome
from training.evaluation.rows import COUNTED, FROM_REST, OWN_ENCODER, PERMUTED, REMOVED, WORDS, Given, row
from training.evaluation.settings import Measures
from training.evaluation.steps import Step, key
from training.evaluation.trial_file import Seen
from training.pretrain import load_encoder

Question = tuple[str, str]  # protocol (threshold, psychometric) and probe (prestimulus, evoked)
TOKENS_AT_ONCE = 30_000_000  # numbers: of more latents than these, fewer pairs are taken to learn the pooling from


@dataclass(frozen=True, eq=False)
class Subject:
    """One participant's files. `sessions`: protocol -> a file of trials each; `new` names those only tested on.
    `encoders`: mae, and of time_shuffled and no_cross_session what there is."""

    name: str
    folder: Path
    sessions: dict[str, list[Path]]
    new: frozenset[str]
    rest: Path
    encoders: dict[str, Path]
    full: bool  # with every control, and each session by itself
    group: str = ""  # whom it is put together with

    @property
    def questions(self) -> list[Question]:
        return [(protocol, probe) for protocol in self.sessions for probe in PROBES]

    def rows(self) -> list[str]:
        there = {*self.encoders, "untrained", "electrodes_permuted"} if self.full else set()
        return [name for name in WORDS if name not in OWN_ENCODER or name in there]

    def embedded_by(self) -> list[str]:
        return ["mae", REMOVED, *(name for name in OWN_ENCODER if name in self.rows())]

    def resting_by(self) -> list[str]:
        return [name for name in self.embedded_by() if name == "mae" or name in ("no_cross_session", "untrained")]


def load(subject: Subject, question: Question) -> tuple[Seen, Layout]:
    seen = trial_file.read(subject.sessions[question[0]], question[1])
    new = np.isin(seen.trials.session, sorted(subject.new))
    return seen, Layout.of(seen.trials.session, seen.trials.perceived, new)


def embedding_file(subject: Subject, question: Question, name: str, measures: Measures) -> Path:
    encoder = subject.encoders.get(name, subject.encoders["mae"])
    known = key(_trials_of(subject, question), encoder.name, measures.removed_electrodes if name == REMOVED else None)
    return subject.folder / f"embedded-{'-'.join(question)}-{name}-{known}.npz"


def _trials_of(subject: Subject, question: Question) -> list[str]:
    return [file.name for file in subject.sessions[question[0]]] + sorted(subject.new)


def attention_file(subject: Subject) -> Path:
    return subject.folder / f"attention-{key(subject.encoders['mae'].name, subject.rest.name)}.npz"


def resting_file(subject: Subject, name: str) -> Path:
    encoder = subject.encoders.get(name, subject.encoders["mae"])
    return subject.folder / f"resting-{name}-{key(encoder.name, subject.rest.name)}.npz"


def outcome_file(subject: Subject, question: Question, name: str, measures: Measures) -> Path:
    used = [_trials_of(subject, question), subject.rest.name if name in FROM_REST else None]
    if encoder := _encoded_by(name):
        used.append(embedding_file(subject, question, encoder, measures).name)
    asked = [measures.labels, measures.draws, measures.components, measures.permutations, subject.full]
    return subject.folder / f"foretold-{'-'.join(question)}-{name}-{key(used, asked)}.npz"


def _encoded_by(name: str) -> str | None:
    """Whose embeddings a row reads."""
    if name in (*OWN_ENCODER, REMOVED):
        return name
    return "mae" if name.startswith("mae") else None


def steps(subject: Subject, measures: Measures) -> list[Step]:
    """In the order in which they can be done."""
    found = [Step(attention_file(subject), partial(_learn_attention, subject), "attention pooling")]
    for name in subject.resting_by():
        found.append(Step(resting_file(subject, name), partial(_embed_rest, subject, name), f"resting: {name}"))
    for question in subject.questions:
        for name in subject.embedded_by():
            file = embedding_file(subject, question, name, measures)
            found.append(Step(file, partial(_embed, subject, question, name, measures), f"embeddings: {name}"))
    for question in subject.questions:
        for name in [*subject.rows(), REMOVED]:
            file = outcome_file(subject, question, name, measures)
            found.append(Step(file, partial(_foretell, subject, question, name, measures), f"fits: {name}"))
    return found


# The work ------------------------------------------------------------------------------------------------------------


def _learn_attention(subject: Subject, file: Path) -> None:
    encoder, _ = load_encoder(subject.encoders["mae"])
    rest, config = resting.read(subject.rest), encoder.config
    most = max(64, TOKENS_AT_ONCE // (config.tokens * config.width))
    chosen = np.linspace(0, len(rest.first) - 1, min(most, len(rest.first))).astype(int)
    usable = torch.from_numpy(rest.usable[chosen])

    def half(windows: NDArray[np.float16]) -> torch.Tensor:
        kept = torch.from_numpy(windows[chosen])
        parts = [
            tokens(encoder, kept[k : k + 32].float(), usable[k : k + 32])[0].half() for k in range(0, len(kept), 32)
        ]
        return torch.cat(parts)

    visible = usable.repeat_interleave(config.patches, dim=1)
    pool = learn(half(rest.first), half(rest.second), visible, torch.from_numpy(rest.session[chosen]))
    with file.open("wb") as stream:
        np.savez(stream, queries=pool.queries.numpy())


def _embed(subject: Subject, question: Question, name: str, measures: Measures, file: Path) -> None:
    seen, layout = load(subject, question)
    encoder, attention = _encoder(subject, name), None
    windows, usable = seen.trials.windows, seen.trials.usable
    if name == "mae":
        with np.load(attention_file(subject)) as stored:
            attention = AttentionPool(encoder.config.width, len(stored["queries"]))
            attention.queries.data = torch.from_numpy(stored["queries"])
    if name == "electrodes_permuted":
        order = np.random.default_rng(0).permutation(windows.shape[1])
        windows, usable = windows[:, order], usable[:, order]
    if name == REMOVED:
        usable = _some_removed(usable, layout.test, measures.removed_electrodes)
    found = embeddings(encoder, windows, usable, attention)
    kept = found if name == "mae" else {"mean": found["mean"]}
    with file.open("wb") as stream:
        np.savez(stream, **kept)


def _encoder(subject: Subject, name: str) -> Encoder:
    encoder, _ = load_encoder(subject.encoders.get(name, subject.encoders["mae"]))
    if name != "untrained":
        return encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(encoder.config).encoder.eval()


def _embed_rest(subject: Subject, name: str, file: Path) -> None:
    """Of windows in the sessions that encoders were trained on, and of held-out ones; the latter's mean MUA beside."""
    rest, encoder = resting.read(subject.rest), _encoder(subject, name)
    with file.open("wb") as stream:
        np.savez(
            stream,
            first=embeddings(encoder, rest.first, rest.usable)["mean"],
            session=rest.session,
            held_out=embeddings(encoder, rest.held_out, rest.held_out_usable)["mean"],
            held_out_session=rest.held_out_session,
            held_out_date=rest.held_out_date,
            held_out_mean_z=rest.held_out.astype(np.float32).mean(axis=(1, 2)),
        )


def _some_removed(usable: NDArray[np.bool_], rows: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """So many electrodes of each tested trial, others in each, are lost; those learned from keep theirs."""
    usable, rng = usable.copy(), np.random.default_rng(0)
    lost = np.argsort(rng.random((len(rows), usable.shape[1])), axis=1)[:, :n]
    usable[rows[:, None], lost] = False
    return usable


def _foretell(subject: Subject, question: Question, name: str, measures: Measures, file: Path) -> None:
    seen, layout = load(subject, question)
    embedded = {}
    if encoder := _encoded_by(name):
        with np.load(embedding_file(subject, question, encoder, measures)) as stored:
            embedded[encoder] = {pooling: stored[pooling].astype(np.float64) for pooling in stored}
    rest = resting.read(subject.rest) if name in FROM_REST else None
    given = Given(seen.trials, layout, rest, embedded, measures.components)
    found = outcome(
        row(name, given),
        layout,
        measures.labels if name in COUNTED else (),
        measures.draws,
        by_each_session=subject.full and name != REMOVED,
        permutations=measures.permutations if name in PERMUTED and (subject.full or name == "mae") else 0,
    )
    with file.open("wb") as stream:
        np.savez(stream, **found.arrays())
