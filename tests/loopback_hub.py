"""A small Hugging Face hub on loopback: revisions, file trees and files, nothing else."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/]+))?"
)
FILE = re.compile(r"/((?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


class LoopbackHub:
    """Repositories as {commit: {name: content}}, keyed `models/org/name` or `datasets/org/name`.

    `requests` lists what was asked for; files named in `truncated` are served by half.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, str] = {}
        self.requests: list[str] = []
        self.truncated: set[str] = set()
        self.endpoint = ""

    def push(self, key: str, files: dict[str, bytes]) -> str:
        """Add a commit to the default branch; return its id."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault(key, {})[commit] = dict(files)
        self.heads[key] = commit
        return commit

    def call(self, code: str) -> subprocess.CompletedProcess:
        """Run Python code in a process whose hub this is (the client reads its environment once)."""
        offline = {name: "0" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
        settings = {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        library = Path(__file__).parent.parent / "workflow_scripts"
        environment = {**os.environ, "PYTHONPATH": str(library), **offline, **settings}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """Serve a hub for as long as the context lasts."""
    hub = LoopbackHub()

    class Handler(HubHandler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_large(name: str) -> bool:
    """Say whether the hub keeps a file in large file storage, with a published SHA-256."""
    return name.endswith((".safetensors", ".parquet"))


def blob_id(content: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubHandler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if api := API.fullmatch(path):
            self.answer_api(api)
        elif file := FILE.fullmatch(path):
            self.answer_file(file, body)
        else:
            self.reply(404, b"", {})

    def find(self, match: re.Match) -> tuple[str, dict[str, bytes]] | None:
        key = f"{match['kind'] or 'models'}/{match['repo']}"
        revision = match["revision"] or "main"
        commit = self.hub.heads.get(key) if revision == "main" else revision
        files = self.hub.commits.get(key, {}).get(commit)
        if files is None:
            missing = "RevisionNotFound" if key in self.hub.heads else "RepoNotFound"
            self.reply(404, b"", {"X-Error-Code": missing})
            return None
        return commit, files

    def answer_api(self, match: re.Match) -> None:
        if (found := self.find(match)) is None:
            return
        commit, files = found
        entries = []
        for name, content in files.items():
            entry = {"size": len(content)}
            if is_large(name):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "pointerSize": 134}
                # The two listings of the hub's interface differ in this name.
                entry["lfs"]["oid" if match["what"] == "tree" else "sha256"] = digest
            if match["what"] == "tree":
                entries.append({"type": "file", "path": name, "oid": blob_id(content), **entry})
            else:
                entries.append({"rfilename": name, "blobId": blob_id(content), **entry})
        answer = entries
        if match["what"] != "tree":
            answer = {"id": match["repo"], "sha": commit, "private": False, "siblings": entries}
        self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def answer_file(self, match: re.Match, body: bool) -> None:
        if (found := self.find(match)) is None:
            return
        commit, files = found
        name = match["name"]
        if name not in files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = files[name]
        etag = hashlib.sha256(content).hexdigest() if is_large(name) else blob_id(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
        if body and name in self.hub.truncated:
            content = content[: len(content) // 2]
        self.reply(200, content, headers, body)

    def reply(self, status: int, content: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(content)
