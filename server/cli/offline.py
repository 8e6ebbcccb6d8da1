"""Commands that work on files: decode, mua, counts, pretrain, distill, probe, export, bench, certify, soak."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from models.errors import OperatorFault
from server.cli.options import (
    Config,
    Mode,
    Model,
    Participant,
    Precision,
    Provider,
    Recording,
    Scale,
    Stream,
)

if TYPE_CHECKING:
    from models.manifest import PrecisionName, ProviderName

Data = Annotated[list[Path], typer.Argument(help="Recordings, MUA, spike counts (.npz), or folders of them.")]
PRESETS = "paper, base, small, tiny, micro, live, ci, nano or pico."


def decode(
    recording: Recording,
    out: Annotated[Path, typer.Option(help="Parquet file, not there yet.")],
    model: Model = None,
    participant: Annotated[str | None, typer.Option(help="Whose cortex, where the file does not say.")] = None,
    mode: Annotated[Mode, typer.Option(help="A window every hop, or one after each stimulation.")] = Mode.continuous,
    hop_s: Annotated[float, typer.Option(help="Seconds between windows.")] = 0.01,
    stream: Stream = None,
    scale_uv: Scale = None,
    masks: Annotated[Path | None, typer.Option(help="JSON list of what PUT /v1/channels answered.")] = None,
) -> None:
    """Decode a recording with the very chain that serves, into Parquet."""
    from server.bundles import Bundles
    from server.settings import load
    from streaming.offline import decode, read_masks
    from streaming.sources.recording import open_recording

    settings = load(None, model=model)
    decoder = Bundles(settings.bundles, settings.provider, settings.precision).open(settings.model)
    source = open_recording(recording, stream, pace=None, scale_uv=scale_uv)
    stamped = [] if masks is None else read_masks(masks, source.info.n_channels)
    count = decode(source, decoder, out, mode.value, hop_s, participant, stamped)
    print(f"{out}: {count} predictions")


def mua(
    recording: Recording,
    out: Annotated[Path, typer.Option(help="NWB file, not there yet.")],
    stream: Stream = None,
    scale_uv: Scale = None,
) -> None:
    """The 1 kHz multi-unit envelope of a recording, as NWB."""
    from training.mua import mua

    mua(recording, out, stream=stream, scale_uv=scale_uv)


def counts(
    recording: Annotated[Path, typer.Argument(help="NWB with a units table.")],
    out: Annotated[Path, typer.Option(help=".npz file, not there yet.")],
    bin_s: Annotated[float, typer.Option(help="Width of a bin, seconds.")] = 0.02,
) -> None:
    """The spikes of a recording's units counted in bins, as `pretrain` takes them."""
    from training.counts import bin_spikes

    bins, channels = bin_spikes(recording, out, bin_s)
    print(f"{out}: {bins} bins of {channels} units")


def pretrain(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints.")],
    preset: Annotated[str, typer.Option(help=f"The network: {PRESETS}")] = "live",
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many steps.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML: [network], [training], [normaliser].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out ended.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, windows and masks.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be trained on and held out.")] = False,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, or auto: the best that is here.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes on each node, a GPU each.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; torchrun or SLURM starts them.")] = 1,
) -> None:
    """Pretrain the masked autoencoder on recordings; training/settings.py says what can be chosen."""
    from training.pretrain import pretrain

    pretrain(data, out, preset, steps, settings, resume, seed, plan, accelerator, devices, nodes)


def distill(
    teacher: Annotated[Path, typer.Argument(help="Folder or file of `phosphene pretrain`.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the student's checkpoints.")],
    preset: Annotated[str, typer.Option(help=f"The student's network: {PRESETS}")] = "live",
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many steps.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML: [network], [distillation].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out ended.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights and windows.")] = 0,
    accelerator: Annotated[str, typer.Option(help="cpu, cuda, or auto: the best that is here.")] = "auto",
) -> None:
    """Teach a small encoder to say what a large one says, on recordings of rest; docs/distillation.md."""
    from training.distill import distill

    distill(teacher, data, out, preset, steps, settings, resume, seed, accelerator)


def probe(
    checkpoint: Annotated[Path, typer.Argument(help="Folder or file of `phosphene pretrain` or `distill`.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the fitted probes.")],
    settings: Annotated[Path | None, typer.Option(help="TOML whose [normaliser] replaces the checkpoint's.")] = None,
    pooling: Annotated[str, typer.Option(help="slow: directions learned from rest; mean: of the tokens.")] = "slow",
) -> None:
    """Fit and calibrate probes on the trials of stimulation sessions; rest among them teaches the pooling."""
    from training.probe import probe

    probe(checkpoint, data, out, settings, pooling)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder or file of `phosphene pretrain` or `distill`.")],
    probes: Annotated[Path, typer.Argument(help="Folder of `phosphene probe`.")],
    name: Annotated[str, typer.Option(help="Name of the bundle; its next version is written.")],
    participant: Annotated[str, typer.Option(help="Whom it was fitted to, or simulated.")],
    out: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("runs/bundles"),
) -> None:
    """Export an encoder and its probes as a bundle."""
    from training.export import export

    export(checkpoint, probes, out, name, participant)


def bench(
    rows: Annotated[list[str] | None, typer.Argument(help="Which rows; all where none is named.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long the whole path is watched.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="JSON file, not there yet; pictures beside it.")] = None,
    choose: Annotated[
        str | None, typer.Option(help="Instead: which bundle decodes best within so long on this machine, as 5ms.")
    ] = None,
    bundles: Annotated[Path | None, typer.Option(help="Folder of bundles to choose from. [those of serve]")] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="Of the rows scale and hop-1ms, and of --choose. [cpu]")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Of the same. [int8, float32 on a GPU; for --choose all]")
    ] = None,
    peers: Annotated[bool, typer.Option("--peers", help="The same by ezmsg, mne-lsl, torch, too.")] = False,
) -> None:
    """Measure each stage and the whole path on this machine, beside its noise floor."""
    from server.bench.main import bench

    on: ProviderName = provider.value if provider else "cpu"
    word: Literal["auto"] | PrecisionName = precision.value if precision else "auto"
    kind = None if word == "auto" else word
    if choose is not None:
        _choose(choose, bundles, out, on, kind)
        return
    asked = provider is not None or precision is not None
    run = (on, kind or ("int8" if on == "cpu" else "float32")) if asked else None
    bench(rows or [], seconds, out, peers, run)


def _choose(
    budget: str, bundles: Path | None, out: Path | None, provider: ProviderName, precision: PrecisionName | None
) -> None:
    import orjson

    from server.bench.choose import budget_ms, choose, sentences
    from server.settings import load

    ms = budget_ms(budget)
    if out is not None and out.exists():
        raise OperatorFault(f"{out}: exists already and is never overwritten; choose another --out")
    found = choose(ms, bundles or load(None).bundles, provider, precision)
    for one in found["points"]:
        accuracy = "–" if one["balanced_accuracy"] is None else f"{one['balanced_accuracy']:.1f} %"
        print(
            f"{one['name']:<20} {one['precision']:<8} {accuracy:>7}  {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} "
            f"({one['participant']})"
        )
    for why in found["left_out"]:
        print(f"left out: {why}")
    for sentence in sentences(found):
        print(sentence)
    if out is not None:
        out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def certify(
    out: Annotated[Path, typer.Option(help="HTML file, not there yet; its numbers as JSON beside it.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the loop runs.")] = 10.0,
    source: Annotated[str | None, typer.Option(help="lsl:PREDICATE of the amplifier. [a simulated sender]")] = None,
    participant: Participant = None,
    model: Model = None,
    config: Config = None,
    subscribers: Annotated[int, typer.Option(min=1, max=500, help="Clients; the first is timed.")] = 10,
) -> None:
    """Run the whole loop on this rig for a while, and write a dated report of the latencies that it holds.

    Exit status 1 where something was lost, memory grew, or none of the deadlines is held.
    """
    from server.bench.certify import certify, sound

    given = {"--participant": participant, "--model": model, "--config": config}
    options = [text for name, value in given.items() if value is not None for text in (name, str(value))]
    found = certify(60 * minutes, out, source, options, subscribers)
    for one in found["verdicts"]:
        print(f"{'holds' if one['holds'] else 'DOES NOT HOLD':<14}{one['what']}: {one['found']}")
    print(f"written: {out}")
    if not sound(found["verdicts"]):
        raise typer.Exit(1)


def soak(
    out: Annotated[Path, typer.Option(help="Folder, not there yet, for the report and what it was judged on.")],
    minutes: Annotated[float, typer.Option(min=0.5, help="How long the service is beset.")] = 60.0,
    chaos: Annotated[int, typer.Option(min=0, help="Seed of the faults.")] = 0,
) -> None:
    """Run service, participant, operator, clients and random faults for a while, and check what must hold."""
    from server.soak.soak import soak

    found = soak(minutes, chaos, out, lambda line: print(line, file=sys.stderr, flush=True))
    for one in found["verdicts"]:
        print(f"{'holds' if one['holds'] else 'DOES NOT HOLD':<14}{one['what']}: {one['found']}")
    print(f"written: {out / 'report.html'}")
    if not all(one["holds"] for one in found["verdicts"]):
        raise typer.Exit(1)


COMMANDS = (decode, mua, counts, pretrain, distill, probe, export, bench, certify, soak)
