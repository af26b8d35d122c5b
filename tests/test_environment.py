"""One lock rules them all: pyproject.toml, requirements.lock, conda, Binder and the imports of the code agree."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import threading
import tomllib
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {
    "browser",  # of tests/book, for the PDF
    "emseg",
    "chapters",
    "emseg_book",
    "reference",
    "_attention_costs",
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
    assert post_build.read_text().splitlines()[-1] == "python tools/install.py --active"
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


def test_the_cpu_lock_pins_all_but_cuda():
    """NVIDIA's packages and triton are left out; torch and torchvision are pinned to the CPU build."""
    whole = (ROOT / "requirements.lock").read_text()
    left = set(whole.splitlines()) - set(_module("install").cpu_lock(whole).splitlines())
    assert {re.match(r"[a-z]+", line)[0] for line in left} == {"nvidia", "triton", "torch", "torchvision"}
    pinned = _module("install").cpu_lock(whole)
    assert re.search(r"^torch==[0-9.]+\+cpu$", pinned, re.MULTILINE)
    assert re.search(r"^torchvision==[0-9.]+\+cpu$", pinned, re.MULTILINE)


def _wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel without code and list it in the folder's index."""
    file = f"{name}-{version}-py3-none-any.whl"
    (folder / name).mkdir(parents=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / name / file, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    (folder / name / "index.html").write_text(f'<a href="{quote(file)}">{file}</a>')


@pytest.fixture
def indexes(tmp_path: Path):
    """Two served package indexes, PyPI's and PyTorch's, of wheels without code; yields their address."""
    for name in ("torch", "torchvision", "other", "triton", "nvidia-x"):
        _wheel(tmp_path / "served" / "pypi", name.replace("-", "_") if name == "nvidia-x" else name, "2.0")
    (tmp_path / "served" / "pypi" / "nvidia_x").rename(tmp_path / "served" / "pypi" / "nvidia-x")
    for name, version in (("torch", "2.0+cpu"), ("torchvision", "2.0+cpu"), ("other", "1.0")):
        _wheel(tmp_path / "served" / "cpu", name, version)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("index", "version", "others"), [("cpu", "2.0+cpu", set()), ("gone", "2.0", {"triton", "nvidia-x"})]
)
def test_without_a_gpu_torchs_cpu_build_is_installed(tmp_path: Path, indexes: str, monkeypatch, index, version, others):
    """From PyTorch's index come torch and torchvision, all else from PyPI's; without it all comes from PyPI's."""
    lock = tmp_path / "requirements.lock"
    lock.write_text("".join(f"{name}==2.0\n" for name in ("nvidia-x", "other", "torch", "torchvision", "triton")))
    install = _module("install")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "LOCK", lock)
    monkeypatch.setattr(install, "CPU_LOCK", tmp_path / "_build" / "cpu.lock")
    monkeypatch.setattr(install, "CPU_INDEX", f"{indexes}/{index}")
    monkeypatch.setenv("UV_INDEX_URL", f"{indexes}/pypi")
    for name in ("UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", str(tmp_path / "venv")], check=True)
    uv = [sys.executable, "-m", "uv", "pip", "sync"]
    assert (
        install.install_lock(uv, tmp_path / "venv" / "bin" / "python", light=install.is_reachable(install.CPU_INDEX))
        == 0
    )
    found = importlib.metadata.distributions(path=[str(next((tmp_path / "venv" / "lib").glob("*/site-packages")))])
    versions = {canonicalize_name(each.name): each.version for each in found}
    assert versions == {"torch": version, "torchvision": version, "other": "2.0", **dict.fromkeys(others, "2.0")}


@pytest.mark.parametrize(("wanted", "light"), [("cpu", True), ("cuda", False)])
def test_the_user_decides_which_torch(monkeypatch, wanted: str, light: bool):
    """TORCH overrides what is found on the machine."""
    monkeypatch.setenv("TORCH", wanted)
    assert _module("install").wants_cpu_build() is light


def test_make_help_lists_the_promised_targets():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "book", "test", "lab", "bench", "lock", "pdf", "archive", "clean"):
        assert f"make {target} " in said
