"""Pyspark is loaded as pip unpacked it, and jars are searched last."""

from pipeline.module_path import sooner


def test_installed_packages_come_before_jars_and_instead_of_pysparks_own_zip(tmp_path):
    packages = tmp_path / "site-packages"
    (packages / "pyspark" / "python" / "lib").mkdir(parents=True)
    (packages / "pyspark" / "worker.py").touch()
    copy = str(packages / "pyspark" / "python" / "lib" / "pyspark.zip")
    path = ["", "/jars/a.jar", copy, "/jars/b.jar", "/lib/py4j-src.zip", str(packages)]
    assert sooner(path) == ["", "/lib/py4j-src.zip", str(packages), "/jars/a.jar", "/jars/b.jar"]
    without = ["", copy, "/somewhere"]
    assert sooner(without) == without, "this pyspark is there only as a zip"
    other = ["/spark/python/lib/pyspark.zip", str(packages)]
    assert sooner(other) == other, "another distribution's"
