"""
From the options of `costmeter estimate` to its answer.

Invariant: one instant decides every price, plan and exchange rate of an answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import click
from pydantic_core import to_json

from livekit_costmeter.billing.estimates.estimator import Estimator
from livekit_costmeter.billing.estimates.ledger import LedgerReader, Recorded
from livekit_costmeter.billing.estimates.profiles import CALL_ID, call_records
from livekit_costmeter.billing.estimates.quotes import Ranking, rank
from livekit_costmeter.billing.estimates.schemes import Scheme, at_cost, by_account, by_plan
from livekit_costmeter.billing.statements import Statement, statement
from livekit_costmeter.cli.estimate.answer import Answer
from livekit_costmeter.cli.estimate.request import parse
from livekit_costmeter.cli.options import find_ledger
from livekit_costmeter.config import Config, ConfigError
from livekit_costmeter.config.plans import build_billing, exchange_rates, read_plan
from livekit_costmeter.config.prices import build_book
from livekit_costmeter.pricing import rate
from livekit_costmeter.records import Charge, usage_fields
from livekit_costmeter.reporting import select

_CALLS_PER_MONTH = 1000
_MONTH = timedelta(days=30)
_DAY = timedelta(days=1)


class Asking:
    """One estimate.

    Args:
        config: Where prices, plans and the ledger come from.
        options: Of the command, by parameter name.
        now: The instant of the prices, unless the options say another.

    Raises:
        ConfigError: A plan or a rate card cannot be used.
        UsageError: The options contradict each other.
    """

    def __init__(self, config: Config, options: Mapping[str, Any], now: datetime | None = None) -> None:
        self._config = config
        self._options = options
        self._at: datetime = options["at"] or now or datetime.now(UTC)
        self._budget: Decimal | None = options["max_per_minute"]
        self._schemes = self._read_schemes()
        self._request = parse(options, len(self._schemes))

    def record_lines(self) -> Iterator[str]:
        """Yield the usage records of the call as JSON lines.

        Raises:
            UsageError: Several models are compared, so that there are several such calls.
        """
        profile, choices = self._request.profile, self._request.choices
        if any(len(suppliers) > 1 for suppliers in choices.values()):
            raise click.UsageError("--show-records shows one combination; name each component once")
        if profile is not None:
            suppliers = [supplier for suppliers in choices.values() for supplier in suppliers]
            for record in call_records(profile, suppliers, self._at, self._options["account"]):
                yield to_json(usage_fields(record)).decode()

    def answer(self) -> Answer:
        """Rate the calls and compare the combinations.

        Raises:
            ConfigError: The ledger is not there, or has no such call.
        """
        described = self._request.profile is not None
        book = build_book(self._config)
        estimator = Estimator(partial(rate, book=book), self._schemes, self._request.choices, keep_charges=described)
        recorded = None if described else self._learn(estimator)
        ranking = rank(estimator.quotes(recorded.seconds if recorded else self._describe(estimator)), self._budget)
        return Answer(
            at=self._at,
            ranking=ranking,
            profile=self._request.profile,
            recorded=recorded,
            calls_per_month=self._options["calls_per_month"] or _calls_per_month(recorded, self._options),
            max_per_minute=self._budget,
            statements=_statements(ranking) if described else {},
        )

    def _read_schemes(self) -> list[Scheme]:
        named: Sequence[str] = self._options["plans"]
        priority: bool = self._options["priority"]
        if named:
            exchange = exchange_rates(self._config)
            return [by_plan(read_plan(name, exchange), self._at, priority=priority) for name in named]
        billing = build_billing(self._config)
        account: str | None = self._options["account"]
        if billing is not None and self._options["like_ledger"] and account is None:
            return [by_account(billing, self._at, priority=priority)]
        plan, by_default = (None, False) if billing is None else billing.terms_of(account)
        if plan is None and priority:
            raise click.UsageError("--priority needs a plan: --plan, or a billing section in the configuration")
        return [at_cost() if plan is None else by_plan(plan, self._at, priority=priority or by_default)]

    def _describe(self, estimator: Estimator) -> Decimal:
        profile = self._request.profile
        assert profile is not None
        for suppliers in self._request.choices.values():
            for choice, supplier in enumerate(suppliers):
                for record in call_records(profile, [supplier], self._at, self._options["account"]):
                    estimator.add(CALL_ID, record, choice)
        return profile.seconds

    def _learn(self, estimator: Estimator) -> Recorded:
        reader = LedgerReader(
            estimator, self._at, self._request.choices, self._request.owners, self._options["number_type"]
        )
        with _progress():
            recorded = reader.read(self._charges())
        if not recorded.calls:
            raise ConfigError(f"no call to learn from in the ledger{_picked(self._options)}")
        components = {usage[0] for usage in recorded.quantities}
        for component in self._request.choices:
            if component not in components:
                raise ConfigError(f"the calls of the ledger have no work of the component {component} to replace")
        return recorded

    def _charges(self) -> Iterable[Charge]:
        ledger = find_ledger(self._options["config_path"], self._options["sink_name"])
        if ledger.absence:
            raise ConfigError(ledger.absence)
        names = {name: [self._options[name]] for name in ("agent", "account") if self._options[name] is not None}
        return select(ledger.read(self._options["since"], self._options["until"]), names)


def _statements(ranking: Ranking) -> dict[int, Statement]:
    return {
        position: statement(quote.charges, quote.scheme.plan)
        for position, quote in enumerate(ranking.quotes)
        if quote.scheme.plan is not None
    }


def _calls_per_month(recorded: Recorded | None, options: Mapping[str, Any]) -> int:
    """Return how many calls a month of 30 days has, if all of it is like the period that was read."""
    if recorded is None or recorded.first is None or recorded.last is None:
        return _CALLS_PER_MONTH
    period = (options["until"] or recorded.last) - (options["since"] or recorded.first)
    return max(round(recorded.calls * (_MONTH / max(period, _DAY))), 1)


def _picked(options: Mapping[str, Any]) -> str:
    given = [f"--{name}" for name in ("since", "until", "agent", "account") if options[name] is not None]
    return f" ({', '.join(given)})" if given else ""


def _progress() -> AbstractContextManager[Any]:
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("reading the ledger")
