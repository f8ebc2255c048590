"""The page for the browser within the demo; tests/web opens it there."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from denoiser.demo.on_device import on_device_routes
from denoiser.demo.settings import Settings


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site" / "models").mkdir(parents=True)
    (tmp_path / "site" / "models" / "models.json").write_text("[]")
    (tmp_path / "site" / "index.html").write_text("<title>Denoise on this device</title>")
    return tmp_path / "site"


def test_a_host_names_the_folder_that_was_built(site, tmp_path):
    assert Settings.from_environment({"DENOISER_ON_DEVICE": str(site)}).on_device == site
    assert Settings.from_environment({}).on_device is None and on_device_routes(None) == []
    with pytest.raises(ValueError, match=r"in DENOISER_ON_DEVICE: .*python web/build.py"):
        Settings.from_environment({"DENOISER_ON_DEVICE": str(tmp_path)})


def test_it_is_served_so_that_it_may_use_threads(site):
    client = TestClient(Starlette(routes=on_device_routes(site)))
    for path in ("/on-device/", "/on-device/models/models.json"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert answer.headers["document-isolation-policy"] == "isolate-and-require-corp"
    assert client.get("/on-device/../pyproject.toml").status_code == 404
