"""What docker-compose.yml promises: settings, ports, commands that exist, secrets from outside, no rights, pinned images."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for two calls
from typer.main import get_command

import write_env
from kite_cli.cli import app
from kite_cli.local.chain.known import CHAIN_ID, FACILITATOR_KEY, PAY_TO, TOKENS
from kite_cli.local.kafka_jars import VERSION as KAFKA_VERSION
from kite_cli.services import ALWAYS, SERVICES, settings_of
from kite_common import VERSION
from kite_common.config import KiteSettings, env_name
from kite_common.runtime import probe
from kite_common.runtime.http import FAREWELL_S
from kite_common.topics import OFFSETS_RETENTION_MINUTES
from kite_common.x402.networks import asset_of
from kite_common.x402_settings import X402ProcessorSettings, X402Settings, processor_problems

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
CONTAINERS: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: one for name, one in CONTAINERS.items() if one["image"].startswith("kite:")}
RUNNING: Final = {name: one for name, one in OURS.items() if name in SERVICES}
# `${NAME:-default}`, `${NAME:?why}`, `${NAME}`.
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)(?:(:-|:\?)([^}]*))?\}")
_SECRET: Final = re.compile(r"_(?:KEY|PEPPER|TOKEN|PASSWORD)$")
# Those that a Kite without payments, or whose pepper was never changed, does not have.
_NOT_ALWAYS: Final = {"KITE_API_KEY_RETIRED_PEPPER", "X402_FACILITATOR_EVM_PRIVATE_KEY"}

each_of_ours = pytest.mark.parametrize("name", OURS)
each = pytest.mark.parametrize("name", CONTAINERS)
each_service = pytest.mark.parametrize("name", RUNNING)


def texts(value: object) -> list[str]:
    """Every text in a tree."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def variables(value: object) -> dict[str, tuple[str, str]]:
    """What a tree takes of .env, and how: the operator, and what stands behind it."""
    return {found[1]: (found[2] or "", found[3] or "") for text in texts(value) for found in _VARIABLE.finditer(text)}


def env_file(name: str) -> dict[str, str]:
    """The settings of a file in deploy/compose."""
    lines = (ROOT / "deploy/compose" / name).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(text: str, given: dict[str, str]) -> str:
    """A text as Compose passes it on; a secret is 64 hex digits."""
    return _VARIABLE.sub(lambda found: given.get(found[1]) or (found[3] or "" if found[2] == ":-" else "ab" * 32), text)


def loaded(service: str, given: dict[str, str]) -> KiteSettings:
    """The settings of a service as its container has them with this .env; empty ones count as unset."""
    settings = settings_of(service)
    environment = {name: filled(value, given) for name, value in RUNNING[service]["environment"].items()}
    by_field = {field: environment.get(env_name(settings, field)) for field in settings.model_fields}
    return settings.model_validate({field: value for field, value in by_field.items() if value})


def test_every_service_runs_and_the_facilitator_where_there_are_payments() -> None:
    assert set(RUNNING) == set(SERVICES)
    assert [name for name in CONTAINERS if "profiles" not in CONTAINERS[name] and name in SERVICES] == list(ALWAYS)
    assert CONTAINERS["facilitator"]["profiles"] == ["demo", "payments"]


@each_of_ours
def test_it_runs_a_command_that_there_is(name: str) -> None:
    command = get_command(app)
    words = [word for word in OURS[name]["command"] if "-" not in word and "/" not in word]
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert not hasattr(command, "commands")
    options = {word for word in OURS[name]["command"] if word.startswith("--")}
    assert options <= {option for parameter in command.params for option in parameter.opts}


@each_of_ours
def test_it_has_no_rights(name: str) -> None:
    container = OURS[name]
    assert (container["read_only"], container["cap_drop"]) == (True, ["ALL"])
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert {"user", "privileged", "cap_add", "volumes", "network_mode", "pid"} & set(container) == set()
    assert container["image"] == f"kite:${{KITE_VERSION:-{VERSION}}}"
    # What is not there must not be built from whatever is checked out, under the name of another version.
    assert "build" not in container
    assert container["pull_policy"] == "never"


@each
def test_its_log_is_bounded(name: str) -> None:
    """The driver `local` turns files over; the one there is by default does not."""
    assert CONTAINERS[name]["logging"] == {"driver": "local"}


def test_the_version_that_runs_stands_where_every_up_reads_it() -> None:
    assert env_file("example.env")["KITE_VERSION"] == VERSION


def test_the_image_is_run_by_nobody() -> None:
    assert "\nUSER 10001:10001\n" in (ROOT / "Dockerfile").read_text("utf-8")


@each
def test_it_gains_no_privileges_and_its_image_is_a_version(name: str) -> None:
    container = CONTAINERS[name]
    assert "no-new-privileges:true" in container["security_opt"]
    _, _, tag = container["image"].partition(":")
    assert re.search(r"\d+\.\d+", tag), container["image"]
    assert "latest" not in tag


def test_what_is_pinned_is_what_was_tested() -> None:
    assert CONTAINERS["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    for name, folder in (("valkey", "valkey.yaml"), ("clickhouse", "clickhouse-operator.yaml")):
        assert CONTAINERS[name]["image"] in (ROOT / "deploy/k8s/examples" / folder).read_text("utf-8")


@each_service
def test_every_setting_is_one_and_all_that_are_required_are_there(name: str) -> None:
    settings, given = settings_of(name), set(RUNNING[name]["environment"])
    known = {env_name(settings, field) for field in settings.model_fields}
    required = {env_name(settings, field) for field, info in settings.model_fields.items() if info.is_required()}
    assert given <= known
    assert required <= given
    own = {"gateway": {"KITE_WEBHOOK_SECRET_CIPHER_KEY", "KITE_REPLAY_URL"}, "delivery": {"KITE_WEBHOOK_SECRET_CIPHER_KEY"},
           "billing": {"KITE_API_KEY_PEPPER"}}  # fmt: skip
    assert own.get(name, set()) <= given
    shared = {"KITE_KAFKA_BOOTSTRAP", "KITE_PARTITIONS", "KITE_INSTANCE", "KITE_DRAIN_TIMEOUT_S", "KITE_PUBLIC_URL"}
    assert {one: RUNNING[name]["environment"][one] for one in shared} == {one: RUNNING["gateway"]["environment"][one] for one in shared}


@each_service
def test_with_what_example_env_draws_its_settings_can_be_used(name: str) -> None:
    given = env_file("example.env") | (env_file("demo.env") if name == "facilitator" else {})
    assert loaded(name, given).problems() == []


def test_with_demo_env_payments_lack_nothing() -> None:
    settings = loaded("billing", env_file("example.env") | env_file("demo.env"))
    assert isinstance(settings, X402ProcessorSettings)
    assert processor_problems(settings) == []


@each
def test_no_secret_is_written_down(name: str) -> None:
    container = CONTAINERS[name]
    for setting, value in container.get("environment", {}).items():
        if _SECRET.search(setting):
            assert _VARIABLE.fullmatch(value), setting
    for variable, (operator, default) in variables(container).items():
        if _SECRET.search(variable):
            assert (operator, default != "") == ((":-", False) if variable in _NOT_ALWAYS else (":?", True)), variable


def test_a_secret_reaches_only_those_that_use_it() -> None:
    has = {name: {one for one in variables(container) if _SECRET.search(one)} for name, container in CONTAINERS.items()}
    assert has["topics"] == has["kafka"] == has["valkey"] == has["chain"] == has["token"] == has["prometheus"] == set()
    assert has["archive"] == has["clickhouse"] == {"CLICKHOUSE_PASSWORD"}
    assert has["delivery"] == {"KITE_WEBHOOK_SECRET_CIPHER_KEY", "KITE_WEBHOOK_SIGNING_KEY"}
    assert [name for name in CONTAINERS if "X402_FACILITATOR_EVM_PRIVATE_KEY" in has[name]] == ["facilitator"]


def test_example_env_names_every_secret_empty_and_nothing_unknown() -> None:
    example, taken = env_file("example.env"), variables(CONTAINERS)
    assert {name for name, value in example.items() if not value} == {name for name, how in taken.items() if how[0] == ":?"}
    assert set(example) | set(env_file("demo.env")) <= set(taken)


def test_a_written_env_has_a_secret_of_its_own_for_each_and_is_never_overwritten(tmp_path: Path) -> None:
    text, file = write_env.settings(["demo", "observe"]), tmp_path / ".env"
    write_env.write(file, text)
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    written = dict(line.split("=", 1) for line in lines)
    assert written["COMPOSE_PROFILES"] == "demo,observe"
    drawn = [written[name] for name, value in env_file("example.env").items() if not value]
    assert len(drawn) == len(set(drawn)) > 5
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in drawn)
    assert written | env_file("demo.env") == written
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_env.write(file, "")
    assert file.read_text("utf-8") == text
    assert "X402_ENABLED" not in write_env.settings(["observe"])


def test_a_secret_that_git_would_take_is_not_written() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_the_demo_is_the_chain_that_is_known() -> None:
    demo, chain = env_file("demo.env"), CONTAINERS["chain"]
    assert (demo["X402_PAY_TO"], demo["X402_FACILITATOR_EVM_PRIVATE_KEY"]) == (PAY_TO, FACILITATOR_KEY)
    assert demo["X402_NETWORK"] == f"eip155:{CHAIN_ID}"
    assert f"--chain-id={CHAIN_ID}" in chain["command"]
    # What services take for USDC of the network, as nothing else is said, is what the job puts there.
    assert asset_of(demo["X402_NETWORK"], None, None, None).address.lower() == TOKENS[CHAIN_ID].address.lower()
    assert "ports" not in chain


@each_service
def test_its_health_is_asked_at_the_port_it_has_by_default(name: str) -> None:
    *command, port = RUNNING[name]["healthcheck"]["test"]
    assert command == ["CMD", "python", "-m", probe.__name__]
    assert int(port) == settings_of(name).model_fields["port"].default
    assert not {"KITE_PORT", "KITE_HOST"} & set(RUNNING[name]["environment"])


def test_nothing_is_published_beyond_this_machine_unless_it_is_asked_for() -> None:
    published = {name: container["ports"] for name, container in CONTAINERS.items() if "ports" in container}
    assert set(published) == {"gateway", "prometheus", "grafana"}
    assert all(filled(port, {}).startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert published["gateway"][0].endswith(f":{settings_of('gateway').model_fields['port'].default}")


@each_service
def test_the_longest_drain_fits_into_the_grace_and_the_wait_for_a_payment_into_the_drain(name: str) -> None:
    parts_that_hang = 5 * 2
    drain_s = float(RUNNING[name]["environment"]["KITE_DRAIN_TIMEOUT_S"])
    assert drain_s > X402Settings.model_fields["x402_wait_s"].default + FAREWELL_S
    assert float(RUNNING[name]["stop_grace_period"].removesuffix("s")) >= drain_s + parts_that_hang


@each
def test_every_host_it_names_is_a_container(name: str) -> None:
    container = CONTAINERS[name]
    written = [filled(text, env_file("demo.env")) for key in ("environment", "command") for text in texts(container.get(key, {}))]
    hosts = {urlsplit(text).hostname for text in written if text.startswith(("http://", "redis://"))}
    hosts |= {text.split(":")[0] for text in written if re.fullmatch(r"[a-z-]+:\d+", text)}
    assert hosts - {"127.0.0.1"} <= set(CONTAINERS)


@each
def test_it_waits_for_what_it_needs_and_for_what_can_be_waited_for(name: str) -> None:
    for other, how in _waits(CONTAINERS[name]).items():
        if how == "service_healthy":
            assert "healthcheck" in CONTAINERS[other], other
        if how == "service_completed_successfully":
            assert CONTAINERS[other]["restart"] == "on-failure", other


def test_services_wait_for_topics_and_replay_for_the_archive_too() -> None:
    for name in ALWAYS:
        assert _waits(CONTAINERS[name])["topics"] == "service_completed_successfully"
    assert _waits(CONTAINERS["replay"])["archive"] == "service_completed_successfully"
    assert _waits(CONTAINERS["topics"]) == {"kafka": "service_healthy"}
    assert _waits(CONTAINERS["archive"]) == {"clickhouse": "service_healthy"}


def _waits(container: dict[str, Any]) -> dict[str, str]:
    needs = container.get("depends_on", {})
    return dict.fromkeys(needs, "service_started") if isinstance(needs, list) else {one: how["condition"] for one, how in needs.items()}


def test_kafka_forgets_no_position_before_its_time_and_makes_no_topic_by_itself() -> None:
    kafka = CONTAINERS["kafka"]["environment"]
    assert kafka["KAFKA_OFFSETS_RETENTION_MINUTES"] == str(OFFSETS_RETENTION_MINUTES)
    assert kafka["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert {value for name, value in kafka.items() if name.endswith(("REPLICATION_FACTOR", "MIN_ISR"))} == {"1"}


def test_prometheus_asks_every_service_at_its_port_and_has_every_file_of_rules() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text("utf-8"))
    always, facilitator = prometheus["scrape_configs"]
    ports = {name: settings_of(name).model_fields["port"].default for name in SERVICES}
    assert always["static_configs"][0]["targets"] == [f"{name}:{ports[name]}" for name in ALWAYS]
    assert facilitator["dns_sd_configs"] == [{"names": ["facilitator"], "type": "A", "port": ports["facilitator"]}]
    rules = {Path(one).name for one in prometheus["rule_files"]}
    assert rules == {path.name for path in (ROOT / "deploy/observe").glob("*.yml")}
    assert all((ROOT / "deploy/observe" / one).exists() for one in rules)


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    [source] = yaml.safe_load((ROOT / "deploy/observe/grafana/datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    assert urlsplit(source["url"]).hostname in CONTAINERS
    [provider] = yaml.safe_load((ROOT / "deploy/observe/grafana/dashboards/kite.yml").read_text("utf-8"))["providers"]
    mounted = dict(volume.split(":")[1::-1] for volume in CONTAINERS["grafana"]["volumes"])
    assert mounted[provider["options"]["path"]] == "./deploy/observe/dashboards"


def test_every_file_that_is_mounted_is_there_and_every_volume_is_declared() -> None:
    for container in CONTAINERS.values():
        for volume in container.get("volumes", ()):
            place, _, _ = volume.partition(":")
            if not place.startswith("./"):
                assert place in COMPOSE["volumes"], place
            else:
                assert (ROOT / place).exists(), place
                assert volume.endswith(":ro"), volume
