"""The suite against several versions of LiveKit."""
