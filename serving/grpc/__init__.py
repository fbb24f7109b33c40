"""The gRPC server: services, handlers, and conversion between messages and arrays."""
