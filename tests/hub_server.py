"""A small Hub: enough of its HTTP protocol for the real huggingface_hub client, with faults to order.

Repositories live in memory. ``Hub`` runs the server in a thread; the client under test runs in this process, or in one
of its own, with ``HF_ENDPOINT`` set to ``Hub.url`` before huggingface_hub is imported, which is when it reads it.
"""

import asyncio
import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

LFS_SIZE = 10_000  # files from this size on go through LFS, as binary files do on the Hub


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        state = repr((sorted((n, hashlib.sha256(b).hexdigest()) for n, b in files.items()), len(self.commits), message))
        sha = hashlib.sha1(state.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )


def refuse(status: int, code: str | None, message: str) -> Response:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return JSONResponse({"error": message}, status, headers)


class Hub:
    """The server. ``tokens`` maps tokens to accounts; ``faults`` are used up in order by matching requests.

    A fault is ``(text in "METHOD path", kind)`` with kind a status to answer, "cut" (half the body, then the
    connection ends), "corrupt" (right length, wrong bytes), "stall" (half the body, then nothing for 30 s), "wait"
    (white space, which keeps the client waiting, and the body when ``go_on`` is set) or "login page" (what a hotel's
    network answers).
    """

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.collections: dict[str, list[str]] = {}
        self.tokens = {"token-of-user": "user", "token-of-guest": "guest"}
        self.faults: list[tuple[str, int | str]] = []
        self.go_on = threading.Event()
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        routes = [
            Route("/api/whoami-v2", self.whoami),
            Route("/api/validate-yaml", self.validate_yaml, methods=["POST"]),
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/models", self.listing),
            Route("/api/collections/{user}/{name}", self.collection),
            Route("/api/{kind}/{user}/{name}", self.info),
            Route("/api/{kind}/{user}/{name}/revision/{revision}", self.info),
            Route("/api/{kind}/{user}/{name}/refs", self.refs),
            Route("/api/{kind}/{user}/{name}/tree/{revision}", self.tree),
            Route("/api/{kind}/{user}/{name}/tree/{revision}/{path:path}", self.tree),
            Route("/api/{kind}/{user}/{name}/paths-info/{revision}", self.paths_info, methods=["POST"]),
            Route("/api/{kind}/{user}/{name}/preupload/{revision}", self.preupload, methods=["POST"]),
            Route("/api/{kind}/{user}/{name}/commit/{revision}", self.commit, methods=["POST"]),
            Route("/api/{kind}/{user}/{name}/branch/{branch}", self.branch, methods=["POST"]),
            Route("/api/{kind}/{user}/{name}/tag/{revision}", self.tag, methods=["POST"]),
            Route("/{user}/{name}.git/info/lfs/objects/batch", self.lfs_batch, methods=["POST"]),
            Route("/_lfs/{oid}", self.lfs_put, methods=["PUT"]),
            Route("/datasets/{user}/{name}/resolve/{revision}/{path:path}", self.resolve),
            Route("/{user}/{name}/resolve/{revision}/{path:path}", self.resolve),
        ]
        application = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=self.faulty)])
        # A client drops idle connections after 5 s, as uvicorn does by itself: where both do, a request may be lost.
        config = uvicorn.Config(application, "127.0.0.1", port, log_level="error", timeout_keep_alive=600)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def put(self, repo_id: str, folder: Path, private: bool = False, gated: bool = False, **files: bytes) -> Repository:
        """A repository with the files of a folder, and more under their names (``README_md`` is README.md)."""
        content = {path.name: path.read_bytes() for path in folder.iterdir()}
        repository = self.repositories[repo_id] = Repository(private=private, gated=gated)
        repository.commit(content | {name.replace("_", "."): value for name, value in files.items()})
        return repository

    def fetched(self, repo_id: str, file: str = "model.safetensors") -> int:
        """How often a file was asked for."""
        wanted = [line for line in self.requests if line.startswith(f"GET /{repo_id}/resolve/")]
        return sum(line.endswith(f"/{file}") for line in wanted)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    # -- who may see what -------------------------------------------------------------------------------------------

    def account(self, request: Request) -> str | None:
        return self.tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    def find(self, request: Request) -> Repository | Response:
        """The repository of a request, or the Hub's refusal."""
        owner, name = request.path_params["user"], request.path_params["name"]
        repository = self.repositories.get(f"{owner}/{name}")
        who = self.account(request)
        if repository is None or (repository.private and who != owner):
            # The Hub does not tell strangers which private repositories there are.
            return refuse(404 if who else 401, "RepoNotFound", "Repository not found")
        return repository

    def writable(self, request: Request) -> Repository | Response:
        who = self.account(request)
        if who is None:
            return refuse(401, None, "Invalid credentials in Authorization header")
        repository = self.find(request)
        # Anyone may open a pull request; large files go first, to where no branch points yet.
        open_to_all = request.query_params.get("create_pr") == "1" or "/info/lfs/" in request.url.path
        if isinstance(repository, Repository) and who != request.path_params["user"] and not open_to_all:
            return refuse(403, None, "You don't have the rights")
        return repository

    async def faulty(self, request: Request, call_next):
        line = f"{request.method} {request.url.path}"
        self.requests.append(line)
        for old, new in self.renamed.items():
            if f"/{old}" in request.url.path:
                return RedirectResponse(request.url.path.replace(f"/{old}", f"/{new}"), 307)
        for index, (text, kind) in enumerate(self.faults):
            if text in line:
                del self.faults[index]
                if kind == "login page":
                    return Response("<html>Welcome to the airport</html>", media_type="text/html")
                if isinstance(kind, int):
                    return refuse(kind, None, "ordered fault")
                response = await call_next(request)
                body = b"".join([chunk async for chunk in response.body_iterator])
                if kind == "corrupt":
                    return Response(bytes(255 - byte for byte in body), response.status_code, dict(response.headers))

                async def half(body=body, kind=kind):
                    yield body[: len(body) // 2]
                    if kind == "stall":
                        await asyncio.sleep(30)
                    raise ConnectionError("cut on order")

                async def late(body=body):
                    while not self.go_on.is_set():
                        yield b" "
                        await asyncio.sleep(0.05)
                    yield body

                if kind == "wait":
                    return StreamingResponse(late(), response.status_code, media_type="application/json")
                return StreamingResponse(half(), response.status_code, dict(response.headers))
        return await call_next(request)

    # -- the protocol -----------------------------------------------------------------------------------------------

    async def whoami(self, request: Request) -> Response:
        who = self.account(request)
        if who is None:
            return refuse(401, None, "Invalid credentials in Authorization header")
        return JSONResponse({"type": "user", "name": who, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    async def validate_yaml(self, request: Request) -> Response:
        content = (await request.json())["content"]
        ok = content.startswith("---\n")
        return JSONResponse({"errors": [] if ok else [{"message": "no metadata"}], "warnings": []}, 200 if ok else 400)

    async def create(self, request: Request) -> Response:
        who, body = self.account(request), await request.json()
        if who is None:
            return refuse(401, None, "Invalid credentials in Authorization header")
        owner = body.get("organization") or who
        if owner != who:
            return refuse(403, None, f"You don't have the rights to create a model under the namespace {owner!r}")
        repo_id = f"{owner}/{body['name']}"
        answer = {"url": f"{self.url}/{repo_id}", "name": repo_id, "id": repo_id}
        if repo_id in self.repositories:
            return JSONResponse(answer | {"error": "You already created this model repo"}, 409)
        private = body.get("private") or body.get("visibility") == "private"
        self.repositories[repo_id] = Repository(private=bool(private))
        self.repositories[repo_id].commit({".gitattributes": b""}, message="initial commit")
        return JSONResponse(answer)

    async def listing(self, request: Request) -> Response:
        author, wanted = request.query_params.get("author"), request.query_params.getlist("filter")
        found = []
        for repo_id, repository in self.repositories.items():
            tags = self.metadata(repository).get("tags", [])
            if not repository.private and author in (None, repo_id.split("/")[0]) and set(wanted) <= set(tags):
                about = {"id": repo_id, "modelId": repo_id, "tags": tags, "private": False}
                # The Hub adds to a listing only what is asked for.
                if request.query_params.getlist("expand"):
                    about |= self.details(repository)
                found.append(about)
        return JSONResponse(found)

    def metadata(self, repository: Repository) -> dict:
        import yaml

        readme = repository.commits[repository.branches["main"]].get("README.md", b"").decode(errors="replace")
        try:
            return (yaml.safe_load(readme.split("---")[1]) or {}) if readme.startswith("---") else {}
        except yaml.YAMLError:
            return {}

    async def info(self, request: Request) -> Response:
        return await self.answer_info(request)

    async def answer_info(self, request: Request) -> Response:
        """What :meth:`info` answers; a test may put something else in its place."""
        repository = self.find(request)
        if isinstance(repository, Response):
            return repository
        sha = repository.resolve(request.path_params.get("revision", "main"))
        if sha is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        repo_id = f"{request.path_params['user']}/{request.path_params['name']}"
        siblings = []
        for path, content in repository.commits[sha].items():
            sibling = {"rfilename": path, "size": len(content), "blobId": git_oid(content)}
            if len(content) >= LFS_SIZE:
                sibling["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
            siblings.append(sibling)
        about = {"id": repo_id, "modelId": repo_id, "sha": sha, "siblings": siblings, "private": repository.private}
        return JSONResponse(self.details(repository) | about)

    def details(self, repository: Repository) -> dict:
        card = json.loads(json.dumps(self.metadata(repository), default=str))  # the Hub's JSON has no dates
        return {
            "gated": "auto" if repository.gated else False,
            "private": repository.private,
            "lastModified": "2026-11-02T10:00:00.000Z",
            "sha": repository.branches["main"],
            "tags": card.get("tags", []),
            "cardData": {name: value for name, value in card.items() if name != "model-index"},
            "model-index": card.get("model-index"),
        }

    async def collection(self, request: Request) -> Response:
        slug = f"{request.path_params['user']}/{request.path_params['name']}"
        if slug not in self.collections:
            return refuse(404, None, "Collection not found")
        items = [
            {"_id": str(position), "id": repo_id, "type": "model", "position": position}
            for position, repo_id in enumerate(self.collections[slug])
        ]
        owner = {"name": request.path_params["user"]}
        about = {"slug": slug, "title": slug, "owner": owner, "position": 0, "private": False, "theme": "green"}
        return JSONResponse(about | {"items": items, "lastUpdated": "2026-11-02T10:00:00.000Z", "upvotes": 0})

    def entry(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if len(content) >= LFS_SIZE:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
        return entry

    async def refs(self, request: Request) -> Response:
        repository = self.find(request)
        if isinstance(repository, Response):
            return repository

        def listed(kind: str, names: dict[str, str]) -> list[dict]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in names.items()]

        branches, tags = listed("heads", repository.branches), listed("tags", repository.tags)
        return JSONResponse({"branches": branches, "tags": tags, "converts": []})

    async def tree(self, request: Request) -> Response:
        repository = self.find(request)
        if isinstance(repository, Response):
            return repository
        sha = repository.resolve(request.path_params["revision"])
        if sha is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        folder = request.path_params.get("path", "")
        files = repository.commits[sha].items()
        inside = [self.entry(path, content) for path, content in files if not folder or path.startswith(f"{folder}/")]
        return JSONResponse(inside) if inside or not folder else refuse(404, "EntryNotFound", "Entry not found")

    async def paths_info(self, request: Request) -> Response:
        repository = self.find(request)
        if isinstance(repository, Response):
            return repository
        wanted = (await request.form()).getlist("paths")
        files = repository.commits[repository.resolve(request.path_params["revision"])]
        return JSONResponse([self.entry(path, files[path]) for path in wanted if path in files])

    async def preupload(self, request: Request) -> Response:
        repository = self.writable(request)
        if isinstance(repository, Response):
            return repository
        sha = repository.resolve(request.path_params["revision"])
        if sha is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        present = repository.commits[sha]
        files = []
        for file in (await request.json())["files"]:
            mode = "lfs" if file["size"] >= LFS_SIZE else "regular"
            known = present.get(file["path"])
            oid = None
            if known is not None:
                oid = hashlib.sha256(known).hexdigest() if mode == "lfs" else git_oid(known)
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": files})

    async def lfs_batch(self, request: Request) -> Response:
        repository = self.writable(request)
        if isinstance(repository, Response):
            return repository
        objects = []
        for item in (await request.json())["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.blobs:
                answer["actions"] = {"upload": {"href": f"{self.url}/_lfs/{item['oid']}", "header": {}}}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def lfs_put(self, request: Request) -> Response:
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != request.path_params["oid"]:
            return refuse(400, None, "wrong bytes")
        self.blobs[request.path_params["oid"]] = content
        return Response()

    async def commit(self, request: Request) -> Response:
        repository = self.writable(request)
        if isinstance(repository, Response):
            return repository
        branch = request.path_params["revision"]
        head = repository.branches[branch]
        before = repository.commits[head]
        files, message = dict(before), ""
        for line in (await request.body()).splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, head):
                    return refuse(412, None, "A commit has happened since")
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                files.pop(value["path"], None)
        repo_id = f"{request.path_params['user']}/{request.path_params['name']}"
        answer = {"success": True, "hookOutput": ""}
        if request.query_params.get("create_pr") == "1":
            number = 1 + sum(name.startswith("refs/pr/") for name in repository.branches)
            branch = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.url}/{repo_id}/discussions/{number}"
        sha = head if files == before else repository.commit(files, branch, message)
        return JSONResponse(answer | {"commitOid": sha, "commitUrl": f"{self.url}/{repo_id}/commit/{sha}"})

    async def branch(self, request: Request) -> Response:
        repository = self.writable(request)
        if isinstance(repository, Response):
            return repository
        name = request.path_params["branch"]
        if name in repository.branches:
            return refuse(409, None, "Reference already exists")
        repository.branches[name] = repository.branches["main"]
        return JSONResponse({})

    async def tag(self, request: Request) -> Response:
        repository = self.writable(request)
        if isinstance(repository, Response):
            return repository
        name = (await request.json())["tag"]
        if name in repository.tags:
            return refuse(409, None, "Tag reference exists already")
        repository.tags[name] = repository.resolve(request.path_params["revision"])
        return JSONResponse({})

    async def resolve(self, request: Request) -> Response:
        repository = self.find(request)
        if isinstance(repository, Response):
            return repository
        if repository.gated and self.account(request) != request.path_params["user"]:
            return refuse(403, "GatedRepo", "Access to this repository is restricted")
        sha = repository.resolve(request.path_params["revision"])
        if sha is None:
            return refuse(404, "RevisionNotFound", "Invalid rev id")
        content = repository.commits[sha].get(request.path_params["path"])
        if content is None:
            return refuse(404, "EntryNotFound", "Entry not found")
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "ETag": f'"{digest if len(content) >= LFS_SIZE else git_oid(content)}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
        }
        if len(content) >= LFS_SIZE:
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"'}
        asked = request.headers.get("range", "")
        if asked.startswith("bytes=") and request.method == "GET":
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Response(content[start:], 206, headers)
        return Response(content, 200, headers)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
