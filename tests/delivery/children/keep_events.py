"""A receiver of CloudEvents batches: `keep_events.py PORT FILE`; each batch that it takes is a line of the file."""

import sys
from pathlib import Path

from aiohttp import web

with Path(sys.argv[2]).open("ab", buffering=0) as file:

    async def keep(request):
        """Write the batch down before saying that it is stored."""
        file.write(await request.read() + b"\n")
        return web.Response(status=204)

    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/", keep)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
