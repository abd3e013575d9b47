"""Write docs/configuration.md, docs/commands.md and the tables of docs/training.md from the code.

Whatever a table of the settings or a command has is found by itself: keys with values, default and the text
of the class' docstring; arguments and options with the text of their help.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt, MinLen
from made import HERE, fill, table, write
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from converters.cli import app as convert
from dicom_node.cli import app as node
from dicom_node.settings import Settings
from training.cli import app as training
from training.recipe import Recipe

_ATTRIBUTES = re.compile(r"^Attributes\n-+\n", re.MULTILINE)
_OTHER_HEADING = re.compile(r"^\w+\n-{3,}\n", re.MULTILINE)


def pages() -> dict[Path, str]:
    """The pages as they should be."""
    names = ("configuration", "commands", "training")
    configuration, commands, recipes = (HERE / f"{name}.md" for name in names)
    programs = {"dicom-node": node, "dicom-node-convert": convert, "python -m training": training}
    described = {name: "".join(_program(name, app)) for name, app in programs.items()}
    return {
        configuration: fill(configuration.read_text(), {"settings": "".join(_tables(Settings))}),
        recipes: fill(recipes.read_text(), {"recipe": "".join(_tables(Recipe))}),
        commands: fill(commands.read_text(), described),
    }


# Files of TOML


@dataclass(frozen=True)
class _Place:
    """A table of the TOML file.

    Attributes
    ----------
    models : what may stand there; several where a key decides
    """

    path: str
    is_list: bool
    models: tuple[type[BaseModel], ...]

    @property
    def title(self) -> str:
        return f"[[{self.path}]]" if self.is_list else f"[{self.path}]"


def _tables(whole: type[BaseModel]) -> Iterator[str]:
    """Describe a file by the model that reads it: a heading and a table for each table of TOML."""
    used = Counter(_models_below(whole, ()))
    shared = [model for model, times in used.items() if times > 1]
    yield "## At the top\n\n"
    yield _keys(whole, "", shared)
    for place in _places(whole, "", shared):
        yield f"\n## `{place.title}`\n\n"
        for number, model in enumerate(place.models):
            yield "\n" * (number > 0)
            yield from _described(model, place.path, shared)
    for model in shared:
        yield f"\n## {model.__name__}\n\n"
        yield from _described(model, "", shared)


def _described(model: type[BaseModel], path: str, shared: list[type[BaseModel]]) -> Iterator[str]:
    text, _ = _docstring(model)
    yield f"{text}\n\n{_keys(model, path, shared)}"


def _places(model: type[BaseModel], path: str, shared: list[type[BaseModel]]) -> Iterator[_Place]:
    """Every table below one, in the order of the keys."""
    for name, field in model.model_fields.items():
        below = tuple(each for each in _models_of(field.annotation) if each not in shared)
        if not below:
            continue
        place = _Place(f"{path}.{name}".lstrip("."), _is_list(field.annotation), below)
        yield place
        for each in below:
            yield from _places(each, place.path, shared)


def _models_below(model: type[BaseModel], way: tuple[type[BaseModel], ...]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for each in _models_of(field.annotation):
            if each not in way:
                yield each
                yield from _models_below(each, (*way, each))


def _models_of(annotation: object) -> list[type[BaseModel]]:
    """The tables that a key's annotation names, in order."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_of(part)]


def _is_list(annotation: object) -> bool:
    origin, parts = get_origin(annotation), get_args(annotation)
    return _is_list(parts[0]) if origin is Annotated else origin in (tuple, list)


def _keys(model: type[BaseModel], path: str, shared: list[type[BaseModel]]) -> str:
    _, texts = _docstring(model)
    rows = []
    for name, field in model.model_fields.items():
        own = [each for each in _models_of(field.annotation) if each not in shared]
        if own:
            title = _Place(f"{path}.{name}".lstrip("."), _is_list(field.annotation), tuple(own)).title
            kind = f"[`{title}`](#{_anchor(title)})"
        else:
            kind = _kind(field.annotation, field.metadata)
        text = texts.get(name) or " ".join(_docstring(each)[0].split("\n\n")[0] for each in own)
        rows.append((f"`{name}`", kind, _default(field), _one_line(text)))
    return table(("key", "value", "default", "meaning"), rows)


def _kind(annotation: object, metadata: Sequence[object] = ()) -> str:
    """Which values a key takes, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], [*(_flat(parts[1:])), *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part, metadata) for part in parts if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in parts)
    if origin in (tuple, list):
        least = next((m.min_length for m in metadata if isinstance(m, MinLen)), 0)
        return f"list of: {_kind(parts[0])}" + ("; at least one" if least else "")
    if origin is dict:
        return f"table of: {_kind(parts[1])}"
    if issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{_anchor(annotation.__name__)})"
    if issubclass(annotation, enum.Enum):
        return ", ".join(f"`{json.dumps(each.value)}`" for each in annotation)
    plain = {bool: "`true`, `false`", int: "whole number", float: "number", Path: "path", str: "text"}
    return plain.get(annotation, annotation.__name__) + _bounds(metadata)


def _flat(metadata: tuple[object, ...]) -> Iterator[object]:
    for each in metadata:
        yield from each.metadata if isinstance(each, FieldInfo) else (each,)


def _bounds(metadata: Sequence[object]) -> str:
    """What restricts a value: limits, a pattern, a check named after what it wants."""
    said = []
    for each in metadata:
        if isinstance(each, Gt):
            said.append(f"above {each.gt}")
        elif isinstance(each, Ge):
            said.append(f"from {each.ge}")
        elif isinstance(each, Le):
            said.append(f"to {each.le}")
        elif isinstance(each, Lt):
            said.append(f"below {each.lt}")
        elif isinstance(each, AfterValidator):
            words = each.func.__name__.strip("_").replace("_", " ")
            said.append(re.sub(r"^ae\b", "AE", words))
        elif pattern := getattr(each, "pattern", None):
            said.append(f"`{pattern}`")
    return f", {' '.join(said)}" if said else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.default
    if value is None:
        return "unset"
    if field.default_factory is not None or isinstance(value, BaseModel):
        return ""
    return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, BaseModel):
        keys = value.model_dump(exclude_defaults=True).items()
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in keys)} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(str(value))


def _docstring(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What a class says of itself, and of each key; bases say what it does not."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and not base.__module__.startswith("pydantic"):
            _, found, attributes = _parted(base)
            texts |= _attributes(attributes) if found else {}
    return _parted(model)[0], texts


def _parted(model: type[BaseModel]) -> tuple[str, bool, str]:
    whole = inspect.cleandoc(model.__doc__ or "")
    if not (heading := _ATTRIBUTES.search(whole)):
        return _code(whole), False, ""
    attributes = _OTHER_HEADING.split(whole[heading.end() :])[0]
    return _code(whole[: heading.start()].strip()), True, attributes


def _attributes(text: str) -> dict[str, str]:
    """Texts of a numpydoc section, by name: ``a, b : text`` and lines further in."""
    texts: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        names, _, said = entry.partition(" : ")
        texts |= {name.strip(): _code(said) for name in names.split(",")}
    return texts


# Commands


def _program(name: str, app: typer.Typer) -> Iterator[str]:
    command = typer.main.get_command(app)
    yield f"{_help(command.help)}\n"
    for each in command.commands.values():
        yield from _command(name, each)


def _command(program: str, command: TyperCommand | TyperGroup) -> Iterator[str]:
    name = f"{program} {command.name}"
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            yield from _command(name, each)
        return
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    usage = [name, "[OPTIONS]", *(_usage(each) for each in arguments)]
    yield f"\n### `{name}`\n\n{_help(command.help)}\n\n```sh\n{' '.join(usage)}\n```\n\n"
    rows = [_parameter(each) for each in command.params if not each.hidden]
    yield table(("", "value", "default", "meaning"), rows) if rows else "It has no options.\n"


def _usage(argument: TyperArgument) -> str:
    name = _argument(argument)
    return name if argument.required else f"[{name}]"


def _argument(argument: TyperArgument) -> str:
    return argument.metavar or str(argument.name).upper()


def _parameter(parameter: TyperArgument | TyperOption) -> tuple[str, str, str, str]:
    is_argument = isinstance(parameter, TyperArgument)
    names = [_argument(parameter)] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    is_flag = getattr(parameter, "is_flag", False)
    kind = "" if is_flag else _value(parameter)
    default = "**needed**" if parameter.required else "" if is_flag else _shown(parameter.default)
    return ", ".join(f"`{name}`" for name in names), kind, default, _one_line(_code(parameter.help or ""))


def _value(parameter: TyperArgument | TyperOption) -> str:
    limits = [Ge(parameter.min)] if parameter.min is not None else []
    limits += [Le(parameter.max)] if parameter.max is not None else []
    annotation = parameter.type_descriptor.annotation
    kind = _kind(get_args(annotation)[0] if parameter.multiple else annotation, limits)
    several = f", {parameter.nargs} of them" if parameter.nargs > 1 else ""
    return kind.replace("`", "").replace('"', "") + several + (", repeatable" if parameter.multiple else "")


def _shown(value: object) -> str:
    if value is None or value == "":
        return ""
    values = value if isinstance(value, tuple | list) else (value,)
    words = [str(each.value) if isinstance(each, enum.Enum) else str(each) for each in values]
    return f"`{' '.join(words)}`" if words else ""


def _help(text: str | None) -> str:
    return _code(inspect.cleandoc(text or "").replace("\f", ""))


# Words


def _code(text: str) -> str:
    """Of reStructuredText, make Markdown."""
    return re.sub(r":\w+:(?=`)", "", text.replace("``", "`"))


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")


if __name__ == "__main__":
    write(pages())
