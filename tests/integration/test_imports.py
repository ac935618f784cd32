"""The import contract: packages know what stands below them, and nothing above.

The contract is read from the syntax tree, so that an import inside a function counts too; what
must not be loaded at all is checked in a fresh interpreter.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = {"errors", "ops"}
FILES = LIGHT | {"structures", "io"}

# package of ours -> packages of ours that it may import (itself included without saying)
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "arguments": {"errors"},
    "config": {"errors"},
    "ops": {"errors"},
    "structures": LIGHT,
    "io": LIGHT | {"structures"},
    "model": FILES | {"config"},
    "model_builder": FILES | {"config", "model"},
    "data": FILES | {"arguments"},
    "eval": FILES | {"arguments", "data"},
    "train": FILES | {"arguments", "config", "model", "model_builder", "data", "eval"},
}
ABOVE = {"predict", "track", "export", "report", "planning", "studio", "demo", "cli", "__main__", "__init__"}

# package of ours -> third parties that it may import only inside functions
LATE: dict[str, set[str]] = {
    "ops": {"pycocotools", "scipy"},
    "io": {"av", "cv2", "huggingface_hub", "safetensors"},
    "data": {"pycocotools"},
    "eval": {"pycocotools"},
    "train": {"submitit", "tensorboard"},
}
NEVER = {"torchvision", "timm", "triton", "decord", "fairscale", "pkg_resources", "labelme", "transformers"}


def package_of(path: Path, root: Path) -> str:
    first = path.relative_to(root / "sam3").parts[0]
    return first.removesuffix(".py")


def sources(root: Path) -> list[Path]:
    return sorted((root / "sam3").rglob("*.py"))


def imported_modules(node: ast.AST) -> list[str]:
    """Full names of what one import statement names; ``from sam3 import ops`` counts as ``sam3.ops``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        if node.module == "sam3":
            return [f"sam3.{alias.name}" for alias in node.names]
        return [node.module or ""]
    return []


def imports_at_load(tree: ast.Module) -> list[str]:
    """Modules imported when the file is: everything outside functions, class bodies included."""
    found, pending = [], list(tree.body)
    while pending:
        node = pending.pop()
        found += imported_modules(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


def violations(source: str, package: str) -> list[str]:
    tree = ast.parse(source)
    everywhere = [name for node in ast.walk(tree) for name in imported_modules(node)]
    found = [f"imports {name}" for name in everywhere if name.partition(".")[0] in NEVER]
    if package in ALLOWED:
        ours = {name.split(".")[1] for name in everywhere if name.startswith("sam3.")}
        found += [f"imports sam3.{name}" for name in sorted(ours - ALLOWED[package] - {package, "__version__"})]
    late = LATE.get(package, set())
    found += [f"imports {name} at load" for name in imports_at_load(tree) if name.partition(".")[0] in late]
    return found


def test_every_package_has_its_place(repository):
    known = set(ALLOWED) | ABOVE
    assert {package_of(path, repository) for path in sources(repository)} - known == set()


def test_the_contract_holds(repository):
    broken = [
        f"{path.relative_to(repository)} {violation}"
        for path in sources(repository)
        for violation in violations(path.read_text(encoding="utf-8"), package_of(path, repository))
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("package", "source", "violation"),
    [
        ("ops", "from sam3.model import layers", "imports sam3.model"),
        ("ops", "from sam3 import structures", "imports sam3.structures"),
        ("data", "def f():\n    import sam3.model.backbone", "imports sam3.model"),
        ("eval", "from sam3.train.trainer import Trainer", "imports sam3.train"),
        ("io", "class A:\n    import av", "imports av at load"),
        ("predict", "import torchvision.ops", "imports torchvision.ops"),
    ],
)
def test_a_violation_is_seen(package, source, violation):
    assert violations(source, package) == [violation]


def test_what_is_allowed_is_not_reported():
    assert violations("import torch\nfrom sam3.ops import boxes\ndef f():\n    import av", "io") == []


def loaded_after(statement: str, root: Path) -> set[str]:
    """Names of all modules in a fresh interpreter after ``statement``."""
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_no_torch(repository):
    loaded = loaded_after("import sam3; sam3.__version__", repository)
    assert loaded & {"torch", "numpy", "PIL"} == set()


@pytest.mark.parametrize("module", ["sam3.data.labelme", "labelme_to_coco", "sam3.demo.world"])
def test_what_runs_before_torch_is_installed_loads_no_torch(module, repository):
    assert "torch" not in loaded_after(f"import {module}", repository)


def test_image_inference_loads_nothing_of_training(repository):
    loaded = loaded_after(
        "from sam3.model_builder import build_sam3_image_model\n"
        "from sam3.model.sam3_image_processor import Sam3Processor\n"
        "from sam3 import build_sam3_image_model",
        repository,
    )
    ours = {name for name in loaded if name.startswith(("sam3.train", "sam3.data", "sam3.eval"))}
    assert ours == set()
    assert loaded & {"hydra", "omegaconf", "pycocotools", "scipy", "av", "huggingface_hub", "tensorboard"} == set()
