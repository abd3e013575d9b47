"""Configuration: the examples are valid, and what is wrong is refused with its path.

Not covered: what each setting does, which the station's tests cover.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings, load_settings

EXAMPLES = sorted((Path(__file__).parents[1] / "config").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_each_example_is_valid(path: Path) -> None:
    settings = load_settings(path)
    assert settings.pipelines
    assert settings.destinations


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_each_example_has_a_pipeline_for_each_bundle(path: Path) -> None:
    pipelines = load_settings(path).pipelines
    assert [(p.bundle, p.match.contrasts) for p in pipelines] == [
        ("flair-glioma", ("FLAIR",)),
        ("t1ce-tumour", ("T1CE",)),
    ]
    assert pipelines[0].destinations == pipelines[1].destinations


def test_the_commented_defaults_of_the_example_are_the_defaults() -> None:
    lines = EXAMPLES[0].read_text().splitlines()
    commented = [
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line for line in lines
    ]
    text = "\n".join(line for line in commented if not line.startswith("#"))
    full = Settings(**tomllib.loads(text))
    given = load_settings(EXAMPLES[0])
    assert full.model_copy(update={"analysis": given.analysis, "pipelines": given.pipelines}) == given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[receive]\nprot = 1", r"receive\.prot: unknown key"),
        ("[receive]\nport = 70000", r"receive\.port: .* less than or equal to 65535"),
        ('[[receive.called]]\nae_title = "SEVENTEEN-LETTERS"', r"receive\.called\[0\]\.ae_title: .* 1 to 16"),
        (
            '[[receive.called]]\nae_title = "A"\naddresses = ["10.1"]',
            r"addresses\[0\]: .* a network such as 10\.1\.0\.0/16",
        ),
        ('[analysis]\ndevice = "gpu"', r"analysis\.device: Input should be 'auto', 'cpu' or 'cuda'"),
        (
            '[[pipelines]]\nname = "a"\nbundle = "b"\nmatch = { contrasts = ["T9"] }',
            r"pipelines\[0\]\.match\.contrasts\[0\]: Input should be 'FLAIR', 'T1'",
        ),
        (
            '[[pipelines]]\nname = "a"\nbundle = "b"\nmatch = { contrasts = ["T1"] }\noutputs = ["seg"]',
            "outputs must hold 'sr'",
        ),
        (
            '[[pipelines]]\nname = "a"\nbundle = "b"\nmatch = { contrasts = ["T1"] }\ndestinations = ["x"]',
            r"pipelines\.a\.destinations: 'x' is not among \[\[destinations\]\] \(none\)",
        ),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\n' * 2,
            "the name 'a' is used twice",
        ),
        (
            (
                '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\noutputs = ["pm"]\n'
                '[[pipelines]]\nname = "p"\nbundle = "b"\n'
                'match = { contrasts = ["T1"] }\ndestinations = ["a"]'
            ),
            r"destinations\.a\.outputs: no pipeline that sends there has 'pm' in its outputs",
        ),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\noutputs = ["rtstruct"]',
            r"destinations\[0\]\.outputs\[0\]: Input should be 'seg', 'pm', 'sc', 'kos' or 'sr'",
        ),
        ("folder = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path_and_what_is_permitted(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: No such file"):
        load_settings(tmp_path / "none.toml")


def test_an_environment_variable_that_is_no_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.toml"
    path.write_text("")
    monkeypatch.setenv("DICOM_NODE_RECIEVE__PORT", "6000")
    with pytest.raises(ConfigurationError, match="DICOM_NODE_RECIEVE__PORT is no setting"):
        load_settings(path)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[receive]\nport = 5000\nhost = "0.0.0.0"')
    monkeypatch.setenv("DICOM_NODE_RECEIVE__PORT", "6000")
    settings = load_settings(path)
    assert settings.receive.port == 6000
    assert settings.receive.host == "0.0.0.0"  # noqa: S104
