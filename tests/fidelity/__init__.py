"""Fidelity: what the providers saw, what LiveKit reports, and what costmeter records, case by case."""
