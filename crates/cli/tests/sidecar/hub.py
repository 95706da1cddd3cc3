"""A hub for huggingface_hub, with one model that the package `magika` carries: what the client asks of huggingface.co, and
no more. Writes its port; ends with its standard input."""

import hashlib
import http.server
import json
import pathlib
import sys
import threading

import magika

MODEL = pathlib.Path(magika.__file__).parent / "models" / "standard_v3_3"
FILES = {path.name: path.read_bytes() for path in MODEL.iterdir() if path.is_file()}
# A second version differs in a part of a file.
VERSIONS = {"1" * 40: FILES, "2" * 40: {**FILES, "README.md": b"the second version\n"}}
LATEST = sorted(VERSIONS)[int(sys.argv[1]) - 1]


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:5] == ["api", "models", "google", "magika", "tree"]:
            content = VERSIONS.get(LATEST if parts[5] == "main" else parts[5], {})
            files = [{"type": "file", "path": name, "size": len(content[name]), "oid": hashlib.sha1(content[name]).hexdigest()}
                     for name in sorted(content)]
            return self.send(200, json.dumps(files).encode(), with_body, {"Content-Type": "application/json"})
        if parts[:2] == ["api", "models"]:
            siblings = [{"rfilename": name} for name in sorted(VERSIONS[LATEST])]
            model = {"id": "google/magika", "modelId": "google/magika", "sha": LATEST, "siblings": siblings}
            return self.send(200, json.dumps(model).encode(), with_body, {"Content-Type": "application/json"})
        if len(parts) == 5 and parts[:3] == ["google", "magika", "resolve"]:
            revision, name = (LATEST if parts[3] == "main" else parts[3]), parts[4]
            content = VERSIONS.get(revision, {}).get(name)
            if content is not None:
                etag = hashlib.sha256(content).hexdigest()
                return self.send(200, content, with_body, {"X-Repo-Commit": revision, "ETag": f'"{etag}"'})
        self.send(404, b"", with_body, {"X-Error-Code": "EntryNotFound"})

    def send(self, code, body, with_body, headers):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
