"""From somebody's Keras files to a bundle that the node loads; imported by nothing in the node."""
