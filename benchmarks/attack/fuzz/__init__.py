"""A fuzzer of all RPCs that knows the structure of their messages; run by `make fuzz`."""
