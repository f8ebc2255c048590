"""The page's address: whatever it holds, settings within their ranges come of it."""

import math
import urllib.parse
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoiser import DEFAULT_CHECKPOINT, NOISES
from denoiser.demo.address import MAX_CHARACTERS, SIGMA_MODES, Address, parse_address, write_address
from denoiser.demo.checkpoint_picker import CheckpointPicker, Selection
from denoiser.demo.control_values import PARAMETERS, ControlValues
from denoiser.demo.photo_advice import PHOTO_CHECKPOINT
from denoiser.demo.state import DemoState
from tests.conftest import run_async


def test_an_empty_address_is_the_page_as_it_starts():
    start = Address(parameters={"sigma": 25})
    for query in ("", "?", "?x=1", "?checkpoint=&noise=snow&seed=&sigma=much&strength=nan&sigma_mode=x"):
        assert parse_address(query) == start


def test_every_setting_is_read():
    query = "?checkpoint=user/name@v1&noise=camera&sigma=15&chroma=0.5&grain=3&quality=60&seed=7&strength=0.25"
    address = parse_address(query + "&sigma_mode=manual&sigma_given=30")
    assert address == Address(
        checkpoint="user/name@v1",
        noise="camera",
        parameters={"sigma": 15, "chroma": 0.5, "grain": 3, "quality": 60},
        seed=7,
        sigma_mode="manual",
        sigma_given=30,
        strength=0.25,
    )


def test_a_photo_that_is_noisy_already_has_no_known_level():
    address = parse_address("?noise=none&sigma_mode=known")
    assert address.noisy_already and address.sigma_mode == "estimate" and address.noise == "gaussian"


@pytest.mark.parametrize(("value", "expected"), [("5000", 100), ("-3", 0), ("1e400", 25), ("nan", 25), ("0x10", 25)])
def test_a_number_out_of_range_is_brought_into_it_and_what_is_none_is_ignored(value, expected):
    assert parse_address(f"?sigma={value}").parameters == {"sigma": expected}


def test_the_first_of_several_counts_and_what_is_too_long_is_cut():
    assert parse_address("?seed=1&seed=2").seed == 1
    assert len(parse_address("?checkpoint=" + "a" * 5000).checkpoint) == 300
    assert parse_address("?x=" + "a" * MAX_CHARACTERS + "&seed=3").seed == 0
    assert parse_address("&".join(f"a{index}=1" for index in range(100)) + "&seed=3").seed == 0


names = st.sampled_from(
    ["checkpoint", "noise", "seed", "sigma", "sigma_mode", "sigma_given", "strength", "gain", "quality", "x"]
)
values = st.one_of(
    st.text(max_size=40), st.floats().map(str), st.integers().map(str), st.sampled_from([*NOISES, "none"])
)


@given(st.one_of(st.text(), st.lists(st.tuples(names, values), max_size=60).map(urllib.parse.urlencode)))
def test_whatever_an_address_holds_the_settings_are_in_range(query):
    address = parse_address(query)
    parameters = {parameter.name: parameter for parameter in NOISES[address.noise].parameters}
    assert address.parameters.keys() == parameters.keys()
    for name, value in address.parameters.items():
        assert parameters[name].low <= value <= parameters[name].high
    assert 0 <= address.seed <= 2**53 and address.sigma_mode in SIGMA_MODES
    assert 0 <= address.sigma_given <= 100 and 0 <= address.strength <= 1 and math.isfinite(address.strength)
    assert len(address.checkpoint) <= 300


@given(st.sampled_from(sorted(NOISES)), st.data())
def test_what_is_written_is_read_again(noise, data):
    parameters = {
        one.name: data.draw(st.one_of(st.just(one.default), st.floats(one.low, one.high)))
        for one in NOISES[noise].parameters
    }
    address = Address(
        checkpoint=data.draw(st.sampled_from(["", "color-small", "user/name@v1", "a b&c=d%2F+\u00fc"])),
        noise=noise,
        parameters=parameters,
        seed=data.draw(st.integers(0, 2**53)),
        sigma_mode=data.draw(st.sampled_from(SIGMA_MODES)),
        strength=data.draw(st.floats(0, 1)),
    )
    assert parse_address("?" + write_address(address)) == address


def test_defaults_are_not_written():
    assert write_address(parse_address("")) == ""
    parameters = {"sigma": 15.0, "chroma": 0.5, "grain": 1.2, "quality": 60.0}
    changed = Address("user/name@v1", "camera", parameters=parameters)
    usual = {one.name: one.default for one in NOISES["camera"].parameters}
    written = [f"{name}={value:g}" for name, value in changed.parameters.items() if value != usual[name]]
    assert write_address(changed) == "&".join(["checkpoint=user/name@v1", "noise=camera", *written])
    manual = Address(noisy_already=True, parameters={"sigma": 40.0}, sigma_mode="manual", sigma_given=25.0)
    assert write_address(manual) == "noise=none&sigma_mode=manual&sigma_given=25"


@pytest.mark.parametrize("checkpoint", [DEFAULT_CHECKPOINT, PHOTO_CHECKPOINT, "color-small"])
@pytest.mark.parametrize("noisy_already", [False, True])
@pytest.mark.parametrize("start", [DEFAULT_CHECKPOINT, "color-small"])
def test_an_address_selects_the_checkpoint_that_it_was_written_with(monkeypatch, start, noisy_already, checkpoint):
    state = DemoState.__new__(DemoState)
    state.checkpoint, selected = start, [start]
    levels = tuple(one.default for _, one in PARAMETERS)
    values = (None, noisy_already, "gaussian", 0, Selection(checkpoint), "estimate", 25, 1, "shrunk", "", levels)
    query = ControlValues(*values).query(state.usual_checkpoint(noisy_already), "")

    async def select(picker, name, selection, request):
        selected.append(name)
        yield

    monkeypatch.setattr(CheckpointPicker, "on_checkpoint_selected", select)
    monkeypatch.setattr(CheckpointPicker, "__init__", lambda picker: None)
    picker = CheckpointPicker()
    picker.state = state

    async def open_address():
        return [told async for told in picker.on_address_opened(query, None, SimpleNamespace())]

    run_async(open_address())
    assert selected[-1] == checkpoint
