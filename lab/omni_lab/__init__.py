"""A lab of network namespaces: nodes, traffic between them, and what the wire shows of it."""
