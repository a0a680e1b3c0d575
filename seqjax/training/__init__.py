"""What is learned and how: steps, optimisers, losses, evaluation."""
