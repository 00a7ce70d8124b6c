"""The writing half of the Hub's API, as far as huggingface_hub uses it for a push. A stub: this is not the Hub.

In:  a `HubServer`, which answers what is asked (olah, a real server) and gives out what is committed here.
Out: an address that takes both: repositories, branches, uploads by the LFS protocol, commits into git.
Guarantee: what olah serves then are git commits with LFS pointers. Whatever the Hub itself decides (rights, quotas,
validation of cards, what counts as a large file) is this file's guess. Xet, by which clients upload to the Hub itself,
is not here: clients need HF_HUB_DISABLE_XET=1, and uploads by it are not tested at all.

    stub.faults.append(Fault(path="/commit/", status=503))       the next commit fails once
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from remote.hub_server import HubServer, Repository

TOKEN = "hf_goodTokenOfTheTests"
SIGNATURE = "X-Amz-Signature=0123456789abcdef"


@dataclass(kw_only=True)
class Fault:
    """What happens to requests with `path` in their address; the connection ends if there is no status."""

    path: str
    method: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    skip: int = 0
    """requests that pass before"""
    done: bool = False
    """it happens after the request was carried out: the answer is lost"""


class HubStub:
    """A running one."""

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self.repositories: dict[str, Repository] = {}
        self.private: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self._large: dict[str, str] = {}
        """digest of each large file by the name of its pointer's blob"""
        self.ignored: set[str] = set()
        """paths that a .gitignore names"""
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.port = int(self._server.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def asked(self, path: str, method: str = "POST") -> int:
        """How many requests of a method had this in their address."""
        return sum(path in each and method == of for of, each in self.requests)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # -- what the Hub would do

    def fault(self, method: str, path: str, *, done: bool) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.path in path and fault.method in (None, method) and fault.done == done and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = f"{body['organization']}/{body['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this dataset repo"}
        repository = self.hub.repository("datasets", name)
        (repository.tree / ".gitattributes").write_text("*.arrow filter=lfs diff=lfs merge=lfs -text\n")
        repository.commit()
        self.repositories[name] = repository
        self.private[name] = body.get("visibility") or ("private" if body.get("private") else "public")
        return 200, {"url": f"{self.endpoint}/datasets/{name}", "name": name}

    def branch(self, name: str, branch: str, body: dict[str, Any]) -> tuple[int, Any]:
        repository = self.repositories[name]
        repository.git("branch", branch, body.get("startingPoint", "main"))
        return 200, {}

    def preupload(self, name: str, revision: str, body: dict[str, Any]) -> tuple[int, Any]:
        there = self._objects(name, revision)
        answers = []
        for file in body["files"]:
            path = file["path"]
            large = path.endswith(".arrow")
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": path in self.ignored}
            answers.append({**answer, "oid": there.get(path)})
        return 200, {"files": answers}

    def batch(self, name: str, host: str, body: dict[str, Any]) -> tuple[int, Any]:
        objects = []
        for each in body["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if not self._stored(name, each["oid"]).is_file():
                upload = {"href": f"http://{host}/lfs/{name}/{each['oid']}?{SIGNATURE}", "header": {}}
                verify = {"href": f"http://{host}/verify/{name}/{each['oid']}", "header": {}}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}

    def put(self, name: str, oid: str, data: bytes) -> int:
        if hashlib.sha256(data).hexdigest() != oid:
            return 400
        stored = self._stored(name, oid)
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(data)
        return 200

    def commit(self, name: str, revision: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        repository = self.repositories[name]
        head = repository.git("rev-parse", f"refs/heads/{revision}")
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", head) != head:
            return 412, {"error": "A commit has happened since. Please refresh and try again."}
        there = self._objects(name, revision)
        message = f"{header['summary']}\n\n{header['description']}".encode()
        stream = b"commit refs/heads/%b\ncommitter test <test@example.com> now\ndata %d\n%b\nfrom %b\n" % (
            revision.encode(),
            len(message),
            message,
            head.encode(),
        )
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                stream += _blob(value["path"], base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if not self._stored(name, value["oid"]).is_file():
                    return 400, {"error": f"an LFS pointer points to a file that does not exist: {value}"}
                text = pointer(value["oid"], value["size"])
                self._large[hashlib.sha1(b"blob %d\0%b" % (len(text), text)).hexdigest()] = value["oid"]
                stream += _blob(value["path"], text)
            elif line["key"] == "deletedFile":
                if value["path"] not in there:
                    return 404, {"error": "A file with this name doesn't exist"}
                stream += f"D {value['path']}\n".encode()
        command = ["git", "-C", str(repository.tree), "fast-import", "--quiet", "--date-format=now"]
        subprocess.run(command, input=stream + b"\ndone\n", check=True, capture_output=True)
        commit = repository.git("rev-parse", f"refs/heads/{revision}")
        return 200, {"commitUrl": f"{self.endpoint}/datasets/{name}/commit/{commit}", "commitOid": commit}

    def commits(self, name: str, revision: str) -> tuple[int, Any]:
        """All of them, the newest first; olah's answer lacks the names that the client looks for."""
        log = self.repositories[name].git("log", "--format=%H%x00%s%x00%b%x01", revision)
        commits = [entry.strip().split("\0") for entry in log.split("\1") if entry.strip()]
        return 200, [
            {"id": commit, "title": title, "message": text, "authors": [], "date": "2026-01-01T00:00:00.000Z"}
            for commit, title, text in commits
        ]

    def _stored(self, name: str, oid: str) -> Any:
        return self.repositories[name].tree / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid

    def _objects(self, name: str, revision: str) -> dict[str, str]:
        """What the client compares its files with: the digest of a large file, the name of a blob."""
        repository = self.repositories[name]
        found = {}
        for line in repository.git("ls-tree", "-r", f"refs/heads/{revision}").splitlines():
            about, path = line.split("\t")
            found[path] = about.split()[2]
            found[path] = self._large.get(found[path], found[path])
        return found


def pointer(oid: str, num_bytes: int) -> bytes:
    """What git has of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {num_bytes}\n".encode()


def _blob(path: str, data: bytes) -> bytes:
    return b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(data), data)


ROUTES = {
    "branch": re.compile(r"/api/datasets/([^/]+/[^/]+)/branch/([^/]+)"),
    "preupload": re.compile(r"/api/datasets/([^/]+/[^/]+)/preupload/([^/]+)"),
    "batch": re.compile(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    "put": re.compile(r"/lfs/([^/]+/[^/]+)/([0-9a-f]{64})"),
    "verify": re.compile(r"/verify/([^/]+/[^/]+)/([0-9a-f]{64})"),
    "commit": re.compile(r"/api/datasets/([^/]+/[^/]+)/commit/([^/]+)"),
    "commits": re.compile(r"/api/datasets/([^/]+/[^/]+)/commits/([^/]+)"),
    "repository": re.compile(r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/.*)?"),
}


def _handler(stub: HubStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(size) if size else b""
            path = urlsplit(self.path).path
            with stub.lock:
                stub.requests.append((self.command, self.path))
            if len(body) < size or self._failed(path, done=False):
                return
            if not self._allowed(path):
                return
            answer = self._write(path, body)
            if answer is None:
                self._passed_on(body)
            elif not self._failed(path, done=True):
                self._say(answer[0], json.dumps(answer[1]).encode(), {"Content-Type": "application/json"})

        do_HEAD = do_POST = do_PUT = do_GET

        def _failed(self, path: str, *, done: bool) -> bool:
            fault = stub.fault(self.command, path, done=done)
            if fault is not None and fault.status is None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(2)
            elif fault is not None:
                assert fault.status is not None
                self._say(fault.status, b"{}", fault.headers)
            return fault is not None

        def _allowed(self, path: str) -> bool:
            given = self.headers.get("Authorization")
            if given not in (None, f"Bearer {TOKEN}"):
                self._say(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
                return False
            named = ROUTES["repository"].fullmatch(path.replace(".git/", "/"))
            missing = named is not None and named[1] not in stub.repositories
            if missing and given is None:
                self._say(401, b"", {"X-Error-Message": "Invalid username or password."})
            elif missing:
                self._say(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            elif given is None and self.command == "POST" and "paths-info" not in path:
                self._say(401, b"", {"X-Error-Message": "Invalid username or password."})
                return False
            return not missing

        def _write(self, path: str, body: bytes) -> tuple[int, Any] | None:
            if self.command == "PUT" and (put := ROUTES["put"].fullmatch(path)):
                return stub.put(put[1], put[2], body), {}
            if commits := ROUTES["commits"].fullmatch(path):
                return stub.commits(commits[1], unquote(commits[2]))
            if self.command != "POST":
                return None
            if path == "/api/repos/create":
                with stub.lock:
                    return stub.create(json.loads(body))
            if path == "/api/validate-yaml":
                return 200, {"errors": [], "warnings": []}
            if ROUTES["verify"].fullmatch(path):
                return 200, {}
            if branch := ROUTES["branch"].fullmatch(path):
                return stub.branch(branch[1], unquote(branch[2]), json.loads(body or b"{}"))
            if upload := ROUTES["preupload"].fullmatch(path):
                return stub.preupload(upload[1], unquote(upload[2]), json.loads(body))
            if batch := ROUTES["batch"].fullmatch(path):
                return stub.batch(batch[1], self.headers["Host"], json.loads(body))
            if commit := ROUTES["commit"].fullmatch(path):
                with stub.lock:
                    return stub.commit(commit[1], unquote(commit[2]), [json.loads(line) for line in body.splitlines()])
            return None

        def _passed_on(self, body: bytes) -> None:
            port = urlsplit(stub.hub.endpoint).port
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            upstream.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = upstream.getresponse()
            data = answer.read()
            headers = {
                name: value.replace(stub.hub.endpoint, f"http://{self.headers['Host']}")
                for name, value in answer.getheaders()
                if name.lower() not in ("transfer-encoding", "connection", "date", "server")
            }
            self._say(answer.status, data, headers)
            upstream.close()

        def _say(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers.items()}.get("content-length", str(len(data)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
