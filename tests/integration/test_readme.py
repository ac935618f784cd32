"""Whatever the README and the Chinese guide promise: commands run, keys exist, files are there."""

import ast
import json
import re
import shlex
import shutil
import tomllib

import pytest
from omegaconf import OmegaConf
from PIL import Image

from sam3.cli import SUBCOMMANDS
from sam3.demo.world import World, write_world
from sam3.io.checkpoint import save_weights
from sam3.io.model_card import ModelCard
from sam3.model_builder import build_sam3_image_model, build_sam3_video_predictor
from sam3.train.config_loading import load_config
from tests.integration.commands import MAINS, SAM3, call
from tests.integration.documents import blocks, commands, local_links, table_rows

DOCUMENTS = ["README.md", "训练指南.md"]

# Commands of tools that are not ours, or that need a network or hours; what they name is checked instead.
NOT_RUN = (
    "git clone", "python3 -m venv", "pip install", "hf auth login", "tensorboard",
    "ufmt", "make", "python -m tests.parity",
)  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder such as a user's: ``photos`` with Labelme files of two classes, ``photo.jpg``."""
    folder = tmp_path_factory.mktemp("user")
    pictures = write_world(folder / "photos", World(num_shapes=(1, 2), empty_share=0.1), num_images=10, seed=1)
    for picture in pictures:
        annotation = picture.with_suffix(".json")
        text = re.sub(r'"label": "(red|yellow|green) \w+"', '"label": "bolt"', annotation.read_text())
        annotation.write_text(re.sub(r'"label": "\w+ \w+"', '"label": "nut"', text))
    Image.open(pictures[0]).save(folder / "photo.jpg")
    return folder


# --- commands ---


def test_the_commands_run_one_after_the_other(repository, workplace, monkeypatch):
    """With the tiny network for one epoch; otherwise word for word."""
    monkeypatch.chdir(workplace)
    ran = []
    for command in commands(repository / "README.md"):
        words = shlex.split(command)
        if words[0] == "python" and words[1] in MAINS:
            words = words[1:]
        elif words[0] != SAM3:
            assert command.startswith(NOT_RUN), f"the README's command {command!r} is neither run nor exempt"
            continue
        is_composed = "train.py" in words[0] or words[:2] == [SAM3, "plan"]
        extra = ["experiment=tiny_from_scratch", "scratch.max_epochs=1"] if is_composed else []
        call(words[0], *_from_repository(words[1:], repository), *extra)
        ran.append(" ".join(words[:2]) if words[0] == SAM3 else words[0])
    assert set(ran) == {*MAINS, "sam3 doctor", "sam3 plan", "sam3 report"}
    assert sorted(path.name for path in (workplace / "runs/bolts/checkpoints").glob("*.pt")) == [
        "best.pt", "best_fp16.pt", "last.pt",
    ]  # fmt: skip
    for part in ("overlays", "labelme", "predictions", "coco_predictions.json"):
        assert (workplace / "found" / part).exists()
    listed = json.loads((workplace / "found2" / "coco_images.json").read_text())["categories"]
    assert [category["name"] for category in listed] == ["bolt", "nut"]


def test_the_run_folder_is_as_drawn(repository, workplace):
    """Runs after the commands; every file of the README's drawing exists."""
    (drawing,) = [text for text in blocks(repository / "README.md", "text") if text.startswith("runs/bolts/")]
    lines = [re.split(r"\s{3,}", line.strip())[0] for line in drawing.splitlines()[1:]]
    for line in lines:
        folder = ""
        for name in line.split():
            if "/" in name:
                folder = name.rpartition("/")[0] + "/"
                name = name.rpartition("/")[2]
            assert (workplace / "runs/bolts" / (folder + name)).exists(), folder + name


def _from_repository(words, repository):
    """Paths into the sources, which the README writes from the repository's root, made absolute."""
    return [str(repository / word) if word.startswith("sam3/") else word for word in words]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_exempt_commands_name_what_exists(name, repository):
    makefile = (repository / "Makefile").read_text()
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in commands(repository / name):
        for target in re.findall(r"\bmake (\w+)", command):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), command
        for group in re.findall(r"\.\[([\w,]+)\]", command):
            assert set(group.split(",")) <= set(extras), command
        for module, data in re.findall(r"python -m (tests\.parity\.\w+) (\S+)", command):
            assert (repository / (module.replace(".", "/") + ".py")).exists(), command
            assert (repository / data).exists(), command
    for subcommand in re.findall(r"`sam3 (\w+)`", (repository / name).read_text(encoding="utf-8")):
        assert subcommand in SUBCOMMANDS


def test_the_guide_shows_no_command_that_the_readme_lacks(repository):
    assert set(commands(repository / "训练指南.md")) <= set(commands(repository / "README.md"))
    assert set(blocks(repository / "训练指南.md", "python")) <= set(blocks(repository / "README.md", "python"))


# --- Python ---


def test_the_python_code_runs(repository, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(
        "sam3.model_builder.build_sam3_image_model",
        lambda **options: build_sam3_image_model(config="tiny", load_from_HF=False, **options),
    )
    monkeypatch.setattr(
        "sam3.model_builder.build_sam3_video_predictor",
        lambda: build_sam3_video_predictor(config="tiny", load_from_HF=False, device="cpu"),
    )
    (workplace / "assets").mkdir(exist_ok=True)
    shutil.copy(repository / "assets" / "shapes.mp4", workplace / "assets")
    names: dict = {}
    for code in blocks(repository / "README.md", "python"):
        ast.parse(code)
        exec(code, names)  # our own text
    width, height = names["state"]["original_width"], names["state"]["original_height"]
    assert names["masks"].shape[1:] == (1, height, width)
    assert len(names["boxes"]) == len(names["scores"]) == len(names["masks"])
    assert names["candidates"].shape == (3, height, width)
    assert names["outlined"].shape == (1, height, width)
    assert names["frame"].index == 23, "the clip was followed to its end"


# --- keys ---


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documented_keys_exist_with_the_stated_default(name, repository):
    loaded = load_config("train_config_single_class", ["paths.dataset_root=/data"])
    first = {"README.md": "key", "训练指南.md": "键"}[name]
    rows = table_rows(repository / name, first)
    assert len(rows) >= 15
    for key, *_, default in rows:
        missing = object()
        value = OmegaConf.select(loaded.composed, key.strip("`"), default=missing)
        assert value is not missing, f"{name} documents {key}, which is no key"
        if re.fullmatch(r"\d+|null|false|true|\[\]", default):
            assert value == json.loads(default), f"{key} is {value}, documented as {default}"


# --- files ---


@pytest.mark.parametrize(
    "pattern",
    [*DOCUMENTS, "CONTRIBUTING.md", "docs/*.md", "tools/*.md", "scripts/**/*.md", "benchmarks/**/*.md"],
)
def test_links_lead_somewhere(pattern, repository):
    documents = list(repository.glob(pattern))
    assert documents
    missing = [
        f"{document.name}: {target}"
        for document in documents
        for target in local_links(document)
        if not (document.parent / target).exists()
    ]
    assert missing == []


def test_the_file_tree_is_complete(repository):
    (tree,) = [text for text in blocks(repository / "README.md", "text") if text.startswith("labelme_to_coco.py")]
    drawn = set()
    for line in tree.splitlines():
        name = line.split()[0]
        drawn.add(("sam3/" if line.startswith("  ") else "") + name)
    for name in drawn:
        assert (repository / name).exists(), name
    packages = {f"sam3/{path.parent.name}/" for path in repository.glob("sam3/*/__init__.py")}
    assert packages <= drawn


def test_the_notebook_runs(repository, workplace, monkeypatch):
    """With an untrained network in the place of the demonstration's."""
    monkeypatch.chdir(workplace)
    model = build_sam3_image_model(config="tiny", load_from_HF=False)
    card = ModelCard(class_names=["red circle"], prompts=["red circle"], model_config=model.config.to_dict())
    (workplace / "demo_output").mkdir()
    save_weights(workplace / "demo_output" / "shapes_fp16.pt", model.state_dict(), card)
    notebook = json.loads((repository / "examples/sam3_image_predictor_example.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    names: dict = {}
    for source in cells:
        exec(source, names)
