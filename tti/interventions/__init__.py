"""Interventions: taps that change the activations at a site, or accumulate statistics of them."""
