"""The sandbox's AWS: moto behind a front that verifies signatures, tokens and trust policies."""
