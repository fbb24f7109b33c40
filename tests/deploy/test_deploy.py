"""Tests of the Dockerfile and the manifests: their options exist, and their values are consistent with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement

from partedvae.cli.main import main
from partedvae.serving.decoding.plan import largest_image
from partedvae.serving.extract.command import extract
from partedvae.serving.grpc.server import SERVICES
from partedvae.serving.memory_budget import MIB, MemoryBudget
from partedvae.serving.server.supervisor import KILL_SECONDS
from tests.packaging.distributions import build_wheel, wheel_names

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
    """Return the server options that a stage sets as environment variables."""
    return dict(re.findall(r"(PARTEDVAE_\w+)=(\S+)", value_of(stage(name), "ENV")))


def printed_config(args: list[str]) -> dict[str, Any]:
    """Return the effective configuration that the image's entry point prints for a container's arguments."""
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
    """No property is unknown to Kubernetes, and none has a wrong type."""
    kubernetes_validate.validate(documents("kubernetes.yaml")[kind], kubernetes_validate.latest_version(), strict=True)


def test_the_kserve_container_fits_the_schema() -> None:
    """KServe's own kinds have no schema here; the container inside is a Kubernetes container."""
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
    """The server accepts the container's arguments, and listens on the declared ports, which the probes use."""
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
def test_the_grace_period_is_long_enough(where: str) -> None:
    """Kubernetes kills the pod only after the time in which the server stops by itself at the latest."""
    container = CONTAINERS[where]
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    grace = printed_config(container["args"])["grace-seconds"]
    assert pause + grace + KILL_SECONDS < GRACE_PERIODS[where]


def test_no_more_workers_than_processors() -> None:
    """Both manifests run one worker per processor."""
    for container in CONTAINERS.values():
        assert printed_config(container["args"])["workers"] == int(container["resources"]["limits"]["cpu"])


@pytest.mark.parametrize("where", CONTAINERS)
def test_the_memory_is_enough(where: str) -> None:
    """The memory of all workers fits into the container's limit, and images may have 13 megapixels."""
    container = CONTAINERS[where]
    config = printed_config(container["args"])
    gibibytes = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
    # Each worker has 80 MiB without requests, and the guide's margin of 96 MiB.
    assert config["workers"] * (config["memory-mb"] + 80 + 96) < 1024 * gibibytes
    budget = MemoryBudget(config["memory-mb"] * MIB)
    assert largest_image(budget.work.limit, config["max-message-mb"] * MIB) > 13_000_000


def test_selectors_agree() -> None:
    """Service and disruption budget select the deployment's pods, and the service targets the container's ports."""
    kinds = documents("kubernetes.yaml")
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    names = {port["name"] for port in CONTAINERS["kubernetes"]["ports"]}
    assert {port["targetPort"] for port in kinds["Service"]["spec"]["ports"]} == names


def test_the_kserve_service_refers_to_the_runtime() -> None:
    """The inference service refers to the runtime by its name, model format and protocol."""
    model = PREDICTOR["model"]
    assert model["runtime"] == documents("kserve.yaml")["ServingRuntime"]["metadata"]["name"]
    assert model["protocolVersion"] in RUNTIME["protocolVersions"]
    assert model["modelFormat"]["name"] in {each["name"] for each in RUNTIME["supportedModelFormats"]}


@pytest.mark.parametrize("name", STAGES)
def test_images(name: str) -> None:
    """Both images run as an unprivileged user, stop on SIGTERM, and set options that exist."""
    instructions = stage(name)
    assert int(value_of(instructions, "USER")) == CONTAINERS["kserve"]["securityContext"]["runAsUser"]
    assert value_of(instructions, "STOPSIGNAL") == "SIGTERM"
    assert value_of(instructions, "EXPOSE") == environment(name)["PARTEDVAE_SERVE_ADDRESS"].rpartition(":")[2]
    help_text = CliRunner().invoke(main, ["serve", "--help"], terminal_width=200).output
    for variable in environment(name):
        assert f"--{variable.removeprefix('PARTEDVAE_SERVE_').lower().replace('_', '-')} " in help_text


@pytest.mark.parametrize("name", STAGES)
def test_health_checks(name: str) -> None:
    """The health check runs an existing command, with a timeout longer than the command's own."""
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


def test_the_build_context() -> None:
    """The Dockerfile copies files that exist, and the build context contains exactly those."""
    copied = [source for word, rest in stage("source") if word == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(allowed) == sorted(copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert set(packages) <= set(copied)


@pytest.mark.slow
def test_the_copied_files_suffice_to_build(tmp_path: Path) -> None:
    """A wheel built from the files that the Dockerfile copies is the same as one built from the checkout."""
    context, from_context, from_checkout = (tmp_path / name for name in ("context", "from-context", "from-checkout"))
    for folder in (context, from_context, from_checkout):
        folder.mkdir()
    for word, rest in stage("source"):
        if word == "COPY":
            *sources, destination = rest.split()
            for source in sources:
                _copy(ROOT / source, context / destination)
    # COPY keeps the links inside a folder, and their targets are copied beside it.
    assert all((context / "partedvae" / name).is_symlink() for name in ("training", "serving", "export"))
    built = wheel_names(build_wheel(context, from_context))
    assert built == wheel_names(build_wheel(ROOT, from_checkout))
    assert "partedvae/serving/bundle.py" in built


def _copy(source: Path, destination: Path) -> None:
    """Copy like the COPY instruction: a file into a folder, or the contents of a folder, symbolic links as they are."""
    if source.is_dir():
        shutil.copytree(source, destination, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, destination)


LOCKS = {"build": "3.11", "cpu": "3.11", "gpu": "3.12", "ray": "3.11"}
"""Lock files of deploy/, and the versions of Python for which they are."""
EXTRAS = {"cpu": "serve,native,otel", "gpu": "gpu,native,otel", "ray": "serve,cloud,ray-cluster"}
"""What each image has of the package."""


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock file by package, each of which must have hashes and nothing else."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / f"requirements-{name}.txt").read_text(), flags=re.MULTILINE)
    entries = re.findall(r"^(\S+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", text, flags=re.MULTILINE)
    assert "".join(f"{package}=={version}{hashes}\n" for package, version, hashes in entries) == text
    return {package: version for package, version, _ in entries}


def test_the_ray_job_fits_its_schema() -> None:
    """Its properties are those of KubeRay, those of its pods Kubernetes', and both kinds of pods have one image."""
    job = documents("rayjob.yaml")["RayJob"]
    jsonschema.validate(job, json.loads((ROOT / "tests" / "deploy" / "rayjob-schema.json").read_text()))
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert {group["template"]["spec"]["containers"][0]["image"] for group in groups} == {"partedvae:ray"}
    assert cluster["rayVersion"] == locked("ray")["ray"]


def test_the_ray_job_runs_an_actor_per_processor(tmp_path: Path) -> None:
    """The command has no unknown options, and its actors are those for which the workers have processors."""
    spec = documents("rayjob.yaml")["RayJob"]["spec"]
    program, command, _, *arguments = spec["entrypoint"].split()
    assert (program, command) == ("partedvae", "extract")
    options = extract.make_context("extract", [str(tmp_path), *arguments]).params
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert options["engine"] == "ray"
    assert options["actors"] == workers["maxReplicas"] * int(limits["cpu"])


@pytest.mark.parametrize("name", LOCKS)
def test_the_images_install_the_versions_that_are_tested(name: str) -> None:
    """The lock files agree with constraints.txt; `make lock` writes them."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert locked(name).items() <= constraints.items()


@pytest.mark.parametrize("name", LOCKS)
def test_the_images_install_what_the_project_requires(name: str) -> None:
    """Each requirement, of the extras too, is in the lock file with a version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    if name == "build":
        pending = list(project["build-system"]["requires"])
    else:
        pending = [*project["project"]["dependencies"], f"partedvae[{EXTRAS[name]}]"]
    versions, checked = locked(name), 0
    while pending:
        requirement = Requirement(pending.pop())
        if requirement.name == "partedvae":
            pending += [each for extra in requirement.extras for each in extras[extra]]
        else:
            assert requirement.specifier.contains(versions[requirement.name]), requirement
            checked += 1
    assert checked >= (1 if name == "build" else 10)


def test_base_images_have_digests() -> None:
    """Of their tags, which `make pin-images` renews; every stage is built from one of them, with hashes alone."""
    text = (ROOT / "Dockerfile").read_text()
    images = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, flags=re.MULTILINE))
    assert len(images) == 2
    assert all(re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in images.values())
    assert set(re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)) == {f"${{{name}}}" for name in images}
    assert "# syntax=" not in text, "the frontend would be an image, too"
    versions = {re.search(r":([\d.]+)", images["PYTHON_IMAGE"])[1]}  # type: ignore[index]  # matched above
    assert versions == {LOCKS["cpu"], LOCKS["ray"], LOCKS["build"]}
    installs = re.findall(r"pip (?:install|wheel)[^&\n]*(?:\\\n[^&\n]*)*", text)
    assert len(installs) == 8
    assert all("--require-hashes" in each or "--no-deps" in each for each in installs)
    assert all("--no-index" in each or "--no-build-isolation" in each for each in installs if "--no-deps" in each)


def test_hadolint_finds_nothing() -> None:
    """Hadolint reports no problem in the Dockerfile."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
