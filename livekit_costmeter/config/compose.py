"""
The composition root: from a `Config` to a spool, a shipper, prices, and the meter of this process.

Invariant: the only module that knows every package. In the agent's process nothing is opened, loaded or started here;
what is handed on are callables that do it when they are first needed.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livekit_costmeter import __version__
from livekit_costmeter.config import Config, ConfigError, find, load
from livekit_costmeter.config.prices import build_patient_rate, build_rate, check_prices
from livekit_costmeter.config.schema import Settings
from livekit_costmeter.log import log

if TYPE_CHECKING:
    from livekit_costmeter.delivery import Pipeline, Shipper, Spool
    from livekit_costmeter.metering import CostMeter
    from livekit_costmeter.metering.estimates import Calibration

JOB_PROCESS = "job_proc"
"""The name that LiveKit gives its job processes; `parent_process()` is still None when they import the agent's file."""

_installing = threading.Lock()
_installed: list[tuple[tuple[str, str], CostMeter]] = []


def install(config: str | os.PathLike[str] | None = None) -> CostMeter:
    """Meter everything in this process from now on; call it once, at module level of the agent's file.

    A second call with the same configuration returns the same meter. In a LiveKit job a bad configuration is logged
    and facts are still spooled; anywhere else it is an error.

    Args:
        config: The YAML file; without it `$COSTMETER_CONFIG`, else `./costmeter.yaml`, else built-in settings.

    Raises:
        ConfigError: The file is wrong, or another configuration is installed already.
    """
    with _installing:
        settings = _load(config)
        if _installed:
            known, meter = _installed[0]
            if known != (settings.origin, settings.digest):
                raise ConfigError("another configuration is installed already in this process")
            return meter
        meter = _meter(settings)
        _installed.append(((settings.origin, settings.digest), meter))
        return meter


def in_job() -> bool:
    """Tell whether this is one of LiveKit's job processes."""
    return multiprocessing.current_process().name == JOB_PROCESS


def _load(config: str | os.PathLike[str] | None) -> Config:
    try:
        settings = load(config)
        if not in_job():
            check_sinks(settings)
            check_prices(settings)
    except ConfigError as error:
        if not in_job():
            raise
        log().error("bad configuration; usage is spooled and can be shipped once it is mended", error=str(error))
        return _without_file(config)
    return settings


def _without_file(config: str | os.PathLike[str] | None) -> Config:
    # Beside the file that is wrong, because there its shipper will look once it is mended.
    path = find(config)
    return Config(Settings(), path.parent if path else Path.cwd(), None, ())


def _meter(config: Config) -> CostMeter:
    from livekit_costmeter.metering import CostMeter, Privacy, register_plugin
    from livekit_costmeter.pricing.providers import identify

    secret = deployment_secret(config)
    meter = CostMeter(
        delivery=build_pipeline(config),
        identify=identify,
        keys=_key_ring(config, secret),
        rules=_context_rules(config),
        privacy=Privacy(config.settings.privacy.phone_numbers, secret=secret),
        rate=build_rate(config),
        telephony=_telephony(config),
        calibration=build_calibration(config),
    )
    if config.settings.taps == "listeners":
        meter.listen()
    else:
        meter.tap()
    register_plugin(__version__)
    return meter


def deployment_secret(config: Config) -> Callable[[], bytes]:
    """Return a getter of the secret behind fingerprints; it is read (or made) on first use."""
    from livekit_costmeter.metering.attribution import deployment_secret as read_secret

    return cache(lambda: read_secret(config.spool_directory))


def _key_ring(config: Config, secret: Callable[[], bytes]) -> Any:
    from livekit_costmeter.metering import KeyRing, KeyRule

    rules = [KeyRule(key.owner, key.fingerprint, key.env, key.provider, key.account) for key in config.settings.keys]
    return KeyRing(rules, secret=secret)


def _telephony(config: Config) -> list[Any]:
    from livekit_costmeter.metering import TelephonyRule

    return [TelephonyRule(**entry.model_dump()) for entry in config.settings.telephony]


def _context_rules(config: Config) -> Any:
    from livekit_costmeter.metering import ContextRules

    settings = config.settings
    return ContextRules(
        project=settings.project,
        account=settings.account,
        labels=settings.labels,
        account_path=settings.attribution.account,
        project_path=settings.attribution.project,
        label_paths=settings.attribution.labels,
    )


def build_calibration(config: Config) -> Calibration:
    """Return what is known of tokens per text, kept beside the spool; nothing is read yet."""
    from livekit_costmeter.metering.estimates import Calibration

    return Calibration(config.spool_directory / "calibration.json")


def build_spool(config: Config) -> Spool:
    """Return the spool that this process appends to; nothing is opened yet."""
    from livekit_costmeter.delivery import Spool
    from livekit_costmeter.metering.hooks.plugin import livekit_version

    header = {
        "config": config.digest,
        "project": config.settings.project,
        # Without a usable configuration the segment owes whatever its shipper is configured with.
        "sinks": [sink.name for sink in config.sinks] or None,
        "versions": {"livekit-costmeter": __version__, "livekit-agents": livekit_version()},
    }
    return Spool(config.spool_directory, header=header, max_bytes=config.settings.spool.max_bytes)


def build_pipeline(config: Config) -> Pipeline:
    """Return how this process delivers: a job only appends, anything else also ships."""
    from livekit_costmeter.delivery import Pipeline

    return Pipeline(build_spool(config), make_shipper=lambda: build_shipper(config), is_job=in_job())


def build_shipper(config: Config, progress: Any = None) -> Shipper:
    """Return a shipper of the configured spool into the configured sinks; `progress(shipped, pending)` is called."""
    from livekit_costmeter.delivery import Shipper

    return Shipper(
        config.spool_directory,
        rate=build_patient_rate(config),
        learn=build_calibration(config),
        sinks=build_sinks(config),
        fsync=config.settings.spool.fsync,
        max_bytes=config.settings.spool.max_bytes,
        progress=progress,
    )


def build_sinks(config: Config) -> dict[str, Any]:
    """Return the configured sinks by name, not yet opened.

    Raises:
        ConfigError: A type that nobody provides, or options that its class refuses.
    """
    from livekit_costmeter.delivery.sinks import UnknownSink, find_sink

    sinks: dict[str, Any] = {}
    for entry in config.sinks:
        at = ("sinks", entry.position)
        try:
            kind: Any = find_sink(entry.type)
        except UnknownSink as error:
            raise config.error((*at, "type"), str(error)) from None
        sinks[entry.name] = _sink(config, kind, entry.options, at)
    return sinks


def _sink(config: Config, kind: Any, options: Any, at: tuple[str | int, ...]) -> Any:
    from livekit_costmeter.config.passwords import Concealer, secrets_of
    from livekit_costmeter.delivery.sinks import SinkError
    from livekit_costmeter.delivery.sinks.discreet import DiscreetSink

    secrets = secrets_of(options, config.document.expanded_at(at) if config.document else ())
    if not secrets:
        return kind(_sink_options(config, kind, options, at))
    conceal = Concealer(secrets)
    try:
        accepted = _sink_options(config, kind, options, at)
        return DiscreetSink(lambda: kind(accepted), conceal)
    except ConfigError as error:
        message = conceal(str(error))
    except SinkError as error:
        message = str(config.error(at, str(error)))
    raise ConfigError(message)


def _sink_options(config: Config, kind: Any, options: Any, at: tuple[str | int, ...]) -> Any:
    if config.document is None:
        return kind.Options.model_validate(dict(options, path=str(config.directory / options["path"])))
    return config.document.validate(kind.Options, dict(options), at)


def check_sinks(config: Config) -> None:
    """Refuse sinks that do not exist or are set up wrongly; opens none."""
    if config.document is not None:
        build_sinks(config)
