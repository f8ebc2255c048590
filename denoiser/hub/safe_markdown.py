"""Sanitized Markdown for a web page: no HTML tags, and nothing that makes a browser request other hosts."""

import re

MAX_CHARACTERS = 30_000
"""Longer texts are cut."""


def _without_comments(text: str) -> str:
    """Markdown without its HTML comments."""
    kept = []
    while "<!--" in text:
        before, _, rest = text.partition("<!--")
        kept.append(before)
        text = rest.partition("-->")[2]
    return "".join([*kept, text])


def safe_markdown(text: str, base: str = "") -> str:
    """Remove from untrusted Markdown what could run, or make the browser request another host.

    The repetitions in the patterns are bounded, so that no text makes them slow.

    Args:
        text: Markdown; cut after ``MAX_CHARACTERS``.
        base: Base address of relative links; without it they become plain text.
    """
    text = _without_comments(text[:MAX_CHARACTERS])
    text = re.sub(r"<(https?://[^<>\s]{1,500})>", r"\1", text)
    text = re.sub(r"</?[A-Za-z][^<>]{0,2000}>", "", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    # An image becomes a link, and a diagram its source: both can make a browser request another host.
    text = re.sub(r"!+", lambda match: "" if match.string[match.end() : match.end() + 1] == "[" else match[0], text)
    text = re.sub(r"mermaid", "text", text, flags=re.IGNORECASE)
    return re.sub(
        r"\[([^\[\]\n]{0,300})\]\((?!https?://|#)([^()\s]{0,500})[^()\n]{0,200}\)",
        lambda match: f"[{match[1]}]({base}{match[2]})" if base else match[1],
        text,
    )
