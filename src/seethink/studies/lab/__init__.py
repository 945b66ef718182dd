"""The paper's experiments as commands: small TOML files say what is trained, what is compared and what would count."""
