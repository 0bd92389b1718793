"""Interventions: taps that change what a network goes on with at a site, or add up what passes there."""
