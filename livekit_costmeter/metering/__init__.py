"""
What happens inside the agent's process: taps on LiveKit, readers, attribution, and the CostMeter.

Invariant: the only package of the product that imports livekit, and it knows neither prices nor sinks: what it needs
of them is handed in.
"""

from livekit_costmeter.metering.attribution import KeyRing, KeyRule, deployment_secret, fingerprint, mark_owner
from livekit_costmeter.metering.context import ContextRules
from livekit_costmeter.metering.hooks.plugin import register_plugin
from livekit_costmeter.metering.hooks.taps import Taps
from livekit_costmeter.metering.meter import CostMeter
from livekit_costmeter.metering.operations.legs import TelephonyRule
from livekit_costmeter.metering.privacy import Privacy

__all__ = [
    "ContextRules",
    "CostMeter",
    "KeyRing",
    "KeyRule",
    "Privacy",
    "Taps",
    "TelephonyRule",
    "deployment_secret",
    "fingerprint",
    "mark_owner",
    "register_plugin",
]
