"""Relays as they are configured: opened, examined, and told apart from wallets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from keeper.config import Chain, Settings, load
from keeper.doctor import State
from keeper.doctor.relays import check_relay
from keeper.errors import ConfigError
from keeper.execution.answer import Answer
from keeper.execution.relays.identity import Identity
from keeper.relays import open_relays, refuse_wallets
from keeper.units import ZERO_ADDRESS, Address
from tests.fake_node import FakeNode
from tests.plans import Plans, signed
from tests.relay_stand_in import RelayStandIn

KEY = b"\x11" * 32
KINDS = ("bundle", "private-transaction", "private-raw-transaction")


@pytest.fixture
async def relay() -> AsyncIterator[RelayStandIn]:
    async with RelayStandIn(FakeNode()) as stand_in:
        yield stand_in


def table(url: str, kind: str = "bundle", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "url": url, "identity": KEY.hex(), **more}


def settings(relays: dict[str, Any], **more: Any) -> Settings:
    chain = {"chain_id": 31337, "endpoints": ["ws://x"], "relays": relays, **more}
    return Settings.model_validate({"chains": {"x": chain}})


async def examined(chain: Chain, wallet: Address = ZERO_ADDRESS) -> tuple[State, str, str]:
    return await check_relay("x", "a", chain.relays["a"], chain, [wallet])


async def test_every_kind_hands_over_what_the_relay_understands(relay: RelayStandIn) -> None:
    relays = {f"r{number}": table(relay.url, kind) for number, kind in enumerate(KINDS)}
    chain = settings(relays, public_after=0).chains["x"]
    seen: list[tuple[str, str]] = []
    async with AsyncExitStack() as stack:
        flow = open_relays("x", chain, stack, lambda name, how, _: seen.append((name, how)))
        assert flow is not None
        plans = Plans()
        one, other = signed(plans.make()), signed(plans.make())
        answer, _ = await flow.hand_over(one, [], 100)
        assert answer is Answer.ACCEPTED
        assert list(flow.scores) == list(relays)
        assert not flow.wants(one.hash, 100)
        assert flow.wants(one.hash, 100, [other]), "the bundle, but not the others"
        assert not flow.is_due(0, 1_000)
        async with asyncio.timeout(5):  # those for later blocks follow the answer
            while relay.taken["eth_sendBundle"] < 3:  # noqa: ASYNC110 - a server takes them
                await asyncio.sleep(0.001)
    assert relay.taken["eth_sendBundle"] == 3
    assert set(relay.taken) <= {
        "eth_sendBundle",
        "eth_sendPrivateTransaction",
        "eth_sendPrivateRawTransaction",
    }
    assert relay.senders == {to_checksum_address(Identity(KEY).address)}


async def test_a_chain_without_relays_has_no_private_flow() -> None:
    async with AsyncExitStack() as stack:
        assert open_relays("x", settings({}).chains["x"], stack) is None


def test_an_identity_that_is_a_wallet_is_refused() -> None:
    made = settings({"a": table("https://a")})
    refuse_wallets(made, {"x.wallet": to_checksum_address(b"\x01" * 20)})
    with pytest.raises(ConfigError, match=r"relays\.a\.identity is the key of chains\.y\.wallet"):
        refuse_wallets(made, {"y.wallet": to_checksum_address(Identity(KEY).address)})


def test_an_identity_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="identity is no private key"):
        refuse_wallets(settings({"a": table("https://a") | {"identity": "0" * 64}}), {})


async def test_the_doctor_asks_a_signed_question(relay: RelayStandIn) -> None:
    chain = settings({"a": table(relay.url)}).chains["x"]
    state, detail, _ = await examined(chain)
    assert (state, detail.startswith("bundle, answers, we are 0x19E7")) == (State.OK, True)
    relay.refusing = "the method eth_chainId does not exist"
    assert (await examined(chain))[0] is State.OK
    assert not relay.taken


async def test_the_doctor_names_a_relay_that_is_down(relay: RelayStandIn) -> None:
    chain = settings({"a": table("http://127.0.0.1:1/s3cret-key")}).chains["x"]
    state, detail, hint = await examined(chain)
    assert state is State.WARN
    assert "no answer" in detail
    assert "chains.x.relays.a.url" in hint
    assert "s3cret" not in detail + hint


async def test_wrong_keys_and_places_are_refused_before_anything_is_sent(
    relay: RelayStandIn,
) -> None:
    chain = settings({"a": table(relay.url)}).chains["x"]
    with pytest.raises(ConfigError, match="identity is the key of the wallet"):
        await examined(chain, Identity(KEY).address)
    relay.authorization = "Bearer other"
    with pytest.raises(ConfigError, match="refuses who we are: HTTP 401"):
        await examined(chain)
    relay.authorization = ""
    anonymous = settings({"a": table(relay.url) | {"identity": None}}).chains["x"]
    with pytest.raises(ConfigError, match="invalid flashbots signature"):
        await examined(anonymous)
    relay.chain_id = 1
    with pytest.raises(ConfigError, match="serves chain id 0x1"):
        await examined(chain)
    relay.gone = True
    with pytest.raises(ConfigError, match="relay a: HTTP 404"):
        await examined(chain)
    assert relay.held == 0


def test_the_table_in_the_readme_is_one_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "relay.key").write_text(KEY.hex(), encoding="utf-8")
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [
        part for part in re.findall(r"```toml\n(.+?)```", readme, re.DOTALL) if "relays" in part
    ]
    text = block.replace(
        "[chains.ethereum]\n", "[chains.ethereum]\nchain_id = 1\nendpoints = ['ws://x']\n"
    )
    (tmp_path / "keeper.toml").write_text(text, encoding="utf-8")
    chain = load([tmp_path / "keeper.toml"], env={"RELAY_TOKEN": "t"}).settings.chains["ethereum"]
    assert list(chain.relays) == ["flashbots", "another"]
    assert chain.public_after == Chain.model_fields["public_after"].default
    relay = chain.relays["flashbots"]
    assert relay.blocks == type(relay).model_fields["blocks"].default
