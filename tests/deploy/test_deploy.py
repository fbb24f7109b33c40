"""Tests of the Dockerfile and the manifests: their options exist, and their values agree with each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from partedvae.cli.main import main
from partedvae.serving.grpc.server import SERVICES
from partedvae.serving.server.supervisor import KILL_SECONDS

ROOT = Path(__file__).parents[2]
STAGES = ("cpu", "gpu")


def documents(name: str) -> dict[str, Any]:
    """Return the documents of a manifest by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy" / name).read_text())}


def stage(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    instructions = [(word, rest) for word, _, rest in lines]
    starts = [i for i, (word, _) in enumerate(instructions) if word == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        if instructions[start][1].endswith(f" AS {name}"):
            return instructions[start:end]
    raise AssertionError(f"the Dockerfile has no stage {name}")


def value_of(instructions: list[tuple[str, str]], word: str) -> str:
    (value,) = [rest for each, rest in instructions if each == word]
    return value


def environment(name: str) -> dict[str, str]:
    """Return the environment variables of the server that a stage sets."""
    return dict(re.findall(r"(PARTEDVAE_\w+)=(\S+)", value_of(stage(name), "ENV")))


def printed_config(args: list[str]) -> dict[str, Any]:
    """Run the image's entry point with a container's arguments and --print-config; return the options."""
    program, *command = json.loads(value_of(stage("cpu"), "ENTRYPOINT"))
    assert program == "partedvae"
    result = CliRunner().invoke(main, [*command, *args, "--print-config"], env=environment("cpu"))
    assert result.exit_code == 0, result.output
    return tomllib.loads(result.output)


DEPLOYMENT = documents("kubernetes.yaml")["Deployment"]["spec"]["template"]["spec"]
RUNTIME = documents("kserve.yaml")["ServingRuntime"]["spec"]
PREDICTOR = documents("kserve.yaml")["InferenceService"]["spec"]["predictor"]
CONTAINERS = {"kubernetes": DEPLOYMENT["containers"][0], "kserve": RUNTIME["containers"][0]}
GRACE_PERIODS = {
    "kubernetes": DEPLOYMENT["terminationGracePeriodSeconds"],
    "kserve": PREDICTOR["terminationGracePeriodSeconds"],
}


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget"])
def test_manifests_fit_the_schema(kind: str) -> None:
    """The manifests have no unknown properties and no wrong types."""
    kubernetes_validate.validate(documents("kubernetes.yaml")[kind], kubernetes_validate.latest_version(), strict=True)


def test_kserves_container_fits_the_schema() -> None:
    """KServe's resources have no schema here; their container is checked as part of a pod."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod"},
        "spec": {
            "containers": RUNTIME["containers"],
            "terminationGracePeriodSeconds": PREDICTOR["terminationGracePeriodSeconds"],
        },
    }
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("where", CONTAINERS)
def test_arguments_are_options_of_serve(where: str) -> None:
    """The server accepts the container's arguments, and listens on the address of ports and probes."""
    container = CONTAINERS[where]
    config = printed_config(container["args"])
    assert config["models-dir"] == "/mnt/models"
    host, _, port = config["address"].rpartition(":")
    assert host == "0.0.0.0"
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert int(port) == ports["grpc" if where == "kubernetes" else "h2c"]
    if "metrics" in ports:
        assert config["metrics-address"] == f"0.0.0.0:{ports['metrics']}"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in container:
            assert container[probe]["grpc"]["port"] == int(port)
            assert container[probe]["grpc"].get("service", SERVICES[0]) in SERVICES


@pytest.mark.parametrize("where", CONTAINERS)
def test_termination_grace_period(where: str) -> None:
    """The pod is killed later than the latest time at which the server exits."""
    container = CONTAINERS[where]
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    grace = printed_config(container["args"])["grace-seconds"]
    assert pause + grace + KILL_SECONDS < GRACE_PERIODS[where]


def test_workers_have_processors_of_their_own() -> None:
    """Both manifests have one worker per CPU."""
    for container in CONTAINERS.values():
        assert printed_config(container["args"])["workers"] == int(container["resources"]["limits"]["cpu"])


def test_selectors_agree() -> None:
    """Service and budget select the deployment's pods, and the service's ports are those of the container."""
    kinds = documents("kubernetes.yaml")
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    names = {port["name"] for port in CONTAINERS["kubernetes"]["ports"]}
    assert {port["targetPort"] for port in kinds["Service"]["spec"]["ports"]} == names


def test_kserve_finds_the_runtime() -> None:
    """The InferenceService names the runtime, its format and its protocol."""
    model = PREDICTOR["model"]
    assert model["runtime"] == documents("kserve.yaml")["ServingRuntime"]["metadata"]["name"]
    assert model["protocolVersion"] in RUNTIME["protocolVersions"]
    assert model["modelFormat"]["name"] in {each["name"] for each in RUNTIME["supportedModelFormats"]}


@pytest.mark.parametrize("name", STAGES)
def test_images(name: str) -> None:
    """Both images run as an unprivileged user, stop on SIGTERM, and set existing options."""
    instructions = stage(name)
    assert int(value_of(instructions, "USER")) == CONTAINERS["kserve"]["securityContext"]["runAsUser"]
    assert value_of(instructions, "STOPSIGNAL") == "SIGTERM"
    assert value_of(instructions, "EXPOSE") == environment(name)["PARTEDVAE_SERVE_ADDRESS"].rpartition(":")[2]
    help_text = CliRunner().invoke(main, ["serve", "--help"], terminal_width=200).output
    for variable in environment(name):
        assert f"--{variable.removeprefix('PARTEDVAE_SERVE_').lower().replace('_', '-')} " in help_text


@pytest.mark.parametrize("name", STAGES)
def test_health_checks(name: str) -> None:
    """The health check of the image is an existing command, with a timeout longer than its own."""
    check = value_of(stage(name), "HEALTHCHECK")
    options, _, command = check.partition("CMD ")
    program, *arguments = json.loads(command)
    assert program == "partedvae"
    result = CliRunner().invoke(main, [*arguments, "--server", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.output
    seconds = re.search(r"--timeout=(\d+)s", options)
    assert seconds is not None
    assert int(seconds[1]) > 5


def test_the_build_finds_its_files() -> None:
    """The files that the Dockerfile copies exist, and only they are in the build context."""
    copied = [source for word, rest in stage("source") if word == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(allowed) == sorted(copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert set(packages) <= set(copied)


def test_hadolint_finds_nothing() -> None:
    """Hadolint reports no problems in the Dockerfile."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
