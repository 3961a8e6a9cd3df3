"""
The providers' own reports, fetched from their APIs.

Invariant: the network ends at a file. What an API says is written down page by page as it came, and the lines are read
from those files by the parsers of exports, so that a fetch and its repetition from the files agree in everything. A
fetch that fails leaves no file behind, and a key is in no file, message or log line.
"""

from livekit_costmeter.reporting.reconcile.api.fetching import Means, SavedReport, fetch, save_pages, without_folder
from livekit_costmeter.reporting.reconcile.api.progress import progress_on
from livekit_costmeter.reporting.reconcile.api.reports import ApiError
from livekit_costmeter.reporting.reconcile.api.retries import Patience
from livekit_costmeter.reporting.reconcile.api.settings import ApiSettings
from livekit_costmeter.reporting.reconcile.api.vendors import PROVIDERS

__all__ = [
    "PROVIDERS",
    "ApiError",
    "ApiSettings",
    "Means",
    "Patience",
    "SavedReport",
    "fetch",
    "progress_on",
    "save_pages",
    "without_folder",
]
