"""A stranger who speaks HTTP to the running demo, for the tests: not what the page sends."""

import json
import uuid
from pathlib import Path

import httpx

API = "/gradio_api"
JSON = {"Content-Type": "application/json"}


class Stranger:
    """Someone who speaks HTTP to the demo and reads its configuration."""

    def __init__(self, url: str):
        # A server on a busy machine may close a connection that is kept in the moment in which it is used again.
        self.http = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_keepalive_connections=0))
        config = self.http.get("/config").json()
        self.components = {component["id"]: component for component in config["components"]}
        self.endpoints = config["dependencies"]
        self.example = next(
            component["props"]["value"]
            for component in config["components"]
            if component["type"] == "image" and component["props"].get("value")
        )

    def handlers(self) -> list[dict]:
        """One endpoint of each handler: several events may have the same."""
        found: dict[tuple, dict] = {}
        for endpoint in self.endpoints:
            found.setdefault((*endpoint["inputs"], None, *endpoint["outputs"]), endpoint)
        return list(found.values())

    def input_types(self, endpoint: dict) -> list[str]:
        return [self.components[identity]["type"] for identity in endpoint["inputs"]]

    def defaults(self, endpoint: dict) -> list:
        """What the page would send at its start, with a picture wherever one goes."""
        values = []
        for identity in endpoint["inputs"]:
            component = self.components[identity]
            if component["type"] == "image":
                values.append(self.example)
            elif component["type"] == "dataset":
                values.append(0)
            else:
                values.append(component["props"].get("value"))
        return values

    def endpoint(self, name: str) -> dict:
        return next(endpoint for endpoint in self.endpoints if endpoint["api_name"] == name)

    def join(self, endpoint: dict, data: list, session: str) -> httpx.Response:
        body = {"fn_index": endpoint["id"], "data": data, "session_hash": session}
        return self.http.post(f"{API}/queue/join", content=json.dumps(body), headers=JSON)  # NaN too

    def events(self, session: str):
        """What happens to a session's calls, until all of them are done."""
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def call(self, endpoint: dict, data: list, session: str = "") -> dict:
        """One call through the queue, in the given session or a new one -> its last message: "success" and "output"."""
        session = session or uuid.uuid4().hex
        joined = self.join(endpoint, data, session)
        assert joined.status_code == 200, joined.text
        (done,) = [event for event in self.events(session) if event["msg"] == "process_completed"]
        return done

    def upload(self, path: Path) -> dict:
        with open(path, "rb") as file:
            path = self.http.post(f"{API}/upload", files={"files": file}).json()[0]
        return {"path": path, "meta": {"_type": "gradio.FileData"}}
