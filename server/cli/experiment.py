"""phosphene experiment and evaluate-policy: what gating is worth, in simulation and on recorded sessions."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from models.errors import OperatorFault
from server.cli.options import Model


def experiment(
    out: Annotated[Path, typer.Option(help="Folder of the result, not there yet.")],
    trials: Annotated[int, typer.Option(min=1, help="Stimulations in each arm, shams not counted.")] = 1000,
    arms: Annotated[
        str, typer.Option(help="Of favourable, unfavourable, random, open_loop, with commas between.")
    ] = "favourable,random",
    sham: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the blocks without current.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the schedule, and which sessions of the participant.")] = 0,
    broadband: Annotated[
        bool, typer.Option("--broadband", help="Level B: broadband through the live chain, slower.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="One session by the service itself, over LSL in real time.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="With --live: how long it is armed at most. [10]")] = None,
    calibration_minutes: Annotated[
        float, typer.Option(min=1, help="Of each of the earlier sessions: four, or two of broadband.")
    ] = 10.0,
    model: Model = None,
    cores: Annotated[int | None, typer.Option(min=1, help="How many to use; all by default.")] = None,
) -> None:
    """Run the whole loop against the simulated participant, faster than real time, and report what gating was worth."""
    from models.bundle import find_bundle
    from server.live_session import live_session
    from server.settings import load
    from streaming.plan import Arm
    from training.experiment import experiment as run
    from training.experiment_report import headline
    from training.experiment_settings import ExperimentSettings

    chosen = tuple(arm.strip() for arm in arms.split(","))
    known = [arm for arm in get_args(Arm) if arm != "yoked"]
    if unknown := [arm for arm in chosen if arm not in known]:
        raise OperatorFault(f"--arms: found {', '.join(unknown)}, expected some of {', '.join(known)}")
    if len(set(chosen)) < len(chosen):
        raise OperatorFault(f"--arms {arms}: found an arm twice, expected each once")
    if minutes is not None and not live:
        raise OperatorFault(f"--minutes {minutes:g}: belongs to a session in real time; add --live")
    settings = load(None, model=model)
    bundle = find_bundle(settings.bundles, settings.model)
    broadband = broadband or live
    if live:
        minutes = 10.0 if minutes is None else minutes
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing that it began is left behind
    asked = ExperimentSettings(
        trials=trials,
        arms=chosen,
        sham=sham,
        seed=seed,
        broadband=broadband,
        minutes=minutes,
        calibration_sessions=2 if broadband else 4,
        calibration_s=60 * calibration_minutes,
        cores=cores or os.cpu_count() or 1,
    )
    result = run(
        out, bundle, asked, lambda line: print(line, file=sys.stderr, flush=True), live_session if live else None
    )
    print(f"{headline(result)}; {out / 'report.html'}")


def evaluate_policy(
    recordings: Annotated[list[Path], typer.Argument(help="Sessions: broadband, or MUA as NWB.")],
    limits: Annotated[Path, typer.Option(help="The limits file (docs/safety.md).")],
    model: Model = None,
    participant: Annotated[str | None, typer.Option(help="Whose cortex, where a file does not say.")] = None,
    thresholds: Annotated[str | None, typer.Option(help="Which p_on to try, with commas between.")] = None,
    smoothing_s: Annotated[float, typer.Option(help="Running mean of the log odds, seconds.")] = 0.0,
    dwell: Annotated[int, typer.Option(help="Predictions that a state must have lasted.")] = 3,
    hop_s: Annotated[float, typer.Option(help="Seconds between windows.")] = 0.01,
    out: Annotated[Path | None, typer.Option(help="Folder for policy.json and policy.png, not there yet.")] = None,
) -> None:
    """Replay recorded sessions through the trigger, in shadow: how often it fires, and what hit rate to expect."""
    from server.bundles import Bundles
    from server.settings import load
    from streaming.trigger import TriggerSettings
    from training.policy import THRESHOLDS, evaluate_policy, show

    try:
        grid = THRESHOLDS if thresholds is None else tuple(float(p) for p in thresholds.split(","))
    except ValueError:
        raise OperatorFault(
            f"--thresholds {thresholds}: expected numbers with commas between, such as 0.6,0.7"
        ) from None
    settings = load(None, model=model)
    decoder = Bundles(settings.bundles, settings.provider, settings.precision).open(settings.model)
    base = TriggerSettings(smoothing_s=smoothing_s, dwell_hops=dwell)
    show(evaluate_policy(recordings, limits, decoder, grid, base, hop_s, participant, out))


COMMANDS = (experiment, evaluate_policy)
