"""What is installed: the core without extras, each extra, and the files of the wheel and the sdist."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from tests.architecture.sources import PACKAGE, ROOT, assert_no_faults

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Packages whose module has another name.
MODULES = {"scikit-learn": "sklearn"}
#: Packages that come with another: xarray requires pandas, and pandas NumPy.
COME_WITH = {"xarray": {"pandas"}}
CORE = {"jax", "equinox", "optax", "jaxtyping", "numpy", "scipy"}
#: Modules of the extras, blocked below as if they were not installed.
OPTIONAL = ("xarray", "zarr", "filelock", "pandas", "matplotlib", "sklearn", "rich", "typer", "pyarrow")

USES_OF_THE_CORE = """
import jax.numpy as jnp, jaxreg as jr, optax
X = jnp.eye(20) + 0.1
y = jnp.arange(20.0)
loss = jr.losses.SquaredError()
problem = jr.Problem(loss, X, y)
fit, path = jr.solve(problem, jr.L1(0.1)), jr.path(problem, jr.L1, num=3)
optimizer = optax.chain(optax.sgd(0.1), jr.transforms.proximal(jr.L1(0.1), 0.1))
optimizer.init(X[0])
model = jr.FittedModel.of(fit)
assert bool(path.converged.all()) and model.predict(X).shape == (20,) and "Path" in str(path)
"""
#: A use of each optional package, and the sentence without it.
USES_OF_EXTRAS = {
    "path.to_xarray()": "Path.to_xarray needs xarray: pip install 'jaxreg[sweeps]'",
    "jr.sweep(lambda lam: lam, lam=[1.0, 2.0])": "jaxreg.sweep needs xarray: pip install 'jaxreg[sweeps]'",
    "jr.sweeps.open_store('.')": "jaxreg.sweeps.open_store needs xarray: pip install 'jaxreg[sweeps]'",
    "jr.plots.calibration(loss, y, y)": "jaxreg.plots needs matplotlib: pip install 'jaxreg[plots]'",
    "jr.estimators": "jaxreg.estimators needs scikit-learn 1.6 or later: pip install 'jaxreg[sklearn]'",
}


def names(requirements: list[str]) -> set[str]:
    """Return the packages of requirements, those of jaxreg's own extras instead of these."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == "jaxreg":
            found |= set().union(*(extra(part) for part in extras.split(",")))
        else:
            found |= {MODULES.get(name, name)} | COME_WITH.get(name, set())
    return found


def extra(name: str) -> set[str]:
    """Return the modules that an extra installs."""
    return names(PROJECT["optional-dependencies"][name])


def extra_faults(sources: dict[str, str]) -> list[str]:
    """List the calls of `import_extra` whose extra does not install the module."""
    faults = []
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_extra":
                words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                words = [*words, "cli"][:2] if len(words) == len(node.args) else ["", "cli"]
                module = words[0].partition(".")[0]
                if module and module not in extra(words[1]) | names(PROJECT["dependencies"]):
                    faults.append(f"{name}:{node.lineno} the extra {words[1]} does not install {module}")
    return faults


def test_core_requirements():
    assert names(PROJECT["dependencies"]) == CORE
    assert set(OPTIONAL) == extra("cli") | extra("parquet") | extra("sweeps")


def test_extras_install_what_their_users_import():
    assert_no_faults(extra_faults(PACKAGE))


def test_an_import_of_another_extra_is_detected():
    assert (
        len(extra_faults({"m": "import_extra('zarr', 'plots')\nimport_extra('zarr.codecs', 'sweeps')"})) == 1
    )


def test_the_core_works_without_extras_and_names_them():
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n"
    tries = "".join(
        f"try: {use}\nexcept ImportError as error: print(error)\nelse: print('no error')\n"
        for use in USES_OF_EXTRAS
    )
    program = blocked + USES_OF_THE_CORE + tries
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(USES_OF_EXTRAS.values())


def test_the_command_without_its_extra_says_so():
    program = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\nimport _jaxreg_cli\n"
    program += "sys.argv = ['jaxreg', 'sweep']\nsys.exit(_jaxreg_cli.main())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this needs typer: pip install 'jaxreg[cli]'\n"


@pytest.mark.slow
def test_the_files_of_wheel_and_sdist(tmp_path):
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)], check=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    files = zipfile.ZipFile(wheel).namelist()
    info = next(name.partition("/")[0] for name in files if ".dist-info/" in name)
    assert {name.partition("/")[0] for name in files} == {"jaxreg", "_jaxreg_cli.py", info}
    assert {"jaxreg/py.typed", "jaxreg/cli/diabetes.csv", f"{info}/licenses/LICENSE"} < set(files)
    assert not [name for name in files if "__pycache__" in name]
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    assert top == {
        "jaxreg", "_jaxreg_cli.py", "experiments", "tests", "docs", "conftest.py",
        "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore",
    }  # fmt: skip
