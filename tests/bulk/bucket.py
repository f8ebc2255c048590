"""The network end of Google Cloud Storage: a bucket in memory, by as much of its JSON API as is used.

In a process of its own, as pyarrow waits for an answer without letting other threads of Python run.
"""

import json
import re
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OBJECTS = {"photos/a.jpg": b"a picture", "photos/deep/b.jpg": b"another", "elsewhere/c.jpg": b"x"}


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, content: bytes | dict = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def about(self, name: str) -> dict:
        return {"name": name, "bucket": "bucket", "generation": "1", "size": str(len(OBJECTS[name]))}

    def do_GET(self):
        address = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        name = urllib.parse.unquote(re.fullmatch(r"/storage/v1/b/bucket/o/?(.*)", address.path)[1])
        if not name:
            self.answer(200, {"items": [self.about(one) for one in OBJECTS if one.startswith(query["prefix"])]})
        elif name in OBJECTS:
            self.answer(200, OBJECTS[name] if query.get("alt") == "media" else self.about(name))
        else:
            self.answer(404, {"error": {"code": 404, "message": "no such object"}})

    def do_POST(self):  # an upload begins: the address that its content goes to
        self.answer(200, location=f"http://{self.headers['host']}{self.path}")

    def do_PUT(self):
        name = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))["name"]
        OBJECTS[name] = self.rfile.read(int(self.headers["content-length"]))
        self.answer(200, self.about(name))

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    print(server.server_port, flush=True)
    server.serve_forever()
