"""Methods that turn what the tiers know into draft trees; knows nothing of gRPC, Redis or tenants."""
