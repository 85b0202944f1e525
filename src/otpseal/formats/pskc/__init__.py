"""Factory tokens: Portable Symmetric Key Containers (RFC 6030), read and written."""
