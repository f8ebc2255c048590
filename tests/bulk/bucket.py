"""The network end of Google Cloud Storage and of S3: a bucket in memory, by as much of their protocols as is used.

In a process of its own, as pyarrow waits for an answer without letting other threads of Python run.
"""

import json
import re
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OBJECTS = {"photos/a.jpg": b"a picture", "photos/deep/b.jpg": b"another", "elsewhere/c.jpg": b"x"}
PARTS: dict[str, bytes] = {}


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def parse(self) -> tuple[bool, str, dict[str, str]]:
        """Whether S3 is meant, the object, the query."""
        address = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        google = re.fullmatch(r"(?:/upload)?/storage/v1/b/bucket/o/?(.*)", address.path)
        return not google, urllib.parse.unquote(google[1] if google else address.path.removeprefix("/bucket")), query

    def answer(self, status: int, content: bytes | dict | str = b"", **headers: str) -> None:
        body = json.dumps(content) if isinstance(content, dict) else content
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        raw = b""
        while size := int(self.rfile.readline(), 16):
            raw += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        # Within that, S3 has chunks of its own, the last of them empty and with a checksum.
        content = b""
        while size := int(raw.partition(b"\r\n")[0].partition(b";")[0], 16):
            raw = raw.partition(b"\r\n")[2]
            content, raw = content + raw[:size], raw[size + 2 :]
        return content

    def about(self, name: str) -> dict:
        return {"name": name, "bucket": "bucket", "generation": "1", "size": str(len(OBJECTS[name]))}

    def do_GET(self):
        s3, name, query = self.parse()
        name = name.removeprefix("/")
        found = sorted(one for one in OBJECTS if one.startswith(query.get("prefix", "")))
        if s3 and not name:
            about = "<Contents><Key>{}</Key><Size>{}</Size></Contents>"
            listed = "".join(about.format(one, len(OBJECTS[one])) for one in found)
            self.answer(200, f"<ListBucketResult><KeyCount>{len(found)}</KeyCount>{listed}</ListBucketResult>")
        elif not name:
            self.answer(200, {"items": [self.about(one) for one in found]})
        elif name not in OBJECTS:
            self.answer(404, {"error": {"code": 404, "message": "no such object"}})
        else:
            self.answer(200, OBJECTS[name] if s3 or query.get("alt") == "media" else self.about(name))

    do_HEAD = do_GET

    def do_POST(self):
        s3, name, query = self.parse()
        self.body()
        if not s3:  # an upload begins: the address that its content goes to
            self.answer(200, location=f"http://{self.headers['host']}{self.path}")
        elif "uploads" in query:
            self.answer(200, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
        else:  # complete
            OBJECTS[name.removeprefix("/")] = PARTS.pop(name.removeprefix("/"))
            self.answer(200, "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")

    def do_PUT(self):
        s3, name, query = self.parse()
        name = name.removeprefix("/") if s3 else query["name"]
        (PARTS if "partNumber" in query else OBJECTS)[name] = self.body()
        self.answer(200, b"" if s3 else self.about(name), etag="1")

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    print(server.server_port, flush=True)
    server.serve_forever()
