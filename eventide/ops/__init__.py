"""Pure functions on arrays: no nn.Module, no configuration."""
