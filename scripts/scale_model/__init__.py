"""What more workers bring, and what they cost: a simulation of those of one key, and arithmetic from there."""
