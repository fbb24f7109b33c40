"""The same encoder behind other servers, each in its own idiom. These files run in the peers' own environments."""
