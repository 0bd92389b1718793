"""The common evaluation of a trained run, one part per file: it turns activations into metrics and arrays."""
