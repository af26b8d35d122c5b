"""One lock rules them all: pyproject.toml, requirements.lock, conda, Binder and the imports of the code agree."""

import ast
import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {
    "emseg",
    "chapters",
    "emseg_book",
    "reference",
    "_results",
    "_works",
}  # the oracles in tests/; what the benchmarks share
OPTIONAL = {"networks", "book", "dev"}


def _module(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def _asked() -> list[Requirement]:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert set(extras) == OPTIONAL
    return [Requirement(text) for group in (PYPROJECT["project"]["dependencies"], *extras.values()) for text in group]


def test_every_line_of_the_lock_is_an_exact_pin():
    for requirement in _locked():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], str(requirement)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_satisfies_every_range_on_every_python(python):
    """For each Python, each package asked for is pinned exactly once, within its range."""
    environment = {"python_version": python, "python_full_version": f"{python}.4", "sys_platform": "linux"}
    pins: dict[str, list[Requirement]] = {}
    for requirement in _locked():
        if requirement.marker is None or Marker(str(requirement.marker)).evaluate({**environment}):
            pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for asked in _asked():
        found = pins.get(canonicalize_name(asked.name), [])
        assert len(found) == 1, f"{asked} is pinned {len(found)} times for Python {python}"
        version = next(iter(found[0].specifier)).version
        assert asked.specifier.contains(version, prereleases=True), f"{asked} is pinned to {version}"


def test_what_is_installed_is_what_is_locked():
    for requirement in _locked():
        if requirement.marker is None or requirement.marker.evaluate():
            version = next(iter(requirement.specifier)).version
            assert importlib.metadata.version(requirement.name).split("+")[0] == version, "run `make setup`"


def test_the_desktop_opencv_stays_out():
    """It needs libGL and overwrites the files of the headless one."""
    assert "opencv-python" not in {canonicalize_name(requirement.name) for requirement in _locked()}
    assert PYPROJECT["tool"]["uv"]["exclude-dependencies"] == ["opencv-python"]


def test_conda_and_binder_install_the_same_lock():
    """Both environment files are as `make lock` writes them, and postBuild installs the lock and emseg."""
    wanted = _module("lock").environment_text((ROOT / "requirements.lock").read_text())
    for folder in (ROOT, ROOT / "binder"):
        text = (folder / "environment.yml").read_text()
        assert text == wanted
        python = next(item for item in yaml.safe_load(text)["dependencies"] if str(item).startswith("python="))
        assert python.split("=")[1] in PYPROJECT["project"]["requires-python"]
    post_build = ROOT / "binder" / "postBuild"
    assert "--no-deps -r requirements.lock" in post_build.read_text()
    assert post_build.stat().st_mode & 0o111


@pytest.mark.parametrize("folder", ["src", "book/_ext", "benchmarks", "tools"])
def test_every_import_is_declared(folder):
    """Each package that the code imports is named in pyproject.toml, and not only pulled in by another."""
    declared = {canonicalize_name(requirement.name) for requirement in _asked()}
    by_import = importlib.metadata.packages_distributions()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names} - OURS - set(sys.stdlib_module_names):
                distributions = {canonicalize_name(each) for each in by_import.get(name, [])}
                assert distributions & declared, f"{path.relative_to(ROOT)} imports {name}, which is not declared"


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_an_unfit_python_is_refused_in_one_sentence(version):
    complaint = _module("install").python_complaint(version)
    assert f"this is {version[0]}.{version[1]}" in complaint
    assert "make setup PYTHON=" in complaint


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_supported_pythons_are_accepted(version):
    assert _module("install").python_complaint(version) is None


def test_a_full_disk_is_refused_before_anything_is_installed():
    install = _module("install")
    assert "1.2 GB are free" in install.disk_complaint(1.2)
    assert install.disk_complaint(100) is None


def test_without_a_network_setup_says_so_in_one_sentence(tmp_path: Path):
    """With an index that nobody answers at, `tools/install.py` ends with one clear sentence and no half-made stamp."""
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "install.py").write_text((ROOT / "tools" / "install.py").read_text())
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **offline}
    command = [sys.executable, str(tmp_path / "tools" / "install.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    if "GB are free here" in done.stderr:
        pytest.skip("this disk is too full to try: " + done.stderr.strip())
    assert done.returncode == 1
    assert "setup: the package index cannot be reached" in done.stderr.splitlines()[-1]
    assert not (tmp_path / ".venv" / "installed-lock.sha256").exists()


def test_make_help_lists_the_promised_targets():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "book", "test", "lab", "bench", "lock", "clean"):
        assert f"make {target} " in said
