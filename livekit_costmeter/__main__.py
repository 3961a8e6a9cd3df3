"""`python -m livekit_costmeter` is `costmeter`."""

from livekit_costmeter.cli import main

main()
