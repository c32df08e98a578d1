"""What a report says, computed from score matrices."""
