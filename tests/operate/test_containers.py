"""The image and the compose file: what they name is there, what must agree agrees, and nothing runs as root.

Not covered: that the image builds and the services start, which takes a container engine; tests/peers let
node and Orthanc work together as native processes.
"""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from dicom_node.settings import Destination, Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
LINES = re.sub(r"\\\n", " ", (ROOT / "deploy" / "Containerfile").read_text()).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def node() -> Settings:
    return load_settings(COMPOSE / "node.toml")


def test_the_image_runs_as_nobody_special_and_says_whether_it_is_healthy(node: Settings) -> None:
    (user,) = instructions("USER")
    assert user.split(":")[0].isdecimal()
    assert int(user.split(":")[0]) >= 10000
    (check,) = instructions("HEALTHCHECK")
    assert f":{node.operate.port}/health" in check
    assert all("latest" not in image and ":" in image for image in instructions("FROM"))
    (entry,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert [*json.loads(entry), *json.loads(command)] == [
        "dicom-node", "serve", "--config", "/etc/dicom-node/node.toml"
    ]  # fmt: skip
    exposed = {int(port) for line in instructions("EXPOSE") for port in line.split()}
    assert exposed == {node.receive.port, node.operate.port}


def test_all_that_the_image_copies_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text().split()
    kept = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    for line in instructions("COPY"):
        if line.startswith("--from"):
            continue
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_the_compose_file_is_what_its_specification_has() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    read = PyCompose.from_yaml(text)
    read.validate()
    assert set(read.service_names()) == {"node", "postgres", "orthanc", "prometheus", "grafana"}
    with pytest.raises(ValueError, match="reed_only"):
        PyCompose.from_yaml(text.replace("read_only", "reed_only", 1))


def test_all_that_the_compose_file_mounts_is_there(compose: dict) -> None:
    for name, service in compose["services"].items():
        assert ("image" in service) != ("build" in service), name
        if "image" in service:
            assert re.search(r":[^/:]*\d[^/:]*$", service["image"]), f"{name}: no version"
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            assert target.startswith("/")
            if source.startswith("."):
                assert (COMPOSE / source).is_file(), source
                assert volume.endswith(":ro"), volume
            else:
                assert source in compose["volumes"], source
        assert set(service.get("depends_on", {})) <= compose["services"].keys()
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to the network"
    build = compose["services"]["node"]["build"]
    assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()


def test_the_node_may_write_nothing_but_its_volume(compose: dict) -> None:
    service = compose["services"]["node"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].rstrip("s")) > Settings().stop_timeout_s


def test_node_and_orthanc_know_each_other(compose: dict, node: Settings) -> None:
    orthanc = json.loads((COMPOSE / "orthanc.json").read_text())
    (archive,) = node.destinations
    assert isinstance(archive, Destination)
    assert (archive.ae_title, archive.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    assert archive.host in compose["services"]
    ours = orthanc["DicomModalities"]["node"]
    (called,) = node.receive.called
    assert (ours["AET"], ours["Port"]) == (called.ae_title, node.receive.port)
    assert ours["AET"] == archive.calling_ae_title
    assert called.calling_ae_titles == (orthanc["DicomAet"],)
    assert ours["Host"] in compose["services"]
    assert ours["AllowStorageCommitment"] == (archive.commitment != "off")
    assert "/modalities/node/store" in (COMPOSE / "autoroute.lua").read_text()
    mounted = [volume.split(":")[1] for volume in compose["services"]["orthanc"]["volumes"]]
    assert set(orthanc["LuaScripts"]) <= set(mounted)


def test_prometheus_and_database_are_found_under_their_names(compose: dict, node: Settings) -> None:
    ((target,),) = [entry["targets"] for entry in yaml.safe_load((COMPOSE / "targets.yml").read_text())]
    assert target == f"node:{node.operate.port}"
    database = compose["services"]["postgres"]["environment"]
    assert (
        node.database.url
        == f"postgresql://{database['POSTGRES_USER']}@postgres:5432/{database['POSTGRES_DB']}"
    )
    (source,) = yaml.safe_load((COMPOSE / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
