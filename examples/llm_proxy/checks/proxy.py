"""Starts the proxy, and talks to its page. For the checks beside this file."""

import contextlib
import json
import re
import subprocess
import time
import urllib.request


class Proxy:
    def __init__(self, process, url):
        self.process, self.url = process, url

    def control(self, **change):
        data = json.dumps(change).encode()
        headers = {"content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/control", data, headers)).read()

    def live(self):
        """What the page is told next."""
        with urllib.request.urlopen(f"{self.url}/live") as events:
            for line in events:
                if line.startswith(b"data: {\"on\""):
                    return json.loads(line[len("data: "):])

    def metric(self, name, **labels):
        text = urllib.request.urlopen(f"{self.url}/metrics").read().decode()
        total = 0.0
        for found, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.M):
            if all(f'{label}="{wanted}"' in found for label, wanted in labels.items()):
                total += float(value)
        return total

    def until(self, holds, what, seconds=3.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            live = self.live()
            if holds(live):
                return
        raise AssertionError(f"not {what} within {seconds} s: {live}")


@contextlib.contextmanager
def proxy(binary, *options):
    command = [binary, "--listen", "127.0.0.1:0", "--preset", "tiny", "--drain", "1", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Proxy(process, process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait(10)
