"""A service in a process of its own, to be killed: it prints its address, and plays a decode thread until then."""

from __future__ import annotations

import time

from tests.server.test_real_server import Running

if __name__ == "__main__":
    running = Running()
    print(f"http://127.0.0.1:{running.port}/", flush=True)
    while True:
        running.live.say()
        time.sleep(0.01)
