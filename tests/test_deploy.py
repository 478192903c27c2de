"""The container files, as far as they can be checked without a container engine."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
from tests.serve_case import make_app

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def stages():
    """Instructions of each stage: (word, rest), continuation lines joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", "\n".join(x for x in text.splitlines() if not x.startswith("#"))).splitlines()
    found = []
    for word, _, rest in (line.partition(" ") for line in lines if line.strip()):
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def values(stage, word):
    return [rest for found, rest in stage if found == word]


def test_known_instructions_alone(stages):
    known = {
        "FROM",
        "ENV",
        "WORKDIR",
        "RUN",
        "COPY",
        "LABEL",
        "USER",
        "EXPOSE",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "ENTRYPOINT",
    }
    assert {word for stage in stages for word, _ in stage} <= known


def test_the_last_stage_runs_as_nobody_in_particular(stages):
    assert len(stages) == 2
    (user,) = values(stages[-1], "USER")
    assert int(user.split(":")[0]) > 999
    after = [word for word, _ in stages[-1]]
    assert "RUN" not in after[after.index("USER") :]


def test_images_are_pinned_and_nothing_secret_or_remote_is_added(stages):
    for stage in stages:
        image = values(stage, "FROM")[0].split()[0]
        assert ":" in image
        assert not image.endswith(":latest")
        assert not values(stage, "ADD")
        assert not [rest for rest in values(stage, "ENV") if "KEY" in rest]
        assert not [rest for rest in values(stage, "RUN") if "apt-get" in rest or "sudo" in rest or "curl" in rest]


def test_health_entry_and_stop(stages):
    (health,) = values(stages[-1], "HEALTHCHECK")
    assert "/ready" in health
    code = json.loads(health[health.index("CMD") + 4 :])[2]
    compile(code, "healthcheck", "exec")
    (entry,) = values(stages[-1], "ENTRYPOINT")
    arguments = json.loads(entry)
    assert arguments[:2] == ["relgrade", "serve"]
    from relgrade.cli.serve import serve

    known = {option for parameter in serve.params for option in parameter.opts}
    assert {each for each in arguments if each.startswith("--")} <= known
    assert values(stages[-1], "STOPSIGNAL") == ["SIGTERM"]


def test_what_is_copied_is_there_and_let_through(stages):
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    for rest in values(stages[0], "COPY"):
        for name in rest.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert name in kept, name


def test_the_extras_of_the_image_exist(stages):
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    (install,) = [rest for rest in values(stages[0], "RUN") if "install" in rest]
    for name in re.search(r"\[([\w,-]+)\]", install)[1].split(","):
        assert name in extras


def yaml_files():
    return sorted([*DEPLOY.rglob("*.yml"), *DEPLOY.rglob("*.yaml")])


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: path.name)
def test_yaml_is_read(path):
    yaml = pytest.importorskip("yaml")
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_compose_hardens_the_server_and_mounts_what_is_there():
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    server = told["services"]["relgrade"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert int(server["stop_grace_period"].rstrip("s")) > 32
    for service in told["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in told["volumes"] or (DEPLOY / source).exists(), source
        for secret in service.get("secrets", []):
            assert secret in told["secrets"]
        assert ":" in service.get("image", "built:here")
        assert not service.get("image", "").endswith(":latest")


def names_of(text):
    return set(re.findall(r"\brelgrade_[a-z_]+", text))


def test_dashboard_and_alerts_ask_for_metrics_that_exist(tmp_path):
    exposed = names_of(make_app(tmp_path / "bundle").state.service.measures.exposition().decode())
    asked = names_of((DEPLOY / "grafana" / "relgrade.json").read_text(encoding="utf-8"))
    asked |= names_of((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    known = exposed | {name + suffix for name in exposed for suffix in ("_total", "_bucket", "_sum", "_count")}
    assert asked - {"relgrade_"} <= known


def test_the_dashboard_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "make_dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DEPLOY / "grafana" / "relgrade.json").read_text() == module.text(), "run: python deploy/make_dashboard.py"
    panels = json.loads(module.text())["panels"]
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(places)
