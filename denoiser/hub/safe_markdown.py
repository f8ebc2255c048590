"""Markdown that strangers wrote, made safe to show in a page: no tags, and nothing that makes a browser fetch."""

import re

LONGEST = 30_000
"""Characters that are shown."""


def _without_comments(text: str) -> str:
    """Markdown without its HTML comments."""
    kept = []
    while "<!--" in text:
        before, _, rest = text.partition("<!--")
        kept.append(before)
        text = rest.partition("-->")[2]
    return "".join([*kept, text])


def safe_markdown(text: str, base: str = "") -> str:
    """Take out of Markdown what could run, or make a visitor's browser ask another machine.

    The patterns are bounded: a text made to keep them busy does not.

    Args:
        text: Anyone's; what is beyond ``LONGEST`` characters is cut off.
        base: What addresses within the text's own repository are relative to; without it such links become words.
    """
    text = _without_comments(text[:LONGEST])
    text = re.sub(r"<(https?://[^<>\s]{1,500})>", r"\1", text)
    text = re.sub(r"</?[A-Za-z][^<>]{0,2000}>", "", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    # A picture becomes a link to it, and a diagram its text: both can make a browser ask another machine.
    text = re.sub(r"!+", lambda match: "" if match.string[match.end() : match.end() + 1] == "[" else match[0], text)
    text = re.sub(r"mermaid", "text", text, flags=re.IGNORECASE)
    return re.sub(
        r"\[([^\[\]\n]{0,300})\]\((?!https?://|#)([^()\s]{0,500})[^()\n]{0,200}\)",
        lambda match: f"[{match[1]}]({base}{match[2]})" if base else match[1],
        text,
    )
