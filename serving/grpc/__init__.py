"""The transport: gRPC messages in, domain calls, gRPC messages out."""
