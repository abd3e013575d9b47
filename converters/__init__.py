"""From somebody's trained networks to a bundle that the node loads; imported by nothing in the node."""
