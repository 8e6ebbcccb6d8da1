"""Programs of ours in processes of their own, and a running service asked as its page asks it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

from models.errors import OperatorFault, RigFault

ANSWERS_S = 10.0
CUT_OFF = (OSError, HTTPException, ValueError)  # by a service that ends in the middle of an answer
ENDS_S = 5.0  # a service that was told to end takes up to 3


@contextmanager
def child(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A Python process of these arguments (and options of Popen), ended with the block; it has no standard output. A
    service among them asks for no token, whatever this user's others do: it is spoken to by us, for a while."""
    options["env"] = {**(options.get("env") or os.environ), "PHOSPHENE__TOKENS": "none"}
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_S)
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(port: int) -> dict[str, Any]:
    """GET /v1/status, or nothing while the service is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=1.0) as answer:
            return dict(json.load(answer))
    except CUT_OFF:
        return {}


def ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the service's own controls, as its page would send it.

    Raises:
        OperatorFault: the service says no, in its words. RigFault: it does not answer.
    """
    headers = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=ANSWERS_S) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise OperatorFault(str(json.load(error)["detail"])) from None
    except CUT_OFF as error:
        raise RigFault(f"{method} {path}: the service on port {port} does not answer ({error})") from error


def arm(port: int) -> str:
    """Both steps, under the limits that the service has; returns the token that renews the lease. Raises as `ask`."""
    sha256 = ask(port, "GET", "/v1/trigger")["limits"]["sha256"]
    token = ask(port, "POST", "/v1/trigger/arm", {"limits_sha256": sha256})["confirm_token"]
    return str(ask(port, "POST", "/v1/trigger/confirm", {"confirm_token": token})["lease_token"])


def wait_for(condition: Callable[[], bool], seconds: float, every_s: float = 0.02) -> None:
    """Raises OperatorFault where the condition does not come true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise OperatorFault(f"the service was not ready within {seconds:g} s; is the machine overloaded?")
        time.sleep(every_s)
