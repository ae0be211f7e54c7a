"""What DGCNN computes over the edges of a neighbour graph, without a tensor of them."""
