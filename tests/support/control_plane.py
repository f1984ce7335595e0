"""A Kubernetes without machines: etcd, API server, controllers and scheduler, built from source by Go, on loopback and without root.

It admits, stores, makes pods of workloads and picks their nodes as any cluster of its version does. Nothing runs in it: nodes are what a
test says they are, and there is no kubelet. Versions stand in tests/k8s/control-plane/go.mod, hashes of all sources in go.sum beside it.
"""

import asyncio
import hashlib
import os
import re
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kite_cli.local.kafka_jars import exclusive
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.local.process import Child, ProcessSpec
from kite_cli.local.readiness import ReadyCheck, answers_ok, is_open

MODULE: Final = Path(__file__).resolve().parents[1] / "k8s/control-plane"
PROGRAMS: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
# The first build takes minutes on an idle machine; a busy one needs many times as long.
_BUILD_WITHIN_S: Final = 7_200
_COMMAND_WITHIN_S: Final = 120


def kubernetes_version() -> str:
    """The version of all that is built, such as "v1.37.2"."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v[0-9.]+)", (MODULE / "go.mod").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return found[1]


def cache() -> Path:
    """Where programs of other projects are kept between runs: `~/.cache/kite`, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kite"


def built() -> Path:
    """The folder with all programs; builds those that are missing, one process at a time. Needs Go; blocks for minutes the first time.

    Raises CalledProcessError if Go cannot build them, also if a source is not the one whose hash go.sum has.
    """
    pins = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()
    folder = cache() / f"control-plane-{kubernetes_version()}-{pins[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        for name in PROGRAMS:
            if not (folder / name).exists():
                _build(name, folder)
    return folder


def _build(name: str, folder: Path) -> None:
    """Go checks every source against go.sum; the finished program appears by one rename."""
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    said = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{field}={value}" for field, value in said.items())])
    command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o", str(folder / f".{name}"), PROGRAMS[name]]
    subprocess.run(["nice", "-n", "10", *command], cwd=MODULE, env=os.environ | {"GOFLAGS": ""}, check=True, timeout=_BUILD_WITHIN_S)
    (folder / f".{name}").rename(folder / name)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a kubectl said: `refused` if it did not do what it was asked."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        return self.code != 0

    @property
    def both(self) -> str:
        return self.out + self.err


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running one, and a kubectl of its version with all rights."""

    programs: Path
    kubeconfig: Path

    async def kubectl(self, *words: str, given: object = None) -> Answer:
        """Run a kubectl; `given` is what `-f -` reads, as JSON. Never raises for a refusal."""
        command = [str(self.programs / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words]
        done = await asyncio.to_thread(
            subprocess.run, command, input=orjson.dumps(given) if given is not None else b"", capture_output=True, timeout=_COMMAND_WITHIN_S
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def done(self, *words: str, given: object = None) -> str:
        """The same where a refusal is a failure of the test; returns what was printed."""
        answer = await self.kubectl(*words, given=given)
        assert not answer.refused, answer.both
        return answer.out

    async def listed(self, *words: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds."""
        found: list[dict[str, Any]] = orjson.loads(await self.done("get", *words, "-o", "json"))["items"]
        return found

    async def is_ready(self) -> bool:
        """Whether the API server says that all of its parts are up, the roles it makes for itself among them."""
        return not (await self.kubectl("get", "--raw", "/readyz")).refused


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[ControlPlane]:
    """Start all of them, yield when they serve, stop them in reverse. Everything is kept below `folder`."""
    programs, ports = built(), PortBook()
    etcd, peers, api, controllers, scheduler = (ports.pick() for _ in range(5))
    token = secrets.token_hex(16)
    _write_secrets(folder, token)
    plane = ControlPlane(programs, _write_kubeconfig(folder, api, token))
    url = f"http://{LOOPBACK}:{etcd}"
    specs = [
        _spec(plane, "etcd", {
            "data-dir": folder / "etcd", "listen-client-urls": url, "advertise-client-urls": url,
            "listen-peer-urls": f"http://{LOOPBACK}:{peers}", "initial-advertise-peer-urls": f"http://{LOOPBACK}:{peers}",
            "initial-cluster": f"default=http://{LOOPBACK}:{peers}", "unsafe-no-fsync": "true",
        }, lambda: answers_ok(LOOPBACK, etcd, "/health")),
        _spec(plane, "kube-apiserver", {
            "etcd-servers": url, "bind-address": LOOPBACK, "secure-port": api, "cert-dir": folder / "certificates",
            "authorization-mode": "Node,RBAC", "token-auth-file": folder / "tokens.csv",
            "service-account-issuer": "https://kubernetes.default.svc", "service-account-key-file": folder / "service-accounts.pub",
            "service-account-signing-key-file": folder / "service-accounts.key", "service-cluster-ip-range": "10.96.0.0/16",
            "endpoint-reconciler-type": "none",
        }, plane.is_ready),
        _spec(plane, "kube-controller-manager", {
            "kubeconfig": plane.kubeconfig, "bind-address": LOOPBACK, "secure-port": controllers, "leader-elect": "false",
            "cert-dir": folder / "certificates", "service-account-private-key-file": folder / "service-accounts.key",
            "use-service-account-credentials": "true",
            # Nobody sends a sign of life for a node.
            "node-monitor-grace-period": "24h",
        }, lambda: is_open(LOOPBACK, controllers)),
        _spec(plane, "kube-scheduler", {
            "kubeconfig": plane.kubeconfig, "bind-address": LOOPBACK, "secure-port": scheduler, "leader-elect": "false",
            "cert-dir": folder / "certificates", "authentication-kubeconfig": plane.kubeconfig,
            "authorization-kubeconfig": plane.kubeconfig,
        }, lambda: is_open(LOOPBACK, scheduler)),
    ]  # fmt: skip
    async with AsyncExitStack() as stack:
        stack.callback(ports.release)
        for spec in specs:
            child = Child(spec, log=folder / f"{spec.name}.log", folder=folder, changed=lambda _name, _identity: None)
            stack.push_async_callback(child.stop)
            await child.start()
        yield plane


def _spec(plane: ControlPlane, name: str, options: dict[str, object], ready: ReadyCheck) -> ProcessSpec:
    command = (str(plane.programs / name), *(f"--{option}={value}" for option, value in options.items()))
    return ProcessSpec(name, command, ready, ready_within_s=120.0, stop_within_s=60.0)


def _write_secrets(folder: Path, token: str) -> None:
    """One user with all rights, and the key that tokens of service accounts are signed with."""
    (folder / "tokens.csv").write_text(f'{token},operator,operator,"system:masters"\n', "ascii")
    key = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-accounts.key").write_bytes(private)
    (folder / "service-accounts.pub").write_bytes(public)


def _write_kubeconfig(folder: Path, port: int, token: str) -> Path:
    """The certificate in it is the one the API server makes for itself at its start."""
    cluster = {"server": f"https://{LOOPBACK}:{port}", "certificate-authority": str(folder / "certificates/apiserver.crt")}
    path = folder / "kubeconfig.json"
    path.write_bytes(orjson.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "kite",
        "clusters": [{"name": "kite", "cluster": cluster}], "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "kite", "context": {"cluster": "kite", "user": "operator"}}],
    }))  # fmt: skip
    return path
