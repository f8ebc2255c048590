"""gradio writes the type stubs of its components anew whenever it is imported, which takes a second: not in tests."""

import importlib.util
import sys


class StubsKept:
    """A finder for the module of gradio that writes them, of which it takes the function."""

    def find_spec(self, name, path=None, target=None):
        if name != "gradio.component_meta":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.create_or_modify_pyi = lambda *given: None

        spec.loader.exec_module = exec_module
        return spec


def keep_stubs() -> None:
    """Import gradio without that, from now on."""
    sys.meta_path.insert(0, StubsKept())
