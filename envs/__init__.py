"""One Gymnasium environment over two systems: the live runtime and its calibrated simulator."""
