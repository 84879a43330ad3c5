"""Which code made a run."""

import platform
import re

from nearer.runs.provenance import git_revision, package_versions


def test_git_revision_is_a_hash_or_unknown() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", git_revision())


def test_package_versions_name_python_and_nearer() -> None:
    versions = package_versions()
    assert versions["python"] == platform.python_version()
    assert re.fullmatch(r"\d+\.\d+.*", versions["nearer"])
