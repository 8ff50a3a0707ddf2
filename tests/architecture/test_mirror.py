"""Tests mirror the package: each module has a file of tests."""

from tests.architecture.sources import PACKAGE, ROOT, assert_no_faults

# Modules whose tests are in a file with another name, because one file covers several modules.
TOGETHER = {
    "jaxreg.penalties.adaptive": "tests/penalties/test_transformed.py",
    "jaxreg.penalties.base": "tests/penalties/test_laws.py",
    "jaxreg.penalties.combine": "tests/penalties/test_combine.py",
    "jaxreg.penalties.family": "tests/penalties/test_numbers.py",
    "jaxreg.penalties.fused": "tests/penalties/test_laws.py",
    "jaxreg.penalties.group": "tests/penalties/test_laws.py",
    "jaxreg.penalties.masks": "tests/penalties/test_masked.py",
    "jaxreg.penalties.nonconvex": "tests/penalties/test_laws.py",
    "jaxreg.penalties.norms": "tests/penalties/test_laws.py",
    "jaxreg.penalties.piecewise_quadratic": "tests/penalties/test_laws.py",
    "jaxreg.penalties.separable": "tests/penalties/test_laws.py",
    "jaxreg.penalties.sets": "tests/penalties/test_laws.py",
    "jaxreg.cost": "tests/penalties/test_models.py",
    "jaxreg.losses.base": "tests/test_losses.py",
    "jaxreg.losses.classification": "tests/test_losses.py",
    "jaxreg.losses.counts": "tests/test_losses.py",
    "jaxreg.losses.regression": "tests/test_losses.py",
    "jaxreg.linear.path.kernels": "tests/linear/path/test_working_set.py",
    "jaxreg.linear.path.all_columns": "tests/linear/path/test_path.py",
    "jaxreg.linear.path.checks": "tests/linear/path/test_working_set.py",
    "jaxreg.linear.path.columns": "tests/linear/path/test_working_set.py",
    "jaxreg.linear.path.matrix_columns": "tests/linear/path/test_working_set.py",
    "jaxreg.linear.path.matrix_free_columns": "tests/linear/path/test_without_matrices.py",
    "jaxreg.linear.path.path_problem": "tests/linear/path/test_path.py",
    "jaxreg.linear.path.record": "tests/linear/path/test_ridge.py",
    "jaxreg.linear.path.result": "tests/linear/path/test_path.py",
    "jaxreg.linear.prediction": "tests/linear/path/test_path.py",
    "jaxreg.linear.design.base": "tests/linear/test_design.py",
    "jaxreg.linear.design.choose": "tests/linear/test_design.py",
    "jaxreg.linear.design.dense": "tests/linear/test_design.py",
    "jaxreg.linear.design.sparse": "tests/linear/test_design.py",
    "jaxreg.linear.design.standardized": "tests/linear/test_design.py",
    "jaxreg.linear.null_fit": "tests/linear/path/test_path.py",
    "jaxreg.linear.problem": "tests/linear/test_solve.py",
    "jaxreg.linear.path.grid": "tests/linear/path/test_path.py",
    "jaxreg.linear.selection.cv_result": "tests/linear/selection/test_cross_validation.py",
    "jaxreg.linear.solvers.base": "tests/linear/test_solvers.py",
    "jaxreg.linear.solvers.newton": "tests/linear/test_newton.py",
    "jaxreg.linear.solvers.proximal_gradient": "tests/linear/test_solvers.py",
    "jaxreg.prox.groups": "tests/prox/test_block_thresholds.py",
    "jaxreg.metrics": "tests/linear/path/test_path.py",
}


def mirror_faults(modules: set[str], tests: set[str], together: dict[str, str]) -> list[str]:
    faults = [
        f"`TOGETHER` names {m}, which does not exist: remove it" for m in sorted(set(together) - modules)
    ]
    packages = {name.rpartition(".")[0] for name in modules}
    for name in sorted(modules - packages):
        *folders, last = name.split(".")[1:]
        if any(part.startswith("_") for part in (*folders, last)):
            continue
        wanted = together.get(name, "/".join(["tests", *folders, f"test_{last}.py"]))
        if wanted not in tests:
            faults.append(
                f"{name} has no tests: write {wanted}, or name the file that has them in `TOGETHER`"
            )
    return faults


def test_tests_mirror_the_package():
    tests = {file.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("test_*.py")}
    assert_no_faults(mirror_faults(set(PACKAGE), tests, TOGETHER))


def test_a_module_without_tests_is_detected():
    modules = {"jaxreg", "jaxreg.linear", "jaxreg.linear.path", "jaxreg.linear.path.path"}
    modules |= {"jaxreg._pytree", "jaxreg.losses"}
    tests = {"tests/linear/path/test_path.py", "tests/test_losses.py"}
    assert_no_faults(mirror_faults(modules, tests, {}))
    assert len(mirror_faults(modules, {"tests/test_losses.py"}, {})) == 1
    assert_no_faults(
        mirror_faults(modules, {"tests/test_losses.py"}, {"jaxreg.linear.path.path": "tests/test_losses.py"})
    )
    assert len(mirror_faults(modules, tests, {"jaxreg.gone": "tests/test_losses.py"})) == 1
    assert len(mirror_faults(modules, tests, {"jaxreg.losses": "tests/test_gone.py"})) == 1
