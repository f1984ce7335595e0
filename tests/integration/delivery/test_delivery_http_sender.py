"""The sender against real sockets: decent receivers, bad ones, and addresses that may not be dialled."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kite_common.runtime.system import monotonic_s
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_delivery.adapters.http_sender import HttpSender
from kite_delivery.adapters.resolver import CheckedResolver, Lookup, TargetRefused
from kite_delivery.domain.outcome import Answer, Failure, Reply
from kite_delivery.domain.request import OutboundRequest, build
from kite_delivery.testing import SECRET, Receiver, a_delivery, an_endpoint, answer, endless, hang, hang_up, slow_body

BODY = '{"data":"é","kiteseq":8195}'.encode()


@asynccontextmanager
async def a_sender(
    *, timeout_s: float = 5.0, allow_private: bool = True, tls: ssl.SSLContext | None = None, lookup: Lookup | None = None
) -> AsyncIterator[HttpSender]:
    given = {} if lookup is None else {"lookup": lookup}
    sender = HttpSender(timeout_s=timeout_s, allow_private=allow_private, now_s=monotonic_s, tls=tls, **given)
    stop = asyncio.Event()
    running = asyncio.create_task(sender.run(stop))
    await eventually(lambda: sender.readiness().ready, every_s=0.001, what="the sender is ready")
    try:
        yield sender
    finally:
        stop.set()
        await running
        assert not sender.readiness().ready


def request_to(url: str) -> OutboundRequest:
    return build(a_delivery(body=BODY), an_endpoint(url=url), [SECRET], make.NOW_MS)


async def reply_to(receiver: Receiver, timeout_s: float = 5.0) -> Reply:
    async with receiver.listening(), a_sender(timeout_s=timeout_s) as sender:
        return await sender.send(request_to(receiver.url))


async def test_the_exact_bytes_and_headers_arrive_and_nothing_is_added() -> None:
    receiver = Receiver()
    assert await reply_to(receiver) == Answer(200)
    [received] = receiver.received
    assert (received.path, received.body) == ("/in", BODY)
    added = received.headers.keys() - {name.lower() for name, _ in request_to("http://x").headers}
    assert added == {"host", "content-length"}
    assert "accept-encoding" not in received.headers


async def test_status_retry_after_and_excerpt_come_back() -> None:
    receiver = Receiver(lambda _received: answer(429, "später".encode(), Retry_After="7"))
    assert await reply_to(receiver) == Answer(429, "7", "später")


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    receiver = Receiver(lambda _received: answer(302, Location="/elsewhere"))
    assert await reply_to(receiver) == Answer(302)
    assert [received.path for received in receiver.received] == ["/in"]


async def test_the_excerpt_is_512_safe_characters() -> None:
    receiver = Receiver(lambda _received: answer(500, b"\x1b[31m\x00\r\n\xff" + "\u202e".encode() + b"y" * 10_000))
    reply = await reply_to(receiver)
    assert isinstance(reply, Answer)
    assert reply.excerpt == "\ufffd[31m\ufffd  \ufffd\ufffd" + "y" * 502
    assert len(reply.excerpt) == 512


async def test_a_compressed_answer_is_never_unpacked() -> None:
    receiver = Receiver(lambda _received: answer(200, b"\x1f\x8b\x08" + b"\x00" * 100, Content_Encoding="gzip"))
    assert await reply_to(receiver) == Answer(200)


async def test_of_an_endless_answer_64_kib_are_read() -> None:
    reply = await reply_to(Receiver(lambda _received: endless()))
    assert reply == Answer(200, None, "x" * 512)


async def test_a_receiver_that_hangs_is_left_after_the_timeout() -> None:
    assert await reply_to(Receiver(lambda _received: hang()), timeout_s=0.2) == Failure("timeout")


async def test_a_body_that_never_ends_is_left_after_the_timeout_and_the_status_counts() -> None:
    assert await reply_to(Receiver(lambda _received: slow_body()), timeout_s=0.2) == Answer(200, None, "x", "body_too_slow")


async def test_no_answer_and_no_listener_are_failed_connections() -> None:
    receiver = Receiver(lambda _received: hang_up())
    assert await reply_to(receiver) == Failure("connect")
    assert len(receiver.received) == 1
    async with a_sender() as sender:
        assert await sender.send(request_to(receiver.url)) == Failure("connect")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b/", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"])
async def test_an_unusable_url_is_a_failure_not_an_error(url: str) -> None:
    async with a_sender() as sender:
        reply = await sender.send(request_to(url))
    assert isinstance(reply, Failure)


async def test_nonsense_instead_of_http_is_a_protocol_failure() -> None:
    async def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    assert await reply_to(Receiver(lambda _received: nonsense)) == Failure("protocol")


async def test_connections_are_kept_and_one_the_receiver_closed_costs_no_attempt() -> None:
    receiver = Receiver()
    async with receiver.listening(), a_sender() as sender:
        for _ in range(5):
            assert await sender.send(request_to(receiver.url)) == Answer(200)
        assert receiver.connections == 1
        receiver.drop_connections()
        assert await sender.send(request_to(receiver.url)) == Answer(200)
    assert len(receiver.received) == 6


async def test_a_kept_connection_that_is_closed_on_use_is_tried_once_more_on_a_new_one() -> None:
    receiver = Receiver()
    async with receiver.listening(), a_sender() as sender:
        assert await sender.send(request_to(receiver.url)) == Answer(200)
        receiver.behaviour = lambda _received: hang_up()
        assert await sender.send(request_to(receiver.url)) == Failure("connect")
    assert len(receiver.received) == 3


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]", "0.0.0.0", "localhost"],  # noqa: S104 - a target, not a listener
)
async def test_private_targets_are_blocked_in_every_spelling(host: str) -> None:
    async with a_sender(allow_private=False) as sender:
        assert await sender.send(request_to(f"http://{host}:9/in")) == Failure("blocked")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "127.1", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0.1..", "0x7f.0x0.0x0.0x1", "017700000001", "0", "0.0.0.0.",
        "[::ffff:7f00:1]", "[::1%25lo]", "[::127.0.0.1]", "[2002:7f00:1::]", "[64:ff9b:1::7f00:1]", "127.0.0.%31", "%6cocalhost",
        "LOCALHOST", "localhost.", "a.localhost", "１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "xn--localhost", "user@127.0.0.1",
        "127.0.0.1%00.example",
    ],
)  # fmt: skip
async def test_odd_spellings_of_loopback_never_reach_it(host: str) -> None:
    receiver = Receiver()
    async with receiver.listening(), a_sender(allow_private=False) as sender:
        reply = await sender.send(request_to(f"http://{host}:{receiver.port}/in"))
    assert isinstance(reply, Failure)
    assert receiver.received == []
    assert receiver.connections == 0


async def test_a_name_that_points_inside_is_blocked_and_nothing_is_dialled() -> None:
    receiver = Receiver()
    async with receiver.listening(), a_sender(allow_private=False, lookup=lambda _host: ["93.184.216.34", "127.0.0.1"]) as sender:
        assert await sender.send(request_to(f"http://inside.example:{receiver.port}/in")) == Failure("blocked")
    assert receiver.connections == 0


async def test_the_socket_itself_refuses_to_connect_to_an_address_that_slipped_through(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    # As if every check before had been passed: a public address at look-up, another one by the time it is dialled.
    monkeypatch.setattr("kite_delivery.adapters.resolver.all_allowed", lambda _addresses, **_given: True)
    async with receiver.listening(), a_sender(allow_private=False, lookup=lambda _host: ["127.0.0.1"]) as sender:
        assert await sender.send(request_to(f"http://rebound.example:{receiver.port}/in")) == Failure("blocked")
    assert receiver.connections == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, receiver = Receiver(), Receiver()
    async with proxy.listening(), receiver.listening():
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with a_sender() as sender:
            assert await sender.send(request_to(receiver.url)) == Answer(200)
    assert (proxy.connections, receiver.connections) == (0, 1)


async def test_a_redirect_inside_is_not_followed_even_where_it_could_be() -> None:
    inside = Receiver()
    async with inside.listening():
        receiver = Receiver(lambda _received: answer(307, Location=inside.url))
        assert await reply_to(receiver) == Answer(307)
    assert inside.connections == 0


async def test_a_rebound_name_is_checked_again_and_a_remembered_one_is_dialled_as_checked() -> None:
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    now_s = 0.0
    resolver = CheckedResolver(allow_private=False, now_s=lambda: now_s, lookup=lambda _host: answers.pop(0))
    for _ in range(3):
        assert [found["host"] for found in await resolver.resolve("rebound.example", 80)] == ["93.184.216.34"]
    now_s = 31.0
    with pytest.raises(TargetRefused):
        await resolver.resolve("rebound.example", 80)
    await resolver.close()


async def test_lookups_of_one_name_share_one_and_a_failed_one_is_not_remembered() -> None:
    asked: list[str] = []

    def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        if len(asked) == 1:
            raise OSError("no such name")
        return ["93.184.216.34"]

    resolver = CheckedResolver(allow_private=False, now_s=monotonic_s, lookup=lookup)
    results = await asyncio.gather(*(resolver.resolve("name.example") for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    assert asked == ["name.example"]
    assert await resolver.resolve("name.example")
    await resolver.close()


async def test_an_unknown_name_is_a_dns_failure() -> None:
    def lookup(_host: str) -> Sequence[str]:
        raise OSError("no such name")

    async with a_sender(lookup=lookup) as sender:
        assert await sender.send(request_to("http://nowhere.example/")) == Failure("dns")


async def test_tls_is_verified_by_the_name_in_the_url(tmp_path: Path) -> None:
    server, trusting = _tls_pair(tmp_path, "hooks.example")
    receiver = Receiver()
    async with receiver.listening(server):
        async with a_sender(tls=trusting, lookup=lambda _host: ["127.0.0.1"]) as sender:
            assert await sender.send(request_to(f"https://hooks.example:{receiver.port}/in")) == Answer(200)
            assert await sender.send(request_to(f"https://other.example:{receiver.port}/in")) == Failure("tls")
        async with a_sender(lookup=lambda _host: ["127.0.0.1"]) as sender:
            assert await sender.send(request_to(f"https://hooks.example:{receiver.port}/in")) == Failure("tls")
    assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_before_it_runs_a_sender_fails_softly() -> None:
    sender = HttpSender(timeout_s=1, allow_private=True, now_s=monotonic_s)
    assert await sender.send(request_to("http://127.0.0.1:9/")) == Failure("connect")


def _tls_pair(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own for `name`, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.2"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / "server.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
