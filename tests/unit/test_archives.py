"""Zip archives on the module path are read again only when they changed."""

import importlib
import os
import sys
import zipfile
import zipimport

import pytest

from pipeline import archives


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A zip with the module `boxed`, on the module path, with `read_once` in force for one test."""
    monkeypatch.setattr(zipimport.zipimporter, "invalidate_caches", zipimport.zipimporter.invalidate_caches)
    monkeypatch.setattr(archives, "_known", {})
    path = tmp_path / "box.zip"
    write(path, {"boxed": "VALUE = 1"}, at_s=1_000)
    monkeypatch.syspath_prepend(str(path))
    yield path
    sys.path_importer_cache.pop(str(path), None)
    for name in ("boxed", "added", "pack", "pack.one", "pack.two"):
        sys.modules.pop(name, None)


def write(path, modules, at_s):
    with zipfile.ZipFile(path, "w") as box:
        for name, text in modules.items():
            box.writestr(f"{name}.py", text)
    os.utime(path, (at_s, at_s))


def count_reads(monkeypatch):
    reads = []

    def forget(importer):
        reads.append(importer.archive)
        original(importer)

    original = archives._forget
    monkeypatch.setattr(archives, "_forget", forget)
    return reads


def test_an_archive_that_did_not_change_is_not_read_again(archive, monkeypatch):
    assert importlib.import_module("boxed").VALUE == 1
    archives.read_once()
    reads = count_reads(monkeypatch)
    importlib.invalidate_caches()
    assert str(archive) not in reads
    sys.modules.pop("boxed")
    assert importlib.import_module("boxed").VALUE == 1, "what is known of it still serves"


def test_a_new_version_of_an_archive_is_read(archive, monkeypatch):
    importlib.import_module("boxed")
    archives.read_once()
    reads = count_reads(monkeypatch)
    write(archive, {"boxed": "VALUE = 1", "added": "VALUE = 2"}, at_s=2_000)
    importlib.invalidate_caches()
    assert str(archive) in reads
    assert importlib.import_module("added").VALUE == 2


def test_every_folder_of_a_changed_archive_is_read(archive, monkeypatch):
    write(archive, {"boxed": "", "pack/__init__": "", "pack/one": ""}, at_s=3_000)
    sys.path_importer_cache.pop(str(archive), None)
    importlib.import_module("pack.one")
    archives.read_once()
    write(archive, {"boxed": "", "pack/__init__": "", "pack/one": "", "pack/two": "VALUE = 2"}, at_s=4_000)
    importlib.invalidate_caches()
    assert importlib.import_module("pack.two").VALUE == 2


def test_an_archive_that_is_gone_is_forgotten(archive, monkeypatch):
    importlib.import_module("boxed")
    archives.read_once()
    sys.modules.pop("boxed")
    archive.unlink()
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("boxed")


def test_installed_packages_come_before_jars_and_instead_of_pysparks_own_zip(tmp_path):
    packages = tmp_path / "site-packages"
    (packages / "pyspark" / "python" / "lib").mkdir(parents=True)
    (packages / "pyspark" / "worker.py").touch()
    copy = str(packages / "pyspark" / "python" / "lib" / "pyspark.zip")
    path = ["", "/jars/a.jar", copy, "/jars/b.jar", "/lib/py4j-src.zip", str(packages)]
    assert archives.sooner(path) == ["", "/lib/py4j-src.zip", str(packages), "/jars/a.jar", "/jars/b.jar"]
    without = ["", copy, "/somewhere"]
    assert archives.sooner(without) == without, "this pyspark is there only as a zip"
    other = ["/spark/python/lib/pyspark.zip", str(packages)]
    assert archives.sooner(other) == other, "another distribution's"
