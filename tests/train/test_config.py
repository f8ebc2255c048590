import pytest

from tests.conftest import ROOT
from train.__main__ import main
from train.config import ConfigError, load_config


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
        ({"kind": "gaussian", "sigma": [0, 500]}, "sigma must rise within 0..100"),
        ({"kind": "gaussian", "gain": 1}, "gaussian has no parameter gain"),
        ({"kind": "gaussian", "share": 0}, "share must be a positive number"),
        ({"kind": "sensor", "gain": "high"}, "gain must be a number or"),
    ],
)
def test_mistakes_in_a_noise_are_named(config, photographs, tmp_path, arguments, capsys, component, message):
    assert main(arguments(config(noise=[component]), photographs, tmp_path / "run")) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_rate_may_be_written_without_a_point(tmp_path, config):
    path = tmp_path / "exponent.yaml"
    text = config().read_text().replace("rate: 0.002", "rate: 2e-3")
    assert "2e-3" in text
    path.write_text(text)
    assert load_config(path).optimizer.rate == 0.002
