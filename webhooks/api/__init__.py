"""`/api/v1`: what programs may ask and say, described by an OpenAPI document made from the same code."""
