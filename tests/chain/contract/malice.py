"""A world worth robbing, and everything a stolen operator key can put in a batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from eth_abi.abi import encode
from hypothesis import strategies as st

from keeper.devnet.chain import Transaction
from keeper.planning import owner_calls
from keeper.planning.encoding import (
    GAINED,
    NATIVE,
    Action,
    Batch,
    Call,
    Check,
    Fund,
    FundKind,
    Group,
    Item,
    Protocol,
    Redeem,
    Swap,
    Template,
    Unwrap,
    Wrap,
    _pack_template,
    encode_run,
    exactly,
    pack,
    share_of_gain,
)
from keeper.units import WAD, ZERO_ADDRESS, Address
from tests.chain.contract.stage import FAR, Stage, selector

SUPPLY = "supply(address,uint256,address,uint16)"
REPAY = "repay(address,uint256,uint256,address)"
EXCHANGE = "exchange(address,address,uint256)"
INPUT = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
DEPOSIT = "deposit(uint256,address)"
UNWRAP = "unwrap(uint256,address)"
OWED = selector("scaledBalanceOf(address)")
FOR_ALL = "liquidate_all(address[])"
WITH_VALUE = 4
TIP_CAP = 10**15
REFILL_CAP = 10**15
BUDGET = 5 * 10**6
SOLD_PER_DAY = {"WETH": 2 * WAD, "USDC": 5 * 10**9}
BOUGHT = {"WETH": "USDC", "USDC": "WETH"}
FLOOR_PERCENT = 95
PRODUCER = b"\x77" * 20
AMOUNTS = (1, 10**6, 10**9, 10**15, WAD, 5 * WAD, 2**100)


@dataclass
class World:
    """A liquidator that holds every kind of thing, and the hostile contracts its owner allowed."""

    stage: Stage
    venue: Address
    vault: Address
    token: Address
    attacker: Address
    borrowers: dict[str, list[bytes]]
    half: dict[str, int]
    floors: dict[str, int]
    """The least that all that may be sold of a token on a day has to bring."""

    @property
    def held(self) -> dict[str, Address]:
        """What must not become less; the hostile token's own book is its maker's."""
        named = {symbol: self.stage.token(symbol) for symbol in ("WETH", "USDC", "USDT", "DAI")}
        a_tokens = {
            f"a{symbol}": Address(self.stage.net.tokens[symbol].a_token)
            for symbol in ("WETH", "USDC")
        }
        return named | a_tokens | {"vault": self.vault}

    @property
    def coins(self) -> list[Address]:
        return [*self.held.values(), self.token]

    @property
    def spenders(self) -> list[bytes]:
        uniswap, market = self.stage.net.uniswap, self.stage.market
        pools = [pool.address for pool in uniswap.pools]
        return [market.pool, self.venue, self.vault, uniswap.router, self.attacker, *pools]


def build(stage: Stage, mock: Callable[..., bytes], crashed: Callable[..., list[bytes]]) -> World:
    """Fill a liquidator with balances and permissions, and open borrowers to liquidate."""
    net = stage.net
    weth = stage.token("WETH")
    attacker = Address(net.users[9].address)
    token = Address(mock("token"))
    world = World(
        stage, Address(mock("venue")), Address(mock("vault", weth)), token, attacker, {}, {}, {}
    )
    pool, router = Address(stage.market.pool), Address(net.uniswap.router)
    for target, call in (
        (pool, selector(SUPPLY)),
        (pool, selector(REPAY)),
        (router, selector(INPUT)),
        (world.vault, selector(DEPOSIT)),
        (world.vault, selector(UNWRAP)),
        (world.vault, owner_calls.VAULT_REDEEM),
        (world.venue, owner_calls.LIQUIDATION_CALL),
        (world.venue, owner_calls.AAVE_FLASH),
        (world.venue, owner_calls.MORPHO_FLASH),
        (world.venue, selector(EXCHANGE)),
        (world.venue, selector(FOR_ALL)),
    ):
        stage.by_owner(owner_calls.encode_allow(target, call))
    stage.by_owner(owner_calls.encode_set_tip_cap(TIP_CAP))
    stage.by_owner(owner_calls.encode_set_refill_cap(REFILL_CAP))
    stage.by_owner(owner_calls.encode_set_budget(stage.token("USDT"), BUDGET))
    # a contract among the operators can call back where a wallet could not
    stage.by_owner(owner_calls.encode_set_operator(world.venue, True))
    for holder in (stage.address, world.venue, attacker):
        net.give("WETH", holder, 20 * WAD)
        net.give("USDC", holder, 10**11)
        net.give("USDT", holder, 10**11)
        net.give("DAI", holder, 10**5 * WAD)
        net.send(token, token, "mint(address,uint256)", [holder, 10**6 * WAD])
    for symbol, amount in (("WETH", 3 * WAD), ("USDC", 10**10)):
        coin = stage.token(symbol)
        net.give(symbol, attacker, amount)
        net.send(attacker, coin, "approve(address,uint256)", [pool, 2**255])
        net.send(attacker, pool, SUPPLY, [coin, amount, stage.address, 0])
        net.send(attacker, coin, "approve(address,uint256)", [pool, 0])
    net.give("WETH", attacker, 10**5 * WAD)
    net.send(attacker, weth, "approve(address,uint256)", [router, 2**255])
    net.send(attacker, weth, "approve(address,uint256)", [world.vault, 2**255])
    net.send(attacker, world.vault, DEPOSIT, [4 * WAD, stage.address])
    net.rpc("anvil_setBalance", "0x" + stage.address.hex(), hex(2 * WAD))
    net.rpc("anvil_setBalance", "0x" + world.venue.hex(), hex(2 * WAD))
    net.rpc("anvil_setCoinbase", "0x" + PRODUCER.hex())
    for symbol in ("USDC", "USDT"):
        opened = net.borrowers(3, debt=symbol, health=1.05, size_usd=20_000)
        world.borrowers[symbol] = opened
        world.half[symbol] = stage.debt(symbol, opened[0]) // 2
    net.set_price("WETH", net.price("WETH") * 9 // 10)
    price = net.price("WETH")
    worth = {"WETH": 2 * price // 100, "USDC": 5_000 * 10**8 * WAD // price}
    for symbol, per_day in SOLD_PER_DAY.items():
        spend, receive = stage.token(symbol), stage.token(BOUGHT[symbol])
        world.floors[symbol] = worth[symbol] * FLOOR_PERCENT // 100
        stage.by_owner(
            owner_calls.encode_set_conversion(spend, receive, per_day, world.floors[symbol])
        )
    return world


@dataclass(frozen=True)
class Attack:
    """A batch, raw bytes to put over the packed form, and what the hostile contracts do meanwhile."""

    batch: Batch
    damage: tuple[tuple[int, int], ...]
    mode: int
    fee_bps: int
    hooks: tuple[tuple[bytes, bytes, bytes], ...]
    """Who runs the hook, its target, its calldata."""
    sales: tuple[bytes, ...] = ()
    """Calls of `convert` after the batch."""
    skew: int = 0
    """How much is sold into the pool of the two tokens before them."""
    flagged: bool = False
    """Whether calls for all are told to send value too, which is not encoded for anyone else."""

    @property
    def calls_for_all(self) -> dict[Template, Address]:
        """Return how groups of one call are called, and the debt they name."""
        return {
            group.template: group.debt
            for group in self.batch.groups
            if group.template is not None and group.template.together
        }

    def calldata(self) -> bytes:
        data = bytearray(encode_run(self.batch))
        for template in self.calls_for_all if self.flagged else ():
            ending = bytearray()
            _pack_template(ending, template)
            data = data.replace(ending, ending[:-1] + bytes([ending[-1] | WITH_VALUE]))
        for place, value in self.damage:
            data[68 + place % (len(data) - 68)] = value
        return bytes(data)


def attacks(world: World) -> st.SearchStrategy[Attack]:
    """Draw attacks."""
    coins = world.coins
    everywhere = [*coins, NATIVE]
    someone = st.sampled_from([world.attacker, world.stage.address, world.venue, ZERO_ADDRESS])
    amount = st.sampled_from(AMOUNTS)
    spent = st.one_of(
        st.just(GAINED), amount.map(exactly), st.sampled_from((1, WAD // 2, WAD)).map(share_of_gain)
    )
    coin = st.sampled_from(coins)
    swap = st.builds(
        Swap,
        st.just(Address(world.stage.net.uniswap.factory)),
        st.sampled_from(sorted({pool.fee for pool in world.stage.net.uniswap.pools} | {3000})),
        coin,
        coin,
        spent,
    )
    sale = st.sampled_from(
        [
            world.stage.swap("WETH", "USDC"),
            world.stage.swap("WETH", "USDC", amount=share_of_gain(WAD * 97 // 100)),
        ]
    )
    calls = st.builds(
        lambda make, spend, receive, much: make(spend, receive, much),
        st.builds(lambda who, n: _call(world, who, n), someone, amount),
        st.sampled_from(everywhere),
        st.sampled_from(everywhere),
        spent,
    ).flatmap(st.sampled_from)
    weth = world.stage.token("WETH")
    action: st.SearchStrategy[Action] = st.one_of(
        sale,
        swap,
        calls,
        st.builds(Wrap, st.just(weth), spent),
        st.builds(Unwrap, st.just(weth), spent),
        st.builds(Redeem, st.sampled_from([world.vault, world.token]), coin, spent),
    )
    groups = st.one_of(
        _honest(world, action), _hostile(world, action), _called(world, calls, action)
    )
    batches = st.builds(
        lambda chosen, funds, tip, refill, hidden: Batch(
            deadline=FAR,
            tokens=tuple(
                dict.fromkeys(c for c in coins if c not in hidden or _needed(c, chosen, funds))
            ),
            groups=tuple(chosen),
            funds=tuple(funds),
            tip=tip,
            refill=refill,
        ),
        st.lists(groups, min_size=1, max_size=3),
        st.one_of(st.just([]), st.lists(_fund(world).map(_turned), max_size=2)),
        st.sampled_from((0, WAD)),
        st.sampled_from((0, WAD)),
        st.sets(coin),
    )
    hook = st.tuples(st.sampled_from([world.venue, world.token]), st.integers(0, 9), someone)
    return st.builds(
        lambda batch, damage, mode, fee, hooks, sales, skew, flagged: Attack(
            batch,
            tuple(damage),
            mode,
            fee,
            tuple((by, *_hook(world, batch, what, who)) for by, what, who in hooks),
            tuple(sales),
            skew,
            flagged,
        ),
        batches,
        st.one_of(
            st.just([]), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=2)
        ),
        st.sampled_from((0, 0, 0, 1, 3, 5, 7)),
        st.sampled_from((0, 0, 100)),
        st.lists(hook, min_size=1, max_size=2, unique_by=lambda entry: entry[0]),
        st.lists(_sale(world), max_size=4),
        st.sampled_from((0, 0, WAD, 10**4 * WAD)),
        st.sampled_from((False, False, False, True)),
    )


def _sale(world: World) -> st.SearchStrategy[bytes]:
    """Draw calls of `convert`: along the owner's rules, and everything else its arguments allow."""
    stage = world.stage
    factory = Address(stage.net.uniswap.factory)
    fees = sorted({pool.fee for pool in stage.net.uniswap.pools})
    symbols = st.sampled_from(sorted(SOLD_PER_DAY))
    tokens = {symbol: stage.token(symbol) for symbol in SOLD_PER_DAY}
    amounts = st.sampled_from((1, 1000, 10**9, 2 * 10**9, WAD // 3, WAD, 2 * WAD, 2 * WAD + 1))
    refills = st.sampled_from((0, 1, WAD, 2**255))
    ruled = st.builds(
        lambda spend, fee, eighths, minimum, refill: owner_calls.encode_convert(
            factory,
            fee,
            tokens[spend],
            tokens[BOUGHT[spend]],
            SOLD_PER_DAY[spend] * eighths // 8,
            minimum,
            refill,
        ),
        symbols,
        st.sampled_from(fees),
        st.sampled_from((1, 2, 4, 8, 9)),
        st.sampled_from((0, 0, 1)),
        refills,
    )
    coin = st.sampled_from([*world.coins, ZERO_ADDRESS])
    free = st.builds(
        owner_calls.encode_convert,
        st.sampled_from([factory, world.venue, world.attacker, stage.address, ZERO_ADDRESS]),
        st.sampled_from([*fees, 2**24 + fees[0], 2**160 + fees[0], 0]),
        coin,
        coin,
        st.one_of(amounts, st.sampled_from((0, 2**127, 2**255, 2**256 - 1))),
        st.just(0),
        refills,
    )
    return st.one_of(ruled, ruled, free)


def skew_pools(world: World, amount: int) -> None:
    """Sell so much of the attacker's WETH into each of its pools with USDC."""
    stage = world.stage
    weth, usdc = stage.token("WETH"), stage.token("USDC")
    types = ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"]
    for pool in stage.net.uniswap.pools:
        if {pool.token0, pool.token1} == {weth, usdc}:
            values = [(weth, usdc, pool.fee, world.attacker, FAR, amount, 0, 0)]
            data = selector(INPUT) + encode(types, values)
            trade = Transaction(
                world.attacker, Address(stage.net.uniswap.router), data, gas=15_000_000
            )
            stage.net.chain.send_all([trade], True)


def _needed(coin: Address, groups: list[Group], funds: list[Fund]) -> bool:
    """Whether the batch would not even encode without listing a coin."""
    named: set[bytes] = {fund.token for fund in funds} | {fund.other for fund in funds}
    for group in groups:
        named |= {group.collateral, group.debt}
        for action in group.actions:
            match action:
                case Wrap(wrapped) | Unwrap(wrapped):
                    named.add(wrapped)
                case Redeem(vault, asset):
                    named |= {vault, asset}
                case Swap() | Call():
                    named |= {action.spend, action.receive}
    return coin in named


def _honest(world: World, action: st.SearchStrategy[Action]) -> st.SearchStrategy[Group]:
    """Draw groups on the real pool whose proceeds may go anywhere."""
    stage = world.stage

    sales = (
        stage.swap("WETH", "USDC"),
        stage.swap("WETH", "USDC", amount=share_of_gain(WAD * 97 // 100)),
    )

    def make(symbol: str, count: int, sale: Swap, extra: list[Action], minimum: int) -> Group:
        items = tuple(
            Item(Address(b), world.half[symbol], 0, minimum)
            for b in world.borrowers[symbol][:count]
        )
        first = (sale,) if symbol == "USDC" else ()
        return replace(
            stage.group([], debt=symbol, actions=(*first, *extra)),
            items=items,
            item_gas=500_000,
            group_gas=3_000_000,
        )

    return st.builds(
        make,
        st.sampled_from(["USDC", "USDC", "USDT"]),
        st.integers(1, 3),
        st.sampled_from(sales),
        st.one_of(st.just([]), st.lists(action, max_size=2)),
        st.sampled_from((0, -(2**94))),
    )


def _hostile(world: World, action: st.SearchStrategy[Action]) -> st.SearchStrategy[Group]:
    """Draw groups on the hostile pool, with any tokens but often its accomplice."""
    coin = st.one_of(st.just(world.token), st.sampled_from(world.coins))
    return st.builds(
        lambda collateral, debt, amount, actions: Group(
            pool=world.venue,
            collateral=collateral,
            debt=debt,
            items=(Item(world.attacker, amount, 0, -(2**94)),),
            actions=tuple(actions),
            item_gas=500_000,
            group_gas=2_500_000,
            debt_token=world.venue,
            check=Check.NONE,
        ),
        coin,
        coin,
        st.sampled_from(AMOUNTS),
        st.lists(action, max_size=3),
    )


def _called(
    world: World, calls: st.SearchStrategy[Call], action: st.SearchStrategy[Action]
) -> st.SearchStrategy[Group]:
    """Draw groups whose items are any allowed call, often of the accomplice."""
    coin = st.one_of(st.just(world.stage.token("WETH")), st.sampled_from(world.coins))
    told = st.builds(
        Call,
        st.just(world.venue),
        st.just(selector(EXCHANGE) + encode(["address", "address", "uint256"], [NATIVE] * 2 + [0])),
        st.just(NATIVE),
        st.just(NATIVE),
        patch_at=st.just(68),
    )

    def make(
        call: Call,
        coins: tuple[Address, Address, int],
        flags: tuple[bool, bool, bool, bool, bool],
        actions: list[Action],
    ) -> Group:
        collateral, debt, _ = coins
        opening, closing = call.data, b""
        if call.patch_at is not None:
            opening, closing = call.data[: call.patch_at], call.data[call.patch_at + 32 :]
        value, gainless, viewed, unbounded, together = flags
        if together:
            for_all = Template(
                selector(FOR_ALL),
                amount=False,
                gainless=gainless,
                unbounded=unbounded,
                together=True,
                view=OWED,
            )
            return group(world.venue, coins, for_all, actions)
        if call.target == world.venue and len(opening) == 68:
            paid = NATIVE if value else debt
            opening = selector(EXCHANGE) + bytes(12) + paid + bytes(12) + collateral
        template = Template(
            opening,
            closing=closing,
            borrower=False,
            amount=call.patch_at is not None,
            value=value,
            gainless=gainless,
            unbounded=unbounded,
            view=OWED if viewed else b"",
        )
        return group(call.target, coins, template, actions)

    def group(
        pool: Address,
        coins: tuple[Address, Address, int],
        template: Template,
        actions: list[Action],
    ) -> Group:
        collateral, debt, amount = coins
        # What is called for all says that one is owed, and nothing afterwards.
        item = Item(world.attacker, amount, int(template.together), -(2**94))
        return Group(
            pool=pool,
            collateral=collateral,
            debt=debt,
            items=(item,) * 2,
            actions=tuple(actions),
            item_gas=500_000,
            group_gas=2_500_000,
            debt_token=world.venue,
            check=Check.VIEW if template.view else Check.NONE,
            protocol=Protocol.CALL,
            template=template,
        )

    flag = st.booleans()
    usdt, weth = world.stage.token("USDT"), world.stage.token("WETH")
    affordable = st.tuples(
        coin, st.sampled_from([usdt, usdt, weth]), st.sampled_from((1, 10**6, BUDGET // 2 + 1))
    )
    return st.builds(
        make,
        st.one_of(told, calls),
        st.one_of(affordable, st.tuples(coin, coin, st.sampled_from(AMOUNTS))),
        st.tuples(flag, flag, flag, flag, flag),
        st.lists(action, max_size=2),
    )


def _fund(world: World) -> st.SearchStrategy[Fund]:
    stage = world.stage
    coin = st.sampled_from([stage.token("USDC"), stage.token("WETH"), stage.token("DAI")])
    pools = [
        pool
        for pool in stage.net.uniswap.pools
        if stage.token("WETH") in (pool.token0, pool.token1)
    ]
    amount = st.sampled_from((10**6, 10**9, 10**10))
    return st.one_of(
        st.builds(Fund, st.just(FundKind.INVENTORY), coin, amount),
        st.builds(
            Fund,
            st.just(FundKind.AAVE),
            coin,
            amount,
            st.sampled_from([Address(stage.market.pool), world.venue]),
        ),
        st.builds(Fund, st.just(FundKind.MORPHO), coin, amount, st.just(world.venue)),
        st.builds(
            lambda much, fee: Fund(
                FundKind.UNISWAP,
                stage.token("WETH"),
                much,
                Address(stage.net.uniswap.factory),
                stage.token("USDC"),
                fee,
            ),
            amount,
            st.sampled_from(sorted({pool.fee for pool in pools})),
        ),
    )


def _turned(fund: Fund) -> Fund:
    """Give the funds of one amount a turn of their token's own."""
    return replace(fund, apart=fund.amount == 10**9)


def _call(world: World, who: Address, amount: int) -> Callable[..., list[Call]]:
    """Return every allowed call with its recipient and amount of the attacker's choice."""

    def make(spend: Address, receive: Address, much: Any) -> list[Call]:
        stage = world.stage
        pool, router = Address(stage.market.pool), Address(stage.net.uniswap.router)
        asset = spend if spend != NATIVE else stage.token("WETH")
        shapes: list[tuple[bytes, str, list[str], list[Any], int]] = [
            (
                pool,
                SUPPLY,
                ["address", "uint256", "address", "uint16"],
                [asset, amount, who, 0],
                36,
            ),
            (
                pool,
                REPAY,
                ["address", "uint256", "uint256", "address"],
                [asset, amount, 2, who],
                36,
            ),
            (world.vault, DEPOSIT, ["uint256", "address"], [amount, who], 4),
            (world.vault, UNWRAP, ["uint256", "address"], [amount, who], 4),
            (
                world.vault,
                "redeem(uint256,address,address)",
                ["uint256", "address", "address"],
                [amount, who, stage.address],
                4,
            ),
            (
                world.venue,
                EXCHANGE,
                ["address", "address", "uint256"],
                [spend, receive, amount],
                68,
            ),
            (
                pool,
                "borrow(address,uint256,uint256,uint16,address)",
                ["address", "uint256", "uint256", "uint16", "address"],
                [asset, amount, 2, 0, stage.address],
                36,
            ),
            (asset, "approve(address,uint256)", ["address", "uint256"], [who, amount], 36),
            (asset, "transfer(address,uint256)", ["address", "uint256"], [who, amount], 36),
            (
                router,
                INPUT,
                ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"],
                [(asset, stage.token("USDC"), 500, who, FAR, amount, 0, 0)],
                164,
            ),
        ]
        return [
            Call(
                Address(target), selector(name) + encode(types, values), spend, receive, much, 0, at
            )
            for target, name, types, values, place in shapes
            for at in (None, place)
        ]

    return make


def _hook(world: World, batch: Batch, what: int, who: Address) -> tuple[bytes, bytes]:
    """Return what a hostile contract calls in the middle of a batch."""
    stage = world.stage
    us, usdc = stage.address, stage.token("USDC")
    payload = pack(batch)
    amount = batch.funds[0].amount if batch.funds else 10**9
    forged: list[tuple[bytes, str, list[str], list[Any]]] = [
        (
            us,
            "executeOperation",
            ["address", "uint256", "uint256", "address", "bytes"],
            [usdc, amount, 0, us, payload],
        ),
        (us, "onMorphoFlashLoan", ["uint256", "bytes"], [amount, payload]),
        (us, "uniswapV3FlashCallback", ["uint256", "uint256", "bytes"], [amount, amount, payload]),
        (us, "uniswapV3SwapCallback", ["int256", "int256", "bytes"], [amount, -1, b""]),
        (
            us,
            "receiveFlashLoan",
            ["address[]", "uint256[]", "uint256[]", "bytes"],
            [[usdc], [amount], [amount], payload],
        ),
        (us, "run", ["bytes"], [payload]),
        (us, "sweep", ["address"], [usdc]),
        (
            stage.market.pool,
            "flashLoanSimple",
            ["address", "address", "uint256", "bytes", "uint16"],
            [us, usdc, amount, payload, 0],
        ),
        (us, "run_group", ["bytes"], [payload]),
        (
            us,
            "convert",
            ["address", "uint256", "address", "address", "uint256", "uint256", "uint256"],
            [
                stage.net.uniswap.factory,
                stage.fee_of("WETH", "USDC"),
                *(stage.token("WETH"), usdc),
                *(WAD, 0, 0),
            ],
        ),
    ]
    target, name, types, values = forged[what]
    return target, selector(f"{name}({','.join(types)})") + encode(types, values)
