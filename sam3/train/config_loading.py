"""From ``-c VALUE key=value ...`` to a checked :class:`~sam3.train.schema.RunConfig`.

Order of work: find the file, compose it with Hydra, apply aliases, merge onto the schema (unknown keys, wrong
types), resolve, bind every ``_target_`` to its signature. Source: spec/config_surface.md sections 1-4.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sam3.errors import ConfigError
from sam3.train.parts import check_targets
from sam3.train.resolvers import register_resolvers
from sam3.train.schema import RunConfig

REPOSITORY = Path(__file__).resolve().parents[2]
PRIMARY = "train_config_single_class"

# Nodes that users of other training code expect below ``trainer``; they live at the top here.
_MOVED_TO_TOP = ("model", "data", "loss", "optim", "logging")


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration and how it came about."""

    run: RunConfig
    composed: DictConfig  # complete, interpolations kept; what config.yaml shows
    source: str  # the file or name it was composed from
    notes: tuple[str, ...] = ()  # what was read differently from how it was written

    def resolved(self) -> dict[str, Any]:
        """Plain nested dict with all interpolations filled in."""
        return OmegaConf.to_container(self.composed, resolve=True)


def load_config(config: str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Compose and check a configuration.

    Args:
        config: a file (absolute, relative to the working directory or to the repository) or a name in ``conf/``.
        overrides: ``key=value`` and ``group=option`` as Hydra knows them.

    Raises:
        ConfigError: nothing of that name; a key that does not exist; a value of the wrong type; a missing value; a
            ``_target_`` that does not exist or does not take its arguments. The message holds the full key.
    """
    register_resolvers()
    source = find_config(config)
    written = _read_plain(source)
    arguments, notes = _normalise_overrides(overrides, written)
    with _config_root(source, written) as (root, name):
        composed = _compose(root, name, arguments)
    notes += _apply_aliases(composed, written, arguments)
    return check_config(composed, str(source), notes)


def check_config(composed: DictConfig, source: str, notes: Sequence[str] = ()) -> LoadedConfig:
    """Merge a composed configuration onto the schema and check it; errors as in :func:`load_config`."""
    composed = _merge_onto_schema(composed)
    if _value_at(composed, "launcher.experiment_log_dir") is None:
        composed.paths.experiment_log_dir = str(Path.cwd() / "sam3_logs" / Path(source).stem)
    notes = (*notes, *_round_resolution(composed))
    run = _resolve(composed)
    check_targets(OmegaConf.to_container(composed, resolve=True))
    return LoadedConfig(run, composed, source, notes)


def _value_at(composed: DictConfig, key: str) -> Any:
    """A value with its interpolations filled in."""
    try:
        return OmegaConf.select(composed, key)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error)) from error


# --- finding the file ---


def conf_folder() -> Path:
    """The shipped configuration files."""
    return Path(str(files("sam3.train.conf")))


def shipped_names() -> list[str]:
    """Names of the shipped files that a run can start from."""
    return sorted(path.stem for path in conf_folder().glob("*.yaml") if path.stem != "base")


def find_config(value: str) -> Path:
    """The file that ``-c VALUE`` means: as given, relative to the repository, or by name in ``conf/``."""
    name = value.removeprefix("conf/")
    candidates = [Path(value).expanduser(), REPOSITORY / value, conf_folder() / name]
    for candidate in candidates:
        for path in (candidate, candidate.with_name(f"{candidate.name}.yaml")):
            if path.is_file():
                return path.resolve()
    close = get_close_matches(Path(value).stem, shipped_names(), n=3, cutoff=0.4) or shipped_names()
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise ConfigError(f"-c {value}: no such configuration. Tried {tried}. Shipped ones: {', '.join(close)}")


def _read_plain(path: Path) -> DictConfig:
    """The file's own content, not composed."""
    try:
        content = OmegaConf.load(path)
    except Exception as error:  # YAML errors have no common base class here
        raise ConfigError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path} must hold keys and values, got {type(content).__name__}")
    return content


@contextmanager
def _config_root(source: Path, written: DictConfig) -> Iterator[tuple[Path, str]]:
    """Folder and name that Hydra composes from.

    A file without a defaults list of its own holds values only: it is laid over the one-class configuration.
    """
    others = [entry for entry in written.get("defaults") or [] if entry != "_self_"]
    if source.is_relative_to(conf_folder()):
        yield conf_folder(), source.relative_to(conf_folder()).with_suffix("").as_posix()
    elif others:
        yield source.parent, source.name
    else:
        with tempfile.TemporaryDirectory(prefix="sam3_config_") as folder:
            values = {key: value for key, value in OmegaConf.to_container(written).items() if key != "defaults"}
            overlay = OmegaConf.create({"defaults": [f"/{PRIMARY}", "_self_"], **values})
            OmegaConf.save(overlay, Path(folder) / "values.yaml")
            yield Path(folder), "values"


# --- command line and composition ---


def _normalise_overrides(overrides: Sequence[str], written: DictConfig) -> tuple[list[str], list[str]]:
    """Overrides in the form Hydra applies without asking whether the key exists: the schema asks, with better words.

    ``experiment=NAME`` is appended to the defaults list, so that it wins over the values of the file.
    """
    arguments, notes = [], []
    groups = _groups()
    own_experiment = any(
        isinstance(entry, Mapping | DictConfig) and "experiment" in str(next(iter(entry)))
        for entry in written.get("defaults") or []
    )
    for text in overrides:
        override = _parse_override(text)
        key, explicit = override.key_or_group, text[:1] in "+~"
        if override.is_sweep_override():
            raise ConfigError(f"{text}: one value a key, please; a list is written {key}=[a,b], a text {key}='a, b'")
        if explicit or (key in groups and not isinstance(override.value(), dict)):
            arguments.append(f"+{text}" if key == "experiment" and not explicit and not own_experiment else text)
            continue
        target = _moved_key(key)
        if target != key:
            notes.append(f"{key} was read as {target}")
        arguments.append(f"++{target}={override.get_value_string()}" if override.package is None else text)
    return arguments, notes


def _parse_override(text: str) -> Any:
    parser = OverridesParser.create()
    key, separator, value = text.partition("=")
    if not separator and not text.startswith("~"):
        raise ConfigError(f"{text!r}: expected key=value, for example scratch.max_epochs=10")
    try:
        return parser.parse_override(text)
    except HydraException:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")  # blanks, colons, letters beyond ASCII
    try:
        return parser.parse_override(f"{key}='{quoted}'")
    except HydraException as error:
        raise ConfigError(f"{text!r} is not a valid override: {str(error).splitlines()[0]}") from error


def _moved_key(key: str) -> str:
    head, _, rest = key.partition(".")
    if head == "checkpoint":
        return f"trainer.{key}"
    if head == "trainer" and rest.split(".")[0] in _MOVED_TO_TOP:
        return rest
    return key


def _groups() -> set[str]:
    root = conf_folder()
    return {path.parent.relative_to(root).as_posix() for path in root.rglob("*.yaml")} - {"."}


def _compose(root: Path, name: str, arguments: Sequence[str]) -> DictConfig:
    search = [] if root == conf_folder() else ["hydra.searchpath=[pkg://sam3.train.conf]"]
    try:
        with initialize_config_dir(str(root), version_base="1.3"):
            return compose(name, overrides=[*arguments, *search])
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error).split("\nConfig search path:")[0]
        raise ConfigError(f"configuration {name!r} cannot be composed: {reason}") from error


def _apply_aliases(composed: DictConfig, written: DictConfig, arguments: Sequence[str]) -> list[str]:
    """Move blocks written in another place to where they belong; a value given twice must agree."""
    OmegaConf.set_struct(composed, False)
    notes = []
    moves = [("checkpoint", "trainer.checkpoint"), *((f"trainer.{name}", name) for name in _MOVED_TO_TOP)]
    for alias, target in moves:
        block = OmegaConf.select(composed, alias)
        if block is None:
            continue
        for key, value in block.items():
            own = OmegaConf.select(written, f"{target}.{key}")
            if own is not None and own != value:
                raise ConfigError(f"{alias}.{key} is {value} and {target}.{key} is {own}; give one of them")
            if not any(argument.startswith(f"++{target}.{key}") for argument in arguments):
                OmegaConf.update(composed, f"{target}.{key}", value, merge=True, force_add=True)
        parent, _, leaf = alias.rpartition(".")
        del (OmegaConf.select(composed, parent) if parent else composed)[leaf]
        notes.append(f"the block {alias} was read as {target}")
    return notes


# --- the schema ---


def _merge_onto_schema(composed: DictConfig) -> DictConfig:
    unknown = list(_unknown_keys(composed, RunConfig, ""))
    if unknown:
        raise ConfigError("unknown configuration keys: " + "; ".join(_describe_unknown(key) for key in unknown))
    try:
        return OmegaConf.merge(OmegaConf.structured(RunConfig), composed)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error)) from error


def _unknown_keys(node: Any, schema: Any, prefix: str) -> Iterator[str]:
    """Full names of keys below ``node`` that its ``schema``, a field annotation, does not have."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
        return
    if get_origin(schema) is dict:
        for key in node:
            yield from _unknown_keys(node._get_node(key), get_args(schema)[1], f"{prefix}{key}.")
    elif settings := _dataclass_of(schema):
        types = {f.name: f.type for f in fields(settings)}
        for key in node:
            if key in types:
                yield from _unknown_keys(node._get_node(key), types[key], f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"


def _dataclass_of(annotation: Any) -> type | None:
    """The dataclass of a field annotated ``X`` or ``X | None``."""
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((kind for kind in kinds if is_dataclass(kind)), None)


def _describe_unknown(key: str) -> str:
    known = _schema_keys()
    same_name = [other for other in known if other.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    close = same_name[:3] or get_close_matches(key, known, n=3, cutoff=0.6)
    siblings = [other for other in known if other.rpartition(".")[0] == key.rpartition(".")[0]]
    return f"{key} (closest: {', '.join(close)})" if close else f"{key} (known there: {', '.join(siblings) or 'none'})"


@cache
def _schema_keys() -> list[str]:
    """Full names of all keys of the schema."""

    def walk(schema: type, prefix: str) -> Iterator[str]:
        for f in fields(schema):
            yield f"{prefix}{f.name}"
            if inner := _dataclass_of(f.type):
                yield from walk(inner, f"{prefix}{f.name}.")

    return list(walk(RunConfig, ""))


def _resolve(composed: DictConfig) -> RunConfig:
    try:
        return OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error)) from error


def _explain(error: OmegaConfBaseException) -> str:
    key, first = error.full_key or "configuration", str(error).splitlines()[0]
    if "missing mandatory value" in first.lower():
        return f"{key} has no value; set it in the configuration file or on the command line ({key}=...)"
    return f"{key}: {first}"


def _round_resolution(composed: DictConfig) -> list[str]:
    """Sides that the patch does not divide are rounded up, before anything refers to them."""
    from sam3.train.model_setup import model_config

    try:
        wanted, settings = composed.scratch.resolution, OmegaConf.to_object(composed.model)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error)) from error
    config = model_config(settings)
    side = config.with_resolution(wanted).vision.image_size
    if side == wanted:
        return []
    composed.scratch.resolution = side
    return [f"scratch.resolution {wanted} is not a multiple of the patch ({config.vision.patch_size}); using {side}"]
