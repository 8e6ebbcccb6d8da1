"""The command line. A command imports what it needs when it runs: --help is quick, and serving needs no torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import typer

from models.errors import Fault, OperatorFault
from server.cli import evaluate, experiment, journal, offline, serving, session, tokens

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # whichever click typer brings

# what the serving installation leaves out, and the extra that brings it
EXTRAS = dict.fromkeys(("torch", "lightning", "safetensors", "matplotlib"), "train")
EXTRAS |= dict.fromkeys(("onnx", "sklearn", "threadpoolctl"), "calibrate")
EXTRAS |= dict.fromkeys(("pynwb", "hdmf", "h5py", "neo", "pyxdf", "pyarrow"), "files")
EXTRAS |= {"onnxruntime": "cpu"}

app = typer.Typer(
    help="Reads a Utah array in visual cortex live and predicts whether a stimulation will be perceived.",
    epilog="Start with `phosphene demo`. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (*serving.COMMANDS, *offline.COMMANDS, *session.COMMANDS, *evaluate.COMMANDS, *experiment.COMMANDS):
    app.command()(command)
app.add_typer(journal.app, name="journal")
app.add_typer(tokens.app, name="token")


INTERRUPTED = 130  # as a shell counts it: 128 and the signal's number
AGAIN_S = 0.05


LSL_SETTINGS = Path(__file__).resolve().parent.parent / "lsl_api.cfg"
LSL_LOOKS_IN = ("lsl_api.cfg", "~/lsl_api/lsl_api.cfg", "/etc/lsl_api/lsl_api.cfg")


def main() -> None:
    """Entry point of `phosphene`."""
    sys.unraisablehook = _interrupt_again
    quieten_lsl()
    sys.exit(run(sys.argv[1:]))


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """A Ctrl-C that falls into a destructor or a weak reference's callback is lost there (one in 15, while HDF5 is
    written); it is raised again a moment later."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def quieten_lsl() -> None:
    """Keep liblsl from telling of its own settings amid our lines. Whoever has settings for it keeps them."""
    if not any(Path(place).expanduser().exists() for place in LSL_LOOKS_IN):
        os.environ.setdefault("LSLAPICFG", str(LSL_SETTINGS))


def run(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 failed, 2 called wrongly, 130 interrupted. A fault is one line on standard error."""
    try:
        result = app(arguments, standalone_mode=False)
    except UsageError as error:
        return _say(f"{error.format_message()} (phosphene --help says how)", 2)  # type: ignore[attr-defined]
    except OperatorFault as fault:
        return _say(str(fault), 2)
    except Fault as fault:
        return _say(str(fault), 1)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        return _say(f"this command needs {package}; install it with: pip install 'phosphene[{EXTRAS[package]}]'", 1)
    except ImportError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # so a compiled module tells of a Ctrl-C as it loads
            raise
        return INTERRUPTED
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _say(sentence: str, status: int) -> int:
    print(f"phosphene: {' '.join(sentence.split())}", file=sys.stderr)
    return status
