"""The common evaluation of a trained run, one part a file: activations in, numbers and arrays out."""
