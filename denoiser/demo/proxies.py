"""Proxies in the environment, made fit for a program that talks to itself and perhaps to the Hub."""

from collections.abc import MutableMapping

import httpx
import huggingface_hub

LOCAL = "localhost,127.0.0.1,::1"


def prepare_proxies(environ: MutableMapping[str, str]) -> str:
    """Let this machine be reached past any proxy; gradio asks its own address at the start.

    A SOCKS proxy needs a package that may be missing. Then nothing beyond this machine is asked, as that would go past
    the proxy; the bundled checkpoints need nobody.

    Returns:
        What a person should know; mostly "".

    Raises:
        ValueError: A proxy's address cannot be used.
    """
    past = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(filter(None, (past, LOCAL)))
    proxies = {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}
    proxies = {name: value for name, value in proxies.items() if name.lower() != "no_proxy"}
    try:
        httpx.Client().close()
        return ""
    except ImportError:  # before the package is needed there is no telling that it is missing
        socks = [name for name, value in proxies.items() if value.lower().startswith("socks")]
        for name in socks:
            del environ[name]
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        return (
            f"{socks[0]} names a SOCKS proxy, which needs the package socksio: pip install 'httpx[socks]'. Until then "
            "the Hub is not asked."
        )
    except (httpx.InvalidURL, ValueError) as error:
        named = ", ".join(f"{name}={value}" for name, value in proxies.items())
        raise ValueError(f"a proxy of {named} cannot be used: {error}") from error
