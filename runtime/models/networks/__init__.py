"""Networks for small images, one file each: a module's factory takes channels, size, classes, width and gives an `nn.Module`."""
