"""A model hub on the loopback interface, for huggingface_hub as the client.

It implements those parts of the Hugging Face Hub's protocol that the client
uses. For downloads: HEAD and GET of files with ETag, X-Repo-Commit and ranges,
redirects of large files to another address, and lists of files. For uploads:
new repositories, large files by the LFS protocol, and commits.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

LARGE = (".h5", ".safetensors", ".bin")


class Hub:
    """The repositories, and how the server misbehaves.

    Attributes:
        repositories: dict from `owner/name` to a list of commits, the newest
            last; each is a dict from file name to bytes.
        requests: (method, path) of all requests so far.
        cut: length at which each download of a large file ends too early.
        cuts: number of downloads that this happens to.
        shorten: whether such a download looks complete.
        flip: whether large files are sent with a wrong first byte.
        gated: names of repositories that need permission.
        token: the token without which nothing may be uploaded.
        large: dict from SHA-256 to the content of an uploaded large file.
    """

    token = "hf_secret"

    def __init__(self):
        self.repositories = {}
        self.large = {}
        self.requests = []
        self.clear()

    def clear(self):
        self.cut, self.cuts, self.shorten, self.flip = None, 0, False, False
        self.gated = set()
        self.requests.clear()

    def add(self, name, files):
        """Add a commit to a repository. Returns its 40 digits."""
        commits = self.repositories.setdefault(name, [])
        commits.append(dict(files))
        return self.commit(name, len(commits) - 1)

    def commit(self, name, index=-1):
        index %= len(self.repositories[name])
        return hashlib.sha1(f"{name} {index}".encode()).hexdigest()

    def files(self, name, revision):
        """Files of a revision, or None if there is no such revision."""
        for i, files in enumerate(self.repositories[name]):
            if revision == self.commit(name, i):
                return files
        return self.repositories[name][-1] if revision == "main" else None

    def downloaded(self):
        """Paths of the files whose content was sent."""
        return [path for method, path in self.requests if method == "GET"]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        hub = self.server.hub
        path = self.path.partition("?")[0]
        hub.requests.append((self.command, path))
        if match := re.fullmatch("/cdn/(.+?)/([^/]+)/([0-9a-f]{40})", path):
            name, file, commit = match.groups()
            self._send(hub.files(name, commit)[file], large=True)
        elif match := re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        elif match := re.fullmatch(
            "/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path
        ):
            self._list(*match.groups())
        else:
            self._error(404, "EntryNotFound")

    def do_PUT(self):
        content = self._body()
        digest = self.path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != digest:
            return self._error(400, "BadDigest")
        self.server.hub.large[digest] = content
        self._reply(200, b"")

    def do_POST(self):
        hub, body = self.server.hub, self._body()
        path = self.path.partition("?")[0]
        hub.requests.append(("POST", path))
        if path == "/api/validate-yaml":
            return self._json({"warnings": [], "errors": []})
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._error(401, "RepoNotFound")
        if path == "/api/repos/create":
            content = json.loads(body)
            name = f"{content['organization']}/{content['name']}"
            status = 409 if name in hub.repositories else 200
            hub.repositories.setdefault(name, [])
            return self._json({"url": f"http://{self._host()}/{name}"}, status)
        match = re.fullmatch("/api/models/([^/]+/[^/]+)/(.+)/main", path)
        if match and match[2] == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs"
                    if file["path"].endswith(LARGE)
                    else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if match and match[2] == "commit":
            return self._add_commit(match[1], body)
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {
                    **file,
                    "actions": {
                        "upload": {
                            "href": f"http://{self._host()}/lfs/{file['oid']}"
                        }
                    },
                }
                for file in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        self._error(404, "EntryNotFound")

    def _add_commit(self, name, body):
        hub = self.server.hub
        files = dict(
            hub.repositories[name][-1] if hub.repositories[name] else {}
        )
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.large[value["oid"]]
        commit = hub.add(name, files)
        url = f"http://{self._host()}/{name}/commit/{commit}"
        self._json({"success": True, "commitUrl": url, "commitOid": commit})

    def _host(self):
        return self.headers["Host"]

    def _json(self, content, status=200):
        self._reply(status, json.dumps(content).encode())

    def _body(self):
        """The content of a request, also in chunks of unknown number."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _known(self, name, revision):
        """Files of a revision; None after an error was sent."""
        hub = self.server.hub
        if name not in hub.repositories:
            return self._error(401, "RepoNotFound")
        if name in hub.gated:
            return self._error(403, "GatedRepo")
        files = hub.files(name, revision)
        return self._error(404, "RevisionNotFound") if files is None else files

    def _commit(self, name, revision):
        hub = self.server.hub
        return hub.commit(name) if revision == "main" else revision

    def _resolve(self, name, revision, file):
        files = self._known(name, revision)
        if files is None:
            return
        commit = self._commit(name, revision)
        repository = {"X-Repo-Commit": commit}
        if file not in files:
            self._error(404, "EntryNotFound", repository)
        elif file.endswith(LARGE):
            # Another host, as the real hub has, so that the client keeps the
            # headers of this answer.
            port = self.server.server_port
            digest = hashlib.sha256(files[file]).hexdigest()
            self._reply(
                302,
                b"",
                {
                    **repository,
                    "Location": f"http://localhost:{port}/cdn/{name}/{file}/{commit}",
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(files[file])),
                },
            )
        else:
            digest = hashlib.sha1(files[file]).hexdigest()
            self._send(files[file], {**repository, "ETag": f'"{digest}"'})

    def _list(self, name, what, revision):
        files = self._known(name, revision)
        if files is None:
            return
        if what == "revision":
            content = {
                "id": name,
                "sha": self._commit(name, revision),
                "siblings": [{"rfilename": file} for file in files],
            }
        else:
            content = [
                {
                    "type": "file",
                    "path": file,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                }
                for file, data in files.items()
            ]
        self._json(content)

    def _send(self, data, headers=(), large=False):
        hub, status, headers = self.server.hub, 200, dict(headers)
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if large and hub.flip:
            data = bytes([data[0] ^ 1]) + data[1:]
        if start:
            status = 206
            whole, data = data, data[int(start[1]) :]
            headers["Content-Range"] = (
                f"bytes {start[1]}-{len(whole) - 1}/{len(whole)}"
            )
        cut = None
        if large and hub.cuts and self.command == "GET":
            hub.cuts -= 1
            cut = hub.cut
            if hub.shorten:
                data, cut = data[:cut], None
        self._reply(status, data, headers, cut)

    def _error(self, status, code, headers=()):
        self._reply(status, b"", {**dict(headers), "X-Error-Code": code})

    def _reply(self, status, data, headers=(), cut=None):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True


@contextlib.contextmanager
def serving():
    """A running `Hub` and its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
