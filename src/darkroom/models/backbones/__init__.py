"""Networks of other libraries as backbones, one module a library; `models.factory` lists them."""
