"""A real Prometheus scrapes the proxy, and every panel of the dashboard has data: python scrape.py PATH-OF-THE-PROXY

`prometheus` is to be found in the path.
"""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from proxy import proxy

HERE = pathlib.Path(__file__).parent
SECONDS = 20


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(url, query):
    answer = urllib.request.urlopen(f"{url}/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    return json.load(answer)["data"]["result"]


def panels():
    """Titles and what they show, as Grafana would ask for it."""
    dashboard = json.loads((HERE.parent / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$gate", ".*").replace("$__rate_interval", "10s")
            yield panel["title"], query


def main(binary):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with proxy(binary, "--load", "3x", "--trace", "code") as up, tempfile.TemporaryDirectory() as scratch:
        config = pathlib.Path(scratch, "prometheus.yml")
        config.write_text(
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
            f"rule_files: [{(HERE.parent / 'alerts.yml').resolve()}]\n"
            f"scrape_configs:\n"
            f"  - job_name: proxy\n"
            f"    static_configs: [{{targets: ['{up.url.removeprefix('http://')}']}}]\n"
        )
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={scratch}/data", f"--web.listen-address=127.0.0.1:{port}"],
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(SECONDS)
            assert ask(url, "up")[0]["value"][1] == "1", "it is not scraped"
            for title, query in panels():
                found = [float(series["value"][1]) for series in ask(url, query)]
                assert found and all(value == value for value in found), f"{title}: no data for {query}: {found}"
                print("ok", title)
            rules = json.load(urllib.request.urlopen(f"{url}/api/v1/rules"))["data"]["groups"][0]["rules"]
            for rule in rules:
                assert rule["health"] == "ok", rule
            print("ok", len(rules), "alert rules")
        finally:
            prometheus.terminate()
            prometheus.wait(10)


if __name__ == "__main__":
    main(sys.argv[1])
