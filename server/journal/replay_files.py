"""`phosphene journal replay`: journal, recording, bundles and limits from their files, and what came of it in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.errors import OperatorFault
from models.onnx_decoder import OnnxDecoder
from server.bundles import Bundles
from server.journal.read import rows
from server.journal.replay import Replay, Replayed, listed
from server.journal.session import Fields, read_session
from streaming.limits import read_limits
from streaming.sources.recording import read_recording


def replay(
    journal: Path,
    recording: Path,
    limits: Sequence[Path],
    bundles: Path,
    run_id: str | None = None,
    stream: str | None = None,
) -> Replayed:
    """A run of a journal, the last where none is named.

    Raises:
        OperatorFault: a file, a run or a bundle that is not there, or that is another than the journal says.
        JournalFault: a row that is not what was written.
        RigFault: a recording that cannot be read.
    """
    session = read_session(rows(journal), run_id)
    read = read_recording(recording, stream)
    try:
        return Replay(session, read, OpenedBundles(bundles), [read_limits(path) for path in limits]).run()
    finally:
        read.close()


class OpenedBundles:
    """Bundles as they ran then, each opened once."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._opened: dict[tuple[str, str, str], OnnxDecoder] = {}

    def __call__(self, about: Fields) -> OnnxDecoder:
        name, wanted, how = about["model"], about["bundle_sha256"], (about["provider"], about["precision"])
        if (wanted, *how) not in self._opened:
            decoder = Bundles(self._repository, *how).open(name)
            found = decoder.manifest.manifest_sha256
            if found != wanted:
                raise OperatorFault(
                    f"bundle {name} of {self._repository}: found sha256 {found[:12]}…, expected {wanted[:12]}…, which "
                    "decoded then; name the folder that it is in (--bundles)"
                )
            self._opened[wanted, *how] = decoder
        return self._opened[wanted, *how]


def show(found: Replayed) -> str:
    """What the command prints."""
    told = (
        f"run {found.run_id}: {found.predictions} predictions decided again: {found.triggers} triggers, "
        f"{found.shams} shams, {found.would_fire} would have fired; inhibited by {listed(found.inhibited)}"
    )
    verdict = f"DIFFERENT: {found.difference}" if found.difference else "equal: each as the journal has it, to the bit"
    return "\n".join([told, *(f"- {note}" for note in found.notes), verdict])
