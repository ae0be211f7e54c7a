"""DGCNN's operations over the edges of a neighbour graph, without a tensor of all edges."""
