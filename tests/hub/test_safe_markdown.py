import re

import pytest

from denoiser.hub.safe_markdown import safe_markdown


@pytest.mark.parametrize(
    "card",
    [
        "![a](http://elsewhere/x.png)",
        "!![a](http://elsewhere/x.png)",
        "!!!![a][b]\n\n[b]: http://elsewhere/x.png",
        "<img src=http://elsewhere/x.png>",
        "<!-- --><img src='http://elsewhere/x.png'",
        "<<img src=x>img src=http://elsewhere/x.png>",
        "```mermaid\nflowchart\n A@{ img: 'http://elsewhere/x.png' }\n```",
        "~~~ Mermaid\nflowchart\n~~~",
    ],
)
def test_nothing_in_a_card_makes_a_browser_fetch(card):
    shown = safe_markdown(card)
    assert "![" not in shown and "mermaid" not in shown.lower() and not re.search("<[a-z/!?]", shown.lower())


@pytest.mark.parametrize("piece", ["[](", "[", "<!--", "!", "<a", "[a](b", "```", "](", "<https://"])
def test_a_card_cannot_keep_the_server_busy(piece):
    assert safe_markdown(piece * 20_000) is not None


def test_a_card_keeps_its_words_and_links():
    card = (
        "# A *title*\n<!-- ours -->See <https://a.example> and [curve](curve.png), [b](https://b.example).\n\n`x < y`"
    )
    shown = safe_markdown(card, "https://huggingface.co/user/name/blob/c0ffee/")
    assert "ours" not in shown and "# A *title*\nSee https://a.example and" in shown and "`x < y`" in shown
    assert "[curve](https://huggingface.co/user/name/blob/c0ffee/curve.png), [b](https://b.example)" in shown
    assert "and curve, [b]" in safe_markdown(card)
