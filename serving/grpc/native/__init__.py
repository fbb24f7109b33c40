"""The native front: receives bursts of calls by the package pygrpc-native, without the event loop."""
