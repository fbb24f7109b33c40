"""The gRPC server: services, interceptors, and conversion between messages and arrays."""
