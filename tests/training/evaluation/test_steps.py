"""A step is done once; one that is cut short leaves nothing, and the next run goes on with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from training.evaluation.steps import Step, core_seconds
from training.evaluation.work import Chain, do_chain


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_who_cuts_a_run_short_loses_the_step_that_it_fell_into(tmp_path: Path, end: BaseException) -> None:
    made, cut = [], [True]

    def make(name: str, draft: Path) -> None:
        made.append(name)
        draft.write_text(name)
        if name == "b" and cut.pop():
            raise end

    steps = tuple(Step(tmp_path / name, partial(make, name), name) for name in ("a", "b", "c"))
    with pytest.raises(type(end) if isinstance(end, OSError) else KeyboardInterrupt):
        do_chain(Chain(tmp_path, steps))
    assert {file.name for file in tmp_path.iterdir()} == {"a", "seconds.jsonl"}
    cut.append(False)
    do_chain(Chain(tmp_path, steps))
    assert made == ["a", "b", "b", "c"]
    assert all(step.done and step.file.read_text() == step.words for step in steps)
    assert core_seconds(steps) == 0
    do_chain(Chain(tmp_path, steps))
    assert made == ["a", "b", "b", "c"]
