import shutil

import pytest

from denoiser.models import Bottleneck, BottleneckConfig
from tests.conftest import ROOT
from train.__main__ import main
from train.config import ConfigError, load_config
from train.publish import main as publish


@pytest.mark.parametrize("path", sorted((ROOT / "train" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_ship_are_valid(path):
    config = load_config(path)
    if "architecture" in config.model:
        assert config.build_model().config.sigma_range[1] >= 50
    else:  # its network is that of --init
        assert config.build_objective().assumption


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"architecture": "resnet"}}, "architecture 'resnet'"),
        ({"model": {"architecture": "unet", "width": [8]}}, "unknown fields \\['width'\\]"),
        ({"stages": [{"until": 0.5, "patch": 32, "batch": 4}]}, "until must rise to 1.0"),
        ({"stages": [{"until": 1, "patch": 32, "batch": 4, "loss": "l3"}]}, "loss must be l1, mse, charbonnier"),
        ({"stages": [{"until": 1, "patch": 32}]}, "batch"),
        ({"stages": [{"until": 1, "patch": 32, "batch": 4, "distill": 2}]}, "distill must be a share"),
        ({"optimizer": {"rate": "fast"}}, "optimizer.rate must be a float"),
        ({"optimizer": {"speed": 1}}, "unknown speed"),
        ({"budget": {}}, "either minutes or steps"),
        ({"data": {"scale": [0.9, 0.2]}}, "scale must rise"),
        ({"color": True}, "unknown color"),
        ({"data": {"clip": 0.5}}, "clip is for blind networks"),
        ({"seed": -1}, "seed must not be negative"),
        ({"budget": {"minutes": float("inf")}}, "positive, and finite"),
        ({"stages": [{"until": 1, "patch": 10**6, "batch": 4}]}, "patch must be within"),
        ({"optimizer": {"weight_decay": float("inf")}}, "weight_decay must be"),
        ({"objective": {"kind": ["sure"]}}, "unknown kind"),
        ({"seed": 2**70}, "seed must be below"),
        ({"optimizer": {"rate": 10**400}}, "rate must be a float"),
    ],
)
def test_mistakes_in_a_configuration_are_named_before_any_work(
    config, photographs, tmp_path, capsys, changes, message, arguments
):
    with pytest.raises(ConfigError, match=message):
        load_config(config(**changes))
    assert main(arguments(config(**changes), photographs, tmp_path / "run")) == 2
    assert "error:" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ({"kind": "snow"}, "unknown kind 'snow'"),
        ({"kind": ["gaussian"]}, "unknown kind"),
        ({"kind": "gaussian", "sigma": True}, "sigma must be a number or"),
        ({"kind": "gaussian", "share": float("nan")}, "share must be a positive number"),
        ({"kind": "gaussian", "sigma": [0, 500]}, "sigma must rise within 0..100"),
        ({"kind": "gaussian", "gain": 1}, "gaussian has no parameter gain"),
        ({"kind": "gaussian", "share": 0}, "share must be a positive number"),
        ({"kind": "gaussian", "share": 1e-300}, "share must be a positive number"),
        ({"kind": "sensor", "gain": "high"}, "gain must be a number or"),
    ],
)
def test_mistakes_in_a_noise_are_named(config, photographs, tmp_path, arguments, capsys, component, message):
    assert main(arguments(config(noise=[component]), photographs, tmp_path / "run")) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_key_that_comes_twice_is_refused(tmp_path):
    (tmp_path / "twice.yaml").write_text("budget: {steps: 3}\nbudget: {steps: 4}\n")
    with pytest.raises(ConfigError, match="budget is there twice"):
        load_config(tmp_path / "twice.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 3000)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "deep.yaml")


def test_a_rate_may_be_written_without_a_point(tmp_path, config):
    path = tmp_path / "exponent.yaml"
    text = config().read_text().replace("rate: 0.002", "rate: 2e-3")
    assert "2e-3" in text
    path.write_text(text)
    assert load_config(path).optimizer.rate == 0.002


@pytest.fixture
def surroundings(tmp_path, tiny_checkpoint, monkeypatch):
    """What a command may be pointed at by mistake, in the folder where it runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "half", "damaged"):
        (tmp_path / name).mkdir()
    for name in ("half", "damaged"):
        shutil.copy(tiny_checkpoint / "config.json", tmp_path / name)
    (tmp_path / "damaged" / "model.safetensors").touch()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "latin.yaml").write_bytes("model: {architecture: \u00fcnet}".encode("latin-1"))
    (tmp_path / "list.yaml").write_text("- 1")
    Bottleneck(BottleneckConfig(widths=(8,), blocks=1, latent=6)).save_pretrained(tmp_path / "other")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--config", "latin.yaml"], "latin.yaml is not text in UTF-8"),
        (["--config", "list.yaml"], "list.yaml must be a mapping"),
        (["--config", "empty"], "cannot read empty"),
        (["--output", "file"], "--output file cannot be written (File exists): choose another folder"),
        (["--output", "file/run"], "--output file/run cannot be written (Not a directory)"),
        (["--output", "/proc/run"], "--output /proc/run cannot be written"),
        (["--output", "{photographs}"], "is in the folder of the pictures"),
        (["--output", "{photographs}/run"], "is in the folder of the pictures"),
        (["--save-every", "nan"], "--save-every must be 0 or more seconds"),
        (["--init", ""], "got an empty one"),
        (["--data", "file"], "file is not an uncompressed tar file"),
        (["--data", "empty"], "no pictures"),
        (["--init", "empty"], "empty holds no checkpoint: model.safetensors is missing"),
        (["--init", "half"], "half holds no checkpoint: model.safetensors is missing"),
        (["--init", "damaged"], "model.safetensors is cut short"),
        (["--init", "file"], "There is no checkpoint 'file'"),
        (["--init", "other"], "a unet cannot start from a bottleneck"),
        (["--decay-from", "empty"], "there is no run that was saved"),
    ],
)
def test_wrong_paths_are_named(config, photographs, surroundings, capsys, arguments, command, message):
    command = [one.format(photographs=photographs) for one in command]
    usual = [] if command[0] == "--data" else ["--data", str(photographs)]
    assert main(arguments(config(), None, "run", *usual, *command)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["nowhere", "user/name"], "nowhere is no folder: give a finished run"),
        (["file", "--folder", "out"], "file is no folder"),
        (["empty", "user/name", "--dry-run"], "the checkpoint does not load"),
        (["damaged", "--folder", "out"], "model.safetensors is cut short"),
        (["{bundled}", "--folder", "file"], "file cannot be written (File exists)"),
        (["{bundled}", "--folder", "file/out"], "file/out cannot be written (Not a directory)"),
        (["{bundled}", "--folder", "/proc/out"], "/proc/out cannot be written"),
    ],
)
def test_wrong_paths_are_named_where_a_checkpoint_is_published(surroundings, capsys, command, message):
    bundled = ROOT / "denoiser" / "checkpoints" / "color-small"
    assert publish([one.format(bundled=bundled) for one in command]) == 2
    assert message in capsys.readouterr().err
