"""From the files of one participant to what each row foretells: embeddings, then outcomes, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import OperatorFault
from models.manifest import PROBES
from models.networks.masked_autoencoder import Encoder, build
from models.networks.slow_pooling import PLAIN
from training.evaluation import identity, looks, trial_file, unlabelled
from training.evaluation import rest as resting
from training.evaluation.costs import Size, fits
from training.evaluation.embedding import POOLINGS, Pooling, embeddings, learned
from training.evaluation.outcomes import Layout, outcome
from training.evaluation.rows import ALWAYS, ENCODERS, PERMUTED, WITH_CONTROLS, WORDS, Row, predictor
from training.evaluation.settings import Measures
from training.evaluation.slow import SlowMap
from training.evaluation.steps import Step, key
from training.evaluation.trial_file import Seen
from training.pretrain import load_encoder
from training.slow_pooling import DIRECTIONS, POWERS, steady

Question = tuple[str, str]  # protocol (threshold, psychometric) and probe (prestimulus, evoked)
OF_MAE = ("mae", "electrodes_removed", "electrodes_permuted")  # one encoder, other windows


@dataclass(frozen=True, eq=False)
class Subject:
    """One participant's files. `sessions`: protocol -> a file of trials each; `new` names those only tested on.
    `encoders`: mae, and of time_shuffled and no_cross_session what there is."""

    name: str
    group: str  # whom it is put together with
    folder: Path
    sessions: dict[str, list[Path]]
    sizes: dict[str, Size]  # by protocol
    new: frozenset[str]
    rest: Path
    encoders: dict[str, Path]
    full: bool  # with every control, and each session by itself
    measures: Measures
    positions: NDArray[np.float64] | None = None  # (channels, 2) on the array's grid, where they are known

    @property
    def questions(self) -> list[Question]:
        return [(protocol, probe) for protocol in self.sessions for probe in PROBES]

    @property
    def encoded_by(self) -> list[str]:
        """Of rows.ENCODERS those that are asked for and there."""
        there = {*self.encoders, "untrained", "electrodes_permuted"} if self.full else set()
        return [name for name in ENCODERS if name in ALWAYS or name in there]

    @property
    def rows(self) -> list[Row]:
        rows = [Row.of(name) for name in WORDS if self.full or name not in WITH_CONTROLS]
        return [row for row in rows if row.encoder is None or row.encoder in self.encoded_by]

    def poolings(self, name: str) -> list[str]:
        """How the tokens of this encoder are pooled."""
        if name != "mae":
            return ["mean", "place"]
        return [each for each in POOLINGS if self.full or f"mae_{each}" not in WITH_CONTROLS]

    def load(self, question: Question) -> tuple[Seen, Layout]:
        seen = trial_file.read(self.sessions[question[0]], question[1])
        new = np.isin(seen.trials.session, sorted(self.new))
        return seen, Layout.of(seen.trials.session, seen.trials.perceived, new)

    # Where everything lies -------------------------------------------------------------------------------------------

    def unlabelled_file(self) -> Path:
        return self.folder / f"unlabelled-{key(self.rest.name, self.measures.components)}.npz"

    def resting_file(self, name: str) -> Path:
        learned = [DIRECTIONS, POWERS, PLAIN, self.poolings(name), identity.C]
        known = key(self._weights(name).name, name == "untrained", self.rest.name, learned)
        return self.folder / f"resting-{name}-{known}.npz"

    def embedded_file(self, question: Question, name: str) -> Path:
        asked = self.measures.removed_electrodes if name == "electrodes_removed" else None
        learned = [self.resting_file(_source(name)).name, self.unlabelled_file().name]
        known = key(self._trials(question), learned, name, asked)
        return self.folder / f"embedded-{'-'.join(question)}-{name}-{known}.npz"

    def outcome_file(self, question: Question, row: Row) -> Path:
        used: list[Any] = [self._trials(question)]
        if row.encoder:
            used.append(self.embedded_file(question, row.encoder).name)
        if row.from_rest:
            used.append(self.unlabelled_file().name)
        one = self.measures
        asked = [one.labels, one.draws, one.components, one.permutations, self.full]
        return self.folder / f"foretold-{'-'.join(question)}-{row.name}-{key(used, asked)}.npz"

    def looks_file(self) -> Path:
        asked = [self.embedded_file(question, "mae").name for question in self.looked_at]
        return self.folder / f"looks-{key(asked, self.rest.name, looks.ROWS)}.npz"

    @property
    def looked_at(self) -> list[Question]:
        """The questions whose electrodes are asked for: of one protocol, near threshold where there is that."""
        protocol = "threshold" if "threshold" in self.sessions else next(iter(self.sessions))
        return [(protocol, probe) for probe in PROBES]

    def _trials(self, question: Question) -> list[str]:
        return [file.name for file in self.sessions[question[0]]] + sorted(self.new)

    def _weights(self, name: str) -> Path:
        return self.encoders.get(name, self.encoders["mae"])

    def encoder(self, name: str) -> Encoder:
        encoder, _ = load_encoder(self._weights(name))
        if name != "untrained":
            return encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(encoder.config).encoder.eval()


def steps(subject: Subject) -> list[Step]:
    """In the order in which they can be done."""
    windows = subject.measures.rest_windows
    amounts = {"fit 768": 0.005 * windows}  # as long as that: measured
    found = [Step(subject.unlabelled_file(), partial(_learn_rivals, subject), "rivals' share of rest", amounts)]
    for name in dict.fromkeys(_source(name) for name in subject.encoded_by):
        amounts = {"rest encoded": 1.1 * windows, "fit 768": 60.0}
        found.append(Step(subject.resting_file(name), partial(_embed_rest, subject, name), f"resting: {name}", amounts))
    for question in subject.questions:
        size = subject.sizes[question[0]]
        for name in subject.encoded_by:
            file, amounts = subject.embedded_file(question, name), {"encoded": float(size.altogether)}
            found.append(Step(file, partial(_embed, subject, question, name), f"embeddings: {name}", amounts))
        for row in subject.rows:
            file, by_each = subject.outcome_file(question, row), subject.full and row.by_each
            amounts = fits(row.columns, size, subject.measures, row.by_few, by_each)
            found.append(Step(file, partial(_foretell, subject, question, row), f"fits: {row.name}", amounts))
    if subject.full:
        asked = looks.passes(subject.measures.held_out_windows, len(looks.ROWS) * len(subject.looked_at))
        found.append(Step(subject.looks_file(), partial(_look, subject), "looks", {"encoded": asked}))
    return found


def _source(name: str) -> str:
    """Whose resting activity a row of encoder `name` learned its pooling from."""
    return "mae" if name in OF_MAE else name


# The work ------------------------------------------------------------------------------------------------------------


def _learn_rivals(subject: Subject, file: Path) -> None:
    unlabelled.write(file, unlabelled.learned(resting.read(subject.rest), subject.measures.components))


def _embed_rest(subject: Subject, name: str, file: Path) -> None:
    """What an encoder's poolings learn from rest; and embeddings of it, for who asks what else they tell."""
    rest, encoder = resting.read(subject.rest), subject.encoder(name)
    pooling = learned(encoder, rest)
    seen = embeddings(encoder, pooling, rest.windows, rest.usable, exact=False)
    held_out = embeddings(encoder, pooling, rest.held_out, rest.held_out_usable)
    arrays: dict[str, NDArray[Any]] = {f"pooling.{name}": value for name, value in vars(pooling).items()}
    for each in subject.poolings(name):
        slow = steady(seen[each], rest)
        arrays |= {f"{each}.centre": slow.centre, f"{each}.directions": slow.directions}
    arrays |= {f"told.{name}": value for name, value in vars(identity.told(seen["mean"], rest.session)).items()}
    arrays |= {"held_out": held_out["mean"]}
    arrays |= {"held_out_session": rest.held_out_session, "held_out_date": rest.held_out_date}
    arrays["held_out_mean_z"] = rest.held_out.astype(np.float32).mean(axis=(1, 2))
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def _embed(subject: Subject, question: Question, name: str, file: Path) -> None:
    """Each pooling, as it is and by its slow directions."""
    seen, layout = subject.load(question)
    windows, usable = seen.trials.windows, seen.trials.usable
    if name == "electrodes_permuted":
        order = np.random.default_rng(0).permutation(windows.shape[1])
        windows, usable = windows[:, order], usable[:, order]
    if name == "electrodes_removed":
        usable = _some_removed(usable, np.concatenate([layout.later, layout.new]), subject.measures.removed_electrodes)
    with np.load(subject.resting_file(_source(name))) as stored:
        pooling = Pooling(*(stored[f"pooling.{field}"] for field in Pooling.__dataclass_fields__))
        slow = {
            each: SlowMap(stored[f"{each}.centre"], stored[f"{each}.directions"]) for each in subject.poolings(name)
        }
    found = embeddings(subject.encoder(name), pooling, windows, usable)
    if not all(np.isfinite(one).all() for one in found.values()):
        raise OperatorFault(f"{subject.name}: found NaN in the embeddings of {name}; its checkpoint is of no use")
    kept = {each: found[each] for each in subject.poolings(name)}
    arrays = {each: value.astype(np.float16) for each, value in kept.items()}
    arrays |= {f"{each}_slow": slow[each](value).astype(np.float32) for each, value in kept.items()}
    window = unlabelled.read(subject.unlabelled_file()).features("statistics_slow", windows, usable)
    arrays["served"] = np.hstack([arrays["place_slow"], window]).astype(np.float32)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def _some_removed(usable: NDArray[np.bool_], rows: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """So many electrodes of each tested trial, others in each, are lost; those learned from keep theirs."""
    usable, rng = usable.copy(), np.random.default_rng(0)
    lost = np.argsort(rng.random((len(rows), usable.shape[1])), axis=1)[:, :n]
    usable[rows[:, None], lost] = False
    return usable


def _foretell(subject: Subject, question: Question, row: Row, file: Path) -> None:
    seen, layout = subject.load(question)
    embedded = {}
    if row.encoder:
        with np.load(subject.embedded_file(question, row.encoder)) as stored:
            embedded = {row.pooling: stored[row.pooling].astype(np.float64)}
    rivals = unlabelled.read(subject.unlabelled_file()) if row.from_rest else None
    found = outcome(
        predictor(row, seen.trials, embedded, rivals, subject.measures.components),
        layout,
        subject.measures.labels if row.by_few else (),
        subject.measures.draws,
        by_each_session=subject.full and row.by_each,
        permutations=subject.measures.permutations if row.name in PERMUTED and subject.full else 0,
    )
    with file.open("wb") as stream:
        np.savez(stream, **found.arrays())


def _look(subject: Subject, file: Path) -> None:
    """Reconstructions of held-out rest, and saliency of the probes."""
    arrays: dict[str, NDArray[Any]] = {}
    told: dict[str, Any] = {}
    if looks.rebuilds(subject.encoders["mae"]):
        arrays, told["rebuilt"] = looks.reconstructions(subject.encoders["mae"], subject.rest)
    encoder = subject.encoder("mae")
    for question in subject.looked_at:
        seen, layout = subject.load(question)
        for row in looks.ROWS:
            files = subject.embedded_file(question, "mae"), subject.resting_file("mae")
            maps, numbers = looks.electrodes(seen, layout, *files, encoder, row)
            name = ".".join([*question, row])
            arrays |= {f"{kind}.{name}": value for kind, value in maps.items()}
            told[f"saliency.{name}"] = numbers
    if subject.positions is not None:
        arrays["position"] = subject.positions
    looks.write(file, arrays, told)
