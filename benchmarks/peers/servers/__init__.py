"""The same encoder on other servers, each in its own idiom. These files run in the peers' environments."""
