"""
Google Cloud Storage on a port: the emulator of the package `gcp-storage-emulator`, which forgets everything.

The emulator overwrites an object whatever the condition of the request; `ifGenerationMatch=0` (there must be none of
that name) is answered here as Google documents it, with 412.

    python tests/engines/gcs.py PORT BUCKET
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server

_upload = objects._multipart_upload


def _conditional_upload(request: Any, response: Any, storage: Any) -> Any:
    if request.query.get("ifGenerationMatch") == ["0"]:
        try:
            storage.get_file_obj(request.params["bucket_name"], request.data["meta"]["name"])
        except NotFound:
            return _upload(request, response, storage)
        response.status = HTTPStatus.PRECONDITION_FAILED
        return None
    return _upload(request, response, storage)


if __name__ == "__main__":
    objects._multipart_upload = _conditional_upload
    create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).run()
