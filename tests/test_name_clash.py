import sys
import warnings

from denoiser.name_clash import warn_if_name_clashes


def test_another_package_with_the_same_import_name_is_named_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "denoiser-0.1.5.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: denoiser\nVersion: 0.1.5\n"
    (tmp_path / "denoiser-0.1.5.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "denoiser")  # so that it is imported as if for the first time
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        exec("import denoiser")
    (warning,) = [one for one in said if one.category is UserWarning]
    assert "(denoiser 0.1.5)" in str(warning.message) and "pip uninstall denoiser" in str(warning.message)
    assert (warning.filename, warning.lineno) == ("<string>", 1)  # where it is imported, not inside the package


def test_without_one_there_is_nothing_to_say():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_if_name_clashes()
    assert not said
